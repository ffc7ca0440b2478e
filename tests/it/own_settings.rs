//! A version's own threshold and calibration: they go with it, decide what it says and what it loses, and a change of
//! them starts its evidence anew.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::client::post;
use crate::support::{Gateway, Site, onnx, shipped, stream, until};

const RULES: &str = "[label]\nmaturity = \"49 rows\"\nhorizon = \"100000 rows\"\n[policy]\nmode = \"off\"\n";

/// `elec2` with `e01_logreg` as champion.
fn start(metric: &str) -> (Site, Gateway) {
    let site = Site::new("poll = \"200ms\"\n[runner]\nwall_timeout = \"60s\"\n");
    let toml = format!("champion = \"e01_logreg\"\nmetric = \"{metric}\"\n{RULES}");
    site.model_toml("elec2", &toml)
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    (site, gateway)
}

/// A copy of the champion with settings of its own.
fn copy(site: &Site, gateway: &Gateway, name: &str, text: &str) {
    std::fs::write(toml_of(site, name), format!("{text}\n")).unwrap();
    let file = std::fs::read(shipped("e01_logreg")).unwrap();
    site.drop_bytes("elec2", name, &onnx::again(&file, name));
    gateway.until_role("elec2", name, "challenger");
}

fn toml_of(site: &Site, version: &str) -> PathBuf {
    site.models().join(format!("elec2/{version}.toml"))
}

/// Scores and labels of rows in one request, as the champion or `version` gives them.
fn ask(gateway: &Gateway, rows: &[(Value, u8)], version: Option<&str>) -> Vec<(f64, i64)> {
    let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
    let body = json!({"model": "elec2", "instances": instances, "version": version, "shadow": false});
    let answer = until("an answer", || {
        let (status, answer) = gateway.predict(&body);
        (status == 200).then_some(answer)
    });
    let said = |p: &Value| (p["score"].as_f64().unwrap(), p["label"].as_i64().unwrap());
    answer["predictions"].as_array().unwrap().iter().map(said).collect()
}

/// What a version has shown, once so many labels are folded.
fn folded(gateway: &Gateway, version: &str, labels: usize) -> f64 {
    until(&format!("{labels} labels of {version}"), || {
        let evidence = gateway.version("elec2", version)["evidence"].clone();
        (evidence["labels"] == labels).then(|| evidence["mean_difference"].as_f64().unwrap())
    })
}

fn mean(losses: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = losses.collect();
    let count = f64::from(u32::try_from(all.len()).unwrap());
    all.iter().sum::<f64>() / count
}

#[test]
fn a_threshold_goes_with_its_version_and_decides_its_label_and_its_loss() {
    let (site, gateway) = start("zero_one");
    let rows = stream(20_000, 400);
    let scores = ask(&gateway, &rows, None);
    // A threshold that as many rows lie below as above.
    let mut sorted: Vec<f64> = scores.iter().map(|(p, _)| *p).collect();
    sorted.sort_by(f64::total_cmp);
    let own = (sorted[200] * 1e4).round() / 1e4;
    copy(&site, &gateway, "strict", &format!("threshold = {own}"));
    let wrong = |k: usize, threshold: f64| f64::from(u8::from((scores[k].0 >= threshold) != (rows[k].1 == 1)));
    let label = |k: usize, threshold: f64| i64::from(scores[k].0 >= threshold);
    let between = (0..400).find(|&k| label(k, 0.5) != label(k, own)).unwrap();
    let asked = |version| ask(&gateway, &rows[between..=between], version)[0].1;
    assert_eq!(
        (asked(None), asked(Some("strict"))),
        (label(between, 0.5), label(between, own))
    );

    // Of 150 recorded rows the first 100 are closed.
    gateway.feed("elec2", &rows[..150]);
    let by_hand = mean((0..100).map(|k| wrong(k, 0.5) - wrong(k, own)));
    let shown = folded(&gateway, "strict", 100);
    assert!((shown - by_hand).abs() < 1e-9, "{shown}, by hand {by_hand}");
    assert!(by_hand.abs() > 0.01, "the thresholds must matter here: {by_hand}");

    // Crowned, it answers and loses by its own threshold, and the other one by its own.
    assert_eq!(gateway.act("elec2", "promote", Some("strict")).0, 200);
    assert_eq!(asked(None), label(between, own));
    assert_eq!(gateway.version("elec2", "strict")["threshold"], own);
    assert_eq!(gateway.version("elec2", "e01_logreg")["threshold"], 0.5);
    gateway.feed("elec2", &rows[150..300]);
    let by_hand = mean((150..250).map(|k| wrong(k, own) - wrong(k, 0.5)));
    let shown = folded(&gateway, "e01_logreg", 100);
    assert!((shown - by_hand).abs() < 1e-9, "{shown}, by hand {by_hand}");
    let accuracy = gateway.version("elec2", "strict")["display"]["tenure"]["accuracy"].clone();
    let right = mean((150..250).map(|k| 1.0 - wrong(k, own)));
    assert!(
        (accuracy.as_f64().unwrap() - right).abs() < 1e-9,
        "{accuracy}, by hand {right}"
    );

    // Another threshold of the champion is another champion's loss: all evidence starts anew.
    std::fs::write(toml_of(&site, "strict"), "threshold = 0.5\n").unwrap();
    folded(&gateway, "e01_logreg", 0);
    assert_eq!(asked(None), label(between, 0.5));
    gateway.feed("elec2", &rows[300..396]);
    assert!(
        folded(&gateway, "e01_logreg", 96).abs() < 1e-12,
        "now they are the same"
    );
    gateway.kill();
    let gateway = site.start().ready();
    folded(&gateway, "e01_logreg", 96);
}

fn platt(p: f64, a: f64, b: f64) -> f64 {
    1.0 / (1.0 + (-(a * (p / (1.0 - p)).ln() + b)).exp())
}

#[test]
fn a_calibration_goes_with_its_version_wherever_its_score_is_read() {
    let calibrated = "calibration = { kind = \"platt\", a = 0.5, b = 0.4 }";
    let (site, gateway) = start("brier");
    copy(&site, &gateway, "calm", calibrated);
    copy(&site, &gateway, "plain", "");
    let rows = stream(20_000, 220);
    let raw = ask(&gateway, &rows, None);
    for ((p, _), (q, label)) in raw.iter().zip(ask(&gateway, &rows[..50], Some("calm"))) {
        let by_hand = platt(*p, 0.5, 0.4);
        assert!(
            (q - by_hand).abs() < 1e-9 && label == i64::from(q >= 0.5),
            "{p}: {q}, by hand {by_hand}"
        );
    }
    let brier = |k: usize, p: f64| (p - f64::from(rows[k].1)).powi(2);
    gateway.feed("elec2", &rows[..110]);
    let by_hand = mean((0..60).map(|k| brier(k, raw[k].0) - brier(k, platt(raw[k].0, 0.5, 0.4))));
    let shown = folded(&gateway, "calm", 60);
    assert!(
        (shown - by_hand).abs() < 1e-9,
        "in shadow too: {shown}, by hand {by_hand}"
    );
    assert!(folded(&gateway, "plain", 60).abs() < 1e-12);

    // Another calibration is another version to the judge; nobody else's evidence is touched.
    let write = |text: &str| std::fs::write(toml_of(&site, "calm"), format!("{text}\n")).unwrap();
    write("calibration = { kind = \"isotonic\", x = [0.0, 1.0], y = [0.2, 0.7] }");
    folded(&gateway, "calm", 0);
    folded(&gateway, "plain", 60);
    assert_eq!(gateway.version("elec2", "calm")["calibrated"], true);
    assert_eq!(gateway.version("elec2", "plain")["calibrated"], false);
    let isotonic = |p: f64| 0.2 + 0.5 * p;
    until("it is read in the new way", || {
        let now = ask(&gateway, &rows[..1], Some("calm"))[0].0;
        ((now - isotonic(raw[0].0)).abs() < 1e-9).then_some(())
    });
    gateway.feed("elec2", &rows[110..190]);
    folded(&gateway, "plain", 140);
    // Rows up to the 110th were scored in the old way.
    let by_hand = mean((110..140).map(|k| brier(k, raw[k].0) - brier(k, isotonic(raw[k].0))));
    let shown = folded(&gateway, "calm", 30);
    assert!((shown - by_hand).abs() < 1e-9, "{shown}, by hand {by_hand}");

    // A faulty edit leaves what was in force, also over a restart.
    write("calibration = { kind = \"temperature\", t = 0.0 }");
    until("the fault is shown", || {
        let fault = gateway.version("elec2", "calm")["settings_error"].clone();
        fault.as_str().is_some_and(|f| f.contains("above 0")).then_some(())
    });
    gateway.kill();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "calm", "challenger");
    folded(&gateway, "calm", 30);
    assert!((ask(&gateway, &rows[..1], Some("calm"))[0].0 - isotonic(raw[0].0)).abs() < 1e-9);

    // Crowned, it answers through it, over the Open Inference Protocol too.
    assert_eq!(gateway.act("elec2", "promote", Some("calm")).0, 200);
    assert!((ask(&gateway, &rows[..1], None)[0].0 - isotonic(raw[0].0)).abs() < 1e-9);
    let tensor = |(name, cell): (&String, &Value)| match cell {
        Value::String(_) => json!({"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [cell]}),
        _ => json!({"name": name, "shape": [1, 1], "datatype": "FP32", "data": [cell]}),
    };
    let inputs: Vec<Value> = rows[0].0.as_object().unwrap().iter().map(tensor).collect();
    let answer = post(gateway.data, "/v2/models/elec2/infer", &json!({"inputs": inputs}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outputs = answer.json()["outputs"].clone();
    let of = |name: &str| {
        let all = outputs.as_array().unwrap();
        all.iter().find(|o| o["name"] == name).unwrap()["data"].clone()
    };
    let close = |x: &Value| (x.as_f64().unwrap() - isotonic(raw[0].0)).abs() < 1e-6;
    assert!(close(&of("score")[0]) && close(&of("probabilities")[1]), "{outputs}");
}

#[test]
fn a_calibration_that_does_not_fit_is_refused_with_what_fits() {
    let (site, gateway) = start("brier");
    let three = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_zipmap_three.onnx");
    std::fs::create_dir(site.models().join("three")).unwrap();
    let toml = "calibration = { kind = \"platt\", a = 1.0, b = 0.0 }\n";
    std::fs::write(site.models().join("three/many.toml"), toml).unwrap();
    site.drop_file("three", "many", &three);
    let entry = until("a refusal", || {
        let entry = gateway.version("three", "many");
        (entry["role"] == "rejected").then_some(entry)
    });
    assert!(
        entry["reason"].as_str().unwrap().contains("kind = \"temperature\""),
        "{entry}"
    );
}

#[test]
fn figures_stand_beside_the_metric_that_decides_and_come_back_after_a_restart() {
    let (site, gateway) = start("brier");
    copy(&site, &gateway, "plain", "");
    let rows = stream(20_000, 250);
    let scores = ask(&gateway, &rows, None);
    gateway.feed("elec2", &rows);
    folded(&gateway, "plain", 200);
    let right = mean((0..200).map(|k| f64::from(u8::from((scores[k].0 >= 0.5) == (rows[k].1 == 1)))));
    let check = |gateway: &Gateway| {
        for version in ["e01_logreg", "plain"] {
            let shown = gateway.version("elec2", version)["display"].clone();
            for span in ["tenure", "window"] {
                let figures = &shown[span];
                assert_eq!(
                    (&figures["labels"], &figures["since_row"]),
                    (&json!(200), &json!(1)),
                    "{shown}"
                );
                assert!((figures["accuracy"].as_f64().unwrap() - right).abs() < 1e-9, "{shown}");
                for key in ["auc", "log_loss", "calibration_error"] {
                    assert!(figures[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {shown}");
                }
            }
            assert!(shown["note"].as_str().unwrap().contains("decides nothing"), "{shown}");
        }
    };
    check(&gateway);
    gateway.kill();
    let gateway = site.start().ready();
    folded(&gateway, "plain", 200);
    check(&gateway);
    let program = env!("CARGO_BIN_EXE_dethrone");
    let table = std::process::Command::new(program)
        .args(["status", "--admin", &format!("http://{}", gateway.admin)])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains("accuracy") && table.contains("deciding nothing"),
        "{table}"
    );
    assert!(table.contains(&format!("{right:.4}")), "{table}");
}
