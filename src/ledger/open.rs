//! Closed rows, in the order in which they were recorded, as folding needs them.

use rusqlite::{OptionalExtension, params};

use super::labels::truth;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::seal::{whole_label, whole_prediction};
use super::{LedgerError, Writer};
use crate::score::{ModelNo, Outcome, Truth};
use crate::span::{Clock, Span};

/// A recorded row that has not been folded, with its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenRow {
    /// The generated id's number.
    pub id: i64,
    /// Row number and request time.
    pub clock: Clock,
    /// The label, unless it came after maturity.
    pub label: Option<Reported>,
}

/// A label that came in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reported {
    /// What it means.
    pub truth: Truth,
    /// Weight of the row.
    pub weight: f64,
    /// When it came, Unix ms.
    pub received_ms: i64,
}

/// The label in five columns from `at` on, unless it came late; a row that is erased or damaged (its id is 0) has none.
fn reported(row: &rusqlite::Row<'_>, id: i64, at: usize) -> Result<Option<Reported>, LedgerError> {
    if id == 0 || row.get::<_, Option<bool>>(at + 4)? != Some(false) {
        return Ok(None);
    }
    Ok(match truth(row.get(at)?, row.get(at + 1)?) {
        Some(truth) => Some(Reported {
            truth,
            weight: row.get(at + 2)?,
            received_ms: row.get(at + 3)?,
        }),
        None => None,
    })
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
    /// The entity that it belongs to.
    pub entity: Option<String>,
}

/// Rows of one entity that overlap are one observation; see [`Writer::entity_rows`].
#[derive(Debug, Clone, Copy)]
pub struct Overlap {
    /// Rows that lie no further apart than this overlap.
    pub maturity: Span,
    /// A row in another part of the record, each this long, is another observation all the same.
    pub horizon: Span,
}

impl Overlap {
    /// Whether the label windows of two rows of one entity overlap.
    #[must_use]
    pub fn joins(&self, earlier: Clock, later: Clock) -> bool {
        let within = match self.maturity {
            Span::Rows(rows) => later.row <= earlier.row.saturating_add(rows),
            Span::Time(time) => {
                let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                later.time_ms <= earlier.time_ms.saturating_add(ms)
            }
        };
        within && self.part(earlier) == self.part(later)
    }

    /// The part of the record that a row lies in.
    fn part(&self, clock: Clock) -> u64 {
        match self.horizon {
            Span::Rows(rows) => clock.row / rows.max(1),
            Span::Time(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
                u64::try_from(clock.time_ms).unwrap_or(0) / ms
            }
        }
    }
}

impl Writer<'_> {
    /// Calls `each` with the recorded rows from `from` on, until it says false. One that is damaged, or whose label is, is
    /// like one that was erased.
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
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT r.key, CASE WHEN whole('record', r.seal, r.key, r.id, r.time) AND ",
            whole_label!(),
            " THEN r.id ELSE 0 END, r.time, l.class, l.value, l.weight, l.received, l.late FROM record r
                 LEFT JOIN labels l ON l.id = r.id WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key"
        ))?;
        let mut rows = statement.query(params![from.key(), last.key()])?;
        while let Some(row) = rows.next()? {
            let id = row.get(1)?;
            let open = OpenRow {
                id,
                clock: Clock {
                    row: Position::row_of(row.get(0)?),
                    time_ms: row.get(2)?,
                },
                label: reported(row, id, 3)?,
            };
            if !each(&open)? {
                break;
            }
        }
        Ok(())
    }

    /// What a recorded row was answered with; `None` when it was pruned, or is damaged.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn answered(&self, id: i64) -> Result<Option<AnsweredRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT epoch, outcome, score, lineup_no, entity FROM predictions p WHERE id = ?1 AND ",
            whole_prediction!()
        ))?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(AnsweredRow {
                epoch: unsigned(row.get(0)?),
                outcome: restore(row.get_ref(1)?.as_str()?, row.get_ref(2)?),
                lineup: row.get(3)?,
                entity: row.get(4)?,
            })
        };
        Ok(statement.query_row([id], read).optional()?)
    }

    /// True when a row of the model ever named an entity.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn has_entities(&self, model: ModelNo) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM predictions WHERE model_no = ?1 AND entity IS NOT NULL)";
        Ok(self.connection.query_row(sql, [model.0], |row| row.get(0))?)
    }

    /// The rows that are one observation with the row at `clock` of this entity, which is the last of them; oldest first,
    /// and of more than `most` the last ones. `None` while a later row joins them.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn entity_rows(
        &self,
        model: ModelNo,
        entity: &str,
        clock: Clock,
        overlap: Overlap,
        most: usize,
    ) -> Result<Option<Vec<OpenRow>>, LedgerError> {
        let mut later = self.connection.prepare_cached(
            "SELECT row, time FROM predictions WHERE model_no = ?1 AND entity = ?2 AND row > ?3 ORDER BY row LIMIT 1",
        )?;
        let next = later.query_row(params![model.0, entity, clock.row.cast_signed()], |row| {
            Ok(Clock {
                row: unsigned(row.get(0)?),
                time_ms: row.get(1)?,
            })
        });
        if next.optional()?.is_some_and(|next| overlap.joins(clock, next)) {
            return Ok(None);
        }
        let mut earlier = self.connection.prepare_cached(concat!(
            "SELECT p.row, p.time, CASE WHEN ",
            whole_prediction!(),
            " AND ",
            whole_label!(),
            " THEN p.id ELSE 0 END, l.class, l.value, l.weight, l.received, l.late FROM predictions p
                 LEFT JOIN labels l ON l.id = p.id
                 WHERE p.model_no = ?1 AND p.entity = ?2 AND p.row <= ?3 ORDER BY p.row DESC"
        ))?;
        let mut rows = earlier.query(params![model.0, entity, clock.row.cast_signed()])?;
        let (mut found, mut last): (Vec<OpenRow>, Clock) = (Vec::new(), clock);
        while let Some(row) = rows.next()? {
            let id = row.get(2)?;
            let open = OpenRow {
                clock: Clock {
                    row: unsigned(row.get(0)?),
                    time_ms: row.get(1)?,
                },
                id,
                label: reported(row, id, 3)?,
            };
            if !overlap.joins(open.clock, last) || found.len() >= most {
                break;
            }
            last = open.clock;
            found.push(open);
        }
        found.reverse();
        Ok(Some(found))
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
