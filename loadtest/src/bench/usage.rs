//! What processes used between two moments.
//!
//! Owns: reading their CPU and this program's own together. Refuses to know: whose they are.

use crate::Failure;
use crate::process::Cpu;
use tokio::time::Instant;

/// So far.
#[derive(Debug, Clone, Copy)]
pub struct Usage<const N: usize> {
    processes: [u32; N],
    cpu: [Cpu; N],
    own: Cpu,
    at: Instant,
}

/// Between two readings.
#[derive(Debug, Clone, Copy)]
pub struct Used<const N: usize> {
    /// Of each process, in microseconds.
    pub cpu: [f64; N],
    /// How long that was, in seconds.
    pub seconds: f64,
    /// This program's share of a processor, 0 to 1.
    pub client: f64,
}

impl<const N: usize> Usage<N> {
    /// Of these processes.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn of(processes: [u32; N]) -> Result<Self, Failure> {
        let mut cpu = [Cpu::default(); N];
        for (cpu, process) in cpu.iter_mut().zip(processes) {
            *cpu = Cpu::of(process).ok_or(Failure::Gone)?;
        }
        let own = Cpu::of(std::process::id()).ok_or(Failure::Gone)?;
        Ok(Self { processes, cpu, own, at: Instant::now() })
    }

    /// Since then.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn until_now(&self) -> Result<Used<N>, Failure> {
        let now = Self::of(self.processes)?;
        let seconds = (now.at - self.at).as_secs_f64();
        let mut cpu = [0.0; N];
        for (used, (now, before)) in cpu.iter_mut().zip(now.cpu.into_iter().zip(self.cpu)) {
            *used = now.since(before).total().as_secs_f64() * 1e6;
        }
        Ok(Used { cpu, seconds, client: now.own.since(self.own).total().as_secs_f64() / seconds })
    }
}

impl<const N: usize> Used<N> {
    /// What each used a second more than in quiet, in microseconds.
    #[must_use]
    pub fn more_than(&self, quiet: &Self) -> [f64; N] {
        std::array::from_fn(|process| self.cpu[process] / self.seconds - quiet.cpu[process] / quiet.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_taken_off() {
        let quiet = Used { cpu: [10.0, 0.0], seconds: 1.0, client: 0.0 };
        let busy = Used { cpu: [60.0, 30.0], seconds: 2.0, client: 0.0 };
        assert_eq!(busy.more_than(&quiet), [20.0, 15.0]);
    }
}
