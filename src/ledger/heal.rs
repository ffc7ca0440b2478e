//! After a failed write: when can the ledger be trusted again?
//!
//! Always holds: a gap in the record is itself recorded, in `outages`.

use rusqlite::{ErrorCode, params};

use super::{Damage, Ledger, LedgerError, names, opened, rescue, schema, swap};

/// Room that the disk must have before writing goes on: more than a commit of labels takes.
const ROOM_BYTES: i64 = 256 * 1024;

/// What to do about an error of SQLite, where something can be done.
pub(super) fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "; restore a copy of it, or move it away: then a new one begins, without champions, evidence and open ids"
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            "; it is damaged: restore a copy of it, or put what `sqlite3 ledger.sqlite .recover` can read in its place"
        }
        Some(ErrorCode::DiskFull) => NO_ROOM,
        _ => "",
    }
}

/// What to do about an error of the system, where something can be done.
pub(super) fn room(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => NO_ROOM,
        ReadOnlyFilesystem => {
            "; the state directory must be one that can be written: mount it so, or name another (--state)"
        }
        _ => "",
    }
}

const NO_ROOM: &str = "; make room on the disk of the state directory, or move that to another";

impl LedgerError {
    /// True when the file is not what was written.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlite(error) | Self::Unusable { source: error, .. } => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }

    /// True when there is no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Sqlite(error) | Self::Unusable { source: error, .. } => {
                error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            }
            Self::File { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }

    /// True when the system failed to read, write or sync: what the log holds may not be on the disk.
    pub(crate) fn doubts_the_log(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure))
    }
}

impl Ledger {
    /// Makes sure that the ledger can be written after `cause`, and notes the outage that began at `began_ms` and cost
    /// `rows`. After an input or output error the log is moved into the file and begins anew, because a system that has
    /// reported a failed sync may forget it and report success the next time, without having written.
    ///
    /// # Errors
    /// What still stands in the way.
    pub fn heal(&mut self, cause: &LedgerError, began_ms: i64, ended_ms: i64, rows: u64) -> Result<(), LedgerError> {
        // What it says has been said, or is the same.
        let _ = self.moving.end();
        if cause.is_damage() {
            self.rescue(cause)?;
        }
        if cause.doubts_the_log() {
            self.believe_the_log()?;
            self.durable = None;
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let busy: bool = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy {
                return Err(LedgerError::LogInUse);
            }
        }
        if !schema::has_seal(&self.connection, "own_ids")? {
            // What a full disk kept from being made at the start.
            schema::add(&self.connection)?;
            names::begin(&self.connection)?;
        }
        // Two commits: room that is taken and given back in one would never reach the disk.
        let n = self.transaction(true, |writer| {
            writer
                .connection
                .prepare_cached(
                    "INSERT INTO outages (began, ended, cause, dropped_rows, room) VALUES (?1,?2,?3,?4,zeroblob(?5))",
                )?
                .execute(params![
                    began_ms,
                    ended_ms,
                    cause.to_string(),
                    rows.cast_signed(),
                    ROOM_BYTES
                ])?;
            Ok(writer.connection.last_insert_rowid())
        })?;
        self.transaction(true, |writer| {
            writer
                .connection
                .execute("UPDATE outages SET room = NULL WHERE outage_no = ?1", [n])?;
            Ok(())
        })
    }

    /// Puts a new file with the whole rows in the place of the broken one, unless that is done. Until it is, every
    /// transaction fails.
    fn rescue(&mut self, cause: &LedgerError) -> Result<(), LedgerError> {
        drop(std::mem::replace(
            &mut self.connection,
            rusqlite::Connection::open_in_memory()?,
        ));
        self.durable = None;
        let path = self.state.join(swap::LEDGER);
        // Of what is found in passing nothing is to be said twice.
        if let Err(still) = opened(&path, &Damage::default()) {
            if !still.is_damage() {
                return Err(still);
            }
            let rescued = rescue::rescue(&self.state, &self.damage, LedgerError::Damaged(cause.to_string()))?;
            tracing::error!(
                rows = rescued.rows, damaged = %rescued.aside.display(),
                "the ledger was damaged: its whole rows were saved into a new one, challengers earn their evidence anew"
            );
        }
        let connection = opened(&path, &self.damage)?;
        *self = Self::new(connection, &self.state, self.damage.clone())?;
        Ok(())
    }

    /// Is all that was committed still in the log as it was written? What the system could not write it may forget.
    fn believe_the_log(&self) -> Result<(), LedgerError> {
        let path = self.state.join(format!("{}-wal", swap::LEDGER));
        let log = super::log::read(&path).map_err(|source| LedgerError::File { path, source })?;
        let committed = self.log_pages.load(std::sync::atomic::Ordering::Relaxed);
        let lost = committed.saturating_sub(log.frames);
        if lost > 0 {
            self.damage.note(format!(
                "ledger.sqlite-wal: {lost} pages that were committed are not there any more"
            ));
        }
        Ok(())
    }
}
