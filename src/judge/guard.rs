//! Guardrails: what a challenger must keep to besides being better, each with its number and its limit.
//!
//! Always holds: they can only say "not yet", and only before a swap; the same pairs and events give the same numbers.

use std::borrow::Cow;

use serde::Serialize;

use super::evidence::Evidence;
use super::fold::Judge;
use super::standing::GroupView;
use super::window::Counts;
use crate::score::VersionNo;

/// Fewer rows of the dwell than this say nothing of a share or of a distribution.
const LEAST_ROWS: u64 = 200;
/// A row that takes less than this much longer harms nobody, whatever the ratio is: so little runs in place, and admission
/// cannot measure it any better.
const SPARE_NS: u64 = 300_000;

/// One guardrail, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guardrail {
    /// `latency`, `errors`, `coverage`, `decision_rate`, `score_shift`, or `group <name>`.
    pub name: Cow<'static, str>,
    /// The number; `None` while it is not known.
    pub value: Option<f64>,
    /// Its limit; `None`: shown only.
    pub limit: Option<f64>,
    /// Whether it lets the challenger pass.
    pub passes: bool,
    /// Why it does, where the numbers do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

impl Guardrail {
    fn new(name: &'static str, value: Option<f64>, limit: Option<f64>) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value,
            limit,
            passes: true,
            note: None,
        }
    }

    fn with(mut self, is_kept: bool, excuse: Option<&'static str>) -> Self {
        if self.limit.is_none() || self.value.is_none() || is_kept {
            return self;
        }
        (self.passes, self.note) = (excuse.is_some(), excuse);
        self
    }

    /// What to say where it stands in the way.
    pub(super) fn sentence(&self) -> String {
        let (value, limit) = (self.value.unwrap_or_default(), self.limit.unwrap_or_default());
        match self.name.as_ref() {
            "latency" => format!("a row takes {value:.2} times the champion's CPU time, at most {limit} is allowed"),
            "errors" => format!(
                "failed on {:.2} % of the rows of the last dwell, at most {} % is allowed",
                value * 100.0,
                // Not 0.1 written as a sum of halves.
                (limit * 1e6).round() / 1e4
            ),
            "decision_rate" => format!(
                "says positive {value:.2} times as often as the champion over the last dwell, within {limit} times either \
                 way is allowed"
            ),
            "score_shift" => format!(
                "its scores are distributed otherwise than the champion's over the last dwell: index {value:.3}, at most \
                 {limit} is allowed"
            ),
            name => format!("{name}: {value:.2}, limit {limit:.2}"),
        }
    }
}

impl Judge {
    /// The guardrails of the settings, and coverage.
    pub(super) fn guardrails(&self, version: VersionNo, evidence: &Evidence) -> [Guardrail; 5] {
        let (counts, rules) = (evidence.counts(), self.policy.guardrail);
        let coverage = Guardrail::new("coverage", Some(evidence.coverage()), Some(self.policy.min_coverage));
        [
            self.latency(version, rules.latency),
            errors(&counts, rules.errors),
            coverage.with(evidence.coverage() >= self.policy.min_coverage, None),
            decision_rate(&counts, rules.decision_rate),
            score_shift(&counts, rules.score_shift),
        ]
    }

    fn latency(&self, version: VersionNo, limit: Option<f64>) -> Guardrail {
        let (Some(own), Some(champion)) = (self.cost_of(version), self.cost_of(self.champion)) else {
            return Guardrail::new("latency", None, limit);
        };
        let ratio = own as f64 / champion.max(1) as f64;
        let excuse = (own.saturating_sub(champion) < SPARE_NS).then_some("less than 300 µs longer");
        Guardrail::new("latency", Some(ratio), limit).with(limit.is_none_or(|limit| ratio <= limit), excuse)
    }
}

/// The groups as guardrails.
pub(super) fn of_groups(groups: &[GroupView]) -> impl Iterator<Item = Guardrail> {
    groups.iter().map(|group| Guardrail {
        name: Cow::Owned(format!("group {}", group.name)),
        value: Some(group.log_wealth),
        limit: Some(group.log_bar),
        passes: group.passes,
        note: None,
    })
}

fn errors(counts: &Counts, limit: Option<f64>) -> Guardrail {
    let share = (counts.rows > 0).then(|| counts.failed as f64 / counts.rows as f64);
    let is_kept = share.is_none_or(|share| limit.is_none_or(|limit| share <= limit));
    Guardrail::new("errors", share, limit).with(is_kept, None)
}

const TOO_FEW: &str = "fewer than 200 rows in the dwell";

fn decision_rate(counts: &Counts, limit: Option<f64>) -> Guardrail {
    let rows = counts.labelled as f64;
    let (own, champion) = (counts.positive as f64, counts.champion_positive as f64);
    // Half a row on either side, so that there is always a ratio.
    let ratio = (counts.labelled > 0).then(|| (own + 0.5) / (champion + 0.5));
    let Some(factor) = limit else {
        return Guardrail::new("decision_rate", ratio, limit);
    };
    let both = counts.both_positive as f64;
    // Sum of (own − factor · other) over the rows, and its square's: beyond two standard errors it is no chance.
    let exceeds = |own: f64, other: f64| {
        let sum = own - factor * other;
        let squares = both * (1.0 - factor) * (1.0 - factor) + (own - both) + (other - both) * factor * factor;
        sum > 2.0 * libm::sqrt((squares - sum * sum / rows.max(1.0)).max(0.0))
    };
    let ratio_kept = ratio.is_none_or(|ratio| ratio <= factor && ratio * factor >= 1.0);
    let excuse = if counts.labelled < LEAST_ROWS {
        Some(TOO_FEW)
    } else if exceeds(own, champion) || exceeds(champion, own) {
        None
    } else {
        Some("within two standard errors of the limit")
    };
    Guardrail::new("decision_rate", ratio, limit).with(ratio_kept, excuse)
}

/// Population stability index of the tenths: the sum of (a − b) ln(a / b) over their shares.
fn score_shift(counts: &Counts, limit: Option<f64>) -> Guardrail {
    let total: u64 = counts.tenths.iter().map(|n| u64::from(*n)).sum();
    let share = |n: u32| (f64::from(n) + 0.5) / (total as f64 + 5.0);
    let index = (total > 0).then(|| {
        let tenths = counts.tenths.iter().zip(&counts.champion_tenths);
        let parts = tenths.map(|(a, b)| (share(*a), share(*b)));
        parts.fold(0.0, |sum, (a, b)| sum + (a - b) * libm::log(a / b))
    });
    let is_kept = index.is_none_or(|index| limit.is_none_or(|limit| index <= limit));
    Guardrail::new("score_shift", index, limit).with(is_kept, (total < LEAST_ROWS).then_some(TOO_FEW))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labelled: u64, positive: u64, champion_positive: u64) -> Counts {
        Counts {
            labelled,
            positive,
            champion_positive,
            both_positive: positive.min(champion_positive),
            ..Counts::default()
        }
    }

    #[test]
    fn the_decision_rate_stops_either_way_and_not_by_chance_or_on_few_rows() {
        let passes = |rows, own, champion| decision_rate(&labelled(rows, own, champion), Some(1.25)).passes;
        assert!(passes(1_000, 120, 100) && passes(1_000, 125, 100) && passes(1_000, 85, 100));
        assert!(!passes(1_000, 160, 100) && !passes(1_000, 60, 100) && !passes(1_000, 30, 0));
        assert!(passes(100, 60, 20), "too few");
        assert!(passes(1_000, 13, 10), "two standard errors");
        let shown = decision_rate(&labelled(1_000, 160, 100), None);
        assert!(shown.passes && (shown.value.unwrap() - 1.597).abs() < 0.01 && shown.limit.is_none());
        assert!(decision_rate(&Counts::default(), Some(1.25)).value.is_none());
    }

    #[test]
    fn the_shift_of_scores_is_an_index_of_tenths_and_has_no_limit_by_itself() {
        let mut counts = Counts::default();
        counts.tenths[2] = 500;
        counts.champion_tenths[2] = 500;
        assert!(score_shift(&counts, None).value.unwrap().abs() < 1e-12);
        counts.champion_tenths = [50; 10];
        let shifted = score_shift(&counts, None);
        assert!(shifted.value.unwrap() > 1.0 && shifted.passes);
        assert!(!score_shift(&counts, Some(0.25)).passes);
        counts.tenths[2] = 100;
        assert!(score_shift(&counts, Some(0.25)).passes, "too few");
    }

    #[test]
    fn one_failed_row_of_a_thousand_passes_and_two_do_not() {
        let counts = |failed| Counts {
            rows: 1_000,
            failed,
            ..Counts::default()
        };
        assert!(errors(&counts(1), Some(0.001)).passes);
        let stopped = errors(&counts(2), Some(0.001));
        assert!(!stopped.passes);
        assert_eq!(
            stopped.sentence(),
            "failed on 0.20 % of the rows of the last dwell, at most 0.1 % is allowed"
        );
    }
}
