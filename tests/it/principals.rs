//! Labels come under API keys: a key's share of the evidence, trusted keys, and that all of it can be replayed.

use std::process::Command;

use serde_json::{Value, json};

use crate::keys::{SETTINGS, ask, key, write_keys};
use crate::support::client::get;
use crate::support::{Site, ask_ledger, elec2_row, shipped, until};

#[test]
fn a_key_that_floods_is_limited_and_shown_a_trusted_one_corrects_it_and_a_replay_comes_out_alike() {
    let site = Site::new(SETTINGS);
    site.model_toml(
        "elec2",
        "[label]\nmaturity = \"20 rows\"\nprincipal_share = 0.02\ntrusted = [\"ops\"]\n[policy]\nmin_labels = 50\n",
    )
    .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let asks = key("asks", &["--scope", "predict", "--scope", "read"]);
    let ops = key("ops", &["--scope", "feedback"]);
    let clinics: Vec<_> = (0..21)
        .map(|k| key(&format!("clinic-{k}"), &["--scope", "feedback"]))
        .collect();
    let lines: Vec<&str> = [&asks, &ops]
        .into_iter()
        .chain(&clinics)
        .map(|key| key.line.as_str())
        .collect();
    write_keys(&site, &lines);
    let gateway = site.start().ready();
    until("elec2", || {
        (get(gateway.data, "/v2/models/elec2/ready").status == 200).then_some(())
    });
    let predict = |count: usize| -> Vec<String> {
        let body = json!({"model": "elec2", "instances": vec![elec2_row(); count]});
        let answer = ask(gateway.data, "POST", "/predict", &asks.secret, &body).json();
        let rows = answer["predictions"].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let label = |secret: &str, ids: &[String], label: u8| -> Vec<String> {
        let labels: Vec<Value> = ids.iter().map(|id| json!({"id": id, "label": label})).collect();
        let body = json!({"model": "elec2", "labels": labels});
        let answer = ask(gateway.data, "POST", "/feedback", secret, &body).json();
        let results = answer["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
        results
            .iter()
            .map(|item| item["status"].as_str().unwrap().to_owned())
            .collect()
    };
    let view = || ask(gateway.admin, "GET", "/api/models/elec2", &asks.secret, &json!(null)).json();
    // A row of each clinic; then more of the first one, of which the trusted key corrects two.
    let ids = predict(21);
    for (id, clinic) in ids.iter().zip(&clinics) {
        assert_eq!(label(&clinic.secret, std::slice::from_ref(id), 1), ["accepted"]);
    }
    let ids = predict(15);
    assert_eq!(label(&clinics[0].secret, &ids, 1), ["accepted"; 15]);
    assert_eq!(label(&ops.secret, &ids[..2], 0), ["accepted"; 2]);
    assert_eq!(label(&clinics[0].secret, &ids[..1], 1), ["conflict"]);
    predict(40);
    let keys = until("closed rows", || {
        let keys = view()["labels"]["keys"].clone();
        (keys["most"][0]["over_share"].as_u64()? >= 12).then_some(keys)
    });
    // At 2 % of 50 labels a key has one at first.
    let most = json!({"key": "clinic-0", "evidence": 2, "over_share": 12});
    assert_eq!(
        (&keys["reported"], &keys["limited"], &keys["most"][0]),
        (&json!(21), &json!(true), &most)
    );
    let metrics = || ask(gateway.admin, "GET", "/metrics", &asks.secret, &json!(null)).text();
    // Whoever has just gone may still be on the way out.
    let metrics = until("nobody but the scrape is connected", || {
        let open = |listener: &str, open: u64| format!("dethrone_open_connections{{listener=\"{listener}\"}} {open}\n");
        let text = metrics();
        [open("admin", 1), open("data", 0), open("grpc", 0)]
            .iter()
            .all(|series| text.contains(series))
            .then_some(text)
    });
    for series in [
        "dethrone_labels_over_share_total{model=\"elec2\"} 12",
        "dethrone_key_requests_total{key=\"ops\",what=\"allowed\"} 1",
        "dethrone_key_requests_total{key=\"ops\",what=\"limited\"} 0",
        "dethrone_key_rows_total{key=\"clinic-0\"} 17",
        "dethrone_key_rows_total{key=\"clinic-1\"} 1",
    ] {
        assert!(metrics.contains(&format!("{series}\n")), "{series}\n{metrics}");
    }
    // A key that is taken back takes its series along.
    write_keys(&site, &lines[..2]);
    until("the clinics' series are gone", || {
        let text = ask(gateway.admin, "GET", "/metrics", &asks.secret, &json!(null)).text();
        (!text.contains("key=\"clinic-") && text.contains("key=\"ops\"")).then_some(())
    });
    let held = ask_ledger::<i64>(
        &site,
        "SELECT count(*) FROM reported_by WHERE principal = 'ops' AND what = 'label'",
    );
    assert_eq!(held, Some(2));
    assert_eq!(gateway.stop(), Some(0));
    let replayed = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["replay", "--json", "--state"])
        .arg(site.state())
        .output()
        .unwrap();
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(
        (&replayed["same"], &replayed["compared"]["rows_unknown"]),
        (&json!(true), &json!(0)),
        "{replayed}"
    );
    assert!(replayed["compared"]["pairs"].as_u64().unwrap() >= 24, "{replayed}");
}
