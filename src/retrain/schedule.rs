//! Times in cron syntax: minute, hour, day of the month, month, day of the week, in UTC; with six fields seconds come first.
//!
//! Always holds: what was accepted comes again and again; time is an argument. Reading and searching is croner's.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Year};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest text.
const MAX_BYTES: usize = 256;
/// Names of the fields; without seconds the first is left out.
const FIELDS: [&str; 6] = [
    "second",
    "minute",
    "hour",
    "day of the month",
    "month",
    "day of the week",
];

/// See the module.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

impl Schedule {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after this one, both in Unix milliseconds; `None` beyond what calendars hold.
    #[must_use]
    pub fn after(&self, ms: i64) -> Option<i64> {
        let from = DateTime::<Utc>::from_timestamp_millis(ms)?;
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        Some(next.timestamp_millis())
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |pattern: &str| CronParser::builder().year(Year::Disallowed).build().parse(pattern);
        if text.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes"));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let is_named = matches!(fields.as_slice(), [name] if name.starts_with('@'));
        if !is_named && !(5..=6).contains(&fields.len()) {
            return Err(format!(
                "has {} fields: write five fields (minute, hour, day of the month, month, day of the week), or six with \
                 seconds first",
                fields.len()
            ));
        }
        let cron = match parse(text) {
            Ok(cron) => cron,
            Err(error) => {
                // One field at a time: which of them it is.
                let wrong = (0..fields.len()).find(|at| {
                    let mut alone = vec!["*"; fields.len()];
                    if let (Some(place), Some(field)) = (alone.get_mut(*at), fields.get(*at)) {
                        *place = field;
                    }
                    parse(&alone.join(" ")).is_err()
                });
                let field = wrong.filter(|_| !is_named).and_then(|at| {
                    let name = FIELDS.get(FIELDS.len() - fields.len() + at)?;
                    Some(format!("the {name} '{}': ", fields.get(at)?))
                });
                return Err(format!("{}{error}", field.unwrap_or_default()));
            }
        };
        let schedule = Self {
            text: text.to_owned(),
            cron,
        };
        // A leap day is at most eight years away.
        match schedule.after(0) {
            Some(_) => Ok(schedule),
            None => Err("never comes: there is no such day".into()),
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{parse_rfc3339, rfc3339};

    #[test]
    fn times_come_in_order_in_utc_also_on_leap_days_and_with_seconds() {
        let next = |text: &str, from: &str| {
            let schedule: Schedule = text.parse().unwrap();
            rfc3339(schedule.after(parse_rfc3339(from).unwrap()).unwrap())
        };
        assert_eq!(next("0 3 * * sun", "2026-11-26T10:00:00Z"), "2026-11-29T03:00:00.000Z");
        assert_eq!(next("*/15 * * * *", "2026-11-26T10:00:00Z"), "2026-11-26T10:15:00.000Z");
        assert_eq!(next("0 0 29 2 *", "2026-11-26"), "2028-02-29T00:00:00.000Z");
        assert_eq!(
            next("*/5 * * * * *", "2026-11-26T10:00:00.250Z"),
            "2026-11-26T10:00:05.000Z"
        );
        assert_eq!(next("@daily", "2026-11-26T10:00:00Z"), "2026-11-27T00:00:00.000Z");
    }

    #[test]
    fn what_is_wrong_is_said_by_its_field() {
        for (text, says) in [
            ("", "five fields"),
            ("0 3 * *", "has 4 fields"),
            ("0 3 * * * * 2027", "has 7 fields"),
            ("61 3 * * *", "the minute '61'"),
            ("0 25 * * *", "the hour '25'"),
            ("0 3 * foo *", "the month 'foo'"),
            ("0 0 3 * * someday", "the day of the week 'someday'"),
            ("0 0 30 2 *", "never comes"),
            ("@sometimes", ""),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(says) && !error.is_empty(), "{text}: {error}");
        }
    }
}
