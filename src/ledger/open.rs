//! Closed rows, in the order in which they were recorded, as folding needs them.

use rusqlite::{OptionalExtension, params};

use super::labels::truth;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::{LedgerError, Writer};
use crate::score::{Outcome, Truth};
use crate::span::Clock;

/// A recorded row that has not been folded, with its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenRow {
    /// The generated id's number.
    pub id: i64,
    /// Row number and request time.
    pub clock: Clock,
    /// Truth and weight, unless the label came after maturity.
    pub label: Option<(Truth, f64)>,
}

/// What a recorded row was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct AnsweredRow {
    /// Tenure in which it was answered.
    pub epoch: u64,
    /// What the champion made of it.
    pub outcome: Outcome,
    /// The challengers that it was offered to.
    pub lineup: i64,
}

impl Writer<'_> {
    /// Calls `each` with the recorded rows from `from` on, until it says false.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn open_rows(
        &self,
        from: Position,
        mut each: impl FnMut(&OpenRow) -> Result<bool, LedgerError>,
    ) -> Result<(), LedgerError> {
        let last = Position {
            model: from.model,
            row: u64::MAX,
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT r.key, r.id, r.time, l.class, l.value, l.weight FROM record r
             LEFT JOIN labels l ON l.id = r.id AND l.late = 0 WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key",
        )?;
        let mut rows = statement.query(params![from.key(), last.key()])?;
        while let Some(row) = rows.next()? {
            let label = truth(row.get(3)?, row.get(4)?);
            let open = OpenRow {
                id: row.get(1)?,
                clock: Clock {
                    row: Position::row_of(row.get(0)?),
                    time_ms: row.get(2)?,
                },
                label: match label {
                    Some(truth) => Some((truth, row.get(5)?)),
                    None => None,
                },
            };
            if !each(&open)? {
                break;
            }
        }
        Ok(())
    }

    /// What a recorded row was answered with; `None` when it was pruned.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn answered(&self, id: i64) -> Result<Option<AnsweredRow>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT epoch, outcome, score, lineup_no FROM predictions WHERE id = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(AnsweredRow {
                epoch: unsigned(row.get(0)?),
                outcome: restore(row.get_ref(1)?.as_str()?, row.get_ref(2)?),
                lineup: row.get(3)?,
            })
        };
        Ok(statement.query_row([id], read).optional()?)
    }

    /// A recorded row's features, where they were recorded by name, and its context: JSON objects.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recorded(&self, id: i64) -> Result<(Option<String>, Option<String>), LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT inputs, context FROM predictions WHERE id = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            // Tensors are bytes.
            let inputs = row.get_ref(0)?.as_str().ok().map(str::to_owned);
            Ok((inputs, row.get(1)?))
        };
        Ok(statement.query_row([id], read).optional()?.unwrap_or_default())
    }
}
