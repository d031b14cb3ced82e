//! What is on the pages: rooms, conversations, messages, marks, and what is on its way.
//!
//! Owns: merging snapshots with live events by (conversation, n), unread counts, and what to do next as [`Effect`]s.
//! Refuses to know: keys, screens, sockets.

use crate::compose::{Compose, Entered};
use crate::place::{Conversation, Place, places};
use homeroom_client::{
    Address, ClientId, Command, ConversationId, Event, EventBody, EventId, Message, PersonId, RoomDetail, RoomId, Stop,
    Unsent, Update, You,
};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long somebody counts as writing after they last said so.
const WRITING_FOR: Duration = Duration::from_secs(5);

/// Something said and not yet back as an event.
#[derive(Debug)]
pub struct Pending {
    /// As the outbox knows it.
    pub client_id: ClientId,
    /// Where.
    pub conversation: ConversationId,
    /// The text of a new message; nothing for an edit or a retraction.
    pub text: Option<String>,
    /// Whether the server has it.
    pub acked: bool,
}

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Not yet.
    Connecting,
    /// Yes.
    Online,
    /// Lost; the next try is then.
    Offline(Instant),
    /// For good.
    SignedOut,
}

/// What has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// The list of places.
    List,
    /// The open conversation.
    Conversation,
}

/// What is to be done outside the model.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fetch all rooms anew.
    LoadRooms,
    /// Fetch a page of messages.
    LoadHistory { room: RoomId, conversation: ConversationId, before: Option<u64> },
    /// Fetch whom an announcement has reached.
    LoadReach { room: RoomId, message: EventId },
    /// Say something.
    Say(Box<Command>),
    /// It is on this screen.
    Delivered { room: RoomId, conversation: ConversationId, n: u64 },
    /// It was read.
    Read { room: RoomId, conversation: ConversationId, n: u64 },
    /// The person is writing.
    Typing { room: RoomId, to: Address },
    /// End.
    Quit,
}

/// All pages.
#[derive(Debug)]
pub struct Model {
    /// Who is signed in, once known.
    pub you: Option<You>,
    /// In the order of the list.
    pub conversations: Vec<Conversation>,
    /// Names of people.
    pub names: HashMap<PersonId, String>,
    /// Which line of the list is chosen.
    pub chosen: usize,
    /// Which conversation is open.
    pub open: Option<ConversationId>,
    /// What has the keys.
    pub focus: Focus,
    /// How many lines up from the end the open conversation is scrolled.
    pub scroll: usize,
    /// What is being written.
    pub compose: Compose,
    /// What is on its way.
    pub pending: Vec<Pending>,
    /// Whether there is a connection.
    pub line: Line,
    /// A word to the person.
    pub notice: Option<String>,
    writing: HashMap<ConversationId, (PersonId, Instant)>,
    said_writing: Option<Instant>,
}

impl Model {
    /// Empty pages, with what an earlier run left in the outbox.
    pub fn new(unsent: Vec<Unsent>) -> Self {
        let pending = unsent.into_iter().map(|unsent| pending(unsent.client_id, &unsent.command)).collect();
        Self {
            you: None,
            conversations: Vec::new(),
            names: HashMap::new(),
            chosen: 0,
            open: None,
            focus: Focus::List,
            scroll: 0,
            compose: Compose::default(),
            pending,
            line: Line::Connecting,
            notice: None,
            writing: HashMap::new(),
            said_writing: None,
        }
    }

    /// The open conversation.
    pub fn opened(&self) -> Option<&Conversation> {
        let open = self.open?;
        self.conversations.iter().find(|conversation| conversation.place.conversation() == open)
    }

    fn find(&mut self, id: ConversationId) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|conversation| conversation.place.conversation() == id)
    }

    /// Whether somebody was signed in as this person.
    pub fn is_me(&self, person: PersonId) -> bool {
        self.you.as_ref().is_some_and(|you| you.person == person)
    }

    /// Somebody's name.
    pub fn name(&self, person: PersonId) -> &str {
        if self.is_me(person) { "You" } else { self.names.get(&person).map_or("Somebody", String::as_str) }
    }

    /// Who is writing in the open conversation.
    pub fn writing(&self) -> Option<&str> {
        let (person, since) = self.writing.get(&self.open?)?;
        (since.elapsed() < WRITING_FOR).then(|| self.name(*person))
    }

    /// Takes a fresh snapshot of all rooms; what is held of messages stays where it is newer.
    pub fn load_rooms(&mut self, you: You, details: &[RoomDetail]) -> Vec<Effect> {
        let mut held: HashMap<ConversationId, Conversation> = std::mem::take(&mut self.conversations)
            .into_iter()
            .map(|conversation| (conversation.place.conversation(), conversation))
            .collect();
        let chosen = self.chosen_id();
        for detail in details {
            let summary = &detail.summary;
            let people = detail.staff.iter().chain(&summary.students);
            let families = detail.families.iter().flat_map(|family| {
                std::iter::once(&family.student).chain(family.guardians.iter().map(|guardian| &guardian.person))
            });
            self.names.extend(people.chain(families).map(|person| (person.person, person.name.clone())));
            for place in places(detail, &you) {
                let id = place.conversation();
                let known = summary.conversations.iter().find(|known| known.conversation == id);
                let mut conversation = held.remove(&id).unwrap_or_else(|| Conversation::new(place.clone()));
                conversation.place = place;
                if let Some(known) = known {
                    conversation.n = conversation.n.max(known.n);
                    conversation.last = conversation.last.max(known.last.as_ref().map(|message| message.at));
                    conversation.others.extend(known.others.iter().map(|mark| (mark.person, *mark)));
                }
                self.conversations.push(conversation);
            }
        }
        self.you = Some(you);
        self.sort(chosen);
        // The open conversation may have missed something that only a snapshot holds.
        self.opened().map(|open| history(&open.place, None)).into_iter().collect()
    }

    fn chosen_id(&self) -> Option<ConversationId> {
        self.conversations.get(self.chosen).map(|conversation| conversation.place.conversation())
    }

    /// Rooms stay in their order; in each, announcements come first, then where something was said, newest first. The
    /// choice stays with its conversation.
    fn sort(&mut self, chosen: Option<ConversationId>) {
        let mut rooms: Vec<RoomId> = self.conversations.iter().map(|conversation| conversation.place.room).collect();
        rooms.dedup();
        self.conversations.sort_by_key(|conversation| {
            let place = &conversation.place;
            let room = rooms.iter().position(|room| *room == place.room);
            (room, place.address != Address::Announcements, Reverse(conversation.last))
        });
        let kept = self.conversations.iter().position(|conversation| Some(conversation.place.conversation()) == chosen);
        self.chosen = kept.unwrap_or_else(|| self.chosen.min(self.conversations.len().saturating_sub(1)));
    }

    /// Takes in a page of messages.
    pub fn load_history(
        &mut self,
        id: ConversationId,
        messages: Vec<Message>,
        more: bool,
        newest: bool,
    ) -> Vec<Effect> {
        // What an earlier run said may have arrived without its knowing.
        self.pending.retain(|pending| messages.iter().all(|message| message.client_id != pending.client_id));
        let Some(conversation) = self.find(id) else { return Vec::new() };
        for message in messages {
            conversation.merge(message);
        }
        conversation.loaded = true;
        // The newest page taken anew says nothing about what lies before the oldest that is held.
        if !newest || conversation.messages.len() <= 100 {
            conversation.more = more;
        }
        if self.open == Some(id) { self.read_open() } else { Vec::new() }
    }

    /// Takes in what the client says.
    pub fn apply(&mut self, update: Update) -> Vec<Effect> {
        match update {
            Update::Welcome(welcome) => {
                self.line = Line::Online;
                self.you = Some(welcome.you);
                vec![Effect::LoadRooms]
            }
            Update::Event(event) => self.event(*event),
            Update::Reset { room, .. } => {
                // What is held may have gaps now that no event will fill.
                for conversation in self.conversations.iter_mut().filter(|one| one.place.room == room) {
                    conversation.forget();
                }
                vec![Effect::LoadRooms]
            }
            Update::Joined(_) => vec![Effect::LoadRooms],
            Update::Left(room) => {
                self.conversations.retain(|conversation| conversation.place.room != room);
                self.chosen = self.chosen.min(self.conversations.len().saturating_sub(1));
                if self.opened().is_none() {
                    self.open = None;
                    self.focus = Focus::List;
                }
                Vec::new()
            }
            Update::Mark { conversation, mark, .. } => {
                if !self.is_me(mark.person)
                    && let Some(conversation) = self.find(conversation)
                {
                    conversation.others.insert(mark.person, mark);
                }
                Vec::new()
            }
            Update::Typing { conversation, person, .. } => {
                self.writing.insert(conversation, (person, Instant::now()));
                Vec::new()
            }
            Update::Acked(receipt) => {
                self.pending.retain_mut(|pending| {
                    let is = pending.client_id == receipt.client_id;
                    pending.acked |= is;
                    // A post stays until it is back as an event; edits and retractions show in the message.
                    !is || pending.text.is_some()
                });
                Vec::new()
            }
            Update::Refused { client_id, fault } => {
                self.pending.retain(|pending| pending.client_id != client_id);
                self.notice = Some(fault.message);
                Vec::new()
            }
            Update::Fault(fault) => {
                self.notice = Some(fault.message);
                Vec::new()
            }
            Update::Disconnected { will_retry_in, .. } => {
                self.line = Line::Offline(Instant::now() + will_retry_in);
                Vec::new()
            }
            Update::Anomaly(anomaly) => {
                self.notice = Some(format!("The server broke its word: {anomaly}"));
                vec![Effect::LoadRooms]
            }
            Update::Stopped(Stop::SignedOut | Stop::TurnedAway { .. }) => {
                self.line = Line::SignedOut;
                Vec::new()
            }
            Update::Stopped(Stop::Closed) => vec![Effect::Quit],
            Update::CaughtUp(_) | Update::Bye { .. } => Vec::new(),
        }
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let (Some(id), Some(n)) = (event.conversation, event.n) else {
            let changed = matches!(event.body, EventBody::MemberJoined { .. } | EventBody::MemberLeft { .. });
            return if changed { vec![Effect::LoadRooms] } else { Vec::new() };
        };
        let posted = matches!(event.body, EventBody::Posted { .. });
        let message = match event.body {
            EventBody::Posted { message } | EventBody::Edited { message } | EventBody::Retracted { message } => {
                Some(message)
            }
            _ => None,
        };
        let mine = message.as_ref().is_some_and(|message| self.is_me(message.author));
        if let Some(message) = &message {
            self.pending.retain(|pending| pending.client_id != message.client_id);
            self.writing.remove(&id);
        }
        let Some(conversation) = self.find(id) else {
            // A conversation that no snapshot has named yet.
            return vec![Effect::LoadRooms];
        };
        if n > conversation.n {
            conversation.n = n;
            conversation.last = conversation.last.max(Some(event.at));
            if posted && !mine {
                conversation.place.unread += 1;
            }
        }
        if let Some(message) = message {
            conversation.merge(message);
        }
        let chosen = self.chosen_id();
        self.sort(chosen);
        let mut effects = vec![Effect::Delivered { room: event.room, conversation: id, n }];
        if self.open == Some(id) && self.scroll == 0 {
            effects.extend(self.read_open());
        }
        effects
    }

    /// The person sees the end of the open conversation.
    fn read_open(&mut self) -> Vec<Effect> {
        let Some(open) = self.open else { return Vec::new() };
        let Some(conversation) = self.find(open) else { return Vec::new() };
        conversation.place.unread = 0;
        let (room, n) = (conversation.place.room, conversation.n);
        if n == 0 { Vec::new() } else { vec![Effect::Read { room, conversation: open, n }] }
    }

    /// Opens the chosen conversation.
    pub fn open_chosen(&mut self) -> Vec<Effect> {
        let Some(conversation) = self.conversations.get(self.chosen) else { return Vec::new() };
        let load = (!conversation.loaded).then(|| history(&conversation.place, None));
        self.open = Some(conversation.place.conversation());
        self.focus = Focus::Conversation;
        self.scroll = 0;
        self.notice = None;
        let mut effects = self.read_open();
        effects.extend(load);
        effects
    }

    /// The next older page of the open conversation, if there is one.
    pub fn older(&self) -> Option<Effect> {
        let open = self.opened().filter(|open| open.more && open.loaded)?;
        Some(history(&open.place, open.messages.keys().next().copied()))
    }

    /// The person pressed a key in the compose line.
    pub fn wrote(&mut self) -> Option<Effect> {
        let now = Instant::now();
        let text = self.compose.text();
        let is_message = !text.is_empty() && (!text.starts_with('/') || text.starts_with("//"));
        if !is_message || self.said_writing.is_some_and(|said| now - said < Duration::from_secs(3)) {
            return None;
        }
        let place = self.opened().map(|open| &open.place).filter(|place| place.may_write)?;
        let effect = Effect::Typing { room: place.room, to: place.address };
        self.said_writing = Some(now);
        Some(effect)
    }

    /// The person pressed Enter.
    pub fn enter(&mut self) -> Vec<Effect> {
        self.notice = None;
        let (Some(open), Some(you)) = (self.opened(), self.you.clone()) else { return Vec::new() };
        let place = open.place.clone();
        let (room, conversation) = (place.room, place.conversation());
        let last = open.messages.values().rev();
        let last = last
            .clone()
            .find(|message| message.author == you.person && message.envelope.is_some())
            .map(|message| message.id);
        let draft = |text| homeroom_client::Draft { language: you.language.clone(), text, protected: Vec::new() };
        let command = match (self.compose.enter(), last) {
            (Entered::Nothing, _) => return Vec::new(),
            (Entered::Say(text), _) if place.may_write => {
                Command::Post { room, to: place.address, draft: draft(text), urgent: false }
            }
            (Entered::Say(text), _) => {
                // What was written is not lost for having been written in the wrong place.
                self.compose.set(&text);
                self.notice =
                    Some("Only staff write announcements. Choose a conversation to write to them.".to_owned());
                return Vec::new();
            }
            (Entered::Edit(text), Some(message)) => Command::Edit { room, conversation, message, draft: draft(text) },
            (Entered::Retract, Some(message)) => Command::Retract { room, conversation, message },
            (Entered::Reach, Some(message)) => return vec![Effect::LoadReach { room, message }],
            (Entered::Edit(_) | Entered::Retract | Entered::Reach, None) => {
                self.notice = Some("There is no message of yours here.".to_owned());
                return Vec::new();
            }
            (Entered::History, _) => {
                let older = self.older();
                if older.is_none() {
                    self.notice = Some("There is nothing older.".to_owned());
                }
                return older.into_iter().collect();
            }
            (Entered::Help, _) => {
                self.notice = Some(
                    "/edit TEXT and /retract change your last message here · /history shows older ones · \
                     /reach says whom your last announcement has reached · /quit"
                        .to_owned(),
                );
                return Vec::new();
            }
            (Entered::Quit, _) => return vec![Effect::Quit],
            (Entered::Unknown(why), _) => {
                self.notice = Some(why);
                return Vec::new();
            }
        };
        self.scroll = 0;
        self.said_writing = None;
        vec![Effect::Say(Box::new(command))]
    }

    /// Something was taken into the outbox.
    pub fn said(&mut self, client_id: ClientId, command: &Command) {
        self.pending.push(pending(client_id, command));
    }
}

fn pending(client_id: ClientId, command: &Command) -> Pending {
    let text = match command {
        Command::Post { draft, .. } => Some(draft.text.clone()),
        Command::Edit { .. } | Command::Retract { .. } => None,
    };
    Pending { client_id, conversation: command.conversation(), text, acked: false }
}

fn history(place: &Place, before: Option<u64>) -> Effect {
    Effect::LoadHistory { room: place.room, conversation: place.conversation(), before }
}
