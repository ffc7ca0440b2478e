//! `dethrone check` says offline what the gateway says live.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{elec2, shipped};

fn check(arguments: &[&Path], temporary: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    command.arg("check").args(arguments).env("TMPDIR", temporary);
    command.output().unwrap()
}

fn exports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports")
}

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_export_and_every_reject_is_judged_offline_as_it_is_live() {
    let temporary = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(exports().join("expected.json")).unwrap();
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (file, case) in &cases {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = String::new();
        for (key, value) in case["settings"].as_object().into_iter().flatten() {
            settings += &format!("{key} = {value}\n");
        }
        std::fs::write(directory.path().join("model.toml"), settings).unwrap();
        let path = exports().join(file);
        let output = check(
            &[&path, Path::new("--model"), directory.path(), Path::new("--json")],
            temporary.path(),
        );
        let said = json_of(&output);
        match case["refused"].as_str() {
            Some(piece) => {
                let reason = said["reason"].as_str().unwrap_or_default().to_lowercase();
                assert_eq!(
                    (output.status.code(), &said["accepted"]),
                    (Some(1), &Value::Bool(false)),
                    "{file}: {said}"
                );
                assert!(reason.contains(&piece.to_lowercase()), "{file}: {reason}");
                // The same words for people, on standard error.
                let error = String::from_utf8_lossy(&output.stderr).to_lowercase();
                assert!(error.contains(&piece.to_lowercase()), "{file}: {error}");
            }
            None => {
                assert_eq!(
                    (output.status.code(), &said["accepted"]),
                    (Some(0), &Value::Bool(true)),
                    "{file}: {said}"
                );
                let measured = |key: &str| said[key].as_u64().unwrap_or_default();
                assert!(
                    measured("latency_us_p50") > 0 && measured("memory_bytes") > 1 << 20,
                    "{file}: {said}"
                );
                assert_eq!(said["sandbox"]["lacks"], serde_json::json!([]), "{file}: {said}");
                let unread = case["unread"].as_str().unwrap_or_default();
                assert!(
                    said["advice"].to_string().replace('\\', "").contains(unread),
                    "{file}: {said}"
                );
                assert!(
                    output.stderr.is_empty(),
                    "{file}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?} stayed in the temporary directory");
}

#[test]
fn the_shipped_models_fit_the_shipped_champion_and_the_rejects_do_not() {
    let temporary = tempfile::tempdir().unwrap();
    let judge = |file: &Path| {
        let model = elec2();
        let output = check(
            &[file, Path::new("--model"), &model, Path::new("--json")],
            temporary.path(),
        );
        let said = json_of(&output);
        (
            output.status.code(),
            said["reason"].as_str().unwrap_or_default().to_owned(),
            said["role"].clone(),
        )
    };
    let later = [
        "e02_tree",
        "e03_demand_only",
        "e04_shuffled",
        "e05_forest",
        "e06_flipped",
        "e07_mlp",
        "e08_lgbm",
        "e09_recent",
        "e10_boosted_all",
        "e12_logreg_new",
    ];
    for name in later {
        let (code, reason, _) = judge(&shipped(name));
        assert_eq!(code, Some(0), "{name}: {reason}");
    }
    assert_eq!(judge(&shipped("e01_logreg")).0, Some(0));
    // Only the rows can tell whether a new feature is there: both name theirs.
    let (code, reason, _) = judge(&shipped("e11_date_overfit"));
    assert!(
        code == Some(1) && reason.contains("'date'") && reason.contains("once rows carry"),
        "{reason}"
    );
    for (name, piece) in [
        ("empty", "empty"),
        ("not_a_model", "text"),
        ("truncated", "truncated"),
        ("unknown_column", "feature '"),
    ] {
        let (code, reason, _) = judge(&elec2().join(format!("stream/rejects/{name}.onnx")));
        assert!(code == Some(1) && reason.contains(piece), "{name}: {reason}");
    }
}

#[test]
fn settings_that_do_not_fit_the_file_are_said_and_misuse_has_its_own_code() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let plain = exports().join("sklearn_plain.onnx");
    let judge = |settings: &str| {
        std::fs::write(directory.path().join("model.toml"), settings).unwrap();
        let output = check(&[&plain, Path::new("--model"), directory.path()], temporary.path());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, why) = judge("features = [\"a\", \"b\"]\n");
    assert!(code == Some(1) && why.contains("2 names"), "{why}");
    let (code, why) = judge("interface = \"features\"\n");
    assert!(code == Some(1) && why.contains("features = ["), "{why}");
    let (code, why) = judge("feature = [\"a\"]\n");
    assert!(code == Some(1) && why.contains("features"), "{why}");
    let (code, why) = judge("features = [\"a\", \"b\", \"c\"]\n");
    assert_eq!(code, Some(0), "{why}");
    assert_eq!(check(&[], temporary.path()).status.code(), Some(64));
    assert_eq!(
        check(&[&plain, Path::new("--nothing")], temporary.path()).status.code(),
        Some(64)
    );
    let output = check(&[Path::new("nowhere.onnx")], temporary.path());
    assert_eq!(output.status.code(), Some(1));
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "something stayed in the temporary directory");
}

#[test]
fn what_stands_beside_a_file_or_keeps_it_from_the_crown_is_said() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let alone = directory.path().join("torch_external.onnx");
    std::fs::copy(exports().join("torch_external.onnx"), &alone).unwrap();
    let said = |arguments: &[&Path]| {
        let output = check(arguments, temporary.path());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, why) = said(&[&alone]);
    assert!(
        code == Some(1) && why.contains("torch_external.onnx.data is not there"),
        "{why}"
    );
    let fixed = exports().join("torch_logits_fixed_batch.onnx");
    let (code, text) = said(&[&fixed]);
    assert!(
        code == Some(0) && text.contains("row by row") && text.contains("link = \"softmax\""),
        "{text}"
    );
    let div = crate::support::data("div");
    let (code, why) = said(&[&div]);
    assert!(
        code == Some(0) && why.contains("Div of integers") && why.contains("in processes of its own"),
        "{why}"
    );
}

#[test]
fn what_says_nothing_of_the_file_has_another_exit_code_than_a_refusal() {
    let temporary = tempfile::tempdir().unwrap();
    let plain = exports().join("sklearn_plain.onnx");
    let models = elec2().parent().unwrap().to_owned();
    for (model, says) in [
        (temporary.path().join("nowhere"), "does not exist"),
        (plain.clone(), "is a file"),
        (models, "models are"),
    ] {
        let output = check(
            &[&plain, Path::new("--model"), &model, Path::new("--json")],
            temporary.path(),
        );
        let (code, said) = (output.status.code(), json_of(&output));
        assert!(code == Some(64) && said["accepted"].is_null(), "{said}");
        assert!(said["error"].as_str().unwrap().contains(says), "{said}");
    }
    for command in [&["check", "x.onnx"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let mut without = Command::new(env!("CARGO_BIN_EXE_dethrone"));
        let output = without
            .args(command)
            .current_dir(temporary.path())
            .env("ORT_DYLIB_PATH", "/nonexistent.so");
        let output = output.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{error}");
        for piece in ["/nonexistent.so does not exist", "pip install", "unset it"] {
            assert!(error.contains(piece), "{error}");
        }
    }
}

#[test]
fn with_several_versions_and_none_named_a_file_is_checked_against_them() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for name in ["e01_logreg", "e05_forest"] {
        std::fs::copy(shipped(name), directory.path().join(format!("{name}.onnx"))).unwrap();
    }
    let judge = |file: &Path| {
        let output = check(
            &[file, Path::new("--model"), directory.path(), Path::new("--json")],
            temporary.path(),
        );
        (output.status.code(), json_of(&output))
    };
    let (code, said) = judge(&shipped("e02_tree"));
    assert_eq!((code, &said["role"]), (Some(0), &Value::from("challenger")), "{said}");
    assert!(said["advice"].to_string().contains("e01_logreg"), "{said}");
    let (code, said) = judge(&elec2().join("stream/rejects/unknown_column.onnx"));
    assert!(
        code == Some(1) && said["reason"].as_str().unwrap().contains("fits none"),
        "{said}"
    );
    assert!(
        said["producer"].as_str().is_some_and(|p| !p.is_empty()),
        "who made it is said of a refused file too: {said}"
    );
}

#[test]
fn a_model_of_any_shape_is_accepted_and_one_without_a_tensor_to_give_is_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let batched = [
        ("echo", true),
        ("words", true),
        ("image", true),
        ("photo", true),
        ("tokens", true),
        ("scalar", false),
        ("cross", false),
    ];
    for (model, expected) in batched {
        let output = check(&[&crate::support::data(model), Path::new("--json")], temporary.path());
        let said = json_of(&output);
        assert_eq!(said["accepted"], Value::Bool(true), "{model}: {said}");
        assert_eq!(said["batched"], Value::Bool(expected), "{model}: {said}");
    }
    for (model, named) in [
        ("sequence", "pair is a sequence"),
        ("optional", "perhaps is an optional"),
    ] {
        let output = check(&[&crate::support::data(model), Path::new("--json")], temporary.path());
        let said = json_of(&output);
        assert_eq!(output.status.code(), Some(1), "{model}: {said}");
        assert!(said["reason"].as_str().unwrap().contains(named), "{model}: {said}");
    }
}
