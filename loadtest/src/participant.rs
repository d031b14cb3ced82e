//! One simulated person at their client.
//!
//! Owns: saying things, hearing things, saying how far they have come, and writing all of it into a diary. Refuses to know: what
//! happens to the server meanwhile.

use crate::Failure;
use crate::cast::{Place, Player};
use crate::checker::Invariant;
use crate::checker::history::{Anew, Listening, Page, Record, Saying};
use crate::diary::{Clock, Diary, shown};
use homeroom_client::{
    Address, Backoff, Client, Draft, Edit, Event, Http, HttpError, Language, Message, Options, Post, Receipt, Retract,
    SendError, ServerAddress, Update, Updates,
};
use homeroom_protocol::{ClientId, EventId, RoomId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Things said and not yet answered; beyond it the person waits.
const MOST_OPEN: usize = 30;
/// Snapshots under way; more resets are gone on from without one.
const MOST_SNAPSHOTS: usize = 4;
/// How often a snapshot is asked for before the person gives up.
const SNAPSHOT_TRIES: u32 = 20;
/// Messages on a page of history.
const PAGE: u32 = 50;

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

/// A message of one's own that can be changed.
#[derive(Clone, Copy)]
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
    http: Http,
    snapshots: JoinSet<()>,
    diary: Diary,
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
        clock: Clock,
    ) -> Result<Self, Failure> {
        let http = Http::new(server.clone())?.with_token(player.token.clone());
        let mut options = Options::new(server, player.token.clone());
        options.progress.rooms = player.rooms.iter().map(|room| (*room, Default::default())).collect();
        // Quick to come back, so that many kills fit into a minute.
        options.backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(400) };
        options.answer_within = Duration::from_secs(15);
        let (client, updates) = Client::start(options)?;
        let diary = Diary::new(player.name.clone(), player.person, Listening::AtOnce, clock);
        player.rooms.iter().for_each(|room| diary.begin(*room, None));
        let (open, mine, snapshots) = (HashMap::new(), Vec::new(), JoinSet::new());
        Ok(Self { player, client, updates, random, pause, said: 0, open, mine, http, snapshots, diary })
    }

    /// For whoever waits for them, and for the checker.
    #[must_use]
    pub fn diary(&self) -> Diary {
        self.diary.clone()
    }

    /// Speaks and listens until it is time to leave.
    pub async fn play(mut self, mut act: watch::Receiver<Act>) {
        let mut speak_at = Instant::now();
        loop {
            let now = *act.borrow_and_update();
            if now == Act::Leave {
                self.client.close().await;
            }
            self.diary.standing().quiet = now != Act::Speak;
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
    }

    async fn say(&mut self) {
        let choice = self.random.u32(0..10);
        if choice < 3 && !self.mine.is_empty() {
            let at = self.random.usize(..self.mine.len());
            if choice == 0 {
                // What was taken back can't be changed any more.
                let Mine { place, id } = self.mine.swap_remove(at);
                self.retract(place, id).await;
            } else {
                self.edit(at).await;
            }
        } else if let Some(place) = self.choose_place() {
            let text = self.text();
            let post = Post { room: place.room, to: place.to, draft: draft(&text), urgent: false };
            let said = self.client.post(post).await.map(|sending| sending.client_id());
            self.said(place, Saying::Post { text }, said);
        }
    }

    async fn edit(&mut self, at: usize) {
        let Mine { place, id: message } = self.mine[at];
        let text = self.text();
        let (room, conversation) = (place.room, place.conversation());
        let edit = Edit { room, conversation, message, draft: draft(&text) };
        let said = self.client.edit(edit).await.map(|sending| sending.client_id());
        self.said(place, Saying::Edit { message, text }, said);
    }

    async fn retract(&mut self, place: Place, message: EventId) {
        let (room, conversation) = (place.room, place.conversation());
        let said = self.client.retract(Retract { room, conversation, message }).await;
        self.said(place, Saying::Retract { message }, said.map(|sending| sending.client_id()));
    }

    fn text(&mut self) -> String {
        self.said += 1;
        format!("{} says {}", self.player.name, self.said)
    }

    /// Somewhere where they may write, as far as they know.
    fn choose_place(&mut self) -> Option<Place> {
        let places: Vec<Place> = {
            let standing = self.diary.standing();
            self.player.places.iter().filter(|place| standing.rooms.contains_key(&place.room)).copied().collect()
        };
        places.get(self.random.usize(..places.len().max(1))).copied()
    }

    fn said(&mut self, place: Place, saying: Saying, said: Result<ClientId, SendError>) {
        match said {
            Ok(client_id) => {
                let (room, conversation) = (place.room, place.conversation());
                self.open.insert(client_id, (place, matches!(saying, Saying::Post { .. })));
                self.diary.note(Record::Said { client_id, room, conversation, saying });
                self.tell_open();
            }
            // Nothing was said then, so there is nothing to write down.
            Err(SendError::OutboxFull | SendError::Stopped) => {}
            Err(error) => self.diary.note(Record::Anomaly(Invariant::OneAnswer, error.to_string())),
        }
    }

    async fn hear(&mut self, update: Update) {
        self.diary.hear(&update);
        match update {
            Update::Acked(receipt) => self.acked(receipt).await,
            Update::Refused { client_id, fault } => {
                self.open.remove(&client_id);
                self.tell_open();
                self.diary.note(Record::Refused { client_id, why: format!("{:?}: {fault}", fault.code) });
            }
            Update::Event(event) => self.mark(&event).await,
            Update::Reset { room, position, .. } => {
                // Their own messages may not be there any more.
                self.mine.retain(|mine| mine.place.room != room);
                self.look_anew(room, position);
            }
            _ => {}
        }
    }

    async fn acked(&mut self, receipt: Receipt) {
        let Receipt { client_id, id, n } = receipt;
        self.diary.note(Record::Acked { client_id, id, n });
        let Some((place, is_post)) = self.open.remove(&client_id) else { return };
        self.diary.acked((place.room, place.conversation()), id, n);
        if is_post && self.is_seldom_used(place) && self.random.bool() {
            // In a room where little is said, so that the message is still among its newest when it is taken back.
            self.retract(place, id).await;
        } else if is_post {
            self.mine.push(Mine { place, id });
        }
        self.tell_open();
    }

    /// A school's room: its staff have one place there among the many of their class.
    fn is_seldom_used(&self, place: Place) -> bool {
        place.to == Address::Announcements
            && self.player.places.iter().filter(|other| other.room == place.room).count() == 1
    }

    /// Says how far they have come, mostly.
    async fn mark(&mut self, event: &Event) {
        let (Some(conversation), Some(n)) = (event.conversation, event.n) else { return };
        let choice = self.random.u32(0..4);
        if !self.player.marks || choice == 0 {
            return;
        }
        let read = if choice == 1 { n } else { 0 };
        self.diary.note(Record::Marked { conversation, delivered: n, read });
        let marked = if choice == 1 {
            self.client.read(event.room, conversation, n).await
        } else {
            self.client.delivered(event.room, conversation, n).await
        };
        // A client that has stopped has said so in an update already.
        if marked.is_err() {
            self.diary.note(Record::Anomaly(Invariant::Complete, "the client stopped by itself".to_owned()));
        }
    }

    /// What an app does when it is told to start a room anew: it shows what there is.
    fn look_anew(&mut self, room: RoomId, position: Option<EventId>) {
        while self.snapshots.try_join_next().is_some() {}
        if self.snapshots.len() == MOST_SNAPSHOTS {
            return;
        }
        let (http, diary, which) = (self.http.clone(), self.diary.clone(), self.random.usize(..));
        self.snapshots.spawn(async move {
            for _ in 0..SNAPSHOT_TRIES {
                match snapshot(&http, room, position, which).await {
                    Ok(Some(anew)) => return diary.note(Record::Anew(anew)),
                    // They are out of the room again.
                    Ok(None) => return,
                    Err(_) => sleep(Duration::from_millis(200)).await,
                }
            }
        });
    }

    fn tell_open(&self) {
        self.diary.standing().open = self.open.len();
    }
}

/// A room as the server shows it now, with a page of one of its conversations; nothing when the person is not in it.
async fn snapshot(
    http: &Http,
    room: RoomId,
    position: Option<EventId>,
    which: usize,
) -> Result<Option<Anew>, HttpError> {
    let Some(summary) = http.home().await?.rooms.into_iter().find(|summary| summary.room == room) else {
        return Ok(None);
    };
    let conversations: Vec<_> = summary.conversations;
    let paged = conversations.get(which % conversations.len().max(1)).map(|summary| summary.conversation);
    let page = match paged {
        Some(conversation) => {
            let page = http.history(room, conversation, None, Some(PAGE)).await?;
            let messages = page.messages.iter().map(|message| (message.n, shown(message))).collect();
            Some(Page { conversation, messages, more: page.more })
        }
        None => None,
    };
    let newest = |message: &Option<Message>| message.as_ref().map(shown);
    let conversations =
        conversations.iter().map(|summary| (summary.conversation, (summary.n, newest(&summary.last)))).collect();
    Ok(Some(Anew { room, position, conversations, page }))
}

fn draft(text: &str) -> Draft {
    Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() }
}
