//! What fragments are made of besides charts: tables, figures, and how texts and numbers are written.
//!
//! Always holds: a text from outside goes through [`clean`], so that nothing of it is longer than a line or two, or acts;
//! templates escape it. A table says how many rows it leaves out.

use std::fmt::Write as _;

use askama::Template;
use serde_json::Value as Json;

use super::ReportError;
use crate::cli::shown::plain;

/// Characters of a name that are shown.
const NAME: usize = 64;
/// Characters of a sentence that are shown.
const SENTENCE: usize = 280;

/// A cell.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// How it looks: `n` for numbers, `state …` for a feature's state.
    pub(super) class: &'static str,
}

/// A table under a chart.
#[derive(Debug, Clone, Default, Template)]
#[template(path = "table.html", config = "src/report/askama.toml")]
pub(super) struct Table {
    pub(super) caption: String,
    /// Names of the columns, and whether they hold numbers.
    pub(super) head: Vec<(String, bool)>,
    /// Cells; the first of a row names it.
    pub(super) rows: Vec<Vec<Cell>>,
    /// What is left out.
    pub(super) more: Option<String>,
}

/// A chart with what its colours mean, and its numbers.
#[derive(Debug, Clone, Default, Template)]
#[template(path = "figure.html", config = "src/report/askama.toml")]
pub(super) struct Figure {
    /// Made by [`super::chart`].
    pub(super) svg: String,
    pub(super) caption: String,
    /// Numbers of colours, and what they stand for.
    pub(super) legend: Vec<(String, String)>,
    pub(super) table: Table,
    /// The table is shown at once; otherwise it opens.
    pub(super) is_open: bool,
}

/// A template's text.
pub(super) fn rendered(template: &impl Template) -> Result<String, ReportError> {
    template.render().map_err(|error| ReportError::Page(error.to_string()))
}

impl Table {
    /// An empty table. A column whose name begins with `#` holds numbers.
    pub(super) fn new(caption: impl Into<String>, head: &[&str]) -> Self {
        let column = |name: &&str| match name.strip_prefix('#') {
            Some(name) => (name.to_owned(), true),
            None => ((*name).to_owned(), false),
        };
        Self {
            caption: caption.into(),
            head: head.iter().map(column).collect(),
            ..Self::default()
        }
    }

    /// Adds a row; cells of columns of numbers look so.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        let mut cells: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        for (cell, (_, is_number)) in cells.iter_mut().zip(&self.head) {
            if *is_number {
                cell.class = "n";
            }
        }
        self.rows.push(cells);
    }

    /// Keeps the first `most` rows and says how many there are besides, named by `what`.
    pub(super) fn keep(&mut self, most: usize, what: &str) {
        let more = self.rows.len().saturating_sub(most);
        self.rows.truncate(most);
        if more > 0 {
            self.more = Some(format!("and {more} more {what}"));
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, class: "" }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl Cell {
    pub(super) fn of(text: impl Into<String>, class: &'static str) -> Self {
        Self {
            text: text.into(),
            class,
        }
    }
}

/// A text from outside: nothing of it acts, and it is no longer than `most` characters.
fn clean(text: &str, most: usize) -> String {
    // Before it is looked at: it may be megabytes.
    let short: String = text.chars().take(most + 1).collect();
    let safe = plain(&short).replace('\n', " ");
    match safe.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", safe.get(..at).unwrap_or_default()),
        None => safe,
    }
}

/// A name from outside.
pub(super) fn name(text: &str) -> String {
    clean(text, NAME)
}

/// A name in a chart, where there is less room.
pub(super) fn short(text: &str, most: usize) -> String {
    clean(text, most)
}

/// A sentence from outside.
pub(super) fn sentence(text: &str) -> String {
    clean(text, SENTENCE)
}

/// What stands for nothing.
pub(super) const NONE: &str = "–";

/// A number in four digits or so.
pub(super) fn number(x: f64) -> String {
    if !x.is_finite() {
        return NONE.to_owned();
    }
    let size = x.abs();
    if size > 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{x:.2e}");
    }
    let decimals = match size {
        _ if size >= 1_000.0 => 0,
        _ if size >= 100.0 => 1,
        _ if size >= 10.0 => 2,
        _ if size >= 1.0 => 3,
        _ => 4,
    };
    let text = format!("{x:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match text.as_str() {
        "-0" => "0".to_owned(),
        _ => grouped(&text),
    }
}

/// The same with a sign.
pub(super) fn signed(x: f64) -> String {
    match x > 0.0 {
        true => format!("+{}", number(x)),
        false => number(x),
    }
}

/// Commas between thousands.
fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_once('.').map_or((text, ""), |(whole, rest)| (whole, rest));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !rest.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(out, ".{rest}");
    }
    out
}

/// A count.
pub(super) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    match share.is_finite() {
        true => format!("{} %", number((share * 1_000.0).round() / 10.0)),
        false => NONE.to_owned(),
    }
}

/// A number that may be missing.
pub(super) fn maybe(x: Option<f64>) -> String {
    x.map_or_else(|| NONE.to_owned(), number)
}

/// A moment without its fraction of a second.
pub(super) fn moment(rfc3339: &str) -> String {
    let text = clean(rfc3339, 40);
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(clock)) => format!("{date} {clock}"),
        _ => text,
    }
}

/// A number at a place of a JSON value.
pub(super) fn at(value: &Json, place: &str) -> Option<f64> {
    value.pointer(place).and_then(Json::as_f64)
}

/// A text at a place of a JSON value.
pub(super) fn word<'a>(value: &'a Json, place: &str) -> &'a str {
    value.pointer(place).and_then(Json::as_str).unwrap_or_default()
}

/// A list at a place of a JSON value.
pub(super) fn list<'a>(value: &'a Json, place: &str) -> &'a [Json] {
    value.pointer(place).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short_and_texts_from_outside_neither_act_nor_run_on() {
        for (x, text) in [
            (0.0, "0"),
            (-0.00001, "-1.00e-5"),
            (0.25, "0.25"),
            (1.0 / 3.0, "0.3333"),
            (12_345.6, "12,346"),
            (-1_234_567.0, "-1,234,567"),
            (1e12, "1.00e12"),
            (99.999, "100"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(x), text);
        }
        assert_eq!((percent(0.1234).as_str(), signed(0.5).as_str()), ("12.3 %", "+0.5"));
        assert_eq!(moment("2026-11-26T09:30:00.250Z"), "2026-11-26 09:30:00");
        let long = name(&"é\u{1b}[2J".repeat(10_000));
        assert!(long.chars().count() <= NAME + 1 && !long.contains('\u{1b}'), "{long}");
    }
}
