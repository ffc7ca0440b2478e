//! Named groups, guardrails, twins, and the tripwire on latency, in the real binary; and that a decision can be explained.

use std::process::Command;

use serde_json::{Value, json};

use super::support::{Gateway, Site, data, shipped, stream, until};

fn settings(more: &str) -> String {
    format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n\
         [label]\nmaturity = \"60 rows\"\nhorizon = \"100000 rows\"\n\
         [policy]\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\nprobation = \"100000 rows\"\n{more}"
    )
}

fn champion(gateway: &Gateway, model: &str) -> Value {
    gateway.view(model)["champion"]["version"].clone()
}

fn evidence(gateway: &Gateway, model: &str, version: &str) -> Value {
    gateway.version(model, version)["evidence"].clone()
}

/// What a command of the program prints about a running gateway.
fn says(gateway: &Gateway, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    let output = command
        .args(arguments)
        .args(["--admin", &gateway.admin.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_strict_group_is_asked_of_recorded_rows_stops_who_has_not_shown_it_and_the_decision_tells() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\n");
    site.model_toml(
        "elec2",
        &settings("[groups]\nweb = { expr = \"context.channel == 'web'\" }\n"),
    );
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let rows = stream(20_000, 4_000);
    let mut rows = rows.chunks(80);
    let stopped = until("only the group stands in the way", || {
        gateway.feed("elec2", rows.next().unwrap());
        let evidence = evidence(&gateway, "elec2", "e01_logreg");
        evidence["why"]
            .as_str()?
            .starts_with("group 'web': not shown yet")
            .then_some(evidence)
    });
    assert_eq!(champion(&gateway, "elec2"), "e06_flipped");
    let rails = stopped["guardrails"].as_array().unwrap();
    let names: Vec<&str> = rails.iter().filter_map(|rail| rail["name"].as_str()).collect();
    let known = [
        "latency",
        "errors",
        "coverage",
        "decision_rate",
        "score_shift",
        "group web",
    ];
    assert_eq!(names, known, "{stopped}");
    assert_eq!((&rails[5]["passes"], &rails[0]["limit"]), (&json!(false), &json!(1.5)));
    assert_eq!(stopped["place"], 1);
    let warned = stopped["warnings"].as_array().unwrap();
    let asks = |w: &Value| {
        w.as_str()
            .unwrap()
            .contains("group 'web' asks for context.channel, which none of the last")
    };
    assert!(warned.iter().any(asks), "{stopped}");
    let board = says(&gateway, &["status", "--model", "elec2"]);
    assert!(board.contains("guardrail group web: 0.0000, limit 2.9957"), "{board}");

    // Another group, on a feature: its bets start anew, the evidence goes on.
    let labels = stopped["labels"].as_u64().unwrap();
    site.model_toml(
        "elec2",
        &settings("[groups]\nday = { expr = \"period >= 0.5 or periodd > 1\", margin = 0.05 }\n"),
    );
    until("the other group", || {
        let warned = gateway.view("elec2")["warnings"].to_string();
        warned
            .contains("group 'day' asks for periodd: no loaded version takes that feature")
            .then_some(())
    });
    assert!(evidence(&gateway, "elec2", "e01_logreg")["labels"].as_u64().unwrap() >= labels);
    until("the judge promotes", || {
        gateway.feed("elec2", rows.next().unwrap());
        (champion(&gateway, "elec2") == "e01_logreg").then_some(())
    });
    let listed = gateway.decisions("elec2").pop().unwrap();
    let n = listed["n"].to_string();
    let decision = gateway.admin(&format!("/api/models/elec2/decisions/{n}"));
    let basis = &decision["basis"];
    assert_eq!(
        (&decision["why"], &decision["kind"]),
        (&listed["why"], &json!("promotion"))
    );
    let group = &basis["groups"][0];
    assert_eq!(
        (&group["name"], &group["passes"]),
        (&json!("day"), &json!(true)),
        "{group}"
    );
    assert!(group["labels"].as_u64().unwrap() > 5 && group["log_wealth"].as_f64() >= group["log_bar"].as_f64());
    assert_eq!(basis["policy"]["groups"][0]["expr"], "period >= 0.5 or periodd > 1");
    assert_eq!(
        basis["versions"]["to"]["digest"],
        gateway.version("elec2", "e01_logreg")["digest"]
    );
    assert!(
        basis["versions"]["to"]["measured"]["cpu_ns"].as_u64().unwrap() > 0,
        "{basis}"
    );
    assert_eq!(basis["standings"][0]["version"], "e01_logreg");
    assert_eq!(decision["before"][0]["kind"], "first");
    let told = says(&gateway, &["explain-decision", &n]);
    for part in [
        "promotion e06_flipped -> e01_logreg",
        "group day (period >= 0.5",
        "guardrail errors: 0.0000",
        "policy in force",
    ] {
        assert!(told.contains(part), "'{part}' is not in\n{told}");
    }
    let raw: Value = serde_json::from_str(&says(&gateway, &["explain-decision", &n, "--json"])).unwrap();
    assert_eq!(&raw["basis"], basis);
    let answer = super::support::client::get(gateway.admin, "/api/models/elec2/decisions/999");
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")));

    // A restart folds or reads back to the same verdicts, groups and all.
    let before = evidence(&gateway, "elec2", "e06_flipped");
    gateway.kill();
    let gateway = site.start().ready();
    let after = evidence(&gateway, "elec2", "e06_flipped");
    assert_eq!(
        (&before["groups"], &before["guardrails"]),
        (&after["groups"], &after["guardrails"])
    );
}

#[test]
fn a_twin_measures_the_noise_and_is_crowned_by_nobody_but_a_person() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\n");
    site.model_toml("elec2", &settings("mode = \"recommend\"\n"));
    for (name, from) in [
        ("e06_flipped", "e06_flipped"),
        ("e05_forest", "e05_forest"),
        ("e06_twin", "e06_flipped"),
    ] {
        if name == "e06_twin" {
            std::fs::write(site.models().join("elec2/e06_twin.toml"), "twin = true\n").unwrap();
        }
        site.drop_file("elec2", name, &shipped(from));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e06_twin", "challenger");
    gateway.until_role("elec2", "e05_forest", "challenger");
    let rows = stream(20_000, 4_000);
    let noise = until("noise", || {
        gateway.feed("elec2", &rows[..80]);
        let noise = evidence(&gateway, "elec2", "e05_forest")["noise"].clone();
        (noise["labels"].as_u64()? > 50).then_some(noise)
    });
    assert_eq!(noise["share_of_rows_that_differ"], 0.0, "{noise}");
    let twin = evidence(&gateway, "elec2", "e06_twin");
    assert!(twin["why"].as_str().unwrap().starts_with("it is a twin"), "{twin}");
    assert_eq!((&twin["twin"], &twin["place"]), (&json!(true), &Value::Null));
    let challenger = evidence(&gateway, "elec2", "e05_forest");
    assert_eq!(challenger["place"], 1, "whoever came first: {challenger}");
    gateway.kill();

    let gateway = site.start().ready();
    let kept = gateway.view("elec2")["noise"].clone();
    assert!(kept["labels"].as_u64() >= noise["labels"].as_u64(), "{kept}");
    assert!(
        evidence(&gateway, "elec2", "e06_twin")["why"]
            .as_str()
            .unwrap()
            .starts_with("it is a twin")
    );
    assert_eq!(champion(&gateway, "elec2"), "e06_flipped");
    // A person's word meets no test.
    assert_eq!(gateway.act("elec2", "promote", Some("e06_twin")).0, 200);
    assert_eq!(champion(&gateway, "elec2"), "e06_twin");
}

#[test]
fn a_new_champion_that_takes_many_times_as_long_loses_the_crown_at_once_also_on_hold() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\n");
    site.model_toml(
        "m",
        "champion = \"mean\"\nisolation = \"inline\"\nmetric = \"squared_error\"\nbound = 1.0\n",
    )
    .drop_file("m", "mean", &data("mean"))
    .drop_file("m", "endless", &data("endless"));
    let gateway = site.start().ready();
    gateway.until_role("m", "endless", "challenger");
    // So many turns of its loop that a row takes milliseconds; the other one does not count.
    let ask = |rows: usize| {
        let inputs: Vec<[f64; 3]> = vec![[3_000.0, 0.0, 0.0]; rows];
        let (status, answer) = gateway.predict(&json!({"model": "m", "inputs": {"x": inputs}}));
        assert_eq!(status, 200, "{answer}");
        answer["version"].clone()
    };
    for _ in 0..40 {
        assert_eq!(ask(1), "mean");
    }
    assert_eq!(gateway.act("m", "promote", Some("endless")).0, 200);
    assert!(!gateway.view("m")["hold"].is_null());
    until("the crown is back", || (ask(1) == "mean").then_some(()));
    let decision = gateway.decisions("m").pop().unwrap();
    assert_eq!(
        (&decision["kind"], &decision["author"], &decision["reason"]),
        (&json!("rollback"), &json!("tripwire"), &json!("latency"))
    );
    assert!(
        decision["why"]
            .as_str()
            .unwrap()
            .contains("times as long as the one before it, over 1"),
        "{decision}"
    );
    let n = &decision["n"];
    let basis = gateway.admin(&format!("/api/models/m/decisions/{n}"))["basis"].clone();
    assert!(
        basis["rows"].is_object() || basis["rows"].as_u64().unwrap() >= 1_000,
        "{basis}"
    );
}

#[test]
fn settings_whose_groups_do_not_fit_the_metric_are_refused_and_the_last_ones_stay() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\n");
    site.model_toml("elec2", &settings("[guardrail]\nlatency = \"off\"\n"))
        .drop_file("elec2", "e06_flipped", &shipped("e06_flipped"));
    let gateway = site.start().ready();
    assert_eq!(gateway.view("elec2")["policy"]["guardrail"]["latency"], Value::Null);
    assert_eq!(gateway.view("elec2")["policy"]["guardrail"]["errors"], 0.001);
    site.model_toml(
        "elec2",
        &settings("[groups]\na = { expr = \"period > 0\", margin = 1.5 }\n"),
    );
    until("the fault", || {
        let fault = gateway.view("elec2")["settings_error"].clone();
        fault
            .as_str()?
            .contains("group a: margin = 1.5: must be at least 0 and less than the loss bound")
            .then_some(())
    });
    assert_eq!(gateway.view("elec2")["policy"]["guardrail"]["latency"], Value::Null);
}
