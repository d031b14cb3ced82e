//! One that sends every message with the same client id over two sockets at once, to two nodes.
//!
//! Owns: sending until both sockets have an answer, and using an id again for something else. Refuses to know: whether the answers are
//! right: the checker compares them, with each other and with the database.

use super::Servers;
use super::ear::{Ear, send};
use crate::cast::{Place, Player};
use crate::checker::deed::Deed;
use crate::checker::history::{Listening, Record, Saying};
use crate::diary::{Clock, Diary};
use crate::participant::Act;
use crate::wire::Wire;
use homeroom_client::{Draft, Language};
use homeroom_protocol::{ClientFrame, ClientId, ErrorCode, EventId, Fault, Ref, ServerFrame, codec};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long an answer may take before the connection counts as broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Acked(EventId, u64),
    Refused(Fault),
}

/// One of the two sockets.
struct Side {
    server: SocketAddr,
    wire: Option<Wire>,
    next_ref: u32,
}

/// A client in two places at once.
pub struct Twin {
    player: Player,
    place: Place,
    servers: Servers,
    random: fastrand::Rng,
    diary: Diary,
    said: u64,
}

impl Twin {
    /// Writes to one place.
    pub fn new(player: Player, place: Place, servers: Servers, random: fastrand::Rng, clock: Clock) -> Self {
        let diary = Diary::new(format!("{} (twins)", player.name), player.person, Listening::NotAtAll, clock);
        Self { player, place, servers, random, diary, said: 0 }
    }

    /// For whoever waits for it.
    pub fn diary(&self) -> Diary {
        self.diary.clone()
    }

    /// Says everything twice while everybody speaks.
    pub async fn play(mut self, mut act: watch::Receiver<Act>) {
        let mut nodes = self.servers.nodes.clone();
        self.random.shuffle(&mut nodes);
        let side = |at: usize| Side { server: nodes[at % nodes.len()], wire: None, next_ref: 0 };
        let (mut one, mut other) = (side(0), side(1));
        loop {
            let now = *act.borrow_and_update();
            self.diary.standing().quiet = now != Act::Speak;
            match now {
                Act::Leave => return,
                Act::Listen => {
                    if act.changed().await.is_err() {
                        return;
                    }
                }
                Act::Speak => {
                    self.say(&mut one, &mut other).await;
                    sleep(Duration::from_millis(self.random.u64(50..400))).await;
                }
            }
        }
    }

    async fn say(&mut self, one: &mut Side, other: &mut Side) {
        self.said += 1;
        let client_id = ClientId::new();
        let text = format!("{} says {} twice", self.player.name, self.said);
        let (room, conversation) = (self.place.room, self.place.conversation());
        self.diary.note(Record::Said { client_id, room, conversation, saying: Saying::Post { text: text.clone() } });
        self.diary.standing().open = 1;
        let token = self.player.token.as_str();
        // Each is written down when it comes: the other one may come out of another log.
        let note = async |side: &mut Side| match side.ask(token, self.place, client_id, &text).await {
            Answer::Acked(id, n) => {
                self.diary.note(Record::Acked { client_id, id, n });
                self.diary.acked((room, conversation), id, n);
            }
            Answer::Refused(fault) => {
                self.diary.note(Record::Refused { client_id, why: format!("{:?}: {fault}", fault.code) });
            }
        };
        tokio::join!(note(one), note(other));
        self.diary.did(Deed::SentTwice);
        if self.random.u32(0..3) == 0 {
            self.diary.did(Deed::Contradicted);
            let text = "something else".to_owned();
            let answer = one.ask(token, self.place, client_id, &text).await;
            let is_conflict = matches!(&answer, Answer::Refused(fault) if fault.code == ErrorCode::Conflict);
            let wrong = (!is_conflict).then(|| format!("{answer:?}"));
            // Where the first content is gone with a log that is gone, the checker takes this one for it.
            if let Answer::Acked(id, n) = answer {
                self.diary.note(Record::Acked { client_id, id, n });
                self.diary.acked((room, conversation), id, n);
            }
            self.diary.note(Record::Reused { client_id, text, wrong });
        }
        self.diary.standing().open = 0;
    }
}

impl Side {
    /// Sends it until there is an answer that counts.
    async fn ask(&mut self, token: &str, place: Place, client_id: ClientId, text: &str) -> Answer {
        loop {
            match timeout(ANSWER_WITHIN, self.try_once(token, place, client_id, text)).await {
                Ok(Ok(Answer::Refused(fault))) if fault.retryable => {
                    sleep(Duration::from_millis(fault.retry_after_ms.unwrap_or(200).into())).await;
                }
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) | Err(_) => {
                    self.wire = None;
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn try_once(&mut self, token: &str, place: Place, client_id: ClientId, text: &str) -> io::Result<Answer> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Ear::hello(self.server, token).await?,
        };
        self.next_ref += 1;
        let reference = Ref(self.next_ref);
        let draft = Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() };
        let post = ClientFrame::Post { reference, room: place.room, client_id, to: place.to, draft, urgent: false };
        send(&mut wire, &post).await?;
        loop {
            let text = std::str::from_utf8(wire.next().await?).map_err(io::Error::other)?;
            let answer = match codec::decode_server(text).map_err(io::Error::other)? {
                ServerFrame::Ack { reference: of, id: Some(id), n: Some(n) } if of == reference => Answer::Acked(id, n),
                ServerFrame::Error { reference: Some(of), fault } if of == reference => Answer::Refused(fault),
                _ => continue,
            };
            // Kept only when all went well.
            self.wire = Some(wire);
            return Ok(answer);
        }
    }
}
