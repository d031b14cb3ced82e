//! What is fuzzed, and what must hold for any bytes.
//!
//! Owns: the three targets, each a function of bytes that panics when a promise is broken. Refuses to know: how inputs
//! are found (libFuzzer), and the rest of the server: the files under test are built from where they lie, by themselves,
//! so that an instrumented build takes a minute and not ten.

#![forbid(unsafe_code)]

#[path = "../../server/src/roster/files.rs"]
pub mod files;
#[path = "../../server/src/live/frame.rs"]
pub mod frame;
#[path = "../../server/src/roster/rows.rs"]
pub mod rows;
#[path = "../../server/src/conversation/spans.rs"]
pub mod spans;

pub mod check_command;
pub mod check_frame;
pub mod check_roster;
