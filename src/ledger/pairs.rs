//! Pair records: all that replay needs of a row, and nothing that says whose it was.

use rusqlite::params;

use super::rows::Position;
use super::seal::insert_sealed;
use super::{LedgerError, Writer};
use crate::judge::pair::{Classes, Entry, Kind, Pair, Seen};
use crate::score::{ModelNo, VersionNo};
use crate::span::Clock;

impl Writer<'_> {
    /// Stores one pair record: no id, features or label in it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_pair(&self, model: ModelNo, pair: &Pair) -> Result<(), LedgerError> {
        let key = Position {
            model,
            row: pair.clock.row,
        }
        .key();
        self.connection
            // Damaged rows are passed over, and must not stand in the way.
            .prepare_cached(insert_sealed!(
                "INSERT OR REPLACE INTO ",
                "folded",
                "?1, ?2, ?3, ?4, ?5, ?6, ?7"
            ))?
            .execute(params![
                key,
                pair.clock.time_ms,
                pair.epoch.cast_signed(),
                pair.weight,
                pair.champion_loss,
                pair.champion.code(),
                pair.groups.cast_signed()
            ])?;
        let mut statement = self.connection.prepare_cached(insert_sealed!(
            "INSERT OR REPLACE INTO ",
            "pairs",
            "?1, ?2, ?3, ?4, ?5, ?6"
        ))?;
        for entry in &pair.entries {
            statement.execute(params![
                key,
                entry.version.0,
                entry.difference,
                kind_code(entry.kind),
                classes_code(entry.classes),
                entry.seen.code()
            ])?;
        }
        Ok(())
    }

    /// Calls `each` with every pair record of a model after row `after`, in row order; damaged ones are passed over.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn pairs(&self, model: ModelNo, after: u64, mut each: impl FnMut(Pair)) -> Result<(), LedgerError> {
        let (first, last) = (
            Position {
                model,
                row: after.saturating_add(1),
            },
            Position { model, row: u64::MAX },
        );
        let mut folded = self.connection.prepare(
            "SELECT key, time, epoch, weight, champion_loss, seen, groups FROM folded WHERE key BETWEEN ?1 AND ?2
             AND whole('folded', seal, key, time, epoch, weight, champion_loss, seen, groups)",
        )?;
        let mut entries = self.connection.prepare(
            "SELECT version_no, difference, kind, classes, seen FROM pairs WHERE key = ?1
             AND whole('pairs', seal, key, version_no, difference, kind, classes, seen) ORDER BY version_no",
        )?;
        let mut rows = folded.query(params![first.key(), last.key()])?;
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(0)?;
            let read = entries.query_map([key], |e| {
                Ok(Entry {
                    version: VersionNo(e.get(0)?),
                    difference: e.get(1)?,
                    kind: kind_of(e.get(2)?),
                    classes: classes_of(e.get(3)?),
                    seen: Seen::from_code(e.get(4)?),
                })
            })?;
            each(Pair {
                clock: Clock {
                    row: Position::row_of(key),
                    time_ms: row.get(1)?,
                },
                epoch: row.get::<_, i64>(2)?.cast_unsigned(),
                weight: row.get(3)?,
                champion_loss: row.get(4)?,
                champion: Seen::from_code(row.get(5)?),
                groups: row.get::<_, i64>(6)?.cast_unsigned(),
                entries: read.collect::<Result<_, _>>()?,
            });
        }
        Ok(())
    }
}

fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Scored => 0,
        Kind::Failed => 1,
        Kind::Uncovered => 2,
    }
}

fn kind_of(code: u8) -> Kind {
    match code {
        0 => Kind::Scored,
        1 => Kind::Failed,
        _ => Kind::Uncovered,
    }
}

fn classes_code(classes: Classes) -> u8 {
    match classes {
        Classes::OneClass => 0,
        Classes::Few => 1,
        Classes::Enough => 2,
    }
}

fn classes_of(code: u8) -> Classes {
    match code {
        0 => Classes::OneClass,
        1 => Classes::Few,
        _ => Classes::Enough,
    }
}
