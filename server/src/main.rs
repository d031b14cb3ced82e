//! The command line: serve, migrate, import, invite, sign-out, backup, doctor, status.
//!
//! Owns: nothing but the start. Refuses to know: everything else; see `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    homeroom::cli::run()
}
