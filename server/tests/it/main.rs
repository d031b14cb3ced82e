//! Tests against real nodes and real databases, in one binary.
//!
//! Owns: the list of its parts. Each storage test runs on both engines; each live test drives a node on a free port.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where something is not as it must be")]

mod bounds;
mod bus;
mod cli;
mod doctor;
mod documents;
mod drain;
mod failures;
mod http;
mod known;
mod live;
mod log;
mod metrics;
mod nginx;
mod node;
mod outages;
mod plans;
mod postgres;
mod process;
mod proxy;
mod raw;
mod redis;
mod restore;
mod resume;
mod rfc6455;
mod roster;
mod roster_files;
mod silence;
mod stale;
mod standby;
mod starting;
mod tls;
mod traces;
mod turns;
