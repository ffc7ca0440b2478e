//! Where versions come from, when they answered, how two differ, and any past answer computed again.

use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::client::{get, post};
use super::support::{Gateway, Site, elec2_row, ids, onnx, shipped, stream, until};

fn site(more: &str) -> Site {
    let site = Site::new("");
    let toml = format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n[label]\nmaturity = \"45 rows\"\nhorizon = \"10000 rows\"\n\
         [policy]\nmode = \"off\"\n{more}"
    );
    site.model_toml("elec2", &toml);
    site.drop_file("elec2", "e06_flipped", &shipped("e06_flipped"));
    site
}

fn dethrone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(args)
        .output()
        .unwrap()
}

fn asked(gateway: &Gateway, args: &[&str]) -> Output {
    dethrone(&[args, &["--admin", &gateway.admin.to_string()]].concat())
}

fn line(out: &Output) -> Value {
    assert!(out.status.success(), "{}", said(out));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

const MADE: &str = "threshold = 0.4\n[lineage]\ndata = \"s3://past/2026-11\"\npipeline = \"train.py\"\ncode = \"4f2a\"\n\
    application = \"prices\"\ndependencies = { numpy = \"2.1\" }\nauthor = \"ann\"\nparent = \"e06_flipped\"\nticket = 17\n\
    [lineage.metrics]\nauc = 0.81\n";

#[test]
fn where_a_version_comes_from_is_recorded_with_its_digest_and_told_by_every_surface() {
    let site = site("");
    std::fs::write(site.models().join("elec2/e01_logreg.toml"), MADE).unwrap();
    let bytes = std::fs::read(shipped("e01_logreg")).unwrap();
    site.drop_bytes("elec2", "e01_logreg", &onnx::again(&bytes, "of november"));
    let zipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_zipmap_int.onnx");
    site.drop_file("zipped", "first", &zipped);
    let gateway = site.start().ready();
    let shown = gateway.until_role("elec2", "e01_logreg", "challenger");
    let lineage = &shown["lineage"];
    for (key, value) in [
        ("data", json!("s3://past/2026-11")),
        ("pipeline", json!("train.py")),
        ("code", json!("4f2a")),
        ("application", json!("prices")),
        ("dependencies", json!({"numpy": "2.1"})),
        ("author", json!("ann")),
        ("parent", json!("e06_flipped")),
        ("metrics", json!({"auc": 0.81})),
        ("other", json!({"ticket": 17})),
    ] {
        assert_eq!(lineage[key], value, "{shown}");
    }
    let file = &lineage["file"];
    assert!(
        file["producer"].is_string() && file["ir_version"].as_i64() > Some(3),
        "{file}"
    );
    assert!(
        file["opsets"].as_object().is_some_and(|opsets| !opsets.is_empty()),
        "{file}"
    );
    assert_eq!(file["metadata"]["copy"], "of november");
    let rewritten = gateway.until_role("zipped", "first", "champion");
    assert!(
        rewritten["stored_digest"].is_string() && rewritten["stored_digest"] != rewritten["digest"],
        "{rewritten}"
    );

    // What its toml says later, perhaps of later bytes, does not change what was recorded.
    let later = MADE
        .replace("4f2a", "0000")
        .replace("threshold = 0.4", "threshold = 0.3");
    std::fs::write(site.models().join("elec2/e01_logreg.toml"), later).unwrap();
    until("the threshold of the edit", || {
        (gateway.version("elec2", "e01_logreg")["threshold"] == 0.3).then_some(())
    });
    assert_eq!(gateway.version("elec2", "e01_logreg")["lineage"]["code"], "4f2a");

    // Two tenures, each with its rows and labels.
    gateway.feed("elec2", &stream(0, 60));
    until("the shadow has scored", || {
        (gateway.version("elec2", "e01_logreg")["coverage"]["scored"] == 60).then_some(())
    });
    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    gateway.feed("elec2", &stream(60, 100));
    until("all closed rows are folded, and scored in shadow", || {
        let scored = gateway.version("elec2", "e06_flipped")["coverage"]["scored"].clone();
        (gateway.view("elec2")["rows"]["open"].as_u64()? <= 46 && scored == 100).then_some(())
    });
    let state = site.state().to_str().unwrap().to_owned();
    let told = line(&asked(&gateway, &["versions", "--model", "elec2", "--json"]));
    let read = line(&dethrone(&[
        "versions", "--state", &state, "--model", "elec2", "--json",
    ]));
    assert_eq!(told, read, "the gateway and its ledger say the same");
    let of = |name: &str| {
        let all = told["versions"].as_array().unwrap();
        all.iter().find(|v| v["version"] == name).cloned().unwrap()
    };
    let (old, new) = (of("e06_flipped"), of("e01_logreg"));
    assert_eq!(
        (&old["role"], &old["tenures"][0]["rows"], &old["tenures"][0]["kind"]),
        (&json!("previous"), &json!(60), &json!("first"))
    );
    assert_eq!(
        (
            &new["role"],
            &new["tenures"][0]["rows"],
            &new["tenures"][0]["first_row"]
        ),
        (&json!("champion"), &json!(100), &json!(61))
    );
    assert!(old["tenures"][0]["to"] == new["tenures"][0]["from"] && new["tenures"][0]["to"].is_null());
    let labels = |v: &Value| v["tenures"][0]["labels"].as_u64().unwrap();
    assert!(labels(&old) >= 10 && labels(&new) >= 45, "{told}");
    assert_eq!(
        (&new["digest"], &new["lineage"]["code"]),
        (&shown["digest"], &json!("4f2a"))
    );
    let table = said(&asked(&gateway, &["versions", "--model", "elec2"]));
    assert!(
        table.contains("epoch 2:") && table.contains("metrics.auc = 0.81"),
        "{table}"
    );

    // One version whole, by name and by the beginning of its digest.
    let whole = line(&asked(
        &gateway,
        &["versions", "--model", "elec2", "--json", "e01_logreg"],
    ));
    assert!(
        whole["signature"]["inputs"].is_array() && whole["operators"].is_object(),
        "{whole}"
    );
    let digest = shown["digest"].as_str().unwrap();
    let by_digest = get(gateway.admin, &format!("/api/models/elec2/versions/{}", &digest[7..19])).json();
    assert_eq!(by_digest, whole);

    // The decision keeps it for itself.
    let decision = gateway.decisions("elec2").last().unwrap()["n"].to_string();
    let explained = said(&asked(&gateway, &["explain-decision", &decision]));
    for part in ["s3://past/2026-11", "of november", digest] {
        assert!(explained.contains(part), "'{part}' is not in\n{explained}");
    }

    // How the two differ, by what is known and by what they made of the same rows.
    let diff = line(&asked(
        &gateway,
        &["diff", "e06_flipped", "e01_logreg", "--model", "elec2", "--json"],
    ));
    let beside = [
        "diff",
        "e06_flipped",
        "e01_logreg",
        "--model",
        "elec2",
        "--json",
        "--state",
        &state,
    ];
    assert_eq!(diff, line(&dethrone(&beside)));
    let differs = |part: &str, key: &str| {
        let all = diff["differences"].as_array().unwrap();
        let found = all.iter().find(|d| d["part"] == part && d["key"] == key);
        found.unwrap_or_else(|| panic!("{part} {key} is not in {diff}")).clone()
    };
    assert_eq!(differs("lineage", "metrics.auc")["b"], 0.81);
    assert_eq!(differs("lineage", "file.metadata.copy")["b"], "of november");
    assert_eq!(
        (
            &differs("settings", "threshold")["a"],
            &differs("settings", "threshold")["b"]
        ),
        (&json!(0.5), &json!(0.3))
    );
    let rows = &diff["rows"];
    assert_eq!((&rows["both"], &rows["scored"]), (&json!(160), &json!(160)), "{diff}");
    assert!(
        rows["loss"]["a"].as_f64() > rows["loss"]["b"].as_f64(),
        "the flipped one loses more: {diff}"
    );
    assert_eq!(rows["loss"]["labelled"], 160);
    let agreement = rows["agreement"].as_f64().unwrap();
    assert!(
        (0.0..0.9).contains(&agreement) && rows["equal"].as_u64().unwrap() < 80,
        "{diff}"
    );
    let text = said(&asked(
        &gateway,
        &["diff", "e06_flipped", "e01_logreg", "--model", "elec2"],
    ));
    assert!(
        text.contains("share of rows with the same label") && text.contains("mean brier of e01_logreg"),
        "{text}"
    );

    let unknown = asked(&gateway, &["diff", "e06_flipped", "nobody", "--model", "elec2"]);
    assert!(
        unknown.status.code() == Some(1) && said(&unknown).contains("has no version 'nobody'"),
        "{}",
        said(&unknown)
    );
}

/// A copy of a state directory, to be changed.
fn copy_of(state: &Path) -> tempfile::TempDir {
    let copy = tempfile::TempDir::new().unwrap();
    let args = [
        "-r",
        &format!("{}/.", state.display()),
        &copy.path().display().to_string(),
    ];
    assert!(Command::new("cp").args(args).status().unwrap().success());
    copy
}

fn recompute(state: &Path, args: &[&str]) -> Output {
    dethrone(&[&["recompute", "--state", state.to_str().unwrap()], args].concat())
}

fn found(out: &Output) -> Vec<(String, String)> {
    let told: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(out)));
    let answers = told["answers"].as_array().unwrap();
    answers
        .iter()
        .map(|a| {
            (
                a["version"].as_str().unwrap().into(),
                a["found"].as_str().unwrap().into(),
            )
        })
        .collect()
}

#[test]
fn any_past_answer_is_computed_again_and_whatever_was_changed_is_named() {
    let site = site("");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let mut generated = Vec::new();
    for (at, (features, _)) in stream(100, 6).into_iter().enumerate() {
        let body = json!({"model": "elec2", "instances": [features], "ids": [format!("order-{at}")]});
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200, "{answer}");
        let body = json!({"model": "elec2", "instances": [features]});
        generated.extend(ids(&gateway.predict(&body).1));
    }
    until("the shadow has scored", || {
        (gateway.version("elec2", "e01_logreg")["coverage"]["scored"] == 12).then_some(())
    });
    // The champion changes; what the old one answered stays computable, also when its file has gone.
    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    std::fs::remove_file(site.models().join("elec2/e06_flipped.onnx")).unwrap();

    let state = site.state();
    let beside = recompute(&state, &[&generated[0], "--json"]);
    assert!(beside.status.success(), "{}", said(&beside));
    let answers = found(&beside);
    assert_eq!(answers[0], ("e06_flipped".into(), "equal".into()), "{}", said(&beside));
    assert_eq!(answers[1].0, "e01_logreg");
    assert!(["equal", "close"].contains(&answers[1].1.as_str()), "{}", said(&beside));
    let text = recompute(&state, &["order-3", "--model", "elec2"]);
    assert!(
        text.status.success() && said(&text).contains("the same bit for bit"),
        "{}",
        said(&text)
    );
    for (id, says) in [
        ("order-99", "nothing is held on 'order-99'"),
        ("p1_00000000000000000000000000", "no id that this gateway gave out"),
    ] {
        let out = recompute(&state, &[id]);
        assert!(
            out.status.code() == Some(1) && said(&out).contains(says),
            "{}",
            said(&out)
        );
    }
    let order = json!({"ids": ["order-5"], "author": "ada", "reason": "asked to"});
    assert_eq!(post(gateway.admin, "/api/models/elec2/erase", &order).status, 200);
    gateway.kill();
    assert!(said(&recompute(&state, &["order-5"])).contains("nothing is held"));

    // Whatever was changed afterwards is named; what is gone is no difference.
    let changed = |sql: &str| {
        let copy = copy_of(&state);
        let ledger = Connection::open(copy.path().join("ledger.sqlite")).unwrap();
        assert!(ledger.execute(sql, []).unwrap() > 0, "{sql}");
        dethrone::ledger::seal_again(copy.path()).unwrap();
        copy
    };
    let copy = changed("UPDATE predictions SET score = score + 0.001");
    let out = recompute(copy.path(), &["order-0"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("not the same as recorded: e06_flipped"),
        "{}",
        said(&out)
    );
    let tolerant = recompute(copy.path(), &["order-0", "--tolerance", "0.01", "--json"]);
    assert!(
        tolerant.status.success() && found(&tolerant)[0].1 == "close",
        "{}",
        said(&tolerant)
    );
    let copy = changed("UPDATE outcomes SET score = 1 - score");
    let out = recompute(copy.path(), &["order-0"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("not the same as recorded: e01_logreg"),
        "{}",
        said(&out)
    );
    let copy = changed("UPDATE predictions SET inputs = NULL");
    let out = recompute(copy.path(), &["order-0"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("were pruned"),
        "{}",
        said(&out)
    );

    let copy = copy_of(&state);
    let challenger: String = Connection::open(copy.path().join("ledger.sqlite"))
        .unwrap()
        .query_row("SELECT digest FROM versions WHERE name = 'e01_logreg'", [], |row| {
            row.get(0)
        })
        .unwrap();
    let blob = copy
        .path()
        .join("blobs/sha256")
        .join(&challenger[7..])
        .join("model.onnx");
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let out = recompute(copy.path(), &["order-0", "--json"]);
    assert!(
        out.status.success() && said(&out).contains("is damaged"),
        "{}",
        said(&out)
    );
    assert_eq!(found(&out)[1].1, "unknown");
    std::fs::remove_dir_all(blob.parent().unwrap()).unwrap();
    let out = recompute(copy.path(), &["order-0", "--json"]);
    assert!(
        out.status.success() && said(&out).contains("is not in the content store"),
        "{}",
        said(&out)
    );
}

#[test]
fn what_was_hashed_or_dropped_before_disk_cannot_be_computed_again_and_says_so() {
    let site = Site::new("");
    site.model_toml("elec2", "[record]\nhash = [\"day\"]\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let row = json!({"model": "elec2", "instances": [elec2_row()], "ids": ["one"]});
    assert_eq!(gateway.predict(&row).0, 200);
    until("it is recorded", || {
        (gateway.view("elec2")["rows"]["recorded"] == 1).then_some(())
    });
    let out = recompute(&site.state(), &["one"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("of the feature 'day' only a hash was recorded"),
        "{}",
        said(&out)
    );
    gateway.kill();
    // As it would stand there had it been dropped.
    let ledger = Connection::open(site.state().join("ledger.sqlite")).unwrap();
    let dropped = "UPDATE predictions SET inputs = json_remove(inputs, '$.day')";
    assert_eq!(ledger.execute(dropped, []).unwrap(), 1);
    drop(ledger);
    dethrone::ledger::seal_again(&site.state()).unwrap();
    let out = recompute(&site.state(), &["one"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("the feature 'day' was not recorded"),
        "{}",
        said(&out)
    );
}

#[test]
fn bytes_that_never_ran_go_and_those_that_answered_stay() {
    let site = site("[shadow]\nmax_challengers = 1\n");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    gateway.feed("elec2", &stream(0, 40));
    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    gateway.feed("elec2", &stream(40, 40));
    site.drop_file("elec2", "e05_forest", &shipped("e05_forest"));
    gateway.until_role("elec2", "e05_forest", "challenger");
    // That was the only place: these wait, and each takes the one's before.
    let bytes = std::fs::read(shipped("e07_mlp")).unwrap();
    let mut last = String::new();
    for name in ["a", "b", "c"] {
        site.drop_bytes("elec2", "waits", &onnx::again(&bytes, name));
        last = until("the new bytes are known", || {
            let digest = gateway.version("elec2", "waits")["digest"].as_str()?.to_owned();
            let facts = &gateway.version("elec2", "waits")["lineage"]["file"]["metadata"]["copy"];
            (digest != last && *facts == name).then_some(digest)
        });
    }
    let stored = || -> usize { std::fs::read_dir(site.state().join("blobs/sha256")).unwrap().count() };
    gateway.kill();
    assert_eq!(stored(), 6);
    let gateway = site.start().ready();
    until("what never ran is gone", || (stored() == 4).then_some(()));
    for version in ["e06_flipped", "e01_logreg", "e05_forest", "waits"] {
        let digest = gateway.version("elec2", version)["digest"].as_str().unwrap().to_owned();
        assert!(
            site.state().join("blobs/sha256").join(&digest[7..]).exists(),
            "{version}"
        );
    }
    assert_eq!(
        gateway
            .predict(&json!({"model": "elec2", "instances": [elec2_row()]}))
            .0,
        200
    );
}
