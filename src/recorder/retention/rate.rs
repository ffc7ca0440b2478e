//! Whether the limits can hold what they must, at the rate at which rows come now.
//!
//! A rate is what the last day of the record brought, and a record of less than an hour counts as an hour: a burst at the
//! start is no rate.

use super::view::KeptModel;
use super::{Core, RetentionConfig};
use crate::ledger::{LedgerError, Position, Size, Writer};
use crate::score::ModelNo;
use crate::span::{Clock, Span};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Fewer rows say nothing of how large a row is.
const LEAST_ROWS: u64 = 100;

/// What is kept per model, with its rate; and what is wrong with the limits.
pub(super) fn estimate(
    core: &Core,
    reader: &Writer<'_>,
    limits: &RetentionConfig,
    size: Size,
) -> Result<(Vec<KeptModel>, Option<String>), LedgerError> {
    let mut models = Vec::new();
    for (no, book) in &core.books {
        let last = book.clock();
        let first = reader.row_after(Position {
            model: *no,
            row: book.kept.rows_to.row,
        })?;
        models.push(KeptModel {
            no: *no,
            name: book.row.name.clone(),
            kept: book.kept,
            first: first.map(|next| next.clock),
            last,
            rows_a_day: rows_a_day(reader, *no, last)?,
            horizon: book.closing.horizon,
            maturity: book.closing.maturity,
        });
    }
    models.sort_by(|a, b| a.name.cmp(&b.name));
    let short = short_of(&models, limits, size);
    Ok((models, short))
}

/// Rows of the last day that the record knows.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn rows_a_day(reader: &Writer<'_>, model: ModelNo, last: Clock) -> Result<f64, LedgerError> {
    let since = last.time_ms.saturating_sub(DAY_MS);
    // The first row of the last day, by halving: times rise with the rows.
    let (mut low, mut high) = (0, last.row);
    let mut first = last;
    while low < high {
        let middle = low + (high - low) / 2;
        match reader.row_after(Position { model, row: middle })? {
            Some(next) if next.clock.time_ms >= since => {
                first = next.clock;
                high = middle;
            }
            Some(_) => low = middle + 1,
            None => break,
        }
    }
    let span = last.time_ms.saturating_sub(first.time_ms).clamp(HOUR_MS, DAY_MS);
    let rows = last.row.saturating_sub(first.row) as f64;
    Ok(rows * DAY_MS as f64 / span as f64)
}

/// In words, what the limits cannot hold; `None` where they hold all.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn short_of(models: &[KeptModel], limits: &RetentionConfig, size: Size) -> Option<String> {
    let rows: u64 = models.iter().map(KeptModel::rows).sum();
    if rows < LEAST_ROWS {
        return None;
    }
    let inputs: u64 = models.iter().map(|m| m.kept.inputs_bytes).sum();
    // With everything that a row leaves behind.
    let row_bytes = size.used().saturating_sub(inputs) as f64 / rows as f64;
    let (mut needed, mut rate, mut longest) = (0.0, 0.0, 0.0_f64);
    for model in models {
        let days = model.horizon_days()?;
        needed += model.rows_a_day * days * row_bytes;
        rate += model.rows_a_day;
        longest = longest.max(days);
    }
    if rate > 0.0 && needed > limits.ledger_bytes as f64 {
        let holds = limits.ledger_bytes as f64 / (rate * row_bytes);
        return Some(format!(
            "the ledger cannot hold rows until their labels come: at {rate:.0} rows a day of {row_bytes:.0} bytes \
             retention.ledger_bytes ({}) is full after {holds:.1} days, and the label horizon is {longest:.1}: raise it to \
             {needed:.0} bytes, shorten label.horizon, or record a sample (shadow.sample)",
            limits.ledger_bytes
        ));
    }
    let open: f64 = models
        .iter()
        .filter_map(|m| Some(m.rows_a_day * m.maturity_days()? * m.inputs_a_row()))
        .sum();
    (open > limits.inputs_bytes as f64).then(|| {
        format!(
            "the ledger cannot hold the inputs of rows until they are folded: at {rate:.0} rows a day retention.inputs_bytes \
             ({}) would have to be {open:.0}: raise it, or shorten label.maturity",
            limits.inputs_bytes
        )
    })
}

impl KeptModel {
    fn days(&self, span: Span) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        match span {
            Span::Time(time) => Some(time.as_secs_f64() / 86_400.0),
            Span::Rows(_) if self.rows_a_day <= 0.0 => None,
            Span::Rows(rows) => Some(rows as f64 / self.rows_a_day),
        }
    }

    fn horizon_days(&self) -> Option<f64> {
        // Of a model that gets no rows nothing is needed.
        self.days(self.horizon).or(Some(0.0))
    }

    fn maturity_days(&self) -> Option<f64> {
        self.days(self.maturity)
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn inputs_a_row(&self) -> f64 {
        let from = self.kept.inputs_to.max(self.kept.rows_to.row);
        self.kept.inputs_bytes as f64 / self.last.row.saturating_sub(from).max(1) as f64
    }
}
