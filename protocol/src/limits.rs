//! The limits that both sides know, announced in `welcome`.
//!
//! Owns: the numbers and their sources. Refuses to know: how they are enforced.

use serde::{Deserialize, Serialize};

/// What one session may do. All numbers fit in a JavaScript number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Largest message a client may send, in bytes, after defragmentation.
    pub frame_bytes: u32,
    /// Longest text, in Unicode characters (scalar values).
    pub text_characters: u32,
    /// Commands a second, sustained.
    pub commands_per_second: u32,
    /// Commands at once, after a pause.
    pub command_burst: u32,
    /// Most messages in one page of history.
    pub history_page: u32,
}

impl Limits {
    /// The limits of this version.
    pub const CURRENT: Self = Self {
        frame_bytes: 64 * 1024,
        text_characters: 8_000,
        commands_per_second: 20,
        command_burst: 60,
        history_page: 100,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::CURRENT
    }
}
