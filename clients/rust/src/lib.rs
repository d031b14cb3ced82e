//! A client for Homeroom: it stays connected, misses nothing, and sends in order.
//!
//! Owns: one signed-in person's line to their school: connecting, coming back after a loss, resuming where it stopped,
//! an outbox that survives both, and the HTTP calls that stand beside the socket. Refuses to know: how messages are
//! shown, what is kept on disk beyond the outbox, and anything about the server but its protocol.
//!
//! The parts, from the wire up:
//!
//! - [`ServerAddress`]: where a server is; [`Trust`]: whose certificate it may show, where it speaks TLS.
//! - `connection`: one WebSocket, from the upgrade to its end; a silent peer counts as gone.
//! - `reconnect`: when to come back, and whether ([`Backoff`]).
//! - [`Progress`]: how far the reader has come in each room; a hole or a double in what the server sends is an
//!   [`Anomaly`], never hidden.
//! - `outbox`: what was said and not yet acknowledged, in order, optionally in a file.
//! - [`Client`] and [`Updates`]: what an application holds.
//! - [`Http`]: signing in, and the pages beside the live events.
//!
//! # Example
//!
//! ```no_run
//! use homeroom_client::{Address, Client, Draft, Http, Language, Options, Post, ServerAddress, Update};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ServerAddress::parse("http://127.0.0.1:8080")?;
//! let signed_in = Http::new(server.clone())?.sign_in_with_code("a.moreau", "HJKM-PQRS").await?;
//! let token = signed_in.token.ok_or("no token was given")?;
//!
//! let (client, mut updates) = Client::start(Options::new(server, token))?;
//! while let Some(update) = updates.recv().await {
//!     match update {
//!         Update::Welcome(welcome) => {
//!             let Some(room) = welcome.rooms.first() else { continue };
//!             let draft = Draft { language: Language::english(), text: "Hello!".into(), protected: Vec::new() };
//!             let sending =
//!                 client.post(Post { room: room.room, to: Address::Announcements, draft, urgent: false }).await?;
//!             // `sending.await` would wait for the acknowledgement; it also comes as `Update::Acked`.
//!             println!("queued as {}", sending.client_id());
//!         }
//!         Update::Event(event) => println!("{event:?}"),
//!         Update::Anomaly(anomaly) => eprintln!("the server broke its word: {anomaly}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod address;
mod ask;
mod client;
mod connection;
mod driver;
mod http;
mod journal;
mod marks;
mod outbox;
mod pace;
mod phase;
mod progress;
mod reconnect;
mod trust;
mod update;

pub use address::{NotAnAddress, ServerAddress};
pub use client::{Client, Edit, HistoryError, Options, Post, Retract, SendError, Sending, StartError, Stopped};
pub use homeroom_protocol::*;
pub use http::{Http, HttpError};
pub use journal::JournalError;
pub use outbox::{Command, Unsent};
pub use progress::{Progress, RoomProgress};
pub use reconnect::Backoff;
#[cfg(feature = "tls")]
pub use trust::NotRoots;
pub use trust::Trust;
pub use update::{Anomaly, Loss, Page, Receipt, Stop, Update, Updates, Welcome};
