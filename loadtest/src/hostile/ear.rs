//! What a thin connection hears, as the real client would take it in.
//!
//! Owns: positions, and turning frames into a diary's entries. Refuses to know: when it is read.

use crate::diary::Diary;
use crate::wire::Wire;
use homeroom_client::Update;
use homeroom_protocol::{ClientFrame, EventId, RoomId, ServerFrame, codec};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;

/// How far it has come.
#[derive(Debug)]
pub struct Ear {
    diary: Diary,
    token: String,
    positions: BTreeMap<RoomId, Option<EventId>>,
}

impl Ear {
    /// Has heard nothing yet of these rooms.
    pub fn new(diary: Diary, token: String, rooms: &[RoomId]) -> Self {
        rooms.iter().for_each(|room| diary.begin(*room, None));
        Self { diary, token, positions: rooms.iter().map(|room| (*room, None)).collect() }
    }

    /// Connects and says hello. `narrow`: with hardly any room for what comes.
    pub async fn connect(&self, server: SocketAddr, narrow: bool) -> io::Result<Wire> {
        let mut wire = if narrow { Wire::open_narrow(server).await? } else { Wire::open(server).await? };
        let hello = ClientFrame::Hello { token: Some(self.token.clone()), positions: self.positions.clone() };
        send(&mut wire, &hello).await?;
        Ok(wire)
    }

    /// A connection that listens to nothing: it knows no rooms.
    pub async fn hello(server: SocketAddr, token: &str) -> io::Result<Wire> {
        let mut wire = Wire::open(server).await?;
        let hello = ClientFrame::Hello { token: Some(token.to_owned()), positions: BTreeMap::new() };
        send(&mut wire, &hello).await?;
        Ok(wire)
    }

    /// The next frame, written down. Dropping the future loses nothing.
    pub async fn next(&mut self, wire: &mut Wire) -> io::Result<()> {
        let text = wire.next().await?;
        let frame =
            codec::decode_server(std::str::from_utf8(text).map_err(io::Error::other)?).map_err(io::Error::other)?;
        self.hear(frame);
        Ok(())
    }

    fn hear(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Welcome { rooms, .. } => {
                let gone: Vec<RoomId> = self
                    .positions
                    .keys()
                    .filter(|held| rooms.iter().all(|room| room.room != **held))
                    .copied()
                    .collect();
                for room in &rooms {
                    self.start(room.room, room.position);
                }
                gone.into_iter().for_each(|room| self.leave(room));
            }
            ServerFrame::Joined { room } => self.start(room.room, room.position),
            ServerFrame::Left { room } => self.leave(room),
            ServerFrame::Reset { room, position, reason } => {
                self.positions.insert(room, position);
                self.diary.hear(&Update::Reset { room, position, reason });
            }
            ServerFrame::Event(event) => {
                self.positions.insert(event.room, Some(event.id));
                self.diary.event(&event);
            }
            ServerFrame::Mark { room, conversation, mark } => {
                self.diary.hear(&Update::Mark { room, conversation, mark });
            }
            // It asks for more than is right, so refusals are no surprise.
            _ => {}
        }
    }

    fn start(&mut self, room: RoomId, position: Option<EventId>) {
        if let Entry::Vacant(place) = self.positions.entry(room) {
            place.insert(position);
            self.diary.begin(room, position);
        }
    }

    fn leave(&mut self, room: RoomId) {
        if self.positions.remove(&room).is_some() {
            self.diary.leave(room);
        }
    }
}

/// Sends a frame.
pub async fn send(wire: &mut Wire, frame: &ClientFrame) -> io::Result<()> {
    wire.send(&codec::encode_client(frame).map_err(io::Error::other)?).await
}
