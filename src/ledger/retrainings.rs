//! Retrainings: what made it time, what was exported, and what came of the command; and how far labels were counted.
//!
//! Always holds: a retraining is here before anything of it happens, and its row says at each moment how far it has come;
//! numbers grow. Leaves to others: when it is time (`retrain`).

use rusqlite::{OptionalExtension, Row, params};

use super::rows::{Position, unsigned};
use super::seal::Table;
use super::{LedgerError, Writer};
use crate::score::ModelNo;

/// How far a retraining has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrainState {
    /// Another one is being worked on.
    Waiting,
    /// Its rows are being written.
    Exporting,
    /// Its command runs.
    Running,
    /// Its rows are written, and there is no command.
    Exported,
    /// There is no labelled row.
    Empty,
    /// All labels are of one class: there is nothing to learn.
    OneClass,
    /// The command ended with 0.
    Succeeded,
    /// The command ended otherwise, or could not be started.
    Failed,
    /// The command was ended because it took too long.
    TimedOut,
    /// The gateway ended before it did.
    Interrupted,
    /// The server does not allow commands.
    Forbidden,
    /// The rows could not be written.
    ExportFailed,
}

impl RetrainState {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 12] = [
        ("waiting", Self::Waiting),
        ("exporting", Self::Exporting),
        ("running", Self::Running),
        ("exported", Self::Exported),
        ("empty", Self::Empty),
        ("one_class", Self::OneClass),
        ("succeeded", Self::Succeeded),
        ("failed", Self::Failed),
        ("timed_out", Self::TimedOut),
        ("interrupted", Self::Interrupted),
        ("forbidden", Self::Forbidden),
        ("export_failed", Self::ExportFailed),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, state)| *state == self)
            .map_or("", |(name, _)| name)
    }

    /// Nothing more will come of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Exporting | Self::Running)
    }

    /// The rows have left, or it is known why not.
    #[must_use]
    pub fn has_exported(self) -> bool {
        !matches!(self, Self::Waiting | Self::Exporting)
    }
}

/// One retraining.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrainingRow {
    /// Its number, over all models.
    pub n: i64,
    /// The model.
    pub model: ModelNo,
    /// Names its directory, and marks the processes of its command.
    pub uid: String,
    /// When it was time, Unix ms.
    pub time_ms: i64,
    /// The last recorded row then.
    pub row: u64,
    /// The last row whose label had been counted then.
    pub labelled_row: u64,
    /// The first of its causes, in a word.
    pub kind: String,
    /// `retrain`, or a person.
    pub author: String,
    /// One sentence.
    pub reason: String,
    /// All causes with their numbers, as JSON.
    pub causes: String,
    /// How far it has come.
    pub state: RetrainState,
    /// Where the rows are.
    pub path: Option<String>,
    /// The export's name.
    pub export: Option<String>,
    /// Rows that it holds.
    pub rows: Option<u64>,
    /// How many labels there are of each class, as JSON.
    pub classes: Option<String>,
    /// Program and arguments, as JSON.
    pub command: Option<String>,
    /// When the command was started, Unix ms.
    pub began_ms: Option<i64>,
    /// When it was over, Unix ms.
    pub ended_ms: Option<i64>,
    /// The command's exit code.
    pub exit_code: Option<i64>,
    /// What came of it, in a sentence.
    pub outcome: Option<String>,
    /// What the command said.
    pub log: Option<String>,
    /// When rows and log were deleted, Unix ms.
    pub removed_ms: Option<i64>,
}

const COLUMNS: &str = "retraining_no, model_no, uid, time, row, labelled_row, kind, author, reason, causes, state, path, \
                       export_uid, rows, classes, command, began, ended, exit_code, outcome, log, removed";

fn retraining(row: &Row<'_>) -> rusqlite::Result<RetrainingRow> {
    let state: String = row.get(10)?;
    let known = RetrainState::ALL.iter().find(|(name, _)| *name == state);
    Ok(RetrainingRow {
        n: row.get(0)?,
        model: ModelNo(row.get(1)?),
        uid: row.get(2)?,
        time_ms: row.get(3)?,
        row: unsigned(row.get(4)?),
        labelled_row: unsigned(row.get(5)?),
        kind: row.get(6)?,
        author: row.get(7)?,
        reason: row.get(8)?,
        causes: row.get(9)?,
        state: known.map_or(RetrainState::Interrupted, |(_, state)| *state),
        path: row.get(11)?,
        export: row.get(12)?,
        rows: row.get::<_, Option<i64>>(13)?.map(unsigned),
        classes: row.get(14)?,
        command: row.get(15)?,
        began_ms: row.get(16)?,
        ended_ms: row.get(17)?,
        exit_code: row.get(18)?,
        outcome: row.get(19)?,
        log: row.get(20)?,
        removed_ms: row.get(21)?,
    })
}

impl Writer<'_> {
    /// Adds a retraining and gives it its number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_retraining(&self, r: &RetrainingRow) -> Result<i64, LedgerError> {
        self.connection
            .prepare_cached(
                "INSERT INTO retrainings (model_no, uid, time, row, labelled_row, kind, author, reason, causes, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                r.model.0,
                r.uid,
                r.time_ms,
                r.row.cast_signed(),
                r.labelled_row.cast_signed(),
                r.kind,
                r.author,
                r.reason,
                r.causes,
                r.state.name()
            ])?;
        let n = self.connection.last_insert_rowid();
        self.seal("retrainings", n)?;
        Ok(n)
    }

    /// Writes how far a retraining has come.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn update_retraining(&self, r: &RetrainingRow) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(
                "UPDATE retrainings SET state = ?2, path = ?3, export_uid = ?4, rows = ?5, classes = ?6, command = ?7,
                 began = ?8, ended = ?9, exit_code = ?10, outcome = ?11, log = ?12, removed = ?13 WHERE retraining_no = ?1",
            )?
            .execute(params![
                r.n,
                r.state.name(),
                r.path,
                r.export,
                r.rows.map(u64::cast_signed),
                r.classes,
                r.command,
                r.began_ms,
                r.ended_ms,
                r.exit_code,
                r.outcome,
                r.log,
                r.removed_ms
            ])?;
        self.seal("retrainings", r.n)
    }

    /// The latest retrainings of a model, newest first, as far as they are whole.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn retrainings(&self, model: ModelNo, most: u32) -> Result<Vec<RetrainingRow>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM retrainings WHERE model_no = ?1 AND {} ORDER BY retraining_no DESC LIMIT ?2",
            whole()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![model.0, most], retraining)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Retrainings of all models that are not over, oldest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open_retrainings(&self) -> Result<Vec<RetrainingRow>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM retrainings WHERE state IN ('waiting', 'exporting', 'running') AND {}
             ORDER BY retraining_no",
            whole()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], retraining)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last retraining, by number.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn last_retraining(&self) -> Result<i64, LedgerError> {
        let sql = "SELECT coalesce(max(retraining_no), 0) FROM retrainings";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// At most `most` retrainings from number `from` on, oldest first, each with its model's name.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn retrainings_from(&self, from: i64, most: u32) -> Result<Vec<(String, RetrainingRow)>, LedgerError> {
        let sql = format!(
            "SELECT {COLUMNS}, (SELECT name FROM models m WHERE m.model_no = retrainings.model_no) FROM retrainings
             WHERE retraining_no >= ?1 ORDER BY retraining_no LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![from, most], |row| {
            let name: Option<String> = row.get(22)?;
            Ok((name.unwrap_or_default(), retraining(row)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When the files of the export at this place were deleted, Unix ms; `None`: they were not, by us.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn removed_at(&self, path: &str) -> Result<Option<i64>, LedgerError> {
        let sql = format!("SELECT max(removed) FROM retrainings WHERE path = ?1 AND {}", whole());
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([path], |row| row.get(0))?)
    }

    /// Rows `from` to `to` of a model that have a label which came in time.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn count_labelled(&self, from: Position, to: u64) -> Result<u64, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT count(*) FROM record r JOIN labels l ON l.id = r.id WHERE r.key BETWEEN ?1 AND ?2 AND l.late = 0",
        )?;
        let to = Position { row: to, ..from };
        let count: i64 = statement.query_row(params![from.key(), to.key()], |row| row.get(0))?;
        Ok(unsigned(count))
    }

    /// The row from which on there are `most` labelled rows; 0 where there are fewer.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn labelled_from(&self, model: ModelNo, most: u64) -> Result<u64, LedgerError> {
        let key = |row| Position { model, row }.key();
        let mut statement = self.connection.prepare_cached(
            "SELECT r.key FROM record r JOIN labels l ON l.id = r.id WHERE r.key BETWEEN ?1 AND ?2
             ORDER BY r.key DESC LIMIT 1 OFFSET ?3",
        )?;
        let last = (1 << 40) - 1;
        let skip = most.saturating_sub(1).cast_signed();
        let found: Option<i64> = statement
            .query_row(params![key(0), key(last), skip], |row| row.get(0))
            .optional()?;
        Ok(found.map_or(0, Position::row_of))
    }
}

fn whole() -> String {
    Table::named("retrainings").map_or_else(|| "1".to_owned(), Table::is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn a_retraining_reads_back_at_each_step_and_a_damaged_one_is_passed_over() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let mut row = RetrainingRow {
            n: 0,
            model: ModelNo(1),
            uid: "20261126T1-0".into(),
            time_ms: 5,
            row: 9,
            labelled_row: 7,
            kind: "decay".into(),
            author: "retrain".into(),
            reason: "because".into(),
            causes: "[]".into(),
            state: RetrainState::Waiting,
            path: None,
            export: None,
            rows: None,
            classes: None,
            command: None,
            began_ms: None,
            ended_ms: None,
            exit_code: None,
            outcome: None,
            log: None,
            removed_ms: None,
        };
        row.n = ledger.transaction(true, |w| w.insert_retraining(&row)).unwrap();
        assert_eq!(ledger.reader().open_retrainings().unwrap(), [row.clone()]);
        row.state = RetrainState::TimedOut;
        row.path = Some("/a b".into());
        row.rows = Some(3);
        row.exit_code = Some(-15);
        ledger.transaction(true, |w| w.update_retraining(&row)).unwrap();
        assert_eq!(ledger.reader().retrainings(ModelNo(1), 9).unwrap(), [row.clone()]);
        assert!(ledger.reader().open_retrainings().unwrap().is_empty());
        assert_eq!(ledger.reader().last_retraining().unwrap(), row.n);
        assert_eq!(ledger.reader().removed_at("/a b").unwrap(), None);
        row.removed_ms = Some(8);
        ledger.transaction(true, |w| w.update_retraining(&row)).unwrap();
        assert_eq!(ledger.reader().removed_at("/a b").unwrap(), Some(8));
        ledger
            .connection
            .execute("UPDATE retrainings SET rows = 4", [])
            .unwrap();
        assert!(ledger.reader().retrainings(ModelNo(1), 9).unwrap().is_empty());
        assert_eq!(ledger.damage().found().0, 1);
    }

    #[test]
    fn every_state_has_its_name() {
        for (name, state) in RetrainState::ALL {
            assert_eq!(state.name(), name);
        }
        assert!(RetrainState::Exported.is_over() && !RetrainState::Running.is_over());
    }
}
