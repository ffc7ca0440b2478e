//! `dethrone export`: recorded rows as Parquet, for training.
//!
//! Always holds: it reads the ledger of one moment and writes nothing into it, so that it works beside a gateway; it leaves
//! a receipt in the state directory before the first row leaves; all files of an export have the same columns; memory does
//! not grow with the rows. Leaves to others: the ledger's record of it (`ledger::receipts`), and what an erasure makes of
//! that (`ledger::exports`).
//!
//! | part | does |
//! |---|---|
//! | `layout` | which columns there are, and one row into them |
//! | `column` | one column's values until they are written |
//! | `parts` | the files |

mod column;
mod layout;
mod parts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::history::{History, HistoryError};
use crate::id::IdKey;
use crate::ledger::receipts::{self, Receipts};
use crate::ledger::{ExportRow, Leaving, Ledger, LedgerError, StateLock, is_held};
use crate::score::Truth;
use crate::time::now_ms;
use layout::Layout;
use parts::{Parts, WriteError};

/// Which rows leave, and where to.
#[derive(Debug, Clone)]
pub struct Order {
    /// State directory.
    pub state: PathBuf,
    /// The model; may be left out when one is recorded.
    pub model: Option<String>,
    /// Directory of the files.
    pub out: PathBuf,
    /// First and last row number.
    pub rows: (u64, u64),
    /// Rows of this time and later, Unix ms.
    pub from_ms: Option<i64>,
    /// Rows before this time.
    pub to_ms: Option<i64>,
    /// Rows that this version answered.
    pub version: Option<String>,
    /// Share of the rows.
    pub sample: f64,
    /// Rows with a label only.
    pub labelled: bool,
    /// Who takes them.
    pub author: String,
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// As the ledger knows it.
    pub export: ExportRow,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Values that did not fit their columns.
    pub misfits: u64,
    /// Versions whose scores have no column, because there are too many.
    pub versions_left_out: usize,
    /// Of labels that are classes, how many there are of each, by their first spelling.
    pub classes: BTreeMap<String, u64>,
}

/// Why nothing, or not all, was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no such model or version.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The files.
    #[error("{0}; what was finished before stays, and is recorded")]
    Write(#[from] WriteError),
    /// Something else, in a sentence.
    #[error("{0}")]
    Refused(String),
}

/// Writes the rows that are asked for; `each` is told of every row that was looked at.
///
/// # Errors
/// What stood in the way.
pub fn export(order: &Order, mut each: impl FnMut()) -> Result<Exported, ExportError> {
    export_while(order, || {
        each();
        true
    })
}

/// The same, until `go_on` says no: then nothing stays.
///
/// # Errors
/// What stood in the way, or that it was to stop.
pub fn export_while(order: &Order, mut go_on: impl FnMut() -> bool) -> Result<Exported, ExportError> {
    let ledger = Ledger::open_to_read(&order.state)?;
    let reader = ledger.reader();
    let history = History::read(&reader, order.model.as_deref())?;
    let model = history.model.no;
    if let Some(version) = &order.version
        && !history.versions.iter().any(|v| v.name == *version)
    {
        history.find(version)?;
        return Err(ExportError::Refused("--version takes a name, not a digest".into()));
    }
    let key = IdKey::load(&order.state.join("ids.key"))
        .map_err(|e| ExportError::Refused(format!("{}: {e}", order.state.join("ids.key").display())))?;
    let last = reader.last_row(model)?;
    let out = absolute(&order.out)?;
    let mut export = ExportRow {
        uid: uid()?,
        model: history.model.name.clone(),
        began_ms: now_ms(),
        finished_ms: None,
        author: order.author.clone(),
        path: out.display().to_string(),
        rows: (order.rows.0, order.rows.1.min(last)),
        from_ms: order.from_ms,
        to_ms: order.to_ms,
        version: order.version.clone(),
        sample: order.sample,
        labelled: order.labelled,
        count: None,
    };
    let layout = Layout::new(&reader, &history)?;
    let columns = layout.columns();
    let names = columns.iter().map(|column| column.name.clone()).collect();
    let mut parts = Parts::new(&out, &export.uid, &export.model, columns)?;
    leave(&order.state, &export)?;
    let (mut count, mut classes) = (0, Classes::default());
    reader.leaving(model, export.rows, |row| -> Result<bool, ExportError> {
        if !go_on() {
            return Err(ExportError::Refused("it was stopped".into()));
        }
        let answered_by = layout.name_of(row.fallback.unwrap_or(row.version));
        let is_wanted = (!export.labelled || row.label.is_some())
            && export.asks_for(row.id, row.row, row.time_ms, answered_by, &key);
        if is_wanted {
            let outcomes = reader.outcomes(row.id)?;
            let said = reader.said(row.id)?;
            let stand_in = match row.fallback {
                Some(_) => reader.fallback(row.id)?,
                None => None,
            };
            parts.row(row.time_ms, |columns| {
                layout.push(columns, &row, stand_in.as_ref(), &outcomes, &said, &key)
            })?;
            count += 1;
            classes.count(&row);
        }
        Ok(true)
    })?;
    parts.finish()?;
    (export.finished_ms, export.count) = (Some(now_ms()), Some(count));
    leave(&order.state, &export)?;
    let versions_left_out = layout.versions_left_out;
    drop(ledger);
    take_in(&order.state)?;
    Ok(Exported {
        export,
        files: std::mem::take(&mut parts.files),
        columns: names,
        misfits: parts.misfits,
        versions_left_out,
        classes: classes.0.into_values().collect(),
    })
}

/// Labels by class, each with its first spelling.
#[derive(Default)]
struct Classes(BTreeMap<u32, (String, u64)>);

impl Classes {
    /// Classes that are told apart.
    const MOST: usize = 1_000;

    fn count(&mut self, row: &Leaving<'_>) {
        let Some(label) = &row.label else { return };
        let Some(Truth::Class(class)) = label.truth else { return };
        if let Some((_, count)) = self.0.get_mut(&class) {
            *count += 1;
        } else if self.0.len() < Self::MOST {
            self.0.insert(class, (label.sent.clone(), 1));
        }
    }
}

fn leave(state: &Path, export: &ExportRow) -> Result<(), ExportError> {
    receipts::leave(state, export).map_err(|e| {
        ExportError::Refused(format!(
            "the export cannot be recorded in {} ({e}), so that an erasure could not name it: run it as the user of the \
             gateway",
            state.display()
        ))
    })
}

/// Without a gateway that would do it, the receipts go into the ledger at once.
fn take_in(state: &Path) -> Result<(), ExportError> {
    if is_held(state) {
        return Ok(());
    }
    // Whoever was faster takes them in.
    let Ok(_lock) = StateLock::take(state) else {
        return Ok(());
    };
    let mut ledger = Ledger::open(state)?;
    let receipts = Receipts::take(state);
    ledger.transaction(true, |writer| writer.put_exports(&receipts.exports()))?;
    receipts.done();
    Ok(())
}

/// Names an export: in the order of time, and told apart from one of the same second.
fn uid() -> Result<String, ExportError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|e| ExportError::Refused(format!("no randomness: {e}")))?;
    let time: String = crate::time::rfc3339(now_ms())
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(15)
        .collect();
    Ok(format!("{time}-{:08x}", u32::from_be_bytes(random)))
}

fn absolute(out: &Path) -> Result<PathBuf, ExportError> {
    let failed = |e| ExportError::Refused(format!("{}: {e}", out.display()));
    std::fs::create_dir_all(out).map_err(failed)?;
    std::fs::canonicalize(out).map_err(failed)
}

impl Exported {
    /// One line for scripts.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json!({
            "export": self.export.uid, "model": self.export.model, "rows": self.export.count, "path": self.export.path,
            "files": self.files, "columns": self.columns, "misfits": self.misfits,
            "versions_left_out": self.versions_left_out,
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} rows in {} files under {}, recorded as export {}\n",
            self.export.model,
            self.export.count.unwrap_or(0),
            self.files.len(),
            self.export.path,
            self.export.uid
        );
        if self.misfits > 0 {
            text += &format!("{} values did not fit their columns and are left empty\n", self.misfits);
        }
        if self.versions_left_out > 0 {
            text += &format!(
                "the scores of {} older versions are left out, for there is a column per version\n",
                self.versions_left_out
            );
        }
        text
    }
}
