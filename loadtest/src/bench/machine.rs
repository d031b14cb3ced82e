//! Where and of what a report is.
//!
//! Owns: reading what Linux and git say. Refuses to know: what is measured.

use std::fs;
use std::process::Command;

/// A machine, and the code that ran on it.
#[derive(Debug)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// Memory, in GiB.
    pub memory: f64,
    /// The commit, and whether anything was changed since.
    pub commit: String,
}

/// Looks. What is not known is called so.
#[must_use]
pub fn look() -> Machine {
    let unknown = || "unknown".to_owned();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.lines().find_map(|line| {
        let size = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
        size.trim().parse::<f64>().ok()
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").map(|kernel| kernel.trim().to_owned());
    let changed = said_by_git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs"]);
    let commit = said_by_git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| match changed.as_deref() {
        Some("") => commit,
        _ => format!("{commit}, with changes that are not committed"),
    });
    Machine {
        processor: processor.map_or_else(unknown, str::to_owned),
        cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: kernel.unwrap_or_else(|_| unknown()),
        memory: kilobytes.unwrap_or(f64::NAN) / 1024.0 / 1024.0,
        commit: commit.unwrap_or_else(unknown),
    }
}

fn said_by_git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
