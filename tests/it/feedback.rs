//! `POST /feedback`: what becomes of every label, in the order sent, and that it is on disk when the answer says so.

use serde_json::{Value, json};

use crate::support::client::{Answer, post, raw, request};
use crate::support::{Gateway, Site, data, elec2_row, ids, shipped, until};

/// `elec2` with `e01_logreg` as champion and these settings.
fn elec2(toml: &str) -> (Site, Gateway) {
    let site = Site::new("");
    site.model_toml("elec2", &format!("champion = \"e01_logreg\"\n{toml}"))
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    (site, gateway)
}

/// Predicts `rows` rows in one request; gives their ids.
fn predict(gateway: &Gateway, rows: usize) -> Vec<String> {
    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); rows]}));
    assert_eq!(status, 200, "{answer}");
    ids(&answer)
}

/// One row's id.
fn one(gateway: &Gateway) -> String {
    predict(gateway, 1).remove(0)
}

/// The id of a row that was answered with more top-level keys.
fn with(gateway: &Gateway, more: &Value) -> String {
    let mut body = json!({"model": "elec2", "instances": [elec2_row()]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    ids(&answer).remove(0)
}

fn stream(gateway: &Gateway, lines: &str) -> Answer {
    let bytes = request(
        "POST",
        "/feedback",
        "content-type: application/x-ndjson\r\n",
        lines.as_bytes(),
    );
    raw(gateway.data, &bytes).unwrap()
}

#[test]
fn every_status_is_reached_and_comes_back_in_the_order_sent() {
    let (_site, gateway) = elec2("[label]\nmaturity = \"2 rows\"\nhorizon = \"6 rows\"\n");
    let rows: Vec<String> = (0..8).map(|_| one(&gateway)).collect();
    let opted_out = with(&gateway, &json!({"shadow": false}));
    let pinned = with(&gateway, &json!({"version": "e01_logreg"}));
    let labels = [
        (rows[7].as_str(), json!(1), "accepted"),
        (&rows[5], json!(0), "accepted"),
        // Row 8 is two above row 6, three above row 5.
        (&rows[4], json!(1), "late"),
        (&rows[1], json!(1), "late"),
        (&rows[0], json!(1), "expired"),
        (&rows[7], json!(1), "duplicate"),
        (&rows[7], json!(0), "conflict"),
        (&rows[7], json!(1), "duplicate"),
        (&rows[4], json!(0), "conflict"),
        (&opted_out, json!(1), "unrecorded"),
        (&pinned, json!(1), "unrecorded"),
        ("order-never-seen", json!(1), "unknown"),
        ("p1_00000000000000000000000000", json!(1), "unknown"),
        (&rows[6], json!("purple"), "invalid"),
        (&rows[6], json!(7), "invalid"),
        (&rows[6], json!(1), "accepted"),
    ];
    let items: Vec<Value> = labels
        .iter()
        .map(|(id, label, _)| json!({"id": id, "label": label}))
        .collect();
    let answer = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": items}));
    let said = answer.json();
    assert_eq!((answer.status, &said["model"]), (200, &json!("elec2")), "{said}");
    assert_eq!(said["accepted"], 3);
    let results = said["results"].as_array().unwrap();
    assert_eq!(results.len(), labels.len());
    for (result, (id, _, status)) in results.iter().zip(&labels) {
        assert_eq!(
            (&result["id"], &result["status"]),
            (&json!(id), &json!(status)),
            "{said:#}"
        );
        let is_told = *status == "invalid" || id.starts_with("p1_000");
        assert_eq!(is_told, result["error"].is_string(), "{result}");
    }
    for (status, count) in [
        ("accepted", 3.0),
        ("late", 2.0),
        ("conflict", 2.0),
        ("invalid", 2.0),
        ("expired", 1.0),
    ] {
        let series = format!("dethrone_labels_total{{model=\"elec2\",status=\"{status}\"}}");
        assert_eq!(gateway.metric(&series), Some(count), "{series}");
    }
}

#[test]
fn a_row_that_sampling_left_out_is_unrecorded_and_not_unknown() {
    let (_site, gateway) = elec2("[shadow]\nsample = 0.0\n");
    let id = one(&gateway);
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["unrecorded"]);
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 0);
}

#[test]
fn rows_of_a_request_are_labelled_one_by_one_and_the_first_also_by_the_requests_id() {
    let (_site, gateway) = elec2("");
    let rows = predict(&gateway, 3);
    let stem = rows[0].split_once('.').unwrap().0.to_owned();
    let labels = [
        (rows[1].as_str(), json!(1)),
        (&stem, json!(0)),
        (&rows[0], json!(0)),
        (&rows[2], json!(1)),
        (&rows[2], json!(0)),
    ];
    let statuses = gateway.label("elec2", &labels);
    assert_eq!(statuses, ["accepted", "accepted", "duplicate", "accepted", "conflict"]);
    let beyond = gateway.label(
        "elec2",
        &[(&format!("{stem}.99"), json!(1)), (&format!("{stem}.x"), json!(1))],
    );
    assert_eq!(beyond, ["unknown", "unknown"]);
}

#[test]
fn the_only_model_need_not_be_named_and_is_in_the_answer() {
    let (_site, gateway) = elec2("");
    let answer = post(
        gateway.data,
        "/feedback",
        &json!({"labels": [{"id": one(&gateway), "label": 1}]}),
    )
    .json();
    assert_eq!(
        (&answer["model"], &answer["accepted"]),
        (&json!("elec2"), &json!(1)),
        "{answer}"
    );
    let answer = post(gateway.data, "/feedback", &json!({"labels": [{"label": 1}]})).json();
    assert_eq!(
        (&answer["model"], &answer["accepted"]),
        (&json!("elec2"), &json!(0)),
        "{answer}"
    );
}

#[test]
fn the_callers_own_ids_are_labelled_as_they_were_sent() {
    let (_site, gateway) = elec2("");
    let keys = json!({"ids": ["order \"17\""]});
    let id = with(&gateway, &keys);
    assert_eq!(id, "order \"17\"");
    assert_eq!(
        gateway.label("elec2", &[(&id, json!(1)), (&id, json!(1))]),
        ["accepted", "duplicate"]
    );
}

#[test]
fn a_label_may_come_before_the_challengers_have_scored_its_row() {
    let (site, gateway) = elec2("[label]\nmaturity = \"1 rows\"\nhorizon = \"100 rows\"\n[policy]\nmode = \"off\"\n");
    site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    gateway.until_role("elec2", "e02_tree", "challenger");
    for at in 0..20 {
        let id = one(&gateway);
        assert_eq!(
            gateway.label("elec2", &[(&id, json!(at % 2))]),
            ["accepted"],
            "row {at}"
        );
    }
    predict(&gateway, 2);
    let counted = until("all labels as evidence", || {
        let coverage = gateway.version("elec2", "e02_tree")["coverage"].clone();
        (coverage["labelled"] == 20 && coverage["scored"] == 22).then_some(coverage)
    });
    assert_eq!((&counted["offered"], &counted["dropped"]), (&json!(22), &json!({})));
}

#[test]
fn a_weight_lies_above_zero_and_not_above_one() {
    let (_site, gateway) = elec2("");
    let id = one(&gateway);
    let item = |weight: &str| format!("{{\"id\":\"{id}\",\"label\":1,\"weight\":{weight}}}");
    let weights = ["0", "-0.5", "1.0000001", "1e999", "\"1\"", "NaN"];
    let lines: Vec<String> = weights.iter().map(|w| item(w)).collect();
    let said = stream(&gateway, &lines.join("\n")).json();
    assert_eq!(said["counts"], json!({"invalid": 6}), "{said}");
    for weight in ["1e-9", "1"] {
        let id = one(&gateway);
        let body = format!("{{\"id\":\"{id}\",\"label\":1,\"weight\":{weight}}}");
        assert_eq!(stream(&gateway, &body).json()["accepted"], 1, "{weight}");
    }
    assert_eq!(
        gateway.label("elec2", &[(&id, json!(1))]),
        ["accepted"],
        "nothing of the invalid ones was kept"
    );
}

#[test]
fn labels_are_class_numbers_booleans_or_class_names() {
    let site = Site::new("");
    let named = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_zipmap_text.onnx");
    site.drop_file("named", "first", &named)
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
        .model_toml(
            "values",
            "task = \"regression\"\nmetric = \"squared_error\"\nbound = 100.0\n",
        )
        .drop_file("values", "mean", &data("mean"));
    let gateway = site.start().ready();
    for model in ["named", "elec2", "values"] {
        until(model, || (gateway.view(model)["ready"] == true).then_some(()));
    }
    let width = |model: &str| {
        let (_, answer) = gateway.predict(&json!({"model": model, "inputs": {"X": [[0.1, 0.2, 0.3]]}}));
        answer["predictions"][0].clone()
    };
    let row = width("named");
    assert!(["DOWN", "UP"].contains(&row["label"].as_str().unwrap()), "{row}");
    let status = |model: &str, label: Value| {
        let tensor = json!([[0.1, 0.2, 0.3]]);
        let body = match model {
            "elec2" => json!({"model": model, "instances": [elec2_row()]}),
            "named" => json!({"model": model, "inputs": {"X": tensor}}),
            _ => json!({"model": model, "inputs": {"x": tensor}}),
        };
        let (_, answer) = gateway.predict(&body);
        gateway.label(model, &[(&ids(&answer)[0], label)]).remove(0)
    };
    for (model, label, expected) in [
        ("named", json!("UP"), "accepted"),
        ("named", json!("DOWN"), "accepted"),
        ("named", json!("up"), "invalid"),
        ("named", json!(true), "accepted"),
        ("elec2", json!(true), "accepted"),
        ("elec2", json!(1.0), "accepted"),
        ("elec2", json!(0.5), "invalid"),
        ("elec2", json!("1st"), "invalid"),
        ("values", json!(-3.25), "accepted"),
        ("values", json!("3"), "invalid"),
    ] {
        assert_eq!(status(model, label.clone()), expected, "{model}: {label}");
    }
    // The same truth in another spelling is the same label.
    let id = one(&gateway);
    assert_eq!(
        gateway.label("elec2", &[(&id, json!(true)), (&id, json!(1)), (&id, json!(false))]),
        ["accepted", "duplicate", "conflict"]
    );
    // A label for another model's row.
    let id = one(&gateway);
    assert_eq!(gateway.label("named", &[(&id, json!("UP"))]), ["unknown"]);
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
}

#[test]
fn a_stream_takes_ten_thousand_labels_and_names_bad_lines_by_their_number() {
    let (_site, gateway) = elec2("");
    let mut lines: Vec<String> = Vec::new();
    while lines.len() < 10_000 {
        for id in predict(&gateway, 500) {
            lines.push(format!(
                "{{\"id\":\"{id}\",\"label\":{},\"model\":\"elec2\"}}",
                lines.len() % 2
            ));
        }
    }
    lines[6] = "{\"id\":\"broken\"".into();
    lines[4_999] = "{\"id\":\"nobody\",\"label\":1,\"model\":\"nobodys\"}".into();
    lines[9_998] = lines[0].clone();
    let answer = stream(&gateway, &(lines.join("\r\n") + "\n\n"));
    let said = answer.json();
    assert_eq!(answer.status, 200, "{said}");
    assert_eq!(said["accepted"], 9_997, "{}", said["counts"]);
    assert_eq!(said["counts"], json!({"accepted": 9_997, "invalid": 2, "duplicate": 1}));
    let rejected = said["rejected"].as_array().unwrap();
    let line = |at: usize| {
        (
            rejected[at]["line"].as_u64().unwrap(),
            rejected[at]["status"].as_str().unwrap(),
        )
    };
    assert_eq!(rejected.len(), 3);
    assert_eq!(
        (line(0), line(1), line(2)),
        ((7, "invalid"), (5_000, "invalid"), (9_999, "duplicate"))
    );
    assert!(rejected[1]["error"].as_str().unwrap().contains("nobodys"), "{said}");
    let again = stream(&gateway, &lines.join("\n")).json();
    assert_eq!(again["counts"], json!({"duplicate": 9_998, "invalid": 2}));
}

#[test]
fn with_several_models_a_line_without_one_is_invalid_and_the_others_are_taken() {
    let (site, gateway) = elec2("");
    site.drop_file("plain", "e02_tree", &shipped("e02_tree"));
    until("the second model", || {
        (gateway.view("plain")["ready"] == true).then_some(())
    });
    let (a, b) = (one(&gateway), one(&gateway));
    let lines = format!("{{\"id\":\"{a}\",\"label\":1}}\n{{\"id\":\"{b}\",\"label\":1,\"model\":\"elec2\"}}");
    let said = stream(&gateway, &lines).json();
    assert_eq!(said["counts"], json!({"accepted": 1, "invalid": 1}), "{said}");
    assert!(
        said["rejected"][0]["error"].as_str().unwrap().contains("elec2, plain"),
        "{said}"
    );
    // A whole body that names no model is refused, unless its items do.
    let refused = post(gateway.data, "/feedback", &json!({"labels": [{"id": a, "label": 1}]}));
    assert_eq!(refused.status, 400);
    let own = json!({"labels": [{"id": a, "label": 1, "model": "elec2"}]});
    assert_eq!(post(gateway.data, "/feedback", &own).json()["accepted"], 1);
}

#[test]
fn what_was_answered_200_is_on_disk_after_kill_9() {
    let (site, gateway) = elec2("");
    let rows: Vec<String> = (0..5).map(|_| one(&gateway)).collect();
    let many = predict(&gateway, 50);
    let all: Vec<(&str, Value)> = rows.iter().chain(&many).map(|id| (id.as_str(), json!(1))).collect();
    let (json_part, stream_part) = all.split_at(5);
    assert!(gateway.label("elec2", json_part).iter().all(|s| s == "accepted"));
    let lines: Vec<String> = stream_part
        .iter()
        .map(|(id, label)| json!({"id": id, "label": label}).to_string())
        .collect();
    assert_eq!(stream(&gateway, &lines.join("\n")).json()["accepted"], 50);
    gateway.kill();
    let gateway = site.start();
    // Without waiting for readiness: until the ids mean something the answer is 503, never "unknown".
    let labels: Vec<Value> = all
        .iter()
        .map(|(id, label)| json!({"id": id, "label": label}))
        .collect();
    let body = json!({"model": "elec2", "labels": labels});
    let answer = until("an answer to the labels", || {
        let answer = post(gateway.data, "/feedback", &body);
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        assert!(
            answer.status == 200 || answer.head.contains("retry-after: "),
            "{}",
            answer.head
        );
        (answer.status == 200).then_some(answer)
    });
    let said = answer.json();
    let results = said["results"].as_array().unwrap();
    assert!(results.iter().all(|r| r["status"] == "duplicate"), "{said}");
    assert_eq!(gateway.ready().view("elec2")["rows"]["recorded"], 55);
}

#[test]
fn a_reward_without_a_label_is_recorded_and_shown_and_never_evidence() {
    let (site, gateway) = elec2("[label]\nmaturity = \"3 rows\"\nhorizon = \"100 rows\"\n[policy]\nmode = \"off\"\n");
    site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    gateway.until_role("elec2", "e02_tree", "challenger");
    let (old, id, other) = (one(&gateway), one(&gateway), one(&gateway));
    let send = |gateway: &Gateway, items: Value| {
        let said = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": items})).json();
        let results = said["results"].as_array().cloned().unwrap_or_default();
        results
            .iter()
            .map(|r| r["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let items = json!([{"id": id, "reward": 0.3}, {"id": id, "reward": 0.3}, {"id": id, "reward": 0.4},
        {"id": other, "rewards": {"0": -1.0, "1": 0.5}, "weight": 0.5}, {"id": "nobody", "reward": 1},
        {"id": other, "reward": "much"}]);
    let expected = ["accepted", "duplicate", "conflict", "accepted", "unknown", "invalid"];
    assert_eq!(send(&gateway, items), expected);
    assert_eq!(
        send(&gateway, json!([{"id": one(&gateway), "reward": 0.9}])),
        ["accepted"]
    );
    one(&gateway);
    assert_eq!(send(&gateway, json!([{"id": old, "reward": 0}])), ["late"]);
    // The outcome of the same row is another thing.
    assert_eq!(gateway.label("elec2", &[(&other, json!(1))]), ["accepted"]);
    predict(&gateway, 8);
    until("the label as evidence", || {
        (gateway.version("elec2", "e02_tree")["coverage"]["labelled"] == 1).then_some(())
    });
    let warnings = gateway.version("elec2", "e02_tree")["evidence"]["warnings"].clone();
    let warned = warnings[0]
        .as_str()
        .is_some_and(|w| w.contains("have the inputs of an earlier one"));
    assert!(warned, "all rows were alike: {warnings}");
    let shown = gateway.version("elec2", "e01_logreg")["rewards"].clone();
    assert_eq!(shown["count"], 3, "{shown}");
    assert!((shown["mean"].as_f64().unwrap() - 0.4).abs() < 1e-12, "{shown}");
    gateway.kill();
    let gateway = site.start().ready();
    let items = json!([{"id": id, "reward": 0.3}, {"id": other, "rewards": {"0": -1.0, "1": 0.5}, "weight": 0.5}]);
    assert_eq!(send(&gateway, items), ["duplicate", "duplicate"]);
    assert_eq!(gateway.version("elec2", "e01_logreg")["rewards"], shown);
}

#[test]
fn a_ledger_from_before_rewards_opens_and_takes_them() {
    let (site, gateway) = elec2("");
    let id = one(&gateway);
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
    gateway.kill();
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger
        .execute_batch("DROP TABLE rewards; DROP TABLE reward_totals")
        .unwrap();
    drop(ledger);
    let gateway = site.start().ready();
    assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["duplicate"]);
    let answer = post(
        gateway.data,
        "/feedback",
        &json!({"labels": [{"id": id, "reward": 1.5}]}),
    );
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
}

#[test]
fn rewards_and_a_bare_reward_are_kept_beside_the_label() {
    let (site, gateway) = elec2("");
    let id = one(&gateway);
    let item = json!({"id": id, "label": 1, "rewards": {"0": -1.0, "1": 0.3}, "reward": 0.3});
    let answer = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": [item]}));
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
    let kept: String = crate::support::ask_ledger(&site, "SELECT extra FROM labels").unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&kept["rewards"]["0"], &kept["reward"]), (&json!(-1.0), &json!(0.3)));
}
