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
    let rows = stream(20_000, 4_000);
    let mut chunks = rows.chunks(80);
    until("the judge promotes", || {
        gateway.feed("elec2", chunks.next().unwrap());
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
        (vec![], 64, "--state"),
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
