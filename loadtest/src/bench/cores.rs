//! Which cores are used, where `--pin` has given one to the server and one to this program.
//!
//! Owns: letting everybody have all of them for a while. Refuses to know: why.

use crate::Surroundings;
use std::process::Command;

/// This program, and what it starts, on all cores; bound again when it goes.
pub struct Cores {
    bound: bool,
}

impl Cores {
    /// Until it is dropped.
    #[must_use]
    pub fn share(surroundings: &Surroundings) -> Self {
        let bound = surroundings.server_core.is_some();
        if bound {
            bind("0-63");
        }
        Self { bound }
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        if self.bound {
            bind("1");
        }
    }
}

fn bind(cores: &str) {
    let own = std::process::id().to_string();
    // Where it can't be done, it could not be bound either.
    let _bound = Command::new("taskset").args(["-pc", cores, &own]).output();
}
