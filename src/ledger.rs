//! The ledger: everything that a verdict rests on, in one SQLite file that any tool can open.
//!
//! Always holds: one process writes to it (the lock is a file of its own, taken apart from opening it, so that a
//! successor can read before its predecessor lets go); the generated prediction id is the primary key of a row, its
//! order is the order of time; what must survive a power cut is committed with a sync, the rest with the next one; a
//! failed sync is not tried again on the same log, it is followed by a new log ([`Ledger::heal`]); what is damaged is
//! found by its seal, named, and not counted (`seal`, `check`), and a broken file is set aside and its whole rows are kept
//! (`rescue`).
//! Leaves to others: when to write and what it means (`recorder`), and the judging (`judge`).

mod approvals;
mod audit;
mod book;
mod check;
mod checkpoint;
mod exports;
#[cfg(test)]
mod faults;
mod follow;
mod frames;
mod heal;
mod inserts;
mod kept;
mod labels;
mod lock;
mod log;
mod mark;
mod migrate;
mod names;
mod news;
mod open;
mod outcome;
mod own;
mod pages;
mod pairs;
mod past;
mod person;
mod principals;
pub mod receipts;
mod remarks;
mod rescue;
mod retention;
mod retrainings;
mod rewards;
mod rows;
mod schema;
mod seal;
mod shape;
mod swap;
mod tenure;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use checkpoint::{CHECKPOINT_PAGES, Moving};
use mark::{Mark, Reached};

pub use approvals::Approved;
pub use audit::Audit;
pub use book::{Cursor, DecisionRow, JournalEntry, ModelRow, Snapshot, VersionRow};
pub use check::{all as check_all, seal_again};
pub use exports::{Copied, ExportRow, Leaving, LeavingLabel, Said};
pub use follow::{AlarmRow, FollowedRow};
pub use labels::LabelRow;
pub use lock::StateLock;
pub use news::{RefusedRow, VerdictRow};
pub use open::{AnsweredRow, OpenRow, Overlap, Reported};
pub use outcome::Outcomes;
pub use past::{DatedEntry, RecordedDecision, RecordedInputs, RecordedVerdict, is_held};
pub use person::{Erased, MOST_ROWS};
pub use principals::Report;
pub use remarks::{MOST_REMARKS, Remarked};
pub use retention::{Kept, NextRow, Removed, Size};
pub use retrainings::{RetrainState, RetrainingRow};
pub use rewards::{RewardRow, RewardTotal};
pub use rows::{Position, PredictionRow, Recording};
pub use seal::Damage;
pub use tenure::{Both, Tenure};

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
    /// The file is of an older format, and only to be read.
    #[error(
        "the ledger has format {found}, this program reads {known}: start `dethrone serve` on it once, which brings it up to date"
    )]
    Older {
        /// Format found in the file.
        found: i64,
        /// Format that this program reads.
        known: i64,
    },
    /// The file cannot be opened as a ledger.
    #[error("{path}: {source}{}", heal::remedy(source))]
    Unusable {
        /// The file.
        path: PathBuf,
        /// SQLite's word.
        source: rusqlite::Error,
    },
    /// A file operation failed.
    #[error("{path}: {source}{}", heal::room(source))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Compare-and-set: it was changed in between.
    #[error("the register was changed by somebody else: read it again")]
    Conflict,
    /// What it holds is not what was written.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The log could not be moved into the file, because somebody reads it.
    #[error(
        "ledger: after a failed write the log must be written anew, and another process holds it: close its reader"
    )]
    LogInUse,
    /// SQLite refused.
    #[error("ledger: {0}{remedy}", remedy = heal::remedy(.0))]
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

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    /// The checkpoint that is under way. Dropped first: the last connection to close is this ledger's own.
    moving: Moving,
    connection: Connection,
    state: PathBuf,
    damage: Damage,
    /// `None` where it is only read.
    mark: Option<Mark>,
    /// How commits sync at present.
    durable: Option<bool>,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicU64>,
    /// Pages in the log from which on the next checkpoint is due.
    checkpoint_at: u64,
}

impl Ledger {
    /// Opens `state/ledger.sqlite`, creating it, readable by its owner alone, if there is none.
    ///
    /// # Errors
    /// A file from a newer program, or what the system or SQLite says.
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        Self::open_counting(state, Damage::default())
    }

    /// The same, where damage is counted that others already look at.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_counting(state: &Path, damage: Damage) -> Result<Self, LedgerError> {
        swap::finish(state)?;
        swap::remove_old(state);
        let path = state.join(swap::LEDGER);
        if is_lost(state) {
            tracing::warn!(
                path = %path.display(),
                "the ledger is missing or empty though the key of its ids is there: a new one begins, without champions, \
                 evidence and open ids; stop and restore a copy if there is one"
            );
        }
        // SQLite gives its log and its index the mode of the file.
        lock::create(&path).map_err(|source| LedgerError::File {
            path: path.clone(),
            source,
        })?;
        let connection = match opened(&path, &damage) {
            Err(LedgerError::Older { found, .. }) => {
                migrate::migrate(state, found)?;
                opened(&path, &damage)?
            }
            Err(cause) if cause.is_damage() => {
                let rescued = rescue::rescue(state, &damage, cause)?;
                tracing::error!(
                    rows = rescued.rows, damaged = %rescued.aside.display(),
                    "the ledger was damaged: its whole rows were saved into a new one, challengers earn their evidence anew"
                );
                opened(&path, &damage)?
            }
            opened => opened?,
        };
        Self::new(connection, state, damage)
    }

    fn new(mut connection: Connection, state: &Path, damage: Damage) -> Result<Self, LedgerError> {
        connection.set_prepared_statement_cache_capacity(96);
        let log_pages = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&log_pages);
        // In place of SQLite's own checkpoint, which would run inside a commit.
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            counted.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let mut ledger = Self {
            connection,
            state: state.to_path_buf(),
            damage,
            mark: None,
            durable: None,
            log_pages,
            checkpoint_at: CHECKPOINT_PAGES,
            moving: Moving::default(),
        };
        ledger.hold_against_mark()?;
        Ok(ledger)
    }

    /// What was found damaged so far; whoever has it sees what is found later.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
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
        if self.durable != Some(durable) {
            // In WAL mode FULL syncs the log at each commit, NORMAL at checkpoints only.
            self.connection
                .pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.durable = Some(durable);
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let changes = self.connection.total_changes();
        let mut commits = None;
        let done = work(&mut Writer {
            connection: &self.connection,
        })
        .and_then(|value| {
            // What changed nothing has nothing to wait for.
            if durable && self.connection.total_changes() != changes {
                commits = Some(self.count_commit()?);
            }
            frames::commit(&self.connection)?;
            Ok(value)
        });
        if let (Ok(_), Some(commits), Some(mark)) = (&done, commits, &mut self.mark) {
            let reached = mark.reached();
            mark.put(Reached { commits, ..reached });
        }
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        done
    }

    /// Moves all of the log into the file and empties it, so that nothing of what was erased is left there. False while
    /// somebody reads an old state: try again later.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn empty_log(&mut self) -> Result<bool, LedgerError> {
        // Whoever reads is not waited for: rows are.
        self.connection.busy_timeout(std::time::Duration::ZERO)?;
        let busy: Result<i64, _> = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.connection.busy_timeout(schema::BUSY)?;
        Ok(busy? == 0)
    }

    /// So many rows are recorded, of all models: the next start can tell how many a power cut has cost.
    pub fn note_rows(&mut self, rows: u64) {
        if let Some(mark) = &mut self.mark {
            let reached = mark.reached();
            // While the models come back after a start, only some are counted.
            let rows = rows.max(reached.rows);
            mark.put(Reached { rows, ..reached });
        }
    }

    /// Overwrites what was erased wherever the state directory may still have it: in the log, and in kept copies of the
    /// ledger, which go. False while somebody reads an old state: try again later.
    ///
    /// # Errors
    /// What SQLite or the system says.
    pub fn scrub(&mut self) -> Result<bool, LedgerError> {
        swap::remove_kept(&self.state)?;
        self.empty_log()
    }

    /// Reads outside a transaction.
    #[must_use]
    pub fn reader(&self) -> Writer<'_> {
        Writer {
            connection: &self.connection,
        }
    }
}

/// A connection to a ledger that is of today's format and, as far as can be seen at once, whole.
fn opened(path: &Path, damage: &Damage) -> Result<Connection, LedgerError> {
    let unusable = |source| LedgerError::Unusable {
        path: path.to_path_buf(),
        source,
    };
    check::header(path)?;
    let connection = frames::open(path).map_err(unusable)?;
    seal::install(&connection, damage)?;
    // Before anything is written to it: a file that cannot be saved stays as it was.
    let prepared = schema::is_of_today(&connection)
        .and_then(|is_of_today| match is_of_today {
            true => check::at_start(&connection, path),
            false => Ok(()),
        })
        .and_then(|()| schema::prepare(&connection));
    prepared.map_err(|error| match error {
        LedgerError::Sqlite(source) => unusable(source),
        other => other,
    })?;
    names::begin(&connection)?;
    Ok(connection)
}

/// True when a ledger was here: its key of ids is, and nothing else.
fn is_lost(state: &Path) -> bool {
    let has = |name: &str| std::fs::metadata(state.join(name)).is_ok_and(|about| about.len() > 0);
    has("ids.key") && !has("ledger.sqlite") && !has("ledger.sqlite-wal")
}

/// Statements on an open ledger; inside [`Ledger::transaction`] they belong to it.
#[derive(Debug)]
pub struct Writer<'a> {
    connection: &'a Connection,
}

#[cfg(test)]
impl Writer<'_> {
    /// From now on the file cannot grow, as on a full disk.
    pub(crate) fn fill_the_disk(&self) -> Result<(), LedgerError> {
        let pages: i64 = self
            .connection
            .pragma_query_value(None, "page_count", |row| row.get(0))?;
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        Ok(())
    }

    /// Deferred constraints may fail a commit from now on.
    pub(crate) fn enforce_references(&self) -> Result<(), LedgerError> {
        // SQLite ignores it inside a transaction.
        self.connection
            .execute_batch("COMMIT; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_cannot_be_opened_is_named_with_what_to_do() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("ledger.sqlite");
        std::fs::write(
            &path,
            "no database at all, and longer than a header of a hundred bytes: ".repeat(9),
        )
        .unwrap();
        let text = Ledger::open(dir.path()).unwrap_err().to_string();
        for piece in [path.to_str().unwrap(), "not a database", "move it away", "restore"] {
            assert!(text.contains(piece), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.transaction(true, |writer| writer.model("m")).unwrap();
        drop(ledger);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100..4_000].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(
            ledger.reader().model_names().unwrap(),
            ["m"],
            "its rows lie on another page"
        );
        let (_, found) = ledger.damage().found();
        assert!(found.iter().any(|what| what.contains("ledger.damaged-")), "{found:?}");
        assert_eq!(swap::kept(dir.path()).len(), 1);
        let full = LedgerError::File {
            path: path.clone(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        assert!(full.to_string().contains("make room"), "{full}");
    }

    #[test]
    fn a_ledger_that_was_here_is_missed() {
        let dir = tempfile::TempDir::new().unwrap();
        assert!(!is_lost(dir.path()), "the first start");
        drop(Ledger::open(dir.path()).unwrap());
        std::fs::write(dir.path().join("ids.key"), [1; 16]).unwrap();
        assert!(!is_lost(dir.path()));
        std::fs::write(dir.path().join("ledger.sqlite"), "").unwrap();
        assert!(is_lost(dir.path()));
        std::fs::remove_file(dir.path().join("ledger.sqlite")).unwrap();
        assert!(is_lost(dir.path()));
    }
}
