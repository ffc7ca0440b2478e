//! What admission found out about a version, kept in the ledger so that it need not be found out again.

use serde::{Deserialize, Serialize};

use super::onnx::{RULES, Scan};
use super::signature::Signature;
use super::tensor::Tensor;
use crate::arena::wire;

/// Facts about one digest under one ONNX Runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// What the file says of itself.
    pub scan: Scan,
    /// Inputs and outputs.
    pub signature: Signature,
    /// Column names of a single-tensor model, from its toml, the model's, or the file.
    pub names: Option<Vec<String>>,
    /// Rows may be merged into one run.
    pub batched: bool,
    /// Rows of the probe.
    pub probe_rows: usize,
    /// The probe's inputs, encoded.
    pub probe_inputs: Vec<u8>,
    /// The probe's outputs, encoded.
    pub probe_outputs: Vec<u8>,
    /// Median time of a one-row run, microseconds.
    pub latency_us_p50: u64,
    /// 99th percentile of the same.
    pub latency_us_p99: u64,
    /// CPU time of a one-row run, nanoseconds; 0 where an older program did not measure it.
    #[serde(default)]
    pub cpu_ns: u64,
    /// Peak memory of the admitting process, bytes.
    pub memory_bytes: u64,
    /// ONNX Runtime that it was found out with.
    pub runtime: String,
}

impl Facts {
    /// True while they are what would be found out today.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.runtime == runtime() && self.scan.rules == RULES
    }
}

/// What is kept of a file that its examination refused: the same program would refuse the same bytes again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refused {
    /// Who examined it.
    pub refused_by: String,
}

impl Refused {
    /// A refusal by this program.
    #[must_use]
    pub fn here() -> Self {
        Self {
            refused_by: format!(
                "dethrone {}, rules {RULES}, ONNX Runtime {}",
                env!("CARGO_PKG_VERSION"),
                runtime()
            ),
        }
    }
}

/// The version of the ONNX Runtime that examines files here.
#[must_use]
pub fn runtime() -> String {
    super::runtime::start().map(|r| r.version.clone()).unwrap_or_default()
}

/// Tensors as bytes, for the ledger.
#[must_use]
pub fn pack(tensors: &[Tensor]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode_tensors(&mut out, tensors);
    out
}

/// The inverse of [`pack`]; nothing where the bytes do not read back.
#[must_use]
pub fn unpack(bytes: &[u8]) -> Vec<Tensor> {
    wire::decode_tensors(bytes).unwrap_or_default()
}
