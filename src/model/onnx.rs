//! A bounded walk over an ONNX file's protobuf, without ONNX Runtime.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Class names in class order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// Integer classes.
    Ints(Vec<i64>),
    /// Named classes.
    Names(Vec<String>),
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
    /// Operators used, as `domain:op` (`:op` for the default domain), with their number.
    pub operators: BTreeMap<String, usize>,
    /// Nodes in all graphs.
    pub nodes: usize,
    /// Deepest nesting of graphs.
    pub depth: usize,
}

/// Why the bytes are not a model.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ScanError(pub String);

/// Reads what the file says of itself.
///
/// # Errors
/// Not a model, or beyond the limits of the walk.
pub fn scan(_bytes: &[u8]) -> Result<Scan, ScanError> {
    Err(ScanError("stub".into()))
}

/// The same model with its ZipMap nodes cut out and their inputs exposed as plain tensors under the ZipMap
/// output's name; `None` when there is no ZipMap.
///
/// # Errors
/// Not a model.
pub fn cut_zipmap(_bytes: &[u8]) -> Result<Option<Vec<u8>>, ScanError> {
    Err(ScanError("stub".into()))
}
