//! How labels come: how late, and for which answers.
//!
//! A label that comes only because of what the champion said (a loan that was granted, an alarm that was looked at)
//! makes every verdict an opinion about that part of the world. Where the share of rows with a label differs materially
//! between the champion's answers, mode `auto` acts as `recommend` and says why.
//!
//! Always holds: so much memory and no more; counted since the start of the process, of one row in [`ONE_IN`]; what the
//! judge hears of it is in the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Book, Event};
use crate::judge::pair::Seen;
use crate::ledger::{AnsweredRow, LedgerError, OpenRow, Writer};
use crate::score::{Outcome, Score};
use crate::span::{Clock, Span};

/// One row in so many is looked at, with a label or without.
const ONE_IN: u64 = 4;
/// Labels of the champion that are told apart.
const LABELS: usize = 64;
/// Fewer rows of an answer say nothing of its share.
const LEAST_ROWS: u64 = 100;
/// Rows between two comparisons.
const BETWEEN: u64 = 32;
/// So many rows, and the older half is forgotten.
const MOST_ROWS: u64 = 50_000;
/// Shares differ materially when the larger is so many times the smaller, and by so many standard errors.
const MATERIAL: (f64, f64) = (1.25, 5.0);
/// A doubt goes when they differ by less than this.
const HARMLESS: (f64, f64) = (1.1, 2.0);
/// Parts of a doubling of the delay that are counted apart.
const PARTS: f64 = 8.0;
const DELAYS: usize = 512;
/// Fewer labels than this say nothing of the maturity.
const LEAST_LABELS: u64 = 100;
/// More than one label in so many that comes after maturity is too many.
const LATE_ONE_IN: u64 = 100;

/// Rows with one kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Share {
    rows: u64,
    labelled: u64,
    delay_ms: u64,
}

impl Share {
    fn add(&mut self, delay_ms: Option<u64>) {
        self.rows += 1;
        self.labelled += u64::from(delay_ms.is_some());
        self.delay_ms += delay_ms.unwrap_or(0);
    }

    fn rate(self) -> f64 {
        self.labelled as f64 / self.rows.max(1) as f64
    }

    fn halve(&mut self) {
        *self = Self {
            rows: self.rows / 2,
            labelled: self.labelled / 2,
            delay_ms: self.delay_ms / 2,
        };
    }

    /// Whether the shares differ by the factor and by the standard errors.
    fn differs(self, other: Self, (factor, errors): (f64, f64)) -> bool {
        let (rows, others) = (self.rows as f64, other.rows as f64);
        let pooled = (self.labelled + other.labelled) as f64 / (rows + others);
        let error = (pooled * (1.0 - pooled) * (1.0 / rows + 1.0 / others)).sqrt();
        let (low, high) = match self.rate() < other.rate() {
            true => (self.rate(), other.rate()),
            false => (other.rate(), self.rate()),
        };
        high > low * factor && high - low > errors * error
    }

    fn show(self, name: (&str, Value)) -> Value {
        let mean = self.delay_ms as f64 / self.labelled.max(1) as f64 / 1e3;
        let mut shown = json!({
            "rows": self.rows,
            "labelled": self.labelled,
            "rate": self.rate(),
            "mean_delay_seconds": (self.labelled > 0).then_some(mean),
        });
        if let Some(shown) = shown.as_object_mut() {
            shown.insert(name.0.into(), name.1);
        }
        shown
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reports {
    /// Of which tenure the answers are.
    epoch: u64,
    by_label: BTreeMap<u32, Share>,
    by_tenth: [Share; 10],
    /// There are two labels, of which 1 is the positive one.
    is_binary: bool,
    rows: u64,
    /// Rows since the shares were compared last.
    unread: u64,
    /// Labels by delay, in rows or milliseconds as the maturity is, each bucket an eighth of a doubling.
    delays: Box<[u64; DELAYS]>,
    labels: u64,
    late: u64,
    counted_in: Option<Span>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            epoch: 0,
            by_label: BTreeMap::new(),
            by_tenth: Default::default(),
            is_binary: false,
            rows: 0,
            unread: 0,
            delays: Box::new([0; DELAYS]),
            labels: 0,
            late: 0,
            counted_in: None,
        }
    }
}

impl Reports {
    /// Whether the row of this number is looked at.
    pub(super) fn looks_at(&self, row: u64) -> bool {
        row.is_multiple_of(ONE_IN)
    }

    fn count(&mut self, label: Option<u32>, seen: Seen, delay_ms: Option<u64>) {
        self.is_binary = seen.positive.is_some();
        self.unread += 1;
        if let Some(label) = label
            && (self.by_label.len() < LABELS || self.by_label.contains_key(&label))
        {
            self.by_label.entry(label).or_default().add(delay_ms);
        }
        if let Some(share) = seen.tenth.and_then(|tenth| self.by_tenth.get_mut(usize::from(tenth))) {
            share.add(delay_ms);
        }
        self.rows += 1;
        if self.rows >= MOST_ROWS {
            self.rows /= 2;
            self.by_label
                .values_mut()
                .chain(&mut self.by_tenth)
                .for_each(Share::halve);
        }
    }

    fn begin(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.by_label.clear();
            self.by_tenth = Default::default();
            self.rows = 0;
        }
    }

    /// The two answers whose shares differ the most beyond `limit`, in words.
    fn difference(&self, limit: (f64, f64)) -> Option<String> {
        let name = |label: u32| match (self.is_binary, label) {
            (true, 1) => "the positive label".to_owned(),
            (true, _) => "the negative label".to_owned(),
            (false, class) => format!("class {class}"),
        };
        let labels = self.by_label.iter().map(|(label, share)| (name(*label), *share));
        let tenths = (0..).zip(self.by_tenth).map(|(tenth, share)| {
            let (from, to) = (f64::from(tenth) / 10.0, f64::from(tenth + 1) / 10.0);
            (format!("a score of {from} to {to}"), share)
        });
        // Labels first: what the application acts on.
        let extremes = |answers: Vec<(String, Share)>| {
            let known = || answers.iter().filter(|(_, share)| share.rows >= LEAST_ROWS);
            let low = known().min_by(|a, b| a.1.rate().total_cmp(&b.1.rate()))?;
            let high = known().max_by(|a, b| a.1.rate().total_cmp(&b.1.rate()))?;
            low.1.differs(high.1, limit).then(|| {
                format!(
                    "labels depend on the champion's answer: {} of the rows with {} have one at maturity, {} of those with \
                     {}",
                    percent(low.1.rate()),
                    low.0,
                    percent(high.1.rate()),
                    high.0
                )
            })
        };
        extremes(labels.collect()).or_else(|| extremes(tenths.collect()))
    }

    /// True when enough was seen to say that labels do not depend on the answer.
    fn is_harmless(&self) -> bool {
        let known = self.by_label.values().filter(|share| share.rows >= LEAST_ROWS).count();
        known >= 2 && self.difference(HARMLESS).is_none()
    }

    fn note(&mut self, delay: u64, late: bool, maturity: Span) {
        let kind = match maturity {
            Span::Rows(_) => Span::Rows(0),
            Span::Time(_) => Span::Time(std::time::Duration::ZERO),
        };
        if self.counted_in != Some(kind) {
            self.counted_in = Some(kind);
            (self.labels, self.late) = (0, 0);
            self.delays.fill(0);
        }
        self.labels += 1;
        self.late += u64::from(late);
        if let Some(count) = self.delays.get_mut(bucket(delay)) {
            *count += 1;
        }
    }

    /// The delay that 99 % of the labels kept, as the maturity is measured.
    fn of_99_percent(&self, maturity: Span) -> Option<Span> {
        let enough = self.labels - self.labels / LATE_ONE_IN;
        let mut sum = 0;
        let at = self.delays.iter().position(|count| {
            sum += count;
            sum >= enough
        })?;
        let end = edge(at);
        Some(match maturity {
            Span::Rows(_) => Span::Rows(end),
            // Whole seconds, or minutes where it is long, are what a person would write.
            Span::Time(_) => {
                let seconds = end.div_ceil(1_000);
                let unit = if seconds > 7_200 { 60 } else { 1 };
                Span::Time(std::time::Duration::from_secs(seconds.div_ceil(unit) * unit))
            }
        })
    }

    /// When more than 1 % of the labels come after maturity: so, and what would have caught 99 %.
    pub(super) fn too_late(&self, maturity: Span) -> Option<String> {
        if self.labels < LEAST_LABELS || self.late * LATE_ONE_IN <= self.labels {
            return None;
        }
        let better = self.of_99_percent(maturity)?;
        Some(format!(
            "{} of the labels came after maturity ({maturity}) and are no evidence: maturity = \"{better}\" would have \
             caught 99 %",
            percent(self.late as f64 / self.labels as f64)
        ))
    }

    pub(super) fn show(&self, maturity: Span, doubt: Option<&str>) -> Value {
        let by_label: Vec<Value> = self
            .by_label
            .iter()
            .map(|(label, share)| share.show(("label", json!(label))))
            .collect();
        let by_tenth: Vec<Value> = (0..)
            .zip(self.by_tenth)
            .filter(|(_, share)| share.rows > 0)
            .map(|(tenth, share)| share.show(("score_from", json!(f64::from(tenth) / 10.0))))
            .collect();
        json!({
            "by_label": by_label,
            "by_score": by_tenth,
            "one_row_in": ONE_IN,
            "received": self.labels,
            "late": self.late,
            "delay_99": (self.labels >= LEAST_LABELS).then(|| self.of_99_percent(maturity)).flatten(),
            "doubt": doubt,
        })
    }
}

impl Book {
    /// Counts whether a closed row has a label, by what the champion said.
    pub(super) fn count_reported(&mut self, row: &OpenRow, answered: &AnsweredRow) {
        let Some(judge) = self.judge.as_ref().filter(|judge| judge.epoch() == answered.epoch) else {
            return;
        };
        let seen = Seen::of(&answered.outcome, judge.threshold_of(judge.champion()));
        let label = match (&answered.outcome, seen.positive) {
            (_, Some(positive)) => Some(u32::from(positive)),
            (Outcome::Scored(Score::Classes(all)), None) => {
                let best = (0_u32..)
                    .zip(all.iter())
                    .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                best.map(|(class, _)| class)
            }
            _ => None,
        };
        let delay = |label: crate::ledger::Reported| u64::try_from(label.received_ms - row.clock.time_ms).unwrap_or(0);
        self.reports.begin(answered.epoch);
        self.reports.count(label, seen, row.label.map(delay));
    }

    /// Notes how late a label came.
    pub(in crate::recorder) fn note_delay(&mut self, clock: Clock, received_ms: i64, late: bool) {
        let waited = u64::try_from(received_ms.saturating_sub(clock.time_ms)).unwrap_or(0);
        self.attached.metrics.label_delay.record(Duration::from_millis(waited));
        let delay = match self.closing.maturity {
            Span::Rows(_) => self.last.row.saturating_sub(clock.row),
            Span::Time(_) => waited,
        };
        self.reports.note(delay, late, self.closing.maturity);
    }

    /// Tells the judge when labels have begun to depend on the champion's answers, or no longer do.
    pub(super) fn note_doubt(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        let Some(judge) = &self.judge else { return Ok(()) };
        if self.reports.unread < BETWEEN {
            return Ok(());
        }
        self.reports.unread = 0;
        let why = match judge.doubt() {
            None if self.closing.absent.is_none() => self.reports.difference(MATERIAL),
            Some(_) if self.closing.absent.is_some() || self.reports.is_harmless() => None,
            _ => return Ok(()),
        };
        if why.as_deref() == judge.doubt() {
            return Ok(());
        }
        let model = self.row.name.clone();
        match &why {
            Some(why) => tracing::warn!(model, why, "mode auto acts as recommend"),
            None => tracing::info!(model, "labels no longer depend on the champion's answer"),
        }
        self.apply(writer, &Event::Doubt { why }, self.last.time_ms)
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 8 times 64"
)]
fn bucket(delay: u64) -> usize {
    ((delay as f64 + 1.0).log2() * PARTS).floor() as usize
}

/// No delay of the bucket is longer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a delay, or the largest"
)]
fn edge(bucket: usize) -> u64 {
    ((bucket as f64 + 1.0) / PARTS).exp2().ceil() as u64
}

#[cfg(test)]
mod tests;
