//! The middle of some measurements, and how sure it is.
//!
//! Owns: the median, and its 95 % interval from the order statistics: no assumption about how the measurements are spread, and no
//! fewer than six of them. Refuses to know: what was measured.

/// A median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Middle {
    /// The median; not a number where there is nothing to take it from.
    pub median: f64,
    /// With a chance of at least 95 % the true median lies within; none when there are too few measurements for that.
    pub interval: Option<(f64, f64)>,
}

/// Of these values. One that is not a number makes all of it unknown: it stands for a measurement that failed.
#[must_use]
pub fn middle(mut values: Vec<f64>) -> Middle {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return Middle { median: f64::NAN, interval: None };
    }
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let median = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
    let interval = outermost(count).map(|skipped| (values[skipped], values[count - 1 - skipped]));
    Middle { median, interval }
}

/// How many of the smallest, and as many of the largest, lie outside of the narrowest interval that still holds the true median in 95
/// of 100 cases. Each value lies below it or above it like a coin: the interval misses when fewer than that fall on one side.
fn outermost(count: usize) -> Option<usize> {
    let mut chance = 0.5_f64.powi(i32::try_from(count).ok()?);
    let (mut below, mut skipped) = (chance, None);
    for fallen in 0..count / 2 {
        if 2.0 * below > 0.05 {
            break;
        }
        skipped = Some(fallen);
        chance *= (count - fallen) as f64 / (fallen + 1) as f64;
        below += chance;
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook's table of the sign test's interval.
    #[test]
    fn the_interval_is_that_of_the_tables() {
        let places: Vec<_> = [5, 6, 8, 9, 12, 15, 20, 25].map(outermost).to_vec();
        assert_eq!(places, [None, Some(0), Some(0), Some(1), Some(2), Some(3), Some(5), Some(7)]);
    }

    #[test]
    fn medians_are_medians() {
        assert_eq!(middle(vec![3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        let nine = middle((1..=9).map(f64::from).collect());
        assert_eq!(nine, Middle { median: 5.0, interval: Some((2.0, 8.0)) });
        assert!(middle(vec![1.0, f64::NAN]).median.is_nan());
    }
}
