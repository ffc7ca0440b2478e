//! The monitor beside a gateway: it follows the record, over restarts.

use serde_json::{Value, json};

use crate::support::{Gateway, Site, ask_ledger, client, shipped, stream, until};

fn site(monitor: &str) -> Site {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\nrecorder_percent = 100\n");
    site.model_toml("elec2", &format!("[policy]\nmode = \"off\"\n[monitor]\n{monitor}"));
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

fn send(gateway: &Gateway, rows: &[Value]) {
    for rows in rows.chunks(96) {
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": rows}));
        assert_eq!(status, 200, "{answer}");
    }
}

/// The monitor's view once it has folded all rows up to this one.
fn folded(gateway: &Gateway, row: u64) -> Value {
    until("rows are folded", || {
        let view = gateway.admin("/api/models/elec2/monitor");
        (view["rows"]["last_row"].as_u64()? >= row && view["rows"]["waiting"] == 0).then_some(view)
    })
}

fn feature(view: &Value, name: &str) -> Value {
    let mut features = view["features"].as_array().unwrap().iter();
    features
        .find(|feature| feature["name"] == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name} in {view}"))
}

fn named(view: &Value, state: &str) -> Vec<String> {
    let features = view["features"].as_array().unwrap().iter();
    let named = features.filter(|feature| feature["state"] == state);
    named
        .map(|feature| feature["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_victorian_market_is_alarmed_in_service_and_after_a_restart_nothing_is_forgotten() {
    let site = site("baseline_rows = 4032\nwindow = \"336 rows\"\ncycle = \"48 rows\"\n");
    let gateway = site.start().ready();
    let rows: Vec<Value> = stream(0, 17_424 + 384)
        .into_iter()
        .map(|(features, _)| features)
        .collect();
    let (before, after) = rows.split_at(17_424);
    send(&gateway, before);
    let view = folded(&gateway, 17_424);
    assert_eq!(view["baseline"]["source"], "first_rows", "{}", view["baseline"]);
    let victorian = ["transfer", "vicdemand", "vicprice"];
    assert_eq!(named(&view, "constant"), victorian, "{}", view["states"]);
    assert_eq!(view["rows"]["skipped"], 0);

    send(&gateway, after);
    let view = folded(&gateway, 17_808);
    let raised = view["alarm"]["raised"].as_array().unwrap();
    let in_the_week = |alarm: &&Value| (17_425..17_425 + 336).contains(&alarm["row"].as_u64().unwrap());
    let mut causes: Vec<&str> = raised
        .iter()
        .filter(in_the_week)
        .filter_map(|a| a["feature"].as_str())
        .collect();
    causes.sort_unstable();
    assert_eq!(causes, victorian, "{}", view["alarm"]);
    let alarms = raised.len();
    let series = format!("dethrone_monitor_alarms{{model=\"elec2\"}} {alarms}");
    assert!(
        client::get(gateway.admin, "/metrics").text().contains(&series),
        "{series}"
    );
    until("alarms are in the ledger", || {
        let kept: i64 = ask_ledger(&site, "SELECT count(*) FROM alarms")?;
        (kept == i64::try_from(alarms).unwrap()).then_some(())
    });
    let kept: i64 = ask_ledger(&site, "SELECT count(*) FROM baselines").unwrap();
    assert_eq!(kept, 1);

    assert_eq!(gateway.stop(), Some(0));
    let gateway = site.start().ready();
    let again = folded(&gateway, 17_808);
    assert_eq!(again["alarm"]["raised"], view["alarm"]["raised"]);
    assert_eq!(again["rows"]["folded"], view["rows"]["folded"]);
    let (was, is) = (feature(&view, "nswprice"), feature(&again, "nswprice"));
    assert_eq!(was["alarm"], is["alarm"]);
    assert_eq!(was["baseline"], is["baseline"]);
    assert_eq!(
        (&was["recent"]["rows"], &was["recent"]["numbers"]["max"]),
        (&is["recent"]["rows"], &is["recent"]["numbers"]["max"]),
        "the same window was read again"
    );
}

#[test]
fn a_file_beside_the_version_is_its_baseline_and_what_does_not_fit_it_is_named() {
    let site = site("window = \"80 rows\"\ncycle = \"1 row\"\nfreeze = [\"range\", \"unseen\"]\n");
    let rows: Vec<Value> = stream(20_000, 900).into_iter().map(|(features, _)| features).collect();
    let names = ["day", "nswdemand", "nswprice", "vicprice", "vicdemand", "transfer"];
    let mut text = format!("{},label\n", names.join(","));
    for row in &rows {
        let cells: Vec<String> = names
            .iter()
            .map(|name| {
                row[*name]
                    .as_str()
                    .map_or_else(|| row[*name].to_string(), str::to_owned)
            })
            .collect();
        text.push_str(&format!("{},1\n", cells.join(",")));
    }
    let file = site.models().join("elec2/e01_logreg.baseline.csv");
    std::fs::write(&file, "wrong,columns\n1,2\n").unwrap();
    let gateway = site.start().ready();
    send(&gateway, &rows[..96]);
    let view = folded(&gateway, 96);
    let notes = view["baseline"]["notes"].to_string();
    assert!(
        notes.contains("no column is named like a feature") && notes.contains("it is not used"),
        "{notes}"
    );
    assert_eq!(view["baseline"]["source"], "first_rows");
    assert_eq!(gateway.stop(), Some(0));

    std::fs::write(&file, text).unwrap();
    std::fs::remove_dir_all(site.state().join("monitor")).unwrap();
    let gateway = site.start().ready();
    send(&gateway, &rows[96..192]);
    let view = folded(&gateway, 192);
    assert_eq!(
        (&view["baseline"]["source"], &view["baseline"]["complete"]),
        (&json!("file"), &json!(true))
    );
    let notes = view["baseline"]["notes"].to_string();
    assert!(
        notes.contains("no column for period") && notes.contains("left out: label"),
        "{notes}"
    );
    assert_eq!(feature(&view, "period")["state"], "unknown", "{view}");
    assert!(named(&view, "broken").is_empty(), "{}", view["states"]);

    // Another unit, and a value that never changes.
    let broken: Vec<Value> = rows[200..300]
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row["nswdemand"] = json!(row["nswdemand"].as_f64().unwrap() * 1_000.0);
            row["transfer"] = json!(0.5);
            row["day"] = json!("someday");
            row
        })
        .collect();
    send(&gateway, &broken);
    let view = folded(&gateway, 292);
    assert_eq!(
        named(&view, "broken"),
        ["day", "nswdemand", "transfer"],
        "{}",
        view["states"]
    );
    let kinds = |name: &str| -> Vec<Value> {
        feature(&view, name)["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["kind"].clone())
            .collect()
    };
    assert!(kinds("nswdemand").contains(&json!("range")) && kinds("transfer").contains(&json!("frozen")));
    assert!(kinds("day").contains(&json!("unseen")));

    // It holds promotions and says why, until the input is sound again; a person's hold is a person's.
    until("promotions are held", || {
        let hold = gateway.view("elec2")["hold"].clone();
        (hold.as_str()? == "monitor: broken input: day unseen, nswdemand range").then_some(())
    });
    let decision = gateway.decisions("elec2").pop().unwrap();
    assert_eq!(
        (&decision["kind"], &decision["author"]),
        (&json!("hold"), &json!("monitor")),
        "{decision}"
    );
    send(&gateway, &rows[300..400]);
    until("promotions go on", || {
        gateway.view("elec2")["hold"].is_null().then_some(())
    });
    assert_eq!(gateway.act("elec2", "hold", None).0, 200);
    send(&gateway, &broken);
    folded(&gateway, 492);
    send(&gateway, &rows[400..500]);
    let view = folded(&gateway, 592);
    assert!(named(&view, "broken").is_empty(), "{}", view["states"]);
    assert_eq!(gateway.view("elec2")["hold"], "test: because the test says so");

    site.model_toml("elec2", "[policy]\nmode = \"off\"\n[monitor]\nmode = \"off\"\n");
    until("nothing is watched", || {
        let view = gateway.admin("/api/models/elec2/monitor");
        (view["on"] == false).then_some(())
    });
    assert!(
        !client::get(gateway.admin, "/metrics")
            .text()
            .contains("dethrone_monitor_alarms{")
    );
    assert_eq!(client::get(gateway.admin, "/api/models/nobody/monitor").status, 404);
}

#[test]
fn labelled_rows_show_the_level_the_calibration_and_the_groups_with_what_is_small() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\nrecorder_percent = 100\n");
    site.model_toml(
        "elec2",
        "[label]\nmaturity = \"40 rows\"\nhorizon = \"100000 rows\"\n[policy]\nmode = \"off\"\n\
         [monitor]\nbaseline_rows = 100\nwindow = \"400 rows\"\ncycle = \"48 rows\"\nby = [\"day\"]\n\
         [groups]\nlate = { expr = \"period >= 0.5\" }\nrare = { expr = \"period == 0\" }\n",
    );
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    gateway.feed("elec2", &stream(4_000, 1_200));
    let labels = until("labels are looked at", || {
        let view = gateway.admin("/api/models/elec2/monitor");
        (view["labels"]["labels"].as_u64()? >= 1_100).then(|| view.clone())
    });
    let (view, labels) = (&labels, &labels["labels"]);
    assert_eq!(
        (&labels["metric"], &labels["level"]["labels"]),
        (&json!("brier"), &json!(200)),
        "{labels}"
    );
    let loss = labels["tenure"]["loss"]["value"].as_f64().unwrap();
    assert!((0.05..0.4).contains(&loss), "{labels}");
    let curve = labels["reliability"]["recent"]["curve"].as_array().unwrap();
    assert!(curve.len() > 4 && labels["reliability"]["recent"]["calibration_error"].as_f64().unwrap() < 0.5);
    let group = |name: &str| {
        let mut groups = labels["groups"].as_array().unwrap().iter();
        groups
            .find(|group| group["group"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{name} in {labels}"))
    };
    let (late, rare) = (group("late"), group("rare"));
    assert!(
        late["small"].is_null() && late["labels"].as_u64().unwrap() > 400,
        "{late}"
    );
    assert!(
        late["true_positive_rate"]["interval"][1].as_f64().unwrap() <= 1.0,
        "{late}"
    );
    assert!(
        late["against_the_rest"]["false_positive_rate"]["value"].is_number(),
        "{late}"
    );
    assert!(rare["small"].as_str().unwrap().contains("too few"), "{rare}");
    let days = (1..=7)
        .map(|day| group(&format!("day = {day}"))["labels"].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(days, labels["labels"].as_u64().unwrap());
    let bonds = labels["associations"].as_array().unwrap();
    let price = bonds.iter().find(|bond| bond["feature"] == "nswprice").unwrap();
    assert!(
        price["recent"]["mutual_information"].as_f64().unwrap() > 0.01,
        "{price}"
    );
    let estimate = &view["estimate"];
    assert!(
        estimate["note"].as_str().unwrap().starts_with("an estimate"),
        "{estimate}"
    );
    assert!(
        (0.5..1.0).contains(&estimate["accuracy"].as_f64().unwrap()),
        "{estimate}"
    );
    assert!(
        gateway
            .metric("dethrone_monitor_loss{model=\"elec2\",of=\"level\"}")
            .is_some()
    );
}
