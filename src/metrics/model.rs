//! One model's counters, and what the ledger and the monitor say of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

use super::page::{Page, number};
use super::{InFlight, Metrics, Seconds, families};
use crate::interference::View;
use crate::ledger::RetrainState;
use crate::monitor::view::Published;
use crate::protocol::STATUSES;
use crate::retrain::{CAUSES, HELD};
use crate::score::Shed;

/// Why the champion changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapKind {
    /// The model's first champion.
    First,
    /// A challenger won.
    Promotion,
    /// The champion lost its probation, or a tripwire fired.
    Rollback,
    /// A person's word.
    Order,
}

/// Why a row was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecorderDrop {
    /// The ledger's queue was full.
    QueueFull,
    /// The ledger failed.
    LedgerFailed,
    /// Its caller's id was seen before.
    DuplicateId,
    /// Its entity is on the list of those that leave no trace.
    OptedOut,
    /// So many waited for the champion that others may be refused: recording and shadows rest first.
    Overload,
}

const SWAPS: [&str; 4] = ["first", "promotion", "rollback", "order"];
const RECORDER_DROPS: [&str; 5] = ["queue_full", "ledger_failed", "duplicate_id", "opted_out", "overload"];

/// Handles of one model.
#[derive(Clone)]
pub struct ModelMetrics {
    /// Rows offered to challengers.
    pub shadow_offered: Counter,
    /// Rows that challengers scored or failed.
    pub shadow_executed: Counter,
    /// Rows that challengers failed.
    pub shadow_failed: Counter,
    /// Runs of challengers.
    pub shadow_run: Seconds,
    /// From a request to a challenger's outcome.
    pub shadow_lag: Seconds,
    /// From a request to its label.
    pub label_delay: Seconds,
    /// Loading versions that are to answer.
    pub load: Seconds,
    /// Versions quarantined.
    pub quarantines: Counter,
    /// Files refused.
    pub refusals: Counter,
    /// Rows that the previous champion answered.
    pub fallbacks: Counter,
    /// Predictions refused because no version could answer one of their rows.
    pub no_answer: Counter,
    /// Runners started again.
    pub runner_restarts: Counter,
    /// Labels that are no evidence because their key has had its share of it.
    pub labels_over_share: Counter,
    /// Requests lost because of a swap: over all models.
    pub dropped_by_swap: Counter,
    labels_taken: Arc<AtomicU64>,
    shadow_dropped: Vec<Counter>,
    labels: Vec<Counter>,
    swaps: Vec<Counter>,
    in_flight_at_swap: Counter,
    in_flight: Arc<InFlight>,
    recorder_dropped: Vec<Counter>,
    retrain_causes: Vec<Counter>,
    retrain_held: Vec<Counter>,
    retrainings: Vec<Counter>,
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelMetrics")
    }
}

impl ModelMetrics {
    pub(super) fn new(metrics: &Metrics, model: &str) -> Self {
        let labels = || vec![("model", model.to_owned().into())];
        let plain = |family| metrics.count(family, labels());
        let by = |family, key: &'static str, values: &[&'static str]| -> Vec<Counter> {
            let one = |value: &&'static str| {
                let mut labels = labels();
                labels.push((key, (*value).into()));
                metrics.count(family, labels)
            };
            values.iter().map(one).collect()
        };
        let over = RetrainState::ALL.into_iter().filter(|(_, state)| state.is_over());
        let over: Vec<&'static str> = over.map(|(name, _)| name).collect();
        Self {
            shadow_offered: plain(families::SHADOW_OFFERED),
            shadow_executed: plain(families::SHADOW_EXECUTED),
            shadow_failed: plain(families::SHADOW_FAILED),
            shadow_run: metrics.seconds(families::SHADOW_RUN, labels()),
            shadow_lag: metrics.seconds(families::SHADOW_LAG, labels()),
            label_delay: metrics.delays(families::LABEL_DELAY, labels()),
            load: metrics.seconds(families::LOAD, labels()),
            quarantines: plain(families::QUARANTINES),
            refusals: plain(families::REFUSALS),
            fallbacks: plain(families::FALLBACKS),
            no_answer: plain(families::NO_ANSWER),
            runner_restarts: plain(families::RUNNER_RESTARTS),
            labels_over_share: plain(families::LABELS_OVER_SHARE),
            dropped_by_swap: metrics.count(families::DROPPED_BY_SWAP, Vec::new()),
            labels_taken: Arc::default(),
            shadow_dropped: by(families::SHADOW_DROPPED, "reason", &Shed::ALL.map(Shed::name)),
            labels: by(families::LABELS, "status", &STATUSES),
            in_flight_at_swap: plain(families::IN_FLIGHT_AT_SWAP),
            in_flight: Arc::clone(&metrics.in_flight),
            swaps: by(families::SWAPS, "kind", &SWAPS),
            recorder_dropped: by(families::RECORDER_DROPPED, "reason", &RECORDER_DROPS),
            retrain_causes: by(families::RETRAIN_CAUSES, "cause", &CAUSES),
            retrain_held: by(families::RETRAIN_HELD, "reason", &HELD),
            retrainings: by(families::RETRAININGS, "outcome", &over),
        }
    }

    /// Counts rows that a challenger did not get to.
    pub fn shadow_dropped(&self, reason: Shed, rows: u64) {
        let at = Shed::ALL.iter().position(|s| *s == reason);
        count(&self.shadow_dropped, at, rows);
    }

    /// Counts labels of one status.
    pub fn labels(&self, status: &str, labels: u64) {
        let at = STATUSES.iter().position(|s| *s == status);
        count(&self.labels, at, labels);
        if matches!(status, "accepted" | "late") {
            self.labels_taken.fetch_add(labels, Ordering::Relaxed);
        }
    }

    /// First labels of rows since the process started.
    #[must_use]
    pub fn labels_taken(&self) -> u64 {
        self.labels_taken.load(Ordering::Relaxed)
    }

    /// Counts a change of champion.
    pub fn swapped(&self, kind: SwapKind) {
        count(&self.swaps, Some(kind as usize), 1);
        self.in_flight_at_swap.increment(self.in_flight.now() as u64);
    }

    /// Counts a cause that led to a retraining.
    pub(crate) fn retrain_caused(&self, cause: &str) {
        count(&self.retrain_causes, CAUSES.iter().position(|name| *name == cause), 1);
    }

    /// Counts a cause that did not, for this reason.
    pub(crate) fn retrain_held(&self, reason: &str) {
        count(&self.retrain_held, HELD.iter().position(|name| *name == reason), 1);
    }

    /// Counts a retraining that is over.
    pub(crate) fn retrained(&self, state: RetrainState) {
        let over = RetrainState::ALL.into_iter().filter(|(_, state)| state.is_over());
        let at = over.map(|(_, state)| state).position(|known| known == state);
        count(&self.retrainings, at, 1);
    }

    /// Counts rows that were not recorded.
    pub fn recorder_dropped(&self, reason: RecorderDrop, rows: u64) {
        count(&self.recorder_dropped, Some(reason as usize), rows);
    }
}

fn count(counters: &[Counter], at: Option<usize>, by: u64) {
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        counter.increment(by);
    }
}

/// Appends the state of the ledger.
pub fn write_ledger(page: &mut Page, is_healthy: bool, damaged: u64, backlog: usize) {
    page.gauge(families::LEDGER_HEALTHY, f64::from(u8::from(is_healthy)));
    page.gauge(families::LEDGER_DAMAGED, number(damaged));
    page.gauge(families::RECORDER_BACKLOG, number(backlog as u64));
}

/// Appends what shadow work costs the answers.
pub fn write_interference(page: &mut Page, view: &View) {
    page.gauges(families::INTERFERENCE, view.ratio.map(|ratio| ([], ratio)));
    page.gauge(families::DUTY, view.duty);
}

/// Appends what the monitor last published.
pub fn write_monitor(page: &mut Page, models: &[(String, Arc<Published>)]) {
    let label = |model: &String| ("model", model.clone());
    let rows = models.iter().flat_map(|(model, p)| {
        let all = [("folded", p.rows), ("waiting", p.lag), ("skipped", p.skipped)];
        all.map(|(what, rows)| ([label(model), ("what", what.to_owned())], number(rows)))
    });
    page.gauges(families::MONITOR_ROWS, rows);
    let states = models.iter().flat_map(|(model, p)| {
        let one = move |(state, count): &(&'static str, usize)| {
            ([label(model), ("state", (*state).to_owned())], number(*count as u64))
        };
        p.states.iter().map(one)
    });
    page.gauges(families::MONITOR_FEATURES, states);
    let alarms = models
        .iter()
        .map(|(model, p)| ([label(model)], number(p.raised as u64)));
    page.gauges(families::MONITOR_ALARMS, alarms);
    let losses = models.iter().flat_map(|(model, p)| {
        let one =
            move |(of, loss): &(&'static str, Option<f64>)| Some(([label(model), ("of", (*of).to_owned())], (*loss)?));
        p.losses.iter().filter_map(one)
    });
    page.gauges(families::MONITOR_LOSS, losses);
    let furthest = |of: fn(&(String, f64, f64)) -> f64| {
        models.iter().flat_map(move |(model, p)| {
            let one = move |feature: &(String, f64, f64)| ([label(model), ("feature", feature.0.clone())], of(feature));
            p.furthest.iter().map(one)
        })
    };
    page.gauges(families::MONITOR_PSI, furthest(|(_, index, _)| *index));
    page.gauges(families::MONITOR_LOG_WEALTH, furthest(|(_, _, wealth)| *wealth));
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    #[test]
    fn counts_go_to_their_own_series() {
        let metrics = Metrics::default();
        let model = metrics.model("m");
        model.swapped(SwapKind::First);
        metrics.http().in_flight.ask(|| 3);
        model.shadow_dropped(Shed::Starved, 3);
        model.labels("late", 2);
        model.labels("no such status", 2);
        model.swapped(SwapKind::Order);
        model.recorder_dropped(RecorderDrop::LedgerFailed, 4);
        let text = String::from_utf8(Format::Prometheus.write(&metrics.page())).unwrap();
        for series in [
            "dethrone_shadow_dropped_total{model=\"m\",reason=\"starved\"} 3\n",
            "dethrone_labels_total{model=\"m\",status=\"late\"} 2\n",
            "dethrone_swaps_total{model=\"m\",kind=\"order\"} 1\n",
            "dethrone_in_flight_at_swap_total{model=\"m\"} 3\n",
            "dethrone_recorder_dropped_total{model=\"m\",reason=\"ledger_failed\"} 4\n",
        ] {
            assert!(text.contains(series), "{series}");
        }
    }
}
