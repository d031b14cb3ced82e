//! What a cell has found.
//!
//! Owns: figures in rounds, their targets, and whether a target is met. Refuses to know: how they were measured.

use super::plot::Plot;
use super::statistics::{self, Middle};

/// Homeroom and its yardstick, measured one after the other in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Homeroom's figure.
    pub ours: f64,
    /// The yardstick's.
    pub yardstick: f64,
}

impl Round {
    /// Ours to the yardstick's. Without a yardstick's there is none.
    #[must_use]
    pub fn ratio(self) -> f64 {
        if self.yardstick > 0.0 { self.ours / self.yardstick } else { f64::NAN }
    }
}

/// What has to be reached.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The ratio is at most this.
    AtMost(f64),
    /// The ratio is at least this.
    AtLeast(f64),
    /// Our own figure is at most this, in the line's unit; the yardstick's stands beside it to compare.
    OursAtMost(f64),
    /// Nothing: it is told because another figure can't be understood without it.
    Told,
}

/// Whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies on the right side.
    Met,
    /// The whole interval lies on the wrong side.
    NotMet,
    /// The target lies inside the interval, or there were too few rounds for one.
    NotShown,
    /// There is no target.
    None,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Line {
    /// What is measured, in words.
    pub name: String,
    /// Of both figures.
    pub unit: &'static str,
    /// What the yardstick is, in words.
    pub yardstick: &'static str,
    /// What has to be reached.
    pub target: Target,
    /// The measurements.
    pub rounds: Vec<Round>,
    /// What one has to know to read it; may be empty.
    pub note: String,
    /// The largest share of a processor that this program itself used in any window, 0 to 1, where that matters.
    pub client: Option<f64>,
}

/// All that a cell has found.
#[derive(Debug, Default)]
pub struct Found {
    /// For the table.
    pub lines: Vec<Line>,
    /// To be drawn.
    pub plots: Vec<Plot>,
}

impl From<Vec<Line>> for Found {
    fn from(lines: Vec<Line>) -> Self {
        Self { lines, plots: Vec::new() }
    }
}

impl Line {
    /// The ratio's middle.
    #[must_use]
    pub fn ratio(&self) -> Middle {
        self.middle(Round::ratio)
    }

    /// Our figure's middle.
    #[must_use]
    pub fn ours(&self) -> Middle {
        self.middle(|round| round.ours)
    }

    /// The yardstick's.
    #[must_use]
    pub fn theirs(&self) -> Middle {
        self.middle(|round| round.yardstick)
    }

    fn middle(&self, of: fn(Round) -> f64) -> Middle {
        statistics::middle(self.rounds.iter().map(|round| of(*round)).collect())
    }

    /// Whether the target is met.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (middle, is_right): (Middle, &dyn Fn(f64) -> bool) = match &self.target {
            Target::AtMost(most) => (self.ratio(), &move |value| value <= *most),
            Target::AtLeast(least) => (self.ratio(), &move |value| value >= *least),
            Target::OursAtMost(most) => (self.ours(), &move |value| value <= *most),
            Target::Told => return Verdict::None,
        };
        match middle.interval.map(|(low, high)| (is_right(low), is_right(high))) {
            Some((true, true)) => Verdict::Met,
            Some((false, false)) => Verdict::NotMet,
            _ => Verdict::NotShown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: Target, ratios: &[f64]) -> Line {
        let rounds = ratios.iter().map(|ours| Round { ours: *ours, yardstick: 1.0 }).collect();
        Line { name: String::new(), unit: "", yardstick: "", target, rounds, note: String::new(), client: None }
    }

    #[test]
    fn a_target_is_met_only_by_the_whole_interval() {
        let around_one = [0.9, 0.95, 1.0, 1.0, 1.05, 1.1];
        assert_eq!(line(Target::AtMost(1.2), &around_one).verdict(), Verdict::Met);
        assert_eq!(line(Target::AtMost(1.05), &around_one).verdict(), Verdict::NotShown);
        assert_eq!(line(Target::AtMost(0.8), &around_one).verdict(), Verdict::NotMet);
        assert_eq!(line(Target::AtLeast(0.8), &around_one).verdict(), Verdict::Met);
        assert_eq!(line(Target::AtLeast(1.2), &around_one).verdict(), Verdict::NotMet);
        assert_eq!(line(Target::OursAtMost(1.2), &around_one).verdict(), Verdict::Met);
        assert_eq!(line(Target::Told, &around_one).verdict(), Verdict::None);
    }

    #[test]
    fn too_few_rounds_show_nothing() {
        assert_eq!(line(Target::AtMost(9.0), &[1.0; 5]).verdict(), Verdict::NotShown);
    }

    #[test]
    fn without_a_yardstick_nothing_is_met() {
        let rounds = vec![Round { ours: 1.0, yardstick: 0.0 }; 9];
        assert_eq!(Line { rounds, ..line(Target::AtMost(2.0), &[]) }.verdict(), Verdict::NotShown);
    }
}
