//! The ledger: everything that a verdict rests on, in one SQLite file that any tool can open.
//!
//! Always holds: one process writes to it (the lock is a file of its own, taken apart from opening it, so that a
//! successor can read before its predecessor lets go); the generated prediction id is the primary key of a row, its
//! order is the order of time; what must survive a power cut is committed with a sync, the rest with the next one.
//! Leaves to others: when to write and what it means (`recorder`), and the judging (`judge`).

mod book;
mod rows;
mod schema;

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub use book::{DecisionRow, JournalEntry, ModelRow, Snapshot, VersionRow};
pub use rows::{LabelRow, OpenRow, Position, PredictionRow};

/// What went wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the state directory.
    #[error("{0} is in use by another dethrone process: stop it, or give this one a state directory of its own")]
    Locked(PathBuf),
    /// The file was written by a newer program.
    #[error("the ledger has format {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// Format found in the file.
        found: i64,
        /// Newest format that this program reads.
        known: i64,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("ledger: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A stored text does not read back.
    #[error("ledger: {what} does not read back: {source}")]
    Json {
        /// What was read.
        what: &'static str,
        /// Why it does not parse.
        source: serde_json::Error,
    },
}

/// Exclusive hold of a state directory, let go on drop and by the system when the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of `state`, creating the directory if needed.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] when another process holds it.
    pub fn take(state: &Path) -> Result<Self, LedgerError> {
        let wrap = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LedgerError::File { path, source }
        };
        std::fs::create_dir_all(state).map_err(wrap(state))?;
        let path = state.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(wrap(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(LedgerError::Locked(state.to_path_buf())),
            Err(std::fs::TryLockError::Error(source)) => Err(LedgerError::File { path, source }),
        }
    }
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
}

impl Ledger {
    /// Opens `state/ledger.sqlite`, creating it if there is none.
    ///
    /// # Errors
    /// A file from a newer program, or what SQLite says.
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        let connection = Connection::open(state.join("ledger.sqlite"))?;
        schema::prepare(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection })
    }

    /// Runs `work` in one transaction. `durable` makes the commit wait for the disk; without it the commit reaches
    /// the operating system only, and the next durable one syncs it too.
    ///
    /// # Errors
    /// What `work` or the commit says; nothing is kept then.
    pub fn transaction<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        // In WAL mode FULL syncs the log at each commit, NORMAL at checkpoints only.
        self.connection
            .pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = work(&mut Writer {
            connection: &self.connection,
        })
        .and_then(|value| {
            self.connection
                .execute_batch("COMMIT")
                .map(|()| value)
                .map_err(LedgerError::from)
        });
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        done
    }

    /// Reads outside a transaction.
    #[must_use]
    pub fn reader(&self) -> Writer<'_> {
        Writer {
            connection: &self.connection,
        }
    }
}

/// Statements on an open ledger; inside [`Ledger::transaction`] they belong to it.
#[derive(Debug)]
pub struct Writer<'a> {
    connection: &'a Connection,
}
