//! The library of ONNX Runtime behind its Rust binding: its version, and the one environment of this process.

mod version;

use std::path::Path;
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;

/// Kept for the life of the process: ONNX Runtime allows one environment, ever.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// The `32` of version 1.32.0, or `None` when the file is not ONNX Runtime 1.x.
pub(in crate::model) fn minor_version(path: &Path) -> Option<u32> {
    ort::util::probe(path)
}

/// Loads the library and makes the environment; returns its full version where the system lets us ask.
pub(in crate::model) fn open(path: &Path) -> Result<Option<String>, String> {
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    let environment = builder
        .with_name("dethrone")
        .with_telemetry(false)
        .build()
        .map_err(|e| super::words::readable(e.message()))?;
    // Errors come back as values and are told once, by us; the rest is noise (LightGBM's exports warn on every run).
    environment.set_log_level(LogLevel::Fatal);
    let _ = ENVIRONMENT.set(environment);
    Ok(version::full(path))
}

/// The environment, once [`open`] has made it.
pub(super) fn environment() -> Option<&'static Environment> {
    ENVIRONMENT.get()
}
