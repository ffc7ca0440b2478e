//! Where a stretch of the record begins: a span back from now, a time, or a row.
//!
//! Always holds: it ends at the last recorded row. Beside a gateway a span of time counts back from now; without one,
//! from the last row, for a state directory may be read years later.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::decode::clip;
use crate::ledger::{ModelRow, Position, Writer};
use crate::span::{Clock, Span};
use crate::time::{parse_rfc3339, rfc3339};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// As it was written.
    text: String,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Span(Span),
    Time(i64),
    Row(u64),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let from = match (text.parse(), text.parse::<Span>(), parse_rfc3339(text)) {
            (Ok(row), ..) => From::Row(row),
            (_, Ok(span), _) if span.is_zero() => return Err(format!("'{}' is no stretch", clip(text))),
            (_, Ok(span), _) => From::Span(span),
            (.., Some(ms)) => From::Time(ms),
            _ => {
                return Err(format!(
                    "'{}' is not a beginning: write a span (\"7d\", \"24h\", \"336 rows\"), a time (2026-11-26, \
                     2026-11-26T09:30:00Z) or the number of a row",
                    clip(text)
                ));
            }
        };
        Ok(Self {
            text: text.to_owned(),
            from,
        })
    }
}

impl std::fmt::Display for Since {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A stretch of a model's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// As it was asked for.
    pub asked: String,
    /// Time of its first row.
    pub from: String,
    /// Time of its last row.
    pub to: String,
    /// Its first row.
    pub first_row: u64,
    /// Its last row.
    pub last_row: u64,
    /// Rows in it, erased ones too.
    pub rows: u64,
    /// A gateway was running.
    pub live: bool,
    /// Where time is counted from.
    #[serde(skip)]
    pub moment_ms: i64,
    /// Where it begins.
    #[serde(skip)]
    pub from_ms: i64,
    /// From its first row to its last.
    #[serde(skip)]
    pub lasted_ms: i64,
}

impl Since {
    /// The stretch of a model's record. `live`: a gateway is running.
    ///
    /// # Errors
    /// There is no row in it, or what the ledger says.
    pub fn of(&self, reader: &Writer<'_>, model: &ModelRow, now_ms: i64, live: bool) -> Result<Stretch, ReportError> {
        let name = &model.name;
        let Some((oldest, last)) = reader.ends(model.no)? else {
            return Err(ReportError::Empty(format!(
                "no row of '{name}' is recorded: it was asked nothing yet, or everything was pruned"
            )));
        };
        let moment_ms = if live { now_ms.max(last.time_ms) } else { last.time_ms };
        let since_time = |ms: i64| reader.row_since(model.no, last.row, ms);
        let (first, from_ms) = match self.from {
            From::Span(Span::Rows(rows)) => {
                let row = last.row.saturating_sub(rows - 1).max(oldest.row);
                (row_from(reader, model, row)?, None)
            }
            From::Row(row) => (row_from(reader, model, row.max(oldest.row))?, None),
            From::Span(Span::Time(time)) => {
                let ms = moment_ms.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
                (since_time(ms)?, Some(ms))
            }
            From::Time(ms) => (since_time(ms)?, Some(ms)),
        };
        let first = first.filter(|first| first.row <= last.row).ok_or_else(|| {
            ReportError::Empty(format!(
                "no row of '{name}' lies in the stretch since {}: the last one is row {} of {}; begin earlier",
                self.text,
                last.row,
                rfc3339(last.time_ms)
            ))
        })?;
        Ok(Stretch {
            asked: self.text.clone(),
            from: rfc3339(first.time_ms),
            to: rfc3339(last.time_ms),
            first_row: first.row,
            last_row: last.row,
            rows: last.row + 1 - first.row,
            live,
            moment_ms,
            lasted_ms: last.time_ms.saturating_sub(first.time_ms),
            // What was decided before the first row came, as the first champion was, belongs to it.
            from_ms: from_ms.unwrap_or(match first.row {
                0 | 1 => i64::MIN,
                _ => first.time_ms,
            }),
        })
    }
}

fn row_from(reader: &Writer<'_>, model: &ModelRow, row: u64) -> Result<Option<Clock>, ReportError> {
    Ok(reader.row_from(Position { model: model.no, row })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_span_a_time_or_a_row_and_anything_else_is_refused_with_what_to_write() {
        for (text, from) in [
            ("7d", From::Span("7d".parse().unwrap())),
            (" 336 rows", From::Span(Span::Rows(336))),
            ("1000", From::Row(1_000)),
            ("1970-01-02", From::Time(86_400_000)),
            ("1970-01-01T00:00:01Z", From::Time(1_000)),
        ] {
            assert_eq!(text.parse::<Since>().unwrap().from, from, "{text}");
        }
        for text in ["", "yesterday", "-7d", "1.5d", "2026-13-01"] {
            let why = text.parse::<Since>().unwrap_err();
            assert!(why.contains("\"7d\"") && why.contains("2026-11-26"), "{why}");
        }
        for text in ["0d", "0 rows"] {
            assert!(text.parse::<Since>().unwrap_err().contains("no stretch"), "{text}");
        }
    }
}
