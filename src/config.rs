//! Settings: `dethrone.toml` of the server, `model.toml` of a model, `<version>.toml` of a version.
//!
//! Always holds: a file is taken whole or not at all; every fault of a file is reported at once, with its line, its
//! key and what to change; a key that means nothing here is refused with the nearest known one; what this version
//! cannot do yet is refused rather than ignored (`config/unavailable.rs`).
//! Leaves to others: what the settings mean for a running model, and which of them restart its evidence.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

mod effective;
mod fault;
mod keys;
mod model;
mod reader;
mod server;
mod unavailable;
mod value;
mod version;

pub use effective::{Effective, Source};
pub use fault::{ConfigError, Fault};
pub(crate) use keys::check_keys;
pub use keys::{Allowance, KeyConfig, keys_of};
pub use model::{
    Bound, EvidenceFrom, ExecutionConfig, ExecutionMode, GroupConfig, Interface, Isolation, LabelConfig, MetricSetting,
    Missing, Mode, ModelConfig, MonitorConfig, PolicyConfig, RecordConfig, RetrainConfig, ShadowConfig, Unknown, When,
};
pub use server::{RetentionConfig, RunnerConfig, ServeArgs, ServerConfig, ShadowBudget, TlsConfig};
pub use version::{Lineage, VersionConfig};

/// No settings file of a person comes near this; a larger one is a mistake, or an attack on memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The text of a settings file; `None` when there is no such file.
pub(crate) fn text_of(path: &Path) -> Result<Option<String>, ConfigError> {
    let fault = |message: String| ConfigError::one(&path.display().to_string(), message);
    let Some(bytes) = bytes_of(path).map_err(fault)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| fault("is not UTF-8 text: save it as UTF-8".into()))
}

/// The bytes of a file of a person's; `None` when there is no such file. The error is a sentence about it.
///
/// Opened without blocking, so that a pipe under the name of a settings file cannot hold the reader up.
pub(crate) fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read ({error}): check its permissions")),
    };
    let about = file.metadata().map_err(|error| format!("cannot be read ({error})"))?;
    if !about.is_file() {
        return Err("is not a regular file: put a text file in its place or remove it".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes: settings are short"));
    }
    Ok(Some(bytes))
}
