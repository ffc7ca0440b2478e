//! Names and help of all families.

use metrics::{KeyName, Recorder, SharedString};
use metrics_exporter_prometheus::PrometheusRecorder;

pub(super) const DURATION: &str = "dethrone_request_duration_seconds";
pub(super) const PHASE: &str = "dethrone_phase_duration_seconds";
pub(super) const OVERHEAD: &str = "dethrone_overhead_seconds";
pub(super) const MIRRORED: &str = "dethrone_mirrored_duration_seconds";
pub(super) const REQUESTS: &str = "dethrone_requests_total";
pub(super) const GRPC_REQUESTS: &str = "dethrone_grpc_requests_total";
pub(super) const GRPC_DURATION: &str = "dethrone_grpc_request_duration_seconds";
pub(super) const SHADOW_OFFERED: &str = "dethrone_shadow_offered_total";
pub(super) const SHADOW_EXECUTED: &str = "dethrone_shadow_executed_total";
pub(super) const SHADOW_DROPPED: &str = "dethrone_shadow_dropped_total";
pub(super) const LABELS: &str = "dethrone_labels_total";
pub(super) const SWAPS: &str = "dethrone_swaps_total";
pub(super) const DROPPED_BY_SWAP: &str = "dethrone_requests_dropped_by_swap_total";
pub(super) const FALLBACKS: &str = "dethrone_fallbacks_total";
pub(super) const NO_ANSWER: &str = "dethrone_no_answer_total";
pub(super) const RECORDER_DROPPED: &str = "dethrone_recorder_dropped_total";
pub(super) const WEBHOOK: &str = "dethrone_webhook_calls_total";
pub(super) const RUNNER_RESTARTS: &str = "dethrone_runner_restarts_total";

/// Series that are written from state at each scrape: name, type, help.
pub(super) const MODEL_INFO: (&str, &str) = (
    "dethrone_model_info",
    "Versions that are loaded now, by role; always 1.",
);
pub(super) const CHAMPION_SINCE: (&str, &str) = (
    "dethrone_champion_since_timestamp_seconds",
    "When the champion took the slot, Unix seconds.",
);
pub(super) const LEDGER_HEALTHY: (&str, &str) = (
    "dethrone_ledger_healthy",
    "1 while the ledger can be written; at 0 labels are refused, rows are not recorded and promotions wait.",
);
pub(super) const LEDGER_DAMAGED: (&str, &str) = (
    "dethrone_ledger_damaged",
    "What was found damaged in the ledger since the start, rows for the most part; it is not counted as evidence.",
);
pub(super) const INTERFERENCE: (&str, &str) = (
    "dethrone_shadow_interference_ratio",
    "99th percentile of the champion's answers against that of stretches without shadow work; absent until it is known.",
);
pub(super) const DUTY: (&str, &str) = (
    "dethrone_shadow_duty",
    "Share of the processors' time that shadow work may take; below 1 it is slowed because answers take longer beside it.",
);
pub(super) const RECORDER_BACKLOG: (&str, &str) = (
    "dethrone_recorder_backlog",
    "Answered requests, with all their rows, that wait to be recorded.",
);
pub(super) const MONITOR_ROWS: (&str, &str) = (
    "dethrone_monitor_rows",
    "Recorded rows by what the monitor did with them: folded, waiting, skipped.",
);
pub(super) const MONITOR_FEATURES: (&str, &str) = (
    "dethrone_monitor_features",
    "Features by state: broken, changed, shifted, unknown, constant, learning, no_rows, ok.",
);
pub(super) const MONITOR_ALARMS: (&str, &str) = (
    "dethrone_monitor_alarms",
    "Features and outputs whose alarm is raised on the present baseline.",
);
pub(super) const MONITOR_LOSS: (&str, &str) = (
    "dethrone_monitor_loss",
    "Mean loss of the champion: at the beginning of its reign, from where on it counts as decayed, and recently.",
);
pub(super) const MONITOR_PSI: (&str, &str) = (
    "dethrone_monitor_stability_index",
    "Population Stability Index of recent values against the baseline, of the ten features where it is largest.",
);
pub(super) const MONITOR_LOG_WEALTH: (&str, &str) = (
    "dethrone_monitor_log_wealth",
    "Evidence that a feature has changed: natural logarithm of the alarm's wealth, of the same features.",
);
pub(super) const LOG_WEALTH: (&str, &str) = (
    "dethrone_evidence_log_wealth",
    "Evidence that a challenger is better than the champion: natural logarithm of the betting wealth.",
);

pub(super) const HISTOGRAMS: [(&str, &str); 5] = [
    (
        DURATION,
        "From a request's head to its answer, by route, role and outcome.",
    ),
    (
        GRPC_DURATION,
        "From an RPC's head, or a message in a stream, to its answer, by RPC, role and outcome.",
    ),
    (PHASE, "Time of each phase of a prediction."),
    (
        OVERHEAD,
        "What the gateway adds to waiting for and running the model, from body to answer.",
    ),
    (
        MIRRORED,
        "From body to answer where shadow.sample holds a share out by chance: mirrored, or held out.",
    ),
];

const COUNTERS: [(&str, &str); 13] = [
    (REQUESTS, "Requests answered, by route and status code."),
    (
        GRPC_REQUESTS,
        "RPCs answered, by name and status code; in a stream each message counts.",
    ),
    (SHADOW_OFFERED, "Rows offered to challengers, one per challenger."),
    (SHADOW_EXECUTED, "Rows that challengers scored or failed."),
    (SHADOW_DROPPED, "Rows that challengers did not get to, by reason."),
    (LABELS, "Labels reported, by what became of them."),
    (SWAPS, "Changes of champion, by kind."),
    (
        DROPPED_BY_SWAP,
        "Requests lost because of a change of champion; must stay 0.",
    ),
    (
        FALLBACKS,
        "Rows that the previous champion answered because the champion could not.",
    ),
    (
        NO_ANSWER,
        "Predictions refused because no version could answer one of their rows (422).",
    ),
    (RECORDER_DROPPED, "Rows that were answered and not recorded, by reason."),
    (WEBHOOK, "Calls of the webhook, by what became of them."),
    (RUNNER_RESTARTS, "Runner processes started again after they ended."),
];

/// Gives every counter its help.
pub(super) fn describe(recorder: &PrometheusRecorder) {
    for (name, help) in COUNTERS {
        recorder.describe_counter(KeyName::from_const_str(name), None, SharedString::const_str(help));
    }
}
