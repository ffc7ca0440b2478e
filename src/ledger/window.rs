//! A stretch of a model's record: where it begins and ends, and some of its rows.
//!
//! Always holds: a row that was erased keeps its number here and has no content; what was pruned is not there at all.

use rusqlite::{OptionalExtension, Row, params};

use super::follow::FollowedRow;
use super::outcome::restore;
use super::rows::Position;
use super::{LedgerError, Writer};
use crate::score::{ModelNo, VersionNo};
use crate::span::Clock;

fn clock(row: &Row<'_>) -> rusqlite::Result<Clock> {
    Ok(Clock {
        row: Position::row_of(row.get(0)?),
        time_ms: row.get(1)?,
    })
}

impl Writer<'_> {
    /// The first and the last row of a model that are still recorded; `None` where there is none.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn ends(&self, model: ModelNo) -> Result<Option<(Clock, Clock)>, LedgerError> {
        let (first, last) = (Position { model, row: 0 }, Position { model, row: u64::MAX });
        let end = |order: &str| {
            let sql = format!(
                "SELECT key, time FROM record WHERE key BETWEEN ?1 AND ?2 AND whole('record', seal, key, id, time)
                 ORDER BY key {order} LIMIT 1"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            Ok::<_, LedgerError>(statement.query_row([first.key(), last.key()], clock).optional()?)
        };
        Ok(end("ASC")?.zip(end("DESC")?))
    }

    /// The first recorded row of this number or a later one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn row_from(&self, from: Position) -> Result<Option<Clock>, LedgerError> {
        let last = Position { row: u64::MAX, ..from };
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, time FROM record WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT 1")?;
        Ok(statement.query_row([from.key(), last.key()], clock).optional()?)
    }

    /// The first recorded row of this time or a later one: found by halving, to within the requests that were in flight.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn row_since(&self, model: ModelNo, last: u64, time_ms: i64) -> Result<Option<Clock>, LedgerError> {
        let (mut low, mut high, mut found) = (1, last.saturating_add(1), None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row_from(Position { model, row: middle })? {
                Some(there) if there.row > last => high = middle,
                Some(there) if there.time_ms < time_ms => low = there.row + 1,
                Some(there) => (high, found) = (middle, Some(there)),
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// The generated id's number of a recorded row, 0 where it was erased, and its time.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn recorded_id(&self, at: Position) -> Result<Option<(i64, i64)>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, time FROM record WHERE key = ?1")?;
        Ok(statement
            .query_row([at.key()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    /// Calls `each` with those of the rows from `first` to `last` that `choose` takes and that are still there, in order.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn chosen(
        &self,
        model: ModelNo,
        (first, last): (u64, u64),
        mut choose: impl FnMut(u64) -> bool,
        mut each: impl FnMut(&FollowedRow),
    ) -> Result<(), LedgerError> {
        let key = |row| Position { model, row }.key();
        let mut record = self
            .connection
            .prepare_cached("SELECT key, time, id FROM record WHERE key BETWEEN ?1 AND ?2 ORDER BY key")?;
        let mut answered = self
            .connection
            .prepare_cached("SELECT version_no, inputs, context, outcome, score FROM predictions WHERE id = ?1")?;
        let mut rows = record.query(params![key(first), key(last)])?;
        while let Some(row) = rows.next()? {
            let (clock, id) = (clock(row)?, row.get(2)?);
            if !choose(clock.row) {
                continue;
            }
            let read = |row: &Row<'_>| {
                Ok(FollowedRow {
                    clock,
                    id,
                    version: VersionNo(row.get(0)?),
                    // Tensors are bytes.
                    inputs: row.get_ref(1)?.as_str().ok().map(str::to_owned),
                    context: row.get(2)?,
                    outcome: restore(row.get_ref(3)?.as_str()?, row.get_ref(4)?),
                    label: None,
                })
            };
            if let Some(row) = answered.query_row([id], read).optional()? {
                each(&row);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::types::ToSqlOutput;

    use super::*;
    use crate::ledger::{Ledger, PredictionRow};
    use crate::score::{Outcome, Score};

    #[test]
    fn a_stretch_begins_at_its_time_and_erased_rows_keep_their_numbers() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let model = ledger.transaction(false, |writer| {
            let model = writer.model("m")?.no;
            let mut recording = writer.recording()?;
            for row in 1..=100_u64 {
                let outcome = Outcome::Scored(Score::Binary(0.5));
                let inputs = format!("{{\"x\":{row}}}");
                let position = Position { model, row };
                recording.insert(
                    &PredictionRow {
                        id: row.cast_signed(),
                        position,
                        time_ms: row.cast_signed() * 10,
                        epoch: 1,
                        version: VersionNo(1),
                        fallback: None,
                        outcome: &outcome,
                        inputs: ToSqlOutput::from(inputs),
                        entity: None,
                        context: None,
                        lineup: 0,
                    },
                    None,
                )?;
            }
            recording.finish()?;
            let key = crate::id::IdKey::new([0; 16]);
            writer.erase(model, &[50, 51], 7, ("a", "b"), &key)?;
            Ok(model)
        });
        let model = model.unwrap();
        let reader = ledger.reader();
        let (first, last) = reader.ends(model).unwrap().unwrap();
        assert_eq!((first.row, last.row), (1, 100));
        let since = |ms| reader.row_since(model, 100, ms).unwrap().map(|clock| clock.row);
        assert_eq!(
            [0, 10, 11, 505, 1_000, 1_001].map(since),
            [1, 1, 2, 51, 100, 0].map(|r| (r > 0).then_some(r))
        );
        let mut seen = Vec::new();
        reader
            .chosen(
                model,
                (40, 60),
                |row| row.is_multiple_of(2),
                |row| seen.push(row.clock.row),
            )
            .unwrap();
        assert_eq!(seen, [40, 42, 44, 46, 48, 52, 54, 56, 58, 60]);
        assert_eq!(reader.recorded_id(Position { model, row: 50 }).unwrap(), Some((0, 500)));
        assert_eq!(reader.ends(ModelNo(9)).unwrap(), None);
    }
}
