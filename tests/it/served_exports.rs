//! Every file that exporters write is served at the first try, or says at once why not and what to do.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::support::{Gateway, Site, client, until};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports")
}

fn expected() -> Map<String, Value> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The directory of a model that holds this file alone, and the settings that the table of habits names for it.
fn model(file: &str) -> String {
    file.trim_end_matches(".onnx").to_owned()
}

fn has_missing(case: &Value) -> bool {
    let inputs = case["inputs"].as_array().unwrap();
    inputs
        .iter()
        .any(|i| i["data"].as_array().unwrap().iter().any(Value::is_null))
}

fn settings(case: &Value) -> String {
    let mut lines = String::new();
    for (key, value) in case["settings"].as_object().into_iter().flatten() {
        lines += &format!("{key} = {value}\n");
    }
    if has_missing(case) {
        lines += "missing = \"nan\"\n";
    }
    lines
}

/// The file, with the weights beside it where they stand in another file.
fn drop_export(site: &Site, model: &str, file: &str) {
    let directory = site.models().join(model);
    std::fs::create_dir_all(&directory).unwrap();
    let weights = folder().join(format!("{file}.data"));
    if weights.exists() {
        std::fs::copy(weights, directory.join(format!("{file}.data"))).unwrap();
    }
    std::fs::copy(folder().join(file), directory.join(file)).unwrap();
}

/// Rows `from..to` of an input, as nested lists.
fn rows(input: &Value, from: usize, to: usize) -> Value {
    let width = usize::try_from(input["shape"][1].as_u64().unwrap()).unwrap();
    let data = input["data"].as_array().unwrap();
    data.chunks(width)
        .skip(from)
        .take(to - from)
        .map(|row| json!(row))
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().map(|x| x.as_f64().unwrap()).collect(),
        one => vec![one.as_f64().unwrap()],
    }
}

/// The request for rows `from..to` in the spelling that the model's interface asks for.
fn request(view: &Value, case: &Value, from: usize, to: usize) -> Value {
    let inputs = case["inputs"].as_array().unwrap();
    let interface = &view["interface"]["inputs"];
    if interface["kind"] == "features" {
        let names: Vec<&str> = interface["features"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["name"].as_str().unwrap())
            .collect();
        let instance = |row: usize| -> Value {
            let cell = |(name, input): (&&str, &Value)| ((*name).to_owned(), input["data"][row].clone());
            Value::Object(names.iter().zip(inputs).map(cell).collect())
        };
        return json!({"model": view["model"], "instances": (from..to).map(instance).collect::<Vec<_>>()});
    }
    let name = interface["signature"]["inputs"][0]["name"].as_str().unwrap();
    json!({"model": view["model"], "inputs": {name: rows(&inputs[0], from, to)}})
}

fn check_scores(gateway: &Gateway, file: &str, case: &Value, version: Option<&str>) {
    let view = gateway.view(&model(file));
    let expected = case["scores"].as_array().unwrap();
    // All at once, also where the file runs one row at a time; and one alone.
    for (from, step) in [(0, expected.len()), (expected.len() - 1, 1)] {
        let mut body = request(&view, case, from, from + step);
        body["version"] = json!(version);
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200, "{file}: {answer}");
        let predictions = answer["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), step, "{file}");
        for (prediction, expected) in predictions.iter().zip(&expected[from..]) {
            let got = prediction.get("score").or_else(|| prediction.get("scores"));
            let got = numbers(got.unwrap_or_else(|| panic!("{file}: {answer}")));
            let expected = numbers(expected);
            assert_eq!(got.len(), expected.len(), "{file}: {answer}");
            let close = got
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0));
            assert!(close, "{file}: {got:?}, expected {expected:?}");
        }
    }
}

#[test]
fn every_export_is_served_at_the_first_try_or_refused_with_the_remedy() {
    let site = Site::new("settle_ms = 100\npoll = \"200ms\"\n");
    let cases = expected();
    for (file, case) in &cases {
        let settings = settings(case);
        if !settings.is_empty() {
            site.model_toml(&model(file), &settings);
        }
        drop_export(&site, &model(file), file);
    }
    let gateway = site.start().ready();
    for (file, case) in &cases {
        let name = model(file);
        let view = until(&format!("{file} to be judged"), || {
            let view = gateway.view(&name);
            let role = view["versions"][0]["role"].as_str()?.to_owned();
            // It is recorded as champion a moment before it answers.
            (role == "champion" && view["ready"] == true || role == "rejected").then_some(view)
        });
        let version = &view["versions"][0];
        let reason = version["reason"].as_str().unwrap_or_default().to_lowercase();
        if let Some(piece) = case["refused"].as_str() {
            assert_eq!(version["role"], "rejected", "{file}");
            assert!(reason.contains(&piece.to_lowercase()), "{file}: {reason}");
            assert_eq!(
                client::get(gateway.data, &format!("/v2/models/{name}/ready")).status,
                503,
                "{file}"
            );
            continue;
        }
        assert_eq!(version["role"], "champion", "{file}: {reason}");
        if let Some(piece) = case["unread"].as_str() {
            let why = view["mode_reason"].as_str().unwrap_or_default();
            assert!(why.contains(piece), "{file}: {why}");
            continue;
        }
        check_scores(&gateway, file, case, None);
    }
    // Raw outputs by name beside the score, where they are asked for.
    let case = &cases["sklearn_plain.onnx"];
    let mut body = request(&gateway.view("sklearn_plain"), case, 0, 4);
    body["outputs"] = json!(true);
    let (_, answer) = gateway.predict(&body);
    assert!(
        answer["predictions"][0]["outputs"]["probabilities"].is_array(),
        "{answer}"
    );
}

#[test]
fn exports_of_one_problem_meet_as_champion_and_challenger_whatever_their_habit() {
    let site = Site::new("settle_ms = 100\npoll = \"200ms\"\n");
    let cases = expected();
    let pairs = [
        (
            "sklearn_zipmap_int.onnx",
            "sklearn_linear_svc_logit.onnx",
            "features = [\"a\", \"b\", \"c\"]\n",
        ),
        (
            "sklearn_zipmap_int.onnx",
            "sklearn_plain.onnx",
            "features = [\"a\", \"b\", \"c\"]\n",
        ),
        (
            "sklearn_plain.onnx",
            "xgboost.onnx",
            "features = [\"a\", \"b\", \"c\"]\nmissing = \"nan\"\n",
        ),
        (
            "xgboost.onnx",
            "catboost.onnx",
            "features = [\"a\", \"b\", \"c\"]\nmissing = \"nan\"\n",
        ),
        (
            "catboost.onnx",
            "sklearn_double_forest.onnx",
            "features = [\"a\", \"b\", \"c\"]\nmissing = \"nan\"\n",
        ),
        (
            "sklearn_double_forest.onnx",
            "lightgbm_zipmap.onnx",
            "features = [\"a\", \"b\", \"c\"]\nmissing = \"nan\"\n",
        ),
    ];
    for (k, (champion, challenger, toml)) in pairs.iter().enumerate() {
        let name = format!("pair{k}");
        site.model_toml(&name, &format!("champion = \"{}\"\n{toml}", model(champion)));
        drop_export(&site, &name, champion);
        drop_export(&site, &name, challenger);
    }
    let gateway = site.start().ready();
    for (k, (champion, challenger, _)) in pairs.iter().enumerate() {
        let name = format!("pair{k}");
        let entry = until(&format!("{challenger} to be judged"), || {
            let entry = gateway.version(&name, &model(challenger));
            (entry["role"] == "challenger" || entry["role"] == "rejected").then_some(entry)
        });
        if challenger.contains("logit") {
            // A margin needs the model's own settings to be read: it says so instead of being scored wrongly.
            assert!(
                entry["reason"]
                    .as_str()
                    .unwrap_or_default()
                    .contains("link = \"logit\""),
                "{entry}"
            );
            continue;
        }
        assert_eq!(entry["role"], "challenger", "{entry}");
        for (file, version) in [(champion, None), (challenger, Some(model(challenger)))] {
            let case = &cases[*file];
            let rows = rows(&case["inputs"][0], 0, 4);
            let body = json!({"model": name, "instances": rows, "version": version});
            // It is recorded as challenger a moment before it can be asked.
            let answer = until(&format!("{file} to answer"), || {
                let (status, answer) = gateway.predict(&body);
                assert!(status == 200 || answer["code"] == "not_ready", "{file}: {answer}");
                (status == 200).then_some(answer)
            });
            for (prediction, expected) in answer["predictions"]
                .as_array()
                .unwrap()
                .iter()
                .zip(case["scores"].as_array().unwrap())
            {
                let (got, expected) = (prediction["score"].as_f64().unwrap(), expected.as_f64().unwrap());
                assert!((got - expected).abs() <= 1e-6, "{file}: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn a_pytorch_export_of_logits_answers_at_once_and_one_line_makes_scores_of_them() {
    let site = Site::new("settle_ms = 100\npoll = \"200ms\"\n");
    let cases = expected();
    let files = ["torch_logits_softmax.onnx", "torch_logits_fixed_batch_softmax.onnx"];
    files.iter().for_each(|file| drop_export(&site, &model(file), file));
    let gateway = site.start().ready();
    for file in files {
        let (name, case) = (model(file), &cases[file]);
        until("it answers", || (gateway.view(&name)["ready"] == true).then_some(()));
        let body = request(&gateway.view(&name), case, 0, 4);
        let (status, answer) = gateway.predict(&body);
        let first = &answer["predictions"][0];
        assert!(
            status == 200 && first["outputs"].is_object() && first.get("scores").is_none(),
            "{answer}"
        );
        let view = gateway.view(&name);
        let why = view["mode_reason"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains("link = \"softmax\""), "{view}");
        site.model_toml(&name, "link = \"softmax\"\n");
        until("the line is read", || {
            assert_eq!(gateway.view(&name)["settings_error"], Value::Null);
            let (_, answer) = gateway.predict(&body);
            answer["predictions"][0]["scores"].is_array().then_some(())
        });
        assert_eq!(gateway.view(&name)["policy"]["mode"], "auto");
        check_scores(&gateway, file, case, None);
    }
    // Rows of a file that runs one at a time, over the Open Inference Protocol.
    let name = model(files[1]);
    let data = &cases[files[1]]["inputs"][0]["data"];
    let input = json!({"name": "x", "datatype": "FP32", "shape": [4, 3], "data": data});
    let input = {
        let view = gateway.view(&name);
        let mut input = input;
        input["name"] = view["interface"]["inputs"]["signature"]["inputs"][0]["name"].clone();
        input
    };
    let answer = client::post(
        gateway.data,
        &format!("/v2/models/{name}/infer"),
        &json!({"inputs": [input]}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["outputs"][0]["shape"], json!([4, 3]));
    // What was learned stays, also after a restart.
    gateway.kill();
    let gateway = site.start().ready();
    for file in files {
        until("it answers", || {
            (gateway.view(&model(file))["ready"] == true).then_some(())
        });
        check_scores(&gateway, file, &cases[file], None);
    }
}
