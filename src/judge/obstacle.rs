//! What can stand in a challenger's way, and how it is said.

use std::fmt;

use super::guard::Guardrail;
use super::standing::GroupView;
use super::verdict::Numbers;
use crate::span::{Clock, Span};

/// What stands between a challenger and the crown. Its sentence names it with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Obstacle {
    Left,
    Twin,
    Waits { times: u32, since: Clock, span: Span },
    OneClass,
    Loses,
    Barred(String),
    Labels { has: u64, needs: u64 },
    Bar,
    Dwell { since: Clock, span: Span },
    FewOfAClass { needs: u64 },
    Coverage { has: f64, needs: f64 },
    Guardrail(Guardrail),
    Group(GroupView),
    Cooldown { since: Clock, span: Span },
}

impl Obstacle {
    /// True while it is evidence that is missing, so that labels will tell.
    pub(super) fn is_for_labels(&self) -> bool {
        matches!(self, Self::Labels { .. } | Self::Bar)
    }

    /// True for a challenger that has shown that it is better, and waits for something else.
    pub(super) fn is_past_the_bar(&self) -> bool {
        matches!(
            self,
            Self::Dwell { .. }
                | Self::FewOfAClass { .. }
                | Self::Coverage { .. }
                | Self::Guardrail(_)
                | Self::Group(_)
                | Self::Cooldown { .. }
        )
    }

    pub(super) fn sentence(&self, numbers: &Numbers) -> String {
        match self {
            Self::Left => "not shadowed at present; its evidence is kept while the champion stays".to_owned(),
            Self::Twin => "it is a twin: a copy that measures noise and never becomes champion by evidence".to_owned(),
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
            Self::Barred(why) => why.clone(),
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
            Self::Guardrail(rail) => rail.sentence(),
            Self::Group(group) => group.sentence(),
            Self::Cooldown { since, span } => format!("cool-down until {} ({span})", until(*since, *span)),
        }
    }
}

/// Rounded down, so that what falls short never reads as enough.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0 + 1e-9).floor() / 10.0)
}

/// A moment on the dimension of `span`: a row, or a time in UTC.
pub(super) fn moment(clock: Clock, span: Span) -> String {
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
