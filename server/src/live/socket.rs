//! Taking the socket over at the upgrade.
//!
//! Owns: every upgrade request (they pass the web framework by): path, origin, subprotocol, handshake; then the session has
//! the socket and nothing of the HTTP server is left on the connection.
//! Refuses to know: what is said over it.

use super::Node;
use super::session::Session;
use super::stream::Stream;
use super::worker::Worker;
use crate::accepted::Accepted;
use crate::identity::cookie;
use actix_codec::Framed;
use actix_http::h1;
use actix_http::{Request, header};
use homeroom_protocol::SUBPROTOCOL;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

/// One worker's service for upgrade requests.
#[derive(Clone)]
pub struct Upgrades(Rc<Worker>);

/// Why a request is not upgraded: status line and words.
struct Refusal(&'static str, &'static str);

impl Upgrades {
    /// Starts this thread's worker.
    #[must_use]
    pub fn start(node: Arc<Node>) -> Self {
        Self(Worker::start(node))
    }

    /// Answers one upgrade request. The session then runs by itself.
    pub async fn upgrade(&self, request: Request, framed: Framed<Accepted, h1::Codec>) {
        let parts = framed.into_parts();
        let mut stream = parts.io;
        match self.judge(&request) {
            Ok(accept) => {
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
                );
                if say(&mut stream, &answer).await.is_ok() {
                    let mut early = parts.read_buf.to_vec();
                    let Ok(stream) = Stream::new(stream.into_way(), &mut early) else { return };
                    let session = Session::new(self.0.clone(), stream, cookie::token(request.head().headers()));
                    actix_rt::spawn(session.run(early));
                }
            }
            Err(Refusal(status, words)) => {
                let length = words.len();
                let retry = if status.starts_with("503") { "Retry-After: 1\r\n" } else { "" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
                     {retry}Sec-WebSocket-Version: 13\r\nConnection: close\r\n\r\n{words}"
                );
                // The peer may be gone; there is nobody else to tell.
                let _gone = say(&mut stream, &answer).await;
                let _gone = stream.shutdown().await;
            }
        }
    }

    /// The handshake's answer to the client's key.
    fn judge(&self, request: &Request) -> Result<String, Refusal> {
        let text = |name: header::HeaderName| request.head().headers().get(name).and_then(|value| value.to_str().ok());
        if request.path() != "/ws" {
            return Err(Refusal("404 Not Found", "There is no WebSocket here. Homeroom's is at /ws."));
        }
        if self.0.node.draining.load(Ordering::Acquire) {
            return Err(Refusal("503 Service Unavailable", "This server is about to leave. Come back in a moment."));
        }
        if actix_http::ws::verify_handshake(request.head()).is_err() {
            return Err(Refusal("400 Bad Request", "This is not a WebSocket handshake of version 13 (RFC 6455)."));
        }
        // Browsers always say where a page came from. Another site's page must not speak with this one's cookie.
        if let Some(origin) = request.head().headers().get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let host = text(header::HOST).unwrap_or_default();
            let same =
                origin.split_once("://").is_some_and(|(_, of)| !host.is_empty() && of.eq_ignore_ascii_case(host));
            let public = self.0.node.public_origin.as_deref().is_some_and(|public| public.eq_ignore_ascii_case(origin));
            if !same && !public {
                return Err(Refusal("403 Forbidden", "Pages of other sites may not connect here."));
            }
        }
        let offered = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        if !offered.split(',').any(|offer| offer.trim() == SUBPROTOCOL) {
            return Err(Refusal("400 Bad Request", "Offer the subprotocol homeroom.v1."));
        }
        let key = request
            .head()
            .headers()
            .get(header::SEC_WEBSOCKET_KEY)
            .map(header::HeaderValue::as_bytes)
            .unwrap_or_default();
        let accept = actix_http::ws::hash_key(key);
        String::from_utf8(accept.to_vec()).map_err(|_| Refusal("400 Bad Request", "The handshake's key can't be read."))
    }
}

/// Sends all of it: TLS may keep what it was given.
async fn say(stream: &mut Accepted, answer: &str) -> std::io::Result<()> {
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}
