//! What was answered in the champion's place is held like any other answer: shown, computed again, exported, drawn for an
//! audit, and erased.

use std::process::{Command, Output};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use super::support::client::{get, post};
use super::support::{Site, ask_ledger, data, ids, until};

fn dethrone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(args)
        .output()
        .unwrap()
}

fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

#[test]
fn the_answer_of_the_previous_champion_is_held_shown_computed_again_exported_and_erased() {
    let site = Site::new("");
    let settings = "task = \"regression\"\nmetric = \"squared_error\"\nbound = 100.0\nchampion = \"mean\"\n";
    site.model_toml("m", settings)
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "root", &data("root"));
    let gateway = site.start().ready();
    gateway.until_role("m", "root", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("root")).0, 200);
    // The root of a negative sum is no number: the mean answers.
    let body = json!({"inputs": {"x": [[4, 4, 4], [3, 3, -3]]}, "ids": ["by-root", "by-mean"]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ids(&answer), ["by-root", "by-mean"]);
    assert_eq!(answer["predictions"][1]["fallback"], "mean", "{answer}");
    let answered = answer["predictions"][1]["score"].as_f64().unwrap();
    until("the rows on disk", || {
        (gateway.view("m")["rows"]["recorded"] == 2).then_some(())
    });

    let shown = get(gateway.admin, "/api/models/m/rows/by-mean").json();
    let row = &shown["rows"][0];
    assert_eq!(
        (&row["version"], &row["fallback"], &row["answer"], &row["champion"]),
        (
            &json!("root"),
            &json!("mean"),
            &json!({"score": answered}),
            &json!({"no_score": "failed"})
        ),
        "{shown}"
    );
    let own = get(gateway.admin, "/api/models/m/rows/by-root").json();
    assert!(
        own["rows"][0]["fallback"].is_null() && own["rows"][0].get("champion").is_none(),
        "{own}"
    );
    let seen: String = ask_ledger(
        &site,
        "SELECT champion || ' ' || fallback || ' ' || outcome || ' ' || score FROM rows WHERE fallback IS NOT NULL",
    )
    .unwrap();
    assert_eq!(seen, format!("root mean failed {answered:?}"));

    let state = site.state();
    let state = state.to_str().unwrap();
    let again = dethrone(&["recompute", "--state", state, "by-mean", "--json"]);
    assert!(again.status.success(), "{}", said(&again));
    let told: Value = serde_json::from_slice(&again.stdout).unwrap();
    let of = |role: &str| {
        let mut all = told["answers"].as_array().unwrap().iter();
        all.find(|answer| answer["role"] == role).unwrap().clone()
    };
    assert_eq!(of("champion")["found"], "equal", "{told}");
    let by_mean = of("fallback");
    assert_eq!(
        (&by_mean["version"], &by_mean["found"], &by_mean["recorded"]),
        (&json!("mean"), &json!("equal"), &json!(answered)),
        "{told}"
    );

    let sample = dethrone(&[
        "sample", "--state", state, "--format", "json", "--n", "2", "--seed", "1",
    ]);
    let sample: Value = serde_json::from_slice(&sample.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&sample)));
    let drawn = sample["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["fallback"] == "mean");
    assert_eq!(drawn.unwrap()["answer"]["score"], json!(answered), "{sample}");

    let out = site.state().parent().unwrap().join("out");
    let done = dethrone(&[
        "export",
        "--state",
        state,
        "--all",
        "--json",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(done.status.success(), "{}", said(&done));
    let day = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
    let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    let rows: Vec<Vec<(String, Field)>> = rows.map(|row| row.into_columns()).collect();
    let cell = |row: &[(String, Field)], name: &str| row.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let left = rows
        .iter()
        .find(|row| cell(row, "fallback") == Field::Str("mean".into()))
        .unwrap();
    for column in ["score", "score_mean"] {
        assert_eq!(cell(left, column), Field::Double(answered), "{column}");
    }
    assert_eq!(cell(left, "score_root"), Field::Null);
    assert_eq!(
        (cell(left, "version"), cell(left, "outcome")),
        (Field::Str("root".into()), Field::Str("failed".into()))
    );

    let order = json!({"ids": ["by-mean"], "author": "ada", "reason": "asked to"});
    assert_eq!(post(gateway.admin, "/api/models/m/erase", &order).status, 200);
    let left: i64 = ask_ledger(&site, "SELECT count(*) FROM fallbacks").unwrap();
    assert_eq!(left, 0);
}
