//! `dethrone retrain` and `dethrone retrainings`: somebody's word that it is time, and what came of all such times.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::person::encoded;
use super::shown::{as_json, plain};
use super::{Failure, Target, answer_of, block_on, parse};

/// `dethrone retrain`.
#[derive(Debug, Clone, Args)]
pub struct RetrainArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Who says so
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub author: String,
    /// Why; kept with the retraining
    #[arg(long)]
    pub reason: String,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
}

/// `dethrone retrainings`.
#[derive(Debug, Clone, Args)]
pub struct RetrainingsArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Order<'a> {
    author: &'a str,
    reason: &'a str,
}

/// Sends the order and says what came of it.
///
/// # Errors
/// The gateway refused.
pub fn order(args: &RetrainArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        let model = args.target.model(&mut client).await?;
        let order = Order {
            author: &args.author,
            reason: &args.reason,
        };
        let path = format!("/api/models/{}/retrain", encoded(&model));
        let body = answer_of(client.post_json(&path, &order).await?)?;
        if args.json {
            println!("{}", String::from_utf8_lossy(&body));
            return Ok(());
        }
        let done: Value = parse(&body)?;
        let n = done.get("retraining").and_then(Value::as_i64).unwrap_or(0);
        println!("{model}: retraining {n} is recorded; `dethrone retrainings` tells what comes of it");
        Ok(())
    })
}

/// Prints all that is known.
///
/// # Errors
/// The gateway does not answer, or knows no such model.
pub fn list(args: &RetrainingsArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        let model = args.target.model(&mut client).await?;
        let path = format!("/api/models/{}/retrainings", encoded(&model));
        let body = answer_of(client.get(&path).await?)?;
        if args.json {
            println!("{}", as_json(&String::from_utf8_lossy(&body)));
        } else {
            print!("{}", table(&parse(&body)?));
        }
        Ok(())
    })
}

/// One retraining on two lines.
pub(super) fn entry(row: &Value) -> String {
    let word = |key: &str| plain(row.get(key).and_then(Value::as_str).unwrap_or("-")).into_owned();
    let number = |key: &str| row.get(key).and_then(Value::as_i64);
    let rows = number("rows").map_or_else(String::new, |rows| format!(", {rows} rows"));
    let place = match row.get("deleted").and_then(Value::as_str) {
        Some(at) => format!(", deleted at {}", plain(at)),
        None => row
            .get("path")
            .and_then(Value::as_str)
            .map_or_else(String::new, |path| format!(" in {}", plain(path))),
    };
    let outcome = row.get("outcome").and_then(Value::as_str);
    let outcome = outcome.map_or_else(String::new, |outcome| format!(": {}", plain(outcome)));
    let log = row
        .get("log")
        .and_then(Value::as_str)
        .filter(|_| number("exit_code") != Some(0));
    let log = log.map_or_else(String::new, |log| format!("; it said {}", plain(log)));
    format!(
        "retraining {} at {} by {}, row {}: {}\n    {}{rows}{place}{outcome}{log}",
        number("n").unwrap_or(0),
        word("time"),
        word("author"),
        number("row").unwrap_or(0),
        word("reason"),
        word("state"),
    )
}

/// The readable form of the list.
#[must_use]
pub fn table(told: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}",
        plain(told.get("model").and_then(Value::as_str).unwrap_or("-"))
    );
    let now = told.get("now");
    let text = |key: &str| now.and_then(|now| now.get(key)?.as_str());
    for (key, before) in [("next_time", "next by the schedule at "), ("cooldown", "")] {
        if let Some(text) = text(key) {
            let _ = writeln!(out, "  {before}{}", plain(text));
        }
    }
    let count = |key: &str| now.and_then(|now| now.get("labels")?.get(key)?.as_u64());
    if let (Some(counted), Some(every)) = (count("counted"), count("every")) {
        let _ = writeln!(out, "  {counted} of {every} labels");
    }
    let due = now.and_then(|now| now.get("due")?.as_array());
    for due in due.into_iter().flatten().filter_map(Value::as_str) {
        let why = text("waits_because").map_or_else(String::new, |why| format!(" ({})", plain(why)));
        let _ = writeln!(out, "  due: {}{why}", plain(due));
    }
    let rows = told.get("retrainings").and_then(Value::as_array);
    for row in rows.into_iter().flatten() {
        let _ = writeln!(out, "  {}", entry(row));
    }
    if rows.is_none_or(Vec::is_empty) {
        let _ = writeln!(out, "  never retrained");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_why_what_and_what_came_of_it() {
        let told = serde_json::json!({
            "model": "m",
            "now": {"next_time": "2026-11-29T03:00:00Z", "cooldown": "the cool-down ends at row 9", "labels": {"counted": 3, "every": 5},
                    "due": ["it has decayed"], "waits_because": "one runs"},
            "retrainings": [
                {"n": 2, "time": "t2", "author": "ada", "row": 70, "reason": "audit", "state": "failed", "rows": 7, "path": "/a b",
                 "outcome": "exit code 3", "exit_code": 3, "log": "/a b.log"},
                {"n": 1, "time": "t1", "author": "retrain", "row": 7, "reason": "drift", "state": "succeeded", "rows": 5, "path": "/x",
                 "deleted": "t9", "exit_code": 0, "log": "/x.log"},
            ]
        });
        let text = table(&told);
        for part in [
            "next by the schedule at 2026-11-29",
            "the cool-down ends at row 9",
            "3 of 5 labels",
            "due: it has decayed (one runs)",
            "retraining 2 at t2 by ada, row 70: audit\n    failed, 7 rows in /a b: exit code 3; it said /a b.log",
            "succeeded, 5 rows, deleted at t9",
        ] {
            assert!(text.contains(part), "'{part}' is not in\n{text}");
        }
        assert!(!text.contains("/x"), "{text}");
        assert!(table(&serde_json::json!({"model": "m", "retrainings": []})).contains("never retrained"));
    }
}
