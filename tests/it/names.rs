//! What operators of such systems look for in a scrape, each with the series of ours that says it: names, kinds, labels and
//! units, held against what a gateway under traffic really exports.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::client::get;
use crate::support::{elec2_row, until};
use crate::watching::{Exported, busy, exported};

/// What is looked for; the family that says it, its kind, and the keys of its labels in any order.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

const NAMES: &[Row] = &[
    (
        "latency per route, role and outcome",
        "dethrone_request_duration_seconds",
        "histogram",
        &["route", "role", "outcome"],
    ),
    (
        "the same over gRPC",
        "dethrone_grpc_request_duration_seconds",
        "histogram",
        &["rpc", "role", "outcome"],
    ),
    ("phases", "dethrone_phase_duration_seconds", "histogram", &["phase"]),
    ("what the gateway adds", "dethrone_overhead_seconds", "histogram", &[]),
    (
        "requests by code",
        "dethrone_requests_total",
        "counter",
        &["route", "code"],
    ),
    (
        "requests by code",
        "dethrone_grpc_requests_total",
        "counter",
        &["rpc", "code"],
    ),
    (
        "requests cancelled by their clients",
        "dethrone_requests_abandoned_total",
        "counter",
        &["route"],
    ),
    (
        "requests cancelled by their clients",
        "dethrone_grpc_requests_abandoned_total",
        "counter",
        &["rpc"],
    ),
    ("requests in flight", "dethrone_in_flight_requests", "gauge", &[]),
    ("requests that wait", "dethrone_queue_requests", "gauge", &["model"]),
    ("open connections", "dethrone_open_connections", "gauge", &["listener"]),
    (
        "identity, to join by role",
        "dethrone_model_info",
        "gauge",
        &["model", "role", "slot", "version", "digest"],
    ),
    // The design's words: a decision has a kind; its reason is a sentence.
    ("swaps", "dethrone_swaps_total", "counter", &["model", "kind"]),
    (
        "since when the champion reigns",
        "dethrone_champion_since_timestamp_seconds",
        "gauge",
        &["model"],
    ),
    ("loading", "dethrone_model_load_seconds", "histogram", &["model"]),
    (
        "in flight at a swap",
        "dethrone_in_flight_at_swap_total",
        "counter",
        &["model"],
    ),
    (
        "requests dropped by a swap",
        "dethrone_requests_dropped_by_swap_total",
        "counter",
        &[],
    ),
    (
        "shadow rows offered",
        "dethrone_shadow_offered_total",
        "counter",
        &["model"],
    ),
    (
        "shadow rows executed",
        "dethrone_shadow_executed_total",
        "counter",
        &["model"],
    ),
    (
        "shadow rows dropped",
        "dethrone_shadow_dropped_total",
        "counter",
        &["model", "reason"],
    ),
    // Also runs that took more of the processor's time than they may.
    (
        "errors and timeouts of challengers",
        "dethrone_shadow_failed_total",
        "counter",
        &["model"],
    ),
    (
        "depth of the shadow queue",
        "dethrone_shadow_queue_rows",
        "gauge",
        &["model", "version"],
    ),
    ("lag of shadows", "dethrone_shadow_lag_seconds", "histogram", &["model"]),
    (
        "time of shadow runs",
        "dethrone_shadow_run_seconds",
        "histogram",
        &["model"],
    ),
    (
        "evidence: log wealth",
        "dethrone_evidence_log_wealth",
        "gauge",
        &["model", "version"],
    ),
    (
        "evidence: what it must reach",
        "dethrone_evidence_log_bar",
        "gauge",
        &["model", "version"],
    ),
    (
        "evidence: mean difference",
        "dethrone_evidence_mean_difference",
        "gauge",
        &["model", "version"],
    ),
    (
        "evidence: labels",
        "dethrone_evidence_labels",
        "gauge",
        &["model", "version"],
    ),
    // Joined is `accepted`, orphaned `unknown`, late `late`.
    ("labels", "dethrone_labels_total", "counter", &["model", "status"]),
    (
        "delay of labels",
        "dethrone_label_delay_seconds",
        "histogram",
        &["model"],
    ),
    (
        "drift per feature, of the furthest",
        "dethrone_monitor_stability_index",
        "gauge",
        &["model", "feature"],
    ),
    (
        "guardrails",
        "dethrone_guardrail",
        "gauge",
        &["model", "version", "guardrail"],
    ),
    ("the process", "process_cpu_seconds_total", "counter", &[]),
    ("the process", "process_resident_memory_bytes", "gauge", &[]),
    ("the process", "process_open_fds", "gauge", &[]),
    ("the process", "process_start_time_seconds", "gauge", &[]),
];

/// Values that a label has from the start, in families that have it.
const VALUES: &[(&str, &str, &str)] = &[
    (
        "dethrone_phase_duration_seconds",
        "phase",
        "compute decode encode queue read write",
    ),
    (
        "dethrone_request_duration_seconds",
        "role",
        "champion none pinned previous",
    ),
    ("dethrone_request_duration_seconds", "outcome", "failed ok refused shed"),
    ("dethrone_swaps_total", "kind", "first order promotion rollback"),
    (
        "dethrone_labels_total",
        "status",
        "accepted conflict duplicate expired invalid late unknown unrecorded",
    ),
    (
        "dethrone_shadow_dropped_total",
        "reason",
        "interference left queue_full restart runner_down starved throttled",
    ),
    ("dethrone_model_info", "role", "champion previous"),
    ("dethrone_open_connections", "listener", "admin data grpc"),
];

fn series_of<'a>(
    all: &'a Exported,
    family: &str,
    kind: &str,
) -> impl Iterator<Item = &'a std::collections::BTreeMap<String, String>> {
    let suffix = if kind == "histogram" { "_count" } else { "" };
    all.get(&format!("{family}{suffix}")).into_iter().flatten()
}

#[test]
fn a_scrape_says_all_that_operators_look_for_under_these_names_labels_and_units() {
    let (_site, gateway) = busy();
    until("evidence, and a look of the monitor", || {
        let text = get(gateway.admin, "/metrics").text();
        let has = |start: &str| text.lines().any(|line| line.starts_with(start));
        (has("dethrone_evidence_log_wealth{") && has("dethrone_monitor_stability_index{")).then_some(())
    });
    let before = get(gateway.admin, "/metrics").text();
    assert_eq!(gateway.act("elec2", "promote", Some("e02_tree")).0, 200);
    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    assert_eq!(status, 200, "{answer}");
    let text = get(gateway.admin, "/metrics").text();
    // Evidence is about challengers, and of these there is none any more: its series are those of before.
    let (all, earlier) = (exported(&text), exported(&before));
    for (what, family, kind, keys) in NAMES {
        assert!(
            text.contains(&format!("# TYPE {family} {kind}\n")),
            "{what}: {family}, a {kind}"
        );
        let mut series = series_of(&all, family, kind)
            .chain(series_of(&earlier, family, kind))
            .peekable();
        assert!(series.peek().is_some(), "{what}: {family} has no series");
        let keys: BTreeSet<&str> = keys.iter().copied().collect();
        for labels in series {
            let found: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
            assert_eq!(found, keys, "{what}: {family}");
        }
    }
    for (family, key, values) in VALUES {
        let found: BTreeSet<&str> = series_of(&all, family, "")
            .chain(series_of(&all, family, "histogram"))
            .filter_map(|labels| labels.get(*key).map(String::as_str))
            .collect();
        assert_eq!(found, values.split(' ').collect(), "{family}, {key}");
    }
    // Units are in the names: seconds and bytes; what only grows ends in total; nothing is a summary.
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{line}");
        assert_ne!(kind, "summary", "{line}");
        for unit in ["_ms", "_us", "_millis", "_micros", "_kb", "_percent"] {
            assert!(!name.ends_with(unit), "{line}");
        }
    }
    // Identity is on the info metric; on a histogram it would make new series at every swap.
    for (name, series) in &all {
        let is_info = name == "dethrone_model_info";
        assert!(
            is_info || series.iter().all(|labels| !labels.contains_key("digest")),
            "{name}"
        );
        let is_histogram = name.ends_with("_bucket");
        assert!(
            !is_histogram || series.iter().all(|labels| !labels.contains_key("version")),
            "{name}"
        );
    }
}
