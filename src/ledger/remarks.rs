//! What people say of an answer: votes, comments, disputes. Stored, shown, exported and erased; the judge never sees one.

use rusqlite::params;

use super::{LedgerError, Writer};
use crate::decode::Remark;

/// Remarks that are kept of one row; more is nobody's opinion any more.
pub const MOST_REMARKS: u32 = 100;

/// What became of a remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remarked {
    /// It is stored.
    New,
    /// The same was said before.
    Known,
    /// The row has [`MOST_REMARKS`] already.
    Full,
}

impl Writer<'_> {
    /// Stores what somebody says of a recorded row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_remark(&self, id: i64, received_ms: i64, remark: &Remark) -> Result<Remarked, LedgerError> {
        let said = params![id, remark.vote, remark.comment, remark.dispute];
        let (count, known): (u32, bool) = self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(max(vote IS ?2 AND comment IS ?3 AND dispute IS ?4), 0) FROM remarks
                 WHERE id = ?1",
            )?
            .query_row(said, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if known {
            return Ok(Remarked::Known);
        }
        if count >= MOST_REMARKS {
            return Ok(Remarked::Full);
        }
        self.connection
            .prepare_cached("INSERT INTO remarks (id, received, vote, comment, dispute) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, received_ms, remark.vote, remark.comment, remark.dispute])?;
        self.seal("remarks", self.connection.last_insert_rowid())?;
        Ok(Remarked::New)
    }
}
