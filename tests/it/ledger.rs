//! The ledger under the running gateway: kills, and a file that somebody else holds.

use std::time::Duration;

use serde_json::json;

use crate::support::{Gateway, Site, client, shipped, until};

fn site() -> Site {
    let site = Site::new("");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

fn predict(gateway: &Gateway) -> String {
    let row = json!({"period": 0.5, "nswprice": 0.06, "nswdemand": 0.4, "vicprice": 0.003, "vicdemand": 0.4,
        "transfer": 0.4, "day": "2"});
    let (status, reply) = gateway.predict(&json!({"instances": [row]}));
    assert_eq!(status, 200, "{reply}");
    reply["predictions"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_acknowledged_label_survives_kill_9_and_is_there_once() {
    let site = site();
    let mut acknowledged: Vec<String> = Vec::new();
    for _ in 0..3 {
        let gateway = site.start().ready();
        for id in acknowledged.iter().rev().take(20) {
            let again = gateway.label("elec2", &[(id, json!(1))]);
            assert_eq!(again, ["duplicate"], "{id}");
        }
        for _ in 0..20 {
            let id = predict(&gateway);
            assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
            acknowledged.push(id);
        }
        gateway.kill();
    }
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    let labels: i64 = ledger
        .query_row("SELECT count(*) FROM labels", [], |row| row.get(0))
        .unwrap();
    assert_eq!(labels, 60);
    let shown: i64 = ledger
        .query_row(
            "SELECT count(*) FROM rows WHERE label = '1' AND model = 'elec2' AND champion = 'e01_logreg'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(shown, 60, "the view for people");
}

#[test]
fn while_the_ledger_cannot_be_written_answers_go_on_labels_are_refused_and_it_heals() {
    let site = site();
    let gateway = site.start().ready();
    let id = predict(&gateway);
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
    let other = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    other.busy_timeout(Duration::from_secs(30)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let health = |gateway: &Gateway| client::get(gateway.data, "/v2/health/ready");
    until("degraded", || {
        predict(&gateway);
        let health = health(&gateway);
        assert_eq!(health.status, 200, "answers are given");
        health.json()["degraded"].as_str().map(str::to_owned)
    });
    let body = json!({"model": "elec2", "labels": [{"id": id, "label": 0}]});
    let refused = client::post(gateway.data, "/feedback", &body);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("storage")));
    assert!(refused.head.contains("retry-after:"), "{}", refused.head);
    assert_eq!(
        gateway.view("elec2")["champion"]["version"],
        "e01_logreg",
        "the view is shown all the same"
    );
    let fault = gateway.view("elec2")["ledger_fault"].clone();
    assert!(fault.as_str().is_some_and(|why| why.contains("locked")), "{fault}");
    assert!(
        gateway
            .metric("dethrone_ledger_healthy")
            .is_some_and(|healthy| healthy < 0.5)
    );
    let lost = predict(&gateway);
    other.execute_batch("ROLLBACK").unwrap();
    until("health", || health(&gateway).json()["degraded"].is_null().then_some(()));
    assert!(gateway.view("elec2")["ledger_fault"].is_null());
    assert!(
        gateway
            .metric("dethrone_ledger_healthy")
            .is_some_and(|healthy| healthy > 0.5)
    );
    until("the backlog is written", || {
        gateway
            .metric("dethrone_recorder_backlog")
            .is_some_and(|rows| rows < 0.5)
            .then_some(())
    });
    assert_eq!(gateway.label("elec2", &[(&id, json!(0))]), ["conflict"]);
    assert_eq!(gateway.label("elec2", &[(&lost, json!(0))]), ["unrecorded"]);
    let dropped = "dethrone_recorder_dropped_total{model=\"elec2\",reason=\"ledger_failed\"}";
    assert!(gateway.metric(dropped).is_some_and(|rows| rows >= 1.0));
}

#[test]
fn a_key_of_ids_that_is_gone_is_said_since_open_ids_become_unknown() {
    let site = Site::new("");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let id = predict(&gateway);
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
    gateway.kill();
    assert!(!site.log().contains("the key of the ids is missing"));
    std::fs::remove_file(site.state().join("ids.key")).unwrap();
    let gateway = site.start().ready();
    assert!(site.log().contains("the key of the ids is missing"), "{}", site.log());
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["unknown"]);
}
