//! The words that Homeroom's server and clients exchange.
//!
//! Owns: ids, languages, envelopes, messages, the frames of the WebSocket protocol `homeroom.v1`, the bodies of
//! the HTTP API, error and close codes, and the limits that both sides know.
//!
//! Refuses to know: sockets, SQL, sequence numbers (`seq` never leaves the servers), and how bytes are framed.
//! Encoding is kept apart from meaning: [`codec`] is the only file that says "JSON".
//!
//! Three programs in three languages must agree on these types, so they are closed enums with golden fixtures in
//! `protocol/fixtures/`, and each has an explicit place for what a newer peer may say.

pub mod api;
pub mod codec;
pub mod envelope;
pub mod error;
pub mod event;
pub mod frame;
pub mod ids;
pub mod language;
pub mod limits;
#[cfg(feature = "schema")]
mod schema;
pub mod time;

pub use api::*;
pub use envelope::{Draft, Envelope, ProtectedSpan, SpanKind, Translation};
pub use error::{CloseCode, ErrorCode, Fault};
pub use event::{About, Address, Event, EventBody, Mark, Message, Role};
pub use frame::{ByeReason, ClientFrame, ResetReason, RoomPosition, ServerFrame, You};
pub use ids::{ClassId, ClientId, ConversationId, DistrictId, EventId, PersonId, Ref, RoomId, SchoolId, SessionId};
pub use language::{Direction, Language};
pub use limits::Limits;
#[cfg(feature = "schema")]
pub use schema::schema;
pub use time::Timestamp;

/// The WebSocket subprotocol that a client must offer.
pub const SUBPROTOCOL: &str = "homeroom.v1";
