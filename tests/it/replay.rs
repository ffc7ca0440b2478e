//! `dethrone replay`: what was recorded comes out again, and whatever was changed afterwards is named.

use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use serde_json::Value;

use super::support::{Gateway, Site, ask_ledger, shipped, stream, until};

const MATURITY: u64 = 60;

pub(super) fn site() -> Site {
    let site = Site::new("");
    let settings = format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n\
         [label]\nmaturity = \"{MATURITY} rows\"\nhorizon = \"100000 rows\"\n\
         [policy]\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\nprobation = \"100000 rows\"\n"
    );
    site.model_toml("elec2", &settings);
    for name in ["e06_flipped", "e01_logreg", "e05_forest"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

pub(super) fn replay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .arg("replay")
        .args(args)
        .output()
        .unwrap()
}

pub(super) fn line(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(
        text.lines().count(),
        1,
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_str(&text).unwrap()
}

fn state(site: &Site) -> String {
    site.state().to_str().unwrap().to_owned()
}

pub(super) fn up(site: &Site) -> Gateway {
    let gateway = site.start().ready();
    for name in ["e01_logreg", "e05_forest"] {
        until("a challenger or more than that", || {
            let role = gateway.version("elec2", name)["role"].clone();
            ["challenger", "champion", "previous"]
                .contains(&role.as_str()?)
                .then_some(())
        });
    }
    gateway
}

fn settled(gateway: &Gateway) {
    until("all closed rows are folded", || {
        (gateway.view("elec2")["rows"]["open"].as_u64()? <= MATURITY + 1).then_some(())
    });
}

/// Traffic with a promotion by the judge and one by a person, a kill, a restart and a retirement.
pub(super) fn eventful(site: &Site) -> Gateway {
    let gateway = up(site);
    let rows = stream(20_000, 1_600);
    let mut chunks = rows.chunks(80);
    // More than enough for a decision; how long carrying it out takes is the machine's affair.
    for _ in 0..10 {
        gateway.feed("elec2", chunks.next().unwrap());
    }
    until("the judge promotes", || {
        (gateway.view("elec2")["champion"]["version"] != "e06_flipped").then_some(())
    });
    gateway.feed("elec2", chunks.next().unwrap());
    settled(&gateway);
    gateway.kill();
    let gateway = up(site);
    gateway.feed("elec2", chunks.next().unwrap());
    assert_eq!(gateway.act("elec2", "promote", Some("e06_flipped")).0, 200);
    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    for _ in 0..4 {
        gateway.feed("elec2", chunks.next().unwrap());
    }
    settled(&gateway);
    gateway
}

fn changed(state: &Path, sql: &str) -> Output {
    let copy = tempfile::tempdir().unwrap();
    for file in ["ledger.sqlite", "ledger.sqlite-wal"] {
        if state.join(file).exists() {
            std::fs::copy(state.join(file), copy.path().join(file)).unwrap();
        }
    }
    let ledger = Connection::open(copy.path().join("ledger.sqlite")).unwrap();
    let touched = ledger.execute(sql, []).unwrap();
    assert!(touched > 0, "{sql}");
    drop(ledger);
    // Not damage, which would be passed over: another record.
    dethrone::ledger::seal_again(copy.path()).unwrap();
    replay(&["--state", copy.path().to_str().unwrap(), "--json"])
}

#[test]
fn a_record_of_kills_restarts_and_orders_comes_out_bit_for_bit_and_whatever_was_changed_is_named() {
    let site = site();
    let gateway = eventful(&site);
    let state = state(&site);
    // Beside the gateway, and after it.
    let beside = replay(&["--state", &state, "--json"]);
    let found = line(&beside);
    assert_eq!(
        (beside.status.code(), &found["same"]),
        (Some(0), &Value::Bool(true)),
        "{found}"
    );
    assert_eq!(found["gateway_running"], true);
    gateway.kill();
    let after = replay(&["--state", &state, "--json"]);
    let found = line(&after);
    assert_eq!(after.status.code(), Some(0), "{found}");
    let compared = &found["compared"];
    let count = |key: &str| compared[key].as_u64().unwrap();
    let pairs: i64 = ask_ledger(&site, "SELECT count(*) FROM folded").unwrap();
    let verdicts: i64 = ask_ledger(&site, "SELECT count(*) FROM verdicts").unwrap();
    assert_eq!(
        (count("pairs"), count("verdicts")),
        (pairs.cast_unsigned(), verdicts.cast_unsigned())
    );
    assert!(pairs > 300 && verdicts > 3, "{found}");
    assert!(count("decisions") >= 1 && count("others") == 1, "{found}");
    assert!(
        count("rows") >= pairs.cast_unsigned() && count("rows_gone") == 0,
        "{found}"
    );

    // Each with what it must be called.
    let first_pair: i64 = ask_ledger(
        &site,
        "SELECT min(key) FROM pairs WHERE key > (SELECT min(key) + 20 FROM pairs)",
    )
    .unwrap();
    let row = u64::try_from(first_pair & 0xff_ffff_ffff).unwrap();
    let changes = [
        (
            format!("UPDATE pairs SET difference = difference + 1e-15 WHERE key = {first_pair}"),
            "pair",
            Some(row),
        ),
        (format!("DELETE FROM pairs WHERE key = {first_pair}"), "pair", Some(row)),
        (
            format!("UPDATE folded SET weight = 0.5 WHERE key = {first_pair}"),
            "pair",
            Some(row),
        ),
        (
            "UPDATE verdicts SET verdict = replace(verdict, 'labels\":', 'labels\":1') WHERE verdict_no = 3".into(),
            "verdict",
            None,
        ),
        // Whatever else follows from it, the first one is named: a swap comes right after this verdict.
        (
            "UPDATE verdicts SET verdict = replace(verdict, 'labels\":', 'labels\":1') WHERE row = \
             (SELECT max(v.row) FROM verdicts v JOIN journal j ON j.after_row >= v.row WHERE j.event LIKE '%swap%')"
                .into(),
            "verdict",
            None,
        ),
        (
            "UPDATE decisions SET why = why || '!' WHERE author = 'judge'".into(),
            "decision",
            None,
        ),
        (
            "UPDATE decisions SET basis = replace(basis, '\"labels\":', '\"labels\":9') WHERE author = 'judge'".into(),
            "decision",
            None,
        ),
        ("DELETE FROM decisions WHERE author = 'judge'".into(), "decision", None),
        (
            "UPDATE outcomes SET score = score / 2 WHERE id = (SELECT id FROM record WHERE key = ".to_owned()
                + &format!("{first_pair})"),
            "pair",
            Some(row),
        ),
    ];
    for (sql, what, at) in changes {
        let out = changed(&site.state(), &sql);
        let difference = line(&out)["compared"]["first_difference"].clone();
        assert_eq!(
            (out.status.code(), &difference["what"]),
            (Some(1), &Value::from(what)),
            "{sql}: {difference}"
        );
        if let Some(at) = at {
            assert_eq!(difference["row"], at, "{sql}");
        }
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("first difference"), "{said}");
    }

    // Rows may go; verdicts stay.
    let pruned = changed(&site.state(), "DELETE FROM predictions WHERE row <= 100");
    let compared = line(&pruned)["compared"].clone();
    assert_eq!(pruned.status.code(), Some(0), "{compared}");
    assert!(compared["rows_gone"].as_u64().unwrap() > 50, "{compared}");
    // A range compares less, and folds all the same.
    let part = line(&replay(&["--state", &state, "--json", "--from", "100", "--to", "150"]));
    assert!(
        part["same"] == true && part["compared"]["rows"].as_u64().unwrap() <= 51,
        "{part}"
    );
}

#[test]
fn what_cannot_be_replayed_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().to_str().unwrap();
    for (args, code, says) in [
        (vec![], 64, "--stream"),
        (vec!["--state", nothing], 1, "ledger.sqlite"),
        (
            vec!["--state", nothing, "--from", "9", "--to", "yesterday"],
            1,
            "ledger.sqlite",
        ),
    ] {
        let out = replay(&args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.code() == Some(code) && said.contains(says),
            "{args:?}: {said}"
        );
    }
}

fn settings(alpha: &str) -> String {
    format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n\
         [label]\nmaturity = \"{MATURITY} rows\"\nhorizon = \"100000 rows\"\n\
         [policy]\nalpha = {alpha}\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\nprobation = \"100000 rows\"\nrollback_wait = \"336 rows\"\n"
    )
}

#[test]
fn a_file_and_other_rules_are_tried_on_the_record_and_change_nothing_in_it() {
    let site = site();
    eventful(&site).kill();
    let state = state(&site);
    let before = replay(&["--state", &state, "--json"]).stdout;

    let picture = site.state().join("picture.svg");
    let file = shipped("e07_mlp");
    let tried = replay(&[
        "--state",
        &state,
        "--challenger",
        file.to_str().unwrap(),
        "--json",
        "--svg",
        picture.to_str().unwrap(),
    ]);
    let found = line(&tried);
    assert_eq!(
        (tried.status.code(), &found["backtest"]),
        (Some(0), &Value::Bool(true)),
        "{found}"
    );
    let tenures = found["challengers"][0]["tenures"].as_array().unwrap();
    assert_eq!(
        (tenures.len(), &found["challengers"][0]["version"]),
        (3, &Value::from("e07_mlp")),
        "{found}"
    );
    assert_eq!(tenures[0]["champion"], "e06_flipped");
    assert!(
        tenures[0]["won"]["row"].as_u64().unwrap() > 200 || tenures[2]["won"]["row"].is_u64(),
        "{found}"
    );
    assert!(
        tenures[1]["labels"].as_u64().unwrap() > 0 && tenures[1]["champion"] != "e06_flipped",
        "{found}"
    );
    assert!(std::fs::read_to_string(&picture).unwrap().contains("e07_mlp (file)"));
    let said =
        String::from_utf8_lossy(&replay(&["--state", &state, "--challenger", "/nowhere.onnx"]).stderr).into_owned();
    assert!(said.contains("/nowhere.onnx"), "{said}");

    let policy = site.state().join("other.toml");
    let under = |alpha: &str| {
        std::fs::write(&policy, settings(alpha)).unwrap();
        let out = replay(&["--state", &state, "--policy", policy.to_str().unwrap(), "--json"]);
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        line(&out)
    };
    let same = under("0.01");
    let first = &same["changes"][0];
    assert_eq!(first["recorded"]["to"], first["other"]["to"], "{same}");
    let rows = [&first["recorded"], &first["other"]].map(|change| change["row"].as_u64().unwrap());
    assert!(
        rows[0] >= rows[1],
        "the same but for the time that loading takes: {same}"
    );
    // A person's order follows from no rules, and nothing follows from rules that are never content.
    let strict = under("1e-300");
    let changes = strict["changes"].as_array().unwrap();
    // The promotion, the order, and the rollback where the last rows suffice for one.
    assert!(changes.len() >= 2, "{strict}");
    assert_eq!(strict["different"], changes.len(), "{strict}");
    assert!(changes.iter().all(|change| change["other"].is_null()), "{strict}");

    assert_eq!(replay(&["--state", &state, "--json"]).stdout, before);
}

#[test]
fn files_are_backtested_on_rows_of_a_file_and_arrive_when_they_do() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(super::support::elec2().join("stream/stream.csv")).unwrap();
    let mut lines = text.lines();
    let past: Vec<&str> = lines
        .by_ref()
        .take(1)
        .chain(text.lines().skip(20_000).take(2_000))
        .collect();
    let rows = dir.path().join("past.csv");
    std::fs::write(&rows, past.join("\n")).unwrap();
    let policy = dir.path().join("model.toml");
    std::fs::write(&policy, settings("0.01")).unwrap();
    let picture = dir.path().join("new/evidence.svg");
    let [rows, policy, picture] = [&rows, &policy, &picture].map(|path| path.to_str().unwrap());
    let [champion, challenger] = ["e06_flipped", "e01_logreg"].map(|name| shipped(name).to_str().unwrap().to_owned());
    let late = format!("{challenger}@501");
    let files = [
        "--rows",
        rows,
        "--champion",
        &champion,
        "--challenger",
        &late,
        "--policy",
        policy,
    ];
    let out = replay(&[&files[..], &["--json", "--svg", picture]].concat());
    let found = line(&out);
    assert_eq!(
        (out.status.code(), &found["backtest"]),
        (Some(0), &Value::Bool(true)),
        "{found}"
    );
    assert_eq!(
        (&found["rows"], &found["rollbacks"]),
        (&Value::from(2_000), &Value::from(0))
    );
    let champions = found["champions"].as_array().unwrap();
    assert_eq!(
        (champions.len(), &champions[0]["version"]),
        (2, &Value::from("e06_flipped")),
        "{found}"
    );
    let (from, decided) = (champions[1]["from"].as_u64().unwrap(), &champions[1]["decided"]);
    assert!(from > 501 + 200 && from < 1_500, "{found}");
    assert!(
        decided["why"].as_str().unwrap().contains("ln wealth") && decided["numbers"]["labels"].as_u64().unwrap() >= 200
    );
    let loss = |key: &str| found["mean_loss"][key].as_f64().unwrap();
    assert!(
        loss("served") < loss("first") && loss("hindsight") < loss("served"),
        "{found}"
    );
    assert!(std::fs::read_to_string(picture).unwrap().contains("polyline"));
    let text = String::from_utf8_lossy(&replay(&files).stdout).into_owned();
    assert!(
        text.starts_with("backtest, never evidence") && text.contains("gap closed"),
        "{text}"
    );

    let refused = |args: &[&str]| {
        let out = replay(args);
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, said) = refused(&["--rows", rows, "--champion", &champion]);
    assert!(code == Some(64) && said.contains("--time"), "{said}");
    let (code, said) = refused(&[&files[..], &["--label", "outcome"]].concat());
    assert!(
        code == Some(64) && said.contains("'outcome'") && said.contains("nswprice"),
        "{said}"
    );
    let (code, said) = refused(&["--rows", rows, "--state", rows]);
    assert!(code == Some(64), "{said}");
    let not_a_model = dir.path().join("page.onnx");
    std::fs::write(&not_a_model, "<html>").unwrap();
    let (code, said) = refused(&[
        "--rows",
        rows,
        "--champion",
        not_a_model.to_str().unwrap(),
        "--policy",
        policy,
    ]);
    assert!(code == Some(1) && said.contains("page.onnx"), "{said}");
}
