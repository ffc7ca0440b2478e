//! Which outputs a request gets, and their tensors from a reply.
//!
//! Always holds: an output's name, datatype and meaning stay while champions change. One that the answering version has
//! under the same name and datatype comes from it; otherwise it is made from the score, where its role is known.

use std::sync::Arc;

use super::contract::{Contract, LABEL, PROBABILITIES, Role, SCORE};
use crate::champion::VersionInfo;
use crate::decode::{Wanted, clip, nearest};
use crate::error::{Error, Kind};
use crate::http::backend::{Reply, RowReply};
use crate::model::head::LabelValue;
use crate::model::signature::TensorSpec;
use crate::model::tensor::{Data, Datatype, Tensor, Text};
use crate::score::Score;

/// One output of a request.
#[derive(Debug, Clone)]
struct Slot {
    name: Arc<str>,
    /// Under this name it is looked for among the version's own outputs.
    is_own: bool,
    datatype: Datatype,
    /// Made from the scores where the version has it not.
    role: Option<Role>,
    /// `[rows, 1]` rather than `[rows]`.
    is_column: bool,
}

/// The outputs of a request, in the order of the answer.
#[derive(Debug, Clone)]
pub struct Plan {
    slots: Vec<Slot>,
    positive: usize,
}

impl Slot {
    fn own(name: &Arc<str>, spec: &TensorSpec, role: Option<Role>) -> Self {
        Self {
            name: Arc::clone(name),
            is_own: true,
            datatype: spec.datatype,
            role,
            is_column: spec.shape.len() == 2,
        }
    }

    fn read(name: &Arc<str>, spec: &TensorSpec) -> Option<Self> {
        let role = match &**name {
            SCORE => Role::Score,
            LABEL => Role::Label,
            PROBABILITIES => Role::Probabilities,
            _ => return None,
        };
        Some(Self {
            name: Arc::clone(name),
            is_own: false,
            datatype: spec.datatype,
            role: Some(role),
            is_column: false,
        })
    }
}

impl Plan {
    /// The outputs of these names; where there is none, all: the version's own of a pinned request, the first
    /// champion's of one that was spelled in its tensors, the model's otherwise.
    ///
    /// # Errors
    /// A name that is no output.
    pub fn of(
        contract: &Contract,
        pinned: Option<&VersionInfo>,
        native: bool,
        names: &[String],
    ) -> Result<Self, Error> {
        let slots = if names.is_empty() {
            match (pinned, native) {
                (Some(info), _) => info.signature.outputs.iter().map(pinned_slot).collect(),
                (None, true) => natives(contract).collect(),
                (None, false) => modelled(contract).collect(),
            }
        } else {
            let find = |name: &String| slot(contract, pinned, native, name);
            names.iter().map(find).collect::<Result<Vec<_>, _>>()?
        };
        Ok(Self {
            slots,
            positive: contract.positive,
        })
    }

    /// How many outputs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Names and datatypes, in order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Datatype)> {
        self.slots.iter().map(|slot| (&*slot.name, slot.datatype))
    }

    /// What the version is asked for beside its score.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let own = self.slots.iter().filter(|slot| slot.is_own);
        let names: Vec<Arc<str>> = own.map(|slot| Arc::clone(&slot.name)).collect();
        if names.is_empty() {
            Wanted::None
        } else {
            Wanted::Known(names)
        }
    }

    /// The tensors of a reply.
    ///
    /// # Errors
    /// An output that the answering version cannot give.
    pub fn fill(&self, reply: &mut Reply) -> Result<Vec<(Arc<str>, Tensor)>, Error> {
        let own = std::mem::take(&mut reply.outputs);
        let mut own: Vec<(Arc<str>, Option<Tensor>)> = own.into_iter().map(|(name, t)| (name, Some(t))).collect();
        let filled = self.slots.iter().map(|slot| {
            let there = own.iter_mut().find(|(name, tensor)| {
                slot.is_own && *name == slot.name && tensor.as_ref().is_some_and(|t| t.datatype() == slot.datatype)
            });
            if let Some(tensor) = there.and_then(|(_, tensor)| tensor.take()) {
                return Ok((Arc::clone(&slot.name), tensor));
            }
            let made = slot.role.and_then(|role| made(role, slot, &reply.rows, self.positive));
            made.map(|tensor| (Arc::clone(&slot.name), tensor)).ok_or_else(|| {
                let text = format!(
                    "version '{}', which answers, has no output '{}'",
                    reply.version.name, slot.name
                );
                Error::new(Kind::UnknownOutput, text)
            })
        });
        filled.collect()
    }
}

fn modelled(contract: &Contract) -> impl Iterator<Item = Slot> {
    let named = contract.names.iter().zip(&contract.outputs);
    named.map(|(name, spec)| {
        let read = Slot::read(name, spec).filter(|_| contract.is_features && contract.task.is_some());
        read.unwrap_or_else(|| Slot::own(name, spec, None))
    })
}

fn natives(contract: &Contract) -> impl Iterator<Item = Slot> {
    let named = contract.native_names.iter().zip(&contract.native.outputs);
    named.map(|(name, spec)| {
        let role = contract.role(spec).filter(|_| contract.is_features);
        Slot::own(name, spec, role)
    })
}

fn pinned_slot(spec: &TensorSpec) -> Slot {
    Slot::own(&spec.name.as_str().into(), spec, None)
}

/// The output of this name. A request in a version's own tensors means that version's own outputs first.
fn slot(contract: &Contract, pinned: Option<&VersionInfo>, native: bool, name: &str) -> Result<Slot, Error> {
    let own = || {
        let pinned = pinned
            .into_iter()
            .flat_map(|info| info.signature.outputs.iter().map(pinned_slot));
        pinned.chain(natives(contract)).find(|slot| *slot.name == *name)
    };
    let model = || modelled(contract).find(|slot| *slot.name == *name);
    let found = if native {
        own().or_else(model)
    } else {
        model().or_else(own)
    };
    found.ok_or_else(|| {
        let known: Vec<&str> = match pinned {
            Some(info) => info.signature.outputs.iter().map(|o| o.name.as_str()).collect(),
            None => contract
                .names
                .iter()
                .chain(&contract.native_names)
                .map(|n| &**n)
                .collect(),
        };
        let mut known = known;
        known.sort_unstable();
        known.dedup();
        let near = nearest(name, known.iter().copied());
        let text = format!(
            "there is no output '{}' (there are {}){near}",
            clip(name),
            clip(&known.join(", "))
        );
        Error::new(Kind::UnknownOutput, text)
    })
}

/// The tensor of a role, from the rows' scores.
fn made(role: Role, slot: &Slot, rows: &[RowReply], positive: usize) -> Option<Tensor> {
    let column = if slot.is_column {
        vec![rows.len(), 1]
    } else {
        vec![rows.len()]
    };
    match role {
        Role::Score => {
            let scores: Option<Vec<f64>> = rows.iter().map(|row| score(row.score.as_ref()?)).collect();
            Tensor::new(column, floats(slot.datatype, scores?)?)
        }
        Role::Label => Tensor::new(column, labels(slot.datatype, rows)?),
        Role::Probabilities => {
            let mut all = Vec::new();
            for row in rows {
                match row.score.as_ref()? {
                    Score::Binary(p) if positive == 0 => all.extend([*p, 1.0 - p]),
                    Score::Binary(p) => all.extend([1.0 - p, *p]),
                    Score::Classes(scores) => all.extend_from_slice(scores),
                    Score::Value(_) => return None,
                }
            }
            let width = all.len().checked_div(rows.len())?;
            Tensor::new(vec![rows.len(), width], floats(slot.datatype, all)?)
        }
    }
}

/// The probability of the positive class or of the largest one, or the value.
fn score(score: &Score) -> Option<f64> {
    match score {
        Score::Binary(x) | Score::Value(x) => Some(*x),
        Score::Classes(scores) => scores.iter().copied().max_by(f64::total_cmp),
    }
}

fn floats(datatype: Datatype, values: Vec<f64>) -> Option<Data> {
    #[expect(clippy::cast_possible_truncation, reason = "single precision is the contract")]
    match datatype {
        Datatype::Fp32 => Some(Data::Fp32(values.into_iter().map(|x| x as f32).collect())),
        Datatype::Fp64 => Some(Data::Fp64(values)),
        _ => None,
    }
}

fn labels(datatype: Datatype, rows: &[RowReply]) -> Option<Data> {
    if datatype == Datatype::Int64 {
        let ints = rows.iter().map(|row| match row.label.as_ref()? {
            LabelValue::Int(class) => Some(*class),
            LabelValue::Text(_) | LabelValue::Number(_) => None,
        });
        return ints.collect::<Option<Vec<_>>>().map(Data::Int64);
    }
    let mut text = Text::default();
    for row in rows {
        let Some(LabelValue::Text(name)) = &row.label else {
            return None;
        };
        if !text.push(name.as_bytes()) {
            return None;
        }
    }
    (datatype == Datatype::Bytes).then_some(Data::Bytes(text))
}
