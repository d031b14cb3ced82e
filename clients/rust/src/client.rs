//! What an application holds: the options it starts with, and the handle it speaks through.
//!
//! Owns: the calls and their errors. Refuses to know: how they are carried out (see `driver`).

use crate::address::ServerAddress;
use crate::ask::Ask;
use crate::driver::Driver;
use crate::journal::{Journal, JournalError};
use crate::marks::Kind;
use crate::outbox::{Command, Outbox, Unsent};
use crate::progress::Progress;
use crate::reconnect::Backoff;
use crate::trust::Trust;
use crate::update::{Page, Receipt, Updates};
use homeroom_protocol::{Address, ClientId, ConversationId, Draft, EventId, Fault, RoomId};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many calls may wait for the client's task. When it is full (*the client is busy*), a call waits.
const ASKS: usize = 64;

/// How a client is to be started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The servers of one district, tried in turn.
    pub servers: Vec<ServerAddress>,
    /// Whose certificates are believed, of servers with https; by default those that the operating system trusts.
    pub trust: Trust,
    /// The bearer token.
    pub token: String,
    /// How far the application had come when it last ran; empty to start at the end of each room.
    pub progress: Progress,
    /// Where the outbox is kept, so that it survives a restart; only in memory when left out. One file belongs to one
    /// person at one district.
    pub outbox_file: Option<PathBuf>,
    /// How long to wait between attempts to connect.
    pub backoff: Backoff,
    /// After how long without a word the peer counts as gone. The server pings every 25 to 50 s, so 75 s by default.
    pub silence: Duration,
    /// How long a command may go unanswered before the connection counts as broken; 60 s by default.
    pub answer_within: Duration,
    /// How many updates may wait for the application; 256 by default.
    pub updates: usize,
    /// How many posts, edits and retractions may wait to be acknowledged; 1,000 by default.
    pub outbox: usize,
}

impl Options {
    /// The options for one server, all else by default.
    #[must_use]
    pub fn new(server: ServerAddress, token: impl Into<String>) -> Self {
        Self {
            servers: vec![server],
            trust: Trust::system(),
            token: token.into(),
            progress: Progress::default(),
            outbox_file: None,
            backoff: Backoff::default(),
            silence: Duration::from_secs(75),
            answer_within: Duration::from_secs(60),
            updates: 256,
            outbox: 1_000,
        }
    }
}

/// Why a client could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No server was given.
    #[error("no server was given")]
    NoServer,
    /// The outbox file can't be used.
    #[error("the outbox can't be opened")]
    Outbox(#[from] JournalError),
}

/// Why something said was not taken, or did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server refused it for good.
    #[error("{0}")]
    Refused(Fault),
    /// Too much waits already.
    #[error("too much waits to be sent; wait until the connection is back")]
    OutboxFull,
    /// It could not be written down.
    #[error("the message could not be kept on this device")]
    Storage(#[source] JournalError),
    /// The client has stopped. What is in an outbox file is sent by the next one.
    #[error("the client has stopped; sign in again")]
    Stopped,
}

/// The client has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client has stopped")]
pub struct Stopped;

/// Why no page of history came.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The server refused.
    #[error("{0}")]
    Refused(Fault),
    /// There is no connection, or it was lost meanwhile. Ask again when it is back.
    #[error("there is no connection")]
    NotConnected,
    /// Too many pages are asked for at once.
    #[error("too many pages are asked for at once")]
    Busy,
    /// The client has stopped.
    #[error("the client has stopped")]
    Stopped,
}

/// A new message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Where.
    pub room: RoomId,
    /// To whom.
    pub to: Address,
    /// What.
    pub draft: Draft,
    /// Whether it can't wait. Staff only.
    pub urgent: bool,
}

/// Another text for one's own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Where.
    pub room: RoomId,
    /// In which conversation; edits keep their place in its order of sending.
    pub conversation: ConversationId,
    /// Which message.
    pub message: EventId,
    /// The new text.
    pub draft: Draft,
}

/// One's own message taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retract {
    /// Where.
    pub room: RoomId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which message.
    pub message: EventId,
}

/// The handle of a running client. Clones speak through the same connection.
#[derive(Debug, Clone)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
}

impl Client {
    /// Starts a client on the current tokio runtime. It connects by itself, and goes on until it is closed, its
    /// [`Updates`] are dropped, or the server turns it away.
    ///
    /// # Errors
    /// When no server is given or the outbox file can't be used. That no server answers is not an error but an
    /// [`Update::Disconnected`](crate::Update::Disconnected).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(options: Options) -> Result<(Self, Updates), StartError> {
        if options.servers.is_empty() {
            return Err(StartError::NoServer);
        }
        let journal = options.outbox_file.as_deref().map(Journal::open).transpose()?;
        let outbox = Outbox::new(options.outbox.max(1), journal);
        let (asks, asked) = mpsc::channel(ASKS);
        let (updates, receiver) = mpsc::channel(options.updates.max(1));
        let updates_end = Updates::new(receiver, options.progress.clone());
        tokio::spawn(Driver::new(options, outbox, asked, updates).run());
        Ok((Self { asks }, updates_end))
    }

    /// Says something. Once this returns it is in the outbox (and in its file); the [`Sending`] resolves when the server
    /// has it for good.
    ///
    /// # Errors
    /// [`SendError::OutboxFull`], [`SendError::Storage`] or [`SendError::Stopped`].
    pub async fn post(&self, post: Post) -> Result<Sending, SendError> {
        let Post { room, to, draft, urgent } = post;
        self.say(ClientId::new(), Command::Post { room, to, draft, urgent }).await
    }

    /// Puts another text in the place of one's own message.
    ///
    /// # Errors
    /// As for [`post`](Self::post).
    pub async fn edit(&self, edit: Edit) -> Result<Sending, SendError> {
        let Edit { room, conversation, message, draft } = edit;
        self.say(ClientId::new(), Command::Edit { room, conversation, message, draft }).await
    }

    /// Takes back one's own message.
    ///
    /// # Errors
    /// As for [`post`](Self::post).
    pub async fn retract(&self, retract: Retract) -> Result<Sending, SendError> {
        let Retract { room, conversation, message } = retract;
        self.say(ClientId::new(), Command::Retract { room, conversation, message }).await
    }

    async fn say(&self, client_id: ClientId, command: Command) -> Result<Sending, SendError> {
        let (answer, outcome) = oneshot::channel();
        let (accepted, taken) = oneshot::channel();
        let ask = Ask::Say { client_id, command: Box::new(command), answer, accepted };
        self.asks.send(ask).await.map_err(|_| SendError::Stopped)?;
        taken.await.map_err(|_| SendError::Stopped)??;
        Ok(Sending { client_id, outcome })
    }

    /// Tells the server that this device has stored everything of a conversation up to `n`. Only the furthest is sent,
    /// again after a lost connection, until the server has it.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn delivered(&self, room: RoomId, conversation: ConversationId, n: u64) -> Result<(), Stopped> {
        self.ask(Ask::Mark { room, key: (conversation, Kind::Delivered), n }).await
    }

    /// Tells the server that its person has read everything of a conversation up to `n`, likewise.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn read(&self, room: RoomId, conversation: ConversationId, n: u64) -> Result<(), Stopped> {
        self.ask(Ask::Mark { room, key: (conversation, Kind::Read), n }).await
    }

    /// Tells the others that its person is writing. Dropped when there is no connection or much to send.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn typing(&self, room: RoomId, to: Address) -> Result<(), Stopped> {
        self.ask(Ask::Typing { room, to }).await
    }

    /// A page of messages as they stand now, newest first: those before the number `before`, or the newest.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn history(
        &self,
        room: RoomId,
        conversation: ConversationId,
        before: Option<u64>,
        limit: Option<u32>,
    ) -> Result<Page, HistoryError> {
        let (answer, page) = oneshot::channel();
        let ask = Ask::History { room, conversation, before, limit, answer };
        self.ask(ask).await.map_err(|Stopped| HistoryError::Stopped)?;
        page.await.map_err(|_| HistoryError::Stopped)?
    }

    /// Uses another token of the same person from now on.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn refresh(&self, token: impl Into<String>) -> Result<(), Stopped> {
        self.ask(Ask::Refresh { token: token.into() }).await
    }

    /// What waits in the outbox, in order.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn unsent(&self) -> Result<Vec<Unsent>, Stopped> {
        let (answer, unsent) = oneshot::channel();
        self.ask(Ask::Unsent { answer }).await?;
        unsent.await.map_err(|_| Stopped)
    }

    /// Ends the client. The last update is [`Stop::Closed`](crate::Stop::Closed). What was not acknowledged stays in the
    /// outbox file.
    pub async fn close(&self) {
        match self.ask(Ask::Close).await {
            // One that has stopped already needs no closing.
            Ok(()) | Err(Stopped) => {}
        }
    }

    async fn ask(&self, ask: Ask) -> Result<(), Stopped> {
        self.asks.send(ask).await.map_err(|_| Stopped)
    }
}

/// Something on its way. Resolves when the server has it for good, or has refused it for good; dropping it changes
/// nothing.
#[derive(Debug)]
#[must_use = "dropping it loses nothing, but then only `Update::Acked` says when it has arrived"]
pub struct Sending {
    client_id: ClientId,
    outcome: oneshot::Receiver<Result<Receipt, SendError>>,
}

impl Sending {
    /// The client id that it is sent with; a message keeps it for ever.
    #[must_use]
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }
}

impl Future for Sending {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(SendError::Stopped)))
    }
}
