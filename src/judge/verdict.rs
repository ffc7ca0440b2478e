//! What each challenger has shown, in numbers and in one sentence for an engineer.
//!
//! Reads the judge's state and changes nothing. The sentence names the first thing that stands in the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::evidence::Evidence;
use super::fold::Judge;
use super::policy::{Mode, Policy};
use crate::score::VersionNo;
use crate::span::{Clock, Span};

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
    /// Share of rows whose features it had: since arming, or of all.
    pub coverage: f64,
    /// Rows that it failed on, each at the largest loss.
    pub failed: u64,
    /// For the previous champion: the rollback test's alarm while the judge may not act on it.
    pub alarm: Option<String>,
}

/// What stands between a challenger and the crown. Its `Display` is the sentence.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Obstacle {
    Left,
    Waits { times: u32, since: Clock, span: Span },
    OneClass,
    Loses,
    Labels { has: u64, needs: u64 },
    Bar,
    Dwell { since: Clock, span: Span },
    FewOfAClass { needs: u64 },
    Coverage { has: f64, needs: f64 },
    Cooldown { since: Clock, span: Span },
}

impl Obstacle {
    fn sentence(&self, numbers: &Numbers) -> String {
        match self {
            Self::Left => "not shadowed at present; its evidence is kept while the champion stays".to_owned(),
            Self::Waits { times, since, span } => {
                let often = if *times == 1 {
                    "once".to_owned()
                } else {
                    format!("{times} times")
                };
                format!(
                    "rolled back {often}: collects no evidence until {} ({span})",
                    until(*since, *span)
                )
            }
            Self::OneClass => "labels of one class only: set [label] absent or send the other class".to_owned(),
            Self::Loses => format!(
                "loses more than the champion: mean difference {:+.4} over {} labels",
                numbers.mean_difference, numbers.labels
            ),
            Self::Labels { has, needs } => format!("needs {needs} labels, has {has}"),
            Self::Bar => format!(
                "ln wealth {:.2} has not reached the bar, {:.2}, after {} labels",
                numbers.log_wealth, numbers.log_bar, numbers.labels
            ),
            Self::Dwell { since, span } => format!(
                "armed since {}; must hold until {} (dwell {span})",
                moment(*since, *span),
                until(*since, *span)
            ),
            Self::FewOfAClass { needs } => format!("needs {needs} labels of each of two classes"),
            Self::Coverage { has, needs } => {
                format!("covers {} of the rows, needs {}", percent(*has), percent(*needs))
            }
            Self::Cooldown { since, span } => format!("cool-down until {} ({span})", until(*since, *span)),
        }
    }
}

/// Rounded down, so that what falls short never reads as enough.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0 + 1e-9).floor() / 10.0)
}

/// A moment on the dimension of `span`: a row, or a time in UTC.
fn moment(clock: Clock, span: Span) -> String {
    match span {
        Span::Rows(_) => format!("row {}", clock.row),
        Span::Time(_) => Utc(clock.time_ms).to_string(),
    }
}

/// The moment `span` after `since`.
fn until(since: Clock, span: Span) -> String {
    let end = match span {
        Span::Rows(rows) => Clock {
            row: since.row.saturating_add(rows),
            ..since
        },
        Span::Time(time) => {
            let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            Clock {
                time_ms: since.time_ms.saturating_add(ms),
                ..since
            }
        }
    };
    moment(end, span)
}

/// Unix milliseconds, shown in RFC 3339 to the second.
struct Utc(i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1000);
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years counted from March of year 0, so that the leap day comes last; 146,097 days are 400 years.
        let day = day + 719_468;
        let (cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = cycle * 400 + year + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
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
            (false, Mode::Auto) => format!("{why}; next in line"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_rows_or_as_utc() {
        let clock = Clock {
            row: 512,
            time_ms: 951_782_400_000,
        };
        assert_eq!(moment(clock, Span::Rows(336)), "row 512");
        assert_eq!(until(clock, Span::Rows(336)), "row 848");
        assert_eq!(moment(clock, "1h".parse().unwrap()), "2000-02-29T00:00:00Z");
        assert_eq!(until(clock, "25h".parse().unwrap()), "2000-03-01T01:00:00Z");
        assert_eq!(Utc(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(Utc(4_102_444_800_000).to_string(), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn a_share_that_falls_short_never_reads_as_enough() {
        assert_eq!(percent(0.98999), "98.9 %");
        assert_eq!(percent(0.962), "96.2 %");
        assert_eq!(percent(1.0), "100 %");
    }
}
