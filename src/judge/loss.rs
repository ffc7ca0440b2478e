//! The declared metric: how wrong a score is, as a bounded loss.
//!
//! Always holds: `0 <= loss <= bound()`. A score that is not finite, of another kind than the truth, or without
//! the true class loses the bound: a malformed answer is the version's own fault.

use serde::{Deserialize, Serialize};

use crate::score::{Score, Task, Truth};

/// Smallest probability that log-loss tells apart, unless set: bounds the loss at ln 20.
pub const DEFAULT_CLIP: f64 = 0.05;
/// From this score on a binary prediction is positive, unless set.
pub const DEFAULT_THRESHOLD: f64 = 0.5;

/// A bounded loss. Smaller is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Metric {
    /// Squared error of the probabilities; halved over several classes, so that the bound is 1.
    Brier,
    /// Minus the logarithm of the true class' probability, at most `-ln clip`.
    LogLoss {
        /// Probabilities below it count as it.
        clip: f64,
    },
    /// 1 for a wrong class, else 0.
    ZeroOne {
        /// Binary: positive from this score on. Several classes take the largest score.
        threshold: f64,
    },
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
}

/// What model.toml says beside the metric's name.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Loss bound; required for values, refused otherwise.
    pub bound: Option<f64>,
    /// Clip of log-loss.
    pub clip: Option<f64>,
    /// Threshold of 0/1 loss.
    pub threshold: Option<f64>,
}

impl Metric {
    /// The metric that `name` means for a task; `auto` is Brier for classes.
    ///
    /// # Errors
    /// A sentence: the metric is unknown, does not fit the task, or its bound or clip is missing or out of range.
    pub fn for_task(task: Task, name: &str, options: Options) -> Result<Self, String> {
        let bound = || {
            options
                .bound
                .ok_or_else(|| format!("metric '{name}' needs 'bound', the largest loss that counts"))
        };
        let metric = match name {
            "auto" if task == Task::Regression => {
                return Err(
                    "a regression needs a metric and a bound: set metric = \"squared_error\" or \
                            \"absolute_error\", and bound"
                        .to_owned(),
                );
            }
            "auto" | "brier" => Self::Brier,
            "log_loss" => Self::LogLoss {
                clip: options.clip.unwrap_or(DEFAULT_CLIP),
            },
            "zero_one" => Self::ZeroOne {
                threshold: options.threshold.unwrap_or(DEFAULT_THRESHOLD),
            },
            "squared_error" => Self::SquaredError { bound: bound()? },
            "absolute_error" => Self::AbsoluteError { bound: bound()? },
            _ => {
                return Err(format!(
                    "metric '{name}' is not known: choose brier, log_loss, zero_one, squared_error or absolute_error"
                ));
            }
        };
        if metric.is_for_classes() && options.bound.is_some() {
            return Err(format!(
                "metric '{name}' has its own bound, {}: remove 'bound'",
                metric.bound()
            ));
        }
        metric.check(task).map(|()| metric)
    }

    /// Whether the metric fits a task and its numbers are in range.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check(&self, task: Task) -> Result<(), String> {
        match (self.is_for_classes(), task) {
            (true, Task::Regression) => Err(format!(
                "metric '{}' is for classes, this model predicts a value: use squared_error or absolute_error",
                self.name()
            )),
            (false, Task::Binary | Task::Multiclass) => Err(format!(
                "metric '{}' is for values, this model predicts classes: use brier, log_loss or zero_one",
                self.name()
            )),
            _ => self.check_numbers(),
        }
    }

    /// Whether the numbers of the metric are in range.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check_numbers(&self) -> Result<(), String> {
        match *self {
            Self::LogLoss { clip } if !(clip > 0.0 && clip < 0.5) => {
                Err(format!("clip = {clip}: must lie between 0 and 0.5, both excluded"))
            }
            Self::ZeroOne { threshold } if !(0.0..=1.0).contains(&threshold) => {
                Err(format!("threshold = {threshold}: must lie between 0 and 1"))
            }
            Self::SquaredError { bound } | Self::AbsoluteError { bound } if !(bound > 0.0 && bound.is_finite()) => {
                Err(format!("bound = {bound}: must be a finite number above 0"))
            }
            _ => Ok(()),
        }
    }

    fn is_for_classes(&self) -> bool {
        matches!(self, Self::Brier | Self::LogLoss { .. } | Self::ZeroOne { .. })
    }

    /// Its setting, if it has one.
    pub(super) fn number_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Brier => None,
            Self::LogLoss { clip } => Some(clip),
            Self::ZeroOne { threshold } => Some(threshold),
            Self::SquaredError { bound } | Self::AbsoluteError { bound } => Some(bound),
        }
    }

    /// Name in model.toml.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Brier => "brier",
            Self::LogLoss { .. } => "log_loss",
            Self::ZeroOne { .. } => "zero_one",
            Self::SquaredError { .. } => "squared_error",
            Self::AbsoluteError { .. } => "absolute_error",
        }
    }

    /// The largest loss, B.
    #[must_use]
    pub fn bound(&self) -> f64 {
        match *self {
            Self::Brier | Self::ZeroOne { .. } => 1.0,
            Self::LogLoss { clip } => -libm::log(clip),
            Self::SquaredError { bound } | Self::AbsoluteError { bound } => bound,
        }
    }

    /// Loss of a score against the truth, within `[0, bound()]`.
    #[must_use]
    pub fn loss(&self, score: &Score, truth: &Truth) -> f64 {
        let bound = self.bound();
        match self.raw(score, truth) {
            Some(loss) if !loss.is_nan() => loss.clamp(0.0, bound),
            _ => bound,
        }
    }

    /// The loss before clipping; `None` for a score that does not fit.
    fn raw(&self, score: &Score, truth: &Truth) -> Option<f64> {
        if !score.is_finite() {
            return None;
        }
        match (score, truth) {
            (Score::Binary(p), Truth::Class(class @ (0 | 1))) => self.binary(*p, *class == 1),
            (Score::Classes(scores), Truth::Class(class)) => self.classes(scores, usize::try_from(*class).ok()?),
            (Score::Value(value), Truth::Value(truth)) => match self {
                Self::SquaredError { .. } => Some((value - truth) * (value - truth)),
                Self::AbsoluteError { .. } => Some((value - truth).abs()),
                _ => None,
            },
            _ => None,
        }
    }

    fn binary(&self, p: f64, positive: bool) -> Option<f64> {
        let of_truth = if positive { p } else { 1.0 - p };
        match *self {
            Self::Brier => Some((1.0 - of_truth) * (1.0 - of_truth)),
            Self::LogLoss { clip } => Some(-libm::log(of_truth.max(clip))),
            Self::ZeroOne { threshold } => Some(if (p >= threshold) == positive { 0.0 } else { 1.0 }),
            _ => None,
        }
    }

    fn classes(&self, scores: &[f64], class: usize) -> Option<f64> {
        let of_truth = *scores.get(class)?;
        match *self {
            Self::Brier => {
                let mut sum = 0.0;
                for (k, score) in scores.iter().enumerate() {
                    let error = if k == class { 1.0 - score } else { *score };
                    sum += error * error;
                }
                Some(sum / 2.0)
            }
            Self::LogLoss { clip } => Some(-libm::log(of_truth.max(clip))),
            Self::ZeroOne { .. } => {
                // The first of equal scores is the prediction.
                let beaten = scores
                    .iter()
                    .enumerate()
                    .any(|(k, s)| *s > of_truth || (k < class && *s >= of_truth));
                Some(if beaten { 1.0 } else { 0.0 })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
