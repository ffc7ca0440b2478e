//! What clients send and get, decided once by the first champion and kept whoever answers.
//!
//! Always holds: the interface belongs to the model; named features only join at the end, so that numbers of features
//! stay what they were; the classes never change. Leaves to others: reading bodies (`decode`), filling a version's
//! own inputs (`layout`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::layout::{Layout, native};
use super::onnx::Classes;
use super::signature::Signature;
use super::tensor::Datatype;
use crate::batch::{Carried, Feature, Schema};
use crate::config::Interface as Setting;
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

/// Whether feature names become the interface of a model with these settings.
///
/// # Errors
/// The settings contradict the directory.
pub fn wants_features(setting: Setting, has_pbtxt: bool) -> Result<bool, String> {
    match (setting, has_pbtxt) {
        (Setting::Features, true) => {
            Err("interface = \"features\" and a config.pbtxt: the latter asks for plain tensors; remove one".into())
        }
        (Setting::Tensors, _) | (Setting::Auto, true) => Ok(false),
        (Setting::Features | Setting::Auto, false) => Ok(true),
    }
}

impl Interface {
    /// As [`Interface::of_first`], under a model's settings. `is_listed`: a toml lists the feature names.
    ///
    /// # Errors
    /// What the settings ask for and the file does not have.
    pub fn first(
        facts: &Facts,
        (setting, has_pbtxt): (Setting, bool),
        is_listed: bool,
        (task, classes): (Option<Task>, Option<Classes>),
    ) -> Result<Self, String> {
        let named = wants_features(setting, has_pbtxt)?;
        if named && is_listed {
            // A list of names that does not fit must not quietly become an interface without names.
            Layout::named_features(&facts.signature, facts.names.as_deref())?;
        }
        let interface = Self::of_first(facts, named, task, classes);
        if setting == Setting::Features && !interface.is_features() {
            return Err(
                "interface = \"features\", and the file does not name its features: add features = [\"…\"]".into(),
            );
        }
        Ok(interface)
    }

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
                features: features.into_iter().map(plain_feature).collect(),
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

    /// The superset that names the columns of the first champion's only tensor: features by name, and that tensor as
    /// second spelling, so that nothing that clients send breaks.
    ///
    /// # Errors
    /// Why these names cannot name them.
    pub fn with_names(&self, names: &[String]) -> Result<Self, String> {
        let Inputs::Tensors { signature, .. } = &self.inputs else {
            return Err("the model's clients send named features already".into());
        };
        if let [input] = signature.inputs.as_slice() {
            if !native::can_be_named(input.datatype) {
                return Err(format!("columns of {} cannot be named features", input.datatype));
            }
            if names.contains(&input.name) {
                return Err(format!(
                    "a feature cannot have the name of the tensor '{}': rename it",
                    input.name
                ));
            }
        }
        let features = Layout::named_features(signature, Some(names))?;
        Ok(Self {
            inputs: Inputs::Features {
                columns: features.len(),
                features: features.into_iter().map(plain_feature).collect(),
                native: signature.clone(),
                names: Some(names.to_vec()),
            },
            ..self.clone()
        })
    }

    /// What else than `instances` a client of tensors can send, and the line that gives features their names.
    /// `may_be_named` is false where the model's settings ask for tensors.
    #[must_use]
    pub fn instead_of_instances(&self, model: &str, may_be_named: bool) -> String {
        let Inputs::Tensors { signature, .. } = &self.inputs else {
            return String::new();
        };
        let [input] = signature.inputs.as_slice() else {
            let names: Vec<&str> = signature.inputs.iter().map(|i| i.name.as_str()).collect();
            return format!("send 'inputs' with {}", names.join(", "));
        };
        let brackets = input.shape.len().max(1);
        let (open, close) = ("[".repeat(brackets), "]".repeat(brackets));
        let send = format!("send \"inputs\": {{\"{}\": {open}…{close}}}", input.name);
        match input.shape.as_slice() {
            &[_, width] if may_be_named && width != 0 && native::can_be_named(input.datatype) => {
                let count = if width > 0 {
                    format!("{width} names")
                } else {
                    "one name per column".to_owned()
                };
                format!(
                    "{send}, or add the line features = [\"…\", \"…\"]  # {count}, in column order  to models/{model}/model.toml"
                )
            }
            _ => send,
        }
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
            Inputs::Features { features, native, .. } => {
                let wanted = Layout::features(&facts.signature, facts.names.as_deref()).ok_or_else(|| {
                    Misfit::Never(
                        "the model's clients send named features, and this file does not say which: add \
                         features = [\"…\"] to its toml, or feature_names to its metadata"
                            .into(),
                    )
                })?;
                for feature in wanted {
                    let is_spelling = native.inputs.len() == 1 && native.inputs.iter().any(|i| i.name == feature.name);
                    if is_spelling && !features.iter().any(|f| f.name == feature.name) {
                        return Err(Misfit::Never(format!(
                            "feature '{}' has the name of the model's own tensor, which clients may send: rename it",
                            feature.name
                        )));
                    }
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

fn plain_feature(feature: Feature) -> Feature {
    Feature {
        datatype: plain(feature.datatype),
        ..feature
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
