//! What an application asks of its client's task.
//!
//! Owns: the calls as they travel from [`Client`](crate::Client) to the driver. Refuses to know: either end.

use crate::client::{HistoryError, SendError};
use crate::marks;
use crate::outbox::{Answer, Command, Unsent};
use crate::update::Page;
use homeroom_protocol::{Address, ClientId, ConversationId, RoomId};
use tokio::sync::oneshot;

/// A call of the application's.
#[derive(Debug)]
pub(crate) enum Ask {
    Say {
        client_id: ClientId,
        command: Box<Command>,
        answer: Answer,
        accepted: oneshot::Sender<Result<(), SendError>>,
    },
    Mark {
        room: RoomId,
        key: marks::Key,
        n: u64,
    },
    Typing {
        room: RoomId,
        to: Address,
    },
    History {
        room: RoomId,
        conversation: ConversationId,
        before: Option<u64>,
        limit: Option<u32>,
        answer: oneshot::Sender<Result<Page, HistoryError>>,
    },
    Refresh {
        token: String,
    },
    Unsent {
        answer: oneshot::Sender<Vec<Unsent>>,
    },
    Close,
}
