//! `dethrone runtime-probe FILE`: loads and runs a model in a bare process and tells what that did to the process.
//! Not for users: the proof that ONNX Runtime neither starts threads, nor opens sockets, nor writes files.

use std::path::Path;

use crate::model::session::Session;
use crate::model::tensor::{Data, Tensor};
use crate::model::{onnx, runtime};

/// One line of JSON.
pub(super) fn run(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    onnx::scan(&bytes).map_err(|e| e.0)?;
    let mut session = Session::load_bytes(&bytes, 1).map_err(|e| e.0)?;
    let inputs: Vec<Tensor> = session
        .signature()
        .inputs
        .iter()
        .filter_map(|input| zeros(&input.shape))
        .collect();
    let outputs: Vec<usize> = (0..session.signature().outputs.len()).collect();
    for _ in 0..100 {
        session.run(&inputs, &outputs).map_err(|e| e.0)?;
    }
    let runtime = runtime::start().map_err(|e| e.0)?;
    let facts = serde_json::json!({
        "version": runtime.version,
        "threads": entries("/proc/self/task").len(),
        "sockets": entries("/proc/self/fd").iter().filter(|target| target.contains("socket:")).count(),
    });
    Ok(facts.to_string())
}

/// Two rows of FP32 zeros: the probe's models take nothing else.
fn zeros(shape: &[i64]) -> Option<Tensor> {
    let dims: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).unwrap_or(2)).collect();
    let count = dims.iter().product();
    Tensor::new(dims, Data::Fp32(vec![0.0; count]))
}

/// The names in a folder, or what they link to.
fn entries(folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let target = |path: std::path::PathBuf| std::fs::read_link(&path).unwrap_or(path).display().to_string();
    entries.flatten().map(|entry| target(entry.path())).collect()
}
