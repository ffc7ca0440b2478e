//! Which files are loaded as ONNX Runtime: those of the pinned wheels, and the one whose hash the settings name.
//!
//! Always holds: a file is hashed before it is loaded, for loading a library runs it. Hashing its 35 MB was measured at a
//! tenth of a second, looking at its stamp at a twenty-thousandth; so it is hashed once, and a child process is told
//! which file its parent has hashed: where size, time and inode are still the same, it goes by that.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Where the settings' hash may stand beside `dethrone.toml`; commands that read no settings go by it alone.
pub(super) const VARIABLE: &str = "DETHRONE_ONNXRUNTIME_SHA256";

/// The libraries inside the wheels of `requirements-ort.txt`.
const PINNED: [(&str, &str); 5] = [
    (
        "linux x86_64",
        "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    ),
    (
        "linux aarch64",
        "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    ),
    (
        "macos arm64",
        "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
    ),
    (
        "windows x86_64",
        "e9feebaed867b76f741c14ae64e056a3da64a153a61994f1fb48eadc7f9b3ba8",
    ),
    (
        "windows arm64",
        "d3587771474d96427cc5683fa49440127e928622a5e9df0f3e24209ae1fc42ad",
    ),
];

static ALLOWED: OnceLock<String> = OnceLock::new();
static TRUSTED: OnceLock<String> = OnceLock::new();

/// Lets a library with this SHA-256 be loaded, besides the pinned ones. To be called before the library is started.
pub fn allow(sha256: &str) {
    let _ = ALLOWED.set(sha256.to_ascii_lowercase());
}

/// Takes a parent's word that the file of this stamp may be loaded.
pub(crate) fn trust(stamp: &str) {
    let _ = TRUSTED.set(stamp.to_owned());
}

/// The hash as the settings have it: 64 hexadecimal digits.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether this file may be loaded; gives its stamp.
///
/// # Errors
/// It may not, and the line that would let it.
pub(super) fn check(path: &Path) -> Result<String, String> {
    let from_variable = || std::env::var(VARIABLE).ok().map(|hash| hash.to_ascii_lowercase());
    let allowed = ALLOWED.get().cloned().or_else(from_variable);
    check_against(path, allowed.as_deref(), TRUSTED.get().map(String::as_str))
}

fn check_against(path: &Path, allowed: Option<&str>, trusted: Option<&str>) -> Result<String, String> {
    let shown = path.display();
    let broken = |error: io::Error| format!("{shown} cannot be read: {error}");
    let before = stamp(path).map_err(broken)?;
    if trusted == Some(before.as_str()) {
        return Ok(before);
    }
    let hash = sha256(path).map_err(broken)?;
    if stamp(path).map_err(broken)? != before {
        return Err(format!("{shown} was written to while it was read: try again"));
    }
    if PINNED.iter().any(|(_, pinned)| *pinned == hash) || allowed == Some(hash.as_str()) {
        return Ok(before);
    }
    Err(format!(
        "{shown} is none of the libraries that this version was made for: if it is to be trusted, set onnxruntime_sha256 = \
         \"{hash}\" in dethrone.toml, --onnxruntime-sha256 or {VARIABLE}"
    ))
}

/// What changes when the file is replaced or written to.
#[cfg(unix)]
fn stamp(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let m = fs::metadata(path)?;
    let (changed, ns) = (m.ctime(), m.ctime_nsec());
    Ok(format!("{}:{}:{}:{changed}:{ns}", m.dev(), m.ino(), m.size()))
}

/// Elsewhere nobody is started who could be told.
#[cfg(not(unix))]
fn stamp(path: &Path) -> io::Result<String> {
    fs::metadata(path).map(|m| format!("{}:{:?}", m.len(), m.modified().ok()))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_pinned_is_refused_with_the_hash_that_lets_it_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libonnxruntime.so");
        fs::write(&path, b"abc").unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let why = check_against(&path, Some("00"), None).unwrap_err();
        assert!(why.contains(&format!("onnxruntime_sha256 = \"{hash}\"")), "{why}");
        let stamp = check_against(&path, Some(hash), None).unwrap();
        assert_eq!(
            check_against(&path, None, Some(&stamp)),
            Ok(stamp.clone()),
            "a parent's word"
        );
        // Another file of this name is another file.
        fs::write(dir.path().join("other"), b"abd").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        assert!(check_against(&path, None, Some(&stamp)).is_err());
    }

    #[test]
    fn every_pinned_hash_is_one() {
        assert!(PINNED.iter().all(|(_, hash)| is_sha256(hash)));
        assert!(!is_sha256("ba78") && !is_sha256(&"g".repeat(64)));
    }
}
