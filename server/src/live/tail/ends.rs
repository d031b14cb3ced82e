//! Where the conversations of a held room end.
//!
//! Owns: what the log said of it once somebody wanted to know, kept up with the entries that follow: whoever comes back to a room in
//! which others talked meanwhile has missed nothing, and learns it without a question.
//! Refuses to know: who may see which conversation.

use super::Tails;
use crate::log::Entry;
use crate::log::pages::Holding;
use crate::log::read::{self, End};
use homeroom_protocol::{ConversationId, RoomId};
use std::collections::HashMap;

/// Rooms asked for in one query: some thousand rows. A herd that comes to a node just started asks for hundreds of rooms at once, and one
/// query for all of them could take longer than is waited for, again and again. What was learnt stays known.
const AT_ONCE: usize = 64;

/// Of one room.
#[derive(Debug, Default)]
pub(super) enum Ends {
    /// Nobody wanted to know.
    #[default]
    Unasked,
    /// The log is being read. What follows the head is noted from before that began: it is in one of the two at least.
    Asked(HashMap<ConversationId, End>),
    /// All of them.
    Known(HashMap<ConversationId, End>),
}

impl Ends {
    /// An entry follows the head.
    pub(super) fn note(&mut self, entry: &Entry) {
        if let (Self::Asked(ends) | Self::Known(ends), Some(conversation)) = (self, entry.event.conversation) {
            ends.insert(conversation, End { seq: entry.seq, event: Some(entry.event.id) });
        }
    }

    /// What the log said, read after it was asked for. It may go less far than what was noted meanwhile.
    fn learn(&mut self, read: Vec<(ConversationId, End)>) {
        let (Self::Asked(mut ends) | Self::Known(mut ends)) = std::mem::take(self) else { return };
        for (conversation, end) in read {
            let known = ends.entry(conversation).or_insert(end);
            if known.seq < end.seq {
                *known = end;
            }
        }
        *self = Self::Known(ends);
    }
}

impl Tails {
    /// Where these conversations of a room end, beyond the head that this node knows perhaps; those in which nothing was ever said are
    /// missing. `None`: the log has to be asked first.
    pub(in crate::live) fn ends(&self, room: RoomId, of: &[ConversationId]) -> Option<Vec<End>> {
        match &self.rooms().get(&room)?.ends {
            Ends::Known(ends) => Some(of.iter().filter_map(|conversation| ends.get(conversation).copied()).collect()),
            _ => None,
        }
    }

    /// Asks the log where all conversations of these rooms end. Rooms that are not held stay unknown.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::live) async fn learn_ends(&self, rooms: &[RoomId]) -> Result<(), sqlx::Error> {
        for some in rooms.chunks(AT_ONCE) {
            let asked = self.ask_for_ends(some);
            let held: Vec<RoomId> = asked.iter().map(|(room, _)| *room).collect();
            let mut read: HashMap<RoomId, Vec<(ConversationId, End)>> = HashMap::new();
            for (room, conversation, end) in read::ends_in(&self.shared.db, &held).await? {
                read.entry(room).or_default().push((conversation, end));
            }
            for (room, holding) in asked {
                self.take_ends(room, holding, read.remove(&room).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// From here on what follows is noted, in each of the rooms that is held; gives which holding of it that is.
    fn ask_for_ends(&self, of: &[RoomId]) -> Vec<(RoomId, Holding)> {
        let mut rooms = self.rooms();
        let mut asked = Vec::with_capacity(of.len());
        for room in of {
            // Without a head what is committed while the log is read might be in neither.
            if let Some(tail) = rooms.get_mut(room).filter(|tail| tail.head.is_some()) {
                if matches!(tail.ends, Ends::Unasked) {
                    tail.ends = Ends::Asked(HashMap::new());
                }
                asked.push((*room, tail.holding));
            }
        }
        asked
    }

    fn take_ends(&self, room: RoomId, holding: Holding, read: Vec<(ConversationId, End)>) {
        // A room that was let go and is held again has not noted all that was said since.
        if let Some(tail) = self.rooms().get_mut(&room).filter(|tail| tail.holding == holding) {
            tail.ends.learn(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::one::{Head, Tail};
    use super::*;
    use crate::bus::local::Exchange;
    use crate::db::Db;
    use crate::trace::Traces;
    use homeroom_protocol::EventId;
    use std::sync::Arc;

    fn end(seq: i64) -> End {
        End { seq, event: Some(EventId::new()) }
    }

    #[test]
    fn what_is_said_while_the_log_is_read_stays_known() {
        let (one, other) = (ConversationId::new(), ConversationId::new());
        let (noted, read, quiet) = (end(7), end(3), end(2));
        let mut ends = Ends::Asked(HashMap::from([(one, noted)]));
        ends.learn(vec![(one, read), (other, quiet)]);
        let Ends::Known(known) = &ends else { panic!("not known") };
        assert_eq!((known[&one], known[&other]), (noted, quiet));
    }

    #[test]
    fn an_answer_to_nobody_is_not_kept() {
        let mut ends = Ends::Unasked;
        ends.learn(vec![(ConversationId::new(), end(1))]);
        assert!(matches!(ends, Ends::Unasked));
    }

    #[tokio::test]
    async fn an_answer_for_an_earlier_holding_of_the_room_is_not_taken() {
        let bus = Arc::new(Exchange::default().join(Arc::default()).0);
        let tails = Tails::new(Db::nowhere().unwrap(), bus, true, Traces::off());
        let (room, conversation) = (RoomId::new(), ConversationId::new());
        let hold = |holding| {
            let tail = Tail { holding: Holding(holding), head: Some(Head { seq: 5, event: None }), ..Tail::default() };
            tails.rooms().insert(room, tail);
            tails.ask_for_ends(&[room]).remove(0).1
        };
        // Read before the room was let go: what was said before it was held again is in neither.
        let (earlier, held) = (hold(1), hold(2));
        tails.take_ends(room, earlier, vec![(conversation, end(3))]);
        assert_eq!(tails.ends(room, &[conversation]), None);
        let now = end(5);
        tails.take_ends(room, held, vec![(conversation, now)]);
        assert_eq!(tails.ends(room, &[conversation]), Some(vec![now]));
        assert!(tails.ask_for_ends(&[RoomId::new()]).is_empty(), "not held");
    }
}
