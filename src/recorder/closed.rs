//! What a row is worth as evidence once it has closed and all its outcomes are there, by what the ledger holds: the row
//! itself, the rows of its entity, or nothing. Live and in a replay.

use std::sync::Arc;

use super::book::Closing;
use super::groups::Groups;
use crate::backtest::contest::Asked;
use crate::judge::pair::ClosedRow;
use crate::ledger::{AnsweredRow, LedgerError, OpenRow, Overlap, Report, Writer};
use crate::score::{ModelNo, Outcome, VersionNo};

/// Rows of one observation; of more the last ones stand for all.
const MOST_OF_AN_ENTITY: usize = 1_000;

impl Closing {
    /// It has a truth, or may have rewards where they are judged by, and no rule keeps it out of the evidence.
    #[must_use]
    pub fn may_be_evidence(&self, row: &OpenRow) -> bool {
        (row.label.is_some() || self.absent.is_some() || !self.payees.is_empty()) && self.takes(row.id)
    }
}

/// What decides which rows are evidence, and what is asked of them.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The model.
    pub model: ModelNo,
    /// When rows close, and which are evidence.
    pub closing: &'a Closing,
    /// The groups of the rules in force.
    pub groups: &'a mut Groups,
    /// Labels are reported under API keys: it is asked which.
    pub has_principals: bool,
}

impl Terms<'_> {
    /// The rows that fold as one observation when `row` closes, oldest first; none where it is no evidence, or where a
    /// later row of its entity joins it.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn observation(
        &mut self,
        reader: &Writer<'_>,
        row: &OpenRow,
        answered: AnsweredRow,
        others: Vec<(VersionNo, Outcome)>,
    ) -> Result<Vec<ClosedRow>, LedgerError> {
        let Some(entity) = &answered.entity else {
            return Ok(self.closed(reader, row, answered, others)?.into_iter().collect());
        };
        let overlap = Overlap {
            maturity: self.closing.maturity,
            horizon: self.closing.horizon,
        };
        // The outcomes of the earlier ones were waited for when they closed.
        let found = reader.entity_rows(self.model, entity, row.clock, overlap, MOST_OF_AN_ENTITY)?;
        let mut rows = Vec::new();
        for open in found.unwrap_or_default() {
            if let Some(answered) = reader.answered(open.id)? {
                rows.extend(self.closed(reader, &open, answered, reader.outcomes(open.id)?)?);
            }
        }
        Ok(rows)
    }

    /// The row as a backtest asks it, its outcomes apart.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn asked(&mut self, reader: &Writer<'_>, row: &OpenRow, index: usize) -> Result<Asked, LedgerError> {
        let mut asked = Asked::new(index, row.clock, None);
        asked.entity = reader.answered(row.id)?.and_then(|answered| answered.entity);
        if !self.closing.takes(row.id) {
            return Ok(asked);
        }
        let (rewards, reward_weight) = rewards(reader, self.closing, row.id)?;
        asked.truth = row.label.map(|label| label.truth);
        asked.weight = reward_weight.unwrap_or_else(|| row.label.map_or(1.0, |label| label.weight));
        asked.rewards = rewards;
        asked.groups = self.groups.of_recorded(reader, row.id)?;
        asked.principal = self.principal(reader, row.id)?;
        Ok(asked)
    }

    /// `None` where the row is no evidence.
    fn closed(
        &mut self,
        reader: &Writer<'_>,
        row: &OpenRow,
        answered: AnsweredRow,
        others: Vec<(VersionNo, Outcome)>,
    ) -> Result<Option<ClosedRow>, LedgerError> {
        let closing = self.closing;
        if !closing.may_be_evidence(row) {
            return Ok(None);
        }
        let truth = row.label.map(|label| label.truth).or(closing.absent);
        let (rewards, reward_weight) = rewards(reader, closing, row.id)?;
        if truth.is_none() && rewards.is_none() {
            return Ok(None);
        }
        Ok(Some(ClosedRow {
            clock: row.clock,
            epoch: answered.epoch,
            truth,
            weight: reward_weight.unwrap_or_else(|| row.label.map_or(1.0, |label| label.weight)),
            champion: answered.outcome,
            others,
            groups: self.groups.of_recorded(reader, row.id)?,
            rewards,
            principal: self.principal(reader, row.id)?,
        }))
    }

    /// The key that reported what the row is judged by.
    fn principal(&self, reader: &Writer<'_>, id: i64) -> Result<Option<Arc<str>>, LedgerError> {
        if !self.has_principals {
            return Ok(None);
        }
        let what = match self.closing.payees.is_empty() {
            true => Report::Label,
            false => Report::Reward,
        };
        Ok(reader.reported_by(id, what)?.map(Arc::from))
    }
}

/// Rewards in class order.
type Table = Box<[Option<f64>]>;

/// What each label of a row would have earned, and the row's weight; asked for only where rewards are what is judged by.
fn rewards(reader: &Writer<'_>, closing: &Closing, id: i64) -> Result<(Option<Table>, Option<f64>), LedgerError> {
    if closing.payees.is_empty() {
        return Ok((None, None));
    }
    let reported = reader.reward(id)?.filter(|reported| !reported.late);
    let table = reported.as_ref().and_then(|reported| reported.table(&closing.payees));
    Ok((table, reported.map(|reported| reported.weight)))
}
