//! What clients send and get, decided once by the first champion and kept whoever answers.
//!
//! Always holds: the interface belongs to the model; named features only join at the end, so that numbers of features
//! stay what they were; the classes never change. Leaves to others: reading bodies (`decode`), filling a version's
//! own inputs (`layout`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::layout::Layout;
use super::onnx::Classes;
use super::signature::Signature;
use super::tensor::Datatype;
use crate::batch::{Carried, Feature, Schema};
use crate::score::Task;

/// What clients send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Inputs {
    /// Named features; the first champion's own tensors stay accepted as a second spelling.
    Features {
        /// The union over the versions, in the order in which they joined.
        features: Vec<Feature>,
        /// How many of them the first champion brought: the order of rows sent as arrays.
        columns: usize,
        /// The first champion's signature.
        native: Signature,
        /// The column names of the first champion's single tensor, where it has one.
        names: Option<Vec<String>>,
    },
    /// The first champion's tensors.
    Tensors {
        /// Its signature.
        signature: Signature,
        /// Rows of one request share the first axis.
        batched: bool,
    },
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// What clients send.
    pub inputs: Inputs,
    /// What is predicted; `None` gives raw outputs only.
    pub task: Option<Task>,
    /// Class names in class order, where the first champion names them.
    pub classes: Option<Classes>,
}

/// Why a version does not fit its model's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// It never will.
    Never(String),
    /// It needs a feature that no accepted version takes: it fits as soon as rows carry it.
    NotCarried {
        /// The feature.
        feature: String,
    },
}

impl Interface {
    /// The interface that this first champion fixes. `named` allows the features interface.
    #[must_use]
    pub fn of_first(facts: &Facts, named: bool, task: Option<Task>, classes: Option<Classes>) -> Self {
        let features = if named {
            Layout::features(&facts.signature, facts.names.as_deref())
        } else {
            None
        };
        let inputs = match features {
            Some(features) => Inputs::Features {
                columns: features.len(),
                features: features
                    .into_iter()
                    .map(|f| Feature {
                        datatype: plain(f.datatype),
                        ..f
                    })
                    .collect(),
                native: facts.signature.clone(),
                names: facts.names.clone(),
            },
            None => Inputs::Tensors {
                signature: facts.signature.clone(),
                batched: facts.batched,
            },
        };
        Self { inputs, task, classes }
    }

    /// The schema of named features, noting unknown ones in `carried`; empty for tensors.
    #[must_use]
    pub fn schema(&self, carried: &Arc<Carried>) -> Arc<Schema> {
        match &self.inputs {
            Inputs::Features { features, .. } => {
                Arc::new(Schema::new(features.iter().cloned()).with_carried(Arc::clone(carried)))
            }
            Inputs::Tensors { .. } => Arc::default(),
        }
    }

    /// True when clients send named features.
    #[must_use]
    pub fn is_features(&self) -> bool {
        matches!(self.inputs, Inputs::Features { .. })
    }

    /// The interface with this version's features joined, and the version's layout in it. `carried` says whether
    /// rows carry a feature that is new.
    ///
    /// # Errors
    /// What does not fit.
    pub fn join(&self, facts: &Facts, carried: impl Fn(&str) -> bool) -> Result<(Self, Layout), Misfit> {
        let mut joined = self.clone();
        let layout = match &mut joined.inputs {
            Inputs::Tensors { signature, .. } => Layout::bind_tensors(&facts.signature, signature),
            Inputs::Features { features, .. } => {
                let wanted = Layout::features(&facts.signature, facts.names.as_deref()).ok_or_else(|| {
                    Misfit::Never(
                        "the model's clients send named features, and this file does not say which: add \
                         features = [\"…\"] to its toml, or feature_names to its metadata"
                            .into(),
                    )
                })?;
                for feature in wanted {
                    join_feature(features, &feature, &carried)?;
                }
                let schema = Schema::new(features.iter().cloned());
                Layout::bind_features(&facts.signature, facts.names.as_deref(), &schema)
            }
        };
        layout.map(|layout| (joined, layout)).map_err(Misfit::Never)
    }

    /// Whether a version's task and classes are the model's.
    ///
    /// # Errors
    /// Names the difference.
    pub fn check_answers(&self, task: Option<Task>, classes: Option<&Classes>) -> Result<(), String> {
        if task != self.task {
            let name = |t: Option<Task>| t.map_or("unknown".to_owned(), |t| format!("{t:?}").to_lowercase());
            return Err(format!(
                "its task is {}, the model's is {}",
                name(task),
                name(self.task)
            ));
        }
        match (&self.classes, classes) {
            (Some(mine), Some(its)) if mine != its => {
                let show = |c: &Classes| serde_json::to_string(c).unwrap_or_default();
                Err(format!("its classes are {}, the model's are {}", show(its), show(mine)))
            }
            _ => Ok(()),
        }
    }
}

fn join_feature(features: &mut Vec<Feature>, new: &Feature, carried: impl Fn(&str) -> bool) -> Result<(), Misfit> {
    match features.iter_mut().find(|f| f.name == new.name) {
        None if carried(&new.name) => features.push(Feature {
            datatype: plain(new.datatype),
            ..new.clone()
        }),
        None => {
            return Err(Misfit::NotCarried {
                feature: new.name.clone(),
            });
        }
        Some(known) => {
            known.datatype = union(known.datatype, plain(new.datatype)).ok_or_else(|| {
                let kind = |d| if d == Datatype::Bytes { "text" } else { "a number" };
                Misfit::Never(format!(
                    "feature '{}' is {} here and {} in the model",
                    new.name,
                    kind(new.datatype),
                    kind(known.datatype)
                ))
            })?;
        }
    }
    Ok(())
}

/// The interface's type for a version's own: text, 64-bit integers, or floats.
fn plain(datatype: Datatype) -> Datatype {
    match datatype {
        Datatype::Bytes | Datatype::Fp64 => datatype,
        Datatype::Fp16 | Datatype::Fp32 => Datatype::Fp32,
        _ => Datatype::Int64,
    }
}

/// Text only if all take text; FP64 if any takes doubles; INT64 if all take integers; FP32 otherwise.
fn union(a: Datatype, b: Datatype) -> Option<Datatype> {
    match (a, b) {
        (Datatype::Bytes, Datatype::Bytes) => Some(Datatype::Bytes),
        (Datatype::Bytes, _) | (_, Datatype::Bytes) => None,
        (Datatype::Fp64, _) | (_, Datatype::Fp64) => Some(Datatype::Fp64),
        (Datatype::Int64, Datatype::Int64) => Some(Datatype::Int64),
        _ => Some(Datatype::Fp32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_never_share_a_feature() {
        use Datatype::{Bytes, Fp32, Fp64, Int64};
        assert_eq!(union(Bytes, Fp32), None);
        assert_eq!(union(Int64, Int64), Some(Int64));
        assert_eq!(union(Int64, Fp32), Some(Fp32));
        assert_eq!(union(Fp32, Fp64), Some(Fp64));
    }
}
