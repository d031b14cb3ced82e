//! The hot paths, gone once each, for Valgrind to count (see `instructions`). Built only with the feature of that name; no release has it.
//!
//! Owns: nothing. Refuses to know: everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    homeroom::instructions::run()
}
