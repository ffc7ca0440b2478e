//! One model's contest over rows whose outcomes are known for every version.
//!
//! Always holds: a row is offered to the challengers that are present when it is recorded, and is answered by the champion
//! of that moment; rows fold in record order once they are closed; a decision is carried out after the row that brought it
//! and before the next one, as by a gateway that loads in no time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::judge::fold::{Action, Decision, Judge};
use crate::judge::pair::{ClosedRow, Pair, Pairing};
use crate::judge::policy::Policy;
use crate::judge::tenure::Swap;
use crate::ledger::Overlap;
use crate::recorder::{Closing, Event};
use crate::score::{Outcome, Truth, VersionNo};
use crate::span::Clock;

/// What each version made of each row.
pub trait Outcomes {
    /// What `version` made of the row that was recorded as number `row` of the caller's own counting.
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome;
}

/// A row as it comes.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The caller's number, for [`Outcomes`].
    pub index: usize,
    /// Row number in the record, from 1 and growing by 1, and request time.
    pub clock: Clock,
    /// Its label, if it comes before the row closes.
    pub truth: Option<Truth>,
    /// Its weight.
    pub weight: f64,
    /// What each label would have earned, where that is judged.
    pub rewards: Option<Box<[Option<f64>]>>,
    /// The policy's groups that it is in, a bit each.
    pub groups: u64,
    /// The entity that it belongs to.
    pub entity: Option<String>,
    /// The API key that reported its label.
    pub principal: Option<Arc<str>>,
}

impl Asked {
    /// A row of weight 1 that belongs to no group and nobody.
    #[must_use]
    pub fn new(index: usize, clock: Clock, truth: Option<Truth>) -> Self {
        Self {
            index,
            clock,
            truth,
            weight: 1.0,
            rewards: None,
            groups: 0,
            entity: None,
            principal: None,
        }
    }
}

/// A recorded row that is not folded yet.
#[derive(Debug)]
struct Open {
    asked: Asked,
    epoch: u64,
    champion: VersionNo,
    lineup: Arc<[VersionNo]>,
}

/// A change of champion.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The outgoing champion.
    pub from: VersionNo,
    /// The last row that it answered, and the latest request time.
    pub at: Clock,
    /// What the judge said, with its numbers.
    pub decision: Decision,
}

/// See the module.
#[derive(Debug)]
pub struct Contest {
    judge: Judge,
    pairing: Pairing,
    closing: Closing,
    room: usize,
    lineup: Arc<[VersionNo]>,
    /// Arrived, and no room yet.
    waiting: VecDeque<VersionNo>,
    stands_by: Option<VersionNo>,
    open: VecDeque<Open>,
    /// Closed rows of an entity that a later one joins.
    joined: HashMap<String, Vec<ClosedRow>>,
    last: Clock,
    pairs: u64,
    changes: Vec<Change>,
}

impl Contest {
    /// A first champion under these rules; `room` is the most challengers at a time.
    #[must_use]
    pub fn new(policy: Policy, closing: Closing, champion: VersionNo, room: usize) -> Self {
        Self {
            judge: Judge::new(policy, champion, 1, Clock::default()),
            pairing: Pairing::new(),
            closing,
            room: room.max(1),
            lineup: Arc::new([]),
            waiting: VecDeque::new(),
            stands_by: None,
            open: VecDeque::new(),
            joined: HashMap::new(),
            last: Clock::default(),
            pairs: 0,
            changes: Vec::new(),
        }
    }

    /// A challenger arrives; where there is no room, it waits until somebody makes some.
    pub fn arrive(&mut self, version: VersionNo) {
        self.waiting.push_back(version);
        self.admit();
    }

    /// What a live judge was told of a version.
    pub fn tell(&mut self, event: &Event) {
        let mut judge = Some(self.judge.clone());
        let restarted = event.apply(&mut judge);
        let Some(judge) = judge else { return };
        self.judge = judge;
        if let Some(version) = restarted {
            self.pairing.forget(version);
        }
        self.line_up();
    }

    /// A challenger leaves.
    pub fn leave(&mut self, version: VersionNo) {
        self.waiting.retain(|waiting| *waiting != version);
        if version != self.judge.champion() {
            self.judge.leave(version);
            self.line_up();
        }
    }

    fn admit(&mut self) {
        while let Some(&version) = self.waiting.front() {
            if self.judge.challengers().count() >= self.room {
                let Some(worst) = self.judge.room(self.room - 1, self.last, self.stands_by) else {
                    return;
                };
                self.judge.leave(worst);
            }
            self.waiting.pop_front();
            self.judge.enter(version, self.last);
            self.line_up();
        }
    }

    fn line_up(&mut self) {
        self.lineup = self.judge.challengers().collect();
    }

    /// Answers and records a row, folds what it closes, and carries out what that decides. True when the champion
    /// changed.
    pub fn record(&mut self, asked: Asked, outcomes: &impl Outcomes) -> bool {
        self.last = Clock {
            row: asked.clock.row,
            time_ms: self.last.time_ms.max(asked.clock.time_ms),
        };
        self.open.push_back(Open {
            asked,
            epoch: self.judge.epoch(),
            champion: self.judge.champion(),
            lineup: Arc::clone(&self.lineup),
        });
        let mut decided = None;
        while let Some(row) = self
            .open
            .pop_front_if(|row| self.closing.is_over(row.asked.clock, self.last))
        {
            decided = self.close(&row, outcomes).or(decided);
        }
        let changed = decided.is_some();
        if let Some(decision) = decided {
            self.carry_out(decision);
        }
        self.admit();
        changed
    }

    fn close(&mut self, row: &Open, outcomes: &impl Outcomes) -> Option<Decision> {
        let mut rows: Vec<ClosedRow> = self.closed(row, outcomes).into_iter().collect();
        if let Some(entity) = &row.asked.entity {
            let mut joined = self.joined.remove(entity).unwrap_or_default();
            joined.append(&mut rows);
            let mut later = self
                .open
                .iter()
                .filter(|open| open.asked.entity.as_ref() == Some(entity));
            let overlap = Overlap {
                maturity: self.closing.maturity,
                horizon: self.closing.horizon,
            };
            if later
                .next()
                .is_some_and(|next| overlap.joins(row.asked.clock, next.asked.clock))
            {
                self.joined.insert(entity.clone(), joined);
                return None;
            }
            rows = joined;
        }
        let pair = self.pairing.observation(&self.judge, &rows);
        // A bound that is estimated from the first labels is known from the next row on.
        if let Some(bound) = self.pairing.bound(&self.judge) {
            self.judge.set_bound(bound);
        }
        let pair = Pair {
            clock: row.asked.clock,
            ..pair?
        };
        self.pairs += 1;
        self.judge.fold(&pair)
    }

    /// `None` where the row is no evidence.
    fn closed(&self, row: &Open, outcomes: &impl Outcomes) -> Option<ClosedRow> {
        let asked = &row.asked;
        let truth = asked.truth.or(self.closing.absent);
        // Of another tenure: no outcome need be looked up.
        if truth.is_none() && asked.rewards.is_none() || row.epoch != self.judge.epoch() {
            return None;
        }
        let of = |version: VersionNo| outcomes.outcome(version, asked.index);
        let is_reported = asked.truth.is_some() || asked.rewards.is_some();
        Some(ClosedRow {
            clock: asked.clock,
            epoch: row.epoch,
            truth,
            weight: if is_reported { asked.weight } else { 1.0 },
            champion: of(row.champion),
            others: row.lineup.iter().map(|version| (*version, of(*version))).collect(),
            groups: asked.groups,
            rewards: asked.rewards.clone(),
            principal: asked.principal.clone(),
        })
    }

    fn carry_out(&mut self, decision: Decision) {
        let from = self.judge.champion();
        let kind = match decision.kind {
            Action::Promote => Swap::Promotion,
            Action::Rollback => Swap::Rollback,
        };
        self.judge.swap(decision.version, kind, self.last);
        self.stands_by = Some(from);
        self.line_up();
        self.changes.push(Change {
            from,
            at: self.last,
            decision,
        });
    }

    /// The judge.
    #[must_use]
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The changes of champion so far.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Pairs folded.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// The last recorded row and the latest request time.
    #[must_use]
    pub fn last(&self) -> Clock {
        self.last
    }
}

#[cfg(test)]
mod tests;
