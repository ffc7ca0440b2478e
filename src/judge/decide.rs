//! When evidence is enough: what a rollback and a promotion need, and who wins among several.
//!
//! Reads the judge's state and changes nothing. Hold, mode and what was decided already are looked at before.

use super::contender::{Contender, Fall};
use super::evidence::Evidence;
use super::fold::{Action, Decision, Judge};
use super::obstacle::{Obstacle, moment};
use super::pair::{Classes, Pair};
use super::policy::{GROUP_BAR, Group};
use super::standing::{GroupView, Standing};
use super::verdict::Numbers;
use crate::score::VersionNo;
use crate::span::Clock;

impl Judge {
    /// The mirrored test, over all rows or in a strict group: armed, held, enough labels, of more than one class.
    pub(super) fn rollback(&self, pair: &Pair) -> Option<Decision> {
        let probation = self.probation.as_ref()?;
        let evidence = &probation.evidence;
        let has_held = |since: Clock| self.policy.dwell.has_passed(since, pair.clock);
        let is_of_it =
            evidence.classes != Classes::OneClass && pair.entries.iter().any(|e| e.version == probation.against);
        let shown =
            evidence.armed.is_some_and(|armed| has_held(armed.since)) && evidence.labels() >= self.policy.min_labels;
        let hurt = || {
            probation.groups.of(&self.policy).find(|(group, standing)| {
                group.strict && standing.labels() >= self.policy.min_labels && standing.since().is_some_and(has_held)
            })
        };
        let why = match (is_of_it, shown) {
            (false, _) => return None,
            (true, true) => None,
            (true, false) => Some(self.harm(hurt()?)),
        };
        let bar = self.policy.rollback_bar();
        let mut decision = self.decision(Action::Rollback, probation.against, evidence, bar);
        if let Some(why) = why {
            decision.why = why;
        }
        Some(decision)
    }

    /// What a group says against the new champion.
    pub(super) fn harm(&self, (group, standing): (&Group, Standing)) -> String {
        let bar = if group.strict {
            self.policy.group_rollback_bar()
        } else {
            GROUP_BAR
        };
        let held = standing.since().map_or_else(String::new, |since| {
            format!(", armed since {}", moment(since, self.policy.dwell))
        });
        format!(
            "in group '{}' the new champion loses more than {} more than the previous one: ln wealth {:.2}, bar {:.2}{held}; \
             mean difference {:+.4} over {} labels of the group",
            group.name,
            group.margin,
            standing.log_wealth(),
            libm::log(bar),
            standing.mean().unwrap_or(0.0),
            standing.labels(),
        )
    }

    /// The challenger that is furthest above its bar, of those that nothing stands in the way of and that this
    /// pair speaks of: nobody is crowned on stale evidence.
    pub(super) fn promotion(&self, pair: &Pair) -> Option<Decision> {
        let passes = |c: &Contender| {
            c.groups
                .of(&self.policy)
                .all(|(group, standing)| standing.passes(group))
        };
        let ready = self.queue.iter().filter(|c| {
            c.evidence.armed.is_some()
                && self.gate_of(c.version).is_none()
                && passes(c)
                && pair.entries.iter().any(|e| e.version == c.version)
                && self.obstacle(c, pair.clock).is_none()
        });
        let best = ready.reduce(|best, c| if self.lead(c) > self.lead(best) { c } else { best })?;
        Some(self.decision(Action::Promote, best.version, &best.evidence, self.bar(best)))
    }

    fn decision(&self, kind: Action, version: VersionNo, evidence: &Evidence, bar: f64) -> Decision {
        let numbers = Numbers::of(evidence, bar, self.policy.metric.bound());
        Decision {
            kind,
            version,
            why: numbers.why(&self.policy),
            basis: self.basis(version, evidence),
            numbers,
        }
    }

    /// The wealth that `contender` needs; for one that still waits, what it would need if it started now.
    pub(super) fn bar(&self, contender: &Contender) -> f64 {
        self.policy.bar(contender.order.unwrap_or(self.next_order))
    }

    /// ln W − ln bar.
    pub(super) fn lead(&self, contender: &Contender) -> f64 {
        contender.evidence.win.ln() - libm::log(self.bar(contender))
    }

    /// The first thing that stands between a challenger and the crown, hold and mode apart.
    pub(super) fn obstacle(&self, contender: &Contender, now: Clock) -> Option<Obstacle> {
        let (policy, evidence) = (&self.policy, &contender.evidence);
        let labels = evidence.labels();
        if !contender.present {
            return Some(Obstacle::Left);
        }
        if self.is_twin(contender.version) {
            return Some(Obstacle::Twin);
        }
        if let Some(fall) = self.waiting(contender, now) {
            return Some(Obstacle::Waits {
                times: fall.times,
                since: fall.last,
                span: policy.rollback_wait.times(fall.times),
            });
        }
        if labels > 0 && evidence.classes == Classes::OneClass {
            return Some(Obstacle::OneClass);
        }
        if evidence.armed.is_none() && evidence.lose.value() >= 1.0 / policy.alpha {
            return Some(Obstacle::Loses);
        }
        if let Some((_, why)) = self.barred.iter().find(|(barred, _)| *barred == contender.version) {
            return Some(Obstacle::Barred(why.clone()));
        }
        if labels < policy.min_labels || labels == 0 {
            return Some(Obstacle::Labels {
                has: labels,
                needs: policy.min_labels.max(1),
            });
        }
        let Some(armed) = evidence.armed else {
            return Some(Obstacle::Bar);
        };
        if !policy.dwell.has_passed(armed.since, now) {
            return Some(Obstacle::Dwell {
                since: armed.since,
                span: policy.dwell,
            });
        }
        if evidence.classes != Classes::Enough {
            return Some(Obstacle::FewOfAClass {
                needs: policy.min_class_labels,
            });
        }
        if evidence.coverage() < policy.min_coverage {
            return Some(Obstacle::Coverage {
                has: evidence.coverage(),
                needs: policy.min_coverage,
            });
        }
        let rails = self.guardrails(contender.version, evidence);
        if let Some(stops) = rails.into_iter().find(|rail| !rail.passes) {
            return Some(Obstacle::Guardrail(stops));
        }
        let mut groups = contender.groups.of(policy);
        if let Some((group, standing)) = groups.find(|(group, standing)| !standing.passes(group)) {
            return Some(Obstacle::Group(GroupView::of(group, &standing)));
        }
        let swap = self.last_swap.filter(|swap| !policy.cooldown.has_passed(*swap, now));
        swap.map(|since| Obstacle::Cooldown {
            since,
            span: policy.cooldown,
        })
    }

    /// The rollback that a contender still waits out; one that has begun to collect evidence waits no more.
    pub(super) fn waiting(&self, contender: &Contender, now: Clock) -> Option<Fall> {
        let fall = *self.falls.iter().find(|f| f.version == contender.version)?;
        (contender.order.is_none() && fall.waits(self.policy.rollback_wait, now)).then_some(fall)
    }
}
