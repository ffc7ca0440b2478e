//! The ledger as it is followed beside its writer: rows and labels in the order of recording, a few at a time, and what
//! the monitor keeps here.
//!
//! Always holds: nothing is read for longer than a batch takes, so that the log can begin anew; while it is read, the
//! processor is offered to others.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::labels::truth;
use super::outcome::restore;
use super::rows::{Position, unsigned};
use super::seal::insert_sealed;
use super::{CHECKPOINT_PAGES, Damage, Ledger, LedgerError, Writer, schema, seal};
use crate::score::{ModelNo, Outcome, Truth, VersionNo};
use crate::span::Clock;

/// So many operations of SQLite's machine take some tens of microseconds.
const OPERATIONS_OF_A_TURN: i32 = 500;

/// A row as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowedRow {
    /// Row number and request time.
    pub clock: Clock,
    /// The generated id's number.
    pub id: i64,
    /// The champion that was asked.
    pub version: VersionNo,
    /// Named features as JSON; `None` where the row had tensors, or was erased.
    pub inputs: Option<String>,
    /// Context as JSON.
    pub context: Option<String>,
    /// What the champion made of it.
    pub outcome: Outcome,
    /// The label that came in time, where labels were asked for and there is one.
    pub label: Option<Truth>,
}

/// An alarm of the monitor, to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmRow {
    /// Last row of what raised it, and its time.
    pub clock: Clock,
    /// The version whose baseline it was held against.
    pub version: VersionNo,
    /// The feature, or `output score`.
    pub feature: String,
    /// What has changed.
    pub what: String,
    /// Natural logarithm of the odds against chance.
    pub log_wealth: f64,
}

impl Ledger {
    /// Opens `state/ledger.sqlite` to read it again and again beside its writer.
    ///
    /// # Errors
    /// No ledger, one of another format, or what SQLite says.
    pub fn open_to_follow(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("ledger.sqlite");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|source| LedgerError::Unusable {
            path: path.clone(),
            source,
        })?;
        let damage = Damage::default();
        seal::install(&connection, &damage)?;
        schema::check(&connection)?;
        connection.busy_timeout(schema::BUSY)?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.progress_handler(
            OPERATIONS_OF_A_TURN,
            Some(|| {
                crate::priority::offer_turn();
                // It is to go on.
                false
            }),
        )?;
        // Little memory: what is read is the newest, which the system has at hand.
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -1000")?;
        Ok(Self {
            connection,
            state: state.to_path_buf(),
            damage,
            mark: None,
            durable: None,
            log_pages: std::sync::Arc::default(),
            checkpoint_at: CHECKPOINT_PAGES,
            moving: super::checkpoint::Moving::default(),
        })
    }
}

impl Writer<'_> {
    /// The last row that was folded or passed over by the judge: it, and those before it, have closed.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn closed_row(&self, model: ModelNo) -> Result<u64, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT folded_row FROM cursors WHERE model_no = ?1")?;
        let row: Option<i64> = statement.query_row([model.0], |row| row.get(0)).optional()?;
        Ok(row.map_or(0, unsigned))
    }

    /// At most `most` recorded rows from `from` to `upto` that are still there, oldest first, with their labels where
    /// those are asked for.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn followed(
        &self,
        from: Position,
        upto: u64,
        most: u32,
        labelled: bool,
    ) -> Result<Vec<FollowedRow>, LedgerError> {
        let last = Position { row: upto, ..from };
        let sql = if labelled {
            "SELECT r.key, r.id, r.time, p.version_no, p.inputs, p.context, p.outcome, p.score, l.class, l.value
             FROM record r JOIN predictions p ON p.id = r.id LEFT JOIN labels l ON l.id = r.id AND l.late = 0
             WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key LIMIT ?3"
        } else {
            "SELECT r.key, r.id, r.time, p.version_no, p.inputs, p.context, p.outcome, p.score, NULL, NULL
             FROM record r JOIN predictions p ON p.id = r.id
             WHERE r.key BETWEEN ?1 AND ?2 ORDER BY r.key LIMIT ?3"
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![from.key(), last.key(), most], |row| {
            Ok(FollowedRow {
                clock: Clock {
                    row: Position::row_of(row.get(0)?),
                    time_ms: row.get(2)?,
                },
                id: row.get(1)?,
                version: VersionNo(row.get(3)?),
                // Tensors are bytes.
                inputs: row.get_ref(4)?.as_str().ok().map(str::to_owned),
                context: row.get(5)?,
                outcome: restore(row.get_ref(6)?.as_str()?, row.get_ref(7)?),
                label: truth(row.get(8)?, row.get(9)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps a version's baseline in place of the one before, as JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_baseline(&self, version: VersionNo, made_ms: i64, baseline: &str) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!("INSERT OR REPLACE INTO ", "baselines", "?1, ?2, ?3"))?
            .execute(params![version.0, made_ms, baseline])?;
        Ok(())
    }

    /// A version's baseline, unless it is damaged: then another has to be made.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn baseline(&self, version: VersionNo) -> Result<Option<String>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT baseline FROM baselines WHERE version_no = ?1 AND whole('baselines', seal, version_no, made, baseline)",
        )?;
        Ok(statement.query_row([version.0], |row| row.get(0)).optional()?)
    }

    /// Keeps an alarm; one that is there already stays.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_alarm(&self, model: ModelNo, alarm: &AlarmRow) -> Result<(), LedgerError> {
        let sql = "INSERT OR IGNORE INTO alarms (model_no, row, time, version_no, feature, what, log_odds)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let inserted = self.connection.prepare_cached(sql)?.execute(params![
            model.0,
            alarm.clock.row.cast_signed(),
            alarm.clock.time_ms,
            alarm.version.0,
            alarm.feature,
            alarm.what,
            alarm.log_wealth
        ])?;
        match inserted {
            0 => Ok(()),
            _ => self.seal("alarms", self.connection.last_insert_rowid()),
        }
    }
}
