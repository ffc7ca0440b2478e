//! What exporters write, read the way the gateway reads it: one file per habit, see `tests/exports/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "these are tests"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers in the expectations were FP32 before"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dethrone::model::head::{Head, HeadSettings, Link};
use dethrone::model::onnx::{self, Classes};
use dethrone::model::remedy;
use dethrone::model::session::Session;
use dethrone::model::tensor::{Data, Tensor, Text};
use dethrone::score::{Score, Task};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports")
}

fn expected() -> serde_json::Map<String, Json> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What became of a file on its way to scores.
struct Read {
    head: Head,
    scores: Vec<Score>,
    features: Vec<String>,
}

/// Scan, cut, load, probe, find the head, read the scores; rows one by one where the batch is fixed.
fn read(path: &Path, case: &Json) -> Result<Read, String> {
    let bytes = std::fs::read(path).unwrap();
    let scan = onnx::scan(&bytes).map_err(|e| e.0)?;
    for name in &scan.external {
        assert!(
            path.with_file_name(name).is_file(),
            "{name} belongs to {}",
            path.display()
        );
    }
    let session = match onnx::cut_zipmap(&bytes).map_err(|e| e.0)? {
        Some(cut) => {
            let again = onnx::scan(&cut).unwrap();
            assert_eq!(again.classes, scan.classes, "the cut keeps the class names");
            assert!(onnx::cut_zipmap(&cut).unwrap().is_none(), "one cut is enough");
            Session::load_bytes(&cut, 1)
        }
        None => Session::load(path, 1),
    };
    let with_remedy = |e: String| match remedy::remedy(&scan, &e) {
        Some(remedy) => format!("{e}: {remedy}"),
        None => e,
    };
    let mut session = session.map_err(|e| with_remedy(e.0))?;
    let signature = session.signature().clone();
    let inputs: Vec<Tensor> = case["inputs"].as_array().unwrap().iter().map(tensor).collect();
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let rows = inputs[0].rows();
    let step = if signature.has_dynamic_rows() { rows } else { 1 };
    let (mut head, mut scores) = (None, Vec::new());
    for start in (0..rows).step_by(step) {
        let part: Vec<Tensor> = inputs
            .iter()
            .map(|i| i.slice_rows(start, start + step).unwrap())
            .collect();
        let probe = session.run(&part, &all).map_err(|e| e.0)?;
        let head = match &mut head {
            Some(head) => head,
            None => head.insert(Head::find(&signature, &scan, &probe, step, &settings(case))?),
        };
        if head.task.is_none() {
            break;
        }
        let outputs = session.run(&part, head.wanted()).map_err(|e| e.0)?;
        scores.extend(head.read(&outputs, step).into_iter().map(Result::unwrap));
    }
    let features = if signature.is_columns() {
        signature.inputs.iter().map(|input| input.name.clone()).collect()
    } else {
        scan.feature_names().unwrap_or_default()
    };
    Ok(Read {
        head: head.unwrap(),
        scores,
        features,
    })
}

fn settings(case: &Json) -> HeadSettings {
    let of = |key: &str| case["settings"].get(key).cloned();
    HeadSettings {
        task: of("task").map(|task| serde_json::from_value(task).unwrap()),
        link: of("link").map(|link| serde_json::from_value::<Link>(link).unwrap()),
        ..HeadSettings::default()
    }
}

fn tensor(json: &Json) -> Tensor {
    let items = json["data"].as_array().unwrap();
    let number = |item: &Json| item.as_f64().unwrap_or(f64::NAN);
    let data = match json["datatype"].as_str().unwrap() {
        "FP32" => Data::Fp32(items.iter().map(|x| number(x) as f32).collect()),
        "FP64" => Data::Fp64(items.iter().map(number).collect()),
        "BYTES" => {
            let mut text = Text::default();
            assert!(items.iter().all(|item| text.push(item.as_str().unwrap().as_bytes())));
            Data::Bytes(text)
        }
        other => panic!("{other} is not used yet"),
    };
    let shape = json["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| usize::try_from(d.as_u64().unwrap()).unwrap());
    Tensor::new(shape.collect(), data).unwrap()
}

fn numbers(score: &Score) -> Vec<f64> {
    match score {
        Score::Binary(x) | Score::Value(x) => vec![*x],
        Score::Classes(xs) => xs.to_vec(),
    }
}

#[test]
fn every_export_is_scored_as_its_library_does_or_refused_with_the_remedy() {
    for (name, case) in &expected() {
        let got = read(&folder().join(name), case);
        if let Some(piece) = case["refused"].as_str() {
            let why = got.map(|_| ()).expect_err(&format!("{name} must be refused"));
            assert!(why.contains(piece), "{name}: {why}");
            continue;
        }
        let got = got.unwrap_or_else(|why| panic!("{name}: {why}"));
        if let Some(piece) = case["unread"].as_str() {
            let why = got.head.remedy.unwrap_or_default();
            assert!(got.head.task.is_none() && why.contains(piece), "{name}: {why}");
            continue;
        }
        let expected = case["scores"].as_array().unwrap();
        assert_eq!(got.scores.len(), expected.len(), "{name}");
        for (score, expected) in got.scores.iter().zip(expected) {
            let expected = match expected {
                Json::Array(list) => list.iter().map(|x| x.as_f64().unwrap()).collect(),
                one => vec![one.as_f64().unwrap()],
            };
            let got = numbers(score);
            assert_eq!(got.len(), expected.len(), "{name}");
            let close = got
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0));
            assert!(close, "{name}: {got:?}, expected {expected:?}");
        }
        let task = match (case["task"].as_str(), case["classes"].as_array().map(Vec::len)) {
            (Some("regression"), _) => Task::Regression,
            (_, Some(2)) => Task::Binary,
            (_, Some(_)) => Task::Multiclass,
            (_, None) => got.head.task.unwrap(),
        };
        assert_eq!(got.head.task, Some(task), "{name}");
        if let Some(classes) = case.get("classes") {
            let classes: Classes = serde_json::from_value(classes.clone()).unwrap();
            assert_eq!(got.head.classes, Some(classes), "{name}");
        }
        if let Some(features) = case.get("features") {
            assert_eq!(serde_json::json!(got.features), *features, "{name}");
        }
    }
}

#[test]
fn every_file_in_the_folder_has_an_expectation() {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name.contains(".onnx")).collect();
    let mut known = BTreeSet::new();
    for (name, case) in expected() {
        let external = case
            .get("external")
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default();
        known.extend(external.iter().map(|name| name.as_str().unwrap().to_owned()));
        known.insert(name);
    }
    assert_eq!(files, known);
}

/// ONNX Runtime brings an uploader that starts a thread and writes into the cache folder unless it is told not to
/// before it loads. The process here has nothing but what the binary itself sees to.
#[test]
#[cfg(target_os = "linux")]
fn the_runtime_starts_no_thread_opens_no_socket_and_writes_no_file() {
    // LightGBM's exports make ONNX Runtime warn on every run, unless its logger is silent.
    for model in ["sklearn_plain.onnx", "lightgbm.onnx"] {
        let home = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dethrone"));
        command
            .arg("runtime-probe")
            .arg(folder().join(model))
            .current_dir(home.path())
            .env_clear();
        for variable in ["HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"] {
            command.env(variable, home.path());
        }
        if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
            command.env("ORT_DYLIB_PATH", path);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{model}: {errors}");
        let facts: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (facts["threads"].as_u64(), facts["sockets"].as_u64()),
            (Some(1), Some(0)),
            "{facts}"
        );
        let left: Vec<_> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_library_that_is_chosen_and_unusable_is_named_with_the_variable() {
    let home = tempfile::tempdir().unwrap();
    let library = home.path().join("libonnxruntime.so");
    std::fs::write(&library, b"not a library").unwrap();
    let told = |hash: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dethrone"));
        command
            .arg("runtime-probe")
            .arg(folder().join("sklearn_plain.onnx"))
            .env("ORT_DYLIB_PATH", &library)
            .envs(hash.map(|hash| ("DETHRONE_ONNXRUNTIME_SHA256", hash)));
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = told(None);
    let hash = why
        .split("onnxruntime_sha256 = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    assert!(why.contains("ORT_DYLIB_PATH: ") && hash.is_some(), "{why}");
    let why = told(hash);
    assert!(
        why.contains("ORT_DYLIB_PATH: ") && why.contains("is not a library"),
        "{why}"
    );
}
