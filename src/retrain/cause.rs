//! What makes it time to retrain, with its numbers, and whether the last time is long enough ago.
//!
//! Always holds: pure; time, rows and what was acted on before are arguments, so that a restart decides as the process
//! before it would have. An alarm is acted on once; decay, which can be undone, again after each cool-down while the
//! recent loss lies above the limit; a forecast once in a champion's tenure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::When;
use crate::monitor::view::Signs;
use crate::span::{Clock, Span};
use crate::time::rfc3339;

/// Alarms that are remembered as acted on.
const REMEMBERED: usize = 10_000;
const DAY_MS: f64 = 86_400_000.0;

/// Names of all causes, in the order in which they stand for a retraining that has several.
pub(crate) const CAUSES: [&str; 6] = ["order", "decay", "drift", "forecast", "labels", "schedule"];

/// A feature whose alarm is raised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Where it was raised.
    pub(crate) row: u64,
    pub(crate) feature: String,
    pub(crate) what: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub(crate) enum Cause {
    /// Somebody wants it.
    Order { reason: String },
    /// The decay alarm.
    Decay {
        row: u64,
        level: Option<f64>,
        limit: Option<f64>,
        recent: Option<f64>,
    },
    /// Alarms of features and of the score.
    Drift { features: Vec<Changed> },
    /// The loss is expected to cross its limit.
    Forecast {
        since_row: u64,
        rows: u64,
        within: Span,
        recent: Option<f64>,
        limit: Option<f64>,
    },
    /// Labelled rows that have closed.
    Labels { counted: u64, every: u64, to_row: u64 },
    /// A time in cron syntax.
    Schedule { schedule: String, at: String },
}

impl Cause {
    /// Its name, as settings and metrics have it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Order { .. } => "order",
            Self::Decay { .. } => "decay",
            Self::Drift { .. } => "drift",
            Self::Forecast { .. } => "forecast",
            Self::Labels { .. } => "labels",
            Self::Schedule { .. } => "schedule",
        }
    }

    /// In words.
    pub(crate) fn text(&self) -> String {
        let number = |x: &Option<f64>| x.map_or_else(|| "unknown".to_owned(), |x| format!("{x:.4}"));
        match self {
            Self::Order { reason } => reason.clone(),
            Self::Decay {
                row,
                level,
                limit,
                recent,
            } => format!(
                "the champion has decayed: the alarm was raised at row {row}, its recent loss is {}, its level was {}, the \
                 limit {}",
                number(recent),
                number(level),
                number(limit)
            ),
            Self::Drift { features } => {
                let named = features.iter().take(10);
                let named: Vec<String> = named
                    .map(|c| format!("{} ({}, row {})", c.feature, c.what, c.row))
                    .collect();
                let more = features.len().saturating_sub(named.len());
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("what comes in has changed: {}{more}", named.join(", "))
            }
            Self::Forecast {
                rows: 0, recent, limit, ..
            } => format!(
                "the loss has crossed its limit already: it is {}, the limit {}",
                number(recent),
                number(limit)
            ),
            Self::Forecast {
                rows,
                within,
                recent,
                limit,
                ..
            } => format!(
                "the loss is expected to cross its limit in {rows} rows, which lies within {within}: it is {}, the limit {}",
                number(recent),
                number(limit)
            ),
            Self::Labels { counted, every, to_row } => {
                format!("{counted} labelled rows have closed up to row {to_row}, {every} are asked for")
            }
            Self::Schedule { schedule, at } => format!("it is {at}, by the schedule '{schedule}'"),
        }
    }
}

/// What was acted on before.
#[derive(Debug, Clone, Default)]
pub(super) struct Acted {
    decays: BTreeSet<u64>,
    forecasts: BTreeSet<u64>,
    changes: BTreeSet<Changed>,
}

impl Acted {
    /// These causes have been acted on.
    pub(super) fn note(&mut self, causes: &[Cause]) {
        for cause in causes {
            match cause {
                Cause::Decay { row, .. } => drop(self.decays.insert(*row)),
                Cause::Forecast { since_row, .. } => drop(self.forecasts.insert(*since_row)),
                Cause::Drift { features } => self.changes.extend(features.iter().cloned()),
                Cause::Order { .. } | Cause::Labels { .. } | Cause::Schedule { .. } => {}
            }
        }
        while self.decays.len() > REMEMBERED {
            self.decays.pop_first();
        }
        while self.forecasts.len() > REMEMBERED {
            self.forecasts.pop_first();
        }
        while self.changes.len() > REMEMBERED {
            self.changes.pop_first();
        }
    }
}

/// Labelled rows that have closed since the last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) labels: u64,
    /// The last row that was looked at.
    pub(super) to_row: u64,
}

/// All that makes it time now.
pub(super) fn due(
    when: &When,
    signs: Option<&Signs>,
    acted: &Acted,
    counted: Counted,
    schedule_at: Option<i64>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(signs) = signs {
        causes.extend(decay(when, signs, acted));
        causes.extend(drift(when, signs, acted));
        causes.extend(forecast(when, signs, acted));
    }
    if let Some(every) = when.labels.filter(|every| counted.labels >= *every) {
        causes.push(Cause::Labels {
            counted: counted.labels,
            every,
            to_row: counted.to_row,
        });
    }
    if let (Some(schedule), Some(at)) = (&when.schedule, schedule_at) {
        causes.push(Cause::Schedule {
            schedule: schedule.text().to_owned(),
            at: rfc3339(at),
        });
    }
    causes
}

fn decay(when: &When, signs: &Signs, acted: &Acted) -> Option<Cause> {
    let decay = &signs.decay;
    let raised = decay.raised.filter(|_| when.decay)?;
    let is_above = decay
        .recent
        .zip(decay.limit)
        .is_some_and(|(recent, limit)| recent >= limit);
    (is_above || !acted.decays.contains(&raised.row)).then_some(Cause::Decay {
        row: raised.row,
        level: decay.level,
        limit: decay.limit,
        recent: decay.recent,
    })
}

fn drift(when: &When, signs: &Signs, acted: &Acted) -> Option<Cause> {
    let changed = signs
        .changed
        .iter()
        .filter(|_| when.drift)
        .map(|(feature, raised)| Changed {
            row: raised.at.row,
            feature: feature.clone(),
            what: raised.what.clone(),
        });
    let features: Vec<Changed> = changed.filter(|changed| !acted.changes.contains(changed)).collect();
    (!features.is_empty()).then_some(Cause::Drift { features })
}

fn forecast(when: &When, signs: &Signs, acted: &Acted) -> Option<Cause> {
    let (within, rows) = (when.forecast?, signs.rows_to_limit?);
    let is_near = match within {
        Span::Rows(most) => rows <= most,
        Span::Time(time) => {
            let per_day = signs.rows_per_day?;
            rows as f64 / per_day * DAY_MS <= time.as_secs_f64() * 1e3
        }
    };
    (is_near && !acted.forecasts.contains(&signs.since_row)).then_some(Cause::Forecast {
        since_row: signs.since_row,
        rows,
        within,
        recent: signs.decay.recent,
        limit: signs.decay.limit,
    })
}

/// The last time as it counts from now on: what lies in the future, because the clock went back or the ledger is an older
/// copy, was now.
pub(super) fn not_later(last: Clock, now: Clock) -> Clock {
    Clock {
        row: last.row.min(now.row),
        time_ms: last.time_ms.min(now.time_ms),
    }
}

/// Why it is too soon, where it is.
pub(super) fn too_soon(last: Option<Clock>, cooldown: Span, now: Clock) -> Option<String> {
    let last = last.filter(|last| !cooldown.has_passed(*last, now))?;
    Some(match cooldown {
        Span::Rows(rows) => format!("the cool-down ends at row {}", last.row.saturating_add(rows)),
        Span::Time(time) => {
            let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            format!("the cool-down ends at {}", rfc3339(last.time_ms.saturating_add(ms)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::alarm::Raised;
    use crate::monitor::outcomes::Decay;

    fn at(row: u64, time_ms: i64) -> Clock {
        Clock { row, time_ms }
    }

    fn names(causes: &[Cause]) -> Vec<&'static str> {
        causes.iter().map(Cause::name).collect()
    }

    fn signs(recent: f64) -> Signs {
        let raised = Raised {
            at: at(90, 0),
            what: "location".into(),
            log_wealth: 9.0,
        };
        Signs {
            decay: Decay {
                level: Some(0.2),
                limit: Some(0.25),
                recent: Some(recent),
                raised: Some(at(100, 0)),
                trend: None,
            },
            since_row: 7,
            rows_to_limit: Some(48),
            rows_per_day: Some(24.0),
            changed: vec![("price".into(), raised)],
        }
    }

    fn when(text: &str) -> When {
        crate::config::ModelConfig::parse("model.toml", &format!("[retrain]\nwhen = {{ {text} }}\n"))
            .unwrap()
            .retrain
            .when
    }

    #[test]
    fn each_cause_makes_it_time_by_its_own_setting_only_and_says_its_numbers() {
        let counted = Counted { labels: 50, to_row: 99 };
        let all = |text: &str| due(&when(text), Some(&signs(0.3)), &Acted::default(), counted, Some(0));
        assert!(all("").is_empty());
        for (text, name, says) in [
            (
                "decay = true",
                "decay",
                "row 100, its recent loss is 0.3000, its level was 0.2000, the limit 0.2500",
            ),
            ("drift = true", "drift", "price (location, row 90)"),
            ("forecast = \"48 rows\"", "forecast", "in 48 rows"),
            ("forecast = \"2d\"", "forecast", "within 2d"),
            ("labels = 50", "labels", "50 labelled rows have closed up to row 99"),
            ("schedule = \"0 0 * * *\"", "schedule", "it is 1970-01-01T00:00:00.000Z"),
        ] {
            let causes = all(text);
            assert_eq!(names(&causes), [name], "{text}");
            assert!(causes[0].text().contains(says), "{}", causes[0].text());
            let json = serde_json::to_string(&causes).unwrap();
            assert_eq!(serde_json::from_str::<Vec<Cause>>(&json).unwrap(), causes, "{json}");
        }
        assert!(all("forecast = \"47 rows\", labels = 51").is_empty());
        assert!(all("forecast = \"1d\"").is_empty());
    }

    #[test]
    fn an_alarm_is_acted_on_once_and_decay_again_while_the_loss_is_above_its_limit() {
        let when = when("decay = true, drift = true, forecast = \"9d\"");
        let look = |acted: &Acted, recent| due(&when, Some(&signs(recent)), acted, Counted::default(), None);
        let mut acted = Acted::default();
        let causes = look(&acted, 0.3);
        assert_eq!(names(&causes), ["decay", "drift", "forecast"]);
        acted.note(&causes);
        assert_eq!(names(&look(&acted, 0.3)), ["decay"]);
        assert!(look(&acted, 0.2).is_empty());
        let mut other = signs(0.2);
        other.changed[0].1.at.row = 91;
        other.decay.raised = Some(at(101, 0));
        other.since_row = 8;
        let causes = due(&when, Some(&other), &acted, Counted::default(), None);
        assert_eq!(names(&causes), ["decay", "drift", "forecast"], "of another tenure");
    }

    #[test]
    fn a_clock_that_jumps_makes_it_neither_time_again_and_again_nor_never() {
        let (day, year) = (86_400_000, 365 * 86_400_000);
        let cooldown: Span = "24h".parse().unwrap();
        let now = at(10, 2 * year);
        // Back by a year, over a restart: it ends a day from now, not in a year.
        let last = not_later(at(10, 3 * year), now);
        assert!(
            too_soon(Some(last), cooldown, now).is_some_and(|why| why.contains("1972-01-02T00:00")),
            "{last:?}"
        );
        assert!(too_soon(Some(last), cooldown, at(10, 2 * year + day)).is_none());
        // Forth by a year: once, and then not for a day.
        let later = at(10, 3 * year);
        assert!(too_soon(Some(last), cooldown, later).is_none());
        assert!(too_soon(Some(later), cooldown, at(10, 3 * year + day - 1)).is_some());
        // A ledger that was put back has fewer rows.
        let rows: Span = "100 rows".parse().unwrap();
        let last = not_later(at(9_000, 0), now);
        assert!(too_soon(Some(last), rows, at(109, 0)).is_some_and(|why| why.contains("row 110")));
        assert!(too_soon(Some(last), rows, at(110, 0)).is_none() && too_soon(None, rows, now).is_none());
    }
}
