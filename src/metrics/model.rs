//! One model's counters, and the series of versions.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Label};

use super::{Metrics, families};
use crate::interference::View;
use crate::monitor::view::Published;
use crate::protocol::STATUSES;
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
    /// Rows that the previous champion answered.
    pub fallbacks: Counter,
    /// Predictions refused because no version could answer one of their rows.
    pub no_answer: Counter,
    /// Runners started again.
    pub runner_restarts: Counter,
    /// Requests lost because of a swap: over all models.
    pub dropped_by_swap: Counter,
    labels_taken: Arc<AtomicU64>,
    shadow_dropped: Vec<Counter>,
    labels: Vec<Counter>,
    swaps: Vec<Counter>,
    recorder_dropped: Vec<Counter>,
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelMetrics")
    }
}

impl ModelMetrics {
    pub(super) fn new(metrics: &Metrics, model: &str) -> Self {
        let name = || Label::new("model", model.to_owned());
        let plain = |family| metrics.counter(family, vec![name()]);
        let by = |family, key: &'static str, values: &[&'static str]| -> Vec<Counter> {
            let one = |value: &&'static str| metrics.counter(family, vec![name(), Label::new(key, *value)]);
            values.iter().map(one).collect()
        };
        Self {
            shadow_offered: plain(families::SHADOW_OFFERED),
            shadow_executed: plain(families::SHADOW_EXECUTED),
            fallbacks: plain(families::FALLBACKS),
            no_answer: plain(families::NO_ANSWER),
            runner_restarts: plain(families::RUNNER_RESTARTS),
            dropped_by_swap: metrics.counter(families::DROPPED_BY_SWAP, Vec::new()),
            labels_taken: Arc::default(),
            shadow_dropped: by(families::SHADOW_DROPPED, "reason", &Shed::ALL.map(Shed::name)),
            labels: by(families::LABELS, "status", &STATUSES),
            swaps: by(families::SWAPS, "kind", &SWAPS),
            recorder_dropped: by(families::RECORDER_DROPPED, "reason", &RECORDER_DROPS),
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

/// What a scrape says of a version that is loaded now.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionSeries {
    /// Model.
    pub model: String,
    /// Version.
    pub version: String,
    /// `champion`, `previous`, `challenger`, `candidate`.
    pub role: &'static str,
    /// `sha256:…`.
    pub digest: String,
    /// A challenger's evidence.
    pub log_wealth: Option<f64>,
    /// The champion's start, Unix seconds.
    pub since: Option<f64>,
}

/// Appends the series of versions.
pub(super) fn write_versions(text: &mut String, versions: &[VersionSeries]) {
    family(
        text,
        families::MODEL_INFO,
        versions.iter().map(|v| {
            let (model, role) = (escaped(&v.model), v.role);
            let (version, digest) = (escaped(&v.version), escaped(&v.digest));
            format!("{{model=\"{model}\",role=\"{role}\",version=\"{version}\",digest=\"{digest}\"}} 1")
        }),
    );
    family(
        text,
        families::CHAMPION_SINCE,
        versions
            .iter()
            .filter_map(|v| Some(format!("{{model=\"{}\"}} {}", escaped(&v.model), v.since?))),
    );
    family(
        text,
        families::LOG_WEALTH,
        versions.iter().filter_map(|v| {
            let wealth = v.log_wealth?;
            Some(format!(
                "{{model=\"{}\",version=\"{}\"}} {wealth}",
                escaped(&v.model),
                escaped(&v.version)
            ))
        }),
    );
}

/// Appends the state of the ledger.
pub fn write_ledger(text: &mut String, is_healthy: bool, damaged: u64, backlog: usize) {
    let healthy = format!(" {}", u8::from(is_healthy));
    family(text, families::LEDGER_HEALTHY, std::iter::once(healthy));
    family(text, families::LEDGER_DAMAGED, std::iter::once(format!(" {damaged}")));
    family(text, families::RECORDER_BACKLOG, std::iter::once(format!(" {backlog}")));
}

/// Appends what shadow work costs the answers.
pub fn write_interference(text: &mut String, view: &View) {
    let ratio = view.ratio.map(|ratio| format!(" {ratio}"));
    family(text, families::INTERFERENCE, ratio.into_iter());
    family(text, families::DUTY, std::iter::once(format!(" {}", view.duty)));
}

/// Appends what the monitor last published.
pub fn write_monitor(text: &mut String, models: &[(String, Arc<Published>)]) {
    let each = |of: &dyn Fn(&str, &Published) -> Vec<String>| -> Vec<String> {
        models
            .iter()
            .flat_map(|(name, published)| of(&escaped(name), published))
            .collect()
    };
    let rows = |model: &str, p: &Published| {
        let all = [("folded", p.rows), ("waiting", p.lag), ("skipped", p.skipped)];
        all.map(|(what, rows)| format!("{{model=\"{model}\",what=\"{what}\"}} {rows}"))
            .to_vec()
    };
    let states = |model: &str, p: &Published| {
        let one = |(state, count): &(&str, usize)| format!("{{model=\"{model}\",state=\"{state}\"}} {count}");
        p.states.iter().map(one).collect()
    };
    let alarms = |model: &str, p: &Published| vec![format!("{{model=\"{model}\"}} {}", p.raised)];
    let losses = |model: &str, p: &Published| -> Vec<String> {
        let one = |(of, loss): &(&str, Option<f64>)| Some(format!("{{model=\"{model}\",of=\"{of}\"}} {}", (*loss)?));
        p.losses.iter().filter_map(one).collect()
    };
    let furthest = |model: &str, p: &Published, wealth: bool| -> Vec<String> {
        let one = |(feature, index, log_wealth): &(String, f64, f64)| {
            let value = if wealth { log_wealth } else { index };
            format!("{{model=\"{model}\",feature=\"{}\"}} {value}", escaped(feature))
        };
        p.furthest.iter().map(one).collect()
    };
    family(text, families::MONITOR_ROWS, each(&rows).into_iter());
    family(text, families::MONITOR_FEATURES, each(&states).into_iter());
    family(text, families::MONITOR_ALARMS, each(&alarms).into_iter());
    family(text, families::MONITOR_LOSS, each(&losses).into_iter());
    family(
        text,
        families::MONITOR_PSI,
        each(&|m, p| furthest(m, p, false)).into_iter(),
    );
    family(
        text,
        families::MONITOR_LOG_WEALTH,
        each(&|m, p| furthest(m, p, true)).into_iter(),
    );
}

fn family(text: &mut String, (name, help): (&str, &str), series: impl Iterator<Item = String>) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for one in series {
        let _ = writeln!(text, "{name}{one}");
    }
    text.push('\n');
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_left_leaves_no_series() {
        let metrics = Metrics::new();
        let version = |name: &str, role, wealth| VersionSeries {
            model: "m".into(),
            version: name.into(),
            role,
            digest: "sha256:0".into(),
            log_wealth: wealth,
            since: None,
        };
        let text = metrics.render(&[
            version("a", "champion", None),
            version("b\"\\", "challenger", Some(2.5)),
        ]);
        assert!(
            text.contains("dethrone_model_info{model=\"m\",role=\"champion\",version=\"a\",digest=\"sha256:0\"} 1\n")
        );
        assert!(
            text.contains("dethrone_evidence_log_wealth{model=\"m\",version=\"b\\\"\\\\\"} 2.5\n"),
            "{text}"
        );
        let text = metrics.render(&[version("a", "champion", None)]);
        assert!(
            !text.contains("challenger\"") && !text.contains("version=\"b"),
            "{text}"
        );
    }

    #[test]
    fn counts_go_to_their_own_series() {
        let metrics = Metrics::new();
        let model = metrics.model("m");
        model.shadow_dropped(Shed::Starved, 3);
        model.labels("late", 2);
        model.labels("no such status", 2);
        model.swapped(SwapKind::Order);
        model.recorder_dropped(RecorderDrop::LedgerFailed, 4);
        let text = metrics.render(&[]);
        for series in [
            "dethrone_shadow_dropped_total{model=\"m\",reason=\"starved\"} 3\n",
            "dethrone_labels_total{model=\"m\",status=\"late\"} 2\n",
            "dethrone_swaps_total{model=\"m\",kind=\"order\"} 1\n",
            "dethrone_recorder_dropped_total{model=\"m\",reason=\"ledger_failed\"} 4\n",
        ] {
            assert!(text.contains(series), "{series}");
        }
    }
}
