//! `dethrone versions` and `dethrone diff A B`: where versions come from, when they answered, and how two of them differ.
//!
//! Both ask a running gateway, or read a state directory, whether or not a gateway runs on it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::person::encoded;
use super::shown::{as_json, plain as shown};
use super::{Failure, Target, answer_of, block_on, parse};
use crate::history::{self, History, HistoryError};
use crate::ledger::Ledger;

/// `dethrone versions`.
#[derive(Debug, Clone, Args)]
pub struct VersionsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read this state directory instead of asking a gateway
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Everything on this one: its name, or the beginning of its digest
    pub version: Option<String>,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `dethrone diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read this state directory instead of asking a gateway
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A version: its name, or the beginning of its digest
    pub a: String,
    /// Another one
    pub b: String,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        Self::failed(error)
    }
}

/// Lists the versions, or tells everything on one.
///
/// # Errors
/// There is no such model or version, or nobody to ask.
pub fn list(args: &VersionsArgs) -> Result<(), Failure> {
    let told = match &args.state {
        Some(state) => read(state, &args.target, |_, history| {
            Ok(match &args.version {
                Some(version) => history.whole(history.find(version)?),
                None => history.list(),
            })
        })?,
        None => ask(&args.target, |model| match &args.version {
            Some(version) => format!("/api/models/{model}/versions/{}", encoded(version)),
            None => format!("/api/models/{model}/versions"),
        })?,
    };
    match (&args.version, args.json) {
        (_, true) => println!("{}", as_json(&told.to_string())),
        (None, false) => print!("{}", table(&told)),
        (Some(_), false) => println!("{}", as_json(&serde_json::to_string_pretty(&told).unwrap_or_default())),
    }
    Ok(())
}

/// Tells how two versions differ.
///
/// # Errors
/// There is no such model or version, or nobody to ask.
pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let told = match &args.state {
        Some(state) => read(state, &args.target, |reader, history| {
            history::diff(reader, history, [&args.a, &args.b])
        })?,
        None => ask(&args.target, |model| {
            format!("/api/models/{model}/diff/{}/{}", encoded(&args.a), encoded(&args.b))
        })?,
    };
    if args.json {
        println!("{}", as_json(&told.to_string()));
    } else {
        print!("{}", differences(&told));
    }
    Ok(())
}

fn read(
    state: &Path,
    target: &Target,
    tell: impl FnOnce(&crate::ledger::Writer<'_>, &History<'_>) -> Result<Value, HistoryError>,
) -> Result<Value, Failure> {
    let ledger = Ledger::open_to_read(state).map_err(Failure::failed)?;
    let reader = ledger.reader();
    let history = History::read(&reader, target.model.as_deref())?;
    Ok(tell(&reader, &history)?)
}

fn ask(target: &Target, path: impl FnOnce(&str) -> String) -> Result<Value, Failure> {
    block_on(async {
        let mut client = target.door.client()?;
        let model = target.model(&mut client).await?;
        parse(&answer_of(client.get(&path(&encoded(&model))).await?)?)
    })
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// `key = value` for each value at any depth.
fn pairs(value: &Value, prefix: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(all) => {
            for (key, value) in all {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                pairs(value, &path, out);
            }
        }
        Value::String(text) => out.push(format!("{} = {}", shown(prefix), shown(text))),
        other => out.push(format!("{} = {other}", shown(prefix))),
    }
}

/// The readable form of the list.
#[must_use]
pub fn table(told: &Value) -> String {
    let mut out = String::new();
    let all = told.get("versions").and_then(Value::as_array);
    let versions = all.map_or(&[][..], Vec::as_slice);
    let names = versions.iter().map(|v| word(v, "version").chars().count());
    let width = names.max().unwrap_or(0).max(7);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", word(told, "model"));
    let _ = writeln!(
        out,
        "  {:<width$}  {:<11}  {:<19}  {:<24}  champion",
        "version", "role", "digest", "arrived"
    );
    for version in versions {
        let tenures = version.get("tenures").and_then(Value::as_array);
        let tenures = tenures.map_or(&[][..], Vec::as_slice);
        let reigns: Vec<String> = tenures.iter().map(reign).collect();
        let mut reigns = reigns.iter().map(String::as_str);
        let _ = writeln!(
            out,
            "  {:<width$}  {:<11}  {:<19}  {:<24}  {}",
            word(version, "version"),
            word(version, "role"),
            short(word(version, "digest")),
            word(version, "arrived"),
            reigns.next().unwrap_or("never")
        );
        for more in reigns {
            let _ = writeln!(out, "  {:<width$}  {:<11}  {:<19}  {:<24}  {more}", "", "", "", "");
        }
        if let Some(reason) = version.get("reason").and_then(Value::as_str) {
            let _ = writeln!(out, "  {:<width$}  {}", "", shown(reason));
        }
        let mut lineage = Vec::new();
        pairs(version.get("lineage").unwrap_or(&Value::Null), "", &mut lineage);
        for line in lineage.iter().filter(|line| !line.ends_with("null")) {
            let _ = writeln!(out, "  {:<width$}  {line}", "");
        }
    }
    if let Some(count) = told
        .get("versions_left_out")
        .and_then(Value::as_u64)
        .filter(|count| *count > 0)
    {
        let _ = writeln!(out, "  and {count} older versions that never answered");
    }
    out
}

fn reign(tenure: &Value) -> String {
    let number = |key: &str| tenure.get(key).and_then(Value::as_u64).unwrap_or(0);
    format!(
        "epoch {}: {} to {}, {} rows, {} labels",
        number("epoch"),
        word(tenure, "from"),
        tenure.get("to").and_then(Value::as_str).unwrap_or("now"),
        number("rows"),
        number("labels")
    )
}

/// The readable form of a comparison.
#[must_use]
pub fn differences(told: &Value) -> String {
    let mut out = String::new();
    let side = |key: &str| told.get(key).unwrap_or(&Value::Null);
    let (a, b) = (side("a"), side("b"));
    let named = |v: &Value| {
        let (name, role, digest) = (word(v, "version"), word(v, "role"), short(word(v, "digest")));
        format!("{name} ({role}, {digest})")
    };
    let _ = writeln!(out, "{}: a = {}, b = {}", word(told, "model"), named(a), named(b));
    if told.get("same_bytes") == Some(&Value::Bool(true)) {
        let _ = writeln!(out, "  the same bytes");
    }
    let plain = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text).into_owned(),
        other => shown(&other.to_string()).into_owned(),
    };
    for found in told.get("differences").and_then(Value::as_array).into_iter().flatten() {
        let (part, key) = (word(found, "part"), shown(word(found, "key")));
        let of = |key: &str| plain(found.get(key).unwrap_or(&Value::Null));
        let _ = writeln!(out, "  {:<30}  {}  ->  {}", format!("{part} {key}"), of("a"), of("b"));
    }
    let rows = told.get("rows").unwrap_or(&Value::Null);
    let count = |key: &str| rows.get(key).and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(
        out,
        "  of the last {} rows both have an outcome on {}, a score on {}",
        count("looked_at"),
        count("both"),
        count("scored")
    );
    if count("scored") == 0 {
        return out;
    }
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    let line = |out: &mut String, what: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(out, "    {what:<46}{value:>12.6}");
        }
    };
    line(
        &mut out,
        "share of rows with the same label",
        number(rows.get("agreement")),
    );
    line(
        &mut out,
        "mean difference of score, b less a",
        number(rows.get("mean_difference")),
    );
    line(&mut out, "mean size of it", number(rows.get("mean_abs_difference")));
    line(&mut out, "largest", number(rows.get("largest_difference")));
    let loss = rows.get("loss").unwrap_or(&Value::Null);
    for (key, version) in [("a", a), ("b", b)] {
        let what = format!("mean {} of {}", word(loss, "metric"), word(version, "version"));
        line(&mut out, &what, number(loss.get(key)));
    }
    let labelled = loss.get("labelled").and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(out, "    on {labelled} rows with a label");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_list_tells_tenures_and_lineage_and_nothing_acts_on_the_terminal() {
        let told = json!({"model": "m", "versions": [
            {"version": "a", "role": "previous", "digest": "sha256:0123456789abcdef0123", "arrived": "t0", "tenures": [
                {"epoch": 1, "from": "t1", "to": "t2", "rows": 10, "labels": 8},
                {"epoch": 3, "from": "t3", "to": null, "rows": 2, "labels": 0}],
             "lineage": {"data": "s3://x\u{1b}[2J", "metrics": {"auc": 0.81}, "file": {"producer": "skl2onnx"}}},
            {"version": "b", "role": "rejected", "digest": "", "arrived": "t4", "reason": "empty", "tenures": [], "lineage": {}}]});
        let text = table(&told);
        for part in [
            "epoch 1: t1 to t2, 10 rows, 8 labels",
            "epoch 3: t3 to now, 2 rows, 0 labels",
            "sha256:0123456789ab ",
            "data = s3://x\\u{1b}[2J",
            "metrics.auc = 0.81",
            "file.producer = skl2onnx",
            "never",
            "empty",
        ] {
            assert!(text.contains(part), "'{part}' is not in\n{text}");
        }
    }

    #[test]
    fn a_comparison_names_what_differs_and_how_both_scored() {
        let told = json!({"model": "m", "a": {"version": "x", "role": "champion", "digest": "sha256:00"},
            "b": {"version": "y", "role": "challenger", "digest": "sha256:01"}, "same_bytes": false,
            "differences": [{"part": "lineage", "key": "data", "a": "d1", "b": null}],
            "rows": {"looked_at": 100, "both": 90, "scored": 80, "agreement": 0.9, "mean_difference": 0.01,
                "mean_abs_difference": 0.02, "largest_difference": 0.5,
                "loss": {"metric": "brier", "labelled": 70, "a": 0.2, "b": 0.1}}});
        let text = differences(&told);
        for part in [
            "m: a = x (champion, sha256:00), b = y (challenger, sha256:01)",
            "lineage data                    d1  ->  -",
            "of the last 100 rows both have an outcome on 90, a score on 80",
            "share of rows with the same label",
            "mean brier of y",
            "on 70 rows with a label",
        ] {
            assert!(text.contains(part), "'{part}' is not in\n{text}");
        }
    }
}
