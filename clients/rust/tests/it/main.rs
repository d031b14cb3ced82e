//! The client against a server that does exactly what a test tells it to, over real sockets in the real protocol.

mod fake;
mod ordering;
mod resuming;
mod returning;
