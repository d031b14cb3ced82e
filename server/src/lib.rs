//! Homeroom's server as a library, so that tests can start a node inside their own process.
//!
//! Owns: the list of its parts. Refuses to know: how they work together (see [`app`]).
//! Dependencies point one way: features (`identity`, `roster`, `conversation`) never import `live`; `live` knows no SQL;
//! `log` knows neither.

mod accepted;
pub mod app;
pub mod backup;
pub mod bus;
pub mod cli;
pub mod config;
pub mod control;
pub mod conversation;
pub mod db;
pub mod doctor;
pub mod error;
pub mod identity;
#[cfg(any(test, feature = "instructions"))]
pub mod instructions;
pub mod live;
pub mod log;
pub mod metrics;
mod outage;
pub mod roster;
pub mod sabotage;
pub mod tls;
pub mod trace;
pub mod web;
