//! What was said and not yet answered.
//!
//! Owns: the order of sending. Within a conversation the acknowledged numbers rise in the order in which things were
//! said: after a failure that may pass, the failed command goes first again, and what came after it waits. Refuses to
//! know: the socket, and how fast it may be used.

use crate::client::SendError;
use crate::journal::{Journal, JournalError};
use crate::update::{Anomaly, Receipt, Update};
use homeroom_protocol::{
    Address, ClientFrame, ClientId, ConversationId, Draft, ErrorCode, EventId, Fault, Ref, RoomId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many commands are under way at once. More would only wait in the server: it takes 20 a second.
const WINDOW: usize = 32;

/// The first wait after a failure that may pass and says no time itself; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Something said: a command that appends to a room's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Command {
    /// A new message.
    Post {
        /// Where.
        room: RoomId,
        /// To whom.
        to: Address,
        /// What.
        draft: Draft,
        /// Whether it can't wait.
        urgent: bool,
    },
    /// Another text for one's own message.
    Edit {
        /// Where.
        room: RoomId,
        /// In which conversation; it decides the order.
        conversation: ConversationId,
        /// Which message.
        message: EventId,
        /// The new text.
        draft: Draft,
    },
    /// One's own message taken back.
    Retract {
        /// Where.
        room: RoomId,
        /// In which conversation; it decides the order.
        conversation: ConversationId,
        /// Which message.
        message: EventId,
    },
}

impl Command {
    /// The conversation that it belongs to.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Post { room, to, .. } => to.conversation(*room),
            Self::Edit { conversation, .. } | Self::Retract { conversation, .. } => *conversation,
        }
    }

    /// The room that it belongs to.
    #[must_use]
    pub fn room(&self) -> RoomId {
        match self {
            Self::Post { room, .. } | Self::Edit { room, .. } | Self::Retract { room, .. } => *room,
        }
    }

    fn frame(&self, reference: Ref, client_id: ClientId) -> ClientFrame {
        match self.clone() {
            Self::Post { room, to, draft, urgent } => {
                ClientFrame::Post { reference, room, client_id, to, draft, urgent }
            }
            Self::Edit { room, message, draft, .. } => ClientFrame::Edit { reference, room, client_id, message, draft },
            Self::Retract { room, message, .. } => ClientFrame::Retract { reference, room, client_id, message },
        }
    }
}

/// Something that waits in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The client id that it is sent with.
    pub client_id: ClientId,
    /// What it is.
    pub command: Command,
}

pub(crate) type Answer = oneshot::Sender<Result<Receipt, SendError>>;

#[derive(Debug)]
enum State {
    Ready,
    UnderWay,
    /// Failed in a way that may pass; to be sent again from then on.
    Failed(Instant),
}

#[derive(Debug)]
struct Entry {
    client_id: ClientId,
    command: Command,
    conversation: ConversationId,
    state: State,
    failures: u32,
    answer: Option<Answer>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    /// By the order in which they were said.
    entries: BTreeMap<u64, Entry>,
    next_order: u64,
    by_client_id: HashMap<ClientId, u64>,
    under_way: usize,
    capacity: usize,
    journal: Option<Journal>,
    /// By room and conversation, the latest said of what was acknowledged: its place in the order, and its number.
    acknowledged: HashMap<(RoomId, ConversationId), (u64, u64)>,
    random: fastrand::Rng,
}

impl Outbox {
    pub(crate) fn new(capacity: usize, journal: Option<(Journal, Vec<Unsent>)>) -> Self {
        let (journal, restored) = journal.map_or((None, Vec::new()), |(journal, restored)| (Some(journal), restored));
        let mut outbox = Self {
            entries: BTreeMap::new(),
            next_order: 0,
            by_client_id: HashMap::new(),
            under_way: 0,
            capacity,
            journal,
            acknowledged: HashMap::new(),
            random: fastrand::Rng::new(),
        };
        for Unsent { client_id, command } in restored {
            outbox.insert(client_id, command, None);
        }
        outbox
    }

    /// Takes in something to be sent; with a journal, it is on disk when this returns.
    pub(crate) fn accept(&mut self, client_id: ClientId, command: Command, answer: Answer) -> Result<(), SendError> {
        if self.entries.len() >= self.capacity {
            return Err(SendError::OutboxFull);
        }
        if let Some(journal) = &mut self.journal {
            journal.said(client_id, &command).map_err(SendError::Storage)?;
        }
        self.insert(client_id, command, Some(answer));
        Ok(())
    }

    fn insert(&mut self, client_id: ClientId, command: Command, answer: Option<Answer>) {
        let order = self.next_order;
        self.next_order += 1;
        self.by_client_id.insert(client_id, order);
        let conversation = command.conversation();
        let entry = Entry { client_id, command, conversation, state: State::Ready, failures: 0, answer };
        self.entries.insert(order, entry);
    }

    /// What waits, in order.
    pub(crate) fn unsent(&self) -> Vec<Unsent> {
        self.entries
            .values()
            .map(|entry| Unsent { client_id: entry.client_id, command: entry.command.clone() })
            .collect()
    }

    /// The next command that may go, if one may.
    pub(crate) fn next(&mut self, now: Instant, reference: Ref) -> Option<(ClientId, ClientFrame)> {
        let order = self.sendable(now)?;
        let entry = self.entries.get_mut(&order)?;
        entry.state = State::UnderWay;
        self.under_way += 1;
        Some((entry.client_id, entry.command.frame(reference, entry.client_id)))
    }

    /// Whether [`next`](Self::next) would give something.
    pub(crate) fn has_next(&self, now: Instant) -> bool {
        self.sendable(now).is_some()
    }

    fn sendable(&self, now: Instant) -> Option<u64> {
        if self.under_way >= WINDOW {
            return None;
        }
        // Conversations in which something failed and has not been sent again yet.
        let mut blocked = HashSet::new();
        for (order, entry) in &self.entries {
            match entry.state {
                _ if blocked.contains(&entry.conversation) => {}
                State::UnderWay => {}
                State::Ready => return Some(*order),
                State::Failed(until) if until <= now => return Some(*order),
                State::Failed(_) => {
                    blocked.insert(entry.conversation);
                }
            }
        }
        None
    }

    /// When the next failed command is to be sent again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.entries
            .values()
            .filter_map(|entry| match entry.state {
                State::Failed(until) => Some(until),
                State::Ready | State::UnderWay => None,
            })
            .min()
    }

    /// An acknowledgement came.
    pub(crate) fn acked(
        &mut self,
        client_id: ClientId,
        id: Option<EventId>,
        n: Option<u64>,
        now: Instant,
        updates: &mut Vec<Update>,
    ) {
        let Some(order) = self.by_client_id.get(&client_id).copied() else { return };
        let (Some(id), Some(n)) = (id, n) else {
            updates.push(Update::Anomaly(Anomaly::AckWithoutEvent { client_id }));
            self.fail(order, now + LONGEST_WAIT);
            return;
        };
        let Some(entry) = self.remove(order) else { return };
        let place = (entry.command.room(), entry.conversation);
        let latest = self.acknowledged.get(&place).copied();
        if let Some((latest_order, latest_n)) = latest
            && (order > latest_order) != (n > latest_n)
        {
            updates.push(Update::Anomaly(Anomaly::AckOutOfOrder { client_id, n }));
        }
        if latest.is_none_or(|(latest_order, _)| order > latest_order) {
            self.acknowledged.insert(place, (order, n));
        }
        let receipt = Receipt { client_id, id, n };
        updates.push(Update::Acked(receipt));
        finish(entry.answer, Ok(receipt));
    }

    /// A refusal came.
    pub(crate) fn refused(&mut self, client_id: ClientId, fault: Fault, now: Instant, updates: &mut Vec<Update>) {
        let Some(order) = self.by_client_id.get(&client_id).copied() else { return };
        // A token that has run out ends the session in a moment; what was said keeps for the next one.
        if fault.retryable || fault.code == ErrorCode::Unauthenticated {
            if fault.code == ErrorCode::OutOfTurn && self.has_earlier(order) {
                self.ready(order);
                return;
            }
            let wait = fault.retry_after_ms.map_or_else(
                || self.backoff(order),
                |milliseconds| Duration::from_millis(milliseconds.into()).min(Duration::from_secs(60)),
            );
            self.fail(order, now + wait);
            return;
        }
        let Some(entry) = self.remove(order) else { return };
        finish(entry.answer, Err(SendError::Refused(fault.clone())));
        updates.push(Update::Refused { client_id, fault });
    }

    /// The connection is gone: nothing is under way any more.
    pub(crate) fn disconnected(&mut self) {
        for entry in self.entries.values_mut() {
            if matches!(entry.state, State::UnderWay) {
                entry.state = State::Ready;
            }
        }
        self.under_way = 0;
    }

    /// The room begins anew: after a restored backup its numbers may be lower than those that were acknowledged.
    pub(crate) fn reset(&mut self, room: RoomId) {
        self.acknowledged.retain(|(of, _), _| *of != room);
    }

    /// The client ends. What waits is told so; a journal keeps it.
    pub(crate) fn stop(&mut self) {
        for entry in std::mem::take(&mut self.entries).into_values() {
            finish(entry.answer, Err(SendError::Stopped));
        }
        self.by_client_id.clear();
    }

    /// Whether something said earlier in the same conversation still waits.
    fn has_earlier(&self, order: u64) -> bool {
        let Some(conversation) = self.entries.get(&order).map(|entry| entry.conversation) else { return false };
        self.entries.range(..order).any(|(_, entry)| entry.conversation == conversation)
    }

    fn backoff(&mut self, order: u64) -> Duration {
        let failures = self.entries.get(&order).map_or(0, |entry| entry.failures);
        let ceiling = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
        ceiling.mul_f64(0.5 + self.random.f64() / 2.0)
    }

    fn ready(&mut self, order: u64) {
        self.set(order, State::Ready);
    }

    fn fail(&mut self, order: u64, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&order) {
            entry.failures += 1;
        }
        self.set(order, State::Failed(until));
    }

    fn set(&mut self, order: u64, state: State) {
        if let Some(entry) = self.entries.get_mut(&order)
            && matches!(std::mem::replace(&mut entry.state, state), State::UnderWay)
        {
            self.under_way -= 1;
        }
    }

    fn remove(&mut self, order: u64) -> Option<Entry> {
        let entry = self.entries.remove(&order)?;
        self.by_client_id.remove(&entry.client_id);
        if matches!(entry.state, State::UnderWay) {
            self.under_way -= 1;
        }
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.answered(entry.client_id)
        {
            // The answer stands all the same; after a restart it is asked for once more.
            tracing::warn!(error = &error as &dyn std::error::Error, "the outbox file could not be updated");
        }
        Some(entry)
    }
}

/// Tells whoever still waits for it.
fn finish(answer: Option<Answer>, outcome: Result<Receipt, SendError>) {
    if let Some(answer) = answer {
        // The application may have dropped its handle; the update says it too.
        drop(answer.send(outcome));
    }
}

impl From<JournalError> for SendError {
    fn from(error: JournalError) -> Self {
        Self::Storage(error)
    }
}

#[cfg(test)]
mod tests;
