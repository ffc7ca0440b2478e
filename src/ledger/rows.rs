//! Rows as they were answered, what the shadows made of them, and their labels.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, params};

use super::{LedgerError, Writer};
use crate::score::{ModelNo, Outcome, Score, Shed, Truth, VersionNo};

/// Where a row stands in its model's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The model.
    pub model: ModelNo,
    /// Number of the recorded row, from 1.
    pub row: u64,
}

impl Position {
    const ROW_BITS: u32 = 40;

    pub(super) fn key(self) -> i64 {
        let row = i64::try_from(self.row).unwrap_or(i64::MAX) & ((1 << Self::ROW_BITS) - 1);
        i64::from(self.model.0) << Self::ROW_BITS | row
    }

    pub(super) fn row_of(key: i64) -> u64 {
        key.cast_unsigned() & ((1 << Self::ROW_BITS) - 1)
    }
}

/// A row to record.
#[derive(Debug)]
pub struct PredictionRow<'a> {
    /// The generated id's number.
    pub id: i64,
    /// Model and row number.
    pub position: Position,
    /// Request time, Unix ms.
    pub time_ms: i64,
    /// Tenure in which it was answered.
    pub epoch: u64,
    /// The champion that was asked.
    pub version: VersionNo,
    /// The version that answered instead.
    pub fallback: Option<VersionNo>,
    /// What the champion made of it.
    pub outcome: &'a Outcome,
    /// The recorded inputs: JSON for named features, encoded tensors otherwise.
    pub inputs: Value,
    /// The entity that the row belongs to.
    pub entity: Option<&'a str>,
    /// Context as JSON.
    pub context: Option<&'a str>,
    /// The challengers that it was offered to.
    pub lineup: i64,
}

/// What folding needs of a recorded row.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRow {
    /// The generated id's number.
    pub id: i64,
    /// Row number.
    pub row: u64,
    /// Request time, Unix ms.
    pub time_ms: i64,
    /// Tenure in which it was answered.
    pub epoch: u64,
    /// What the champion made of it.
    pub outcome: Outcome,
    /// The challengers that it was offered to.
    pub lineup: i64,
}

/// A stored label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRow {
    /// The label as JSON, as the client sent it.
    pub label: String,
    /// What it means in the model's interface.
    pub truth: Truth,
    /// Weight of the row, in (0, 1].
    pub weight: f64,
    /// It came after maturity.
    pub late: bool,
}

fn store(outcome: &Outcome) -> (&'static str, Value) {
    match outcome {
        Outcome::Scored(Score::Binary(x)) => ("binary", Value::Real(*x)),
        Outcome::Scored(Score::Value(x)) => ("value", Value::Real(*x)),
        Outcome::Scored(Score::Classes(xs)) => (
            "classes",
            Value::Blob(xs.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ),
        Outcome::Failed => ("failed", Value::Null),
        Outcome::Uncovered => ("uncovered", Value::Null),
        Outcome::Shed(reason) => (reason.name(), Value::Null),
    }
}

/// The inverse of [`store`]; what does not read back counts as shed, so that damage can never become evidence.
fn restore(kind: &str, score: ValueRef<'_>) -> Outcome {
    match (kind, score) {
        ("binary", ValueRef::Real(x)) => Outcome::Scored(Score::Binary(x)),
        ("value", ValueRef::Real(x)) => Outcome::Scored(Score::Value(x)),
        ("classes", ValueRef::Blob(bytes)) => {
            let (numbers, _) = bytes.as_chunks::<8>();
            Outcome::Scored(Score::Classes(numbers.iter().map(|b| f64::from_le_bytes(*b)).collect()))
        }
        ("failed", _) => Outcome::Failed,
        ("uncovered", _) => Outcome::Uncovered,
        (name, _) => Outcome::Shed(
            Shed::ALL
                .into_iter()
                .find(|s| s.name() == name)
                .unwrap_or(Shed::Restart),
        ),
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Writer<'_> {
    /// Records a row. False when the caller's own id was seen before: nothing is recorded then.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_prediction(&self, row: &PredictionRow<'_>, caller_id: Option<&str>) -> Result<bool, LedgerError> {
        if let Some(caller_id) = caller_id {
            let new = self
                .connection
                .prepare_cached("INSERT OR IGNORE INTO caller_ids VALUES (?1, ?2, ?3)")?
                .execute(params![row.position.model.0, caller_id, row.id])?;
            if new == 0 {
                return Ok(false);
            }
        }
        let (kind, score) = store(row.outcome);
        self.connection
            .prepare_cached("INSERT INTO predictions VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)")?
            .execute(params![
                row.id,
                row.position.model.0,
                row.position.row.cast_signed(),
                row.time_ms,
                row.epoch.cast_signed(),
                row.version.0,
                row.fallback.map(|v| v.0),
                kind,
                score,
                row.inputs,
                row.entity,
                row.context,
                row.lineup
            ])?;
        self.connection
            .prepare_cached("INSERT INTO record VALUES (?1, ?2)")?
            .execute(params![row.position.key(), row.id])?;
        Ok(true)
    }

    /// Records what became of a row at a challenger. The first outcome stands.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_outcome(&self, id: i64, version: VersionNo, outcome: &Outcome) -> Result<(), LedgerError> {
        let (kind, score) = store(outcome);
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO outcomes VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, version.0, kind, score])?;
        Ok(())
    }

    /// The outcomes of a row at all challengers that have one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn outcomes(&self, id: i64) -> Result<Vec<(VersionNo, Outcome)>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT version_no, outcome, score FROM outcomes WHERE id = ?1")?;
        let rows = statement.query_map([id], |row| {
            let kind: String = row.get(1)?;
            Ok((VersionNo(row.get(0)?), restore(&kind, row.get_ref(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The first recorded row numbered `from` or above.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open_row(&self, from: Position) -> Result<Option<OpenRow>, LedgerError> {
        let last = Position {
            model: from.model,
            row: u64::MAX,
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT p.id, p.row, p.time, p.epoch, p.outcome, p.score, p.lineup_no FROM record r
             JOIN predictions p ON p.id = r.id WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key LIMIT 1",
        )?;
        Ok(statement
            .query_row(params![from.key(), last.key()], |row| {
                let kind: String = row.get(4)?;
                Ok(OpenRow {
                    id: row.get(0)?,
                    row: unsigned(row.get(1)?),
                    time_ms: row.get(2)?,
                    epoch: unsigned(row.get(3)?),
                    outcome: restore(&kind, row.get_ref(5)?),
                    lineup: row.get(6)?,
                })
            })
            .optional()?)
    }

    /// Model, row number and request time of a recorded row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn position(&self, id: i64) -> Result<Option<(Position, i64)>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT model_no, row, time FROM predictions WHERE id = ?1")?;
        Ok(statement
            .query_row([id], |row| {
                let position = Position {
                    model: ModelNo(row.get(0)?),
                    row: unsigned(row.get(1)?),
                };
                Ok((position, row.get(2)?))
            })
            .optional()?)
    }

    /// The generated id's number for a caller's own id.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn id_of_caller(&self, model: ModelNo, caller_id: &str) -> Result<Option<i64>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM caller_ids WHERE model_no = ?1 AND caller_id = ?2")?;
        Ok(statement
            .query_row(params![model.0, caller_id], |row| row.get(0))
            .optional()?)
    }

    /// The label of a row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn label(&self, id: i64) -> Result<Option<LabelRow>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT label, class, value, weight, late FROM labels WHERE id = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            let truth = match row.get::<_, Option<u32>>(1)? {
                Some(class) => Truth::Class(class),
                None => Truth::Value(row.get(2)?),
            };
            Ok(LabelRow {
                label: row.get(0)?,
                truth,
                weight: row.get(3)?,
                late: row.get(4)?,
            })
        };
        Ok(statement.query_row([id], read).optional()?)
    }

    /// Stores the first label of a row; `extra` is what came with it (rewards) as JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_label(
        &self,
        id: i64,
        received_ms: i64,
        label: &LabelRow,
        extra: Option<&str>,
    ) -> Result<(), LedgerError> {
        let (class, value) = match label.truth {
            Truth::Class(class) => (Some(class), None),
            Truth::Value(value) => (None, Some(value)),
        };
        self.connection
            .prepare_cached("INSERT INTO labels VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                id,
                received_ms,
                label.label,
                class,
                value,
                label.weight,
                label.late,
                extra
            ])?;
        Ok(())
    }

    /// Stores a label that differs from the row's first one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_correction(
        &self,
        id: i64,
        received_ms: i64,
        label: &LabelRow,
        extra: Option<&str>,
    ) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached("INSERT INTO corrections (id, received, label, weight, extra) VALUES (?1,?2,?3,?4,?5)")?
            .execute(params![id, received_ms, label.label, label.weight, extra])?;
        Ok(())
    }

    /// The greatest id ever recorded, or 0.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_id(&self) -> Result<i64, LedgerError> {
        Ok(self
            .connection
            .query_row("SELECT coalesce(max(id), 0) FROM predictions", [], |row| row.get(0))?)
    }

    /// The last recorded row of a model with the latest request time among its last thousand, or `(0, 0)`.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_row(&self, model: ModelNo) -> Result<(u64, i64), LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let row: i64 = self.connection.query_row(
            "SELECT coalesce(max(key), 0) FROM record WHERE key BETWEEN ?1 AND ?2",
            params![first.key(), last.key()],
            |row| row.get(0),
        )?;
        let row = Position::row_of(row);
        let from = Position {
            model,
            row: row.saturating_sub(1_000),
        };
        let time: i64 = self.connection.query_row(
            "SELECT coalesce(max(p.time), 0) FROM record r JOIN predictions p ON p.id = r.id WHERE r.key BETWEEN ?1 AND ?2",
            params![from.key(), last.key()],
            |row| row.get(0),
        )?;
        Ok((row, time))
    }
}
