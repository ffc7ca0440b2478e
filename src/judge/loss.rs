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
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn brier_is_the_same_for_two_classes_in_either_shape() {
        let (pair, one) = (Score::Classes([0.7, 0.3].into()), Score::Binary(0.3));
        for class in [0, 1] {
            let truth = Truth::Class(class);
            assert!(close(
                Metric::Brier.loss(&pair, &truth),
                Metric::Brier.loss(&one, &truth)
            ));
        }
        assert!(close(
            Metric::Brier.loss(&Score::Classes([0.0, 1.0, 0.0].into()), &Truth::Class(0)),
            1.0
        ));
    }

    #[test]
    fn every_loss_is_bounded_and_a_malformed_score_loses_the_bound() {
        let metrics = [
            Metric::Brier,
            Metric::LogLoss { clip: 0.05 },
            Metric::ZeroOne { threshold: 0.5 },
            Metric::SquaredError { bound: 4.0 },
            Metric::AbsoluteError { bound: 2.0 },
        ];
        let scores = [
            Score::Binary(f64::NAN),
            Score::Binary(-3.0),
            Score::Binary(9.0),
            Score::Classes([].into()),
            Score::Classes([0.2, f64::INFINITY].into()),
            Score::Value(1e300),
            Score::Value(0.5),
        ];
        for metric in metrics {
            for score in &scores {
                for truth in [Truth::Class(0), Truth::Class(1), Truth::Class(7), Truth::Value(0.0)] {
                    let loss = metric.loss(score, &truth);
                    assert!(
                        (0.0..=metric.bound()).contains(&loss),
                        "{metric:?} {score:?} {truth:?} {loss}"
                    );
                }
            }
            assert!(close(
                metric.loss(&Score::Binary(f64::NAN), &Truth::Class(1)),
                metric.bound()
            ));
            assert!(close(
                metric.loss(&Score::Classes([1.0].into()), &Truth::Class(1)),
                metric.bound()
            ));
        }
    }

    #[test]
    fn zero_one_uses_the_threshold_and_the_first_largest_class() {
        let metric = Metric::ZeroOne { threshold: 0.8 };
        assert!(close(metric.loss(&Score::Binary(0.79), &Truth::Class(0)), 0.0));
        assert!(close(metric.loss(&Score::Binary(0.8), &Truth::Class(0)), 1.0));
        let tie = Score::Classes([0.4, 0.4, 0.2].into());
        assert!(close(metric.loss(&tie, &Truth::Class(0)), 0.0) && close(metric.loss(&tie, &Truth::Class(1)), 1.0));
    }

    #[test]
    fn log_loss_is_cut_at_its_clip() {
        let metric = Metric::LogLoss { clip: 0.05 };
        assert!(close(metric.bound(), 20f64.ln()));
        assert!(close(metric.loss(&Score::Binary(0.25), &Truth::Class(1)), 4f64.ln()));
        assert!(close(metric.loss(&Score::Binary(0.0), &Truth::Class(1)), 20f64.ln()));
    }

    #[test]
    fn a_metric_that_does_not_fit_is_refused_with_a_sentence() {
        let with_bound = Options {
            bound: Some(1.0),
            ..Options::default()
        };
        for (task, name, options) in [
            (Task::Regression, "auto", Options::default()),
            (Task::Regression, "squared_error", Options::default()),
            (Task::Regression, "log_loss", Options::default()),
            (Task::Binary, "squared_error", with_bound),
            (Task::Binary, "log_loss", with_bound),
            (
                Task::Binary,
                "log_loss",
                Options {
                    clip: Some(0.0),
                    ..Options::default()
                },
            ),
            (Task::Binary, "accuracy", Options::default()),
            (
                Task::Regression,
                "squared_error",
                Options {
                    bound: Some(f64::INFINITY),
                    ..Options::default()
                },
            ),
        ] {
            assert!(
                Metric::for_task(task, name, options).unwrap_err().len() > 20,
                "{task:?} {name}"
            );
        }
        assert_eq!(
            Metric::for_task(Task::Multiclass, "auto", Options::default()),
            Ok(Metric::Brier)
        );
        assert_eq!(
            Metric::for_task(Task::Regression, "absolute_error", with_bound),
            Ok(Metric::AbsoluteError { bound: 1.0 })
        );
    }
}
