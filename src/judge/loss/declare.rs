//! Which metric the settings mean for a task, and whether its numbers are in range.

use serde::{Deserialize, Serialize};

use super::{DEFAULT_CLIP, DEFAULT_THRESHOLD, Metric, UNKNOWN_BOUND};
use crate::score::Task;

/// The largest loss that counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This one.
    Declared(f64),
    /// To be estimated from the first labels, before evidence starts.
    Auto,
}

impl Bound {
    /// The number, which is not known yet where it is to be estimated.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Declared(bound) => bound,
            Self::Auto => UNKNOWN_BOUND,
        }
    }
}

/// What model.toml says beside the metric's name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Loss bound; required for errors of values and rewards, refused otherwise.
    pub bound: Option<Bound>,
    /// Clip of log-loss.
    pub clip: Option<f64>,
    /// Threshold of 0/1 loss.
    pub threshold: Option<f64>,
    /// Matrix of the cost metric.
    pub cost: Option<Vec<Vec<f64>>>,
    /// Quantile of pinball loss.
    pub quantile: Option<f64>,
}

impl Metric {
    /// The metric that `name` means for a task; `auto` is Brier for classes.
    ///
    /// # Errors
    /// A sentence: the metric is unknown, does not fit the task, or one of its numbers is missing or out of range.
    pub fn for_task(task: Task, name: &str, options: Options) -> Result<Self, String> {
        let bound = || {
            options.bound.map(Bound::number).ok_or_else(|| {
                format!(
                    "metric '{name}' needs 'bound', the largest loss that counts, or bound = \"auto\" to have it estimated"
                )
            })
        };
        let metric = match name {
            "auto" if task == Task::Regression => {
                return Err(
                    "a regression needs a metric and a bound: set metric = \"squared_error\", \"absolute_error\" or \
                     \"pinball\", and bound"
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
            "cost" => Self::Cost {
                matrix: options
                    .cost
                    .clone()
                    .ok_or("metric 'cost' needs 'cost', a row per true class and a column per label")?,
            },
            "auc" => Self::Auc,
            "squared_error" => Self::SquaredError { bound: bound()? },
            "absolute_error" => Self::AbsoluteError { bound: bound()? },
            "pinball" => Self::Pinball {
                quantile: options
                    .quantile
                    .ok_or("metric 'pinball' needs 'quantile', for example quantile = 0.9")?,
                bound: bound()?,
            },
            "rewards" => Self::Rewards { bound: bound()? },
            _ => {
                return Err(format!(
                    "metric '{name}' is not known: choose brier, log_loss, zero_one, cost, auc or rewards for classes, \
                     squared_error, absolute_error or pinball for values"
                ));
            }
        };
        if let Some(own) = metric.own_bound()
            && options.bound.is_some()
        {
            return Err(format!("metric '{name}' has its own bound, {own}: remove 'bound'"));
        }
        match options.bound {
            Some(Bound::Auto) => metric.check_shape()?,
            _ => metric.check_numbers()?,
        }
        metric.check_task(task).map(|()| metric)
    }

    /// The bound that follows from the metric alone.
    fn own_bound(&self) -> Option<f64> {
        (!self.has_chosen_bound()).then(|| self.bound())
    }

    /// Whether the metric fits a task and its numbers are in range.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check(&self, task: Task) -> Result<(), String> {
        self.check_task(task).and_then(|()| self.check_numbers())
    }

    fn check_task(&self, task: Task) -> Result<(), String> {
        let name = self.name();
        match (self.is_for_classes(), task) {
            (true, Task::Regression) => Err(format!(
                "metric '{name}' is for classes, this model predicts a value: use squared_error, absolute_error or pinball"
            )),
            (false, Task::Binary | Task::Multiclass) => Err(format!(
                "metric '{name}' is for values, this model predicts classes: use brier, log_loss, zero_one, cost, auc or \
                 rewards"
            )),
            (true, Task::Multiclass) if *self == Self::Auc => Err(
                "metric 'auc' orders two classes, this model has several: use brier, log_loss, zero_one or cost"
                    .to_owned(),
            ),
            (true, Task::Binary) => match self {
                Self::Cost { matrix } if matrix.len() != 2 => Err(cost_misfit(matrix.len(), 2)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether the metric speaks of as many classes as the model has.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check_classes(&self, classes: usize) -> Result<(), String> {
        match self {
            Self::Cost { matrix } if matrix.len() != classes => Err(cost_misfit(matrix.len(), classes)),
            _ => Ok(()),
        }
    }

    /// Whether the numbers of the metric are in range.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn check_numbers(&self) -> Result<(), String> {
        let bound = self.bound();
        if self.own_bound().is_none() && !(bound > 0.0 && bound.is_finite()) {
            return Err(format!("bound = {bound}: must be a finite number above 0"));
        }
        self.check_shape()
    }

    /// The same but for the bound.
    pub(in crate::judge) fn check_shape(&self) -> Result<(), String> {
        match self {
            Self::LogLoss { clip } if !(*clip > 0.0 && *clip < 0.5) => {
                Err(format!("clip = {clip}: must lie between 0 and 0.5, both excluded"))
            }
            Self::ZeroOne { threshold } if !(0.0..=1.0).contains(threshold) => {
                Err(format!("threshold = {threshold}: must lie between 0 and 1"))
            }
            Self::Pinball { quantile, .. } if !(*quantile > 0.0 && *quantile < 1.0) => Err(format!(
                "quantile = {quantile}: must lie between 0 and 1, both excluded"
            )),
            Self::Cost { matrix } => check_cost(matrix).map_err(|why| format!("cost: {why}")),
            _ => Ok(()),
        }
    }

    fn is_for_classes(&self) -> bool {
        !matches!(
            self,
            Self::SquaredError { .. } | Self::AbsoluteError { .. } | Self::Pinball { .. }
        )
    }
}

fn cost_misfit(rows: usize, classes: usize) -> String {
    format!("cost has {rows} rows, and the model has {classes} classes: write a row and a column per class")
}

/// Whether a matrix can be a cost: square, of two classes or more, no entry below 0, one above.
///
/// # Errors
/// What is wrong with it.
pub fn check_cost(matrix: &[Vec<f64>]) -> Result<(), String> {
    /// More classes than anybody writes costs for.
    const MOST: usize = 1_000;
    if !(2..=MOST).contains(&matrix.len()) || matrix.iter().any(|row| row.len() != matrix.len()) {
        return Err(format!(
            "must be square, a row per true class and a column per label, 2 to {MOST} of them, such as [[0, 1], [5, 0]]"
        ));
    }
    if matrix.iter().flatten().any(|cost| !(*cost >= 0.0 && cost.is_finite())) {
        return Err(
            "every cost must be a finite number from 0 on: nothing earns here; use metric = \"rewards\"".to_owned(),
        );
    }
    if matrix.iter().flatten().all(|cost| *cost <= 0.0) {
        return Err("some mistake must cost something".to_owned());
    }
    Ok(())
}
