//! An ONNX Runtime session: the only file that names `ort`.
use std::collections::BTreeMap;
use std::path::Path;

use super::signature::Signature;
use super::tensor::Tensor;

/// Why a file did not load, in words for an engineer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// Why a run failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// One loaded model with one thread's working memory.
#[derive(Debug)]
pub struct Session {
    signature: Signature,
    metadata: BTreeMap<String, String>,
}

impl Session {
    /// Loads the file (external data beside it) with `threads` intra-op threads. Starts ONNX Runtime if needed.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load(_path: &Path, _threads: usize) -> Result<Self, LoadError> {
        Err(LoadError("stub".into()))
    }

    /// Inputs and outputs as the file declares them.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The file's own metadata (custom keys).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Runs on `inputs` (in signature order), computing only `outputs` (numbers into `signature().outputs`), which
    /// come back in the order asked for.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn run(&mut self, _inputs: &[Tensor], _outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        Err(RunError("stub".into()))
    }
}
