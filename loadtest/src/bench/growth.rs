//! What a delivery costs as rooms grow.
//!
//! Owns: sizes, and the power of the size by which the cost grows. Refuses to know: what a crowd does.

use super::crowd::{Over, Pair, Shape, TEXT};
use super::plot::{Axis, Curve, Plot};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target, statistics};
use crate::{Failure, Surroundings, bare};
use std::time::Duration;

/// Deliveries a second, whatever the size: the processor's clock and caches then see the same load.
const DELIVERIES: f64 = 10_000.0;
const SIZES: [usize; 4] = [125, 250, 500, 1_000];
/// With time for everything.
const LARGE_SIZES: [usize; 3] = [2_000, 4_000, 8_000];

/// As many as an interval needs, and as many as there is time for.
const FEW_ROUNDS: u32 = 6;
const MANY_ROUNDS: u32 = 9;
/// Announcements in a window, at least: one that is half inside makes little difference then.
const ANNOUNCEMENTS: f64 = 8.0;

/// One size in rounds.
struct Size {
    members: usize,
    rounds: Vec<Round>,
    client: f64,
}

/// CPU per delivery by the room's size.
pub async fn growth(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let rounds = if budget.full { MANY_ROUNDS } else { FEW_ROUNDS };
    let budget = Budget { window: budget.window / 2, rounds: rounds.min(budget.rounds), ..*budget };
    let sizes = SIZES.into_iter().chain(LARGE_SIZES).take(if budget.full { usize::MAX } else { SIZES.len() });
    let mut measured = Vec::new();
    for members in sizes {
        measured.push(measure(surroundings, &budget, members).await?);
    }
    Ok(tell(&measured))
}

async fn measure(surroundings: &Surroundings, budget: &Budget, members: usize) -> Result<Size, Failure> {
    let rate = DELIVERIES / members as f64;
    let shape = Shape { rooms: 1, members, rate, in_flight: None, languages: 1, text: TEXT, over: Over::Plain };
    let options = bare::Options { gather: false };
    let Pair { ours, bare } = Pair::open(surroundings, shape, options, budget.window / 2).await?;
    let length = budget.window.max(Duration::from_secs_f64(ANNOUNCEMENTS / rate));
    let mut client = 0.0_f64;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let (ours, bare) = in_turn(round, ours.window(length), bare.window(length)).await?;
        client = client.max(ours.own_share.max(bare.own_share) / 100.0);
        Ok(Round { ours: ours.cpu, yardstick: bare.cpu })
    })
    .await?;
    Ok(Size { members, rounds, client })
}

/// By which power of the size the figures grow: the slope of the straight line through their logarithms.
pub fn power(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(size, figure)| (size.ln(), figure.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logarithms.iter().map(of).sum::<f64>() / count;
    let (across, up) = (mean(|point| point.0), mean(|point| point.1));
    let both = logarithms.iter().map(|point| (point.0 - across) * (point.1 - up)).sum::<f64>();
    let alone = logarithms.iter().map(|point| (point.0 - across).powi(2)).sum::<f64>();
    both / alone
}

fn tell(sizes: &[Size]) -> Found {
    let points = |of: fn(&Round) -> f64| -> Vec<(f64, f64)> {
        let middle = |size: &Size| statistics::middle(size.rounds.iter().map(of).collect()).median;
        sizes.iter().map(|size| (size.members as f64, middle(size))).collect()
    };
    let (ours, bare) = (points(|round| round.ours), points(|round| round.yardstick));
    let fitted = format!(
        "{DELIVERIES:.0} deliveries a second at each size, everything on. Fitted over all sizes, the cost of a delivery grows with the size \
         to the power of {:.2}, the yardstick's to the power of {:.2}.",
        power(&ours),
        power(&bare)
    );
    let line = |size: &Size| Line {
        name: format!("CPU per delivery in a room of {}", size.members),
        unit: "µs",
        yardstick: "bare epoll",
        target: Target::Told,
        rounds: size.rounds.clone(),
        note: String::new(),
        client: Some(size.client),
    };
    let mut lines: Vec<Line> = sizes.iter().map(line).collect();
    if let Some(last) = lines.last_mut() {
        last.note = fitted;
    }
    let plot = Plot {
        file: "growth",
        title: "CPU per delivery as a room grows".to_owned(),
        x: Axis { label: "members", logarithmic: true },
        y: Axis { label: "µs", logarithmic: false },
        curves: vec![
            Curve { name: "Homeroom".to_owned(), points: ours },
            Curve { name: "bare epoll".to_owned(), points: bare },
        ],
    };
    Found { lines, plots: vec![plot] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_found() {
        let square: Vec<_> = [1.0, 2.0, 4.0, 8.0].map(|size| (size, 3.0 * size * size)).to_vec();
        assert!((power(&square) - 2.0).abs() < 1e-9);
        assert!(power(&[(1.0, 5.0), (2.0, 5.0), (4.0, 5.0)]).abs() < 1e-9);
    }
}
