//! The clients that people already have, unchanged, against a real gateway: NVIDIA's, MLServer's, KServe's, and NVIDIA's
//! load generator. What each of them checks stands in its script under `tests/clients`; one line of JSON per check.
//!
//! The clients come from the Python package index by `pip`, pinned by hash, once per target directory.

mod environment;
mod perf_analyzer;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use self::environment::environment;
use crate::support::client::get;
use crate::support::{Gateway, Site, data, shipped, until};

/// The models that the scripts know.
const MODELS: [&str; 9] = [
    "mean", "echo", "words", "image", "photo", "tokens", "scalar", "cross", "single",
];

/// A gateway with [`MODELS`], `tree` (boosted trees that take missing numbers) and `elec2` with two versions.
fn gateway() -> (Site, Gateway) {
    let site = Site::new("");
    for model in MODELS {
        site.drop_file(model, model, &data(model));
    }
    let exports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports");
    site.drop_file("tree", "tree", &exports.join("xgboost.onnx"));
    site.model_toml("elec2", "champion = \"e01_logreg\"\n");
    for version in ["e01_logreg", "e02_tree"] {
        site.drop_file("elec2", version, &shipped(version));
    }
    let gateway = site.start().ready();
    for model in MODELS.into_iter().chain(["tree", "elec2", "elec2/versions/e02_tree"]) {
        until(model, || {
            (get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    (site, gateway)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs a script against a gateway of its own; `layers` are the environments that it needs. Fails with every failed
/// check, and when there was none at all.
fn passes(script: &str, layers: &[&str], more: &[&str]) {
    let (site, gateway) = gateway();
    let python = environment::python();
    let path = std::env::join_paths(layers.iter().map(|layer| environment(layer))).unwrap();
    // Without `site`: what is installed elsewhere on the machine must not stand in for what is pinned here.
    let output = Command::new(python)
        .arg("-S")
        .arg(scripts().join(script))
        .args(["--http", &gateway.data.to_string(), "--grpc", &gateway.grpc.to_string()])
        .args(more)
        .env("PYTHONPATH", path)
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .env("PYTHONPYCACHEPREFIX", environment::cache())
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    judge(script, &output, &site.log());
}

fn judge(script: &str, output: &std::process::Output, log: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let checks = lines.iter().filter(|line| line["check"].is_string());
    let failed: Vec<String> = checks
        .clone()
        .filter(|line| line["ok"] != true)
        .map(|line| format!("- {}: {} ({})", line["check"], line["error"], line["line"]))
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    let complaints = log.lines().filter(|line| !line.contains("\"level\":\"INFO\""));
    assert!(
        output.status.success() && failed.is_empty() && checks.count() > 0,
        "{script} ended with {}; failed checks:\n{}\nthe script said: {errors}\nthe gateway complained of: {}",
        output.status,
        failed.join("\n"),
        complaints.collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn nvidias_http_client_works_unchanged() {
    passes("triton_http.py", &["tritonclient"], &[]);
}

#[test]
fn nvidias_asyncio_http_client_works_unchanged() {
    passes("triton_http.py", &["tritonclient"], &["--aio"]);
}

#[test]
fn nvidias_grpc_client_works_unchanged() {
    passes("triton_grpc.py", &["tritonclient"], &[]);
}

#[test]
fn nvidias_asyncio_grpc_client_works_unchanged() {
    passes("triton_grpc.py", &["tritonclient"], &["--aio"]);
}

#[test]
fn mlservers_command_line_works_unchanged() {
    passes("mlserver_infer.py", &["mlserver", "tritonclient"], &[]);
}

#[test]
fn kserves_rest_client_works_unchanged() {
    passes("kserve_rest.py", &["kserve", "tritonclient"], &[]);
}

#[test]
fn kserves_grpc_client_works_unchanged() {
    passes("kserve_grpc.py", &["kserve", "tritonclient"], &[]);
}
