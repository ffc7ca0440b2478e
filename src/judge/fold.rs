//! The contest of one model as a fold over pairs: `(state, pair) -> (state, decision)`.
//!
//! Always holds: the state depends only on the sequence of pairs and events (the methods that change it), not on
//! the order of entries within a pair. A decision is given once; it is given again only after something has
//! changed: a swap, [`Judge::decline`], or the hold. Events of a tenure (versions coming and going, swaps,
//! policies) are in [`super::tenure`], what suffices for a decision in `decide.rs`, sentences for people in [`super::verdict`].

use serde::{Deserialize, Serialize};

use super::contender::{Contender, Fall, Probation};
use super::evidence::Question;
use super::exact;
use super::pair::{Entry, Pair};
use super::policy::{Mode, Policy};
use super::standing::Row;
use super::twin::Twin;
use super::verdict::{Basis, Numbers};
use crate::score::VersionNo;
use crate::span::Clock;

/// What the promoter should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Crown the version.
    Promote,
    /// Give the crown back to the version.
    Rollback,
}

/// A swap that the evidence calls for, with what it was decided from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// What to do.
    pub kind: Action,
    /// The version that should be champion.
    pub version: VersionNo,
    /// One sentence.
    pub why: String,
    /// The evidence at that moment.
    pub numbers: Numbers,
    /// All else that it rests on.
    #[serde(flatten)]
    pub basis: Basis,
}

/// State of one model's contest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    #[serde(with = "exact::policy")]
    pub(super) policy: Policy,
    pub(super) epoch: u64,
    /// Counts the restarts of evidence.
    pub(super) era: u64,
    pub(super) champion: VersionNo,
    pub(super) previous: Option<VersionNo>,
    pub(super) queue: Vec<Contender>,
    pub(super) next_order: u32,
    pub(super) probation: Option<Probation>,
    pub(super) falls: Vec<Fall>,
    pub(super) last_swap: Option<Clock>,
    pub(super) hold: bool,
    /// The last pair's, or the last event's.
    pub(super) clock: Clock,
    /// The decision that was given and not yet answered.
    pub(super) pending: Option<VersionNo>,
    /// Challengers that may not be champion, and why.
    #[serde(default)]
    pub(super) barred: Vec<(VersionNo, String)>,
    /// Challengers that somebody has to let through before they are crowned by evidence, and what is lacking. Nothing else
    /// is kept from them: they arm, win, and wait.
    #[serde(default)]
    pub(super) gated: Vec<(VersionNo, String)>,
    /// Why the labels may say more about the champion's answers than about the challengers: nothing is swapped by itself
    /// meanwhile.
    #[serde(default)]
    pub(super) doubt: Option<String>,
    /// From which score on a version's label is positive, where it is not what the policy says; as bits.
    #[serde(default)]
    pub(super) thresholds: Vec<(VersionNo, u64)>,
    /// Digest of a version's calibration, where it has one.
    #[serde(default)]
    pub(super) calibrations: Vec<(VersionNo, String)>,
    /// Up to which row a version's scores were read in another way.
    #[serde(default)]
    pub(super) stale: Vec<(VersionNo, u64)>,
    /// CPU time of a row in nanoseconds, where it is known.
    #[serde(default)]
    pub(super) costs: Vec<(VersionNo, u64)>,
    /// Copies of others.
    #[serde(default)]
    pub(super) twins: Vec<Twin>,
}

impl Judge {
    /// A model's first tenure, or the one that the ledger knows.
    #[must_use]
    pub fn new(policy: Policy, champion: VersionNo, epoch: u64, clock: Clock) -> Self {
        Self {
            policy,
            epoch,
            era: 0,
            champion,
            previous: None,
            queue: Vec::new(),
            next_order: 1,
            probation: None,
            falls: Vec::new(),
            last_swap: None,
            hold: false,
            clock,
            pending: None,
            barred: Vec::new(),
            gated: Vec::new(),
            doubt: None,
            thresholds: Vec::new(),
            calibrations: Vec::new(),
            stale: Vec::new(),
            costs: Vec::new(),
            twins: Vec::new(),
        }
    }

    /// Folds one pair; pairs of another tenure are ignored.
    pub fn fold(&mut self, pair: &Pair) -> Option<Decision> {
        if pair.epoch != self.epoch {
            return None;
        }
        self.clock = pair.clock;
        self.fold_probation(pair);
        self.fold_queue(pair);
        self.fold_twins(pair);
        if self.hold || self.policy.mode != Mode::Auto || self.doubt.is_some() || self.pending.is_some() {
            return None;
        }
        let decision = self.rollback(pair).or_else(|| self.promotion(pair))?;
        self.pending = Some(decision.version);
        Some(decision)
    }

    fn fold_probation(&mut self, pair: &Pair) {
        let question = Question {
            bound: self.policy.metric.bound(),
            margin: 0.0,
            bar: self.policy.rollback_bar(),
            drop_factor: self.policy.drop_factor,
            dwell: self.policy.dwell,
        };
        let Some(probation) = &mut self.probation else { return };
        if let Some(entry) = pair.entries.iter().find(|e| e.version == probation.against) {
            probation.evidence.fold(entry, pair, question);
            if pair.groups != 0 {
                let row = row(entry, pair);
                probation.groups.fold_harm(pair.groups, row, &self.policy);
            }
        }
        let (since, labels) = (probation.since, probation.evidence.labels());
        if labels >= self.policy.probation_labels && self.policy.probation.has_passed(since, pair.clock) {
            self.probation = None;
        }
    }

    fn fold_queue(&mut self, pair: &Pair) {
        let (bound, margin) = (self.policy.metric.bound(), self.policy.margin);
        let (policy, falls, twins) = (&self.policy, &self.falls, &self.twins);
        for contender in self.queue.iter_mut().filter(|c| c.present) {
            let Some(entry) = pair.entries.iter().find(|e| e.version == contender.version) else {
                continue;
            };
            let waits = |f: &Fall| f.version == contender.version && f.waits(policy.rollback_wait, pair.clock);
            if contender.order.is_none() && falls.iter().any(waits) {
                continue;
            }
            let bar = if twins.iter().any(|twin| twin.version == contender.version) {
                // Never armed, and no place of its own.
                f64::INFINITY
            } else {
                policy.bar(*contender.order.get_or_insert_with(|| {
                    self.next_order += 1;
                    self.next_order - 1
                }))
            };
            contender.evidence.fold(
                entry,
                pair,
                Question {
                    bound,
                    margin,
                    bar,
                    drop_factor: policy.drop_factor,
                    dwell: policy.dwell,
                },
            );
            if pair.groups != 0 {
                contender.groups.fold(pair.groups, row(entry, pair), policy);
            }
        }
    }

    /// True when a row at `clock` should make an entry for `version`.
    #[must_use]
    pub fn collects(&self, version: VersionNo, clock: Clock) -> bool {
        if !self.is_fresh(version, clock) {
            return false;
        }
        if self.probation.as_ref().is_some_and(|p| p.against == version) {
            return true;
        }
        let contender = self.queue.iter().find(|c| c.version == version && c.present);
        contender.is_some_and(|c| self.waiting(c, clock).is_none())
    }

    /// True for every version whose evidence is kept in this tenure.
    #[must_use]
    pub fn knows(&self, version: VersionNo) -> bool {
        self.queue.iter().any(|c| c.version == version) || self.probation.as_ref().is_some_and(|p| p.against == version)
    }

    /// Number of the tenure.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How often evidence was started anew.
    #[must_use]
    pub fn era(&self) -> u64 {
        self.era
    }

    /// The champion.
    #[must_use]
    pub fn champion(&self) -> VersionNo {
        self.champion
    }

    /// The champion before, unless the crown came back by a rollback or it has left.
    #[must_use]
    pub fn previous(&self) -> Option<VersionNo> {
        self.previous
    }

    /// True while the champion is watched against the previous one.
    #[must_use]
    pub fn on_probation(&self) -> bool {
        self.probation.is_some()
    }

    /// True while a person's word stands.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold
    }

    /// The version of the decision that was given and not yet answered.
    #[must_use]
    pub fn awaits(&self) -> Option<VersionNo> {
        self.pending
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The challengers that are present, in order of arrival.
    pub fn challengers(&self) -> impl Iterator<Item = VersionNo> {
        self.queue.iter().filter(|c| c.present).map(|c| c.version)
    }

    /// When the wealth of a challenger reached its bar, if it has not fallen far below it since.
    #[must_use]
    pub fn armed_since(&self, version: VersionNo) -> Option<Clock> {
        let contender = self.queue.iter().find(|c| c.version == version)?;
        contender.evidence.armed.map(|armed| armed.since)
    }

    /// Clock of the last swap.
    #[must_use]
    pub fn last_swap(&self) -> Option<Clock> {
        self.last_swap
    }
}

fn row(entry: &Entry, pair: &Pair) -> Row {
    Row {
        difference: entry.difference,
        weight: pair.weight,
        clock: pair.clock,
    }
}

#[cfg(test)]
mod tests;
