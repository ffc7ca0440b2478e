//! Under which API key a label, rewards or a correction was reported.
//!
//! Always holds: what nobody's key has reported has no row here; with a row, all that is said of its reports goes.

use rusqlite::{OptionalExtension, params};

use super::seal::insert_sealed;
use super::{LedgerError, Writer};

/// What was reported of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The label that counts.
    Label,
    /// The rewards that count.
    Reward,
    /// The correction of this number.
    Correction(i64),
}

impl Report {
    fn key(self) -> (&'static str, i64) {
        match self {
            Self::Label => ("label", 0),
            Self::Reward => ("reward", 0),
            Self::Correction(no) => ("correction", no),
        }
    }
}

impl Writer<'_> {
    /// Whether anything was ever reported under a key.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn has_principals(&self) -> Result<bool, LedgerError> {
        // A file that an older program has made, and that is only read, has no such table.
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'reported_by')";
        if !self.connection.query_row(sql, [], |row| row.get(0))? {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM reported_by)";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// The key of a report, unless that is damaged.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reported_by(&self, id: i64, report: Report) -> Result<Option<String>, LedgerError> {
        let (what, no) = report.key();
        let statement = self.connection.prepare_cached(
            "SELECT principal FROM reported_by WHERE id = ?1 AND what = ?2 AND no = ?3
             AND whole('reported_by', seal, id, what, no, principal)",
        );
        let mut statement = match statement {
            Err(_) if !self.has_principals()? => return Ok(None),
            statement => statement?,
        };
        Ok(statement
            .query_row(params![id, what, no], |row| row.get(0))
            .optional()?)
    }

    /// Stores the key of a report; `None`: nobody's, and nobody's from now on.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_reporter(&self, id: i64, report: Report, principal: Option<&str>) -> Result<(), LedgerError> {
        let (what, no) = report.key();
        let Some(principal) = principal else {
            self.connection
                .prepare_cached("DELETE FROM reported_by WHERE id = ?1 AND what = ?2 AND no = ?3")?
                .execute(params![id, what, no])?;
            return Ok(());
        };
        self.connection
            .prepare_cached(insert_sealed!(
                "INSERT OR REPLACE INTO ",
                "reported_by",
                "?1, ?2, ?3, ?4"
            ))?
            .execute(params![id, what, no, principal])?;
        Ok(())
    }
}
