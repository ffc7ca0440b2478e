//! A bounded walk over an ONNX file's protobuf, without ONNX Runtime.
//!
//! Always holds: every length is checked against what is there, everything that is counted has a limit, and nothing
//! is allocated by a number that the file claims. A file is refused by name, or it is [`Safety::InlineSafe`] or
//! [`Safety::ProcessOnly`]: nothing else decides about that. The walk proves nothing about the graph; it tells what the
//! file says, and refuses what two readers could understand differently.
//! Leaves to others: what follows from the safety (`control`, by the settings), whether the graph is valid (`session`).

mod classes;
mod debris;
mod functions;
mod hazard;
mod tensor;
mod walk;
mod weights;
mod wire;
mod zipmap;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use classes::config_classes;
pub use weights::{Weight, Weights, weights};
pub use zipmap::cut_zipmap;

/// Deepest nesting of graphs. ONNX Runtime recurses over it and has been brought down by more.
pub const MAX_DEPTH: usize = 16;
/// Most nodes, also after functions are unfolded. Half as many take ONNX Runtime seconds to load.
pub const MAX_NODES: usize = 200_000;
/// A large file is walked for tens of milliseconds; after so many nodes, some tens of microseconds, the processor is offered
/// to those that answer requests.
const NODES_OF_A_TURN: usize = 32;
/// Most functions that call each other in a chain.
const MAX_CALLS: usize = 64;
/// Most names of values: inputs and outputs of nodes, weights, attributes.
const MAX_VALUES: usize = 2_000_000;
/// Longest name that is printed or looked up.
const MAX_NAME_BYTES: usize = 1_024;
/// All of `metadata_props`: it is kept in the ledger.
const MAX_METADATA_BYTES: usize = 16 << 20;
/// Far above every opset that there is.
const MAX_OPSET: i64 = 100;
/// Most external data files: a model in more is not an export of anything known.
pub const MAX_EXTERNAL: usize = 1_024;

/// Counts up with every change of what is refused or counts as safe: what an older program found is found out anew.
pub const RULES: u32 = 2;

/// Where a file may answer, by what stands in it. A file that may run nowhere has a [`ScanError`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Safety {
    /// No request can make its operators bring down the process that runs them.
    InlineSafe,
    /// Some may: only in a process of its own.
    ProcessOnly,
}

/// Class names in class order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// Integer classes.
    Ints(Vec<i64>),
    /// Named classes.
    Names(Vec<String>),
}

impl Classes {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.len(),
            Self::Names(names) => names.len(),
        }
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a file says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Scan {
    /// Who wrote the file, e.g. `skl2onnx`.
    pub producer: String,
    /// The writer's version.
    pub producer_version: String,
    /// ONNX IR version.
    pub ir_version: i64,
    /// Opset per domain.
    pub opsets: BTreeMap<String, i64>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Class names found in classifier nodes, ZipMap or metadata.
    pub classes: Option<Classes>,
    /// Names of external data files that the tensors refer to, without repetition.
    pub external: Vec<String>,
    /// How many bytes of each of them the tensors take, at least.
    #[serde(default)]
    pub external_bytes: BTreeMap<String, u64>,
    /// Operators used, as `domain:op` (`:op` for the default domain), with their number.
    pub operators: BTreeMap<String, usize>,
    /// Nodes in all graphs.
    pub nodes: usize,
    /// Deepest nesting of graphs.
    pub depth: usize,
    /// Operators that may bring down the process that runs them, as an engineer calls them; see [`Scan::hazard`].
    #[serde(default)]
    pub hazards: Option<Vec<String>>,
    /// The [`RULES`] by which it was made.
    #[serde(default)]
    pub rules: u32,
}

impl Scan {
    /// Where the file may answer.
    #[must_use]
    pub fn safety(&self) -> Safety {
        match self.hazard() {
            None => Safety::InlineSafe,
            Some(_) => Safety::ProcessOnly,
        }
    }

    /// The first operator of the file that may bring down the process that runs it; `None` where all are harmless.
    #[must_use]
    pub fn hazard(&self) -> Option<&str> {
        match &self.hazards {
            Some(hazards) if self.rules == RULES => hazards.first().map(String::as_str),
            _ => Some("one that nobody has looked at"),
        }
    }

    /// The feature names that the file carries in its metadata under `feature_names`: a JSON list or a comma list.
    #[must_use]
    pub fn feature_names(&self) -> Option<Vec<String>> {
        let text = self.metadata.get("feature_names")?.trim();
        let names: Vec<String> = if text.starts_with('[') {
            serde_json::from_str(text).ok()?
        } else {
            text.split(',').map(|name| name.trim().to_owned()).collect()
        };
        (!names.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(names)
    }
}

/// Why the bytes are not a model.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ScanError(pub String);

/// Reads what the file says of itself.
///
/// # Errors
/// Not a model, or beyond the limits of the walk.
pub fn scan(bytes: &[u8]) -> Result<Scan, ScanError> {
    if let Some(debris) = debris::recognise(bytes) {
        return Err(debris);
    }
    let mut scan = walk::model(bytes).map_err(|fault| if debris::is_text(bytes) { debris::text() } else { fault })?;
    scan.hazards = Some(hazard::find(bytes)?);
    scan.rules = RULES;
    Ok(scan)
}

/// Names of the external data files that the tensors refer to, without repetition: what [`scan`] says of them, for who needs
/// to know nothing else. It does not look for hazards, which takes most of the time of a scan.
///
/// # Errors
/// Not a model, or beyond the limits of the walk. What is hazardous only is no error here.
pub fn external(bytes: &[u8]) -> Result<Vec<String>, String> {
    walk::model(bytes).map(|scan| scan.external).map_err(|fault| fault.0)
}

#[cfg(test)]
mod tests;
