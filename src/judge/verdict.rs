//! What each challenger has shown, in numbers and in one sentence for an engineer.
//!
//! Reads the judge's state and changes nothing. The sentence names the first thing that stands in the way.

use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::evidence::Evidence;
use super::fold::Judge;
use super::obstacle::{Obstacle, moment};
use super::policy::{Mode, Policy};
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
    /// For the previous champion: the rollback test's alarm while the judge may not act on it.
    pub alarm: Option<String>,
}

impl Judge {
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
        let (verdict, why) = match self.obstacle(contender, self.clock) {
            Some(Obstacle::Loses) => (Call::Loses, Obstacle::Loses.sentence(&numbers)),
            Some(obstacle) => (Call::NotYet, obstacle.sentence(&numbers)),
            None => (Call::Wins, self.next_step(&numbers)),
        };
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
            alarm,
            numbers,
        }
    }

    /// What happens to a winner.
    fn next_step(&self, numbers: &Numbers) -> String {
        let why = numbers.why(&self.policy);
        match (self.hold, self.policy.mode) {
            (true, _) => format!("{why}; on hold: a person promotes or resumes"),
            (false, Mode::Recommend) => format!("{why}; mode = recommend: waits for a person to promote it"),
            (false, Mode::Off) => format!("{why}; mode = off: nothing follows"),
            (false, Mode::Auto) => match self.doubt() {
                Some(doubt) => format!("{why}; waits for a person to promote it, because {doubt}"),
                None => format!("{why}; next in line"),
            },
        }
    }

    /// The rollback test's alarm, against which version: the new champion loses more than the previous one. In
    /// mode auto and without a hold, a rollback follows by itself once it has held for the dwell.
    #[must_use]
    pub fn alarm(&self) -> Option<(VersionNo, String)> {
        let probation = self.probation.as_ref()?;
        probation.evidence.armed?;
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
