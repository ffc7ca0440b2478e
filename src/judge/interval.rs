//! An interval for the mean loss difference that holds at every look. For display only, never the trigger.
//!
//! Covers the average of the conditional means so far with probability `1 - alpha` at all times together
//! (empirical Bernstein, Howard et al. 2021; forecasts as in Choe and Ramdas 2024, theorem 2, with a discrete
//! mixture over twelve rates). Differences must lie in `[-bound, bound]`. Never intersect it over time: what it
//! covers moves.

use serde::{Deserialize, Serialize};

use super::exact;

/// Rates of the mixture: `0.45 / 2^k`. Small rates serve long records.
const RATES: usize = 12;
const LARGEST_RATE: f64 = 0.45;
/// Halvings of `[0, 2]` until f64 has no finer step.
const HALVINGS: u32 = 64;

/// Running sums of the scaled differences.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    labels: u64,
    #[serde(with = "exact")]
    sum: f64,
    #[serde(with = "exact")]
    variance: f64,
}

impl Interval {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one difference, in loss units; `bound` is the loss bound, the same at every call.
    pub fn push(&mut self, difference: f64, bound: f64) {
        let y = difference / bound;
        let predicted = self.scaled_mean();
        self.variance += (y - predicted) * (y - predicted);
        self.sum += y;
        self.labels += 1;
    }

    fn scaled_mean(&self) -> f64 {
        if self.labels == 0 {
            0.0
        } else {
            self.sum / self.labels as f64
        }
    }

    /// Mean difference so far, in loss units; 0 at the start.
    #[must_use]
    pub fn mean(&self, bound: f64) -> f64 {
        bound * self.scaled_mean()
    }

    /// Mean and variance, in loss units; `None` before the second difference.
    #[must_use]
    pub fn moments(&self, bound: f64) -> Option<(f64, f64)> {
        let variance = self.variance / self.labels as f64;
        (self.labels > 1).then(|| (self.mean(bound), variance * bound * bound))
    }

    /// Lower end, mean, upper end, in loss units and within `[-bound, bound]`.
    #[must_use]
    pub fn bounds(&self, bound: f64, alpha: f64) -> (f64, f64, f64) {
        let (mean, half) = (self.scaled_mean(), self.half_width(alpha));
        (
            bound * (mean - half).max(-1.0),
            bound * mean,
            bound * (mean + half).min(1.0),
        )
    }

    /// The half width h at which the mixture reaches `2 / alpha`; 2 when it lies beyond, as the cut does the rest.
    fn half_width(&self, alpha: f64) -> f64 {
        let (mut low, mut high) = (0.0, 2.0);
        if self.mixture(high) < 2.0 / alpha {
            return high;
        }
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if self.mixture(middle) < 2.0 / alpha {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// `(1/12) sum exp(rate n h - psi V)`; infinite when it overflows, which compares rightly.
    fn mixture(&self, h: f64) -> f64 {
        let (mut sum, mut rate) = (0.0, LARGEST_RATE);
        for _ in 0..RATES {
            let psi = (-libm::log(1.0 - 2.0 * rate) - 2.0 * rate) / 4.0;
            sum += libm::exp(rate * self.labels as f64 * h - psi * self.variance);
            rate /= 2.0;
        }
        sum / RATES as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_means_anything_is_possible() {
        assert_eq!(Interval::new().bounds(0.5, 0.05), (-0.5, 0.0, 0.5));
    }

    #[test]
    fn it_narrows_around_the_mean_in_loss_units() {
        let mut interval = Interval::new();
        for i in 0..20_000 {
            interval.push(if i % 2 == 0 { 0.4 } else { 0.0 }, 2.0);
        }
        let (low, mean, high) = interval.bounds(2.0, 0.05);
        assert!(
            (mean - 0.2).abs() < 1e-9 && low < mean && mean < high && high - low < 0.05,
            "{low} {high}"
        );
    }
}
