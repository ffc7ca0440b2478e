//! When each version answered, and what two versions made of the same rows.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};

use super::labels::truth;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::{LedgerError, Writer};
use crate::score::{ModelNo, Outcome, Truth, VersionNo};

/// The reign of one champion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// Its number.
    pub epoch: u64,
    /// Who answered.
    pub version: VersionNo,
    /// `first`, `promotion` or `rollback`.
    pub kind: String,
    /// Since when, Unix ms.
    pub from_ms: i64,
    /// Until when; `None` for the present one.
    pub to_ms: Option<i64>,
    /// Numbers of its first and last recorded rows, to within the requests that were in flight at the swap; `None` where
    /// there are none, or none are left.
    pub rows: Option<(u64, u64)>,
    /// Rows of it that became evidence.
    pub labels: u64,
}

/// A row that both of two versions had an outcome for.
#[derive(Debug, Clone, PartialEq)]
pub struct Both {
    /// What each made of it.
    pub outcomes: [Outcome; 2],
    /// Its label, unless it came late, and its weight.
    pub label: Option<(Truth, f64)>,
}

impl Writer<'_> {
    /// The tenures of a model, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn tenures(&self, model: ModelNo, epoch: u64) -> Result<Vec<Tenure>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, to_no, time FROM decisions
             WHERE model_no = ?1 AND kind IN ('first', 'promotion', 'rollback') AND to_no IS NOT NULL ORDER BY n",
        )?;
        let read = statement.query_map([model.0], |row| {
            Ok((row.get::<_, String>(0)?, VersionNo(row.get(1)?), row.get::<_, i64>(2)?))
        })?;
        let swaps: Vec<(String, VersionNo, i64)> = read.collect::<Result<_, _>>()?;
        let folded = self.folded_by_epoch(model)?;
        // The register counts the tenures; the last decision began the present one.
        let first_epoch = (epoch + 1).saturating_sub(swaps.len() as u64);
        let last = self.last_row(model)?;
        let mut tenures: Vec<Tenure> = Vec::new();
        let mut starts = Vec::new();
        for (epoch, (kind, version, from_ms)) in (first_epoch..).zip(swaps) {
            if let Some(before) = tenures.last_mut() {
                before.to_ms = Some(from_ms);
            }
            let (labels, first_folded) = folded.get(&epoch).copied().unzip();
            let found = self.first_row_of(model, epoch, last)?;
            starts.push(found.into_iter().chain(first_folded).min());
            tenures.push(Tenure {
                epoch,
                version,
                kind,
                from_ms,
                to_ms: None,
                rows: None,
                labels: labels.unwrap_or(0),
            });
        }
        let mut end = last;
        for (tenure, start) in tenures.iter_mut().zip(starts).rev() {
            // Nothing was recorded in it where the next one began as early.
            if let Some(start) = start.filter(|start| *start <= end && *start > 0) {
                tenure.rows = Some((start, end));
                end = start - 1;
            }
        }
        Ok(tenures)
    }

    /// Folded rows of each tenure, and the first of them.
    fn folded_by_epoch(&self, model: ModelNo) -> Result<HashMap<u64, (u64, u64)>, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let mut statement = self.connection.prepare_cached(
            "SELECT epoch, count(*), min(key) FROM folded WHERE key BETWEEN ?1 AND ?2 GROUP BY epoch",
        )?;
        let rows = statement.query_map(params![first.key(), last.key()], |row| {
            let counted = (unsigned(row.get(1)?), Position::row_of(row.get(2)?));
            Ok((unsigned(row.get(0)?), counted))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The first row that is still there of this tenure or a later one: found by halving, for tenures never go back.
    fn first_row_of(&self, model: ModelNo, epoch: u64, last: u64) -> Result<Option<u64>, LedgerError> {
        let mut probe = self.connection.prepare_cached(
            "SELECT r.key, p.epoch FROM record r JOIN predictions p ON p.id = r.id
             WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key LIMIT 1",
        )?;
        let key = |row| Position { model, row }.key();
        let (mut low, mut high, mut found) = (1, last + 1, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let there = probe.query_row(params![key(middle), key(last)], |row| {
                Ok((Position::row_of(row.get(0)?), unsigned(row.get(1)?)))
            });
            match there.optional()? {
                Some((row, of)) if of < epoch => low = row + 1,
                Some((row, _)) => (high, found) = (middle, Some(row)),
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// Calls `each` with what versions `a` and `b` made of the rows that both had an outcome for, the newest first, among
    /// the last `most` recorded ones; gives how many were looked at.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn both_scored(
        &self,
        model: ModelNo,
        [a, b]: [VersionNo; 2],
        most: u32,
        mut each: impl FnMut(Both),
    ) -> Result<u64, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let mut statement = self.connection.prepare_cached(
            "SELECT p.version_no, p.outcome, p.score, a.outcome, a.score, b.outcome, b.score, l.class, l.value, l.weight
             FROM record r JOIN predictions p ON p.id = r.id
             LEFT JOIN outcomes a ON a.id = r.id AND a.version_no = ?3
             LEFT JOIN outcomes b ON b.id = r.id AND b.version_no = ?4
             LEFT JOIN labels l ON l.id = r.id AND l.late = 0
             WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key DESC LIMIT ?5",
        )?;
        let mut rows = statement.query(params![first.key(), last.key(), a.0, b.0, most])?;
        let mut looked = 0;
        while let Some(row) = rows.next()? {
            looked += 1;
            let asked = VersionNo(row.get(0)?);
            let outcome = |version: VersionNo, at: usize| -> Result<Option<Outcome>, rusqlite::Error> {
                let at = if version == asked { 1 } else { at };
                let kind = row.get_ref(at)?.as_str_or_null()?;
                let score = row.get_ref(at + 1)?;
                Ok(kind.map(|kind| restore(kind, score)))
            };
            if let (Some(of_a), Some(of_b)) = (outcome(a, 3)?, outcome(b, 5)?) {
                let weight: Option<f64> = row.get(9)?;
                each(Both {
                    outcomes: [of_a, of_b],
                    label: truth(row.get(7)?, row.get(8)?).zip(weight),
                });
            }
        }
        Ok(looked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, PredictionRow};
    use crate::score::Score;

    /// Rows of these epochs, one after the other.
    fn recorded(epochs: &[u64]) -> (tempfile::TempDir, Ledger, ModelNo) {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let model = ledger.transaction(false, |writer| {
            let model = writer.model("m")?.no;
            for (kind, to) in [("first", 1), ("promotion", 2), ("hold", 0), ("rollback", 1)] {
                let to = (to > 0).then_some(VersionNo(to));
                writer.insert_decision(model, 7, (kind, None, to), ("ada", "x", "y"), None)?;
            }
            let mut recording = writer.recording()?;
            for (row, &epoch) in (1_u64..).zip(epochs) {
                let outcome = Outcome::Scored(Score::Binary(0.5));
                recording.insert(
                    &PredictionRow {
                        id: row.cast_signed() * 10,
                        position: Position { model, row },
                        time_ms: 0,
                        epoch,
                        version: VersionNo(if epoch == 2 { 2 } else { 1 }),
                        fallback: None,
                        outcome: &outcome,
                        inputs: rusqlite::types::ToSqlOutput::Owned(rusqlite::types::Value::Null),
                        entity: None,
                        context: None,
                        lineup: 0,
                    },
                    None,
                )?;
            }
            recording.finish()?;
            Ok(model)
        });
        (dir, ledger, model.unwrap())
    }

    fn rows(ledger: &Ledger, model: ModelNo) -> Vec<Option<(u64, u64)>> {
        let tenures = ledger.reader().tenures(model, 3).unwrap();
        let epochs: Vec<u64> = tenures.iter().map(|t| t.epoch).collect();
        assert_eq!(epochs, [1, 2, 3]);
        tenures.iter().map(|t| t.rows).collect()
    }

    #[test]
    fn every_row_belongs_to_the_tenure_that_it_was_answered_in() {
        let (_dir, ledger, model) = recorded(&[1, 1, 1, 2, 2, 3]);
        assert_eq!(rows(&ledger, model), [Some((1, 3)), Some((4, 5)), Some((6, 6))]);
        let (_dir, ledger, model) = recorded(&[1, 1, 3, 3]);
        assert_eq!(rows(&ledger, model), [Some((1, 2)), None, Some((3, 4))]);
        let (_dir, ledger, model) = recorded(&[]);
        assert_eq!(rows(&ledger, model), [None, None, None]);
    }

    #[test]
    fn rows_that_are_gone_leave_the_others_where_they_are() {
        let (_dir, mut ledger, model) = recorded(&[1, 1, 1, 2, 2, 2, 3, 3]);
        let gone = ledger.transaction(false, |writer| {
            writer
                .connection
                .execute("DELETE FROM predictions WHERE row <= 4", [])?;
            Ok(())
        });
        gone.unwrap();
        assert_eq!(rows(&ledger, model), [None, Some((5, 6)), Some((7, 8))]);
    }
}
