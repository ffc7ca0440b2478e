//! `dethrone explain-decision N`: all that a decision rested on.
//!
//! Always holds: everything comes from what was kept with the decision, read leniently, so that a decision of an older
//! gateway can be told too.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::{Failure, Target, answer_of, block_on, parse};

/// `dethrone explain-decision`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Its number, as `GET /api/models/{model}/decisions` lists it
    pub number: u64,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
}

/// Prints one decision.
///
/// # Errors
/// The gateway does not answer, or no model has such a decision.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        let models = match &args.target.model {
            Some(model) => vec![model.clone()],
            None => args.target.models(&mut client).await?,
        };
        let mut last = Failure::failed("the gateway serves no model yet");
        for model in models {
            let path = format!("/api/models/{model}/decisions/{}", args.number);
            match answer_of(client.get(&path).await?) {
                Ok(body) if args.json => println!("{}", String::from_utf8_lossy(&body)),
                Ok(body) => print!("{}", text(&model, &parse(&body)?)),
                // Numbers are given over all models: it may be another one's.
                Err(failure) => {
                    last = failure;
                    continue;
                }
            }
            return Ok(());
        }
        Err(last)
    })
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::Number(n)) if n.is_f64() => format!("{:.4}", n.as_f64().unwrap_or_default()),
        Some(Value::Number(n)) => n.to_string(),
        _ => "-".to_owned(),
    }
}

/// The readable form.
#[must_use]
pub fn text(model: &str, decision: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "decision {} on {model}: {} {} -> {} at {}\n  by {}: {}\n  why: {}",
        number(decision, "n"),
        word(decision, "kind"),
        word(decision, "from"),
        word(decision, "to"),
        word(decision, "time"),
        word(decision, "author"),
        word(decision, "reason"),
        word(decision, "why"),
    );
    let basis = decision.get("basis").unwrap_or(&Value::Null);
    if basis.is_null() {
        let _ = writeln!(out, "  nothing else was kept with it");
    }
    versions(&mut out, basis);
    evidence(&mut out, basis);
    guardrails(&mut out, basis);
    if let Some(timed) = basis.get("timed").filter(|timed| !timed.is_null()) {
        let _ = writeln!(
            out,
            "  timed on {} recorded rows: p50 {} µs, p99 {} µs, {} not answered",
            number(timed, "rows"),
            number(timed, "us_p50"),
            number(timed, "us_p99"),
            number(timed, "failed"),
        );
    }
    if let Some(rows) = basis.get("rows").filter(|rows| !rows.is_null()) {
        let _ = writeln!(out, "  rows: {rows}");
    }
    standings(&mut out, basis);
    for warning in basis.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(out, "  warning: {}", warning.as_str().unwrap_or_default());
    }
    if let Some(policy) = basis.get("policy").filter(|policy| !policy.is_null()) {
        let _ = writeln!(out, "  policy in force: {policy}");
    }
    for (key, title) in [("before", "before it"), ("after", "after it")] {
        for other in decision.get(key).and_then(Value::as_array).into_iter().flatten() {
            let _ = writeln!(
                out,
                "  {title}: {} {} {} -> {} at {} by {}",
                number(other, "n"),
                word(other, "kind"),
                word(other, "from"),
                word(other, "to"),
                word(other, "time"),
                word(other, "author"),
            );
        }
    }
    out
}

fn versions(out: &mut String, basis: &Value) {
    for (part, title) in [("from", "outgoing"), ("to", "incoming")] {
        let Some(version) = basis.get("versions").and_then(|versions| versions.get(part)) else {
            continue;
        };
        let _ = writeln!(
            out,
            "  {title}: {} ({}), arrived {}",
            word(version, "version"),
            word(version, "digest"),
            word(version, "arrived")
        );
        for (key, title) in [("lineage", "lineage"), ("measured", "measured at admission")] {
            if let Some(value) = version.get(key).filter(|value| !value.is_null()) {
                let _ = writeln!(out, "    {title}: {value}");
            }
        }
    }
}

fn evidence(out: &mut String, basis: &Value) {
    let Some(numbers) = basis.get("numbers") else { return };
    let ends: Vec<String> = numbers
        .get("interval")
        .and_then(Value::as_array)
        .map(|ends| {
            ends.iter()
                .filter_map(Value::as_f64)
                .map(|x| format!("{x:+.4}"))
                .collect()
        })
        .unwrap_or_default();
    let _ = writeln!(
        out,
        "  evidence: {} labels, ln wealth {}, bar {}, mean difference {} ({}); since arming {} over {} labels",
        number(numbers, "labels"),
        number(numbers, "log_wealth"),
        number(numbers, "log_bar"),
        number(numbers, "mean_difference"),
        ends.join(" to "),
        number(numbers, "mean_since_arming"),
        number(numbers, "labels_since_arming"),
    );
    let row = |clock: Option<&Value>| clock.map_or_else(|| "-".to_owned(), |clock| number(clock, "row"));
    let _ = writeln!(
        out,
        "  at row {}, armed since row {}, epoch {}, place {}, coverage {}, failed on {} rows",
        row(basis.get("clock")),
        row(numbers.get("armed_since")),
        number(basis, "epoch"),
        number(basis, "place"),
        number(basis, "coverage"),
        number(basis, "failed"),
    );
    if let Some(noise) = basis.get("noise").filter(|noise| !noise.is_null()) {
        let _ = writeln!(
            out,
            "  noise: a copy differs from its original on {} of the rows, by {} on average, over {} labels",
            number(noise, "share_of_rows_that_differ"),
            number(noise, "mean_abs_difference"),
            number(noise, "labels"),
        );
    }
}

fn guardrails(out: &mut String, basis: &Value) {
    for rail in basis.get("guardrails").and_then(Value::as_array).into_iter().flatten() {
        let note = rail.get("note").and_then(Value::as_str);
        let _ = writeln!(
            out,
            "  guardrail {}: {}, limit {}: {}{}",
            word(rail, "name"),
            number(rail, "value"),
            number(rail, "limit"),
            if rail.get("passes") == Some(&Value::Bool(true)) {
                "passes"
            } else {
                "stops"
            },
            note.map_or_else(String::new, |note| format!(" ({note})")),
        );
    }
    for group in basis.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(
            out,
            "  group {} ({}): mean difference {} over {} labels, margin {}, {}",
            word(group, "name"),
            word(group, "expr"),
            number(group, "mean_difference"),
            number(group, "labels"),
            number(group, "margin"),
            if group.get("strict") == Some(&Value::Bool(true)) {
                "strict"
            } else {
                "veto"
            },
        );
    }
}

fn standings(out: &mut String, basis: &Value) {
    for other in basis.get("standings").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(
            out,
            "  then stood {}: {} labels, ln wealth {}, bar {}, {}: {}",
            word(other, "version"),
            number(other, "labels"),
            number(other, "log_wealth"),
            number(other, "log_bar"),
            word(other, "verdict"),
            word(other, "why"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_with_what_it_rested_on_and_one_without_a_basis_too() {
        let decision = serde_json::json!({"n": 7, "time": "2026-01-01T00:00:00Z", "kind": "promotion", "from": "e01", "to": "e05",
            "author": "judge", "reason": "evidence", "why": "ln wealth 6.10, bar 5.30",
            "basis": {"numbers": {"labels": 812, "log_wealth": 6.1, "log_bar": 5.298, "mean_difference": 0.0123,
                "interval": [0.001, 0.02], "armed_since": {"row": 400, "time_ms": 0}, "labels_since_arming": 3},
                "clock": {"row": 900, "time_ms": 0}, "epoch": 3, "place": 2, "coverage": 1.0, "failed": 0,
                "versions": {"to": {"version": "e05", "digest": "sha256:05", "arrived": "x", "lineage": {"code": "abc"}}},
                "guardrails": [{"name": "latency", "value": 1.9, "limit": 1.5, "passes": true, "note": "less than 300 µs longer"}],
                "groups": [{"name": "senior", "expr": "age >= 60", "labels": 80, "strict": true, "margin": 0.02,
                    "mean_difference": 0.004}],
                "noise": {"share_of_rows_that_differ": 0.0, "mean_abs_difference": 0.0, "labels": 800},
                "standings": [{"version": "e02", "labels": 800, "log_wealth": -1.0, "log_bar": 6.4, "verdict": "not yet",
                    "why": "needs more"}],
                "policy": {"alpha": 0.01}},
            "before": [{"n": 6, "kind": "hold", "time": "t", "author": "ada"}], "after": []});
        let told = text("elec2", &decision);
        for part in [
            "decision 7 on elec2: promotion e01 -> e05 at 2026-01-01T00:00:00Z",
            "incoming: e05 (sha256:05)",
            "lineage: {\"code\":\"abc\"}",
            "812 labels, ln wealth 6.1000, bar 5.2980, mean difference 0.0123 (+0.0010 to +0.0200)",
            "at row 900, armed since row 400, epoch 3, place 2",
            "guardrail latency: 1.9000, limit 1.5000: passes (less than 300 µs longer)",
            "group senior (age >= 60): mean difference 0.0040 over 80 labels, margin 0.0200, strict",
            "then stood e02: 800 labels",
            "policy in force: {\"alpha\":0.01}",
            "before it: 6 hold - -> - at t by ada",
        ] {
            assert!(told.contains(part), "'{part}' is not in\n{told}");
        }
        let bare = text("m", &serde_json::json!({"n": 1, "kind": "first", "basis": null}));
        assert!(bare.contains("nothing else was kept with it"), "{bare}");
    }
}
