//! Finding and starting ONNX Runtime.

/// Why there is no ONNX Runtime.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// The loaded library.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its version, e.g. `1.32.0`.
    pub version: String,
    /// The file it came from.
    pub path: std::path::PathBuf,
}

/// Starts ONNX Runtime once per process.
///
/// # Errors
/// When no library is found or it is too old; the text names the ways out.
pub fn start() -> Result<&'static Runtime, RuntimeError> {
    Err(RuntimeError("stub".into()))
}
