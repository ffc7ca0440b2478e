//! What is shadowed and recorded, and what stays out of shadow, store and evidence.

#![expect(clippy::float_cmp, reason = "what is compared are counts")]

use serde_json::{Value, json};

use crate::support::client::{raw, request};
use crate::support::{Gateway, Site, ask_ledger, elec2_row, ids, shipped, until};

/// `e01_logreg` before `e02_tree`, its challenger.
fn pair(toml: &str) -> (Site, Gateway) {
    let site = Site::new("");
    site.model_toml("elec2", &format!("champion = \"e01_logreg\"\n{toml}"))
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
        .drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    until("the challenger's runner", || {
        let body = json!({"version": "e02_tree", "instances": [elec2_row()]});
        (gateway.predict(&body).0 == 200).then_some(())
    });
    (site, gateway)
}

fn send(gateway: &Gateway, rows: usize, headers: &str, more: &Value) -> Vec<String> {
    let mut body = json!({"instances": vec![elec2_row(); rows]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let bytes = request("POST", "/predict", headers, body.to_string().as_bytes());
    let answer = raw(gateway.data, &bytes).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    ids(&answer.json())
}

fn offered(gateway: &Gateway) -> f64 {
    gateway
        .metric("dethrone_shadow_offered_total{model=\"elec2\"}")
        .unwrap()
}

/// Rows offered, executed, and dropped for all reasons.
fn shadows(gateway: &Gateway) -> (f64, f64, f64) {
    let text = crate::support::client::get(gateway.admin, "/metrics").text();
    let sum = |family: &str| -> f64 {
        let start = format!("{family}{{model=\"elec2\"");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    (
        sum("dethrone_shadow_offered_total"),
        sum("dethrone_shadow_executed_total"),
        sum("dethrone_shadow_dropped_total"),
    )
}

#[test]
fn a_pinned_or_opted_out_row_is_neither_recorded_nor_shadowed() {
    let (site, gateway) = pair("");
    let recorded = send(&gateway, 1, "", &json!({"ids": ["kept"]}));
    let quiet = [
        send(&gateway, 2, "", &json!({"shadow": false})),
        send(&gateway, 1, "x-dethrone-opt-out: 1\r\n", &json!({})),
        send(&gateway, 1, "", &json!({"version": "e01_logreg"})),
        send(&gateway, 1, "", &json!({"version": "e02_tree", "shadow": true})),
    ];
    let last = send(&gateway, 1, "x-dethrone-opt-out: 0\r\n", &json!({"shadow": true}));
    for id in quiet.iter().flatten() {
        assert_eq!(gateway.label("elec2", &[(id, json!(1))]), ["unrecorded"], "{id}");
    }
    for id in recorded.iter().chain(&last) {
        assert_eq!(gateway.label("elec2", &[(id, json!(1))]), ["accepted"], "{id}");
    }
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 2);
    assert_eq!(offered(&gateway), 2.0);
    let rows: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions").unwrap();
    assert_eq!(rows, 2);
    // The caller's own id of a row that was kept out is free: nothing is known of it.
    send(&gateway, 1, "", &json!({"ids": ["free"], "shadow": false}));
    assert_eq!(gateway.label("elec2", &[("free", json!(1))]), ["unknown"]);
    send(&gateway, 1, "", &json!({"ids": ["free"]}));
    assert_eq!(gateway.label("elec2", &[("free", json!(1))]), ["accepted"]);
}

#[test]
fn every_offered_row_is_executed_or_dropped_with_a_reason() {
    let (_site, gateway) = pair("");
    for at in 0..40 {
        send(&gateway, 1 + at % 60, "", &json!({}));
    }
    let rows = f64::from((0..40).map(|at| 1 + at % 60).sum::<i32>());
    until("an outcome for every offered row", || {
        let (offered, executed, dropped) = shadows(&gateway);
        assert!(executed + dropped <= offered, "{executed} + {dropped} of {offered}");
        (offered == rows && executed + dropped == offered).then_some(())
    });
    let coverage = gateway.version("elec2", "e02_tree")["coverage"].clone();
    let dropped: u64 = coverage["dropped"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(
        coverage["offered"].as_u64().unwrap(),
        coverage["scored"].as_u64().unwrap() + dropped,
        "{coverage}"
    );
}

#[test]
fn a_share_of_rows_is_sampled_and_the_rest_is_unrecorded() {
    let (_site, gateway) = pair("[shadow]\nsample = 0.5\n");
    let all: Vec<String> = (0..120).flat_map(|_| send(&gateway, 1, "", &json!({}))).collect();
    let labels: Vec<(&str, Value)> = all.iter().map(|id| (id.as_str(), json!(1))).collect();
    let statuses = gateway.label("elec2", &labels);
    let accepted = statuses.iter().filter(|s| *s == "accepted").count();
    let unrecorded = statuses.iter().filter(|s| *s == "unrecorded").count();
    assert_eq!(accepted + unrecorded, 120, "{statuses:?}");
    // Seven standard deviations: the key is another one in every run.
    assert!((22..=98).contains(&accepted), "{accepted} of 120");
    assert_eq!(
        gateway.view("elec2")["rows"]["recorded"].as_u64(),
        Some(accepted as u64)
    );
    assert_eq!(offered(&gateway), accepted as f64);
}

#[test]
fn what_shadow_work_costs_is_shown_and_where_a_share_is_held_out_its_latencies_stand_beside_the_mirrored_ones() {
    let (site, gateway) = pair("[shadow]\nsample = 0.5\n");
    let of = |mirrored| {
        let series = format!("dethrone_mirrored_duration_seconds_count{{mirrored=\"{mirrored}\"}}");
        gateway.metric(&series).unwrap()
    };
    let before = of("yes") + of("no");
    for at in 0..60 {
        // Whoever opts out, or pins a version, is part of no comparison.
        send(&gateway, 1, "", &json!({"shadow": at >= 20}));
        send(&gateway, 1, "", &json!({"version": "e01_logreg"}));
    }
    assert_eq!(of("yes") + of("no") - before, 40.0);
    let recorded: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions").unwrap();
    until("as many mirrored as recorded", || {
        let recorded: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions").unwrap();
        (recorded as f64 == of("yes")).then_some(())
    });
    assert!(recorded <= 40);
    // Nothing is known of so few answers, and nobody is slowed.
    let text = crate::support::client::get(gateway.admin, "/metrics").text();
    let is_ratio = |line: &str| line.starts_with("dethrone_shadow_interference_ratio");
    assert!(!text.lines().any(is_ratio), "{text}");
    assert!(text.contains("\ndethrone_shadow_duty 1\n"), "{text}");
    let shown = gateway.admin("/api/models")["shadow"].clone();
    assert_eq!(
        (&shown["budget"], &shown["duty"], &shown["ratio"]),
        (&json!(1.05), &json!(1.0), &json!(null))
    );
    assert_eq!(gateway.view("elec2")["shadow"]["why"], json!(null));
}

#[test]
fn while_challengers_run_stretches_without_shadow_work_are_drawn_in_which_no_row_is_lost() {
    let (_site, gateway) = pair("");
    let stretches = || {
        gateway.admin("/api/models")["shadow"]["quiet_stretches"]
            .as_u64()
            .unwrap()
    };
    let mut rows = 0.0;
    until("two quiet stretches", || {
        send(&gateway, 1, "", &json!({}));
        rows += 1.0;
        (stretches() >= 2).then_some(())
    });
    until("a score for every row", || {
        let (offered, executed, dropped) = shadows(&gateway);
        (offered == rows && executed == rows && dropped == 0.0).then_some(())
    });
}

#[test]
fn what_no_version_takes_is_not_recorded() {
    let (site, gateway) = pair("");
    let mut row = elec2_row();
    row["email"] = json!("ada@example.org");
    let (status, answer) = gateway.predict(&json!({"instances": [row]}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.label("elec2", &[(&ids(&answer)[0], json!(1))]), ["accepted"]);
    let kept: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions WHERE inputs LIKE '%example%'").unwrap();
    let rows: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions").unwrap();
    assert_eq!((kept, rows), (0, 1));
}

#[test]
fn after_its_file_was_replaced_a_running_gateway_still_starts_runners_of_its_own_kind() {
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let program = site.state().with_file_name("dethrone");
    std::fs::copy(env!("CARGO_BIN_EXE_dethrone"), &program).unwrap();
    let gateway = site.start_program(&program).ready();
    // As package managers do it: another file takes the name.
    let newer = program.with_extension("new");
    std::fs::write(&newer, "of another time").unwrap();
    std::fs::rename(newer, program).unwrap();
    site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    gateway.until_role("elec2", "e02_tree", "challenger");
    until("its runner answers", || {
        let body = json!({"version": "e02_tree", "instances": [elec2_row()]});
        (gateway.predict(&body).0 == 200).then_some(())
    });
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let named = |pid: u32| name(pid).trim_end() == "dethrone-runner";
    assert!(
        gateway.children().into_iter().any(named),
        "operators can tell what it is"
    );
}
