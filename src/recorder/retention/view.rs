//! What is kept, as scrapes and people see it without a look at the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::shown;
use crate::config::RetentionConfig;
use crate::ledger::{Kept, Size};
use crate::metrics::{Page, number};
use crate::score::ModelNo;
use crate::span::{Clock, Span};

/// What is kept of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptModel {
    pub(super) no: ModelNo,
    /// Its name.
    pub name: String,
    pub(super) kept: Kept,
    pub(super) first: Option<Clock>,
    pub(super) last: Clock,
    pub(super) rows_a_day: f64,
    pub(super) horizon: Span,
    pub(super) maturity: Span,
}

impl KeptModel {
    /// Rows that are kept.
    pub(super) fn rows(&self) -> u64 {
        self.last.row.saturating_sub(self.kept.rows_to.row)
    }

    fn show(&self) -> Value {
        let kept = &self.kept;
        json!({
            "model": self.name,
            "rows": {
                "kept": self.rows(),
                "since": self.first.map_or(Value::Null, |first| shown(first.time_ms)),
                "pruned": kept.pruned_rows,
                "pruned_before_their_horizon": kept.forced_rows,
                "pruned_before_folding": kept.forced_open,
            },
            "inputs": {
                "bytes": kept.inputs_bytes,
                "from_row": kept.inputs_to.max(kept.rows_to.row) + 1,
                "pruned": kept.pruned_inputs,
            },
            "pruned_bytes": kept.pruned_bytes,
            "rows_a_day": self.rows_a_day,
            "label_horizon": self.horizon,
        })
    }
}

/// All of it at one moment.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) limits: RetentionConfig,
    pub(super) size: Size,
    pub(super) models: Vec<KeptModel>,
    pub(super) short: Option<String>,
    pub(super) longest: Duration,
    pub(super) steps: u64,
}

/// What the recorder's thread last saw.
#[derive(Debug)]
pub struct Keeping {
    state: ArcSwap<Option<State>>,
    /// Labels that came for rows that bytes had forced out.
    labels: AtomicU64,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            state: ArcSwap::from_pointee(None),
            labels: AtomicU64::new(0),
        }
    }
}

impl Keeping {
    pub(super) fn publish(&self, state: State) {
        self.state.store(Arc::new(Some(state)));
    }

    pub(in crate::recorder) fn count_label(&self) {
        self.labels.fetch_add(1, Ordering::Relaxed);
    }

    /// What the limits cannot hold, in words.
    #[must_use]
    pub fn short(&self) -> Option<String> {
        self.state.load().as_ref().as_ref()?.short.clone()
    }

    /// What is kept of a model; `null` until it was looked at.
    #[must_use]
    pub fn of(&self, model: &str) -> Value {
        let state = self.state.load();
        let found = state
            .as_ref()
            .as_ref()
            .and_then(|state| state.models.iter().find(|m| m.name == model));
        found.map_or(Value::Null, KeptModel::show)
    }

    /// `GET /api/ledger`.
    #[must_use]
    pub fn show(&self) -> Value {
        let state = self.state.load();
        let Some(state) = state.as_ref() else {
            return json!({"models": []});
        };
        let span = |time: Duration| Span::Time(time).to_string();
        json!({
            "bytes": {
                "file": state.size.file,
                "used": state.size.used(),
                "free": state.size.free,
                "inputs": state.models.iter().map(|m| m.kept.inputs_bytes).sum::<u64>(),
            },
            "retention": {
                "inputs_age": span(state.limits.inputs_age),
                "inputs_bytes": state.limits.inputs_bytes,
                "rows_age": span(state.limits.rows_age),
                "ledger_bytes": state.limits.ledger_bytes,
            },
            "short": state.short,
            "shrinks": state.size.shrinks,
            "steps": state.steps,
            "longest_step_ms": state.longest.as_secs_f64() * 1e3,
            "labels_for_pruned_rows": self.labels.load(Ordering::Relaxed),
            "models": state.models.iter().map(KeptModel::show).collect::<Vec<_>>(),
        })
    }

    /// Appends the series of a scrape.
    pub fn write(&self, page: &mut Page) {
        let state = self.state.load();
        let state = state.as_ref().as_ref();
        let sum = |of: fn(&Kept) -> u64| state.map_or(0, |s| s.models.iter().map(|m| of(&m.kept)).sum::<u64>());
        let size = state.map(|s| s.size).unwrap_or_default();
        page.gauges(
            (
                "dethrone_ledger_bytes",
                "Size of the ledger: its file, what of it is free, and the inputs and context that it keeps.",
            ),
            [
                ("file", size.file),
                ("free", size.free),
                ("inputs", sum(|k| k.inputs_bytes)),
            ]
            .map(|(part, bytes)| ([("part", part.to_owned())], number(bytes))),
        );
        page.counters(
            (
                "dethrone_pruned_rows_total",
                "Rows whose inputs went, rows that went, and of those the ones that bytes forced out before their label \
                 horizon, or before they were folded.",
            ),
            [
                ("inputs", sum(|k| k.pruned_inputs)),
                ("rows", sum(|k| k.pruned_rows)),
                ("before_horizon", sum(|k| k.forced_rows)),
                ("before_folding", sum(|k| k.forced_open)),
            ]
            .map(|(what, rows)| ([("what", what.to_owned())], number(rows))),
        );
        page.counter(
            ("dethrone_pruned_bytes_total", "Bytes of inputs and context that went."),
            number(sum(|k| k.pruned_bytes)),
        );
        page.counter(
            (
                "dethrone_labels_for_pruned_rows_total",
                "Labels that came for rows which bytes had forced out.",
            ),
            number(self.labels.load(Ordering::Relaxed)),
        );
        page.gauge(
            (
                "dethrone_prune_longest_step_seconds",
                "The longest that a step of pruning has kept the ledger's writer since the start.",
            ),
            state.map_or(0.0, |s| s.longest.as_secs_f64()),
        );
        let is_short = state.is_some_and(|s| s.short.is_some());
        page.gauge(
            (
                "dethrone_retention_short",
                "1 while the limits of retention cannot hold rows until their labels come, at the present rate.",
            ),
            f64::from(u8::from(is_short)),
        );
    }
}
