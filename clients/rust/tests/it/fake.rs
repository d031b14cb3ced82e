//! A server that speaks `homeroom.v1` word by word, as a test dictates.
//!
//! Owns: accepting, reading and saying frames, cutting. Refuses to know: any behaviour of the real server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are the tests' own helpers: a panic is their answer"
)]

use futures_util::{SinkExt, StreamExt};
use homeroom_client::*;
use std::collections::BTreeMap;
use std::time::Duration;
#[cfg(feature = "tls")]
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Raw;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// No condition of these tests takes longer than this, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Fake {
    listener: TcpListener,
}

/// One session, as the server sees it.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Fake {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn address(&self) -> ServerAddress {
        ServerAddress::parse(&self.listener.local_addr().unwrap().to_string()).unwrap()
    }

    /// Options for a client that is quick to come back.
    pub fn options(&self) -> Options {
        let mut options = Options::new(self.address(), "token-1");
        options.backoff.base = Duration::from_millis(5);
        options.backoff.cap = Duration::from_millis(50);
        options
    }

    /// Accepts the next client. One that left before it was upgraded is passed over: the kernel had accepted it.
    pub async fn accept(&self) -> Peer {
        loop {
            let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a client comes").unwrap();
            #[expect(clippy::result_large_err, reason = "the library's own callback type")]
            let subprotocol = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                assert_eq!(request.uri().path(), "/ws");
                assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
                response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
                Ok(response)
            };
            if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, subprotocol).await {
                return Peer { socket };
            }
        }
    }

    #[cfg(feature = "tls")]
    /// Answers whatever comes as a plain HTTP server does, and closes.
    pub async fn answer_plainly(&self) {
        let (mut stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a client comes").unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    }

    /// Accepts a client and welcomes it to the rooms, each from where the client says or from its end.
    pub async fn welcome(&self, rooms: &[RoomId]) -> (Peer, BTreeMap<RoomId, Option<EventId>>) {
        let mut peer = self.accept().await;
        let ClientFrame::Hello { token, positions } = peer.hear().await else { panic!("hello comes first") };
        assert_eq!(token.as_deref(), Some("token-1"));
        peer.say(&welcome(rooms)).await;
        for room in rooms {
            peer.say(&ServerFrame::CaughtUp { room: *room }).await;
        }
        (peer, positions)
    }
}

impl Peer {
    /// Welcomes the client, if it is still there to say hello.
    pub async fn try_hello(&mut self, rooms: &[RoomId]) -> bool {
        let Some(Ok(Raw::Text(_))) = timeout(PATIENCE, self.socket.next()).await.expect("hello or an end") else {
            return false;
        };
        let text = codec::encode_server(&welcome(rooms)).unwrap();
        self.socket.send(Raw::text(text)).await.is_ok()
    }

    pub async fn hear(&mut self) -> ClientFrame {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a frame comes").expect("no end").unwrap() {
                Raw::Text(text) => return codec::decode_client(&text).unwrap(),
                Raw::Ping(_) | Raw::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub async fn say(&mut self, frame: &ServerFrame) {
        self.say_text(&codec::encode_server(frame).unwrap()).await;
    }

    pub async fn say_text(&mut self, text: &str) {
        self.socket.send(Raw::text(text)).await.unwrap();
    }

    pub async fn close(mut self, code: u16, reason: &'static str) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Hears a post: its ref and client id.
    pub async fn hear_post(&mut self) -> (Ref, ClientId) {
        match self.hear().await {
            ClientFrame::Post { reference, client_id, .. } => (reference, client_id),
            other => panic!("expected a post, heard {other:?}"),
        }
    }

    pub async fn ack(&mut self, reference: Ref, id: EventId, n: u64) {
        self.say(&ServerFrame::Ack { reference, id: Some(id), n: Some(n) }).await;
    }

    pub async fn refuse(&mut self, reference: Ref, fault: Fault) {
        self.say(&ServerFrame::Error { reference: Some(reference), fault }).await;
    }
}

pub fn welcome(rooms: &[RoomId]) -> ServerFrame {
    ServerFrame::Welcome {
        session: SessionId::new(),
        you: You { person: PersonId::new(), name: "Ada Moreau".into(), language: Language::english() },
        rooms: rooms
            .iter()
            .map(|room| RoomPosition { room: *room, title: "4B".into(), role: Role::Staff, position: None })
            .collect(),
        limits: Limits::CURRENT,
    }
}

/// An announcement with the number `n`.
pub fn event(room: RoomId, n: u64) -> Event {
    let id = EventId::new();
    let envelope = draft("x").into_envelope(|_| Vec::new()).unwrap();
    let message = Message {
        id,
        n,
        author: PersonId::new(),
        client_id: ClientId::new(),
        at: Timestamp::now(),
        urgent: false,
        envelope: Some(envelope),
        edited_at: None,
        retracted_at: None,
    };
    Event {
        room,
        id,
        conversation: Some(Address::Announcements.conversation(room)),
        about: None,
        n: Some(n),
        at: message.at,
        body: EventBody::Posted { message },
    }
}

pub fn draft(text: &str) -> Draft {
    Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() }
}

pub fn post(room: RoomId, text: &str) -> Post {
    Post { room, to: Address::Announcements, draft: draft(text), urgent: false }
}

/// The next update for which `pick` gives something.
pub async fn until<T>(updates: &mut Updates, mut pick: impl FnMut(Update) -> Option<T>) -> T {
    timeout(PATIENCE, async {
        loop {
            let update = updates.recv().await.expect("the client goes on");
            if let Some(picked) = pick(update) {
                return picked;
            }
        }
    })
    .await
    .expect("the update comes")
}

/// The next event; an anomaly before it fails the test.
pub async fn next_event(updates: &mut Updates) -> Event {
    until(updates, |update| match update {
        Update::Event(event) => Some(*event),
        Update::Anomaly(anomaly) => panic!("{anomaly}"),
        _ => None,
    })
    .await
}
