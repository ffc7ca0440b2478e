//! Recorded rows leave as Parquet, with what people said of them, and an erasure names every copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::client::{post, raw, request};
use super::support::{Gateway, Site, data, shipped, stream, until};

fn site() -> Site {
    let site = Site::new("");
    let toml = "champion = \"e06_flipped\"\nmetric = \"brier\"\n[label]\nmaturity = \"45 rows\"\nhorizon = \"10000 rows\"\n\
         [policy]\nmode = \"off\"\n";
    site.model_toml("elec2", toml);
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

fn dethrone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(args)
        .env("USER", "ada")
        .output()
        .unwrap()
}

fn export(site: &Site, out: &Path, args: &[&str]) -> Value {
    let (state, out) = (site.state(), out.to_str().unwrap().to_owned());
    let fixed = ["export", "--json", "--state", state.to_str().unwrap(), "--out", &out];
    let done = dethrone(&[&fixed, args].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// All rows of all files, by column; the day of the directory, too.
fn rows(out: &Path) -> Vec<BTreeMap<String, Field>> {
    let mut all = Vec::new();
    for file in files(out) {
        let day = file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let mut row: BTreeMap<String, Field> = row.unwrap().into_columns().into_iter().collect();
            row.insert("day".into(), Field::Str(day.strip_prefix("day=").unwrap().into()));
            all.push(row);
        }
    }
    all.sort_by_key(|row| match row["row"] {
        Field::Long(row) => row,
        _ => panic!("no row number"),
    });
    all
}

fn files(out: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    assert!(
        found
            .iter()
            .all(|file| file.extension().is_some_and(|e| e == "parquet")),
        "{found:?}"
    );
    found
}

fn text(field: &Field) -> &str {
    match field {
        Field::Str(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

fn recorded(gateway: &Gateway, rows: u64) {
    until("all is recorded", || {
        let view = gateway.view("elec2");
        let scored = gateway.version("elec2", "e01_logreg")["coverage"]["scored"].as_u64()?;
        (view["rows"]["recorded"] == rows && scored == rows).then_some(())
    });
}

#[test]
fn rows_leave_as_they_were_recorded_beside_a_gateway_and_an_erasure_names_the_copies() {
    let site = site();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let past = stream(0, 40);
    let instances: Vec<&Value> = past.iter().map(|(row, _)| row).collect();
    let own: Vec<String> = (0..40).map(|i| format!("order-{i}")).collect();
    let entities: Vec<String> = (0..40).map(|i| format!("customer-{}", i % 4)).collect();
    let contexts: Vec<Value> = (0..40).map(|i| json!({"channel": "web", "n": i})).collect();
    let body = json!({"model": "elec2", "instances": instances, "ids": own, "entities": entities, "context": contexts});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    // Labels for three quarters; what people say, with a label, beside one, and without.
    let items: Vec<Value> = (0..30)
        .map(|i| match i {
            3 => json!({"id": own[i], "label": past[i].1, "weight": 0.5, "vote": "down", "comment": "no\u{7}t me"}),
            4 => json!({"id": own[i], "label": past[i].1, "dispute": "wrong person"}),
            _ => json!({"id": own[i], "label": past[i].1}),
        })
        .collect();
    let said = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": items})).json();
    assert_eq!(said["accepted"], 30, "{said}");
    recorded(&gateway, 40);

    let out = site.state().parent().unwrap().join("out");
    let done = export(&site, &out, &[]);
    assert_eq!((&done["rows"], &done["misfits"]), (&json!(30), &json!(0)), "{done}");
    let all = rows(&out);
    assert_eq!(all.len(), 30);
    for (i, row) in all.iter().enumerate() {
        let day = text(&row["day"]);
        assert!(
            matches!(row["time"], Field::TimestampMillis(_)) && day.len() == 10,
            "{row:?}"
        );
        let features = &past[i].0;
        // The gateway's numbers are singles; `day` is the name of the directory's column.
        let Field::Float(price) = row["nswprice"] else {
            panic!("{row:?}")
        };
        assert!((f64::from(price) - features["nswprice"].as_f64().unwrap()).abs() < 1e-6);
        assert_eq!(text(&row["feature_day"]), features["day"].as_str().unwrap());
        assert_eq!(row["label"], Field::Long(past[i].1.into()));
        assert_eq!(
            (text(&row["caller_id"]), text(&row["entity"])),
            (own[i].as_str(), entities[i].as_str())
        );
        let context: Value = serde_json::from_str(text(&row["context"])).unwrap();
        assert_eq!(context["n"], i);
        let Field::Double(score) = row["score"] else {
            panic!("{row:?}")
        };
        let answered = answer["predictions"][i]["score"].as_f64().unwrap();
        assert_eq!(score.to_bits(), answered.to_bits());
        assert_eq!(row["predicted"], Field::Long(i64::from(score >= 0.5)));
        assert_eq!(row["score_e06_flipped"], Field::Double(score));
        assert!(
            matches!(row["score_e01_logreg"], Field::Double(x) if x.to_bits() != score.to_bits()),
            "{row:?}"
        );
        assert_eq!((text(&row["version"]), &row["epoch"]), ("e06_flipped", &Field::Long(1)));
        assert_eq!(row["weight"], Field::Double(if i == 3 { 0.5 } else { 1.0 }));
        assert!(text(&row["prediction_id"]).starts_with("p1_") && row["fallback"] == Field::Null);
    }
    assert_eq!(
        (&all[3]["vote"], text(&all[3]["comment"])),
        (&Field::Double(-1.0), "no\u{7}t me")
    );
    assert_eq!(
        (text(&all[4]["dispute"]), &all[5]["dispute"]),
        ("wrong person", &Field::Null)
    );
    // The id of a row is good for feedback, as any.
    assert_eq!(
        gateway.label("elec2", &[(text(&all[0]["prediction_id"]), json!(past[0].1))]),
        ["duplicate"]
    );

    // The same columns whatever is asked for; parts are what was asked for, and a sample is the same each time.
    let of = |name: &str, args: &[&str]| {
        let out = site.state().parent().unwrap().join(name);
        let done = export(&site, &out, args);
        assert_eq!(done["columns"], export(&site, &out, args)["columns"]);
        let found = rows(&out);
        // Both have the same rows.
        let once: Vec<Field> = found.iter().step_by(2).map(|row| row["row"].clone()).collect();
        let again: Vec<Field> = found.iter().skip(1).step_by(2).map(|row| row["row"].clone()).collect();
        assert_eq!(once, again, "{name}");
        once
    };
    assert_eq!(of("all", &["--all"]).len(), 40);
    assert_eq!(of("part", &["--from", "11", "--to", "20"]).len(), 10);
    assert_eq!(of("other", &["--version", "e01_logreg"]).len(), 0);
    assert_eq!(of("old", &["--to", "2020-01-01"]).len(), 0);
    let sample = of("sample", &["--all", "--sample", "0.5"]);
    assert!((5..35).contains(&sample.len()), "{}", sample.len());

    // Receipts are in the ledger, and an erasure names the exports that held the rows: those, and no others.
    until("the ledger knows them", || {
        super::support::ask_ledger::<i64>(
            &site,
            "SELECT count(*) FROM exports WHERE author = 'ada' AND finished > 0",
        )
        .filter(|count| *count == 11)
    });
    until("the receipts are gone", || {
        (std::fs::read_dir(site.state().join("exports")).unwrap().count() == 0).then_some(())
    });
    let order = json!({"ids": ["order-2", "order-35"], "author": "eve", "reason": "asked to"});
    let erased = post(gateway.admin, "/api/models/elec2/erase", &order).json();
    let named = |erased: &Value| -> BTreeMap<String, u64> {
        let exports = erased["exports"].as_array().unwrap();
        let one = |e: &Value| {
            (
                e["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned(),
                e["rows"].as_u64().unwrap(),
            )
        };
        exports.iter().map(one).collect()
    };
    let in_sample = sample
        .iter()
        .filter(|row| [Field::Long(3), Field::Long(36)].contains(row))
        .count();
    let mut expected = BTreeMap::from([("out".to_owned(), 1), ("all".to_owned(), 2)]);
    if in_sample > 0 {
        expected.insert("sample".into(), in_sample as u64);
    }
    assert_eq!(named(&erased), expected, "{erased}");
    let admin = gateway.admin.to_string();
    let erase = [
        "erase", "order-12", "--reason", "asked to", "--admin", &admin, "--model", "elec2",
    ];
    let told = String::from_utf8_lossy(&dethrone(&erase).stdout).into_owned();
    assert!(
        told.contains("also in the export of") && told.contains("/part: delete it"),
        "{told}"
    );
    let kept: i64 =
        super::support::ask_ledger(&site, "SELECT count(*) FROM erased_exports WHERE erasure_no = 1").unwrap();
    assert_eq!(kept, 2 * expected.len() as i64 - 1);

    // Without a gateway an export is in the ledger at once.
    gateway.kill();
    let alone = export(&site, &site.state().parent().unwrap().join("alone"), &["--all"]);
    assert_eq!(alone["rows"], 37, "{alone}");
    let last: Option<String> =
        super::support::ask_ledger(&site, "SELECT path FROM exports ORDER BY began DESC LIMIT 1");
    assert!(last.unwrap().ends_with("/alone"));
}

#[test]
fn rows_of_tensors_leave_as_lists_and_days_have_their_own_directories() {
    let site = Site::new("");
    site.model_toml("plain", "interface = \"tensors\"\n")
        .drop_file("plain", "e02_tree", &data("e02_tree"));
    let gateway = site.start().ready();
    let features = json!([[0.5, 0.25, 0.125], [1.0, 2.0, 3.0]]);
    let (status, answer) = gateway.predict(&json!({"model": "plain", "inputs": {"features": features}}));
    assert_eq!(status, 200, "{answer}");
    until("it is recorded", || {
        (gateway.view("plain")["rows"]["recorded"] == 2).then_some(())
    });
    gateway.kill();
    // One of them a day later.
    let ledger = Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger
        .execute("UPDATE predictions SET time = time + 86400000 WHERE row = 2", [])
        .unwrap();
    drop(ledger);
    dethrone::ledger::seal_again(&site.state()).unwrap();
    let out = site.state().parent().unwrap().join("out");
    let done = export(&site, &out, &["--all"]);
    assert_eq!(done["files"].as_array().unwrap().len(), 2, "{done}");
    let all = rows(&out);
    assert_ne!(all[0]["day"], all[1]["day"]);
    let listed = |row: usize, name: &str| match &all[row][name] {
        Field::ListInternal(list) => list.elements().to_vec(),
        other => panic!("{other:?} is no list"),
    };
    assert_eq!(listed(1, "features"), [1.0, 2.0, 3.0].map(Field::Float));
    assert_eq!(listed(1, "shape_features"), [1, 3].map(Field::Long));
    assert_eq!(all[0]["label"], Field::Null);
}

#[test]
fn votes_comments_and_disputes_are_stored_shown_and_erased_and_are_never_evidence() {
    let site = site();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let (row, _) = stream(0, 1).remove(0);
    let body = json!({"model": "elec2", "instances": [row, row], "ids": ["zq-one", "zq-two"]});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    recorded(&gateway, 2);
    let feedback = |items: Value| {
        let answer = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": items})).json();
        let results = answer["results"].as_array().unwrap().clone();
        results
            .iter()
            .map(|r| r["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let words = "zq-words \u{1b}[2J\u{9b}31m";
    assert_eq!(
        feedback(json!([
            {"id": "zq-one", "vote": -0.5, "comment": words},
            {"id": "zq-one", "vote": -0.5, "comment": words},
            {"id": "zq-one", "dispute": true},
            {"id": "zq-one", "label": 1, "vote": "up"},
            {"id": "zq-one", "label": 1, "vote": "down"},
            {"id": "zq-two", "vote": 2},
            {"id": "zq-two", "comment": 7},
            {"id": "nobody", "vote": "up"},
        ])),
        [
            "accepted",
            "duplicate",
            "accepted",
            "accepted",
            "accepted",
            "invalid",
            "invalid",
            "unknown"
        ]
    );
    let lines = "{\"model\":\"elec2\",\"id\":\"zq-two\",\"vote\":1,\"dispute\":\"no\"}\n{\"model\":\"elec2\",\"id\":\"zq-two\",\"vote\":9}\n";
    let stream = request(
        "POST",
        "/feedback",
        "content-type: application/x-ndjson\r\n",
        lines.as_bytes(),
    );
    let streamed = raw(gateway.data, &stream).unwrap().json();
    assert_eq!(streamed["accepted"], 1, "{streamed}");
    assert!(
        streamed["rejected"][0]["error"]
            .as_str()
            .unwrap()
            .contains("'vote' is neither"),
        "{streamed}"
    );
    // On disk when it is acknowledged.
    gateway.kill();
    let gateway = site.start().ready();
    let admin = gateway.admin.to_string();
    let show = |id: &str| dethrone(&["show", id, "--json", "--admin", &admin, "--model", "elec2"]);
    let out = show("zq-one");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        !text.trim_end().chars().any(char::is_control),
        "nothing acts on the terminal: {text:?}"
    );
    let held: Value = serde_json::from_str(&text).unwrap();
    let remarks = held["rows"][0]["remarks"].as_array().unwrap().clone();
    let said: Vec<_> = remarks
        .iter()
        .map(|r| (r["vote"].clone(), r["comment"].clone(), r["dispute"].clone()))
        .collect();
    assert_eq!(said[0], (json!(-0.5), json!(words), Value::Null));
    assert_eq!(said[1], (Value::Null, Value::Null, json!("")));
    assert_eq!((said.len(), &said[2].0, &said[3].0), (4, &json!(1.0), &json!(-1.0)));
    // A row has room for a hundred.
    let many: Vec<Value> = (0..101)
        .map(|i| json!({"id": "zq-two", "comment": format!("zq-{i}")}))
        .collect();
    let answer = post(gateway.data, "/feedback", &json!({"model": "elec2", "labels": many})).json();
    assert_eq!(answer["accepted"], 99, "{answer}");
    assert_eq!(answer["results"][100]["status"], "invalid");
    // Never evidence: a label is, and only one row has one.
    let reads = "SELECT count(*) FROM labels";
    assert_eq!(super::support::ask_ledger::<i64>(&site, reads), Some(1));
    let order = json!({"ids": ["zq-one"], "author": "eve", "reason": "asked to"});
    assert_eq!(
        post(gateway.admin, "/api/models/elec2/erase", &order).json()["erased"],
        1
    );
    let left = "SELECT count(*) FROM remarks WHERE comment LIKE 'zq-words%'";
    assert_eq!(super::support::ask_ledger::<i64>(&site, left), Some(0));
}

#[test]
fn the_ledger_opens_in_any_tool_with_views_that_need_no_manual() {
    let site = site();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let past = stream(0, 60);
    gateway.feed("elec2", &past);
    until("all closed rows are folded", || {
        (gateway.view("elec2")["rows"]["open"].as_u64()? <= 46).then_some(())
    });
    let evidence = gateway.version("elec2", "e01_logreg")["evidence"].clone();
    let ask = |sql: &str| super::support::ask_ledger::<f64>(&site, sql);
    assert_eq!(
        ask("SELECT count(*) * 1.0 FROM labelled_predictions WHERE model = 'elec2'"),
        Some(60.0)
    );
    let ones = past.iter().filter(|(_, label)| *label == 1).count();
    assert_eq!(
        ask("SELECT sum(label) * 1.0 FROM labelled_predictions WHERE version = 'e06_flipped' AND label_delay_s >= 0"),
        Some(ones as f64)
    );
    let of = |column: &str| {
        ask(&format!(
            "SELECT {column} * 1.0 FROM scoreboard WHERE version = 'e01_logreg'"
        ))
    };
    assert_eq!(of("labels"), evidence["labels"].as_f64(), "{evidence}");
    let mean = evidence["mean_difference"].as_f64().unwrap();
    assert!((of("mean_loss_difference").unwrap() - mean).abs() < 1e-9, "{evidence}");
    assert_eq!(of("coverage"), Some(1.0));
    assert_eq!(
        ask("SELECT labels * 1.0 FROM scoreboard WHERE role = 'champion'"),
        Some(0.0)
    );
    let verdict: Option<String> = super::support::ask_ledger(
        &site,
        "SELECT verdict || role FROM scoreboard WHERE version = 'e01_logreg'",
    );
    assert!(verdict.is_none_or(|verdict| verdict == "not yetchallenger"));
    // A restart makes them anew and loses nothing.
    gateway.kill();
    site.start().ready().kill();
    assert_eq!(ask("SELECT count(*) * 1.0 FROM scoreboard"), Some(2.0));
}

const READS: &str = "
import sys
import duckdb, pandas as pd
rows = pd.read_parquet(sys.argv[1])
assert len(rows) == 60 and str(rows['time'].dtype) == 'datetime64[ms, UTC]', rows.dtypes
assert str(rows['nswprice'].dtype) == 'float32' and rows['label'].isin([0, 1]).all(), rows.dtypes
day = rows['day'].astype(str).iloc[0]
assert len(pd.read_parquet(sys.argv[1], filters=[('day', '=', day)])) > 0
n, days, brier = duckdb.sql(
    f\"SELECT count(*), count(DISTINCT day), avg((score - label) ** 2) FROM '{sys.argv[1]}/*/*.parquet'\").fetchall()[0]
assert n == 60 and days >= 1 and abs(brier - ((rows['score'] - rows['label']) ** 2).mean()) < 1e-12, (n, days, brier)
";

#[test]
#[ignore = "needs a Python with pandas, pyarrow and duckdb, which DETHRONE_EXPORT_PYTHON names"]
fn pandas_and_duckdb_read_what_was_exported() {
    let python = std::env::var_os("DETHRONE_EXPORT_PYTHON").expect("DETHRONE_EXPORT_PYTHON names a Python");
    let site = site();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    gateway.feed("elec2", &stream(0, 60));
    recorded(&gateway, 60);
    let out = site.state().parent().unwrap().join("out");
    export(&site, &out, &[]);
    let read = Command::new(python).args(["-c", READS]).arg(&out).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}
