//! The crown goes to whoever earns it, and back, by evidence alone: real rows, real models, the real binary.

use serde_json::Value;

use super::support::{Gateway, Site, cannot_be_recorded, shipped, stream, until};

/// Spans of a few rows: each half-hour of the stream would take as long otherwise.
fn settings(champion: &str, mode: &str) -> String {
    format!(
        "champion = \"{champion}\"\nmetric = \"brier\"\n\
         [label]\nmaturity = \"60 rows\"\nhorizon = \"100000 rows\"\n\
         [policy]\nmode = \"{mode}\"\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\n\
         probation = \"100000 rows\"\nrollback_wait = \"100000 rows\"\n"
    )
}

fn champion(gateway: &Gateway, model: &str) -> Value {
    gateway.view(model)["champion"]["version"].clone()
}

fn why(entry: &Value) -> &str {
    entry["evidence"]["why"].as_str().unwrap_or("")
}

/// A swap is recorded first and counted last.
fn counted(gateway: &Gateway, model: &str, kind: &str) {
    let series = format!("dethrone_swaps_total{{model=\"{model}\",kind=\"{kind}\"}}");
    until(&series, || (gateway.metric(&series) == Some(1.0)).then_some(()));
}

#[test]
fn evidence_alone_promotes_in_mode_auto_and_in_no_other() {
    let modes = [
        ("auto", "next"),
        ("recommend", "waits for a person"),
        ("off", "mode = off: nothing follows"),
    ];
    let site = Site::new("");
    for (mode, _) in modes {
        site.model_toml(mode, &settings("e06_flipped", mode));
        for name in ["e06_flipped", "e01_logreg"] {
            site.drop_file(mode, name, &shipped(name));
        }
    }
    let gateway = site.start().ready();
    for (mode, _) in modes {
        gateway.until_role(mode, "e01_logreg", "challenger");
    }
    let rows = stream(20_000, 4_000);
    let mut auto = rows.chunks(80);
    until("the judge promotes", || {
        gateway.feed("auto", auto.next().unwrap());
        (champion(&gateway, "auto") == "e01_logreg").then_some(())
    });
    let decision = gateway.decisions("auto").pop().unwrap();
    assert_eq!(
        (&decision["kind"], &decision["author"]),
        (&"promotion".into(), &"judge".into())
    );
    let sentence = decision["why"].as_str().unwrap();
    assert!(
        sentence.contains("ln wealth") && sentence.contains("labels"),
        "{sentence}"
    );
    assert_eq!(gateway.version("auto", "e06_flipped")["role"], "previous");
    assert_eq!(gateway.view("auto")["champion"]["epoch"], 2);
    assert_eq!(gateway.view("auto")["hold"], Value::Null);
    counted(&gateway, "auto", "promotion");

    for (mode, says) in &modes[1..] {
        let mut rows = rows.chunks(80);
        let entry = until("a verdict", || {
            gateway.feed(mode, rows.next().unwrap());
            let entry = gateway.version(mode, "e01_logreg");
            (entry["evidence"]["verdict"] == "wins").then_some(entry)
        });
        assert!(why(&entry).contains(says), "{entry}");
        gateway.feed(mode, rows.next().unwrap());
        assert_eq!(champion(&gateway, mode), "e06_flipped");
        assert_eq!(gateway.decisions(mode).len(), 1, "only the first champion");
    }
}

#[test]
fn a_champion_that_disappoints_is_rolled_back_by_the_judge_and_waits() {
    let site = Site::new("");
    site.model_toml("elec2", &settings("e01_logreg", "auto"));
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e06_flipped", "challenger");
    let rows = stream(20_000, 6_000);
    let mut rows = rows.chunks(80);
    assert_eq!(gateway.act("elec2", "promote", Some("e06_flipped")).0, 200);
    let alarm = until("an alarm while a person holds", || {
        gateway.feed("elec2", rows.next().unwrap());
        let alarm = gateway.view("elec2")["alarm"].clone();
        (!alarm.is_null()).then_some(alarm)
    });
    assert!(alarm.as_str().unwrap().contains("loses more"), "{alarm}");
    gateway.feed("elec2", rows.next().unwrap());
    assert_eq!(
        champion(&gateway, "elec2"),
        "e06_flipped",
        "a hold lets the mirrored test only alarm"
    );

    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    until("the judge takes the crown back", || {
        gateway.feed("elec2", rows.next().unwrap());
        (champion(&gateway, "elec2") == "e01_logreg").then_some(())
    });
    let decision = gateway.decisions("elec2").pop().unwrap();
    assert!(
        decision["kind"] == "rollback" && decision["author"] == "judge",
        "{decision}"
    );
    assert!(decision["why"].as_str().unwrap().contains("ln wealth"), "{decision}");
    counted(&gateway, "elec2", "rollback");
    let (status, answer) = gateway.act("elec2", "rollback", None);
    assert!(
        status == 409
            && answer["error"]
                .as_str()
                .unwrap()
                .contains("\"version\": \"e06_flipped\""),
        "the failed one must be named to be crowned again: {answer}"
    );

    for _ in 0..4 {
        gateway.feed("elec2", rows.next().unwrap());
    }
    let entry = until("rows of the new tenure are folded", || {
        let view = gateway.view("elec2");
        (view["rows"]["open"].as_u64()? < 80).then(|| gateway.version("elec2", "e06_flipped"))
    });
    assert!(why(&entry).contains("rolled back once"), "{entry}");
    assert_eq!(entry["evidence"]["labels"], 0, "{entry}");
}

#[test]
fn a_decision_that_cannot_be_recorded_is_declined_and_taken_again_when_it_can_be() {
    let site = Site::new("");
    site.model_toml("elec2", &settings("e06_flipped", "auto"));
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let mut gateway = site.start().ready();
    gateway.ledger_fails = true;
    gateway.until_role("elec2", "e01_logreg", "challenger");
    cannot_be_recorded(&site, "swap", true);
    let rows = stream(20_000, 6_000);
    let mut rows = rows.chunks(80);
    until("a decision that could not be carried out", || {
        gateway.feed("elec2", rows.next().unwrap());
        site.log().contains("could not be carried out").then_some(())
    });
    assert_eq!(champion(&gateway, "elec2"), "e06_flipped");
    assert_eq!(gateway.decisions("elec2").len(), 1);
    cannot_be_recorded(&site, "swap", false);
    until("the judge promotes", || {
        gateway.feed("elec2", rows.next().unwrap());
        (champion(&gateway, "elec2") == "e01_logreg").then_some(())
    });
    assert_eq!(gateway.view("elec2")["champion"]["epoch"], 2);
}
