//! Rows that left the ledger for somewhere else: read for an export, and remembered, so that an erasure can name every
//! copy that it does not reach.
//!
//! Always holds: whether an export held a row follows from what was asked for, and is decided from the row as it still is;
//! a doubt counts as held.

use rusqlite::types::ValueRef;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::labels::truth;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::seal::{insert_sealed, whole_label, whole_prediction};
use super::{LedgerError, Writer};
use crate::id::IdKey;
use crate::score::{ModelNo, Outcome, Truth, VersionNo};

/// An export as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportRow {
    /// Names it, also in the names of its files.
    pub uid: String,
    /// The model.
    pub model: String,
    /// When it began, Unix ms.
    pub began_ms: i64,
    /// When it was whole; `None` while it is written, and where it failed.
    pub finished_ms: Option<i64>,
    /// By whom.
    pub author: String,
    /// Where to.
    pub path: String,
    /// First and last row number that it may hold.
    pub rows: (u64, u64),
    /// Rows of this time and later, Unix ms.
    pub from_ms: Option<i64>,
    /// Rows before this time.
    pub to_ms: Option<i64>,
    /// Rows that this version answered.
    pub version: Option<String>,
    /// Share of the rows, drawn by a keyed hash of their ids.
    pub sample: f64,
    /// Rows with a label only.
    pub labelled: bool,
    /// Rows that it holds; `None` while that is not known.
    pub count: Option<u64>,
}

/// Of a row, what decides whether an export held it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    id: i64,
    row: u64,
    time_ms: i64,
    /// `None` where that is lost with the version: an erasure is not to fail for it, and any export may have held it.
    answered_by: Option<String>,
    labelled_ms: Option<i64>,
}

impl ExportRow {
    /// Whether a row is among those that were asked for, but for its label.
    #[must_use]
    pub fn asks_for(&self, id: i64, row: u64, time_ms: i64, answered_by: &str, key: &IdKey) -> bool {
        (self.rows.0..=self.rows.1).contains(&row)
            && self.from_ms.is_none_or(|from| time_ms >= from)
            && self.to_ms.is_none_or(|to| time_ms < to)
            && self.version.as_deref().is_none_or(|version| version == answered_by)
            && key.is_sampled(id, self.sample)
    }

    fn held(&self, row: &Held, key: &IdKey) -> bool {
        // A label may have come while the export was being written.
        let end = self.finished_ms.unwrap_or(i64::MAX);
        let has_label = !self.labelled || row.labelled_ms.is_some_and(|at| at <= end);
        let answered_by = row.answered_by.as_deref().or(self.version.as_deref());
        has_label && self.asks_for(row.id, row.row, row.time_ms, answered_by.unwrap_or_default(), key)
    }
}

/// An export that held rows which were erased.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copied {
    /// The export.
    #[serde(flatten)]
    pub export: ExportRow,
    /// How many of the erased rows it held.
    pub erased: u64,
    /// When its files were deleted, Unix ms; `None`: not by the gateway.
    pub removed_ms: Option<i64>,
}

/// A recorded row on its way out.
#[derive(Debug)]
pub struct Leaving<'a> {
    /// The generated id's number.
    pub id: i64,
    /// Row number.
    pub row: u64,
    /// Request time, Unix ms.
    pub time_ms: i64,
    /// Tenure.
    pub epoch: u64,
    /// The champion that was asked.
    pub version: VersionNo,
    /// Who answered instead; what it answered: [`Writer::fallback`].
    pub fallback: Option<VersionNo>,
    /// What the champion made of it.
    pub outcome: Outcome,
    /// As they were recorded: text where they are JSON, bytes where they are tensors.
    pub inputs: ValueRef<'a>,
    /// The entity.
    pub entity: Option<&'a str>,
    /// Context, as JSON.
    pub context: Option<&'a str>,
    /// The caller's own id.
    pub caller_id: Option<String>,
    /// The label.
    pub label: Option<LeavingLabel>,
}

/// A label on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct LeavingLabel {
    /// As it was sent, as JSON.
    pub sent: String,
    /// What it means.
    pub truth: Option<Truth>,
    /// Weight.
    pub weight: f64,
    /// It came after maturity.
    pub late: bool,
    /// When it came, Unix ms.
    pub received_ms: i64,
}

/// What people said of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The last vote.
    pub vote: Option<f64>,
    /// All comments, a line each.
    pub comment: Option<String>,
    /// All disputes, a line each; empty where it was disputed without a word.
    pub dispute: Option<String>,
}

impl Writer<'_> {
    /// Stores an export, or what has become of it since.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_export(&self, model: ModelNo, export: &ExportRow) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO exports VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0)
                 ON CONFLICT (uid) DO UPDATE SET finished = coalesce(excluded.finished, finished),
                 rows = coalesce(excluded.rows, rows)",
            )?
            .execute(params![
                export.uid,
                model.0,
                export.began_ms,
                export.finished_ms,
                export.author,
                export.path,
                export.rows.0.cast_signed(),
                export.rows.1.cast_signed(),
                export.from_ms,
                export.to_ms,
                export.version,
                export.sample,
                export.labelled,
                export.count.map(u64::cast_signed)
            ])?;
        self.seal("exports", &export.uid)
    }

    /// A model's exports, the newest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn exports(&self, model: ModelNo, most: u32) -> Result<Vec<ExportRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.uid, m.name, e.began, e.finished, e.author, e.path, e.first_row, e.last_row, e.from_time, e.to_time,
             e.version, e.sample, e.labelled, e.rows FROM exports e JOIN models m USING (model_no)
             WHERE e.model_no = ?1 ORDER BY e.began DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![model.0, most], |row| {
            Ok(ExportRow {
                uid: row.get(0)?,
                model: row.get(1)?,
                began_ms: row.get(2)?,
                finished_ms: row.get(3)?,
                author: row.get(4)?,
                path: row.get(5)?,
                rows: (unsigned(row.get(6)?), unsigned(row.get(7)?)),
                from_ms: row.get(8)?,
                to_ms: row.get(9)?,
                version: row.get(10)?,
                sample: row.get(11)?,
                labelled: row.get(12)?,
                count: row.get::<_, Option<i64>>(13)?.map(unsigned),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Of a row that is about to be erased, what decides which exports held it.
    pub(super) fn held_by_exports(&self, id: i64) -> Result<Held, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT p.row, p.time, v.name, l.received FROM predictions p
             LEFT JOIN versions v ON v.version_no = coalesce(p.fallback_no, p.version_no) LEFT JOIN labels l ON l.id = p.id
             WHERE p.id = ?1",
        )?;
        Ok(statement.query_row([id], |row| {
            Ok(Held {
                id,
                row: unsigned(row.get(0)?),
                time_ms: row.get(1)?,
                answered_by: row.get(2)?,
                labelled_ms: row.get(3)?,
            })
        })?)
    }

    /// The exports that held some of these rows, and how many; recorded with the erasure.
    pub(super) fn copied(
        &self,
        model: ModelNo,
        erasure: i64,
        rows: &[Held],
        key: &IdKey,
    ) -> Result<Vec<Copied>, LedgerError> {
        let mut copied = Vec::new();
        for export in self.exports(model, u32::MAX)? {
            let erased = rows.iter().filter(|row| export.held(row, key)).count() as u64;
            if erased == 0 {
                continue;
            }
            self.connection
                .prepare_cached(insert_sealed!("erased_exports", "?1, ?2, ?3"))?
                .execute(params![erasure, export.uid, erased.cast_signed()])?;
            let removed_ms = self.removed_at(&export.path)?;
            copied.push(Copied {
                export,
                erased,
                removed_ms,
            });
        }
        Ok(copied)
    }

    /// Calls `each` with the recorded rows `rows` of a model that are still there, in order, until it says false.
    ///
    /// # Errors
    /// What SQLite or `each` says.
    pub fn leaving<E: From<LedgerError>>(
        &self,
        model: ModelNo,
        rows: (u64, u64),
        mut each: impl FnMut(Leaving<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let key = |row| Position { model, row }.key();
        let sqlite = |error: rusqlite::Error| E::from(LedgerError::from(error));
        let mut statement = self
            .connection
            .prepare_cached(
                // What is damaged does not leave.
                concat!(
                    "SELECT p.id, p.row, p.time, p.epoch, p.version_no, p.fallback_no, p.outcome, p.score, p.inputs, p.entity,
                 p.context, (SELECT caller_id FROM own_ids c WHERE c.id = p.id),
                 l.label, l.class, l.value, l.weight, l.late, l.received
                 FROM record r JOIN predictions p ON p.id = r.id LEFT JOIN labels l ON l.id = r.id
                 WHERE r.key BETWEEN ?1 AND ?2 AND ",
                    whole_prediction!(),
                    " AND ",
                    whole_label!(),
                    " ORDER BY r.key"
                ),
            )
            .map_err(sqlite)?;
        let mut found = statement.query(params![key(rows.0), key(rows.1)]).map_err(sqlite)?;
        while let Some(row) = found.next().map_err(sqlite)? {
            if !each(leaving(row).map_err(sqlite)?)? {
                break;
            }
        }
        Ok(())
    }

    /// What people said of a row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn said(&self, id: i64) -> Result<Said, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT vote, comment, dispute FROM remarks WHERE id = ?1 ORDER BY remark_no")?;
        let mut rows = statement.query([id])?;
        let mut said = Said::default();
        let line = |all: &mut Option<String>, more: Option<String>| match (all.as_mut(), more) {
            (Some(all), Some(more)) => {
                all.push('\n');
                all.push_str(&more);
            }
            (None, Some(more)) => *all = Some(more),
            (_, None) => {}
        };
        while let Some(row) = rows.next()? {
            said.vote = row.get::<_, Option<f64>>(0)?.or(said.vote);
            line(&mut said.comment, row.get(1)?);
            line(&mut said.dispute, row.get(2)?);
        }
        Ok(said)
    }
}

fn leaving<'a>(row: &'a Row<'_>) -> rusqlite::Result<Leaving<'a>> {
    let sent: Option<String> = row.get(12)?;
    let label = match sent {
        None => None,
        Some(sent) => Some(LeavingLabel {
            sent,
            truth: truth(row.get(13)?, row.get(14)?),
            weight: row.get(15)?,
            late: row.get(16)?,
            received_ms: row.get(17)?,
        }),
    };
    Ok(Leaving {
        id: row.get(0)?,
        row: unsigned(row.get(1)?),
        time_ms: row.get(2)?,
        epoch: unsigned(row.get(3)?),
        version: VersionNo(row.get(4)?),
        fallback: row.get::<_, Option<u32>>(5)?.map(VersionNo),
        outcome: restore(row.get_ref(6)?.as_str()?, row.get_ref(7)?),
        inputs: row.get_ref(8)?,
        entity: row.get_ref(9)?.as_str_or_null()?,
        context: row.get_ref(10)?.as_str_or_null()?,
        caller_id: row.get(11)?,
        label,
    })
}
