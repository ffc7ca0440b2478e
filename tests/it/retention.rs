//! What the ledger lets go by age and by bytes, in a running gateway; and that nothing decided changes by it.

use serde_json::{Value, json};

use super::replay::{eventful, line, replay, up};
use super::support::{Gateway, Site, ask_ledger, elec2_row, ids, shipped, until};

fn kept(gateway: &Gateway) -> Value {
    gateway.view("elec2")["kept"].clone()
}

#[test]
fn a_record_of_promotions_comes_out_the_same_after_its_rows_were_pruned() {
    let mut site = super::replay::site();
    let gateway = eventful(&site);
    let state = site.state().to_str().unwrap().to_owned();
    assert_eq!(gateway.stop(), Some(0));
    let compared = || line(&replay(&["--state", &state, "--json"]));
    let before = compared();
    assert_eq!(
        (&before["same"], &before["compared"]["rows_gone"]),
        (&json!(true), &json!(0)),
        "{before}"
    );
    // The same rules, but that labels come sooner or never; and nothing is kept longer than it must be.
    let toml = std::fs::read_to_string(site.models().join("elec2/model.toml")).unwrap();
    site.model_toml(
        "elec2",
        &toml.replace("horizon = \"100000 rows\"", "horizon = \"80 rows\""),
    );
    site.set("[retention]\ninputs_age = \"1s\"\nrows_age = \"1s\"\n");
    let gateway = up(&site);
    let pruned = until("rows are pruned", || {
        let kept = kept(&gateway);
        (kept["rows"]["pruned"].as_u64()? > 1_000 && kept["rows"]["kept"].as_u64()? <= 81).then_some(kept)
    });
    assert_eq!(pruned["rows"]["pruned_before_their_horizon"], 0, "{pruned}");
    let evidence = gateway.view("elec2")["versions"].clone();
    assert_eq!(gateway.stop(), Some(0));
    let after = compared();
    assert_eq!(after["same"], true, "{after}");
    for what in ["pairs", "verdicts", "decisions", "others"] {
        assert_eq!(after["compared"][what], before["compared"][what], "{what}: {after}");
    }
    // How many rows have a pair depends on how long a swap takes; whoever's row was pruned is marked, whatever their number.
    let count = |what: &str| after["compared"][what].as_u64().unwrap();
    assert!(
        count("pairs") > 300 && count("rows_gone") >= count("pairs") - 81,
        "what cannot be computed again is marked: {after}"
    );
    // The judge goes on from where it was.
    let gateway = up(&site);
    let labels = |versions: &Value| -> Vec<Value> {
        let all = versions.as_array().unwrap().iter();
        all.map(|v| v["evidence"]["labels"].clone()).collect()
    };
    assert_eq!(labels(&gateway.view("elec2")["versions"]), labels(&evidence));
}

#[test]
fn a_ledger_under_traffic_stays_within_its_bytes_and_says_that_they_do_not_hold_the_horizon() {
    let site = Site::new("recorder_percent = 100\nmax_rows = 1000\n[retention]\nledger_bytes = \"1MiB\"\n");
    site.model_toml("elec2", "[label]\nmaturity = \"100 rows\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let mut first = None;
    for _ in 0..12 {
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); 1_000]}));
        assert_eq!(status, 200, "{answer}");
        let ids = ids(&answer);
        assert_eq!(gateway.label("elec2", &[(&ids[999], json!(1))]), ["accepted"]);
        first.get_or_insert(ids[0].clone());
    }
    let ledger = until("it is within its bytes", || {
        let ledger = gateway.admin("/api/ledger");
        let forced = ledger["models"][0]["rows"]["pruned_before_their_horizon"].as_u64()?;
        // The estimate is made anew only now and then: the first one may have seen too few rows.
        let is_told = ledger["short"].is_string();
        (is_told && forced > 0 && ledger["bytes"]["used"].as_u64()? <= 1 << 20).then_some(ledger)
    });
    assert_eq!(
        ledger["models"][0]["rows"]["kept"].as_u64(),
        ask_ledger::<i64>(&site, "SELECT count(*) FROM predictions").map(i64::unsigned_abs)
    );
    assert!(ledger["short"].as_str().unwrap().contains("raise it to"), "{ledger}");
    assert!(ledger["longest_step_ms"].as_f64().unwrap() > 0.0, "{ledger}");
    assert_eq!(gateway.metric("dethrone_retention_short"), Some(1.0));
    assert!(
        gateway
            .metric("dethrone_pruned_rows_total{what=\"before_horizon\"}")
            .unwrap()
            > 0.0
    );
    assert!(
        site.log().contains("cannot hold rows until their labels come"),
        "{}",
        site.log()
    );
    let item = json!({"model": "elec2", "labels": [{"id": first.unwrap(), "label": 1}]});
    let said = super::support::client::post(gateway.data, "/feedback", &item).json();
    assert_eq!(said["results"][0]["status"], "unrecorded", "{said}");
    assert!(
        said["results"][0]["error"]
            .as_str()
            .unwrap()
            .contains("retention.ledger_bytes"),
        "{said}"
    );
    assert_eq!(gateway.metric("dethrone_labels_for_pruned_rows_total"), Some(1.0));
}
