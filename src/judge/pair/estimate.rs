//! The loss bound, estimated from the first labels where nobody has declared it.
//!
//! Always holds: only the champion's rows count, so that no challenger can move its own bound; a row that was estimated
//! from is no evidence; the estimate is above 0. Twice the 99.5 % quantile of the champion's losses: from 200 labels
//! that is twice the second largest, which leaves room for a challenger whose rare errors are worse, at the price of a
//! test that is at most twice as slow. Of rewards it is the largest range of a table: nobody can lose more on such a row.

use serde::{Deserialize, Serialize};

use crate::judge::loss::Metric;

/// Labels that a bound is estimated from.
pub const BOUND_LABELS: u64 = 200;
/// Above what share of the champion's losses the bound starts.
const QUANTILE: f64 = 0.995;
/// How many times that.
const ROOM: f64 = 2.0;
/// Larger losses than anybody means count as it, so that twice of it is still a number.
const LARGEST: f64 = 1e300;

/// Losses of the champion, uncut, or ranges of rewards.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Estimate(Vec<f64>);

impl Estimate {
    /// Takes one row in.
    pub(super) fn push(&mut self, loss: f64, enough: u64) {
        if !loss.is_nan() && self.labels() < enough {
            self.0.push(loss.clamp(0.0, LARGEST));
        }
    }

    pub(super) fn labels(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The bound, from `enough` rows on. Where no row of them has lost anything, one makes room for the next.
    pub(super) fn bound(&mut self, metric: &Metric, enough: u64) -> Option<f64> {
        if self.labels() < enough {
            return None;
        }
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let largest = sorted.last().copied().filter(|loss| *loss > 0.0);
        let Some(largest) = largest else {
            self.0.pop();
            return None;
        };
        if matches!(metric, Metric::Rewards { .. }) {
            return Some(largest);
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred rows"
        )]
        let at = (QUANTILE * sorted.len() as f64).ceil() as usize;
        let quantile = sorted.get(at.saturating_sub(1)).copied().filter(|loss| *loss > 0.0);
        Some(ROOM * quantile.unwrap_or(largest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(losses: impl IntoIterator<Item = f64>) -> Estimate {
        let mut estimate = Estimate::default();
        losses.into_iter().for_each(|loss| estimate.push(loss, BOUND_LABELS));
        estimate
    }

    #[test]
    fn the_bound_is_twice_the_second_largest_of_two_hundred_losses() {
        let metric = Metric::SquaredError { bound: 0.0 };
        let losses = (0..199).map(f64::from);
        assert_eq!(
            estimate(losses.clone()).bound(&metric, BOUND_LABELS),
            None,
            "one is missing"
        );
        let whole = losses.chain([1e9]);
        assert_eq!(estimate(whole.clone()).bound(&metric, BOUND_LABELS), Some(2.0 * 198.0));
        let rewards = Metric::Rewards { bound: 0.0 };
        assert_eq!(estimate(whole).bound(&rewards, BOUND_LABELS), Some(1e9));
    }

    #[test]
    fn a_champion_without_a_loss_is_waited_for_and_monsters_stay_numbers() {
        let metric = Metric::AbsoluteError { bound: 0.0 };
        let mut flawless = estimate((0..200).map(|_| 0.0));
        assert_eq!(flawless.bound(&metric, BOUND_LABELS), None);
        assert_eq!(flawless.labels(), 199);
        flawless.push(0.25, BOUND_LABELS);
        assert_eq!(flawless.bound(&metric, BOUND_LABELS), Some(0.5));
        let monsters = estimate((0..200).map(|_| f64::INFINITY)).bound(&metric, BOUND_LABELS);
        assert!(monsters.is_some_and(f64::is_finite));
    }
}
