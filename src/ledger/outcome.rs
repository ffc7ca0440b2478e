//! Outcomes as two columns: a word and, where there is one, a score.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, params};

use super::seal::insert_sealed;
use super::{LedgerError, Writer};
use crate::score::{Outcome, Score, Shed, VersionNo};

pub(super) fn store(outcome: &Outcome) -> (&'static str, Value) {
    match outcome {
        Outcome::Scored(Score::Binary(x)) => ("binary", Value::Real(*x)),
        Outcome::Scored(Score::Value(x)) => ("value", Value::Real(*x)),
        Outcome::Scored(Score::Classes(xs)) => (
            "classes",
            Value::Blob(xs.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ),
        Outcome::Failed => ("failed", Value::Null),
        Outcome::Uncovered => ("uncovered", Value::Null),
        Outcome::Unread => ("unread", Value::Null),
        Outcome::Shed(reason) => (reason.name(), Value::Null),
    }
}

/// The inverse of [`store`]; what does not read back counts as shed, so that damage can never become evidence.
pub(super) fn restore(kind: &str, score: ValueRef<'_>) -> Outcome {
    match (kind, score) {
        ("binary", ValueRef::Real(x)) => Outcome::Scored(Score::Binary(x)),
        ("value", ValueRef::Real(x)) => Outcome::Scored(Score::Value(x)),
        ("classes", ValueRef::Blob(bytes)) => {
            let (numbers, _) = bytes.as_chunks::<8>();
            Outcome::Scored(Score::Classes(numbers.iter().map(|b| f64::from_le_bytes(*b)).collect()))
        }
        ("failed", _) => Outcome::Failed,
        ("uncovered", _) => Outcome::Uncovered,
        ("unread", _) => Outcome::Unread,
        (name, _) => Outcome::Shed(
            Shed::ALL
                .into_iter()
                .find(|s| s.name() == name)
                .unwrap_or(Shed::Restart),
        ),
    }
}

/// The statement that stores outcomes, prepared once for many.
pub struct Outcomes<'a>(CachedStatement<'a>);

impl Outcomes<'_> {
    /// Records what became of a row at a challenger. The first outcome stands: false when there was one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert(&mut self, id: i64, version: VersionNo, outcome: &Outcome) -> Result<bool, LedgerError> {
        let (kind, score) = store(outcome);
        Ok(self.0.execute(params![id, version.0, kind, score])? > 0)
    }
}

impl<'a> Writer<'a> {
    /// To store outcomes with.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn outcomes_in(&self) -> Result<Outcomes<'a>, LedgerError> {
        let statement =
            self.connection
                .prepare_cached(insert_sealed!("INSERT OR IGNORE INTO ", "outcomes", "?1, ?2, ?3, ?4"))?;
        Ok(Outcomes(statement))
    }

    /// The outcomes of a row at all challengers that have one; a damaged one counts as lost.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn outcomes(&self, id: i64) -> Result<Vec<(VersionNo, Outcome)>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT version_no, outcome, score, whole('outcomes', seal, id, version_no, outcome, score)
             FROM outcomes WHERE id = ?1",
        )?;
        let rows = statement.query_map([id], |row| {
            let outcome = match row.get(3)? {
                true => restore(row.get_ref(1)?.as_str()?, row.get_ref(2)?),
                false => Outcome::Shed(Shed::Restart),
            };
            Ok((VersionNo(row.get(0)?), outcome))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
