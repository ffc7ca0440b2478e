//! What exporters write is not only served but judged: each habit as champion, with a copy of itself as challenger, which
//! must be scored in shadow as it is served, so that no difference is found.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, Site, onnx, until};

/// A model: its file (`None`: made here), its settings, the labels of its four rows, and which figure is shown.
struct Case {
    model: &'static str,
    file: Option<&'static str>,
    settings: &'static str,
    labels: [Value; 4],
    figure: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |model, file, settings, labels: [Value; 4], figure| Case {
        model,
        file,
        settings,
        labels,
        figure,
    };
    let numbers = || [json!(0), json!(1), json!(1), json!(0)];
    let words = || [json!("UP"), json!("DOWN"), json!("UP"), json!("DOWN")];
    let three = || [json!(0), json!(1), json!(2), json!(1)];
    vec![
        case("map_of_words", Some("sklearn_zipmap_text"), "", words(), "auc"),
        case(
            "map_of_numbers",
            Some("catboost"),
            "missing = \"nan\"\n",
            numbers(),
            "auc",
        ),
        case(
            "tensor",
            Some("xgboost_three"),
            "missing = \"nan\"\n",
            three(),
            "log_loss",
        ),
        case("output_per_class", Some("sklearn_columns"), "", three(), "log_loss"),
        case(
            "sigmoid_column",
            Some("torch_sigmoid"),
            "task = \"binary\"\n",
            numbers(),
            "auc",
        ),
        case(
            "margin",
            Some("sklearn_linear_svc_logit"),
            "link = \"logit\"\n",
            numbers(),
            "auc",
        ),
        case(
            "logits",
            Some("torch_logits_softmax"),
            "link = \"softmax\"\n",
            three(),
            "calibration_error",
        ),
        case(
            "value",
            Some("sklearn_regressor"),
            "metric = \"pinball\"\nquantile = 0.9\nbound = 10.0\n",
            [json!(1.5), json!(2.5), json!(0.0), json!(4.0)],
            "rmse",
        ),
        case(
            "one_of_several_values",
            Some("sklearn_regressor_two"),
            "score_output = \"variable[1]\"\nmetric = \"squared_error\"\nbound = 100.0\n",
            [json!(1.5), json!(2.5), json!(0.0), json!(4.0)],
            "mae",
        ),
        case(
            "labels_only",
            None,
            "metric = \"cost\"\ncost = [[0, 1], [5, 0]]\n",
            numbers(),
            "accuracy",
        ),
    ]
}

fn bytes(case: &Case) -> Vec<u8> {
    match case.file {
        Some(file) => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports");
            std::fs::read(folder.join(format!("{file}.onnx"))).unwrap()
        }
        None => onnx::label_only(),
    }
}

fn rows(case: &Case) -> Value {
    if case.file.is_none() {
        return json!([[0.1, 0.9], [0.3, 0.2], [0.4, 0.6], [0.5, 0.1]]);
    }
    json!([[0.1, 0.2, 0.3], [1.5, -0.5, 0.0], [-0.3, 0.8, 1.0], [0.0, 0.0, 2.0]])
}

/// Forty rows, labelled in turn.
fn feed(gateway: &Gateway, case: &Case) {
    let view = gateway.view(case.model);
    let input = view["interface"]["inputs"]["signature"]["inputs"][0]["name"].clone();
    let name = input.as_str().unwrap_or_else(|| panic!("{view}"));
    for _ in 0..10 {
        let (status, answer) = gateway.predict(&json!({"model": case.model, "inputs": {name: rows(case)}}));
        assert_eq!(status, 200, "{}: {answer}", case.model);
        let predictions = answer["predictions"].as_array().unwrap();
        let labels: Vec<(&str, Value)> = predictions
            .iter()
            .zip(&case.labels)
            .map(|(p, label)| (p["id"].as_str().unwrap(), label.clone()))
            .collect();
        let statuses = gateway.label(case.model, &labels);
        assert!(statuses.iter().all(|s| s == "accepted"), "{}: {statuses:?}", case.model);
    }
}

#[test]
fn every_habit_of_exporters_is_judged_in_shadow_as_it_is_served() {
    let site = Site::new("settle_ms = 100\npoll = \"200ms\"\n[runner]\nwall_timeout = \"60s\"\n");
    let cases = cases();
    for case in &cases {
        let rules =
            "champion = \"one\"\ninterface = \"tensors\"\n[label]\nmaturity = \"4 rows\"\n[policy]\nmode = \"off\"\n";
        site.model_toml(case.model, &format!("{}{rules}", case.settings));
        site.drop_bytes(case.model, "one", &bytes(case));
    }
    let gateway = site.start().ready();
    for case in &cases {
        gateway.until_role(case.model, "one", "champion");
        site.drop_bytes(case.model, "copy", &onnx::again(&bytes(case), "copy"));
    }
    for case in &cases {
        let entry = until(&format!("{} to be shadowed", case.model), || {
            let entry = gateway.version(case.model, "copy");
            (entry["role"] == "challenger" || entry["role"] == "rejected").then_some(entry)
        });
        assert_eq!(entry["role"], "challenger", "{}: {entry}", case.model);
        feed(&gateway, case);
    }
    for case in &cases {
        let entry = until(&format!("{} to be judged", case.model), || {
            let entry = gateway.version(case.model, "copy");
            (entry["evidence"]["labels"] == 35).then_some(entry)
        });
        let evidence = &entry["evidence"];
        assert_eq!(
            (&evidence["mean_difference"], &evidence["failed"]),
            (&json!(0.0), &json!(0)),
            "{entry}"
        );
        let shown = &entry["display"]["window"];
        assert_eq!(shown["labels"], 35, "{entry}");
        assert!(shown[case.figure].is_number(), "{}: {shown}", case.model);
    }
    // A label without a score is a score of 0 or 1, and costs what the matrix says.
    let (_, answer) = gateway.predict(&json!({"model": "labels_only", "inputs": {"x": rows(&cases[9])}}));
    let said: Vec<(f64, i64)> = answer["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["score"].as_f64().unwrap(), p["label"].as_i64().unwrap()))
        .collect();
    assert_eq!(said, [(1.0, 1), (0.0, 0), (1.0, 1), (0.0, 0)]);
}
