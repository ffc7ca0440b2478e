//! From a version's outputs to scores and labels.
use serde::{Deserialize, Serialize};

use super::onnx::{Classes, Scan};
use super::signature::Signature;
use super::tensor::Tensor;
use crate::score::{Score, Task, Truth};

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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadSettings {
    /// Task, or read off the signature.
    pub task: Option<Task>,
    /// The positive class, as text (`"1"`, `"UP"`), or the second class.
    pub positive: Option<String>,
    /// Name of the output with the scores.
    pub score_output: Option<String>,
    /// Link of raw scores.
    pub link: Option<Link>,
    /// Score from which a binary label is positive.
    pub threshold: f64,
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
}

impl Head {
    /// Reads the signature, the file's class names and one probe's outputs (all of them, `rows` rows).
    ///
    /// # Errors
    /// What does not fit the settings, and the line to add.
    pub fn find(
        _signature: &Signature,
        _scan: &Scan,
        _probe: &[Tensor],
        _rows: usize,
        _settings: &HeadSettings,
    ) -> Result<Self, String> {
        Err("stub".into())
    }

    /// The outputs that [`Head::read`] needs, as numbers into the signature's outputs.
    #[must_use]
    pub fn wanted(&self) -> &[usize] {
        &[]
    }

    /// A score per row from the wanted outputs; `Err` where it is not finite, misshapen or not a probability.
    #[must_use]
    pub fn read(&self, _outputs: &[Tensor], _rows: usize) -> Vec<Result<Score, String>> {
        Vec::new()
    }

    /// The label that goes with a score.
    #[must_use]
    pub fn label(&self, _score: &Score) -> LabelValue {
        LabelValue::Int(0)
    }

    /// A reported outcome as truth: a class by number, name or boolean, or a regression's finite value.
    ///
    /// # Errors
    /// Says which labels there are.
    pub fn truth(&self, _label: &serde_json::Value) -> Result<Truth, String> {
        Err("stub".into())
    }
}
