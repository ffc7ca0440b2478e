//! From a directory to settled files in the content store.
//!
//! `watch` says when to look, `scan` what lies there, `settle` which of it stands still, `store` copies it once and
//! names it by its bytes. Always holds: what a name means is decided by the bytes that it resolves to, never by a
//! time stamp; nothing outside a model's directory is read; no file in the directory can block or crash a look at it.
//! Leaves to others: what an ONNX file says (a function argument), roles of versions, and what a vanished file means.

pub mod scan;
pub mod settle;
pub mod store;
pub mod watch;

/// Names the external data files that an ONNX file refers to; the error says why the bytes are not a model.
pub type External<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<String>, String>;

/// Longest name of a model or a version.
const MAX_NAME: usize = 128;

/// Why a name cannot be that of a model, a version or an external data file.
fn bad_name(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if name.len() > MAX_NAME {
        Some(format!("its name is longer than {MAX_NAME} characters: rename it"))
    } else if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        Some("its name may hold letters, digits and . _ @ - only, and not begin with a dot: rename it".into())
    } else {
        None
    }
}

/// External data lies beside its model file, under a name of its own.
fn is_external_name(name: &str) -> bool {
    bad_name(name).is_none() && name != store::MAIN
}
