//! Who does not want to be recorded is not: by the list of a model, and by what `[record]` leaves out.

use serde_json::{Value, json};

use super::support::client::get;
use super::support::{Gateway, Site, ask_ledger, elec2_row, holds, ids, shipped, until};

const MODEL: &str =
    "champion = \"e06_flipped\"\n[label]\nmaturity = \"4 rows\"\nhorizon = \"1000 rows\"\n[policy]\nmode = \"off\"\n";

fn site(record: &str) -> Site {
    let site = Site::new("recorder_percent = 100\npoll = \"50ms\"\nsettle_ms = 50\n");
    site.model_toml("elec2", &format!("{MODEL}[record]\n{record}\n"));
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

/// One request with a row for each entity, each with ids, context and a label that name it.
fn ask(gateway: &Gateway, entities: &[&str]) -> Vec<String> {
    let own: Vec<Value> = entities
        .iter()
        .map(|e| json!({"note": format!("{e}-note"), "email": format!("{e}@example.org")}))
        .collect();
    let body =
        json!({"model": "elec2", "instances": vec![elec2_row(); entities.len()], "entities": entities, "context": own});
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    ids(&answer)
}

fn recorded(gateway: &Gateway) -> u64 {
    gateway.view("elec2")["rows"]["recorded"].as_u64().unwrap()
}

#[test]
fn an_entity_on_the_list_is_answered_and_leaves_no_trace_but_a_count() {
    let site = site("opt_out = \"opt_out.txt\"");
    let list = site.models().join("elec2/opt_out.txt");
    std::fs::write(&list, "# asked on the phone\nzq-out\n").unwrap();
    let gateway = started(&site);
    let rows = ask(&gateway, &["zq-in", "zq-out", "zq-too"]);
    assert_eq!(rows.len(), 3);
    let labels: Vec<(&str, Value)> = rows.iter().map(|id| (id.as_str(), json!(1))).collect();
    assert_eq!(gateway.label("elec2", &labels), ["accepted", "unrecorded", "accepted"]);
    let challenger = until("the others are shadowed", || {
        let coverage = gateway.version("elec2", "e01_logreg")["coverage"].clone();
        (coverage["scored"] == 2).then_some(coverage)
    });
    assert_eq!((&challenger["offered"], recorded(&gateway)), (&json!(2), 2));
    // Alone in a request, and with an id of the caller's own.
    let body = json!({"model": "elec2", "instances": [elec2_row()], "entities": ["zq-out"], "ids": ["zq-order-out"]});
    assert_eq!(gateway.predict(&body).0, 200);
    assert_eq!(gateway.label("elec2", &[("zq-order-out", json!(1))]), ["unknown"]);
    let held = get(gateway.admin, "/api/models/elec2/entities/zq-out");
    assert_eq!(held.status, 404, "{}", held.text());
    for trace in ["zq-out", "zq-order-out"] {
        assert!(!holds(&site.state(), trace), "{trace}");
    }
    assert!(holds(&site.state(), "zq-in-note") && holds(&site.state(), "zq-too"));
    let counted = "dethrone_recorder_dropped_total{model=\"elec2\",reason=\"opted_out\"}";
    assert_eq!(gateway.metric(counted), Some(2.0));
    assert_eq!(gateway.view("elec2")["opt_out"], json!({"entities": 1, "error": null}));

    // Added while it runs, by the hash that the record would show.
    let key = dethrone::id::IdKey::load(&site.state().join("ids.key")).unwrap();
    std::fs::write(&list, format!("zq-out\n{}\n", key.pseudonym(b"zq-too"))).unwrap();
    until("who was added is out", || {
        let before = recorded(&gateway);
        ask(&gateway, &["zq-too"]);
        ask(&gateway, &["zq-in"]);
        let now = until("the one is recorded", || {
            Some(recorded(&gateway)).filter(|now| *now > before)
        });
        (now == before + 1 && gateway.view("elec2")["opt_out"]["entities"] == 2).then_some(())
    });
    // Taken off again.
    std::fs::write(&list, "").unwrap();
    until("nobody is out", || {
        (gateway.view("elec2")["opt_out"]["entities"] == 0).then_some(())
    });
    let before = recorded(&gateway);
    ask(&gateway, &["zq-out"]);
    until("it is recorded", || (recorded(&gateway) == before + 1).then_some(()));
}

#[test]
fn while_the_list_cannot_be_read_nobody_who_is_named_is_recorded_also_after_a_restart() {
    let site = site("opt_out = \"opt_out.txt\"");
    let gateway = started(&site);
    let shown = gateway.view("elec2")["opt_out"].clone();
    assert!(
        shown["entities"].is_null() && shown["error"].as_str().unwrap().contains("opt_out.txt"),
        "{shown}"
    );
    let named = ask(&gateway, &["zq-somebody"]).remove(0);
    let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    let unnamed = ids(&answer).remove(0);
    assert_eq!(
        gateway.label("elec2", &[(&named, json!(1)), (&unnamed, json!(1))]),
        ["unrecorded", "accepted"]
    );
    std::fs::write(site.models().join("elec2/opt_out.txt"), "zq-out\n").unwrap();
    until("the list is read", || {
        (gateway.view("elec2")["opt_out"]["entities"] == 1).then_some(())
    });
    let named = ask(&gateway, &["zq-somebody"]).remove(0);
    assert_eq!(gateway.label("elec2", &[(&named, json!(1))]), ["accepted"]);
    gateway.kill();
    let gateway = started(&site);
    let rows = ask(&gateway, &["zq-out", "zq-somebody"]);
    let labels: Vec<(&str, Value)> = rows.iter().map(|id| (id.as_str(), json!(1))).collect();
    assert_eq!(gateway.label("elec2", &labels), ["unrecorded", "accepted"]);
    assert_eq!(
        ask_ledger::<i64>(&site, "SELECT count(*) FROM predictions WHERE entity = 'zq-out'"),
        Some(0)
    );
}

#[test]
fn what_is_dropped_or_hashed_is_in_no_file_not_even_in_the_log_of_the_ledger() {
    let site = site("drop = [\"nswdemand\", \"email\"]\nhash = [\"entities\", \"note\"]");
    let gateway = started(&site);
    let mut row = elec2_row();
    row["nswdemand"] = json!(0.718_281_8);
    row["vicprice"] = json!(0.577_215_7);
    for at in 0..20 {
        let body = json!({"model": "elec2", "instances": [row], "entities": [format!("zq-who-{at}")],
            "context": [{"note": format!("zq-note-{at}"), "email": format!("zq-mail-{at}"), "channel": "zq-web"}]});
        let (status, answer) = gateway.predict(&body);
        assert_eq!(status, 200, "{answer}");
        gateway.label("elec2", &[(&ids(&answer)[0], json!(1))]);
    }
    until("all are shadowed", || {
        (gateway.version("elec2", "e01_logreg")["coverage"]["scored"] == 20).then_some(())
    });
    // As it lies on the disk while the gateway runs.
    for secret in ["zq-who", "zq-note", "zq-mail", "0.71828"] {
        assert!(!holds(&site.state(), secret), "{secret}");
    }
    for kept in ["zq-web", "0.57721"] {
        assert!(holds(&site.state(), kept), "{kept}");
    }
}
