//! The bet: a test that one version loses less than another, valid at every look.
//!
//! Wealth starts at 1. Each pair is a bet on a bounded difference `x`, shared over eight bet sizes; half of the
//! bank plays from the first pair, the rest is released slowly for ever, so that a version which starts to win
//! late is still found.
//!
//! Guarantee (one-sided): if `E[x | past] <= 0` at every step, wealth is a nonnegative supermartingale started
//! at 1, so it ever reaches `b` with probability at most `1/b`, however often one looks (Ville 1939; betting
//! as in Waudby-Smith and Ramdas 2024, restarts as in the e-detectors of Shin, Ramdas and Rinaldo 2024).
//! No independence, no equal variances and no horizon are assumed.
//!
//! Always holds: `0 < value() <= 8e200`, and the same pairs give the same bits on every machine (`log2` and
//! `ln` come from `libm`, cells are added in ascending order). Bars and waiting rules are left to others.

use serde::{Deserialize, Serialize};

/// Number of bet sizes.
pub const CELLS: usize = 8;
/// The largest bet: below 1, so that no single pair can take everything.
const LARGEST_BET: f64 = 0.9;
/// Share of the bank that is not handed out at the first pair, and then more and more slowly.
const RESERVE: f64 = 0.5;
/// A cell never holds more: keeps sums finite. A cap only lowers wealth, so the guarantee stays.
const CAP: f64 = 1e200;

/// The bet sizes `0.9 / 2^k`: the nearest one keeps at least 89 % of the best growth rate.
pub const BETS: [f64; CELLS] = bets();
/// The share of each bet size, proportional to `1/(k+2)`: large bets first, since they pay off soonest.
pub const PRIOR: [f64; CELLS] = prior();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn bets() -> [f64; CELLS] {
    let (mut bets, mut bet, mut k) = ([0.0; CELLS], LARGEST_BET, 0);
    while k < CELLS {
        bets[k] = bet;
        bet /= 2.0;
        k += 1;
    }
    bets
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn prior() -> [f64; CELLS] {
    let (mut prior, mut sum, mut k) = ([0.0; CELLS], 0.0, 0);
    while k < CELLS {
        prior[k] = 1.0 / (k as f64 + 2.0);
        sum += prior[k];
        k += 1;
    }
    k = 0;
    while k < CELLS {
        prior[k] /= sum;
        k += 1;
    }
    prior
}

/// The bet's outcome for one pair of losses: how much the challenger beat the champion by, beyond `margin`,
/// scaled into [-1, 1] by the loss bound. Losses are clipped to `[0, bound]`.
#[must_use]
pub fn x(champion: f64, challenger: f64, bound: f64, margin: f64) -> f64 {
    let difference = champion.clamp(0.0, bound) - challenger.clamp(0.0, bound);
    scaled(difference, 1.0, bound, margin)
}

/// [`x`] of a clipped difference that is already multiplied by its `weight`: the margin is weighted too, else a
/// negative margin on light rows would be a gift.
#[must_use]
pub fn scaled(difference: f64, weight: f64, bound: f64, margin: f64) -> f64 {
    ((difference - weight * margin) / (bound + margin)).clamp(-1.0, 1.0)
}

/// State of one test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "Bits", from = "Bits")]
pub struct Wealth {
    labels: u64,
    cash: f64,
    cells: [f64; CELLS],
}

/// [`Wealth`] as it is stored: floats as bits.
#[derive(Serialize, Deserialize)]
struct Bits {
    labels: u64,
    cash: u64,
    cells: [u64; CELLS],
}

impl From<Wealth> for Bits {
    fn from(w: Wealth) -> Self {
        Self {
            labels: w.labels,
            cash: w.cash.to_bits(),
            cells: w.cells.map(f64::to_bits),
        }
    }
}

impl From<Bits> for Wealth {
    fn from(b: Bits) -> Self {
        Self {
            labels: b.labels,
            cash: f64::from_bits(b.cash),
            cells: b.cells.map(f64::from_bits),
        }
    }
}

impl Default for Wealth {
    fn default() -> Self {
        Self::new()
    }
}

impl Wealth {
    /// A test that has seen nothing: wealth 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            labels: 0,
            cash: 1.0,
            cells: [0.0; CELLS],
        }
    }

    /// Places the bets on one pair. `x` in [-1, 1], see [`x`]; a NaN is taken as the worst outcome, -1.
    pub fn step(&mut self, x: f64) {
        let x = if x.is_nan() { -1.0 } else { x.clamp(-1.0, 1.0) };
        self.labels += 1;
        let left = RESERVE / libm::log2(self.labels as f64 + 2.0);
        let released = self.cash - left;
        self.cash = left;
        for ((cell, bet), share) in self.cells.iter_mut().zip(BETS).zip(PRIOR) {
            *cell = ((*cell + released * share) * (1.0 + bet * x)).min(CAP);
        }
    }

    /// The wealth.
    #[must_use]
    pub fn value(&self) -> f64 {
        let mut sum = 0.0;
        for cell in self.cells {
            sum += cell;
        }
        self.cash + sum
    }

    /// Natural logarithm of the wealth.
    #[must_use]
    pub fn ln(&self) -> f64 {
        libm::log(self.value())
    }

    /// Pairs seen.
    #[must_use]
    pub fn labels(&self) -> u64 {
        self.labels
    }

    /// What is not yet released, and the cells in ascending order: for vectors and for the curious.
    #[must_use]
    pub fn parts(&self) -> (f64, [f64; CELLS]) {
        (self.cash, self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_whole_bank_is_handed_out_and_no_more() {
        assert!((PRIOR.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        let mut wealth = Wealth::new();
        for _ in 0..10_000 {
            wealth.step(0.0);
            assert!((wealth.value() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_hundred_thousand_wins_stay_finite() {
        let mut wealth = Wealth::new();
        for _ in 0..100_000 {
            wealth.step(1.0);
        }
        assert!(wealth.value() <= 8.0 * CAP + 1.0 && wealth.ln().is_finite());
    }

    #[test]
    fn a_light_row_is_asked_for_a_light_margin() {
        // Worse by exactly the margin that is allowed: nothing to win, whatever the weight.
        for weight in [1.0, 0.5, 0.1] {
            assert!(scaled(-0.05 * weight, weight, 1.0, -0.05).abs() < 1e-15);
        }
    }

    #[test]
    fn a_nan_counts_against_the_challenger() {
        let (mut nan, mut lost) = (Wealth::new(), Wealth::new());
        nan.step(f64::NAN);
        lost.step(-1.0);
        assert_eq!(nan, lost);
    }

    proptest! {
        #[test]
        fn wealth_stays_positive_and_capped_and_survives_storage(xs in prop::collection::vec(-1.5f64..1.5, 1..400)) {
            let mut wealth = Wealth::new();
            for x in xs {
                wealth.step(x);
                let least = RESERVE / libm::log2(wealth.labels() as f64 + 2.0);
                prop_assert!(wealth.value() >= least && wealth.value() <= 8.0 * CAP + 1.0);
            }
            let stored = serde_json::to_string(&wealth).unwrap();
            let back: Wealth = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(back.parts().1.map(f64::to_bits), wealth.parts().1.map(f64::to_bits));
            prop_assert_eq!(back.parts().0.to_bits(), wealth.parts().0.to_bits());
        }

        #[test]
        fn bets_are_bounded_whatever_the_losses(a in -10f64..10.0, b in -10f64..10.0, bound in 0.01f64..5.0, share in -0.9f64..0.9) {
            let x = x(a, b, bound, share * bound);
            prop_assert!((-1.0..=1.0).contains(&x));
        }
    }
}
