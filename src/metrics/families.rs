//! Names and help of all families.

use super::page::Named;

pub(super) const DURATION: &str = "dethrone_request_duration_seconds";
pub(super) const PHASE: &str = "dethrone_phase_duration_seconds";
pub(super) const OVERHEAD: &str = "dethrone_overhead_seconds";
pub(super) const MIRRORED: &str = "dethrone_mirrored_duration_seconds";
pub(super) const REQUESTS: &str = "dethrone_requests_total";
pub(super) const GRPC_REQUESTS: &str = "dethrone_grpc_requests_total";
pub(super) const GRPC_DURATION: &str = "dethrone_grpc_request_duration_seconds";
pub(super) const ABANDONED: &str = "dethrone_requests_abandoned_total";
pub(super) const GRPC_ABANDONED: &str = "dethrone_grpc_requests_abandoned_total";
pub(super) const SHADOW_OFFERED: &str = "dethrone_shadow_offered_total";
pub(super) const SHADOW_EXECUTED: &str = "dethrone_shadow_executed_total";
pub(super) const SHADOW_FAILED: &str = "dethrone_shadow_failed_total";
pub(super) const SHADOW_RUN: &str = "dethrone_shadow_run_seconds";
pub(super) const SHADOW_LAG: &str = "dethrone_shadow_lag_seconds";
pub(super) const SHADOW_DROPPED: &str = "dethrone_shadow_dropped_total";
pub(super) const LABELS: &str = "dethrone_labels_total";
pub(super) const LABELS_OVER_SHARE: &str = "dethrone_labels_over_share_total";
pub(super) const LABEL_DELAY: &str = "dethrone_label_delay_seconds";
pub(super) const LOAD: &str = "dethrone_model_load_seconds";
pub(super) const QUARANTINES: &str = "dethrone_quarantines_total";
pub(super) const REFUSALS: &str = "dethrone_refusals_total";
pub(super) const SWAPS: &str = "dethrone_swaps_total";
pub(super) const IN_FLIGHT_AT_SWAP: &str = "dethrone_in_flight_at_swap_total";
pub(super) const DROPPED_BY_SWAP: &str = "dethrone_requests_dropped_by_swap_total";
pub(super) const FALLBACKS: &str = "dethrone_fallbacks_total";
pub(super) const NO_ANSWER: &str = "dethrone_no_answer_total";
pub(super) const RECORDER_DROPPED: &str = "dethrone_recorder_dropped_total";
pub(super) const WEBHOOK: &str = "dethrone_webhook_calls_total";
pub(super) const RETRAIN_CAUSES: &str = "dethrone_retrain_causes_total";
pub(super) const RETRAIN_HELD: &str = "dethrone_retrain_held_total";
pub(super) const RETRAININGS: &str = "dethrone_retrainings_total";
pub(super) const SPANS: &str = "dethrone_trace_spans_total";
pub(super) const RUNNER_RESTARTS: &str = "dethrone_runner_restarts_total";

/// Series that are written from state at each scrape.
pub(super) const MODEL_INFO: Named = (
    "dethrone_model_info",
    "Versions that are loaded now, by role; always 1.",
);
pub(super) const CHAMPION_SINCE: Named = (
    "dethrone_champion_since_timestamp_seconds",
    "When the champion took the slot, Unix seconds.",
);
pub(super) const LEDGER_HEALTHY: Named = (
    "dethrone_ledger_healthy",
    "1 while the ledger can be written; at 0 labels are refused, rows are not recorded and promotions wait.",
);
pub(super) const LEDGER_DAMAGED: Named = (
    "dethrone_ledger_damaged",
    "What was found damaged in the ledger since the start, rows for the most part; it is not counted as evidence.",
);
pub(super) const INTERFERENCE: Named = (
    "dethrone_shadow_interference_ratio",
    "99th percentile of the champion's answers against that of stretches without shadow work; absent until it is known.",
);
pub(super) const DUTY: Named = (
    "dethrone_shadow_duty",
    "Share of the processors' time that shadow work may take; below 1 it is slowed because answers take longer beside it.",
);
pub(super) const RECORDER_BACKLOG: Named = (
    "dethrone_recorder_backlog",
    "Answered requests, with all their rows, that wait to be recorded.",
);
pub(super) const MONITOR_ROWS: Named = (
    "dethrone_monitor_rows",
    "Recorded rows by what the monitor did with them: folded, waiting, skipped.",
);
pub(super) const MONITOR_FEATURES: Named = (
    "dethrone_monitor_features",
    "Features by state: broken, changed, shifted, unknown, constant, learning, no_rows, ok.",
);
pub(super) const MONITOR_ALARMS: Named = (
    "dethrone_monitor_alarms",
    "Features and outputs whose alarm is raised on the present baseline.",
);
pub(super) const MONITOR_LOSS: Named = (
    "dethrone_monitor_loss",
    "Mean loss of the champion: at the beginning of its reign, from where on it counts as decayed, and recently.",
);
pub(super) const MONITOR_PSI: Named = (
    "dethrone_monitor_stability_index",
    "Population Stability Index of recent values against the baseline, of the ten features where it is largest.",
);
pub(super) const MONITOR_LOG_WEALTH: Named = (
    "dethrone_monitor_log_wealth",
    "Evidence that a feature has changed: natural logarithm of the alarm's wealth, of the same features.",
);
pub(super) const LOG_WEALTH: Named = (
    "dethrone_evidence_log_wealth",
    "Evidence that a challenger is better than the champion: natural logarithm of the betting wealth.",
);

pub(super) const LOG_BAR: Named = (
    "dethrone_evidence_log_bar",
    "Natural logarithm of the wealth that the challenger needs; it rises with each challenger of a tenure.",
);
pub(super) const EVIDENCE_LABELS: Named = (
    "dethrone_evidence_labels",
    "Labelled rows that the evidence about a challenger rests on.",
);
pub(super) const DIFFERENCE: Named = (
    "dethrone_evidence_mean_difference",
    "Champion's mean loss less the challenger's on the same rows: above 0 the challenger is better.",
);
pub(super) const GUARDRAIL: Named = (
    "dethrone_guardrail",
    "1 where the guardrail lets the challenger pass, 0 where it stands in its way.",
);
pub(super) const SHADOW_QUEUE: Named = ("dethrone_shadow_queue_rows", "Rows that wait for a challenger.");
pub(super) const RUNNER_UP: Named = (
    "dethrone_runner_up",
    "1 while the challenger's process is there and has loaded its model.",
);
pub(super) const BUILD_INFO: Named = ("dethrone_build_info", "The version of the gateway; always 1.");
pub(super) const READY: Named = ("dethrone_ready", "1 while the gateway says that it is ready.");
pub(super) const MODEL_READY: Named = ("dethrone_model_ready", "1 while the model has a champion that answers.");
pub(super) const QUEUE: Named = (
    "dethrone_queue_requests",
    "Requests that wait for a session of the champion.",
);
pub(super) const STAND_IN: Named = (
    "dethrone_stand_in",
    "1 while the previous champion answers in the place of the recorded one, which could not be brought back.",
);
pub(super) const SETTINGS_FAULT: Named = (
    "dethrone_settings_fault",
    "1 while model.toml, or the list of entities that are kept out, has a fault: the last good one is in force.",
);
pub(super) const ALARM: Named = (
    "dethrone_champion_alarm",
    "1 while the champion fails so many rows that it should not go on.",
);
pub(super) const DECISION_PENDING: Named = (
    "dethrone_decision_pending",
    "1 while a promotion or rollback is decided and not carried out yet.",
);
pub(super) const STARTED_EMPTY: Named = (
    "dethrone_started_empty",
    "1 where the gateway was started with models and a state directory that knew none: a new one, or a lost volume.",
);
pub(super) const KEY_REQUESTS: Named = (
    "dethrone_key_requests_total",
    "Requests by API key: let in, forbidden by scope or model, or beyond the key's limits.",
);
pub(super) const KEY_ROWS: Named = ("dethrone_key_rows_total", "Rows and labels by API key.");
pub(super) const CONNECTIONS: Named = (
    "dethrone_open_connections",
    "Connections that are open now, by listener.",
);
pub(super) const LAG: Named = (
    "dethrone_worker_wait_seconds",
    "How long work waits for a thread that serves requests, where that is of account.",
);
pub(super) const ADMITTED: Named = (
    "dethrone_admitted_share",
    "Share of the predictions that are let in: below 1 while work waits for too long.",
);
pub(super) const IN_FLIGHT: Named = ("dethrone_in_flight_requests", "Predictions that are being answered.");

pub(super) const HISTOGRAMS: [Named; 9] = [
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
    (SHADOW_RUN, "Runs of challengers, in their processes."),
    (
        SHADOW_LAG,
        "From a request to what a challenger made of it, in the ledger.",
    ),
    (LABEL_DELAY, "From a request to the label for it."),
    (
        LOAD,
        "Loading a version that is to answer, from bytes to warmed sessions.",
    ),
];

pub(super) const COUNTERS: [Named; 24] = [
    (REQUESTS, "Requests answered, by route and status code."),
    (
        GRPC_REQUESTS,
        "RPCs answered, by name and status code; in a stream each message counts.",
    ),
    (
        ABANDONED,
        "Requests whose client left before the answer, by route; what was left of the work was not done.",
    ),
    (GRPC_ABANDONED, "RPCs whose client left before the answer, by name."),
    (SHADOW_OFFERED, "Rows offered to challengers, one per challenger."),
    (SHADOW_EXECUTED, "Rows that challengers scored or failed."),
    (SHADOW_FAILED, "Rows that challengers failed."),
    (SHADOW_DROPPED, "Rows that challengers did not get to, by reason."),
    (LABELS, "Labels reported, by what became of them."),
    (
        LABELS_OVER_SHARE,
        "Labels that are no evidence because their API key has had its share of it (label.principal_share).",
    ),
    (SWAPS, "Changes of champion, by kind."),
    (
        IN_FLIGHT_AT_SWAP,
        "Predictions, of all models, that were being answered when the champion changed: the sum over all changes.",
    ),
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
    (RETRAIN_CAUSES, "Causes that led to a retraining."),
    (
        RETRAIN_HELD,
        "Causes that did not lead to a retraining at once, by what stood in the way.",
    ),
    (RETRAININGS, "Retrainings that are over, by what came of them."),
    (SPANS, "Spans of traces, by what became of them."),
    (RUNNER_RESTARTS, "Runner processes started again after they ended."),
    (
        QUARANTINES,
        "Versions quarantined because they crashed or hung too often.",
    ),
    (REFUSALS, "Files refused when they were examined."),
];
