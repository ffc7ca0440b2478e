//! A person's word: which are refused, what the others do, and that they survive.

use serde_json::{Value, json};

use super::support::{Gateway, Site, cannot_be_recorded, client, data, right_answers, shipped, stream, until};

const FAST: &str = "champion = \"e06_flipped\"
metric = \"brier\"
[label]
maturity = \"60 rows\"
horizon = \"100000 rows\"
[policy]
dwell = \"20 rows\"
cooldown = \"20 rows\"
";

fn version_of_the_next_answer(gateway: &Gateway) -> Value {
    let (status, answer) = gateway.predict(&json!({"instances": [right_answers()[0].0]}));
    assert_eq!(status, 200, "{answer}");
    answer["version"].clone()
}

fn roles(gateway: &Gateway) -> Vec<(Value, Value)> {
    let view = gateway.view("elec2");
    let versions = view["versions"].as_array().unwrap();
    versions
        .iter()
        .map(|v| (v["version"].clone(), v["role"].clone()))
        .collect()
}

#[test]
fn a_rollback_that_names_a_challenger_is_listed_as_one() {
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n");
    for name in ["e01_logreg", "e05_forest"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    assert_eq!(gateway.act("elec2", "rollback", Some("e05_forest")).0, 200);
    let listed = client::get(gateway.admin, "/api/models/elec2/decisions").json()["decisions"].clone();
    let last = listed
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|d| d["n"].as_i64())
        .unwrap()
        .clone();
    assert_eq!(
        (&last["kind"], &last["to"]),
        (&json!("rollback"), &json!("e05_forest")),
        "{listed}"
    );
}

#[test]
fn the_policy_shows_all_that_is_in_force_whatever_the_settings_leave_out() {
    let site = Site::new("");
    let settings = "champion = \"e01_logreg\"\nmetric = \"log_loss\"\nthreshold = 0.4\n[label]\nabsent = 0\n";
    site.model_toml("elec2", settings)
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let policy = gateway.view("elec2")["policy"].clone();
    let label = json!({"maturity": "1d", "horizon": "120d", "absent": 0, "explore": 0.0, "evidence": "all",
                       "principal_share": 0.05, "trusted": []});
    assert_eq!(
        (&policy["label"], &policy["threshold"]),
        (&label, &json!(0.4)),
        "{policy}"
    );
    assert_eq!(
        (&policy["sample"], &policy["max_challengers"]),
        (&json!(1.0), &json!(16)),
        "{policy}"
    );
    assert_eq!(
        (&policy["metric"]["name"], &policy["clip"]),
        (&json!("log_loss"), &json!(0.05)),
        "{policy}"
    );
    assert!(
        (policy["bound"].as_f64().unwrap() - 20f64.ln()).abs() < 1e-9,
        "{policy}"
    );
    assert_eq!(
        (&policy["alpha"], &policy["min_labels"]),
        (&json!(0.01), &json!(200)),
        "{policy}"
    );
}

#[test]
fn a_persons_word_meets_admission_only_shows_at_once_and_survives_kill_9() {
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n")
        .drop_bytes("elec2", "e00_text", b"not a model");
    for name in ["e01_logreg", "e05_forest", "e06_flipped"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    gateway.until_role("elec2", "e06_flipped", "challenger");
    gateway.until_role("elec2", "e00_text", "rejected");

    let refused = |action, version, status, says: &str| {
        let (got, answer) = gateway.act("elec2", action, version);
        let error = answer["error"].as_str().unwrap_or("").to_owned();
        assert!(
            got == status && error.contains(says),
            "{action} {version:?}: {got} {answer}"
        );
    };
    refused("promote", None, 400, "say which version");
    refused("promote", Some("e99"), 404, "no version 'e99'");
    refused("promote", Some("e00_text"), 409, "is rejected");
    let pin = |version: &str| gateway.predict(&json!({"instances": [right_answers()[0].0], "version": version}));
    let (status, answer) = pin("e00_text");
    assert_eq!((status, &answer["code"]), (409, &json!("wrong_role")), "{answer}");
    assert!(
        answer["error"].as_str().unwrap().contains("'e00_text' is rejected"),
        "{answer}"
    );
    assert_eq!(pin("e99").0, 404);
    refused("rollback", None, 409, "no previous champion");
    refused("retire", Some("e01_logreg"), 409, "is champion");
    refused("retire", Some("e00_text"), 409, "only a challenger");
    let nobody = client::post(
        gateway.admin,
        "/api/models/nope/hold",
        &json!({"author": "a", "reason": "b"}),
    );
    assert_eq!(nobody.status, 404);

    let (status, answer) = gateway.act("elec2", "promote", Some("e01_logreg"));
    assert_eq!((status, &answer["changed"]), (200, &json!(false)));
    assert_eq!(
        gateway.view("elec2")["hold"],
        Value::Null,
        "nothing happened, so nothing is held"
    );

    let (status, answer) = gateway.act("elec2", "promote", Some("e05_forest"));
    assert_eq!((status, &answer["champion"]), (200, &json!("e05_forest")), "{answer}");
    assert_eq!(version_of_the_next_answer(&gateway), "e05_forest");
    let decision = gateway.decisions("elec2").pop().unwrap();
    for (key, value) in [
        ("kind", "promotion"),
        ("from", "e01_logreg"),
        ("to", "e05_forest"),
        ("author", "test"),
    ] {
        assert_eq!(decision[key], value, "{decision}");
    }
    assert_eq!(decision["reason"], "because the test says so");
    assert_eq!(gateway.view("elec2")["hold"], "test: because the test says so");
    refused("retire", Some("e01_logreg"), 409, "is previous");

    let (status, answer) = gateway.act("elec2", "rollback", None);
    assert_eq!((status, &answer["champion"]), (200, &json!("e01_logreg")), "{answer}");
    assert_eq!(version_of_the_next_answer(&gateway), "e01_logreg");
    assert_eq!(gateway.decisions("elec2").pop().unwrap()["kind"], "rollback");

    let before = until("two shadows run", || {
        let children = gateway.children();
        (children.len() == 2).then_some(children)
    });
    let (status, answer) = gateway.act("elec2", "retire", Some("e06_flipped"));
    assert_eq!(status, 200, "{answer}");
    let after = gateway.children();
    assert!(after.len() == 1 && before.contains(&after[0]), "{before:?} {after:?}");
    let entry = gateway.version("elec2", "e06_flipped");
    assert!(
        entry["role"] == "retired" && entry["reason"].as_str().unwrap().contains("because"),
        "{entry}"
    );
    refused("promote", Some("e06_flipped"), 409, "is retired");

    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    assert_eq!(gateway.view("elec2")["hold"], Value::Null);
    assert_eq!(gateway.act("elec2", "hold", None).0, 200);
    let kinds = |gateway: &Gateway| {
        gateway
            .decisions("elec2")
            .iter()
            .map(|d| d["kind"].clone())
            .collect::<Vec<_>>()
    };
    let (decisions, had) = (kinds(&gateway), roles(&gateway));
    assert_eq!(
        decisions,
        ["first", "promotion", "rollback", "retire", "resume", "hold"]
    );
    gateway.kill();

    let gateway = site.start().ready();
    assert_eq!((kinds(&gateway), roles(&gateway)), (decisions, had));
    assert_eq!(version_of_the_next_answer(&gateway), "e01_logreg");
    assert_eq!(gateway.view("elec2")["hold"], "test: because the test says so");
    assert_eq!(gateway.view("elec2")["champion"]["epoch"], 3);
}

#[test]
fn while_a_person_holds_the_judge_waits_and_after_resume_it_promotes() {
    let site = Site::new("");
    site.model_toml("elec2", FAST);
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    assert_eq!(gateway.act("elec2", "hold", None).0, 200);
    let rows = stream(20_000, 4_000);
    let mut rows = rows.chunks(80);
    let winner = until("e01 wins", || {
        gateway.feed("elec2", rows.next().unwrap());
        let entry = gateway.version("elec2", "e01_logreg");
        (entry["evidence"]["verdict"] == "wins").then_some(entry)
    });
    assert!(
        winner["evidence"]["why"].as_str().unwrap().contains("on hold"),
        "{winner}"
    );
    gateway.feed("elec2", rows.next().unwrap());
    assert_eq!(gateway.view("elec2")["champion"]["version"], "e06_flipped");

    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    until("the judge promotes", || {
        gateway.feed("elec2", rows.next().unwrap());
        (gateway.view("elec2")["champion"]["version"] == "e01_logreg").then_some(())
    });
    let decision = gateway.decisions("elec2").pop().unwrap();
    assert!(
        decision["kind"] == "promotion" && decision["author"] == "judge",
        "{decision}"
    );
}

#[test]
fn an_order_that_cannot_be_recorded_changes_nothing_and_can_be_given_again() {
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n[label]\nmaturity = \"60 rows\"\n");
    for name in ["e01_logreg", "e05_forest", "e06_flipped"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    gateway.until_role("elec2", "e06_flipped", "challenger");
    until("two shadows run", || (gateway.children().len() == 2).then_some(()));
    let (before, had) = (gateway.decisions("elec2"), roles(&gateway));

    cannot_be_recorded(&site, "swap", true);
    let (status, answer) = gateway.act("elec2", "promote", Some("e05_forest"));
    assert!(
        status == 503 && answer["error"].as_str().unwrap().contains("was not changed"),
        "{status} {answer}"
    );
    assert_eq!(version_of_the_next_answer(&gateway), "e01_logreg");
    assert_eq!((gateway.decisions("elec2"), roles(&gateway)), (before, had));
    let view = gateway.view("elec2");
    assert_eq!((&view["hold"], &view["champion"]["epoch"]), (&Value::Null, &json!(1)));
    assert_eq!(gateway.children().len(), 2, "the champion is not shadowed");
    let scored = |name| {
        gateway.version("elec2", name)["coverage"]["scored"]
            .as_u64()
            .unwrap_or(0)
    };
    let had = scored("e05_forest");
    gateway.feed("elec2", &stream(20_000, 80));
    until("the challenger is shadowed as before", || {
        (scored("e05_forest") >= had + 80).then_some(())
    });

    cannot_be_recorded(&site, "swap", false);
    assert_eq!(gateway.act("elec2", "promote", Some("e05_forest")).0, 200);
    assert_eq!(version_of_the_next_answer(&gateway), "e05_forest");
}

#[test]
fn a_hold_from_before_the_first_champion_holds_its_judge() {
    let site = Site::new("");
    site.model_toml("elec2", &FAST.replace("champion = \"e06_flipped\"\n", ""));
    for name in ["e05_forest", "e06_flipped"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start();
    until("both wait for a word", || {
        let view = gateway.view("elec2");
        let waiting = view["waiting_for"].as_str().unwrap_or("");
        waiting.contains("several versions").then_some(())
    });
    assert_eq!(gateway.act("elec2", "hold", None).0, 200);
    site.model_toml("elec2", FAST);
    let gateway = gateway.ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    gateway.feed("elec2", &stream(0, 600));
    until("the judge would promote", || {
        let entry = gateway.version("elec2", "e05_forest");
        let why = entry["evidence"]["why"].as_str().unwrap_or("").to_owned();
        why.contains("hold").then_some(())
    });
    assert_eq!(gateway.view("elec2")["hold"], "test: because the test says so");
    assert_eq!(version_of_the_next_answer(&gateway), "e06_flipped");
}

#[test]
fn a_quarantined_version_is_out_by_its_bytes_until_a_person_retires_it() {
    let site = Site::new(
        "settle_ms = 100\npoll = \"100ms\"\ngone = \"300ms\"\n[runner]\ncpu_timeout = \"300ms\"\nwall_timeout = \"20s\"\n",
    );
    site.model_toml("m", "champion = \"mean\"\nisolation = \"inline\"\n")
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "endless", &data("endless"));
    let gateway = site.start().ready();
    gateway.until_role("m", "endless", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("endless")).0, 200);
    assert_eq!(gateway.act("m", "rollback", None).0, 200);
    assert_eq!(gateway.version("m", "endless")["role"], "previous");
    let heavy = json!({"model": "m", "inputs": {"x": [[1e18, 1e18, 1e18]]}});
    until("the quarantine", || {
        let (status, answer) = gateway.predict(&heavy);
        assert_eq!(status, 200, "{answer}");
        (gateway.version("m", "endless")["role"] == "quarantined").then_some(())
    });
    let refused = |gateway: &Gateway, action, version, says: &str| {
        let (status, answer) = gateway.act("m", action, version);
        let error = answer["error"].as_str().unwrap_or("").to_owned();
        assert!(status == 409 && error.contains(says), "{status} {answer}");
    };
    refused(&gateway, "rollback", None, "no previous");
    refused(&gateway, "promote", Some("endless"), "is quarantined");
    let nobody_stands_by = |gateway: &Gateway| {
        let text = client::get(gateway.admin, "/metrics").text();
        !text.contains("role=\"previous\",version=\"endless\"")
            && !text.contains("version=\"endless\",role=\"previous\"")
    };
    assert!(nobody_stands_by(&gateway));

    // Its file goes, and its bytes come under another name.
    let file = |name: &str| site.models().join(format!("m/{name}.onnx"));
    site.drop_file("m", "single", &data("single"));
    until("single has been looked at", || {
        let role = gateway.version("m", "single")["role"].clone();
        (role == "challenger" || role == "rejected").then_some(())
    });
    std::fs::remove_file(file("endless")).unwrap();
    std::fs::remove_file(file("single")).unwrap();
    gateway.until_role("m", "single", "retired");
    site.drop_file("m", "again", &data("endless"));
    let entry = gateway.until_role("m", "again", "rejected");
    assert!(entry["reason"].as_str().unwrap().contains("quarantined"), "{entry}");
    assert_eq!(gateway.version("m", "endless")["role"], "quarantined");
    gateway.kill();

    let gateway = site.start().ready();
    assert_eq!(gateway.version("m", "endless")["role"], "quarantined");
    refused(&gateway, "rollback", None, "no previous");
    gateway.until_role("m", "again", "rejected");
    assert_eq!(gateway.act("m", "retire", Some("endless")).0, 200);
    assert_eq!(gateway.version("m", "endless")["role"], "retired");
    gateway.until_role("m", "again", "challenger");
}
