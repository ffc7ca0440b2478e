//! What is held on somebody is shown whole, and goes for good when it is erased, without a verdict changing.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::support::client::post;
use super::support::{Gateway, Site, elec2_row, holds, ids, shipped, stream, until};

fn site(more: &str) -> Site {
    let site = Site::new("");
    let toml = format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n[label]\nmaturity = \"10 rows\"\nhorizon = \"1000 rows\"\n\
         [policy]\nmode = \"off\"\n{more}"
    );
    site.model_toml("elec2", &toml);
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

fn started(site: &Site) -> Gateway {
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    gateway
}

fn dethrone(gateway: &Gateway, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    command.args(args).args(["--admin", &gateway.admin.to_string()]);
    command.output().unwrap()
}

fn shown(gateway: &Gateway, args: &[&str]) -> Value {
    let out = dethrone(gateway, &[&["show", "--json"], args].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn what_is_erased_is_in_no_file_any_more_and_no_verdict_changes() {
    let site = site("");
    let gateway = started(&site);
    for (at, chunk) in stream(0, 60).chunks(2).enumerate() {
        let rows: Vec<&Value> = chunk.iter().map(|(features, _)| features).collect();
        let names = [format!("zq-customer-{at}"), "zq-customer-of-old".to_owned()];
        let contexts = [json!({"note": "zq-secret-note"}), json!({})];
        let own = [format!("zq-order-{at}"), format!("zq-other-{at}")];
        let body = json!({"model": "elec2", "instances": rows, "entities": names, "context": contexts, "ids": own});
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200, "{answer}");
        let labels: Vec<(&str, Value)> = own
            .iter()
            .map(String::as_str)
            .zip(chunk.iter().map(|(_, l)| json!(l)))
            .collect();
        gateway.label("elec2", &labels);
    }
    gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); 12]}));
    let labels = || {
        gateway.version("elec2", "e01_logreg")["evidence"]["labels"]
            .as_u64()
            .unwrap_or(0)
    };
    until("all closed rows are folded", || (labels() >= 30).then_some(()));
    let before = gateway.version("elec2", "e01_logreg")["evidence"].clone();

    let held = shown(&gateway, &["zq-order-3"]);
    let row = &held["rows"][0];
    assert_eq!(
        (&row["entity"], &row["caller_id"]),
        (&json!("zq-customer-3"), &json!("zq-order-3"))
    );
    assert_eq!(row["context"]["note"], "zq-secret-note");
    assert_eq!((&row["version"], &row["row"]), (&json!("e06_flipped"), &json!(7)));
    assert!(
        row["answer"]["score"].is_number() && row["shadows"][0]["score"].is_number(),
        "{row}"
    );
    assert!(
        row["label"]["label"].is_number() && row["evidence"][0]["difference"].is_number(),
        "{row}"
    );
    assert!(row["decision"]["positive"].is_boolean(), "{row}");
    let by_id = shown(&gateway, &[row["id"].as_str().unwrap()]);
    assert_eq!(by_id["rows"][0], *row, "by its generated id it is the same");
    assert_eq!(
        shown(&gateway, &["--entity", "zq-customer-of-old"])["rows"]
            .as_array()
            .unwrap()
            .len(),
        30
    );

    let out = dethrone(
        &gateway,
        &[
            "erase",
            "zq-order-3",
            "--entity",
            "zq-customer-of-old",
            "--author",
            "ada",
            "--reason",
            "asked to",
        ],
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("31 rows erased"),
        "{out:?}"
    );
    for args in [vec!["zq-order-3"], vec!["--entity", "zq-customer-of-old"]] {
        let out = dethrone(&gateway, &[&["show"], &args[..]].concat());
        assert!(
            !out.status.success() && String::from_utf8_lossy(&out.stderr).contains("nothing is held"),
            "{out:?}"
        );
    }
    assert_eq!(gateway.label("elec2", &[("zq-order-3", json!(1))]), ["unknown"]);
    assert_eq!(gateway.version("elec2", "e01_logreg")["evidence"], before);
    // Labels make the next commit, and with it the log is emptied.
    until("no file has it", || {
        gateway.label("elec2", &[("zq-order-4", json!(1))]);
        (!holds(&site.state(), "zq-customer-of-old") && !holds(&site.state(), "zq-order-3\"")).then_some(())
    });
    assert!(!holds(&site.state(), "zq-customer-3"), "and its neighbours stay:");
    assert!(holds(&site.state(), "zq-customer-4"));

    // After a restart the record goes on, and what was decided comes out again.
    gateway.kill();
    let gateway = started(&site);
    assert_eq!(
        gateway.version("elec2", "e01_logreg")["evidence"]["labels"],
        before["labels"]
    );
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 72);
    let replay = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["replay", "--json", "--state"])
        .arg(site.state())
        .output()
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");

    // The chain of decisions and erasures is whole, and says so no more once somebody has touched one.
    let audit = |expect: &[&str]| {
        let state = site.state();
        let args = [&["audit", "--json", "--state", state.to_str().unwrap()], expect].concat();
        Command::new(env!("CARGO_BIN_EXE_dethrone"))
            .args(args)
            .output()
            .unwrap()
    };
    let whole = audit(&[]);
    assert!(whole.status.success(), "{whole:?}");
    let said: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert!(said["entries"].as_u64().unwrap() >= 2, "{said}");
    let head = said["head"].as_str().unwrap();
    assert!(audit(&["--expect", head]).status.success());
    assert!(!audit(&["--expect", &"0".repeat(64)]).status.success());
    gateway.kill();
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger.execute("UPDATE erasures SET author = 'nobody'", []).unwrap();
    drop(ledger);
    let touched = audit(&[]);
    assert!(!touched.status.success());
    assert!(
        String::from_utf8_lossy(&touched.stdout).contains("erasure 1 was changed"),
        "{touched:?}"
    );
}

#[test]
fn bad_orders_to_erase_say_what_is_wrong_and_erase_nothing() {
    let site = site("");
    let gateway = started(&site);
    let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    let id = ids(&answer).remove(0);
    for (body, says) in [
        (json!({"ids": [id]}), "'author' is missing"),
        (json!({"ids": [id], "author": "ada"}), "'reason' is missing"),
        (json!({"author": "ada", "reason": "x"}), "between 1 and"),
        (
            json!({"ids": ["p1_00000000000000000000000000"], "author": "ada", "reason": "x"}),
            "no id that this gateway gave out",
        ),
        (json!({"id": [id], "author": "ada", "reason": "x"}), "unknown field"),
    ] {
        let refused = post(gateway.admin, "/api/models/elec2/erase", &body);
        assert!(
            (400..500).contains(&refused.status) && refused.text().contains(says),
            "{}",
            refused.text()
        );
    }
    until("it is written, and still there", || {
        let out = dethrone(&gateway, &["show", &id]);
        out.status.success().then_some(())
    });
}

#[test]
fn what_is_hashed_or_dropped_never_reaches_the_disk_and_an_entity_is_found_all_the_same() {
    let site = site("[record]\ndrop = [\"nswdemand\"]\nhash = [\"entities\", \"day\", \"customer\"]\n");
    let gateway = started(&site);
    let mut first = None;
    for _ in 0..2 {
        let body = json!({
            "model": "elec2", "instances": [elec2_row()], "entities": ["zq-somebody"],
            "context": [{"customer": "zq-ada", "channel": "web"}],
        });
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200, "{answer}");
        let id = ids(&answer).remove(0);
        let row = until("it is written", || {
            let out = dethrone(&gateway, &["show", "--json", &id]);
            out.status
                .success()
                .then(|| serde_json::from_slice::<Value>(&out.stdout).unwrap()["rows"][0].clone())
        });
        assert!(
            row["inputs"]["nswdemand"].is_null() && row["inputs"]["nswprice"].is_number(),
            "{row}"
        );
        for hashed in [&row["inputs"]["day"], &row["context"]["customer"], &row["entity"]] {
            assert!(hashed.as_str().unwrap().starts_with("h_"), "{row}");
        }
        assert_eq!(row["context"]["channel"], "web");
        let stands_for = (
            row["inputs"]["day"].clone(),
            row["context"]["customer"].clone(),
            row["entity"].clone(),
        );
        assert_eq!(
            *first.get_or_insert(stands_for.clone()),
            stands_for,
            "the same for the same value"
        );
    }
    assert_eq!(
        shown(&gateway, &["--entity", "zq-somebody"])["rows"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(!holds(&site.state(), "zq-ada") && !holds(&site.state(), "zq-somebody"));
}
