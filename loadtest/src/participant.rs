//! One simulated person at their client.
//!
//! Owns: saying things, hearing things, and writing both down for the checker. Refuses to know: what happens to the
//! server meanwhile.

use crate::cast::{Place, Player};
use crate::checker::history::{Heard, History, Record, Saying, Shown};
use homeroom_client::{
    Backoff, Client, Draft, Edit, Event, EventBody, Language, Loss, Message, Options, Post, Receipt, Retract,
    SendError, ServerAddress, Update, Updates,
};
use homeroom_protocol::{ClientId, CloseCode, ConversationId, EventId, RoomId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Things said and not yet answered; beyond it the person waits.
const MOST_OPEN: usize = 30;

/// What everybody is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Saying things.
    Speak,
    /// Waiting for answers and for what the others said.
    Listen,
    /// Going home.
    Leave,
}

/// How far somebody has come, for whoever waits for them.
#[derive(Debug, Default, Clone)]
pub struct Standing {
    /// Has heard that it is time to listen, and says nothing more.
    pub quiet: bool,
    /// Things said and not yet answered.
    pub open: usize,
    /// The last number heard, by conversation.
    pub heard: BTreeMap<ConversationId, u64>,
    /// The highest number acknowledged, by room and conversation.
    pub acked: BTreeMap<(RoomId, ConversationId), u64>,
    /// How often the connection was lost.
    pub lost: u64,
    /// How often it was lost, or could not be made, in another way than by the server's own good-bye.
    pub turned_away: u64,
    /// The longest time without one, until what was missed began to come.
    pub longest_gap: Duration,
}

/// A view of a [`Standing`] from outside.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<Mutex<Standing>>);

impl Watched {
    /// A copy of how it stands now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A message of one's own that can be changed.
struct Mine {
    place: Place,
    id: EventId,
}

/// A person at their client.
pub struct Participant {
    player: Player,
    client: Client,
    updates: Updates,
    random: fastrand::Rng,
    pause: Duration,
    said: u64,
    open: HashMap<ClientId, (Place, bool)>,
    mine: Vec<Mine>,
    records: Vec<Record>,
    watched: Watched,
    away_since: Option<Instant>,
}

impl Participant {
    /// Starts their client, which has seen nothing yet of any of its rooms.
    ///
    /// # Errors
    /// When the client can't be started.
    pub fn start(
        player: Player,
        server: ServerAddress,
        pause: Duration,
        random: fastrand::Rng,
    ) -> Result<Self, homeroom_client::StartError> {
        let mut options = Options::new(server, player.token.clone());
        options.progress.rooms = player.sight.keys().map(|room| (*room, Default::default())).collect();
        // Quick to come back, so that many kills fit into a minute.
        options.backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(400) };
        options.answer_within = Duration::from_secs(15);
        let (client, updates) = Client::start(options)?;
        Ok(Self {
            player,
            client,
            updates,
            random,
            pause,
            said: 0,
            open: HashMap::new(),
            mine: Vec::new(),
            records: Vec::new(),
            watched: Watched::default(),
            away_since: None,
        })
    }

    /// For whoever waits for them.
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Speaks and listens until it is time to leave; the history is what they did and heard.
    pub async fn play(mut self, mut act: watch::Receiver<Act>) -> History {
        let mut speak_at = Instant::now();
        loop {
            let now = *act.borrow_and_update();
            if now == Act::Leave {
                self.client.close().await;
            }
            self.watched.change(|standing| standing.quiet = now != Act::Speak);
            let speaks = now == Act::Speak && self.open.len() < MOST_OPEN && !self.player.places.is_empty();
            tokio::select! {
                update = self.updates.recv() => match update {
                    Some(update) => self.hear(update).await,
                    None => break,
                },
                () = sleep_until(speak_at), if speaks => {
                    // Now and then several at once, so that some are under way together.
                    for _ in 0..self.random.u32(1..=3) {
                        self.say().await;
                    }
                    speak_at = Instant::now() + self.pause.mul_f64(self.random.f64() * 2.0);
                }
                changed = act.changed() => if changed.is_err() {
                    break;
                },
            }
        }
        let Player { person, name, sight, .. } = self.player;
        History { person, name, sight, records: self.records }
    }

    async fn say(&mut self) {
        self.said += 1;
        let text = format!("{} says {}", self.player.name, self.said);
        let choice = self.random.u32(0..10);
        let (place, saying, said) = if choice < 3 && !self.mine.is_empty() {
            let at = self.random.usize(..self.mine.len());
            let (place, message) = (self.mine[at].place, self.mine[at].id);
            let (room, conversation) = (place.room, place.conversation());
            if choice == 0 {
                // What was taken back can't be changed any more.
                self.mine.swap_remove(at);
                let said = self.client.retract(Retract { room, conversation, message }).await;
                (place, Saying::Retract { message }, said)
            } else {
                let draft = draft(&text);
                let said = self.client.edit(Edit { room, conversation, message, draft }).await;
                (place, Saying::Edit { message, text }, said)
            }
        } else {
            let place = self.player.places[self.random.usize(..self.player.places.len())];
            let draft = draft(&text);
            let said = self.client.post(Post { room: place.room, to: place.to, draft, urgent: false }).await;
            (place, Saying::Post { text }, said)
        };
        match said {
            Ok(sending) => {
                let (client_id, conversation) = (sending.client_id(), place.conversation());
                self.open.insert(client_id, (place, matches!(saying, Saying::Post { .. })));
                self.records.push(Record::Said { client_id, conversation, saying });
                self.tell_open();
            }
            // Nothing was said then, so there is nothing to write down.
            Err(SendError::OutboxFull | SendError::Stopped) => {}
            Err(error) => self.records.push(Record::Anomaly(error.to_string())),
        }
    }

    async fn hear(&mut self, update: Update) {
        match update {
            Update::Acked(receipt) => self.acked(receipt),
            Update::Refused { client_id, fault } => {
                self.open.remove(&client_id);
                self.tell_open();
                self.records.push(Record::Refused { client_id, why: format!("{:?}: {fault}", fault.code) });
            }
            Update::Event(event) => self.event(*event).await,
            Update::Reset { room, .. } => self.records.push(Record::Reset { room }),
            Update::Anomaly(anomaly) => self.records.push(Record::Anomaly(anomaly.to_string())),
            Update::Left(room) => self.records.push(Record::Anomaly(format!("was put out of room {room}"))),
            Update::Disconnected { loss, .. } => self.disconnected(&loss),
            Update::Stopped(homeroom_client::Stop::Closed) => {}
            Update::Stopped(stop) => self.records.push(Record::Anomaly(format!("was turned away: {stop:?}"))),
            Update::Fault(fault) => self.records.push(Record::Anomaly(format!("{:?}: {fault}", fault.code))),
            Update::CaughtUp(_) => {
                if let Some(since) = self.away_since.take() {
                    self.watched.change(|standing| standing.longest_gap = standing.longest_gap.max(since.elapsed()));
                }
            }
            Update::Welcome(_)
            | Update::Joined(_)
            | Update::Mark { .. }
            | Update::Typing { .. }
            | Update::Bye { .. } => {}
        }
    }

    fn disconnected(&mut self, loss: &Loss) {
        let good_bye = matches!(loss, Loss::Closed { code, .. } if *code == CloseCode::Restart.number());
        self.away_since.get_or_insert_with(Instant::now);
        self.watched.change(|standing| {
            standing.lost += 1;
            standing.turned_away += u64::from(!good_bye);
        });
    }

    fn acked(&mut self, receipt: Receipt) {
        let Receipt { client_id, id, n } = receipt;
        self.records.push(Record::Acked { client_id, id, n });
        if let Some((place, is_post)) = self.open.remove(&client_id) {
            if is_post {
                self.mine.push(Mine { place, id });
            }
            let open = self.open.len();
            self.watched.change(|standing| {
                standing.open = open;
                let highest = standing.acked.entry((place.room, place.conversation())).or_default();
                *highest = n.max(*highest);
            });
        }
    }

    async fn event(&mut self, event: Event) {
        self.records.push(Record::Heard(heard(&event)));
        let (Some(conversation), Some(n)) = (event.conversation, event.n) else { return };
        self.watched.change(|standing| {
            standing.heard.insert(conversation, n);
        });
        // A client that has stopped has said so in an update already.
        let marked = if self.random.u32(0..3) == 0 {
            self.client.read(event.room, conversation, n).await
        } else {
            self.client.delivered(event.room, conversation, n).await
        };
        if marked.is_err() {
            self.records.push(Record::Anomaly("the client stopped by itself".to_owned()));
        }
    }

    fn tell_open(&self) {
        self.watched.change(|standing| standing.open = self.open.len());
    }
}

fn draft(text: &str) -> Draft {
    Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() }
}

/// An event as the checker compares it.
fn heard(event: &Event) -> Heard {
    let shown = |message: &Message| Shown {
        id: message.id,
        text: message.envelope.as_ref().map(|envelope| envelope.text.clone()),
    };
    let message = match &event.body {
        EventBody::Posted { message } | EventBody::Edited { message } | EventBody::Retracted { message } => {
            Some(shown(message))
        }
        EventBody::Withheld | EventBody::MemberJoined { .. } | EventBody::MemberLeft { .. } | EventBody::Unknown => {
            None
        }
    };
    Heard { room: event.room, id: event.id, conversation: event.conversation, n: event.n, message }
}
