//! Rewards: what the answer that was acted on has earned, which is recorded and shown and never evidence; and tables of
//! what each label would have earned, which are evidence where the metric is `rewards`.
//!
//! Always holds: the first report of a row counts, what differs from it is a correction; the totals are those of the
//! first reports.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};
use serde::Deserialize;

use super::seal::insert_sealed;
use super::{LedgerError, Writer};
use crate::score::{ModelNo, VersionNo};

/// A stored report.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardRow {
    /// What was earned, where one number says it.
    pub reward: Option<f64>,
    /// Weight of the row, in (0, 1].
    pub weight: f64,
    /// It came after maturity.
    pub late: bool,
    /// All of it as JSON.
    pub extra: String,
}

impl RewardRow {
    /// What each of these labels would have earned, in their order; `None` where no label's reward was reported.
    #[must_use]
    pub fn table(&self, payees: &[String]) -> Option<Box<[Option<f64>]>> {
        #[derive(Deserialize)]
        struct Extra {
            rewards: Option<BTreeMap<String, f64>>,
        }
        let extra: Extra = serde_json::from_str(&self.extra).ok()?;
        let table = extra.rewards?;
        let paid: Box<[Option<f64>]> = payees.iter().map(|payee| table.get(payee).copied()).collect();
        paid.iter().any(Option::is_some).then_some(paid)
    }
}

/// The rewards of the rows that one version answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardTotal {
    /// The version.
    pub version: VersionNo,
    /// Rows with a reward.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Writer<'_> {
    /// The reward of a row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reward(&self, id: i64) -> Result<Option<RewardRow>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT reward, weight, late, extra FROM rewards WHERE id = ?1
             AND whole('rewards', seal, id, received, reward, weight, late, extra)",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(RewardRow {
                reward: row.get(0)?,
                weight: row.get(1)?,
                late: row.get(2)?,
                extra: row.get(3)?,
            })
        };
        Ok(statement.query_row([id], read).optional()?)
    }

    /// Stores the first reward of a recorded row, and counts it for the version that answered the row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_reward(&self, id: i64, received_ms: i64, row: &RewardRow) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!(
                "INSERT OR REPLACE INTO ",
                "rewards",
                "?1, ?2, ?3, ?4, ?5, ?6"
            ))?
            .execute(params![id, received_ms, row.reward, row.weight, row.late, row.extra])?;
        let Some(reward) = row.reward else { return Ok(()) };
        self.connection
            .prepare_cached(
                "INSERT INTO reward_totals SELECT model_no, coalesce(fallback_no, version_no), 1, ?2
                 FROM predictions WHERE id = ?1
                 ON CONFLICT DO UPDATE SET count = count + 1, sum = sum + excluded.sum",
            )?
            .execute(params![id, reward])?;
        Ok(())
    }

    /// Stores a reward that differs from the row's first one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert_reward_correction(&self, id: i64, received_ms: i64, row: &RewardRow) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached("INSERT INTO corrections (id, received, label, weight, extra) VALUES (?1,?2,'null',?3,?4)")?
            .execute(params![id, received_ms, row.weight, row.extra])?;
        self.seal("corrections", self.connection.last_insert_rowid())
    }

    /// What a model's versions have earned.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn reward_totals(&self, model: ModelNo) -> Result<Vec<RewardTotal>, LedgerError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT version_no, count, sum FROM reward_totals WHERE model_no = ?1")?;
        let rows = statement.query_map([model.0], |row| {
            Ok(RewardTotal {
                version: VersionNo(row.get(0)?),
                count: row.get::<_, i64>(1)?.cast_unsigned(),
                sum: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
