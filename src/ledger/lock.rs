//! The state directory: who may look into it, and which process holds it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::LedgerError;

/// A process that was killed holds its lock until the kernel has taken it apart, which a loaded model makes long.
const DYING: Duration = Duration::from_secs(3);
/// Between two tries.
const POLL: Duration = Duration::from_millis(50);

/// Exclusive hold of a state directory, let go on drop and by the system when the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of `state`, creating the directory, open to its owner alone, if needed. Waits up to three seconds
    /// for a process that is ending.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another process keeps it.
    pub fn take(state: &Path) -> Result<Self, LedgerError> {
        Self::take_within(state, DYING)
    }

    fn take_within(state: &Path, patience: Duration) -> Result<Self, LedgerError> {
        let wrap = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LedgerError::File { path, source }
        };
        // Labels, features and the key of the ids are in there.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.map_err(wrap(state))?;
        let path = state.join("lock");
        let file = create(&path).map_err(wrap(&path))?;
        let end = Instant::now() + patience;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < end => {}
                Err(std::fs::TryLockError::WouldBlock) => return Err(LedgerError::Locked(state.to_path_buf())),
                Err(std::fs::TryLockError::Error(source)) => return Err(LedgerError::File { path, source }),
            }
            if !said {
                said = true;
                let state = state.display();
                tracing::info!(%state, "another process holds the state directory: waiting whether it is ending");
            }
            std::thread::sleep(POLL);
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
        let second = StateLock::take_within(dir.path(), Duration::ZERO);
        assert!(matches!(second, Err(LedgerError::Locked(_))));
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_process_that_is_ending_is_waited_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let dying = StateLock::take(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let successor = scope.spawn(|| StateLock::take_within(dir.path(), Duration::from_secs(60)));
            assert!(!successor.is_finished());
            drop(dying);
            successor.join().unwrap().unwrap();
        });
    }
}
