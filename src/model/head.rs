//! From a version's outputs to scores and labels.
//!
//! Always holds: which output is read, and how, is decided once, from the file, one probe and the settings; a score
//! that leaves here is finite, and where it is a probability it lies in [0, 1]; a doubt is an error that names the
//! line to add, never a guess that turns a margin into a probability.
//! Leaves to others: running (`session`), what a score is worth (`judge`).

mod calibration;
mod find;
mod labels;
mod source;

use serde::{Deserialize, Serialize};

use super::onnx::{Classes, Scan};
use super::signature::Signature;
use super::tensor::Tensor;
use crate::score::{Score, Task, Truth};
pub use calibration::Calibration;
use source::Source;

/// What turns a raw output into a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Already a probability, or a regression's value.
    Identity,
    /// A logit: 1 / (1 + e^−x).
    Logit,
    /// Logits per class.
    Softmax,
}

/// What the settings say about reading outputs; all may be absent.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSettings {
    /// Task, or read off the signature.
    pub task: Option<Task>,
    /// The positive class, as text (`"1"`, `"UP"`), or the second class.
    pub positive: Option<String>,
    /// Name of the output with the scores; `name[2]` is one of its columns, counted from 0.
    pub score_output: Option<String>,
    /// Link of raw scores.
    pub link: Option<Link>,
    /// Score from which a binary label is positive.
    pub threshold: f64,
    /// From the version's scores to probabilities.
    pub calibration: Option<Calibration>,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            task: None,
            positive: None,
            score_output: None,
            link: None,
            threshold: 0.5,
            calibration: None,
        }
    }
}

/// A label as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LabelValue {
    /// Integer class.
    Int(i64),
    /// Named class.
    Text(String),
    /// A regression's value.
    Number(f64),
}

/// How to read a version's outputs.
#[derive(Debug, Clone)]
pub struct Head {
    /// `None`: unknown, raw outputs only.
    pub task: Option<Task>,
    /// Class names in class order; empty for a regression.
    pub classes: Option<Classes>,
    /// Index of the positive class (binary).
    pub positive: usize,
    /// See [`HeadSettings::threshold`].
    pub threshold: f64,
    /// Why the task is unknown, and the line that makes it known.
    pub remedy: Option<String>,
    calibration: Option<Calibration>,
    source: Source,
    wanted: Vec<usize>,
}

impl Head {
    /// Reads the signature, the file's class names and one probe's outputs (all of them, `rows` rows).
    ///
    /// # Errors
    /// What does not fit the settings, and the line to add.
    pub fn find(
        signature: &Signature,
        scan: &Scan,
        probe: &[Tensor],
        rows: usize,
        settings: &HeadSettings,
    ) -> Result<Self, String> {
        let found = find::find(signature, scan, probe, rows, settings)?;
        let positive = match (&settings.positive, &found.classes, found.task) {
            (Some(name), Some(classes), Some(Task::Binary)) => labels::position(classes, name)?,
            _ => 1,
        };
        if let Some(calibration) = &settings.calibration {
            calibration.check_task(found.task)?;
        }
        let head = Self {
            calibration: settings.calibration.clone(),
            task: found.task,
            classes: found.classes,
            positive,
            threshold: settings.threshold,
            remedy: found.remedy,
            wanted: found.source.wanted(),
            source: found.source,
        };
        head.check(probe, rows)?;
        Ok(head)
    }

    /// The probe's own scores must be readable: what fails on all rows now would fail on all rows later.
    fn check(&self, probe: &[Tensor], rows: usize) -> Result<(), String> {
        if self.task.is_none() {
            return Ok(());
        }
        let outputs: Option<Vec<Tensor>> = self.wanted.iter().map(|&number| probe.get(number).cloned()).collect();
        let scores = self.read(&outputs.ok_or("the probe lacks outputs")?, rows);
        // A value that is not finite is admission's to judge, which knows where the probe came from.
        let fault = scores
            .into_iter()
            .filter_map(Result::err)
            .find(|why| why != source::NOT_FINITE);
        fault.map_or(Ok(()), Err)
    }

    /// The outputs that [`Head::read`] needs, as numbers into the signature's outputs.
    #[must_use]
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// A score per row from the wanted outputs; `Err` where it is not finite, misshapen or not a probability.
    #[must_use]
    pub fn read(&self, outputs: &[Tensor], rows: usize) -> Vec<Result<Score, String>> {
        let Some(task) = self.task else {
            return vec![Err("the task is unknown: only raw outputs can be asked for".to_owned()); rows];
        };
        match self.source.table(outputs, rows) {
            Ok(table) => (0..rows).map(|row| self.score(task, &table, row)).collect(),
            Err(why) => vec![Err(why); rows],
        }
    }

    fn score(&self, task: Task, table: &source::Table<'_>, row: usize) -> Result<Score, String> {
        let score = match task {
            Task::Regression => table.value(row).map(Score::Value),
            Task::Binary => table
                .binary(row, self.positive, self.classes.as_ref())
                .map(Score::Binary),
            Task::Multiclass => table.classes(row, self.classes.as_ref()).map(Score::Classes),
        };
        match &self.calibration {
            Some(calibration) => score.map(|score| calibration.apply(score)),
            None => score,
        }
    }

    /// The digest of the calibration that scores go through.
    #[must_use]
    pub fn calibration(&self) -> Option<String> {
        self.calibration.as_ref().map(Calibration::digest)
    }

    /// The classes by name, in class order: of two the positive one comes second. Empty for a regression.
    #[must_use]
    pub fn class_names(&self) -> Vec<String> {
        let Some(classes) = self.classes.as_ref().filter(|_| self.task != Some(Task::Regression)) else {
            return Vec::new();
        };
        let mut names = labels::names(classes);
        if self.task == Some(Task::Binary) && self.positive == 0 {
            names.reverse();
        }
        names
    }

    /// The label that goes with a score.
    #[must_use]
    pub fn label(&self, score: &Score) -> LabelValue {
        let index = match score {
            Score::Value(x) => return LabelValue::Number(*x),
            Score::Binary(p) if *p >= self.threshold => self.positive,
            Score::Binary(_) => 1 - self.positive.min(1),
            Score::Classes(scores) => labels::largest(scores),
        };
        labels::value(self.classes.as_ref(), index)
    }

    /// The label that a truth is: the inverse of [`Head::truth`].
    #[must_use]
    pub fn outcome(&self, truth: &Truth) -> LabelValue {
        match truth {
            Truth::Value(x) => LabelValue::Number(*x),
            Truth::Class(class) => {
                let class = usize::try_from(*class).unwrap_or(usize::MAX);
                let index = match (self.task, class) {
                    (Some(Task::Binary), 1) => self.positive,
                    (Some(Task::Binary), _) => 1 - self.positive.min(1),
                    _ => class,
                };
                labels::value(self.classes.as_ref(), index)
            }
        }
    }

    /// A reported outcome as truth: a class by number, name or boolean, or a regression's finite value.
    ///
    /// # Errors
    /// Says which labels there are.
    pub fn truth(&self, label: &serde_json::Value) -> Result<Truth, String> {
        match self.task {
            None => Err("the model's task is unknown, so that labels mean nothing: set task in model.toml".into()),
            Some(Task::Regression) => {
                let value = label.as_f64().filter(|x| x.is_finite());
                value
                    .map(Truth::Value)
                    .ok_or_else(|| format!("label {label} is not a finite number"))
            }
            Some(task) => {
                let index = labels::index(self.classes.as_ref(), self.positive, label)?;
                let class = if task == Task::Binary {
                    usize::from(index == self.positive)
                } else {
                    index
                };
                u32::try_from(class)
                    .map(Truth::Class)
                    .map_err(|_| "there are too many classes".into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
