//! Another file in the ledger's place: after a migration, and after a rescue.
//!
//! Always holds: at whatever moment the process ends, the ledger is the old file with its log, or the new one without;
//! the old one is kept beside it under a name of its own. `ledger.next.sqlite` is a whole, synced file: from its name on
//! the change is decided, and a start that finds it carries it out. A log never meets a file that it does not belong to.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::LedgerError;

/// A backup, or a damaged file, is kept so long, and no longer than until somebody erases rows.
pub(super) const KEPT: Duration = Duration::from_hours(30 * 24);
pub(super) const LEDGER: &str = "ledger.sqlite";
const DRAFT: &str = "ledger.draft.sqlite";
const NEXT: &str = "ledger.next.sqlite";
const KINDS: [&str; 2] = ["ledger.format-", "ledger.damaged-"];

fn wrap(path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_path_buf();
    move |source| LedgerError::File { path, source }
}

fn sync_directory(state: &Path) -> Result<(), LedgerError> {
    File::open(state).and_then(|dir| dir.sync_all()).map_err(wrap(state))
}

fn remove(path: &Path) -> Result<bool, LedgerError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(wrap(path)(error)),
    }
}

/// The files that SQLite keeps beside one.
fn beside(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

/// An empty file to build the next ledger in, readable by its owner alone.
pub(super) fn draft(state: &Path) -> Result<PathBuf, LedgerError> {
    let path = state.join(DRAFT);
    remove(&path)?;
    for path in beside(&path) {
        remove(&path)?;
    }
    super::lock::create(&path).map_err(wrap(&path))?;
    Ok(path)
}

/// Puts the draft in the ledger's place; the old file, with its log, is kept under `name`, or one like it. Nobody may have
/// either open.
///
/// # Errors
/// What the system says; then the ledger is the old one.
pub(super) fn swap(state: &Path, name: &str) -> Result<PathBuf, LedgerError> {
    let (draft, next, ledger) = (state.join(DRAFT), state.join(NEXT), state.join(LEDGER));
    File::open(&draft)
        .and_then(|file| file.sync_all())
        .map_err(wrap(&draft))?;
    let kept = keep(state, &ledger, name)?;
    sync_directory(state)?;
    fs::rename(&draft, &next).map_err(wrap(&next))?;
    sync_directory(state)?;
    finish(state)?;
    Ok(kept)
}

/// A second name for the ledger's file and its log.
fn keep(state: &Path, ledger: &Path, name: &str) -> Result<PathBuf, LedgerError> {
    for number in 0..1_000 {
        let kept = match number {
            0 => state.join(format!("{name}.sqlite")),
            number => state.join(format!("{name}.{number}.sqlite")),
        };
        match fs::hard_link(ledger, &kept) {
            Ok(()) => {}
            // Where links cannot be had, and where an earlier try has made it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match is_same(ledger, &kept) {
                true => {}
                false => continue,
            },
            Err(_) => drop(fs::copy(ledger, &kept).map_err(wrap(&kept))?),
        }
        for (from, to) in beside(ledger).into_iter().zip(beside(&kept)).take(1) {
            if from.metadata().is_ok_and(|about| about.len() > 0) {
                remove(&to)?;
                fs::copy(&from, &to).map_err(wrap(&to))?;
                File::open(&to).and_then(|file| file.sync_all()).map_err(wrap(&to))?;
            }
        }
        return Ok(kept);
    }
    Err(wrap(ledger)(io::Error::other(
        "a thousand copies of it are kept: move them away",
    )))
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| path.metadata().ok().map(|about| (about.dev(), about.ino()));
    inode(one).is_some_and(|one| inode(other) == Some(one))
}

/// Carries out what an earlier process has decided, and clears away what it had not.
///
/// # Errors
/// What the system says.
pub(super) fn finish(state: &Path) -> Result<(), LedgerError> {
    let (draft, next, ledger) = (state.join(DRAFT), state.join(NEXT), state.join(LEDGER));
    if next.exists() {
        // The mark speaks of the old file, too.
        let mut gone = remove(&state.join(super::mark::NAME))?;
        for path in beside(&ledger) {
            gone |= remove(&path)?;
        }
        if gone {
            sync_directory(state)?;
        }
        fs::rename(&next, &ledger).map_err(wrap(&ledger))?;
        sync_directory(state)?;
    }
    remove(&draft)?;
    for path in beside(&draft) {
        remove(&path)?;
    }
    Ok(())
}

/// The kept files: backups from before a migration, and damaged files.
pub(super) fn kept(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let is_kept = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        KINDS.iter().any(|kind| name.starts_with(kind))
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_kept).collect();
    paths.sort();
    paths
}

/// Removes kept files that have been there for longer than [`KEPT`]; they hold people's rows.
pub(super) fn remove_old(state: &Path) {
    for path in kept(state) {
        let age = path
            .metadata()
            .and_then(|about| about.modified())
            .map(|then| then.elapsed());
        // A clock that stands before the file's time says nothing.
        if age.is_ok_and(|age| age.is_ok_and(|age| age > KEPT)) {
            match fs::remove_file(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "a kept copy of the ledger was old enough to go"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a kept copy of the ledger should go"),
            }
        }
    }
}

/// Removes all kept files: something was erased that they may hold.
///
/// # Errors
/// What the system says; try again.
pub(super) fn remove_kept(state: &Path) -> Result<(), LedgerError> {
    for path in kept(state) {
        if remove(&path)? {
            tracing::info!(path = %path.display(), "rows were erased: a kept copy of the ledger went with them");
        }
    }
    Ok(())
}
