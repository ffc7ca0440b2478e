//! What the ledger lets go of, a few rows at a time: first the inputs of a row, later the row with all that names it.
//!
//! Always holds: pairs, journal, policies, verdicts and decisions are never touched here; how far a model was pruned, and
//! how many bytes of inputs it still has, is written in the transaction that changes it (table `retention`); the last row
//! of a model stays, because the next one is numbered after it.
//! Leaves to others: which rows may go, and when (`recorder::retention`).

use rusqlite::{OptionalExtension, params};

use super::rows::{Position, unsigned};
use super::seal::{insert_sealed, whole_prediction};
use super::{Ledger, LedgerError, Writer, schema};
use crate::score::ModelNo;
use crate::span::Clock;

/// How far a model was pruned, and what of it is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Rows up to this one are counted in `inputs_bytes`.
    pub counted_to: u64,
    /// Bytes of inputs and context that are kept.
    pub inputs_bytes: u64,
    /// Rows up to this one have no inputs any more.
    pub inputs_to: u64,
    /// Rows up to this one are gone.
    pub rows_to: Clock,
    /// Rows up to this id went after their label horizon.
    pub expired_id: i64,
    /// Rows up to this id went before it, because bytes forced them out.
    pub forced_id: i64,
    /// Rows whose inputs were removed, since ever.
    pub pruned_inputs: u64,
    /// Bytes of inputs that were removed.
    pub pruned_bytes: u64,
    /// Rows that were removed.
    pub pruned_rows: u64,
    /// Of those, before their label horizon.
    pub forced_rows: u64,
    /// Of those, before they were folded.
    pub forced_open: u64,
}

/// A row that may be the next to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextRow {
    /// Its number and time.
    pub clock: Clock,
    /// The generated id's number; 0 where it was erased.
    pub id: i64,
}

/// What one step has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The last row that was dealt with.
    pub to: Clock,
    /// The greatest id among them.
    pub last_id: i64,
    /// Rows.
    pub rows: u64,
    /// Bytes of inputs.
    pub bytes: u64,
    /// Ids, where rows went that might still be spoken of.
    pub ids: Vec<i64>,
}

/// How large the ledger's file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// The file, bytes.
    pub file: u64,
    /// Of it, what is free to be used again.
    pub free: u64,
    /// Whether free pages can be given back to the disk.
    pub shrinks: bool,
}

impl Size {
    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.file.saturating_sub(self.free)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Writer<'_> {
    /// How far a model was pruned.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn kept(&self, model: ModelNo) -> Result<Kept, LedgerError> {
        // A ledger that is only read may be from before there was such a table. What is damaged is counted anew.
        if !schema::has_seal(self.connection, "retention")? {
            return Ok(Kept::default());
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT counted_to, inputs_bytes, inputs_to, rows_to, rows_time, expired_id, forced_id, pruned_inputs,
             pruned_bytes, pruned_rows, forced_rows, forced_open FROM retention WHERE model_no = ?1
             AND whole('retention', seal, model_no, counted_to, inputs_bytes, inputs_to, rows_to, rows_time, expired_id,
             forced_id, pruned_inputs, pruned_bytes, pruned_rows, forced_rows, forced_open)",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let number = |at| row.get(at).map(unsigned);
            Ok(Kept {
                counted_to: number(0)?,
                inputs_bytes: number(1)?,
                inputs_to: number(2)?,
                rows_to: Clock {
                    row: number(3)?,
                    time_ms: row.get(4)?,
                },
                expired_id: row.get(5)?,
                forced_id: row.get(6)?,
                pruned_inputs: number(7)?,
                pruned_bytes: number(8)?,
                pruned_rows: number(9)?,
                forced_rows: number(10)?,
                forced_open: number(11)?,
            })
        };
        Ok(statement.query_row([model.0], read).optional()?.unwrap_or_default())
    }

    /// Writes how far a model was pruned.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_kept(&self, model: ModelNo, kept: &Kept) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!(
                "INSERT OR REPLACE INTO ",
                "retention",
                "?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13"
            ))?
            .execute(params![
                model.0,
                signed(kept.counted_to),
                signed(kept.inputs_bytes),
                signed(kept.inputs_to),
                signed(kept.rows_to.row),
                kept.rows_to.time_ms,
                kept.expired_id,
                kept.forced_id,
                signed(kept.pruned_inputs),
                signed(kept.pruned_bytes),
                signed(kept.pruned_rows),
                signed(kept.forced_rows),
                signed(kept.forced_open)
            ])?;
        Ok(())
    }

    /// The first recorded row after this one that is still there.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn row_after(&self, at: Position) -> Result<Option<NextRow>, LedgerError> {
        let last = Position {
            model: at.model,
            row: u64::MAX,
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, time, id FROM record WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT 1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(NextRow {
                clock: Clock {
                    row: Position::row_of(row.get(0)?),
                    time_ms: row.get(1)?,
                },
                id: row.get(2)?,
            })
        };
        Ok(statement.query_row(params![at.key(), last.key()], read).optional()?)
    }

    /// Bytes of inputs and context of up to `most` rows after `from`, and the last row that was counted.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count_inputs(&self, from: Position, most: u32) -> Result<(u64, Option<u64>), LedgerError> {
        let last = Position {
            model: from.model,
            row: u64::MAX,
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT sum(bytes), max(key) FROM (SELECT r.key,
             coalesce(octet_length(p.inputs), 0) + coalesce(octet_length(p.context), 0) AS bytes
             FROM record r LEFT JOIN predictions p ON p.id = r.id WHERE r.key > ?1 AND r.key <= ?2
             ORDER BY r.key LIMIT ?3)",
        )?;
        Ok(statement.query_row(params![from.key(), last.key(), most], |row| {
            let bytes: Option<i64> = row.get(0)?;
            let key: Option<i64> = row.get(1)?;
            Ok((bytes.map_or(0, unsigned), key.map(Position::row_of)))
        })?)
    }

    /// Removes inputs and context of up to `most` rows after `from`, up to row `to` and not beyond the first one of after
    /// `before_ms`.
    ///
    /// # Errors
    /// What SQLite says; nothing is removed then.
    pub fn prune_inputs(&self, from: Position, to: u64, before_ms: i64, most: u32) -> Result<Removed, LedgerError> {
        let mut removed = Removed::default();
        for (next, bytes) in self.oldest(from, to, before_ms, most)? {
            if bytes.is_some() {
                self.strip(next.id)?;
            }
            removed.add(next, bytes.unwrap_or(0));
        }
        Ok(removed)
    }

    /// Takes inputs and context off a row. It is deleted and put in anew: SQLite joins pages that have become empty when it
    /// deletes, not when it updates.
    fn strip(&self, id: i64) -> Result<(), LedgerError> {
        const KEPT: usize = 11;
        let mut read = self.connection.prepare_cached(concat!(
            "SELECT id, model_no, row, time, epoch, version_no, fallback_no, outcome, score, entity, lineup_no, ",
            whole_prediction!(),
            " FROM predictions p WHERE id = ?1"
        ))?;
        let found = read.query_row([id], |row| {
            let values = (0..KEPT).map(|at| row.get(at));
            let values = values.collect::<Result<Vec<rusqlite::types::Value>, _>>()?;
            Ok((values, row.get::<_, bool>(KEPT)?))
        });
        // What was erased has nothing left to take.
        let Some((row, is_whole)) = found.optional()? else {
            return Ok(());
        };
        self.connection
            .prepare_cached("DELETE FROM predictions WHERE id = ?1")?
            .execute([id])?;
        self.connection
            .prepare_cached(
                "INSERT INTO predictions (id, model_no, row, time, epoch, version_no, fallback_no, outcome, score, entity,
                 lineup_no) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
            )?
            .execute(rusqlite::params_from_iter(row))?;
        // What was damaged stays so.
        if is_whole { self.seal("predictions", id) } else { Ok(()) }
    }

    /// Removes up to `most` rows after `from` with everything that names them, as [`Writer::prune_inputs`]; never the
    /// last row of the model.
    ///
    /// # Errors
    /// What SQLite says; nothing is removed then.
    pub fn prune_rows(&self, from: Position, to: u64, before_ms: i64, most: u32) -> Result<Removed, LedgerError> {
        let last = self.last_row(from.model)?;
        let to = to.min(last.saturating_sub(1));
        let mut removed = Removed::default();
        for (next, bytes) in self.oldest(from, to, before_ms, most)? {
            if next.id != 0 {
                self.remove_row(next.id)?;
                removed.ids.push(next.id);
            }
            let key = Position {
                model: from.model,
                row: next.clock.row,
            };
            self.connection
                .prepare_cached("DELETE FROM record WHERE key = ?1")?
                .execute([key.key()])?;
            removed.add(next, bytes.unwrap_or(0));
        }
        Ok(removed)
    }

    /// Everything that names a row, but for its place in the record.
    pub(super) fn remove_row(&self, id: i64) -> Result<(), LedgerError> {
        for sql in [
            "DELETE FROM predictions WHERE id = ?1",
            "DELETE FROM fallbacks WHERE id = ?1",
            "DELETE FROM outcomes WHERE id = ?1",
            "DELETE FROM labels WHERE id = ?1",
            "DELETE FROM corrections WHERE id = ?1",
            "DELETE FROM rewards WHERE id = ?1",
            "DELETE FROM remarks WHERE id = ?1",
            "DELETE FROM reported_by WHERE id = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([id])?;
        }
        self.remove_name(id)
    }

    /// Bytes of inputs and context of a row.
    pub(super) fn inputs_bytes(&self, id: i64) -> Result<u64, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT coalesce(octet_length(inputs), 0) + coalesce(octet_length(context), 0) FROM predictions WHERE id = ?1",
        )?;
        let bytes: Option<i64> = statement.query_row([id], |row| row.get(0)).optional()?;
        Ok(bytes.map_or(0, unsigned))
    }

    /// Rows in the order of the record, with the bytes of their inputs where there are any.
    fn oldest(
        &self,
        from: Position,
        to: u64,
        before_ms: i64,
        most: u32,
    ) -> Result<Vec<(NextRow, Option<u64>)>, LedgerError> {
        let last = Position {
            model: from.model,
            row: to,
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT r.key, r.time, r.id, octet_length(p.inputs), octet_length(p.context)
             FROM record r LEFT JOIN predictions p ON p.id = r.id WHERE r.key > ?1 AND r.key <= ?2
             ORDER BY r.key LIMIT ?3",
        )?;
        let mut rows = statement.query(params![from.key(), last.key(), most])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let next = NextRow {
                clock: Clock {
                    row: Position::row_of(row.get(0)?),
                    time_ms: row.get(1)?,
                },
                id: row.get(2)?,
            };
            if next.clock.time_ms > before_ms {
                break;
            }
            let (inputs, context): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let has_any = inputs.is_some() || context.is_some();
            let bytes = unsigned(inputs.unwrap_or(0)).saturating_add(unsigned(context.unwrap_or(0)));
            found.push((next, has_any.then_some(bytes)));
        }
        Ok(found)
    }

    /// How large the file is.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn size(&self) -> Result<Size, LedgerError> {
        let ask = |name: &str| -> Result<u64, LedgerError> {
            Ok(self
                .connection
                .pragma_query_value(None, name, |row| row.get(0).map(unsigned))?)
        };
        let page = ask("page_size")?;
        Ok(Size {
            file: ask("page_count")?.saturating_mul(page),
            free: ask("freelist_count")?.saturating_mul(page),
            shrinks: ask("auto_vacuum")? == 2,
        })
    }
}

impl Removed {
    fn add(&mut self, next: NextRow, bytes: u64) {
        self.to = next.clock;
        self.last_id = self.last_id.max(next.id);
        self.rows += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Ledger {
    /// Gives up to so many free pages back to the disk; the last pages of the file are moved for that.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn shrink(&mut self, pages: u32) -> Result<(), LedgerError> {
        let mut statement = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        // It does a page for each row that is asked for.
        while rows.next()?.is_some() {}
        Ok(())
    }
}
