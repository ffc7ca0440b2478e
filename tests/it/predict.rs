//! `POST /predict`: every spelling of a row, the scores of the shipped models, ids, outputs, pins, deadlines, and who
//! answers what the champion cannot.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::support::client::{Answer, get, post, raw, request};
use crate::support::{Gateway, Site, ask_ledger, data, elec2_row, gateway, ids, probes, shipped, until};

const COLUMNS: [&str; 7] = [
    "period",
    "nswprice",
    "nswdemand",
    "vicprice",
    "vicdemand",
    "transfer",
    "day",
];

/// Sends rows of `elec2` with more top-level keys; the answer must be 200.
fn ask(gateway: &Gateway, rows: &[Value], more: &Value) -> Value {
    let mut body = json!({"model": "elec2", "instances": rows});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap_or_default());
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    answer
}

fn scores(answer: &Value) -> Vec<f64> {
    let rows = answer["predictions"].as_array().unwrap();
    rows.iter().map(|row| row["score"].as_f64().unwrap()).collect()
}

fn close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (row, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-6, "{what}, row {row}: {a} instead of {b}");
    }
}

/// Rows and expected scores of one shipped model.
fn expected(version: &str) -> (Vec<Value>, Vec<f64>) {
    let of = |p: &Value| {
        (
            p["inputs"].clone(),
            p["probability_of_class_1"][version].as_f64().unwrap(),
        )
    };
    probes().iter().map(of).unzip()
}

/// `without` a key.
fn without(row: &Value, key: &str) -> Value {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove(key);
    row
}

fn model_of(version: &str, toml: &str) -> (Site, Gateway) {
    let site = Site::new("");
    site.model_toml("elec2", toml)
        .drop_file("elec2", version, &shipped(version));
    let gateway = site.start().ready();
    (site, gateway)
}

#[test]
fn all_twelve_shipped_models_answer_as_their_probes_say() {
    let (site, gateway) = model_of("e01_logreg", "champion = \"e01_logreg\"\n");
    let versions: Vec<String> = probes()[0]["probability_of_class_1"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(versions.len(), 12);
    for version in &versions[1..] {
        site.drop_file("elec2", version, &shipped(version));
    }
    for version in &versions {
        // The view names a challenger a moment before its runner is up.
        until(version, || {
            let pinned = json!({"version": version, "instances": [probes()[0]["inputs"]]});
            (gateway.predict(&pinned).0 == 200).then_some(())
        });
        let (rows, scores_expected) = expected(version);
        let answer = ask(&gateway, &rows, &json!({"version": version}));
        assert_eq!(answer["version"], json!(version));
        close(&scores(&answer), &scores_expected, version);
        let one = ask(&gateway, &rows[..1], &json!({"version": version}));
        close(&scores(&one), &scores_expected[..1], version);
    }
}

#[test]
fn rows_come_as_objects_as_lists_and_as_columns_and_mean_the_same() {
    let (_site, gateway) = model_of("e01_logreg", "");
    let (rows, expected) = expected("e01_logreg");
    let objects: Vec<Value> = rows.iter().map(|row| without(row, "date")).collect();
    let lists: Vec<Value> = rows
        .iter()
        .map(|row| COLUMNS.iter().map(|c| row[*c].clone()).collect())
        .collect();
    let column = |wrap: fn(Value) -> Value| -> Value {
        let one = |c: &str| rows.iter().map(|row| wrap(row[c].clone())).collect::<Value>();
        Value::Object(COLUMNS.iter().map(|c| ((*c).to_owned(), one(c))).collect::<Map<_, _>>())
    };
    let bodies = [
        json!({"instances": objects}),
        json!({"instances": lists}),
        json!({"inputs": column(|x| x)}),
        json!({"inputs": column(|x| json!([x]))}),
        json!({"model": "elec2", "instances": objects, "key of nobody": [1]}),
    ];
    for body in &bodies {
        let (status, answer) = gateway.predict(body);
        assert_eq!(status, 200, "{answer}");
        close(&scores(&answer), &expected, &body.to_string()[..60]);
        assert_eq!(answer["model"], "elec2");
        assert!(
            answer["digest"].as_str().unwrap().starts_with("sha256:"),
            "{}",
            answer["digest"]
        );
        let label = |(row, score): (&Value, &f64)| assert_eq!(row["label"], json!(i64::from(*score >= 0.5)));
        answer["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .zip(&expected)
            .for_each(label);
    }
    let by_path = post(gateway.data, "/models/elec2/predict", &json!({"instances": objects}));
    close(&scores(&by_path.json()), &expected, "by path");
}

#[test]
fn a_version_whose_feature_nobody_sends_waits_for_rows_that_carry_it() {
    let (site, gateway) = model_of("e01_logreg", "");
    let (rows, scores_expected) = expected("e11_date_overfit");
    let plain: Vec<Value> = rows.iter().map(|row| without(row, "date")).collect();
    for _ in 0..3 {
        ask(&gateway, &plain, &json!({}));
    }
    site.drop_file("elec2", "e11_date_overfit", &shipped("e11_date_overfit"));
    let entry = gateway.until_role("elec2", "e11_date_overfit", "rejected");
    assert!(entry["reason"].as_str().unwrap().contains("date"), "{entry}");
    // Rows that carry it are answered as before, and then the version fits.
    ask(&gateway, &rows, &json!({}));
    let pinned = json!({"version": "e11_date_overfit", "instances": rows});
    let answer = until("e11 as a challenger", || {
        let (status, answer) = gateway.predict(&pinned);
        (status == 200).then_some(answer)
    });
    close(&scores(&answer), &scores_expected, "e11");
}

#[test]
fn the_callers_ids_come_back_and_one_seen_before_is_answered_and_not_recorded() {
    let (site, gateway) = model_of("e01_logreg", "");
    let keys = json!({"ids": ["order-17", "Zoë \"x\""], "entities": ["customer-9", "c2"],
                      "context": [{"channel": "web", "n": [1]}, {}]});
    let rows = [elec2_row(), elec2_row()];
    let first = ask(&gateway, &rows, &keys);
    assert_eq!(ids(&first), ["order-17", "Zoë \"x\""]);
    let again = ask(&gateway, &rows, &json!({"ids": ["order-17", "new"]}));
    assert_eq!(ids(&again), ["order-17", "new"]);
    assert_eq!(
        scores(&again),
        scores(&first),
        "a repeated id is answered like any other"
    );
    until("the duplicate's count", || {
        let series = "dethrone_recorder_dropped_total{model=\"elec2\",reason=\"duplicate_id\"}";
        (gateway.metric(series) == Some(1.0)).then_some(())
    });
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 3);
    let query = "SELECT entity || '|' || context || '|' || inputs FROM predictions JOIN own_ids USING (id) \
                 WHERE caller_id = 'order-17'";
    let kept: String = ask_ledger(&site, query).unwrap();
    let parts: Vec<&str> = kept.splitn(3, '|').collect();
    assert_eq!(parts[0], "customer-9");
    assert_eq!(
        serde_json::from_str::<Value>(parts[1]).unwrap(),
        json!({"channel": "web", "n": [1]})
    );
    let inputs: Value = serde_json::from_str(parts[2]).unwrap();
    assert_eq!(inputs["day"], "2");
    assert_eq!(inputs.as_object().unwrap().len(), 7, "{inputs}");
}

#[test]
fn a_generated_id_names_the_request_and_its_rows() {
    let (_site, gateway) = model_of("e01_logreg", "");
    let one = ids(&ask(&gateway, &[elec2_row()], &json!({})));
    assert!(one[0].starts_with("p1_") && !one[0].contains('.'), "{one:?}");
    let three = ids(&ask(&gateway, &[elec2_row(), elec2_row(), elec2_row()], &json!({})));
    let (stem, _) = three[0].split_once('.').unwrap();
    for (k, id) in three.iter().enumerate() {
        assert_eq!(*id, format!("{stem}.{k}"));
    }
    assert_ne!(one[0], stem);
}

#[test]
fn raw_outputs_come_when_asked_for_and_only_those() {
    let gateway = gateway();
    let outputs = |more: Value| ask(&gateway, &[elec2_row(), elec2_row()], &more)["predictions"][1]["outputs"].clone();
    assert_eq!(outputs(json!({})), Value::Null);
    assert_eq!(outputs(json!({"outputs": false})), Value::Null);
    let all = outputs(json!({"outputs": true}));
    let pair = all["probabilities"].as_array().unwrap();
    assert_eq!(pair.len(), 2, "{all}");
    assert!(
        (pair[0].as_f64().unwrap() + pair[1].as_f64().unwrap() - 1.0).abs() < 1e-6,
        "{all}"
    );
    assert!(all["label"].is_i64(), "{all}");
    let named = outputs(json!({"outputs": ["label"]}));
    assert_eq!(named, json!({"label": all["label"]}));
    let body = json!({"model": "elec2", "instances": [elec2_row()], "outputs": ["labels"]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!((status, answer["code"].as_str()), (400, Some("unknown_output")));
    assert!(answer["error"].as_str().unwrap().contains("probabilities"), "{answer}");
}

#[test]
fn a_model_whose_task_is_unknown_gives_its_raw_outputs_unasked() {
    let site = Site::new("");
    site.drop_file("encoder", "first", &data("hidden"));
    let gateway = site.start().ready();
    let body = json!({"inputs": {"x": [[1, 2, 3], [0.5, -1, 7]]}});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    for (at, hidden) in [json!([[1.0], [2.0], [3.0]]), json!([[0.5], [-1.0], [7.0]])]
        .iter()
        .enumerate()
    {
        let prediction = answer["predictions"][at].as_object().unwrap();
        assert_eq!(prediction["outputs"], json!({"hidden": hidden}), "{answer}");
        assert_eq!(prediction.len(), 2, "no score and no label: {answer}");
    }
}

#[test]
fn several_classes_give_a_score_each_and_a_value_has_no_label() {
    let site = Site::new("");
    let three = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_zipmap_three.onnx");
    site.drop_file("three", "first", &three)
        .model_toml("m", VALUES)
        .drop_file("m", "mean", &data("mean"));
    let gateway = site.start().ready();
    let answered = |model: &str| {
        until(model, || {
            let input = if model == "three" { "X" } else { "x" };
            let (status, answer) = gateway.predict(&json!({"model": model, "inputs": {input: [[1, 2, 6]]}}));
            (status == 200).then(|| answer["predictions"][0].clone())
        })
    };
    let row = answered("three");
    let scores: Vec<f64> = row["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    assert!(
        scores.len() == 3 && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5,
        "{row}"
    );
    let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
    assert_eq!((&row["label"], &row["score"]), (&json!(best), &Value::Null), "{row}");
    let row = answered("m");
    assert_eq!((&row["score"], row.get("label")), (&json!(3.0), None), "{row}");
}

#[test]
fn the_openapi_document_tells_the_data_listeners_routes_from_the_admin_listeners() {
    let gateway = gateway();
    let answer = get(gateway.data, "/openapi.json");
    let document = answer.json();
    assert_eq!((answer.status, &document["openapi"]), (200, &json!("3.1.0")));
    let paths = document["paths"].as_object().unwrap();
    for route in ["/predict", "/models/{model}/predict", "/feedback", "/v2/health/ready"] {
        assert!(paths.contains_key(route), "{route}");
    }
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{model}", "elec2").replace("{version}", "e01_logreg");
            let answer = raw(gateway.data, &request(&method.to_uppercase(), &path, "", b"")).unwrap();
            let is_admin = operation["tags"].as_array().unwrap().contains(&json!("admin"));
            assert_eq!(
                is_admin,
                [404, 405].contains(&answer.status),
                "{method} {path}: {}",
                answer.text()
            );
        }
    }
    // References lead somewhere.
    let text = document.to_string();
    for part in text.split("\"#/").skip(1) {
        let pointer = format!("/{}", part.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}

#[test]
fn a_pin_chooses_champion_previous_or_challenger_and_nobody_else() {
    let (site, gateway) = model_of("e02_tree", "champion = \"e02_tree\"\n");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site.drop_file("elec2", "e07_mlp", &shipped("e07_mlp"));
    gateway.until_role("elec2", "e01_logreg", "challenger");
    gateway.until_role("elec2", "e07_mlp", "challenger");
    until("a runner for each", || {
        let loaded = |v: &str| gateway.predict(&json!({"version": v, "instances": [elec2_row()]})).0 == 200;
        ["e01_logreg", "e07_mlp"].into_iter().all(loaded).then_some(())
    });
    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    for version in ["e01_logreg", "e02_tree", "e07_mlp"] {
        let (rows, scores_expected) = expected(version);
        let answer = ask(&gateway, &rows[..5], &json!({"version": version}));
        assert_eq!(answer["version"], json!(version));
        close(&scores(&answer), &scores_expected[..5], version);
    }
    let body = json!({"model": "elec2", "version": "e99", "instances": [elec2_row()]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!((status, answer["code"].as_str()), (404, Some("unknown_version")));
    for loaded in ["e01_logreg", "e02_tree", "e07_mlp"] {
        assert!(answer["error"].as_str().unwrap().contains(loaded), "{answer}");
    }
    // The settings are read again on change.
    site.model_toml("elec2", "champion = \"e02_tree\"\npins = false\n");
    let refused = until("pins = false", || {
        let (status, answer) = gateway.predict(&json!({"version": "e02_tree", "instances": [elec2_row()]}));
        (status != 200).then_some((status, answer))
    });
    assert_eq!(
        (refused.0, refused.1["code"].as_str()),
        (403, Some("forbidden")),
        "{}",
        refused.1
    );
    ask(&gateway, &[elec2_row()], &json!({}));
}

#[test]
fn pins_can_be_forbidden_for_the_whole_gateway() {
    let site = Site::new("pins = false\n");
    site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    let gateway = site.start().ready();
    let body = json!({"version": "e02_tree", "instances": [elec2_row()]});
    assert_eq!(gateway.predict(&body).0, 403);
}

fn with_deadline(gateway: &Gateway, header: &str, body: &Value) -> (Answer, Duration) {
    let start = Instant::now();
    let bytes = request("POST", "/predict", header, body.to_string().as_bytes());
    let answer = raw(gateway.data, &bytes).unwrap();
    (answer, start.elapsed())
}

#[test]
fn a_deadline_that_is_over_gives_504_or_an_answer_and_never_a_hang() {
    let gateway = gateway();
    let rows: Vec<Value> = vec![elec2_row(); 100];
    let body = json!({"model": "elec2", "instances": rows});
    for header in ["x-dethrone-timeout-ms: 1\r\n", "grpc-timeout: 1m\r\n"] {
        let (answer, took) = with_deadline(&gateway, header, &body);
        assert!([200, 504].contains(&answer.status), "{header}: {}", answer.text());
        if answer.status == 504 {
            assert_eq!(answer.json()["code"], "deadline");
        }
        assert!(took < Duration::from_secs(20), "{header}: {took:?}");
    }
    for header in [
        "x-dethrone-timeout-ms: 0\r\n",
        "grpc-timeout: 1n\r\nx-dethrone-timeout-ms: 60000\r\n",
    ] {
        let quick = json!({"model": "elec2", "instances": [elec2_row()]});
        let (answer, _) = with_deadline(&gateway, header, &quick);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (504, Some("deadline")),
            "{header}"
        );
    }
    let (answer, _) = with_deadline(&gateway, "x-dethrone-timeout-ms: 60000\r\n", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_row_that_lacks_a_feature_is_answered_by_the_previous_champion_if_that_can() {
    let (site, gateway) = model_of("e02_tree", "champion = \"e02_tree\"\n");
    let short = without(&elec2_row(), "day");
    let gap = without(&short, "nswprice");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let body = json!({"instances": [gap]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("missing_feature")),
        "{answer}"
    );
    assert!(answer["error"].as_str().unwrap().contains("nswprice"), "{answer}");

    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    let more = json!({"outputs": ["probabilities"]});
    let answer = ask(&gateway, &[elec2_row(), short.clone(), elec2_row()], &more);
    assert_eq!(answer["version"], "e01_logreg");
    assert_eq!(answer["fallback"], "e02_tree", "{answer}");
    let fallback = |row: usize| answer["predictions"][row]["fallback"].clone();
    assert_eq!(
        (fallback(0), fallback(1), fallback(2)),
        (Value::Null, json!("e02_tree"), Value::Null)
    );
    let alone = ask(&gateway, &[elec2_row()], &json!({"version": "e02_tree"}));
    assert_eq!(answer["predictions"][1]["score"], alone["predictions"][0]["score"]);
    assert_eq!(gateway.metric("dethrone_fallbacks_total{model=\"elec2\"}"), Some(1.0));
    let (status, answer) = gateway.predict(&json!({"instances": [elec2_row(), gap]}));
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("missing_feature")),
        "{answer}"
    );
    assert!(answer["error"].as_str().unwrap().contains("row 1"), "{answer}");
    // A pin is that version or nothing.
    let body = json!({"version": "e01_logreg", "instances": [short]});
    assert_eq!(gateway.predict(&body).1["code"], "missing_feature");
}

const VALUES: &str = "task = \"regression\"\nmetric = \"squared_error\"\nbound = 100.0\n";

#[test]
fn a_champion_that_fails_on_a_row_without_a_previous_one_is_422_no_answer() {
    let site = Site::new("");
    site.model_toml("m", VALUES).drop_file("m", "root", &data("root"));
    let gateway = site.start().ready();
    let (status, answer) = gateway.predict(&json!({"inputs": {"x": [[4, 4, 4], [1, 1, -1]]}}));
    assert_eq!((status, answer["code"].as_str()), (422, Some("no_answer")), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("row 1"), "{answer}");
    let (status, answer) = gateway.predict(&json!({"inputs": {"x": [[4, 4, 4]]}}));
    assert_eq!((status, scores(&answer)), (200, vec![2.0]), "the next request is fine");
    assert_eq!(
        gateway.metric("dethrone_requests_total{route=\"predict\",code=\"422\"}"),
        Some(1.0)
    );
    assert_eq!(
        gateway.metric("dethrone_no_answer_total{model=\"m\"}"),
        Some(1.0),
        "no id was given, so that only this tells"
    );
}

#[test]
fn of_a_batch_only_the_rows_that_the_champion_failed_are_answered_by_the_previous_one() {
    let site = Site::new("");
    site.model_toml("m", &format!("{VALUES}champion = \"mean\"\n"))
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "root", &data("root"));
    let gateway = site.start().ready();
    gateway.until_role("m", "root", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("root")).0, 200);
    let rows = [[4, 4, 4], [3, 3, -3], [9, 9, 9], [-1, -1, -1]];
    let (status, answer) = gateway.predict(&json!({"inputs": {"x": rows}, "outputs": true}));
    assert_eq!(status, 200, "{answer}");
    close(
        &scores(&answer),
        &[2.0, 1.0, 3.0, -1.0],
        "champion and previous by turns",
    );
    for (row, fallback) in [
        (0, Value::Null),
        (1, json!("mean")),
        (2, Value::Null),
        (3, json!("mean")),
    ] {
        assert_eq!(answer["predictions"][row]["fallback"], fallback, "{answer}");
    }
    assert_eq!(gateway.metric("dethrone_fallbacks_total{model=\"m\"}"), Some(2.0));
    let series = "dethrone_request_duration_seconds_count{route=\"predict\",role=\"previous\",outcome=\"ok\"}";
    assert_eq!(gateway.metric(series), Some(1.0));
    until("the rows on disk", || {
        (gateway.view("m")["rows"]["recorded"] == 4).then_some(())
    });
    let failed: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions WHERE fallback_no IS NOT NULL").unwrap();
    assert_eq!(failed, 2);
}

#[test]
fn null_is_a_missing_value_where_the_model_takes_them() {
    let (_site, gateway) = model_of("e02_tree", "missing = \"nan\"\n");
    let mut row = elec2_row();
    row["nswprice"] = Value::Null;
    let answer = ask(&gateway, &[row.clone()], &json!({}));
    assert!((0.0..=1.0).contains(&scores(&answer)[0]), "{answer}");
    let (status, answer) = gateway.predict(&json!({"instances": [without(&row, "nswprice")]}));
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("missing_feature")),
        "an absent key is not a null: {answer}"
    );
    let (_site, strict) = model_of("e02_tree", "");
    let (status, answer) = strict.predict(&json!({"instances": [row]}));
    assert_eq!((status, answer["code"].as_str()), (400, Some("wrong_type")), "{answer}");
}

#[test]
fn the_model_may_be_left_out_when_one_is_served_and_only_then() {
    let site = Site::new("");
    site.drop_file("one", "e02_tree", &shipped("e02_tree"));
    let gateway = site.start().ready();
    let body = json!({"instances": [elec2_row()]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!((status, answer["model"].as_str()), (200, Some("one")), "{answer}");
    site.drop_file("two", "e01_logreg", &shipped("e01_logreg"));
    until("the second model", || {
        (get(gateway.data, "/v2/models/two/ready").status == 200).then_some(())
    });
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("one, two"), "{answer}");
    for (model, version) in [("one", "e02_tree"), ("two", "e01_logreg")] {
        let (status, answer) = gateway.predict(&json!({"model": model, "instances": [elec2_row()]}));
        assert_eq!((status, answer["version"].as_str()), (200, Some(version)), "{answer}");
    }
}

#[test]
fn before_the_first_champion_everything_says_503_and_which_line_to_add() {
    let site = Site::new("");
    let gateway = site.start();
    let answer = get(gateway.data, "/v2/health/ready");
    assert_eq!((answer.status, answer.json()["ready"].as_bool()), (503, Some(false)));
    let live = get(gateway.data, "/v2/health/live");
    assert_eq!((live.status, live.json()["live"].as_bool()), (200, Some(true)));
    assert_eq!(
        gateway.predict(&json!({"instances": [elec2_row()]})).0,
        503,
        "no model at all"
    );

    // Both at once: a lone file would be the first champion.
    site.drop_file(".making", "a", &shipped("e01_logreg"))
        .drop_file(".making", "b", &shipped("e02_tree"));
    std::fs::rename(site.models().join(".making"), site.models().join("elec2")).unwrap();
    let names_the_line = |answer: &Answer| answer.text().contains("champion = ");
    until("the line to add", || {
        names_the_line(&get(gateway.data, "/v2/health/ready")).then_some(())
    });
    let ready = get(gateway.data, "/v2/health/ready");
    assert_eq!((ready.status, ready.json()["code"].as_str()), (503, Some("not_ready")));
    let model = get(gateway.data, "/v2/models/elec2/ready");
    assert_eq!((model.status, model.json()["ready"].as_bool()), (503, Some(false)));
    assert!(names_the_line(&model), "{}", model.text());
    let refused = post(
        gateway.data,
        "/predict",
        &json!({"model": "elec2", "instances": [elec2_row()]}),
    );
    assert_eq!(refused.status, 503);
    assert!(
        names_the_line(&refused) && refused.head.contains("retry-after: "),
        "{}",
        refused.text()
    );
    assert_eq!(get(gateway.data, "/v2/models/nope/ready").status, 404);

    site.model_toml("elec2", "champion = \"b\"\n");
    let gateway = gateway.ready();
    let model = get(gateway.data, "/v2/models/elec2/ready");
    assert_eq!(
        (model.status, model.json()),
        (200, json!({"name": "elec2", "ready": true}))
    );
    assert_eq!(
        get(gateway.data, "/v2/health/ready").json(),
        json!({"live": true, "ready": true})
    );
}

#[test]
fn a_burst_for_a_slow_model_is_refused_beyond_a_few_that_wait_and_holds_nothing_else_up() {
    const BURST: usize = 64;
    let site = Site::new("workers = 1\n");
    site.model_toml(
        "slow",
        "interface = \"tensors\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n",
    )
    .drop_file("slow", "slow", &data("slow"));
    let gateway = site.start().ready();
    let body = json!({"model": "slow", "inputs": {"x": [[0.5, 0.5, 0.5]]}});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    let healthy = |what: &str| {
        let start = Instant::now();
        assert_eq!(get(gateway.data, "/v2/health/live").status, 200, "{what}");
        start.elapsed()
    };
    healthy("before");
    let (answers, slowest) = std::thread::scope(|scope| {
        let start = Instant::now();
        let asked: Vec<_> = (0..BURST)
            .map(|_| scope.spawn(|| post(gateway.data, "/predict", &body)))
            .collect();
        let mut slowest = Duration::ZERO;
        while asked.iter().any(|one| !one.is_finished()) {
            slowest = slowest.max(healthy("during the burst"));
        }
        let answers: Vec<Answer> = asked.into_iter().map(|one| one.join().unwrap()).collect();
        (answers, (slowest, start.elapsed()))
    });
    let (slowest, whole) = slowest;
    assert!(slowest < whole / 2, "health waited {slowest:?} of {whole:?}");
    let refused: Vec<&Answer> = answers.iter().filter(|a| a.status == 429).collect();
    assert!(answers.iter().all(|a| a.status == 200 || a.status == 429));
    assert!(
        !refused.is_empty() && refused.len() < BURST,
        "{} refused",
        refused.len()
    );
    for answer in refused {
        assert_eq!(answer.json()["code"], "overloaded");
        assert!(answer.head.to_lowercase().contains("retry-after:"), "{}", answer.head);
    }
    assert_eq!(gateway.predict(&body).0, 200, "afterwards");
}

#[test]
fn a_model_that_meets_each_with_each_takes_a_request_as_one_row_of_any_two_lengths() {
    let site = Site::new("");
    site.drop_file("cross", "cross", &data("cross"));
    let gateway = site.start().ready();
    let body = json!({"inputs": {"a": [[1, 2], [3, 4]], "b": [[1, 2], [3, 4], [5, 6]]}});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(1), "{answer}");
    let products = json!([[5.0, 11.0, 17.0], [11.0, 25.0, 39.0]]);
    assert_eq!(answer["predictions"][0]["outputs"]["products"], products);
}
