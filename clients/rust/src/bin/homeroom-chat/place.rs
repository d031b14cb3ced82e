//! Places to read and write, and what is held of each.
//!
//! Owns: which places a room has for a person, and merging messages. Refuses to know: which of them is open.

use homeroom_client::{
    About, Address, ConversationId, Mark, Message, PersonId, Role, RoomDetail, RoomId, RoomKind, Timestamp, You,
};
use std::collections::BTreeMap;

/// A place to read, and mostly to write.
#[derive(Debug, Clone)]
pub struct Place {
    /// For people.
    pub title: String,
    /// The room.
    pub room: RoomId,
    /// Whether it is a class's or a school's.
    pub kind: RoomKind,
    /// To whom in it.
    pub address: Address,
    /// Whether this person may write here.
    pub may_write: bool,
    /// Messages by others that the person has not read.
    pub unread: u64,
}

impl Place {
    /// Its conversation.
    pub fn conversation(&self) -> ConversationId {
        self.address.conversation(self.room)
    }
}

/// The places of a room, announcements first.
pub fn places(detail: &RoomDetail, you: &You) -> Vec<Place> {
    let summary = &detail.summary;
    let place = |title: String, address: Address, may_write: bool| {
        let conversation = address.conversation(summary.room);
        let unread = summary.conversations.iter().find(|known| known.conversation == conversation);
        let unread = unread.map_or(0, |known| known.unread);
        let title = format!("{} · {title}", summary.title);
        Place { title, room: summary.room, kind: summary.kind, address, may_write, unread }
    };
    let mut places = vec![place("announcements".to_owned(), Address::Announcements, summary.role == Role::Staff)];
    if summary.kind == RoomKind::Class {
        for student in &summary.students {
            let about = About { guardian: you.person, student: student.person };
            places.push(place(format!("about {}", student.name), Address::Private(about), true));
        }
        for family in &detail.families {
            for guardian in &family.guardians {
                let about = About { guardian: guardian.person.person, student: family.student.person };
                let title = format!("{} about {}", guardian.person.name, family.student.name);
                places.push(place(title, Address::Private(about), true));
            }
        }
    }
    places
}

/// A conversation on the pages.
#[derive(Debug)]
pub struct Conversation {
    /// Where.
    pub place: Place,
    /// The last number known.
    pub n: u64,
    /// When something was last said or changed in it.
    pub last: Option<Timestamp>,
    /// By the numbers of their posts.
    pub messages: BTreeMap<u64, Message>,
    /// Whether the newest page of history was fetched.
    pub loaded: bool,
    /// Whether there are older messages.
    pub more: bool,
    /// The marks of the others.
    pub others: BTreeMap<PersonId, Mark>,
}

/// How far one's own message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the outbox.
    Sending,
    /// The server has it for good.
    Sent,
    /// On a device of somebody else.
    Delivered,
    /// Read by somebody else.
    Read,
}

impl Conversation {
    /// A place of which nothing is held yet.
    pub fn new(place: Place) -> Self {
        Self { place, n: 0, last: None, messages: BTreeMap::new(), loaded: false, more: true, others: BTreeMap::new() }
    }

    /// How far one's own message has come.
    pub fn stage(&self, n: u64) -> Stage {
        if self.place.address == Address::Announcements {
            // One family of thirty has read it: that is not "read". `/reach` says it by name.
            return Stage::Sent;
        }
        let furthest = |of: fn(&Mark) -> u64| self.others.values().map(of).max().unwrap_or(0);
        if furthest(|mark| mark.read) >= n {
            Stage::Read
        } else if furthest(|mark| mark.delivered) >= n {
            Stage::Delivered
        } else {
            Stage::Sent
        }
    }

    /// Holds nothing any more but the place.
    pub fn forget(&mut self) {
        *self = Self::new(self.place.clone());
    }

    /// Puts a message in, unless a newer version of it is held: a page may have been on its way while it was changed.
    pub fn merge(&mut self, message: Message) {
        let version = |message: &Message| (message.retracted_at, message.edited_at);
        match self.messages.get(&message.n) {
            Some(held) if version(held) > version(&message) => {}
            _ => drop(self.messages.insert(message.n, message)),
        }
    }
}
