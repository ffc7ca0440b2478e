//! What each challenger has shown, in numbers and in one sentence for an engineer.
//!
//! Reads the judge's state and changes nothing. The sentence names the first thing that stands in the way.

use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::evidence::Evidence;
use super::fold::Judge;
use super::guard::{self, Guardrail};
use super::obstacle::{Obstacle, moment};
use super::outlook::{self, Outlook};
use super::policy::{Mode, Policy};
use super::standing::GroupView;
use super::twin::Noise;
use crate::score::VersionNo;
use crate::span::Clock;

/// The displayed interval misses with at most this probability, over all looks.
const DISPLAY_ALPHA: f64 = 0.05;

/// Evidence in numbers. Differences are champion's loss minus the version's: above 0, the version is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    /// Folded labels.
    pub labels: u64,
    /// ln of the wealth.
    pub log_wealth: f64,
    /// ln of the wealth that arms.
    pub log_bar: f64,
    /// Mean difference in loss units, since the evidence was started.
    pub mean_difference: f64,
    /// 95 % interval for it, valid at every look; for display.
    pub interval: [f64; 2],
    /// When wealth reached the bar.
    pub armed_since: Option<Clock>,
    /// Mean difference since then, which did not buy the crown.
    pub mean_since_arming: Option<f64>,
    /// Labels since then.
    pub labels_since_arming: u64,
}

impl Numbers {
    pub(super) fn of(evidence: &Evidence, bar: f64, bound: f64) -> Self {
        let (low, mean, high) = evidence.interval.bounds(bound, DISPLAY_ALPHA);
        Self {
            labels: evidence.labels(),
            log_wealth: evidence.win.ln(),
            log_bar: libm::log(bar),
            mean_difference: mean,
            interval: [low, high],
            armed_since: evidence.armed.map(|a| a.since),
            mean_since_arming: evidence.armed.and_then(|a| a.mean()),
            labels_since_arming: evidence.armed.map_or(0, |a| a.labels),
        }
    }

    /// How many labels it still takes, and how long.
    fn how_far(&self, outlook: &Outlook, obstacle: &Obstacle, pace: Option<f64>) -> String {
        let missing = match obstacle {
            Obstacle::Labels { has, needs } => needs.saturating_sub(*has),
            _ => 0,
        };
        let [low, high] = self.interval;
        let (labels, seconds) = match outlook.labels_to_bar {
            _ if self.labels < 2 => return String::new(),
            Some(0) => (missing, pace.map(|pace| missing as f64 * pace)),
            Some(labels) => (labels.max(missing), pace.map(|pace| labels.max(missing) as f64 * pace)),
            None => {
                let mean = self.mean_difference;
                return format!("; never at the present mean difference, {mean:+.4} ({low:+.4} to {high:+.4})");
            }
        };
        let time = seconds.map_or_else(String::new, |seconds| {
            format!(", {} at the present rate", outlook::about(seconds))
        });
        format!(
            "; about {labels} more at the present mean difference, {:+.4} ({low:+.4} to {high:+.4}){time}",
            self.mean_difference
        )
    }

    /// What the tenure shows beside what has come since arming, which did not buy the bar.
    fn since_arming(&self) -> String {
        let since = self.mean_since_arming.map_or_else(String::new, |mean| {
            format!(", {mean:+.4} over the {} since arming", self.labels_since_arming)
        });
        format!(
            "; mean difference {:+.4} over {} labels{since}",
            self.mean_difference, self.labels
        )
    }

    /// The sentence of a decision.
    pub(super) fn why(&self, policy: &Policy) -> String {
        let since = self
            .armed_since
            .map_or_else(String::new, |s| format!(" since {}", moment(s, policy.dwell)));
        let later = self
            .mean_since_arming
            .map_or_else(String::new, |m| format!(", {m:+.4} since arming"));
        format!(
            "ln wealth {:.2}, bar {:.2}, armed{since} and held for {}; {} labels, mean {} difference {:+.4}{later}",
            self.log_wealth,
            self.log_bar,
            policy.dwell,
            self.labels,
            policy.metric.name(),
            self.mean_difference,
        )
    }
}

/// The judge's word on a challenger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// Nothing but a person or the hold stands in its way.
    #[serde(rename = "wins")]
    Wins,
    /// The mirrored bet has shown that it loses more than the champion.
    #[serde(rename = "loses")]
    Loses,
    /// Neither.
    #[serde(rename = "not yet")]
    NotYet,
}

/// In the sentence of a winner whom nobody crowns by itself.
pub const WAITS: &str = "waits for a person to promote it";

/// What a challenger has shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The challenger.
    pub version: VersionNo,
    /// The evidence.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// The word.
    pub verdict: Call,
    /// One sentence.
    pub why: String,
    /// Share of rows whose features it had, over the last dwell.
    pub coverage: f64,
    /// Rows that it failed on, each at the largest loss.
    pub failed: u64,
    /// Place in the queue of this tenure, which sets the bar; `None` while it waits, and for a twin.
    pub place: Option<u32>,
    /// ln of the bar of the first place, and about how many labels more this place costs.
    pub first_log_bar: f64,
    /// See [`Verdict::first_log_bar`]; `None` where that cannot be told.
    pub place_costs_labels: Option<u64>,
    /// How far it is.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// The guardrails, the groups last.
    pub guardrails: Vec<Guardrail>,
    /// What each named group says.
    pub groups: Vec<GroupView>,
    /// How much a copy disagrees with its original, to see the difference beside.
    pub noise: Option<Noise>,
    /// It is such a copy.
    pub twin: bool,
    /// For the previous champion: the rollback test's alarm while the judge may not act on it.
    pub alarm: Option<String>,
}

/// What a decision rests on beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Basis {
    /// Of the pair that decided.
    pub clock: Clock,
    /// The tenure.
    pub epoch: u64,
    /// Who was champion.
    pub champion: VersionNo,
    /// Place in the queue.
    pub place: Option<u32>,
    /// Share of rows whose features it had, over the last dwell.
    pub coverage: f64,
    /// Rows that it failed on.
    pub failed: u64,
    /// The guardrails, the groups last.
    pub guardrails: Vec<Guardrail>,
    /// What each named group said: of a challenger before a promotion.
    pub groups: Vec<GroupView>,
    /// How much a copy disagreed with its original.
    pub noise: Option<Noise>,
    /// The rules in force.
    pub policy: Policy,
}

impl Judge {
    pub(super) fn basis(&self, version: VersionNo, evidence: &Evidence) -> Basis {
        let contender = self.queue.iter().find(|c| c.version == version);
        let groups = contender.map(|c| self.groups_of(c)).unwrap_or_default();
        let mut guardrails = Vec::from(self.guardrails(version, evidence));
        guardrails.extend(guard::of_groups(&groups));
        Basis {
            clock: self.clock,
            epoch: self.epoch,
            champion: self.champion,
            place: contender.and_then(|c| c.order),
            coverage: evidence.coverage(),
            failed: evidence.failed,
            guardrails,
            groups,
            noise: self.noise(),
            policy: self.policy.clone(),
        }
    }

    fn groups_of(&self, contender: &Contender) -> Vec<GroupView> {
        let all = contender.groups.of(&self.policy);
        all.map(|(group, standing)| GroupView::of(group, &standing)).collect()
    }

    /// A verdict per challenger, in order of arrival; those that have left are not among them.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.queue
            .iter()
            .filter(|c| c.present)
            .map(|c| self.verdict_of(c))
            .collect()
    }

    /// The verdict on one challenger of this tenure.
    #[must_use]
    pub fn verdict(&self, version: VersionNo) -> Option<Verdict> {
        self.queue
            .iter()
            .find(|c| c.version == version)
            .map(|c| self.verdict_of(c))
    }

    fn verdict_of(&self, contender: &Contender) -> Verdict {
        let evidence = &contender.evidence;
        let numbers = Numbers::of(evidence, self.bar(contender), self.policy.metric.bound());
        let (bound, margin) = (self.policy.metric.bound(), self.policy.margin);
        let (bar, first_bar) = (self.bar(contender), self.policy.bar(1));
        let until = |bar: f64| outlook::labels_until(evidence, bar, bound, margin);
        let pace = outlook::seconds_per_label(evidence, self.clock, self.policy.dwell);
        let outlook = Outlook {
            labels_to_bar: until(bar),
            seconds_to_bar: until(bar).zip(pace).map(|(labels, pace)| labels as f64 * pace),
        };
        let (verdict, why) = match self.obstacle(contender, self.clock) {
            Some(Obstacle::Loses) => (Call::Loses, Obstacle::Loses.sentence(&numbers)),
            Some(obstacle) => {
                let mut why = obstacle.sentence(&numbers);
                if obstacle.is_for_labels() {
                    why += &numbers.how_far(&outlook, &obstacle, pace);
                } else if obstacle.is_past_the_bar() {
                    why += &numbers.since_arming();
                }
                (Call::NotYet, why)
            }
            None => (Call::Wins, self.next_step(contender.version, &numbers)),
        };
        let groups = self.groups_of(contender);
        let mut guardrails = Vec::from(self.guardrails(contender.version, evidence));
        guardrails.extend(guard::of_groups(&groups));
        let alarm = self
            .alarm()
            .filter(|(against, _)| *against == contender.version)
            .map(|(_, text)| text);
        Verdict {
            version: contender.version,
            verdict,
            why,
            coverage: evidence.coverage(),
            failed: evidence.failed,
            place: contender.order,
            first_log_bar: libm::log(first_bar),
            place_costs_labels: until(bar)
                .zip(until(first_bar))
                .map(|(own, first)| own.saturating_sub(first)),
            outlook,
            guardrails,
            groups,
            noise: self.noise(),
            twin: self.is_twin(contender.version),
            alarm,
            numbers,
        }
    }

    /// What happens to a winner.
    fn next_step(&self, version: VersionNo, numbers: &Numbers) -> String {
        let why = numbers.why(&self.policy);
        match (self.hold, self.policy.mode) {
            (true, _) => format!("{why}; on hold: a person promotes or resumes"),
            (false, Mode::Recommend) => format!("{why}; mode = recommend: {WAITS}"),
            (false, Mode::Off) => format!("{why}; mode = off: nothing follows"),
            (false, Mode::Auto) => match self.gate_of(version).or(self.doubt()) {
                Some(doubt) => format!("{why}; {WAITS}, because {doubt}"),
                None => format!("{why}; next in line"),
            },
        }
    }

    /// The rollback test's alarm, against which version: the new champion loses more than the previous one, over all rows
    /// or in a named group. In mode auto and without a hold, a rollback follows by itself once it has held for the dwell;
    /// of a group that is not strict, none does.
    #[must_use]
    pub fn alarm(&self) -> Option<(VersionNo, String)> {
        let probation = self.probation.as_ref()?;
        if probation.evidence.armed.is_none() {
            let mut groups = probation.groups.of(&self.policy);
            let hurt = groups.find(|(_, standing)| standing.since().is_some())?;
            return Some((probation.against, self.harm(hurt)));
        }
        let numbers = Numbers::of(
            &probation.evidence,
            self.policy.rollback_bar(),
            self.policy.metric.bound(),
        );
        let text = format!(
            "the champion loses more than this version did: ln wealth {:.2}, bar {:.2}, mean difference {:+.4} over {} labels",
            numbers.log_wealth, numbers.log_bar, numbers.mean_difference, numbers.labels
        );
        Some((probation.against, text))
    }
}
