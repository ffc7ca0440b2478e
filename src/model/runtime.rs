//! Finding and starting ONNX Runtime, once per process.
//!
//! Always holds: no file is loaded but a pinned one or one whose hash the settings name; a library older than 1.32 is never used (older ones lack memory-safety fixes); the library is never
//! loaded unless the environment switches its telemetry off, because from 1.29 on it reads the variable while it
//! starts, before any call of ours could say no.
//! Leaves to others: the library's own interface (`session`), what is loaded with it (`session`, `admission`).

mod pinned;
mod search;
mod silence;

use std::path::PathBuf;
use std::sync::OnceLock;

pub(crate) use pinned::trust;
pub use pinned::{allow, is_sha256};
pub use silence::silence_telemetry;

use super::session::library;

/// The oldest minor version of ONNX Runtime 1.x that is used.
const OLDEST: u32 = 32;

/// Why there is no ONNX Runtime.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// The loaded library.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its version, e.g. `1.32.0`.
    pub version: String,
    /// The file it came from; for a child process, the value of `ORT_DYLIB_PATH`.
    pub path: PathBuf,
    /// Which file that was; for a child process, which need not hash it again.
    pub stamp: String,
}

static STARTED: OnceLock<Result<Runtime, RuntimeError>> = OnceLock::new();

/// Starts ONNX Runtime once per process; later calls give the same answer.
///
/// # Errors
/// When no library is found, it is too old, or telemetry is not switched off; the text names the ways out.
pub fn start() -> Result<&'static Runtime, RuntimeError> {
    STARTED.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// The library, where [`start`] has loaded it.
#[must_use]
pub fn started() -> Option<&'static Runtime> {
    STARTED.get()?.as_ref().ok()
}

fn load() -> Result<Runtime, RuntimeError> {
    silence::silence_if_alone();
    if !silence::is_silent() {
        return Err(RuntimeError(format!(
            "onnx runtime is not loaded, because it would send telemetry: set {}=1 in the environment, \
             or call silence_telemetry() before the first thread starts",
            silence::VARIABLE
        )));
    }
    let mut tried = Vec::new();
    for candidate in search::candidates() {
        match attempt(&candidate.path) {
            Ok(runtime) => return Ok(runtime),
            // What the user chose is not passed over in silence.
            Err(why) if candidate.chosen => return Err(RuntimeError(search::chosen_in_vain(&why))),
            Err(why) => tried.push(why),
        }
    }
    Err(RuntimeError(search::ways_out(&tried)))
}

fn attempt(path: &std::path::Path) -> Result<Runtime, String> {
    if !path.exists() {
        return Err(format!("{} does not exist", path.display()));
    }
    let stamp = pinned::check(path)?;
    open(path, stamp)
}

fn open(path: &std::path::Path, stamp: String) -> Result<Runtime, String> {
    let shown = path.display();
    let minor = acceptable(library::minor_version(path)).map_err(|why| format!("{shown} is {why}"))?;
    let version = library::open(path).map_err(|why| format!("{shown} does not start: {why}"))?;
    Ok(Runtime {
        version: version.unwrap_or_else(|| format!("1.{minor}")),
        path: path.to_path_buf(),
        stamp,
    })
}

/// The minor version, when it is one to use.
fn acceptable(minor: Option<u32>) -> Result<u32, String> {
    match minor {
        None => Err("not a library of onnx runtime 1.x".into()),
        Some(old) if old < OLDEST => Err(format!(
            "onnx runtime 1.{old}, and 1.{OLDEST}.0 is the oldest that is safe"
        )),
        Some(minor) => Ok(minor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_starts_once_and_is_not_older_than_its_safe_version() {
        let first = start().unwrap();
        assert!(std::ptr::eq(first, start().unwrap()));
        let minor: u32 = first.version.split('.').nth(1).unwrap().parse().unwrap();
        assert!(minor >= OLDEST, "{}", first.version);
        assert!(first.version.split('.').count() == 3, "{}", first.version);
    }

    #[test]
    fn an_older_library_is_refused_by_its_version() {
        assert_eq!(acceptable(Some(OLDEST)), Ok(OLDEST));
        assert!(
            acceptable(Some(31))
                .unwrap_err()
                .contains("1.31, and 1.32.0 is the oldest")
        );
        assert!(acceptable(None).is_err());
    }

    #[test]
    fn a_file_that_is_no_library_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let why = open(&path, String::new()).unwrap_err();
        assert!(why.contains("libonnxruntime.so is not a library"), "{why}");
        let why = attempt(&path).unwrap_err();
        assert!(why.contains("set onnxruntime_sha256"), "it is not even loaded: {why}");
        let why = attempt(&dir.path().join("nothing.so")).unwrap_err();
        assert!(why.contains("nothing.so does not exist"), "{why}");
    }
}
