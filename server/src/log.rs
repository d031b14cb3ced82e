//! The log: what was said in each room, in commit order.
//!
//! Owns: appending (in batches, idempotent by client id), reading back as things stand now, who may see what, marks.
//! Refuses to know: sockets, HTTP, and how the other nodes hear of it.

pub mod sight;

pub use sight::{Interval, Sight, View};
