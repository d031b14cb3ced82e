//! The server as a later version may be (see `log::append::next`). Built only with the feature of that name; no release has it.
//!
//! Owns: nothing. Refuses to know: everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    homeroom::cli::run()
}
