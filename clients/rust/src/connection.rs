//! One WebSocket, from the upgrade to its end.
//!
//! Owns: dialling, the subprotocol, frames in and out, and noticing that the peer is gone. Refuses to know: what the
//! frames mean, and what happens after the end.

use crate::address::ServerAddress;
use crate::trust::Trust;
use crate::update::Loss;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use homeroom_protocol::{ClientFrame, SUBPROTOCOL, ServerFrame, codec};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long connecting and upgrading may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How many frames may wait for the socket. When it is full (*the socket is slow*), nothing more is taken from the
/// outbox until there is room.
const OUTGOING: usize = 64;

/// Largest message taken from a server: a page of 100 messages of 8,000 characters with several translations.
const LARGEST_MESSAGE: usize = 32 * 1024 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What came.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Box<ServerFrame>),
    Unreadable(String),
}

enum Outgoing {
    Frame(Box<ClientFrame>),
    Close,
}

#[derive(Debug)]
pub(crate) struct Connection {
    incoming: SplitStream<Socket>,
    outgoing: mpsc::Sender<Outgoing>,
    writer: JoinHandle<()>,
    heard_at: Instant,
    silence: Duration,
}

impl Connection {
    /// Connects and upgrades.
    pub(crate) async fn open(server: &ServerAddress, trust: &Trust, silence: Duration) -> Result<Self, Loss> {
        let unreachable = |error: &dyn std::error::Error| Loss::Unreachable(error.to_string());
        let mut request = server.socket().into_client_request().map_err(|error| unreachable(&error))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        // Small buffers: a client holds one connection for days, and most of the time nothing comes.
        let config = WebSocketConfig::default()
            .read_buffer_size(8 * 1024)
            .write_buffer_size(4 * 1024)
            .max_message_size(Some(LARGEST_MESSAGE))
            .max_frame_size(Some(LARGEST_MESSAGE));
        let dialled = timeout(DIAL_TIMEOUT, Box::pin(trust.connect(request, config))).await;
        let socket = dialled
            .map_err(|_| Loss::Unreachable("the server did not answer in time".to_owned()))?
            .map_err(|error| unreachable(&error))?;
        let (sink, incoming) = socket.split();
        let (outgoing, waiting) = mpsc::channel(OUTGOING);
        let writer = tokio::spawn(write(sink, waiting));
        Ok(Self { incoming, outgoing, writer, heard_at: Instant::now(), silence })
    }

    /// The next frame. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Heard, Loss> {
        loop {
            let message = timeout_at(self.heard_at + self.silence, self.incoming.next())
                .await
                .map_err(|_| Loss::Silent)?
                .ok_or_else(|| Loss::Broken("the connection ended without a word".to_owned()))?
                .map_err(|error| Loss::Broken(error.to_string()))?;
            self.heard_at = Instant::now();
            match message {
                Message::Text(text) => {
                    return Ok(match codec::decode_server(&text) {
                        Ok(frame) => Heard::Frame(Box::new(frame)),
                        Err(error) => Heard::Unreadable(error.to_string()),
                    });
                }
                Message::Close(frame) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    return Err(Loss::Closed { code, reason });
                }
                // Pings are answered by the library. A binary encoding is a newer server's, and it asks first.
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Hands a frame to the socket, if there is room; else gives it back.
    pub(crate) fn send(&self, frame: ClientFrame) -> bool {
        self.outgoing.try_send(Outgoing::Frame(Box::new(frame))).is_ok()
    }

    /// Whether [`send`](Self::send) would take a frame.
    pub(crate) fn has_room(&self) -> bool {
        self.outgoing.capacity() > 0
    }

    /// Waits until there is room; for ever when the writer has ended, which the reading side reports.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let outgoing = self.outgoing.clone();
        async move {
            if outgoing.reserve().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// While the application is behind nothing is read, so that silence proves nothing.
    pub(crate) fn excuse_silence(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Says goodbye, within a second, and ends.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            if self.outgoing.send(Outgoing::Close).await.is_ok() {
                while self.next().await.is_ok() {}
            }
        };
        // After a second the peer will notice by itself.
        drop(timeout(Duration::from_secs(1), goodbye).await);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Writes what waits; everything that waits at one moment leaves in one flush.
async fn write(mut sink: SplitSink<Socket, Message>, mut waiting: mpsc::Receiver<Outgoing>) {
    while let Some(next) = waiting.recv().await {
        if write_one(&mut sink, next, waiting.is_empty()).await.is_err() {
            // The reading side of the same socket reports the loss.
            return;
        }
    }
}

async fn write_one(
    sink: &mut SplitSink<Socket, Message>,
    next: Outgoing,
    flush: bool,
) -> Result<(), tungstenite::Error> {
    match next {
        Outgoing::Frame(frame) => match codec::encode_client(&frame) {
            Ok(text) => sink.feed(Message::text(text)).await?,
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a frame could not be encoded"),
        },
        Outgoing::Close => sink.feed(Message::Close(None)).await?,
    }
    if flush { sink.flush().await } else { Ok(()) }
}
