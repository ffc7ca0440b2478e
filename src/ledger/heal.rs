//! After a failed write: when can the ledger be trusted again?
//!
//! Always holds: a gap in the record is itself recorded, in `outages`.

use rusqlite::{ErrorCode, params};

use super::{Ledger, LedgerError};

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

/// What to do about an error of the system, where it is want of room.
pub(super) fn room(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        NO_ROOM
    } else {
        ""
    }
}

const NO_ROOM: &str = "; make room on the disk of the state directory, or move that to another";

impl LedgerError {
    /// True when the system failed to read, write or sync: what the log holds may not be on the disk.
    fn doubts_the_log(&self) -> bool {
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
        if cause.doubts_the_log() {
            self.durable = None;
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let busy: bool = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy {
                return Err(LedgerError::LogInUse);
            }
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
}
