//! Events of a tenure: versions come and go, policies change, champions are swapped.
//!
//! Always holds: the orders of arrival in a tenure are distinct, and a version keeps its own until the tenure
//! ends; every restart of evidence is counted in the era.

use serde::{Deserialize, Serialize};

use super::contender::{Contender, Fall, Probation};
use super::evidence::Evidence;
use super::fold::Judge;
use super::policy::{Mode, Policy};
use super::standing::Standings;
use super::twin::Twin;
use crate::score::VersionNo;
use crate::span::Clock;

/// Versions that left and whose evidence is kept for their return; beyond it, the first to leave is forgotten.
const MAX_LEFT: usize = 256;

/// Why the champion was swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Swap {
    /// The judge's promotion: the new champion is on probation.
    Promotion,
    /// The judge's rollback, or a tripwire's: the outgoing champion must wait.
    Rollback,
    /// A person's word: probation, and the judge is on hold.
    Person,
}

impl Judge {
    /// A challenger arrives, at the end of the queue, or comes back to its place and evidence. A version that
    /// was rolled back is listed, and collects evidence once its wait has passed. Without effect for the champion
    /// and for one that is here already.
    pub fn enter(&mut self, version: VersionNo, clock: Clock) {
        if version == self.champion {
            return;
        }
        match self.queue.iter_mut().find(|c| c.version == version) {
            Some(contender) if contender.present => {}
            Some(contender) => (contender.present, contender.since) = (true, clock),
            None => self.queue.push(Contender::new(version, clock)),
        }
        self.give_order(version, clock);
    }

    /// Orders are given on arrival, except to those that must wait.
    fn give_order(&mut self, version: VersionNo, clock: Clock) {
        if self.is_twin(version) {
            return;
        }
        let (falls, wait) = (&self.falls, self.policy.rollback_wait);
        let Some(contender) = self
            .queue
            .iter_mut()
            .find(|c| c.version == version && c.order.is_none())
        else {
            return;
        };
        if !falls.iter().any(|f| f.version == version && f.waits(wait, clock)) {
            contender.order = Some(self.next_order);
            self.next_order += 1;
        }
    }

    /// A version is no longer shadowed: retired, quarantined, or its file is gone. Its evidence waits for its
    /// return while the tenure lasts; its dwell starts anew. If it was the previous champion, probation ends.
    pub fn leave(&mut self, version: VersionNo) {
        if self.pending == Some(version) {
            self.pending = None;
        }
        if self.previous == Some(version) {
            self.previous = None;
            self.probation = None;
        }
        self.barred.retain(|(barred, _)| *barred != version);
        self.gated.retain(|(gated, _)| *gated != version);
        self.costs.retain(|(other, _)| *other != version);
        self.twins.retain(|twin| twin.version != version);
        if let Some(contender) = self.queue.iter_mut().find(|c| c.version == version) {
            contender.present = false;
            contender.evidence.armed = None;
        }
        if self.queue.iter().filter(|c| !c.present).count() > MAX_LEFT
            && let Some(at) = self.queue.iter().position(|c| !c.present)
        {
            self.queue.remove(at);
        }
    }

    /// The bytes of `from` come back as `to`: what was learned of them, and what they must wait out, belongs to `to` from
    /// now on. Without effect while `from` is here, or where `to` has a place of its own.
    pub fn inherit(&mut self, from: VersionNo, to: VersionNo) {
        let is_taken = |v: VersionNo| self.champion == v || self.queue.iter().any(|c| c.version == v && c.present);
        if from == to || is_taken(from) || is_taken(to) {
            return;
        }
        if let Some(fall) = self.falls.iter().copied().find(|fall| fall.version == from) {
            self.falls.retain(|f| f.version != from);
            match self.falls.iter_mut().find(|f| f.version == to) {
                Some(own) => {
                    own.times = own.times.saturating_add(fall.times);
                    if fall.last.row > own.last.row {
                        own.last = fall.last;
                    }
                }
                None => self.falls.push(Fall { version: to, ..fall }),
            }
        }
        if self.queue.iter().any(|c| c.version == from) {
            self.queue.retain(|c| c.version != to);
        }
        if let Some(contender) = self.queue.iter_mut().find(|c| c.version == from) {
            contender.version = to;
        }
        self.inherit_settings(from, to);
    }

    /// A new policy. True when it asks another question, so that the evidence was started anew.
    pub fn set_policy(&mut self, mut policy: Policy) -> bool {
        policy.keep_bound(&self.policy);
        let restart = policy.asks_another_question(&self.policy);
        if policy.asks_of_other_groups(&self.policy) {
            self.queue.iter_mut().for_each(|contender| contender.groups.clear());
            self.probation.iter_mut().for_each(|probation| probation.groups.clear());
        }
        self.policy = policy;
        if self.policy.mode != Mode::Auto {
            // What was decided under other rules is not carried out under these.
            self.pending = None;
        }
        if restart {
            self.restart_evidence();
        }
        restart
    }

    /// Starts all evidence anew, keeping the champion, the queue and its order.
    pub fn restart_evidence(&mut self) {
        self.era += 1;
        self.pending = None;
        for contender in &mut self.queue {
            contender.evidence = Evidence::default();
            contender.groups.clear();
            contender.since = self.clock;
        }
        if let Some(probation) = &mut self.probation {
            probation.evidence = Evidence::default();
            probation.groups.clear();
        }
        self.twins.iter_mut().for_each(Twin::restart);
    }

    /// The champion was swapped. A new tenure begins: all evidence starts anew, in the order of wealth just
    /// before (fixed before new labels come, so valid), the outgoing champion last, newcomers after it. Versions
    /// that have left are forgotten. Without effect when `to` is the champion.
    pub fn swap(&mut self, to: VersionNo, kind: Swap, clock: Clock) {
        if to == self.champion {
            return;
        }
        let outgoing = std::mem::replace(&mut self.champion, to);
        self.epoch += 1;
        self.last_swap = Some(clock);
        self.clock = clock;
        if kind == Swap::Rollback {
            self.remember_fall(outgoing, clock);
        }
        self.requeue(outgoing, clock);
        self.previous = (kind != Swap::Rollback).then_some(outgoing);
        self.probation = self.previous.map(|against| Probation {
            against,
            since: clock,
            evidence: Evidence::default(),
            groups: Standings::default(),
        });
        self.hold |= kind == Swap::Person;
        self.prune_settings();
        self.restart_evidence();
    }

    fn requeue(&mut self, outgoing: VersionNo, clock: Clock) {
        let champion = self.champion;
        self.queue
            .retain(|c| c.present && c.version != champion && c.version != outgoing);
        self.queue.sort_by(|a, b| {
            let order = |c: &Contender| c.order.unwrap_or(u32::MAX);
            b.evidence
                .win
                .value()
                .total_cmp(&a.evidence.win.value())
                .then(order(a).cmp(&order(b)))
        });
        self.queue.push(Contender::new(outgoing, clock));
        self.next_order = 1;
        for contender in &mut self.queue {
            contender.order = None;
        }
        let versions: Vec<VersionNo> = self.queue.iter().map(|c| c.version).collect();
        for version in versions {
            self.give_order(version, clock);
        }
    }

    fn remember_fall(&mut self, version: VersionNo, clock: Clock) {
        match self.falls.iter_mut().find(|f| f.version == version) {
            Some(fall) => (fall.times, fall.last) = (fall.times.saturating_add(1), clock),
            None => self.falls.push(Fall {
                version,
                times: 1,
                last: clock,
            }),
        }
    }

    /// Puts the judge on hold, or lets it decide again.
    pub fn hold(&mut self, hold: bool) {
        if self.hold != hold {
            self.hold = hold;
            self.pending = None;
        }
    }

    /// `version` may not be champion for this reason, however it does; or it may, when there is none. Its evidence goes on.
    pub fn bar_from_crown(&mut self, version: VersionNo, why: Option<String>) {
        self.barred.retain(|(barred, _)| *barred != version);
        if let Some(why) = why {
            if self.pending == Some(version) {
                self.pending = None;
            }
            self.barred.push((version, why));
        }
    }

    /// `version` is not crowned by evidence for as long as this is lacking; `None`: nothing is.
    pub fn gate(&mut self, version: VersionNo, lacks: Option<String>) {
        self.gated.retain(|(gated, _)| *gated != version);
        if let Some(lacks) = lacks {
            if self.pending == Some(version) {
                self.pending = None;
            }
            self.gated.push((version, lacks));
        }
    }

    /// What is lacking before `version` may be crowned by evidence.
    #[must_use]
    pub fn gate_of(&self, version: VersionNo) -> Option<&str> {
        let gated = self.gated.iter().find(|(gated, _)| *gated == version);
        gated.map(|(_, lacks)| lacks.as_str())
    }

    /// Why `version` may not be champion.
    #[must_use]
    pub fn bar_of(&self, version: VersionNo) -> Option<&str> {
        let barred = self.barred.iter().find(|(barred, _)| *barred == version);
        barred.map(|(_, why)| why.as_str())
    }

    /// What a row of `version` costs, in nanoseconds of CPU time as its admission measured it; 0: nobody knows.
    pub fn set_cost(&mut self, version: VersionNo, ns: u64) {
        self.costs.retain(|(other, _)| *other != version);
        if ns > 0 {
            self.costs.push((version, ns));
        }
    }

    /// What a row of `version` costs in nanoseconds, where that is known.
    #[must_use]
    pub fn cost_of(&self, version: VersionNo) -> Option<u64> {
        let cost = self.costs.iter().find(|(other, _)| *other == version);
        cost.map(|(_, ns)| *ns)
    }

    /// The labels are doubted for this reason, or no longer: meanwhile mode `auto` acts as `recommend`.
    pub fn set_doubt(&mut self, why: Option<String>) {
        if why.is_some() {
            self.pending = None;
        }
        self.doubt = why;
    }

    /// Why the labels are doubted.
    #[must_use]
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// The decision for `version` could not be carried out: it must hold its wealth for another dwell first.
    pub fn decline(&mut self, version: VersionNo) {
        if self.pending == Some(version) {
            self.pending = None;
        }
        for contender in self.queue.iter_mut().filter(|c| c.version == version) {
            contender.evidence.armed = None;
        }
        if let Some(probation) = self.probation.as_mut().filter(|p| p.against == version) {
            probation.evidence.armed = None;
            probation.groups.disarm();
        }
    }

    /// Whom to retire when more than `max` challengers are present: the one furthest below its bar of those that
    /// have had their dwell. Never a twin, whose place is the owner's wish, the previous
    /// champion while it is on call, nor the one that `stands_by` to answer.
    #[must_use]
    pub fn room(&self, max: usize, clock: Clock, stands_by: Option<VersionNo>) -> Option<VersionNo> {
        let present = self.queue.iter().filter(|c| c.present);
        if present.clone().count() <= max {
            return None;
        }
        present
            .filter(|c| {
                ![self.previous, stands_by].contains(&Some(c.version))
                    && !self.is_twin(c.version)
                    && self.policy.dwell.has_passed(c.since, clock)
            })
            .reduce(|worst, c| if self.lead(c) < self.lead(worst) { c } else { worst })
            .map(|c| c.version)
    }
}
