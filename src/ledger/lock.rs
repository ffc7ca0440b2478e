//! The state directory: who may look into it, and which process holds it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::LedgerError;

/// Exclusive hold of a state directory, let go on drop and by the system when the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of `state`, creating the directory, open to its owner alone, if needed.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another process holds it.
    pub fn take(state: &Path) -> Result<Self, LedgerError> {
        let wrap = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LedgerError::File { path, source }
        };
        // Labels, features and the key of the ids are in there.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.map_err(wrap(state))?;
        let path = state.join("lock");
        let file = create(&path).map_err(wrap(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(LedgerError::Locked(state.to_path_buf())),
            Err(std::fs::TryLockError::Error(source)) => Err(LedgerError::File { path, source }),
        }
    }
}

/// Opens a file for writing; a new one is readable by its owner alone. Modes that somebody gave are left alone.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn only_the_owner_can_read_the_state() {
        let dir = tempfile::TempDir::new().unwrap();
        let state = dir.path().join("a/state");
        let _lock = StateLock::take(&state).unwrap();
        let mut ledger = Ledger::open(&state).unwrap();
        ledger.transaction(true, |writer| writer.model("m")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        for file in std::fs::read_dir(&state).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_second_process_is_refused_until_the_first_lets_go() {
        let dir = tempfile::TempDir::new().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        assert!(matches!(StateLock::take(dir.path()), Err(LedgerError::Locked(_))));
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }
}
