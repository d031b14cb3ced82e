//! The same server, able to break its word on purpose (see `sabotage`). Built only with the feature of that name; no release has it.
//!
//! Owns: nothing. Refuses to know: everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    homeroom::cli::run()
}
