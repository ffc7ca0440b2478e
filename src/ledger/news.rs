//! What happened after a point that is known: read to be told elsewhere.

use rusqlite::params;

use super::book::decision_of;
use super::{DecisionRow, LedgerError, Writer};

/// A file that is refused, or a version that is quarantined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// The version's number.
    pub no: u32,
    /// Its model.
    pub model: String,
    /// Its name.
    pub version: String,
    /// Its bytes.
    pub digest: String,
    /// `rejected` or `quarantined`.
    pub role: String,
    /// Why.
    pub reason: String,
}

/// A verdict that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictRow {
    /// Its number over all models.
    pub no: i64,
    /// Its model.
    pub model: String,
    /// Of which version.
    pub version: String,
    /// As JSON.
    pub verdict: String,
}

impl Writer<'_> {
    /// The last decision and the last verdict, by number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latest_news(&self) -> Result<(i64, i64), LedgerError> {
        let sql =
            "SELECT (SELECT coalesce(max(n), 0) FROM decisions), (SELECT coalesce(max(verdict_no), 0) FROM verdicts)";
        Ok(self
            .connection
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// At most `limit` decisions after number `after`, oldest first, each with its model.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn decisions_after(&self, after: i64, limit: u32) -> Result<Vec<(String, DecisionRow)>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT d.n, d.time, d.kind, f.name, t.name, d.author, d.reason, d.why, m.name FROM decisions d
             JOIN models m USING (model_no)
             LEFT JOIN versions f ON f.version_no = d.from_no LEFT JOIN versions t ON t.version_no = d.to_no
             WHERE d.n > ?1 ORDER BY d.n LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, limit], |row| Ok((row.get(8)?, decision_of(row)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// At most `limit` changes of a verdict after number `after`, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn verdicts_after(&self, after: i64, limit: u32) -> Result<Vec<VerdictRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT w.verdict_no, m.name, v.name, w.verdict FROM verdicts w JOIN models m USING (model_no)
             JOIN versions v ON v.version_no = w.version_no WHERE w.verdict_no > ?1 ORDER BY w.verdict_no LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, limit], |row| {
            Ok(VerdictRow {
                no: row.get(0)?,
                model: row.get(1)?,
                version: row.get(2)?,
                verdict: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest `limit` versions that are refused or quarantined now, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn refused(&self, limit: u32) -> Result<Vec<RefusedRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT * FROM (SELECT v.version_no, m.name, v.name, v.digest, v.role, coalesce(v.reason, '') FROM versions v
             JOIN models m USING (model_no) WHERE v.role IN ('rejected', 'quarantined')
             ORDER BY v.version_no DESC LIMIT ?1) ORDER BY 1",
        )?;
        let rows = statement.query_map(params![limit], |row| {
            Ok(RefusedRow {
                no: row.get(0)?,
                model: row.get(1)?,
                version: row.get(2)?,
                digest: row.get(3)?,
                role: row.get(4)?,
                reason: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
