//! Conversations as a page shows them: the first screen, a room opened, history, whom an announcement reached.
//!
//! Owns: the snapshots that stand beside the live events. Refuses to know: sockets, and who may see what (it asks the log's
//! `View`, and hands out nothing that has not passed it).

pub mod reach;
pub mod routes;
pub mod snapshot;
pub mod spans;
