//! Spans of time or of rows, and the clock they are measured on.
//!
//! The judge has no clock of its own: its time is the request time and row number of the pair being folded,
//! so that a replay meets the same hours as the live run did. A span in rows lets a stream be replayed faster
//! than it happened.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in a model's record: row number, counted from 1, and request time in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Number of the recorded row.
    pub row: u64,
    /// Request time, Unix milliseconds.
    pub time_ms: i64,
}

/// A length of time, or a number of recorded rows of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Recorded rows.
    Rows(u64),
    /// Time between requests.
    Time(Duration),
}

impl Span {
    /// True when `now` lies at least this span after `since`.
    #[must_use]
    pub fn has_passed(self, since: Clock, now: Clock) -> bool {
        match self {
            Self::Rows(rows) => now.row >= since.row.saturating_add(rows),
            Self::Time(time) => {
                let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                now.time_ms >= since.time_ms.saturating_add(ms)
            }
        }
    }

    /// True for no rows and no time.
    #[must_use]
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Rows(0)) || matches!(self, Self::Time(time) if time.is_zero())
    }

    /// The span `factor` times over.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        match self {
            Self::Rows(rows) => Self::Rows(rows.saturating_mul(u64::from(factor))),
            Self::Time(time) => Self::Time(time.saturating_mul(factor)),
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = match self {
            Self::Rows(rows) => return write!(f, "{rows} rows"),
            Self::Time(time) if time.subsec_millis() != 0 => return write!(f, "{}ms", time.as_millis()),
            Self::Time(time) => time.as_secs(),
        };
        for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
            if seconds >= unit && seconds % unit == 0 {
                return write!(f, "{}{name}", seconds / unit);
            }
        }
        write!(f, "{seconds}s")
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong =
            || format!("'{text}' is not a span: write a time (\"90s\", \"24h\", \"7d\") or rows (\"336 rows\")");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |unit: u64| {
            number
                .checked_mul(unit)
                .map(|s| Self::Time(Duration::from_secs(s)))
                .ok_or_else(wrong)
        };
        match unit.trim_start() {
            "rows" | "row" => Ok(Self::Rows(number)),
            "ms" => Ok(Self::Time(Duration::from_millis(number))),
            "s" => seconds(1),
            "m" | "min" => seconds(60),
            "h" => seconds(3_600),
            "d" => seconds(86_400),
            "w" => seconds(604_800),
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_as_they_are_shown() {
        for text in ["336 rows", "24h", "7d", "90s", "250ms", "5m", "0s"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
        for text in [
            "",
            "h",
            "-1h",
            "1 fortnight",
            "1.5h",
            "99999999999999999999s",
            "99999999999999999w",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn rows_and_time_pass_on_their_own_dimension() {
        let (a, b) = (
            Clock { row: 10, time_ms: 0 },
            Clock {
                row: 12,
                time_ms: 86_400_000,
            },
        );
        assert!(Span::Rows(2).has_passed(a, b) && !Span::Rows(3).has_passed(a, b));
        assert!("24h".parse::<Span>().unwrap().has_passed(a, b) && !"25h".parse::<Span>().unwrap().has_passed(a, b));
    }
}
