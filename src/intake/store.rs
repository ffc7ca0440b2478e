//! The content store: `blobs/sha256/<digest>/model.onnx` in the state directory, external data beside it.
//!
//! Always holds: a directory of a digest is whole (it is renamed into place after its files are on disk) and is
//! never written again; the same bytes are kept once; what is loaded later are the bytes that were hashed, whatever
//! has become of the file they came from.
//! Leaves to others: when a digest is no longer needed (see [`Store::sweep`]).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::External;

mod copy;

pub(super) use copy::open_part;
use copy::{Draft, hex, pour, sync};

/// Name of every stored model file.
pub(super) const MAIN: &str = "model.onnx";
const PREFIX: &str = "sha256:";
/// A model in more files than this is not an export of anything known; what reads the names has the same limit.
pub(super) const MAX_EXTERNAL: usize = 1_024;

/// An external data file, by its name in the model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name in the model file.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A version's files, ready to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The version's name.
    pub name: String,
    /// The real directory beneath which all files must lie.
    pub root: PathBuf,
    /// The model file.
    pub path: PathBuf,
    /// External data, by name.
    pub external: Vec<Part>,
}

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The model file; external data lies beside it.
    pub path: PathBuf,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// These bytes will never be taken: the version is rejected until the file changes.
    #[error("{0}")]
    Refused(String),
    /// The file changed or went while it was read: to be tried again.
    #[error("{0}")]
    Changed(String),
    /// The store cannot take anything: to be tried again later.
    #[error("the store in the state directory failed ({0}): check its space and permissions")]
    Storage(io::Error),
    /// The stored files are not what their digest says.
    #[error("{0}")]
    Damaged(String),
    /// Nothing is stored under the digest.
    #[error("{0}")]
    Missing(String),
}

/// The content store; one per state directory.
#[derive(Debug)]
pub struct Store {
    blobs: PathBuf,
    temporary: PathBuf,
    max_bytes: u64,
    next: AtomicU64,
}

impl Store {
    /// Opens the store in the state directory and clears what an earlier process left half-made. `max_bytes` bounds a
    /// model with its external data.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn open(state: &Path, max_bytes: u64) -> Result<Self, IntakeError> {
        let store = Self::beside(state, max_bytes)?;
        store.clear()?;
        Ok(store)
    }

    /// The same beside another process that may be taking files in: nothing is removed, and nothing is to be put before
    /// [`Store::clear`].
    ///
    /// # Errors
    /// [`IntakeError::Storage`].
    pub fn beside(state: &Path, max_bytes: u64) -> Result<Self, IntakeError> {
        let (blobs, temporary) = (state.join("blobs/sha256"), state.join("blobs/tmp"));
        fs::create_dir_all(&blobs).map_err(IntakeError::Storage)?;
        fs::create_dir_all(&temporary).map_err(IntakeError::Storage)?;
        Ok(Self {
            blobs,
            temporary,
            max_bytes,
            next: AtomicU64::new(0),
        })
    }

    /// Removes what a process that has ended left half copied.
    ///
    /// # Errors
    /// [`IntakeError::Storage`].
    pub fn clear(&self) -> Result<(), IntakeError> {
        fs::remove_dir_all(&self.temporary).map_err(IntakeError::Storage)?;
        fs::create_dir_all(&self.temporary).map_err(IntakeError::Storage)
    }

    /// Takes a unit: copies and hashes its files in one reading each.
    ///
    /// # Errors
    /// See [`IntakeError`].
    pub fn put(&self, unit: &Unit, external: External<'_>) -> Result<Stored, IntakeError> {
        let draft = self.draft()?;
        let mut left = self.max_bytes;
        let source = open_part(&unit.path, &unit.root)?;
        let main = draft.copy(MAIN, source, &mut left)?;
        if left == self.max_bytes {
            return Err(IntakeError::Refused("is empty (a copy that has not finished?)".into()));
        }
        let bytes = fs::read(draft.path.join(MAIN)).map_err(IntakeError::Storage)?;
        let mut names = external(&bytes).map_err(IntakeError::Refused)?;
        drop(bytes);
        names.sort();
        names.dedup();
        check_external(&names)?;
        let mut parts = vec![(MAIN.to_owned(), main)];
        for name in names {
            let part = unit.external.iter().find(|part| part.name == name);
            let part = part.ok_or_else(|| IntakeError::Changed(format!("external data {name} is new")))?;
            let named = |e| within(&name, e);
            let source = open_part(&part.path, &unit.root).map_err(named)?;
            let links = source.metadata().map_err(IntakeError::Storage)?.nlink();
            if links > 1 {
                return Err(IntakeError::Refused(format!(
                    "its external data {name} is a hard link: copy the file (cp --reflink=auto, or dvc config \
                     cache.type copy)"
                )));
            }
            let hash = draft.copy(&name, source, &mut left).map_err(named)?;
            parts.push((name, hash));
        }
        self.keep(draft, &parts, self.max_bytes - left)
    }

    /// Takes a model that was made from the stored model `of`, whose external data it shares.
    ///
    /// # Errors
    /// See [`IntakeError`].
    pub fn put_derived(&self, bytes: &[u8], of: &str) -> Result<Stored, IntakeError> {
        let draft = self.draft()?;
        let mut left = self.max_bytes;
        let mut parts = vec![(MAIN.to_owned(), draft.copy(MAIN, bytes, &mut left)?)];
        for name in self.parts(of)?.into_iter().filter(|name| name != MAIN) {
            let source = File::open(self.folder(of)?.join(&name)).map_err(IntakeError::Storage)?;
            let hash = draft.copy(&name, source, &mut left)?;
            parts.push((name, hash));
        }
        self.keep(draft, &parts, self.max_bytes - left)
    }

    /// The model file of a digest, when the store has it.
    #[must_use]
    pub fn path(&self, digest: &str) -> Option<PathBuf> {
        let path = self.folder(digest).ok()?.join(MAIN);
        path.is_file().then_some(path)
    }

    /// Reads a stored model again and compares it with its digest.
    ///
    /// # Errors
    /// It is not there, or not what its digest says.
    pub fn verify(&self, digest: &str) -> Result<(), IntakeError> {
        compare(&self.folder(digest)?, digest)
    }

    /// Puts a stored model that is not what its digest says out of the way, for somebody to look at: its place is free
    /// for a good copy.
    ///
    /// # Errors
    /// It cannot be moved.
    pub fn set_aside(&self, digest: &str) -> Result<PathBuf, IntakeError> {
        let folder = self.folder(digest)?;
        let aside = folder.with_extension("damaged");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(IntakeError::Storage)?;
        }
        fs::rename(&folder, &aside).map_err(IntakeError::Storage)?;
        sync(&self.blobs).map_err(IntakeError::Storage)?;
        Ok(aside)
    }

    /// Removes stored models that nobody needs: those that `is_needed` knows nothing of, and that were stored after `since`
    /// (what is older may belong to a ledger that is not here any more). Only while nothing is being stored. Gives how many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sweep(&self, is_needed: impl Fn(&str) -> bool, since: SystemTime) -> Result<usize, IntakeError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.blobs).map_err(IntakeError::Storage)?.flatten() {
            let name = entry.file_name();
            let digest = format!("{PREFIX}{}", name.to_string_lossy());
            // What was set aside has another name: somebody is to look at it.
            let Ok(folder) = self.folder(&digest) else { continue };
            let stored = entry.metadata().and_then(|about| about.modified());
            if is_needed(&digest) || stored.map_or(true, |stored| stored < since) {
                continue;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let gone = self.temporary.join(format!("{number}.gone"));
            // Away at once, whatever becomes of the rest: a start clears it.
            fs::rename(&folder, &gone).map_err(IntakeError::Storage)?;
            fs::remove_dir_all(&gone).map_err(IntakeError::Storage)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Names of a stored model's files: the model first, then external data in order.
    fn parts(&self, digest: &str) -> Result<Vec<String>, IntakeError> {
        parts_in(&self.folder(digest)?, digest)
    }

    /// A digest is also part of a path: only 64 hexadecimal digits may be.
    fn folder(&self, digest: &str) -> Result<PathBuf, IntakeError> {
        digest
            .strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
            .map(|hex| self.blobs.join(hex))
            .ok_or_else(|| IntakeError::Refused(format!("'{}' is not a digest", digest.escape_debug())))
    }

    fn draft(&self) -> Result<Draft, IntakeError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.temporary.join(number.to_string());
        fs::create_dir(&path).map_err(IntakeError::Storage)?;
        Ok(Draft { path })
    }

    /// Gives the draft its place, unless the same bytes have it already.
    fn keep(&self, draft: Draft, parts: &[(String, String)], bytes: u64) -> Result<Stored, IntakeError> {
        let digest = digest_of(parts);
        let folder = self.folder(&digest)?;
        let stored = Stored {
            path: folder.join(MAIN),
            digest,
            bytes,
        };
        if folder.is_dir() {
            return Ok(stored);
        }
        sync(&draft.path).map_err(IntakeError::Storage)?;
        match fs::rename(&draft.path, &folder) {
            Ok(()) => sync(&self.blobs).map_err(IntakeError::Storage)?,
            // Another thread put the same bytes in between.
            Err(_) if folder.is_dir() => {}
            Err(error) => return Err(IntakeError::Storage(error)),
        }
        drop(draft);
        Ok(stored)
    }
}

/// The bytes of a file beneath `root`, no more than `max_bytes` of them.
///
/// # Errors
/// It is no regular file there, or larger.
pub fn bytes_of(path: &Path, root: &Path, max_bytes: u64) -> Result<Vec<u8>, IntakeError> {
    let file = open_part(path, root)?;
    let mut bytes = Vec::new();
    let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    let read = read.map_err(|e| IntakeError::Changed(format!("cannot be read ({e})")))?;
    if read as u64 > max_bytes {
        return Err(IntakeError::Refused(copy::too_large()));
    }
    Ok(bytes)
}

/// Reads the stored model in `folder` and compares it with its digest.
///
/// # Errors
/// It is not there, or not what its digest says.
pub fn compare(folder: &Path, digest: &str) -> Result<(), IntakeError> {
    let mut parts = Vec::new();
    for name in parts_in(folder, digest)? {
        let mut hasher = Sha256::new();
        let mut file = File::open(folder.join(&name)).map_err(IntakeError::Storage)?;
        pour(&mut file, |chunk| {
            hasher.update(chunk);
            Ok(())
        })
        .map_err(IntakeError::Storage)?;
        parts.push((name, hex(&hasher.finalize())));
    }
    if digest_of(&parts) == digest {
        return Ok(());
    }
    Err(IntakeError::Damaged(format!("the stored copy of {digest} is damaged")))
}

fn parts_in(folder: &Path, digest: &str) -> Result<Vec<String>, IntakeError> {
    let missing = || IntakeError::Missing(format!("{digest} is not in the content store"));
    let entries = fs::read_dir(folder).map_err(|_| missing())?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_by_key(|name| (name != MAIN, name.clone()));
    match names.first() {
        Some(first) if first == MAIN => Ok(names),
        // An empty place would keep a good copy out.
        _ => Err(IntakeError::Damaged(format!(
            "the stored copy of {digest} has no model file"
        ))),
    }
}

fn check_external(names: &[String]) -> Result<(), IntakeError> {
    if names.len() > MAX_EXTERNAL {
        let found = names.len();
        return Err(IntakeError::Refused(format!(
            "names {found} external data files, more than {MAX_EXTERNAL}: export it with one"
        )));
    }
    match names
        .iter()
        .find(|name| super::bad_name(name).is_some() || *name == MAIN)
    {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(80).collect();
            Err(IntakeError::Refused(format!(
                "its external data '{}' is not a plain file name in the same folder: save the model again with \
                 location=\"<version>.onnx.data\"",
                shown.escape_debug()
            )))
        }
    }
}

/// Says which external file a reason is about.
fn within(name: &str, error: IntakeError) -> IntakeError {
    match error {
        IntakeError::Refused(reason) => IntakeError::Refused(format!("its external data {name} {reason}")),
        IntakeError::Changed(reason) => IntakeError::Changed(format!("its external data {name} {reason}")),
        other => other,
    }
}

/// A lone file's digest is that of its bytes; of several parts, that of their names and digests.
fn digest_of(parts: &[(String, String)]) -> String {
    if let [(_, only)] = parts {
        return format!("{PREFIX}{only}");
    }
    let mut hasher = Sha256::new();
    for (name, hash) in parts {
        hasher.update(format!("{name}\0{hash}\n"));
    }
    format!("{PREFIX}{}", hex(&hasher.finalize()))
}
