//! What a model takes and gives in the protocol, and what one of its versions does.
//!
//! Always holds: it belongs to the model, whoever is champion. A model of named features takes one tensor `[-1, 1]` per
//! feature and gives `score`, `label` and `probabilities`; the first champion's own tensors stay a second spelling.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::PLATFORM;
use crate::batch::Schema;
use crate::champion::VersionInfo;
use crate::model::head::Head;
use crate::model::interface::{Inputs, Interface};
use crate::model::onnx::Classes;
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::Datatype;
use crate::score::Task;

/// Probability of the positive class, of the largest class, or the value.
pub const SCORE: &str = "score";
/// The label that goes with the score.
pub const LABEL: &str = "label";
/// Probability per class, in class order.
pub const PROBABILITIES: &str = "probabilities";

/// What an output of the first champion says, where that can be said of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Probability of the positive class, or the value.
    Score,
    /// The label.
    Label,
    /// Probability per class.
    Probabilities,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Clients send named features.
    pub is_features: bool,
    /// What clients send.
    pub inputs: Vec<TensorSpec>,
    /// What they get.
    pub outputs: Vec<TensorSpec>,
    /// The first champion's own inputs and outputs.
    pub native: Signature,
    /// Names of [`Contract::outputs`].
    pub names: Vec<Arc<str>>,
    /// Names of the native outputs.
    pub native_names: Vec<Arc<str>>,
    /// What is predicted.
    pub task: Option<Task>,
    /// Index of the positive class.
    pub positive: usize,
    /// Rows of a request share the first axis.
    pub is_batched: bool,
}

/// Inputs and outputs for a client, of a model or of one version.
#[derive(Debug, Clone, Serialize)]
pub struct Metadata {
    /// The model.
    pub name: String,
    /// Versions that can be asked by name.
    pub versions: Vec<String>,
    /// [`PLATFORM`].
    pub platform: &'static str,
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// Rows of a request share the first axis.
    #[serde(skip)]
    pub is_batched: bool,
}

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn names(specs: &[TensorSpec]) -> Vec<Arc<str>> {
    specs.iter().map(|spec| spec.name.as_str().into()).collect()
}

impl Contract {
    /// The contract of an interface, whose known features are `schema`'s and whose labels are `head`'s.
    #[must_use]
    pub fn of(interface: &Interface, schema: &Schema, head: &Head) -> Self {
        let (is_features, native, inputs) = match &interface.inputs {
            Inputs::Features { native, .. } => {
                let feature = |f: &crate::batch::Feature| spec(&f.name, f.datatype, &[-1, 1]);
                (true, native, schema.features().iter().map(feature).collect())
            }
            Inputs::Tensors { signature, .. } => (false, signature, signature.inputs.clone()),
        };
        let outputs = match interface.task.filter(|_| is_features) {
            Some(task) => read_outputs(task, interface.classes.as_ref()),
            None => native.outputs.clone(),
        };
        Self {
            is_features,
            names: names(&outputs),
            native_names: names(&native.outputs),
            inputs,
            outputs,
            task: interface.task,
            positive: head.positive,
            is_batched: is_features || native.has_dynamic_rows(),
            native: native.clone(),
        }
    }

    /// What the native output of this name says.
    #[must_use]
    pub fn role(&self, native: &TensorSpec) -> Option<Role> {
        let task = self.task?;
        let classes = self.outputs.iter().find(|o| o.name == PROBABILITIES);
        let classes = classes.and_then(|o| o.shape.last().copied()).unwrap_or(-1);
        let is_single = matches!(native.shape.as_slice(), [_] | [_, 1]);
        match (native.datatype, task) {
            (Datatype::Fp32 | Datatype::Fp64, Task::Regression) if is_single => Some(Role::Score),
            (_, Task::Regression) => None,
            (Datatype::Int64 | Datatype::Bytes, _) if is_single => Some(Role::Label),
            (Datatype::Fp32 | Datatype::Fp64, Task::Binary) if is_single => Some(Role::Score),
            (Datatype::Fp32 | Datatype::Fp64, _) if native.shape.len() == 2 => {
                let columns = native.shape.last().copied().unwrap_or(-1);
                (columns == classes || columns == -1).then_some(Role::Probabilities)
            }
            _ => None,
        }
    }

    /// For a client.
    #[must_use]
    pub fn metadata(&self, name: &str, versions: Vec<String>) -> Metadata {
        Metadata {
            name: name.to_owned(),
            versions,
            platform: PLATFORM,
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            is_batched: self.is_batched,
        }
    }
}

/// What is read off any version of a task.
fn read_outputs(task: Task, classes: Option<&Classes>) -> Vec<TensorSpec> {
    let score = spec(SCORE, Datatype::Fp32, &[-1]);
    if task == Task::Regression {
        return vec![score];
    }
    let label = match classes {
        Some(Classes::Names(_)) => Datatype::Bytes,
        Some(Classes::Ints(_)) | None => Datatype::Int64,
    };
    let count = match (classes, task) {
        (Some(classes), _) => i64::try_from(classes.len()).unwrap_or(-1),
        (None, Task::Binary) => 2,
        (None, _) => -1,
    };
    vec![
        score,
        spec(LABEL, label, &[-1]),
        spec(PROBABILITIES, Datatype::Fp32, &[-1, count]),
    ]
}

impl Metadata {
    /// A version's own inputs and outputs.
    #[must_use]
    pub fn of_version(model: &str, info: &VersionInfo) -> Self {
        Self {
            name: model.to_owned(),
            versions: vec![info.name.clone()],
            platform: PLATFORM,
            inputs: info.signature.inputs.clone(),
            outputs: info.signature.outputs.clone(),
            is_batched: info.batched,
        }
    }

    /// Most rows of a request, 0 where rows do not share an axis.
    #[must_use]
    pub fn max_batch_size(&self, max_rows: usize) -> usize {
        if self.is_batched { max_rows } else { 0 }
    }

    /// The dimensions that a configuration lists: without the rows where they are merged.
    #[must_use]
    pub fn dims<'a>(&self, spec: &'a TensorSpec) -> &'a [i64] {
        match spec.shape.split_first() {
            Some((_, inner)) if self.is_batched => inner,
            _ => &spec.shape,
        }
    }

    /// The model's configuration in the form that Triton's clients read.
    #[must_use]
    pub fn config(&self, max_rows: usize) -> Value {
        let tensor = |spec: &TensorSpec| json!({"name": spec.name, "data_type": data_type(spec.datatype), "dims": self.dims(spec)});
        let all = |specs: &[TensorSpec]| specs.iter().map(tensor).collect::<Vec<_>>();
        json!({
            "name": self.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": self.max_batch_size(max_rows),
            "input": all(&self.inputs),
            "output": all(&self.outputs),
            "instance_group": [{"name": self.name, "kind": "KIND_CPU", "count": 1, "gpus": []}],
            "default_model_filename": "model.onnx",
            "parameters": {},
        })
    }
}

/// The datatype as configurations spell it.
#[must_use]
pub fn data_type(datatype: Datatype) -> String {
    match datatype {
        Datatype::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}
