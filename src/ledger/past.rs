//! The ledger as it is read afterwards, beside a gateway or without one: nothing is ever written.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::open::OpenRow;
use super::rows::{Position, unsigned};
use super::{CHECKPOINT_PAGES, Damage, JournalEntry, Ledger, LedgerError, Writer, names, schema, seal};
use crate::score::{ModelNo, VersionNo};

/// A journal entry and when it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedEntry {
    /// The entry.
    pub entry: JournalEntry,
    /// Unix ms.
    pub time_ms: i64,
}

/// A verdict as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedVerdict {
    /// The last row that was folded or passed over.
    pub row: u64,
    /// Whose.
    pub version: VersionNo,
    /// The verdict, as JSON.
    pub verdict: String,
}

/// A decision as it was recorded, with what it was decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedDecision {
    /// Number over all models.
    pub n: i64,
    /// Unix ms.
    pub time_ms: i64,
    /// promotion, rollback, first, hold, resume, retire.
    pub kind: String,
    /// The outgoing version.
    pub from: Option<VersionNo>,
    /// The incoming version.
    pub to: Option<VersionNo>,
    /// `judge`, `tripwire`, or a person.
    pub author: String,
    /// One sentence.
    pub why: String,
    /// What it was decided from, as JSON.
    pub basis: Option<String>,
}

/// A recorded row's place and inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedInputs {
    /// The generated id's number.
    pub id: i64,
    /// Row number.
    pub row: u64,
    /// Request time, Unix ms.
    pub time_ms: i64,
    /// As they were recorded; `None` where they were not, or were erased.
    pub inputs: Option<Vec<u8>>,
    /// The champion that was asked.
    pub version: VersionNo,
}

impl Ledger {
    /// Opens `state/ledger.sqlite` to read, all of it as it is at this moment. A gateway may go on writing: it is not
    /// disturbed, but its log cannot begin anew while this is open. Beside a log that a killed gateway has left, SQLite
    /// may make the log's index (`-shm`), which holds no data.
    ///
    /// # Errors
    /// No ledger, one of another format, or what SQLite says.
    pub fn open_to_read(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("ledger.sqlite");
        let file = |source| LedgerError::File {
            path: path.clone(),
            source,
        };
        std::fs::metadata(&path).map_err(file)?;
        let log = std::fs::metadata(state.join("ledger.sqlite-wal"));
        let has_log = log.is_ok_and(|about| about.len() > 0);
        let unusable = |source| LedgerError::Unusable {
            path: path.clone(),
            source,
        };
        let connection = if has_log || is_held(state) {
            Connection::open_with_flags(
                &path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )
        } else {
            // Without a log nothing else is made beside it.
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable(&path), flags)
        };
        let connection = connection.map_err(unusable)?;
        let damage = Damage::default();
        seal::install(&connection, &damage)?;
        schema::check(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        names::begin_to_read(&connection)?;
        connection.execute_batch("PRAGMA query_only = ON; BEGIN")?;
        Ok(Self {
            connection,
            state: state.to_path_buf(),
            damage,
            mark: None,
            durable: None,
            log_pages: Arc::default(),
            checkpoint_at: CHECKPOINT_PAGES,
            moving: super::checkpoint::Moving::default(),
        })
    }
}

/// The file's name as a URI that says that nobody writes to it.
pub(super) fn immutable(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            // Writing to a string cannot fail.
            other => drop(write!(uri, "%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// True while a gateway holds this state directory.
#[must_use]
pub fn is_held(state: &Path) -> bool {
    let lock = std::fs::File::open(state.join("lock"));
    lock.is_ok_and(|file| match file.try_lock_shared() {
        Ok(()) => {
            let _ = file.unlock();
            false
        }
        Err(error) => matches!(error, std::fs::TryLockError::WouldBlock),
    })
}

impl Writer<'_> {
    /// A model's whole journal, with times.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn dated_journal(&self, model: ModelNo) -> Result<Vec<DatedEntry>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT entry_no, after_row, event, time FROM journal WHERE model_no = ?1 ORDER BY entry_no")?;
        let rows = statement.query_map([model.0], |row| {
            Ok(DatedEntry {
                entry: JournalEntry {
                    no: row.get(0)?,
                    after_row: row.get::<_, i64>(1)?.cast_unsigned(),
                    event: row.get(2)?,
                },
                time_ms: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A model's recorded verdicts, in the order in which they were recorded.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recorded_verdicts(&self, model: ModelNo) -> Result<Vec<RecordedVerdict>, LedgerError> {
        let mut statement = self
            .connection
            .prepare("SELECT row, version_no, verdict FROM verdicts WHERE model_no = ?1 ORDER BY verdict_no")?;
        let rows = statement.query_map([model.0], |row| {
            Ok(RecordedVerdict {
                row: unsigned(row.get(0)?),
                version: VersionNo(row.get(1)?),
                verdict: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A model's decisions with their basis, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recorded_decisions(&self, model: ModelNo) -> Result<Vec<RecordedDecision>, LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT n, time, kind, from_no, to_no, author, why, basis FROM decisions WHERE model_no = ?1 ORDER BY n",
        )?;
        let rows = statement.query_map([model.0], |row| {
            Ok(RecordedDecision {
                n: row.get(0)?,
                time_ms: row.get(1)?,
                kind: row.get(2)?,
                from: row.get::<_, Option<u32>>(3)?.map(VersionNo),
                to: row.get::<_, Option<u32>>(4)?.map(VersionNo),
                author: row.get(5)?,
                why: row.get(6)?,
                basis: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Calls `each` with the recorded rows from `from` on that are still there, until it says false.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn recorded_inputs(
        &self,
        from: Position,
        mut each: impl FnMut(RecordedInputs) -> Result<bool, LedgerError>,
    ) -> Result<(), LedgerError> {
        let last = Position {
            model: from.model,
            row: u64::MAX,
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT r.key, r.id, r.time, CAST(p.inputs AS BLOB), p.version_no FROM record r
             JOIN predictions p ON p.id = r.id WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key",
        )?;
        let mut rows = statement.query(params![from.key(), last.key()])?;
        while let Some(row) = rows.next()? {
            let recorded = RecordedInputs {
                row: Position::row_of(row.get(0)?),
                id: row.get(1)?,
                time_ms: row.get(2)?,
                inputs: row.get(3)?,
                version: VersionNo(row.get(4)?),
            };
            if !each(recorded)? {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with the recorded rows from `from` on that are still there, and who was asked, until it says false.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn answered_rows(
        &self,
        from: Position,
        mut each: impl FnMut(&OpenRow, VersionNo) -> Result<bool, LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut asked = self
            .connection
            .prepare_cached("SELECT version_no FROM predictions WHERE id = ?1")?;
        self.open_rows(from, |row| {
            let version: Option<u32> = asked.query_row([row.id], |row| row.get(0)).optional()?;
            version.map_or(Ok(true), |version| each(row, VersionNo(version)))
        })
    }

    /// How many pairs are stored of a model.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count_pairs(&self, model: ModelNo) -> Result<u64, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let count: i64 = self.connection.query_row(
            "SELECT count(*) FROM folded WHERE key BETWEEN ?1 AND ?2",
            params![first.key(), last.key()],
            |row| row.get(0),
        )?;
        Ok(unsigned(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StateLock;

    fn files(state: &Path) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = std::fs::read_dir(state)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_ledger_is_read_without_a_trace_and_without_its_holder() {
        let dir = tempfile::TempDir::new().unwrap();
        let state = dir.path().join("a%20b?c");
        let missing = Ledger::open_to_read(&state).unwrap_err().to_string();
        assert!(missing.contains("ledger.sqlite"), "{missing}");
        let lock = StateLock::take(&state).unwrap();
        let mut ledger = Ledger::open(&state).unwrap();
        ledger.transaction(true, |writer| writer.model("m")).unwrap();
        assert!(is_held(&state));
        // Beside a gateway that goes on writing.
        let beside = Ledger::open_to_read(&state).unwrap();
        assert_eq!(beside.reader().model_names().unwrap(), ["m"]);
        ledger.transaction(true, |writer| writer.model("n")).unwrap();
        assert_eq!(
            beside.reader().model_names().unwrap(),
            ["m"],
            "all of it is of one moment"
        );
        assert!(beside.reader().model("x").is_err(), "nothing can be written");
        drop(beside);
        drop((ledger, lock));
        assert!(!is_held(&state));
        let before = files(&state);
        let alone = Ledger::open_to_read(&state).unwrap();
        assert_eq!(alone.reader().model_names().unwrap(), ["m", "n"]);
        drop(alone);
        assert_eq!(files(&state), before);
    }
}
