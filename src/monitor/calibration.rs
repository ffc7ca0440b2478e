//! Scores against outcomes: the reliability curve, how far it lies from the diagonal, and what calibrated scores say of
//! themselves before any outcome is known.
//!
//! Always holds: the estimate without labels (CBPE: confidence-based performance estimation) is an estimate under the
//! assumption that a score of 0.8 comes true eight times in ten. It is shown as that, and decides nothing.

use serde::{Deserialize, Serialize};

/// Bins of equal width between 0 and 1.
pub const BINS: usize = 10;

/// One bin of the curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Rows with a score in it.
    pub count: u64,
    /// Sum of their scores.
    pub scores: f64,
    /// How many came true.
    pub positives: u64,
}

/// Outcomes by score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    bins: [Bin; BINS],
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Mean score.
    pub predicted: f64,
    /// Share that came true.
    pub observed: f64,
    /// Rows.
    pub count: u64,
}

impl Reliability {
    /// Takes a row in; a score that is no probability is passed over.
    pub fn add(&mut self, score: f64, is_positive: bool) {
        if !(0.0..=1.0).contains(&score) {
            return;
        }
        // As scikit-learn has it: an edge belongs to the bin below.
        let at = (1..BINS).filter(|k| score > *k as f64 * (1.0 / BINS as f64)).count();
        if let Some(bin) = self.bins.get_mut(at) {
            bin.count += 1;
            bin.scores += score;
            bin.positives += u64::from(is_positive);
        }
    }

    /// Takes another's rows in.
    pub fn merge(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.count += other.count;
            bin.scores += other.scores;
            bin.positives += other.positives;
        }
    }

    /// The curve, by rising score; bins without rows have no point.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        let filled = self.bins.iter().filter(|bin| bin.count > 0);
        let point = |bin: &Bin| CurvePoint {
            predicted: bin.scores / bin.count as f64,
            observed: bin.positives as f64 / bin.count as f64,
            count: bin.count,
        };
        filled.map(point).collect()
    }

    /// Expected calibration error: mean distance of score and share over the rows.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        let rows: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let gaps: f64 = self
            .bins
            .iter()
            .map(|bin| (bin.scores - bin.positives as f64).abs())
            .sum();
        (rows > 0).then(|| gaps / rows as f64)
    }
}

/// What calibrated scores of two classes let one expect (Garg et al. 2022 name the assumption; NannyML the method).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    rows: f64,
    right: f64,
    brier: f64,
    positives: f64,
}

impl Expected {
    /// Takes a score in, which is called positive from `threshold` on.
    pub fn add(&mut self, score: f64, threshold: f64) {
        if (0.0..=1.0).contains(&score) {
            self.rows += 1.0;
            self.right += if score >= threshold { score } else { 1.0 - score };
            self.brier += score * (1.0 - score);
            self.positives += score;
        }
    }

    /// Takes another's rows in.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.right += other.right;
        self.brier += other.brier;
        self.positives += other.positives;
    }

    /// Estimated accuracy, Brier loss and share of positives.
    #[must_use]
    pub fn estimate(&self) -> Option<(f64, f64, f64)> {
        let mean = |sum: f64| sum / self.rows;
        (self.rows > 0.0).then(|| (mean(self.right), mean(self.brier), mean(self.positives)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_probability_has_no_part() {
        let (mut curve, mut expected) = (Reliability::default(), Expected::default());
        for score in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            curve.add(score, true);
            expected.add(score, 0.5);
        }
        assert_eq!(
            (curve.error(), expected.estimate(), curve.curve().len()),
            (None, None, 0)
        );
        curve.add(0.0, false);
        curve.add(1.0, true);
        assert_eq!(curve.error(), Some(0.0));
    }

    #[test]
    fn calibrated_scores_estimate_the_accuracy_that_their_outcomes_have() {
        let (mut expected, mut right) = (Expected::default(), 0.0);
        for k in 0..1_000 {
            let score = f64::from(k) / 1_000.0;
            expected.add(score, 0.4);
            right += if score >= 0.4 { score } else { 1.0 - score };
        }
        let (accuracy, brier, positives) = expected.estimate().unwrap();
        assert!((accuracy - right / 1_000.0).abs() < 1e-9 && (positives - 0.4995).abs() < 1e-9);
        assert!((brier - 1.0 / 6.0).abs() < 1e-3);
    }
}
