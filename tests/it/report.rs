//! The report and the sample: made by a gateway, beside it, and after it, with the numbers that the gateway shows.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::support::client::{get, post};
use super::support::{Gateway, Site, shipped, stream, until};

const ROWS: u64 = 600;

fn site() -> Site {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\nrecorder_percent = 100\n");
    let toml = "champion = \"e01_logreg\"\nmetric = \"brier\"\n[label]\nmaturity = \"10 rows\"\nhorizon = \"10000 rows\"\n\
         [policy]\nmode = \"off\"\n[groups]\nweb = { expr = \"context.channel == 'web'\", strict = false }\n\
         [record]\nhash = [\"mail\"]\n\
         [monitor]\nbaseline_rows = 200\nwindow = \"80 rows\"\ncycle = \"1 row\"\nby = [\"day\"]\n";
    site.model_toml("elec2", toml);
    for name in ["e01_logreg", "e06_flipped"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

/// A gateway that has answered, recorded and folded all rows.
fn served(site: &Site) -> Gateway {
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e06_flipped", "challenger");
    for chunk in stream(0, usize::try_from(ROWS).unwrap()).chunks(50) {
        let rows: Vec<&Value> = chunk.iter().map(|(row, _)| row).collect();
        let contexts: Vec<Value> = (0..chunk.len())
            .map(|k| {
                let channel = if k.is_multiple_of(2) { "web" } else { "shop" };
                json!({"channel": channel, "mail": "ada@example.com"})
            })
            .collect();
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": rows, "context": contexts}));
        assert_eq!(status, 200, "{answer}");
        let ids = answer["predictions"].as_array().unwrap().iter();
        let ids: Vec<&str> = ids.map(|row| row["id"].as_str().unwrap()).collect();
        let labels: Vec<(&str, Value)> = ids
            .into_iter()
            .zip(chunk.iter().map(|(_, label)| json!(label)))
            .collect();
        gateway.label("elec2", &labels);
    }
    until("all rows are folded", || {
        let shown = gateway.admin("/api/models/elec2/monitor");
        // The last ten rows are still open, and the one that the last row stands for.
        let is_done = shown["rows"]["last_row"] == ROWS && shown["labels"]["last_row"] == ROWS - 11;
        is_done.then_some(())
    });
    gateway
}

fn dethrone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(args)
        .output()
        .unwrap()
}

fn text(done: &Output) -> String {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout.clone()).unwrap()
}

fn parsed(done: &Output) -> Value {
    serde_json::from_str(&text(done)).unwrap()
}

/// What does not depend on the moment.
fn lasting(monitor: &Value) -> Value {
    let mut lasting = monitor.clone();
    for passing in ["volume", "bytes"] {
        lasting.as_object_mut().unwrap().remove(passing);
    }
    lasting
}

#[test]
fn a_report_has_the_numbers_of_the_monitor_made_by_a_gateway_beside_it_and_after_it() {
    let site = site();
    let gateway = served(&site);
    let (admin, state) = (gateway.admin.to_string(), site.state());
    let state = state.to_str().unwrap();
    // Of so few values a sketch keeps all, so that readings are the same to the last digit.
    let (shown, made) = until("the report shows what the monitor shows", || {
        let shown = gateway.admin("/api/models/elec2/monitor");
        let made = gateway.admin("/api/models/elec2/report?since=150+rows");
        (made["monitor"] == shown).then_some((shown, made))
    });
    assert_eq!(
        (&made["since"]["first_row"], &made["since"]["last_row"]),
        (&json!(ROWS - 149), &json!(ROWS)),
        "{}",
        made["since"]
    );
    assert_eq!(
        (&made["drift"]["read"], &made["since"]["live"]),
        (&json!(150), &json!(true))
    );
    assert_eq!(made["champion"]["version"], "e01_logreg");
    assert_eq!(made["champion"]["since"], gateway.view("elec2")["champion"]["since"]);
    // The last point of the bet is where it stands.
    let evidence = gateway.version("elec2", "e06_flipped")["evidence"].clone();
    let curve = &made["evidence"]["curves"][0];
    let last = curve["parts"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .as_array()
        .unwrap()
        .last()
        .unwrap();
    assert_eq!((&last[1], &last[2]), (&evidence["log_wealth"], &evidence["log_bar"]));
    assert_eq!(
        (&curve["labels"], &curve["version"]),
        (&evidence["labels"], &json!("e06_flipped"))
    );
    // Rows of the window against the baseline; what arrives with the first row is there.
    let prices = made["distributions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["name"] == "nswprice")
        .unwrap();
    assert_eq!(
        (&prices["window"]["rows"], &prices["baseline"]["rows"]),
        (&json!(150), &json!(200))
    );
    assert!(
        prices["bars"].as_array().unwrap().len() == 20 && prices["apart"]["psi"].is_number(),
        "{prices}"
    );
    let whole = gateway.admin("/api/models/elec2/report?since=1000+rows");
    assert_eq!(
        whole["decisions"],
        gateway.admin("/api/models/elec2/decisions")["decisions"],
        "the whole record is in it"
    );
    let windows = whole["drift"]["buckets"].as_array().unwrap().iter();
    let windows: Vec<_> = windows
        .map(|w| (w["first_row"].as_u64(), w["last_row"].as_u64()))
        .collect();
    assert_eq!(
        windows,
        [(Some(1), Some(400)), (Some(101), Some(500)), (Some(201), Some(600))]
    );

    let page = site.state().join("page.html");
    let out = page.to_str().unwrap();
    let by_gateway = [
        "report", "--model", "elec2", "--since", "150 rows", "--admin", &admin, "--out", out,
    ];
    text(&dethrone(&by_gateway));
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    let accuracy = shown["labels"]["recent"]["accuracy"]["value"].as_f64().unwrap();
    let accuracy = format!("<dd>{} %</dd>", (accuracy * 1_000.0).round() / 10.0);
    for part in [
        "<h1>elec2</h1>",
        "e06_flipped",
        "web",
        "day = 2",
        "nswprice",
        accuracy.as_str(),
        "</html>",
    ] {
        assert!(html.contains(part), "'{part}' is not in the page");
    }
    assert!(
        html.len() < 400_000 && !html.contains("<script") && !html.contains("://"),
        "{} bytes",
        html.len()
    );

    let beside = ["report", "--json", "--state", state, "--since", "150 rows"];
    let read = parsed(&dethrone(&beside));
    assert_eq!(lasting(&read["monitor"]), lasting(&shown));
    for part in [
        "distributions",
        "drift",
        "evidence",
        "tenures",
        "decisions",
        "costs",
        "champion",
    ] {
        assert_eq!(read[part], made[part], "{part}");
    }
    assert_eq!(gateway.stop(), Some(0));
    let before = files(&site);
    let after = parsed(&dethrone(&beside));
    assert_eq!(files(&site), before, "nothing was written");
    assert_eq!(lasting(&after["monitor"]), lasting(&shown));
    assert_eq!(after["since"]["live"], false);
    for part in ["distributions", "drift", "evidence"] {
        assert_eq!(after[part], made[part], "{part}");
    }
    refuses(state);
}

fn files(site: &Site) -> Vec<(std::path::PathBuf, u64)> {
    let mut all: Vec<_> = std::fs::read_dir(site.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let length = std::fs::metadata(&path).unwrap().len();
            (path, length)
        })
        .collect();
    all.sort();
    all
}

/// What cannot be reported on is refused with what is wrong.
fn refuses(state: &str) {
    for (args, code, says) in [
        (
            &["report", "--model", "elec9"][..],
            1,
            "no model 'elec9'; the ledger knows: elec2",
        ),
        (&["report", "--since", "2100-01-01"], 1, "the last one is row 600"),
        (
            &["report", "--since", "next week"],
            64,
            "is not a beginning: write a span (\"7d\"",
        ),
        (
            &["sample", "--since", "601"],
            1,
            "no row of 'elec2' lies in the stretch since 601",
        ),
        (&["sample", "--n", "1001"], 64, "1..=1000"),
        (&["sample", "--n", "0"], 64, "1..=1000"),
        (&["sample", "--seed", "x"], 64, "invalid digit"),
        (&["sample", "--format", "xml"], 64, "table, json, csv"),
    ] {
        let done = dethrone(&[args, &["--state", state]].concat());
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
    let nowhere = dethrone(&["report", "--state", "nowhere"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("ledger.sqlite"));
}

#[test]
fn a_sample_is_the_same_for_its_seed_and_says_of_each_row_what_is_no_longer_there() {
    let site = site();
    let gateway = served(&site);
    let (admin, state) = (gateway.admin.to_string(), site.state());
    let state = state.to_str().unwrap();
    let asked = [
        "sample",
        "--n",
        "12",
        "--seed",
        "7",
        "--since",
        "1000 rows",
        "--format",
        "json",
    ];
    let by_gateway = [&asked[..], &["--admin", &admin]].concat();
    let drawn = parsed(&dethrone(&by_gateway));
    assert_eq!(drawn, parsed(&dethrone(&by_gateway)), "the same seed");
    let route = gateway.admin("/api/models/elec2/sample?n=12&seed=7&since=1000+rows");
    assert_eq!(route, drawn);
    let beside = [&asked[..], &["--state", state]].concat();
    assert_eq!(parsed(&dethrone(&beside)), drawn);
    let other = gateway.admin("/api/models/elec2/sample?n=12&seed=8&since=1000+rows");
    assert_ne!(other["rows"], drawn["rows"]);
    let by_chance = gateway.admin("/api/models/elec2/sample?n=3&since=1000+rows");
    assert!(by_chance["seed"].is_u64() && by_chance["count"] == 3, "{by_chance}");

    let rows = drawn["rows"].as_array().unwrap();
    let numbers: Vec<u64> = rows.iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert!(
        numbers.is_sorted() && numbers.iter().all(|row| (1..=ROWS).contains(row)),
        "{numbers:?}"
    );
    for row in rows {
        assert!(
            row["answer"]["score"].is_number() && row["shadows"][0]["score"].is_number(),
            "{row}"
        );
        assert!(
            row["label"]["label"].is_number() && row["inputs"]["nswprice"].is_number(),
            "{row}"
        );
        assert_eq!(
            (&row["inputs_are"], &row["hashed"]),
            (&json!("there"), &json!(["mail"])),
            "{row}"
        );
        assert!(!row.to_string().contains("ada@example.com"), "{row}");
        assert!(row["id"].as_str().unwrap().starts_with("p1_"), "{row}");
    }
    // An erased row stays in the draw: what is left would be no fair picture.
    let order = json!({"ids": [rows[5]["id"]], "author": "ada", "reason": "asked for"});
    assert_eq!(post(gateway.admin, "/api/models/elec2/erase", &order).status, 200);
    let again = gateway.admin("/api/models/elec2/sample?n=12&seed=7&since=1000+rows");
    let gone = &again["rows"][5];
    assert_eq!((&gone["row"], &gone["erased"]), (&rows[5]["row"], &json!(true)));
    assert!(gone["inputs"].is_null() && gone["answer"].is_null(), "{gone}");
    assert_eq!(again["rows"][6], drawn["rows"][6]);
    for (query, says) in [
        ("n=0", "1 to 1000 rows"),
        ("n=1001", "1 to 1000 rows"),
        ("n=x", "n: "),
        ("since=soon", "since: 'soon' is not a beginning"),
        ("sed=7", "did you mean 'seed'?"),
    ] {
        let answer = get(gateway.admin, &format!("/api/models/elec2/sample?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{query}: {}", answer.text());
    }
    let late = get(gateway.admin, "/api/models/elec2/sample?since=2100-01-01");
    assert!(
        late.status == 404 && late.text().contains("the last one is row 600"),
        "{}",
        late.text()
    );
    let unknown = get(gateway.admin, "/api/models/elec9/report");
    assert!(
        unknown.status == 404 && unknown.text().contains("unknown_model"),
        "{}",
        unknown.text()
    );

    assert_eq!(gateway.stop(), Some(0));
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger
        .execute("UPDATE predictions SET inputs = NULL, context = NULL", [])
        .unwrap();
    ledger.execute("UPDATE retention SET inputs_to = 1000", []).unwrap();
    drop(ledger);
    dethrone::ledger::seal_again(&site.state()).unwrap();
    let table = text(&dethrone(&[
        "sample",
        "--seed",
        "7",
        "--since",
        "1000 rows",
        "--state",
        state,
    ]));
    assert!(
        table.contains("seed 7") && table.contains("inputs: pruned") && table.contains("  erased"),
        "{table}"
    );
    let csv = text(&dethrone(&[
        "sample",
        "--format",
        "csv",
        "--seed",
        "7",
        "--since",
        "1000 rows",
        "--state",
        state,
    ]));
    assert!(csv.lines().count() == 21 && csv.starts_with("row,time,id,"), "{csv}");
    assert!(csv.lines().next().unwrap().ends_with("score_e06_flipped"), "{csv}");
}
