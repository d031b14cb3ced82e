//! What a process costs, as Linux counts it.
//!
//! Owns: reading `/proc`. Refuses to know: which process it is.

use std::time::Duration;

/// Linux counts processor time for user space in hundredths of a second (`USER_HZ`) on every architecture we run on.
const TICK: Duration = Duration::from_millis(10);

/// Processor time used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel, on its behalf.
    pub system: Duration,
    /// Both, of those threads that are still there: exact, where the two above come in hundredths of a second.
    threads: Duration,
}

impl Cpu {
    /// Of a process; nothing when it is gone or this is not Linux.
    #[must_use]
    pub fn of(process: u32) -> Option<Self> {
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?.filter_map(|thread| {
            let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        });
        let threads = threads.sum();
        let stat = parse_stat(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)?;
        Some(Self { threads, ..stat })
    }

    /// Of a process and those that it has started and that are still there.
    #[must_use]
    pub fn of_family(process: u32) -> Option<Self> {
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
        let children = children.split_whitespace().filter_map(|child| Self::of(child.parse().ok()?));
        Some(children.fold(Self::of(process)?, |all, one| Self {
            user: all.user + one.user,
            system: all.system + one.system,
            threads: all.threads + one.threads,
        }))
    }

    /// Since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let user = self.user.saturating_sub(earlier.user);
        let system = self.system.saturating_sub(earlier.system);
        let threads = self.threads.saturating_sub(earlier.threads);
        Self { user, system, threads }
    }

    /// Both together: exactly, unless a thread has ended meanwhile and took its own with it.
    #[must_use]
    pub fn total(self) -> Duration {
        let counted = self.user + self.system;
        if self.threads.abs_diff(counted) <= 3 * TICK { self.threads } else { counted }
    }
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The command's name stands in brackets and may hold anything; fields 14 and 15 follow after it.
fn parse_stat(stat: &str) -> Option<Cpu> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11).map(str::parse::<u32>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Cpu { user: TICK * user, system: TICK * system, threads: Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 31 0 0 20 0 1 0 5 0 0";
        let cpu = parse_stat(stat).unwrap();
        assert_eq!((cpu.user.as_millis(), cpu.system.as_millis()), (2_500, 310));
    }

    #[test]
    fn this_process_has_a_size() {
        assert!(resident(std::process::id()).unwrap() > 100_000);
        assert!(Cpu::of(std::process::id()).is_some());
    }
}
