//! What can go wrong, in words that all sides share.
//!
//! Owns: error codes, whether to try again, and the close codes of a session.
//! Refuses to know: what caused it inside a server; causes are logged there and never travel.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A refused command: a code for programs, a sentence for people that says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fault {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the same command may succeed later, unchanged.
    pub retryable: bool,
    /// Not before so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub retry_after_ms: Option<u32>,
}

impl Fault {
    /// A fault with its code's own answer to "retryable".
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.is_retryable(), retry_after_ms: None }
    }

    /// The same, not to be tried again before `milliseconds`.
    #[must_use]
    pub fn after(mut self, milliseconds: u32) -> Self {
        self.retry_after_ms = Some(milliseconds);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, not an object, or a field is missing or of the wrong type.
    Malformed,
    /// A `type` that this server does not know.
    UnknownType,
    /// Well-formed, but a value is not allowed.
    Invalid,
    /// The text is longer than the limit.
    TooLong,
    /// Sign in first: no token, an unknown one, or one that has run out.
    Unauthenticated,
    /// You may not do this here.
    Forbidden,
    /// There is no such thing, or you may not know of it.
    NotFound,
    /// The same client id was used before with another content.
    Conflict,
    /// An earlier command of this conversation failed and must be sent again first.
    OutOfTurn,
    /// A command with this `ref` is still under way.
    RefInUse,
    /// Too many commands; slow down.
    RateLimited,
    /// The server can't do it at the moment.
    Unavailable,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Whether the same command may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::OutOfTurn | Self::RefInUse | Self::RateLimited | Self::Unavailable)
    }
}

/// Why a session was closed, as the number in the WebSocket close frame.
///
/// `44xx`: do not come back as you are (sign in again first). `45xx`: come back, with backoff and full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000: done.
    Normal,
    /// 1002: the WebSocket protocol was broken.
    Protocol,
    /// 1007: a text frame was not UTF-8.
    InvalidText,
    /// 1008: no `hello` in time, or the first frame was another.
    Policy,
    /// 1009: a message larger than `limits.frame_bytes`.
    TooLarge,
    /// 1012: the server is leaving; `bye` said when to come back.
    Restart,
    /// 4401: the token is unknown, has run out, or was signed out.
    Unauthenticated,
    /// 4500: the server failed at something that it should not have.
    Internal,
    /// 4503: the server can't sign anybody in at the moment.
    Unavailable,
    /// 4504: two pings went unanswered, or the peer took nothing for a minute.
    Silent,
    /// 4509: more commands failed and did not come again than a server remembers; on the next session all come in order.
    OrderLost,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::InvalidText => 1007,
            Self::Policy => 1008,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::Unauthenticated => 4401,
            Self::Internal => 4500,
            Self::Unavailable => 4503,
            Self::Silent => 4504,
            Self::OrderLost => 4509,
        }
    }

    /// Whether a client that was closed with this number should come back by itself. Unknown numbers count by their
    /// range: 44xx no, all others yes.
    #[must_use]
    pub fn may_return(number: u16) -> bool {
        !(4400..4500).contains(&number)
    }
}
