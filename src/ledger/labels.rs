//! Labels: the first one of a row counts, or a trusted key's; what differs from it is a correction.

use rusqlite::{OptionalExtension, Row, params};

use super::principals::Report;
use super::rows::{Position, unsigned};
use super::seal::{insert_sealed, whole_label, whole_prediction};
use super::{LedgerError, Writer};
use crate::score::{ModelNo, Truth};

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

pub(super) fn truth(class: Option<u32>, value: Option<f64>) -> Option<Truth> {
    class.map(Truth::Class).or(value.map(Truth::Value))
}

fn label(row: &Row<'_>) -> rusqlite::Result<LabelRow> {
    Ok(LabelRow {
        label: row.get(0)?,
        truth: truth(row.get(1)?, row.get(2)?).unwrap_or(Truth::Value(f64::NAN)),
        weight: row.get(3)?,
        late: row.get(4)?,
    })
}

fn position(row: &Row<'_>) -> rusqlite::Result<(Position, i64)> {
    let position = Position {
        model: ModelNo(row.get(0)?),
        row: unsigned(row.get(1)?),
    };
    Ok((position, row.get(2)?))
}

impl Writer<'_> {
    /// Model, row number and request time of a recorded row that is whole.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn position(&self, id: i64) -> Result<Option<(Position, i64)>, LedgerError> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT model_no, row, time FROM predictions p WHERE id = ?1 AND ",
            whole_prediction!()
        ))?;
        Ok(statement.query_row([id], position).optional()?)
    }

    /// The same of a row that may be damaged: what is erased must go all the same.
    pub(super) fn position_of_any(&self, id: i64) -> Result<Option<(Position, i64)>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT model_no, row, time FROM predictions WHERE id = ?1")?;
        Ok(statement.query_row([id], position).optional()?)
    }

    /// The label of a row, unless that is damaged.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn label(&self, id: i64) -> Result<Option<LabelRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(concat!(
            "SELECT label, class, value, weight, late FROM labels l WHERE id = ?1 AND ",
            whole_label!()
        ))?;
        Ok(statement.query_row([id], label).optional()?)
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
            // In the place of a damaged one, if there is one.
            .prepare_cached(insert_sealed!(
                "INSERT OR REPLACE INTO ",
                "labels",
                "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8"
            ))?
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

    /// Stores a label that differs from the row's own; gives the correction's number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_correction(
        &self,
        id: i64,
        received_ms: i64,
        label: &LabelRow,
        extra: Option<&str>,
    ) -> Result<i64, LedgerError> {
        self.connection
            .prepare_cached("INSERT INTO corrections (id, received, label, weight, extra) VALUES (?1,?2,?3,?4,?5)")?
            .execute(params![id, received_ms, label.label, label.weight, extra])?;
        let no = self.connection.last_insert_rowid();
        self.seal("corrections", no)?;
        Ok(no)
    }

    /// Makes the label of a row a correction, with whoever reported it: another takes its place.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn set_label_aside(&self, id: i64) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO corrections (id, received, label, weight, extra)
                 SELECT id, received, label, weight, extra FROM labels WHERE id = ?1",
            )?
            .execute([id])?;
        let no = self.connection.last_insert_rowid();
        self.seal("corrections", no)?;
        let principal = self.reported_by(id, Report::Label)?;
        self.put_reporter(id, Report::Correction(no), principal.as_deref())
    }
}
