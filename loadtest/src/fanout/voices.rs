//! The people of a crowd: families who listen, and those who say something.
//!
//! Owns: how they connect, and what each of them does from then on. Refuses to know: what is counted (`field`).

use super::field::{Field, Kind};
use crate::cast::Place;
use crate::wire::{Door, Wire};
use homeroom_protocol::{Address, ClientFrame, ClientId, Draft, Language, Ref, RoomId, ServerFrame, codec};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Commands a second that one teacher may send, below the server's limit of 20.
pub const TEACHER_RATE: f64 = 16.0;

/// What somebody says again and again.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// Messages.
    Post(Place),
    /// How far they have come in a room's announcements: by turns that one more was delivered, and that it was read.
    Marks(RoomId),
}

impl Says {
    /// Announcements; at the bare server it does not matter where.
    #[must_use]
    pub fn announcements(room: RoomId) -> Self {
        Self::Post(Place { room, to: Address::Announcements })
    }

    fn frame(self, reference: u32, text: String) -> String {
        match self {
            Self::Post(place) => post(place, reference, text),
            Self::Marks(room) => mark(room, reference),
        }
    }
}

/// How teachers announce.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many there are.
    pub teachers: usize,
    /// How often all of them together, a second.
    pub rate: f64,
    /// How long a text is.
    pub text: usize,
}

/// Connects to Homeroom, says hello, and waits until all rooms are caught up.
pub async fn connect(server: impl Into<Door>, token: &str) -> io::Result<Wire> {
    let up = async {
        let mut wire = Wire::open(server).await?;
        let hello = ClientFrame::Hello { token: Some(token.to_owned()), positions: BTreeMap::new() };
        wire.send(&codec::encode_client(&hello).map_err(io::Error::other)?).await?;
        let mut rooms = None;
        let mut caught_up = 0;
        while rooms != Some(caught_up) {
            match codec::decode_server(&String::from_utf8_lossy(wire.next().await?)).map_err(io::Error::other)? {
                ServerFrame::Welcome { rooms: theirs, .. } => rooms = Some(theirs.len()),
                ServerFrame::CaughtUp { .. } => caught_up += 1,
                _ => {}
            }
        }
        Ok(wire)
    };
    timeout(Duration::from_secs(30), Box::pin(up)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Connects to the bare server and joins a room.
pub async fn join(server: SocketAddr, room: u32) -> io::Result<Wire> {
    let mut wire = Wire::open(server).await?;
    wire.send(&format!("join {room}")).await?;
    wire.next().await?;
    Ok(wire)
}

/// A family: hears, and counts.
pub async fn listen(mut wire: Wire, field: Rc<Field>) {
    loop {
        match wire.next().await {
            Ok(frame) => drop(field.hear(frame)),
            Err(error) => return field.error(format!("a family's connection: {error}")),
        }
    }
}

/// A teacher, mostly: says it at their share of the rate, or as soon as there is a place under way.
pub async fn teach(mut wire: Wire, says: Says, place: usize, pace: Pace, field: Rc<Field>) {
    let every = match field.under_way {
        Some(_) => Duration::from_secs_f64(1.0 / TEACHER_RATE),
        None => Duration::from_secs_f64(pace.teachers as f64 / pace.rate),
    };
    // Teachers begin one after the other, so that the messages of all are evenly spaced.
    let first = |now: Instant| now + every.mul_f64(place as f64 / pace.teachers as f64);
    let mut due = first(Instant::now());
    let mut reference = 0;
    // Answers come in the order of the commands.
    let mut unanswered = VecDeque::new();
    let mut waiting = false;
    let mut paused = true;
    loop {
        if !field.active.get() {
            paused = true;
        }
        // Every arm's future loses nothing when it is dropped: `Wire::next` keeps what it has read.
        let took_place = tokio::select! {
            frame = wire.next() => {
                match frame {
                    Ok(frame) if frame.starts_with(br#"{"type":"ack""#) => {
                        field.acks.set(field.acks.get() + 1);
                        field.answered(&mut waiting);
                        if let Some(moment) = unanswered.pop_front() {
                            field.followed(moment, place, |followed, now| followed.acknowledged = Some(now));
                        }
                    }
                    Ok(frame) if frame.starts_with(br#"{"type":"error""#) => {
                        unanswered.pop_front();
                        field.error(String::from_utf8_lossy(frame).chars().take(120).collect::<String>());
                        field.answered(&mut waiting);
                    }
                    Ok(frame) => {
                        if field.hear(frame) == Some(place) && field.kind == Kind::Bare {
                            field.acks.set(field.acks.get() + 1);
                            field.answered(&mut waiting);
                        }
                    }
                    Err(error) => return field.error(format!("a teacher's connection: {error}")),
                }
                continue;
            }
            () = field.active(), if paused => {
                paused = false;
                due = first(Instant::now());
                continue;
            }
            took_place = field.turn(due), if !waiting && !paused => took_place,
        };
        let now = Instant::now();
        let should = if took_place { now } else { due };
        waiting = took_place;
        due = if took_place { now + every } else { due + every };
        if !field.active.get() {
            field.answered(&mut waiting);
            continue;
        }
        reference += 1;
        let text = text(field.since_origin(should), place, pace.text);
        let moment = field.since_origin(should).as_micros() as u64;
        field.followed(moment, place, |followed, now| followed.sent = now);
        if field.kind == Kind::Homeroom {
            unanswered.push_back(moment);
        }
        let frame = match field.kind {
            Kind::Homeroom => says.frame(reference, text),
            Kind::Bare => format!("{text:.<width$}", width = field.frame_bytes.get()),
        };
        if let Err(error) = wire.send(&frame).await {
            return field.error(format!("a teacher's connection: {error}"));
        }
    }
}

/// A text that says when it should have been sent, and by whom.
pub fn text(should: Duration, teacher: usize, length: usize) -> String {
    let text = format!("~{}~{teacher}~", should.as_micros());
    let text = format!("{text}{}", "The trip to the museum is on Friday. ".repeat(length / 37 + 1));
    text.chars().take(length).collect()
}

/// A post as a frame.
pub fn post(Place { room, to }: Place, reference: u32, text: String) -> String {
    let draft = Draft { language: Language::english(), text, protected: Vec::new() };
    let frame =
        ClientFrame::Post { reference: Ref(reference), room, client_id: ClientId::new(), to, draft, urgent: false };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}

/// Each two marks are one message further: delivered, then read.
fn mark(room: RoomId, reference: u32) -> String {
    let (reference, n) = (Ref(reference), reference.div_ceil(2).into());
    let conversation = Address::Announcements.conversation(room);
    let frame = match reference.0.is_multiple_of(2) {
        false => ClientFrame::Delivered { reference, room, conversation, n },
        true => ClientFrame::Read { reference, room, conversation, n },
    };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}
