//! Rows as they were answered.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use super::inserts::Inserts;
use super::names::Names;
use super::outcome::{restore, store};
use super::seal::{insert_sealed, whole_prediction};
use super::{LedgerError, Writer, schema};
use crate::mirror::StandIn;
use crate::score::{ModelNo, Outcome, VersionNo};

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
    /// Who answered instead, and what.
    pub fallback: Option<&'a StandIn>,
    /// What the champion made of it.
    pub outcome: &'a Outcome,
    /// The recorded inputs: JSON for named features, encoded tensors otherwise.
    pub inputs: ToSqlOutput<'a>,
    /// The entity that the row belongs to.
    pub entity: Option<&'a str>,
    /// Context as JSON.
    pub context: Option<&'a str>,
    /// The challengers that it was offered to.
    pub lineup: i64,
}

impl PredictionRow<'_> {
    /// Bytes of inputs and context.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        let inputs = match value(&self.inputs) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        let bytes = inputs + self.context.map_or(0, str::len);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// What was bound, as SQLite sees it.
fn value<'a>(output: &'a ToSqlOutput<'_>) -> ValueRef<'a> {
    match output {
        ToSqlOutput::Borrowed(value) => *value,
        ToSqlOutput::Owned(value) => ValueRef::from(value),
        _ => ValueRef::Null,
    }
}

fn text(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

/// The statements that record rows, prepared once for many; the rare ones when they are needed. Rows are not there before
/// [`Recording::finish`].
pub struct Recording<'a> {
    connection: &'a Connection,
    /// Where a row had one.
    names: Option<Names<'a>>,
    predictions: Inserts<'a>,
    record: Inserts<'a>,
}

impl Recording<'_> {
    /// Records a row. False when the caller's own id was seen before: nothing is recorded then.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert(&mut self, row: &PredictionRow<'_>, caller_id: Option<&str>) -> Result<bool, LedgerError> {
        if let Some(caller_id) = caller_id {
            let names = match &mut self.names {
                Some(names) => names,
                none => none.insert(Names::new(self.connection)?),
            };
            if !names.insert(row.position.model, caller_id, row.id)? {
                return Ok(false);
            }
        }
        let (kind, score) = store(row.outcome);
        let of = |version: VersionNo| ValueRef::Integer(version.0.into());
        let values = [
            ValueRef::Integer(row.id),
            ValueRef::Integer(row.position.model.0.into()),
            ValueRef::Integer(row.position.row.cast_signed()),
            ValueRef::Integer(row.time_ms),
            ValueRef::Integer(row.epoch.cast_signed()),
            of(row.version),
            row.fallback.map_or(ValueRef::Null, |stand_in| of(stand_in.version)),
            ValueRef::Text(kind.as_bytes()),
            ValueRef::from(&score),
            value(&row.inputs),
            text(row.entity),
            text(row.context),
            ValueRef::Integer(row.lineup),
        ];
        self.predictions.add(&values)?;
        self.record
            .add(&[row.position.key(), row.id, row.time_ms].map(ValueRef::Integer))?;
        if let Some(stand_in) = row.fallback
            && let Some(score) = &stand_in.score
        {
            let (kind, score) = store(&Outcome::Scored(score.clone()));
            self.connection
                .prepare_cached(insert_sealed!("INSERT OR REPLACE INTO ", "fallbacks", "?1, ?2, ?3, ?4"))?
                .execute(params![row.id, stand_in.version.0, kind, score])?;
        }
        Ok(true)
    }

    /// Inserts what still waits for others to be inserted with.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        self.predictions.finish()?;
        self.record.finish()
    }
}

impl<'a> Writer<'a> {
    /// To record rows with.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recording(&self) -> Result<Recording<'a>, LedgerError> {
        Ok(Recording {
            connection: self.connection,
            names: None,
            predictions: Inserts::prepare(self.connection, "INSERT", "predictions", 13)?,
            // A damaged row, which is passed over, must not stand in the way of the number that it is taken for.
            record: Inserts::prepare(self.connection, "INSERT OR REPLACE", "record", 3)?,
        })
    }

    /// What was answered to a row in the champion's place; `None` where nobody stood in, or it is damaged, or it was
    /// recorded by a program that did not keep it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn fallback(&self, id: i64) -> Result<Option<(VersionNo, Outcome)>, LedgerError> {
        if !schema::has_seal(self.connection, "fallbacks")? {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT version_no, outcome, score FROM fallbacks
             WHERE id = ?1 AND whole('fallbacks', seal, id, version_no, outcome, score)",
        )?;
        let found = statement.query_row([id], |row| {
            let outcome = restore(row.get_ref(1)?.as_str()?, row.get_ref(2)?);
            Ok((VersionNo(row.get(0)?), outcome))
        });
        Ok(found.optional()?)
    }

    /// The greatest id ever recorded, or 0.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_id(&self) -> Result<i64, LedgerError> {
        Ok(self.connection.query_row(
            concat!(
                "SELECT coalesce((SELECT id FROM predictions p WHERE ",
                whole_prediction!(),
                " ORDER BY id DESC LIMIT 1), 0)"
            ),
            [],
            |row| row.get(0),
        )?)
    }

    /// The inputs of a model's latest recorded rows, as they were recorded, the newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn latest_inputs(&self, model: ModelNo, rows: u32) -> Result<Vec<Vec<u8>>, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let mut statement = self.connection.prepare_cached(
            "SELECT CAST(p.inputs AS BLOB) FROM record r JOIN predictions p ON p.id = r.id
             WHERE r.key BETWEEN ?1 AND ?2 AND p.inputs IS NOT NULL ORDER BY r.key DESC LIMIT ?3",
        )?;
        let inputs = statement.query_map(params![first.key(), last.key(), rows], |row| row.get(0))?;
        Ok(inputs.collect::<Result<_, _>>()?)
    }

    /// The number of the last recorded row of a model, or 0.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_row(&self, model: ModelNo) -> Result<u64, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let key: i64 = self.connection.query_row(
            "SELECT coalesce((SELECT key FROM record WHERE key BETWEEN ?1 AND ?2 AND whole('record', seal, key, id, time)
             ORDER BY key DESC LIMIT 1), 0)",
            params![first.key(), last.key()],
            |row| row.get(0),
        )?;
        Ok(Position::row_of(key))
    }
}
