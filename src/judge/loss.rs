//! The declared metric: how wrong a score is, as a bounded loss.
//!
//! Always holds: `0 <= loss <= bound()`, whatever comes in. A score that is not finite, of another kind than the truth,
//! or without the true class loses the bound: a malformed answer is the version's own fault.
//! Leaves to others: which metric fits which task (`declare`), and what needs more than one score and its truth:
//! rewards and the order of two rows are asked for by the pairing stage.

mod declare;

use serde::{Deserialize, Serialize};

use crate::score::{Score, Truth};

pub use declare::{Bound, Options, check_cost};

/// Smallest probability that log-loss tells apart, unless set: bounds the loss at ln 20.
pub const DEFAULT_CLIP: f64 = 0.05;
/// From this score on a binary prediction is positive, unless set.
pub const DEFAULT_THRESHOLD: f64 = 0.5;
/// The bound of a metric whose bound is yet to be estimated.
pub const UNKNOWN_BOUND: f64 = 0.0;

/// A bounded loss. Smaller is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Metric {
    /// Squared error of the probabilities; halved over several classes, so that the bound is 1.
    Brier,
    /// Minus the logarithm of the true class' probability, at most `-ln clip`.
    LogLoss {
        /// Probabilities below it count as it.
        clip: f64,
    },
    /// 1 for a wrong label, else 0.
    ZeroOne {
        /// Binary: positive from this score on, for versions without a threshold of their own. Several classes take
        /// the largest score.
        threshold: f64,
    },
    /// What the version's own label costs.
    Cost {
        /// A row per true class, a column per label of the version, in class order; of two classes the negative one
        /// comes first.
        matrix: Vec<Vec<f64>>,
    },
    /// The share of positives that are ordered below a negative: a match of two rows is one observation.
    Auc,
    /// Squared error of a value, cut at `bound`.
    SquaredError {
        /// Loss bound.
        bound: f64,
    },
    /// Absolute error of a value, cut at `bound`.
    AbsoluteError {
        /// Loss bound.
        bound: f64,
    },
    /// Loss of a predicted quantile: an outcome above it costs `quantile` per unit, one below it the rest of 1.
    Pinball {
        /// Which quantile, between 0 and 1.
        quantile: f64,
        /// Loss bound.
        bound: f64,
    },
    /// What the best label of the row would have earned, less what the version's own label earns, cut at `bound`.
    Rewards {
        /// Loss bound.
        bound: f64,
    },
}

impl Metric {
    /// Name in model.toml.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Brier => "brier",
            Self::LogLoss { .. } => "log_loss",
            Self::ZeroOne { .. } => "zero_one",
            Self::Cost { .. } => "cost",
            Self::Auc => "auc",
            Self::SquaredError { .. } => "squared_error",
            Self::AbsoluteError { .. } => "absolute_error",
            Self::Pinball { .. } => "pinball",
            Self::Rewards { .. } => "rewards",
        }
    }

    /// The largest loss, B.
    #[must_use]
    pub fn bound(&self) -> f64 {
        match self {
            Self::Brier | Self::ZeroOne { .. } | Self::Auc => 1.0,
            Self::LogLoss { clip } => -libm::log(*clip),
            Self::Cost { matrix } => matrix.iter().flatten().copied().fold(0.0, f64::max),
            Self::SquaredError { bound }
            | Self::AbsoluteError { bound }
            | Self::Pinball { bound, .. }
            | Self::Rewards { bound } => *bound,
        }
    }

    /// The bound that is declared or estimated; `None` where the metric has one of its own.
    pub(super) fn bound_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::SquaredError { bound }
            | Self::AbsoluteError { bound }
            | Self::Pinball { bound, .. }
            | Self::Rewards { bound } => Some(bound),
            Self::Brier | Self::LogLoss { .. } | Self::ZeroOne { .. } | Self::Cost { .. } | Self::Auc => None,
        }
    }

    /// True when the bound is declared or estimated, so that losses may lie beyond it.
    #[must_use]
    pub fn has_chosen_bound(&self) -> bool {
        matches!(
            self,
            Self::SquaredError { .. } | Self::AbsoluteError { .. } | Self::Pinball { .. } | Self::Rewards { .. }
        )
    }

    /// Its numbers, in a fixed order.
    pub(super) fn numbers_mut(&mut self) -> Vec<&mut f64> {
        match self {
            Self::Brier | Self::Auc => Vec::new(),
            Self::LogLoss { clip } => vec![clip],
            Self::ZeroOne { threshold } => vec![threshold],
            Self::Cost { matrix } => matrix.iter_mut().flatten().collect(),
            Self::SquaredError { bound } | Self::AbsoluteError { bound } | Self::Rewards { bound } => vec![bound],
            Self::Pinball { quantile, bound } => vec![quantile, bound],
        }
    }

    /// True when a version's label counts, and not its score: its threshold decides what it loses.
    #[must_use]
    pub fn rests_on_labels(&self) -> bool {
        matches!(self, Self::ZeroOne { .. } | Self::Cost { .. } | Self::Rewards { .. })
    }

    /// From which score on the label of a version without a threshold of its own is positive.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        match self {
            Self::ZeroOne { threshold } => *threshold,
            _ => DEFAULT_THRESHOLD,
        }
    }

    /// [`Metric::loss_at`] for a version without a threshold of its own.
    #[must_use]
    pub fn loss(&self, score: &Score, truth: &Truth) -> f64 {
        self.loss_at(score, truth, self.threshold())
    }

    /// Loss of a score against the truth, within `[0, bound()]`; its label is positive from `threshold` on. What needs
    /// more than a score and its truth, rewards and the order of rows, gives the bound here.
    #[must_use]
    pub fn loss_at(&self, score: &Score, truth: &Truth, threshold: f64) -> f64 {
        let bound = self.bound();
        match self.uncut(score, truth, threshold) {
            Some(loss) if !loss.is_nan() => loss.clamp(0.0, bound),
            _ => bound,
        }
    }

    /// The loss before it is cut at the bound; `None` for a score that does not fit.
    pub(super) fn uncut(&self, score: &Score, truth: &Truth, threshold: f64) -> Option<f64> {
        if !score.is_finite() {
            return None;
        }
        match (score, truth) {
            (Score::Binary(p), Truth::Class(class @ (0 | 1))) => self.binary(*p, *class == 1, threshold),
            (Score::Classes(scores), Truth::Class(class)) => self.classes(scores, usize::try_from(*class).ok()?),
            (Score::Value(value), Truth::Value(truth)) => match self {
                Self::SquaredError { .. } => Some((value - truth) * (value - truth)),
                Self::AbsoluteError { .. } => Some((value - truth).abs()),
                Self::Pinball { quantile, .. } if truth >= value => Some(quantile * (truth - value)),
                Self::Pinball { quantile, .. } => Some((1.0 - quantile) * (value - truth)),
                _ => None,
            },
            _ => None,
        }
    }

    fn binary(&self, p: f64, positive: bool, threshold: f64) -> Option<f64> {
        let of_truth = if positive { p } else { 1.0 - p };
        match self {
            Self::Brier => Some((1.0 - of_truth) * (1.0 - of_truth)),
            Self::LogLoss { clip } => Some(-libm::log(of_truth.max(*clip))),
            Self::ZeroOne { .. } => Some(if (p >= threshold) == positive { 0.0 } else { 1.0 }),
            Self::Cost { matrix } => cost(matrix, usize::from(positive), usize::from(p >= threshold)),
            _ => None,
        }
    }

    fn classes(&self, scores: &[f64], class: usize) -> Option<f64> {
        let of_truth = *scores.get(class)?;
        match self {
            Self::Brier => {
                let mut sum = 0.0;
                for (k, score) in scores.iter().enumerate() {
                    let error = if k == class { 1.0 - score } else { *score };
                    sum += error * error;
                }
                Some(sum / 2.0)
            }
            Self::LogLoss { clip } => Some(-libm::log(of_truth.max(*clip))),
            Self::ZeroOne { .. } => Some(if largest(scores) == Some(class) { 0.0 } else { 1.0 }),
            Self::Cost { matrix } => cost(matrix, class, largest(scores)?),
            _ => None,
        }
    }

    /// What `label` loses where the labels of a row would have earned this much, within `[0, bound()]`; `None` where
    /// nobody has said what it earns.
    #[must_use]
    pub fn loss_of_rewards(&self, label: usize, table: &[Option<f64>]) -> Option<f64> {
        let earns = table.get(label).copied().flatten()?;
        let best = table.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let loss = best - earns;
        // A number that is none is nobody's word; huge ones that overflow are cut like all others.
        (!loss.is_nan()).then(|| loss.clamp(0.0, self.bound()))
    }
}

/// The class that a score decides for, in class order (binary: 1 is positive, from `threshold` on); of several the
/// largest, the first of equals. `None` for a value and for a score that is not finite.
#[must_use]
pub fn label_of(score: &Score, threshold: f64) -> Option<usize> {
    match score {
        Score::Binary(p) if p.is_finite() => Some(usize::from(*p >= threshold)),
        Score::Classes(scores) if score.is_finite() => largest(scores),
        _ => None,
    }
}

/// How wrong the order of a negative and a positive row is: 1 where the negative has the larger score, 1/2 for a tie.
#[must_use]
pub fn misorder(negative: f64, positive: f64) -> f64 {
    match negative.partial_cmp(&positive) {
        Some(std::cmp::Ordering::Less) => 0.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 1.0,
    }
}

fn cost(matrix: &[Vec<f64>], truth: usize, label: usize) -> Option<f64> {
    matrix.get(truth)?.get(label).copied()
}

/// The index of the largest score, the first of equals.
fn largest(scores: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, &score) in scores.iter().enumerate() {
        if best.is_none_or(|(_, largest)| score > largest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests;
