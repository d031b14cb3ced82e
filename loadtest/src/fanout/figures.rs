//! The figures of a window, and their comparison.
//!
//! Owns: arithmetic and words. Refuses to know: how the counters came to be.

use super::field::Field;
use crate::process::Cpu;
use hdrhistogram::Histogram;
use std::time::Duration;
use tokio::time::Instant;

/// The counters at one moment.
pub struct Reading {
    /// When.
    pub at: Instant,
    /// The server's CPU time.
    pub server: Cpu,
    /// This program's.
    pub own: Cpu,
    /// Events received.
    pub deliveries: u64,
    /// Announcements acknowledged.
    pub acks: u64,
}

/// What a window amounted to. Times in microseconds.
pub struct Figures {
    /// Announcements acknowledged.
    pub acks: u64,
    /// Events received.
    pub deliveries: u64,
    /// The server's CPU in all.
    pub server: Duration,
    /// The server's CPU a delivery.
    pub cpu: f64,
    /// In user space; the kernel tells it from its own part only by a few hundred samples a second.
    pub user: Option<f64>,
    /// The same, however few the samples.
    pub user_sampled: f64,
    /// This program's share of a processor, in hundredths.
    pub own_share: f64,
    acks_per_second: f64,
    deliveries_per_second: f64,
    server_share: f64,
    /// From the moment due.
    pub p50: f64,
    /// The same.
    pub p99: f64,
    p999: f64,
    longest: f64,
}

impl Figures {
    /// From the readings around a window.
    pub fn new(before: &Reading, after: &Reading, latency: Option<Histogram<u64>>) -> Self {
        let seconds = (after.at - before.at).as_secs_f64();
        let deliveries = after.deliveries - before.deliveries;
        let server = after.server.since(before.server);
        // Where nothing was delivered, nothing is known of a delivery: that is no number, not a cheap one.
        let each = |time: Duration| match deliveries {
            0 => f64::NAN,
            deliveries => time.as_secs_f64() * 1e6 / deliveries as f64,
        };
        let quantile = |quantile| latency.as_ref().map_or(0.0, |latency| latency.value_at_quantile(quantile) as f64);
        let acks = after.acks - before.acks;
        Self {
            acks,
            deliveries,
            server: server.total(),
            acks_per_second: acks as f64 / seconds,
            deliveries_per_second: deliveries as f64 / seconds,
            server_share: server.total().as_secs_f64() / seconds * 100.0,
            cpu: each(server.total()),
            user: (server.total() >= Duration::from_secs(1)).then(|| each(server.user)),
            user_sampled: each(server.user),
            own_share: after.own.since(before.own).total().as_secs_f64() / seconds * 100.0,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            longest: latency.as_ref().map_or(0.0, |latency| latency.max() as f64),
        }
    }

    /// Says them.
    pub fn print(&self, field: &Field, round: u32) {
        println!("-- {:?}, window {round}", field.kind);
        println!(
            "announcements: {:.1}/s; deliveries: {:.0}/s of {} bytes",
            self.acks_per_second,
            self.deliveries_per_second,
            field.frame_bytes.get()
        );
        println!(
            "server: {:.2} µs of CPU a delivery{}; {:.0} % of a core",
            self.cpu,
            self.user.map_or_else(String::new, |user| format!(", {user:.2} of them in user space")),
            self.server_share
        );
        println!(
            "latency from the moment due: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
            self.p50 / 1e3,
            self.p99 / 1e3,
            self.p999 / 1e3,
            self.longest / 1e3
        );
        println!("this client: {:.0} % of a core", self.own_share);
        if self.own_share > 90.0 {
            println!("THE CLIENT WAS THE LIMIT: rates and latencies above are its own");
        }
        for (error, times) in &*field.errors.borrow() {
            println!("{times} × {error}");
        }
    }

    /// Says the ratios of the medians.
    pub fn compare(homeroom: &[Self], bare: &[Self]) {
        let ratio = |of: fn(&Self) -> f64| median(homeroom, of) / median(bare, of).max(f64::MIN_POSITIVE);
        println!("-- Homeroom to bare, medians of {} windows each", homeroom.len());
        println!(
            "CPU a delivery {:.2}; p50 {:.2}, p99 {:.2}; deliveries a second {:.2}",
            ratio(|figures| figures.cpu),
            ratio(|figures| figures.p50),
            ratio(|figures| figures.p99),
            ratio(|figures| figures.deliveries_per_second)
        );
    }
}

fn median(figures: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_without_deliveries_says_nothing_of_one() {
        let at = Instant::now();
        let reading = |seconds, deliveries| Reading {
            at: at + Duration::from_secs(seconds),
            server: Cpu::default(),
            own: Cpu::default(),
            deliveries,
            acks: 0,
        };
        assert!(Figures::new(&reading(0, 5), &reading(1, 5), None).cpu.is_nan());
        assert_eq!(Figures::new(&reading(0, 5), &reading(1, 6), None).cpu, 0.0);
    }
}
