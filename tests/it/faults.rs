//! What must not be lost is not lost: faults put under the real program, at chosen system calls and at random.
//!
//! Each test has a short form, which runs with all others, and a long one: `DETHRONE_FAULTS=long cargo test --release
//! --locked faults -- --nocapture --test-threads=1` prints a line per fault with runs, faults and losses. What a machine
//! cannot do (trace, mount) is skipped with a loud word, and not where `CI` is set.

mod disk;
mod kills;
mod power;
mod tracer;

use serde_json::{Value, json};

use super::support::{Gateway, Site, client, shipped};

/// The long form was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var("DETHRONE_FAULTS").is_ok_and(|form| form == "long")
}

/// A line of the table; nothing may be lost.
pub(crate) fn told(fault: &str, runs: usize, faults: usize, losses: usize) {
    println!("| {fault} | {runs} runs | {faults} faults | {losses} lost |");
    assert_eq!(losses, 0, "{fault}");
}

/// This machine cannot do it.
fn skipped(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is NOT TESTED here");
    eprintln!("\n!!! SKIPPED: {what} is NOT TESTED here !!!\n");
}

/// A model and a challenger whose labels never come too late.
fn site() -> Site {
    let site = Site::new("poll = \"1h\"\n");
    site.model_toml(
        "elec2",
        "champion = \"e01_logreg\"\n[label]\nmaturity = \"100000 rows\"\nhorizon = \"10000000 rows\"\n",
    );
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

fn row() -> Value {
    super::support::elec2_row()
}

/// A prediction, which must be answered; gives its id.
fn predict(gateway: &Gateway) -> String {
    let (status, answer) = gateway.predict(&json!({"instances": [row()]}));
    assert_eq!(status, 200, "{answer}");
    answer["predictions"][0]["id"].as_str().unwrap().to_owned()
}

/// Sends a label: HTTP status, the answer's head, and what became of the label where it was taken.
fn label(gateway: &Gateway, id: &str, label: u8) -> (u16, String, String) {
    let body = json!({"model": "elec2", "labels": [{"id": id, "label": label}]});
    let answer = client::post(gateway.data, "/feedback", &body);
    let status = answer.json()["results"][0]["status"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status, answer.head, status)
}

/// Why the gateway is degraded, while it is.
fn degraded(gateway: &Gateway) -> Option<String> {
    let health = client::get(gateway.data, "/v2/health/ready").json();
    health["degraded"].as_str().map(str::to_owned)
}

/// How many of these acknowledged labels the gateway does not have as they were sent.
fn lost(gateway: &Gateway, acknowledged: &[(String, u8)]) -> usize {
    let mut lost = 0;
    for part in acknowledged.chunks(500) {
        let part: Vec<(&str, Value)> = part.iter().map(|(id, label)| (id.as_str(), json!(label))).collect();
        for ((id, _), status) in part.iter().zip(gateway.label("elec2", &part)) {
            if status != "duplicate" {
                eprintln!("{id}: {status}");
                lost += 1;
            }
        }
    }
    lost
}
