//! What the crown is fought over: costs, order, rewards and values, over HTTP, from rows to a verdict.

use serde_json::{Value, json};

use crate::support::client::post;
use crate::support::{Gateway, Site, ask_ledger, ids, onnx, shipped, stream, until};

/// Spans of a few rows, so that a verdict comes soon.
const QUICK: &str = "[label]\nmaturity = \"60 rows\"\nhorizon = \"100000 rows\"\n[policy]\ndwell = \"20 rows\"\n\
     cooldown = \"20 rows\"\nprobation = \"100000 rows\"\nrollback_wait = \"100000 rows\"\n";

fn champion(gateway: &Gateway, model: &str) -> Value {
    gateway.view(model)["champion"]["version"].clone()
}

fn send(gateway: &Gateway, model: &str, items: &[Value]) -> Vec<Value> {
    let answer = post(gateway.data, "/feedback", &json!({"model": model, "labels": items}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["results"].as_array().cloned().unwrap()
}

/// Rows whose outcomes are reported as what each label would have earned, and in no other way.
fn feed_rewards(gateway: &Gateway, model: &str, rows: &[(Value, u8)]) {
    let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
    let (status, answer) = gateway.predict(&json!({"model": model, "instances": instances}));
    assert_eq!(status, 200, "{answer}");
    let paid = |(id, (_, truth)): (String, &(Value, u8))| {
        let (no, yes) = if *truth == 1 { (-1.0, 2.0) } else { (0.5, -1.0) };
        json!({"id": id, "rewards": {"0": no, "1": yes}})
    };
    let items: Vec<Value> = ids(&answer).into_iter().zip(rows).map(paid).collect();
    let results = send(gateway, model, &items);
    assert!(results.iter().all(|r| r["status"] == "accepted"), "{results:?}");
}

#[test]
fn rewards_costs_and_order_each_lead_to_a_verdict() {
    let site = Site::new("[runner]\nwall_timeout = \"60s\"\n");
    let metrics = [
        ("rewards", "metric = \"rewards\"\nbound = \"auto\"\n"),
        ("cost", "metric = \"cost\"\ncost = [[0, 1], [5, 0]]\n"),
        ("auc", "metric = \"auc\"\n"),
    ];
    for (model, lines) in metrics {
        site.model_toml(model, &format!("champion = \"e06_flipped\"\n{lines}{QUICK}"));
        for name in ["e06_flipped", "e01_logreg"] {
            site.drop_file(model, name, &shipped(name));
        }
    }
    let gateway = site.start().ready();
    for (model, _) in metrics {
        gateway.until_role(model, "e01_logreg", "challenger");
    }
    let rows = stream(20_000, 8_000);
    for (model, _) in metrics {
        let mut rows = rows.chunks(40);
        until(&format!("the judge promotes by {model}"), || {
            let rows = rows.next().unwrap();
            match model {
                "rewards" => feed_rewards(&gateway, model, rows),
                _ => drop(gateway.feed(model, rows)),
            }
            (champion(&gateway, model) == "e01_logreg").then_some(())
        });
        let decision = gateway.decisions(model).pop().unwrap();
        let why = decision["why"].as_str().unwrap();
        assert!(
            decision["author"] == "judge" && why.contains(&format!("mean {model} difference")),
            "{decision}"
        );
    }
    // Nobody can lose more than the table's range, 3, on a row; the rows it was learned from were no evidence.
    assert_eq!(gateway.view("rewards")["policy"]["bound"], 3.0);
    assert_eq!(gateway.view("cost")["policy"]["bound"], 5.0);
}

#[test]
fn a_bare_reward_and_a_label_are_no_evidence_where_rewards_are_and_a_strange_label_is_named() {
    let site = Site::new("[runner]\nwall_timeout = \"60s\"\n");
    let toml = format!(
        "champion = \"e01_logreg\"\nmetric = \"rewards\"\nbound = 3.0\n{}",
        QUICK.replace("60 rows", "10 rows")
    );
    site.model_toml("elec2", &toml);
    for name in ["e01_logreg", "e02_tree"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    let rows = stream(20_000, 20);
    let predicted = |rows: &[(Value, u8)]| {
        let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
        ids(&gateway.predict(&json!({"model": "elec2", "instances": instances})).1)
    };
    let all = predicted(&rows[..10]);
    let item = |k: usize, key: &str, value: Value| {
        let mut item = json!({"id": all[k]});
        item[key] = value;
        item
    };
    let items = [
        item(0, "reward", json!(0.7)),
        item(1, "label", json!(1)),
        item(2, "rewards", json!({"0": 1.0, "up": -1.0})),
        item(3, "rewards", json!({"0": 1.0, "1": -1.0})),
        item(4, "rewards", json!({"0": 0.0, "1": 2.0})),
    ];
    let results = send(&gateway, "elec2", &items);
    let statuses: Vec<&str> = results.iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["accepted", "accepted", "invalid", "accepted", "accepted"]);
    let error = results[2]["error"].as_str().unwrap();
    assert!(error.contains("'up'") && error.contains("0, 1"), "{error}");
    predicted(&rows[10..]);
    until("every row that can be is folded", || {
        let open = gateway.view("elec2")["rows"]["open"].as_u64()?;
        (open <= 11).then_some(())
    });
    let entry = gateway.version("elec2", "e02_tree");
    assert_eq!(entry["evidence"]["labels"], 2, "{entry}");
}

/// A regression whose challenger is a copy of it; rows whose error is known.
struct Values {
    site: Site,
    file: std::path::PathBuf,
    sent: usize,
}

impl Values {
    fn new() -> Self {
        let site = Site::new("[runner]\nwall_timeout = \"60s\"\n");
        site.model_toml(
            "price",
            "champion = \"one\"\nfeatures = [\"a\", \"b\", \"c\"]\nmetric = \"absolute_error\"\nbound = \"auto\"\n\
             [label]\nmaturity = \"1 rows\"\n[policy]\nmode = \"recommend\"\n",
        );
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_regressor.onnx");
        site.drop_file("price", "one", &file);
        Self { site, file, sent: 0 }
    }

    fn drop_copy(&self) {
        let file = std::fs::read(&self.file).unwrap();
        self.site.drop_bytes("price", "copy", &onnx::again(&file, "copy"));
    }

    /// Waits until the challenger's process is there: rows before that would be shed.
    fn up(gateway: &Gateway) {
        let row = json!({"a": 0.1, "b": 0.2, "c": 0.3});
        let body = json!({"model": "price", "instances": [row], "version": "copy", "shadow": false});
        until("the copy answers", || (gateway.predict(&body).0 == 200).then_some(()));
    }

    /// Rows with the errors 0, .01, … .99 and again from 0 on.
    fn feed(&mut self, gateway: &Gateway, count: usize) {
        for _ in 0..count {
            let row = json!({"a": 0.1, "b": 0.2, "c": 0.3});
            let (status, answer) = gateway.predict(&json!({"model": "price", "instances": [row]}));
            assert_eq!(status, 200, "{answer}");
            let prediction = &answer["predictions"][0];
            let error = f64::from(u32::try_from(self.sent % 100).unwrap()) / 100.0;
            let label = prediction["score"].as_f64().unwrap() + error;
            let id = prediction["id"].as_str().unwrap();
            assert_eq!(gateway.label("price", &[(id, json!(label))]), ["accepted"]);
            self.sent += 1;
        }
    }
}

#[test]
fn a_bound_is_estimated_from_the_first_labels_recorded_and_never_moved_over_restarts() {
    let mut values = Values::new();
    let gateway = values.site.start().ready();
    values.drop_copy();
    gateway.until_role("price", "copy", "challenger");
    values.feed(&gateway, 150);
    let says = |gateway: &Gateway, what: &str| {
        until(what, || {
            let entry = gateway.version("price", "copy");
            let why = entry["evidence"]["why"].as_str().unwrap_or_default().to_owned();
            assert_eq!(entry["evidence"]["labels"], 0, "{entry}");
            why.contains(what).then_some(())
        });
    };
    says(
        &gateway,
        "the loss bound is being estimated from the first 200 labels, has 148",
    );
    assert_eq!(gateway.view("price")["policy"]["bound"], Value::Null);
    gateway.kill();
    let gateway = values.site.start().ready();
    says(&gateway, "the first 200 labels, has 148");
    Values::up(&gateway);
    values.feed(&gateway, 100);
    let bound = until("a bound", || gateway.view("price")["policy"]["bound"].as_f64());
    // Of two hundred losses the second largest is .99, as the largest is.
    assert!((bound - 1.98).abs() < 1e-6, "{bound}");
    let folded = |gateway: &Gateway, labels: u64| {
        until("rows are folded", || {
            let entry = gateway.version("price", "copy");
            (entry["evidence"]["labels"] == labels).then_some(entry)
        })
    };
    let before = folded(&gateway, 48)["evidence"].clone();
    // A row that the copy has not scored when the process dies is no evidence.
    until("the copy has scored what it was offered", || {
        let coverage = gateway.version("price", "copy")["coverage"].clone();
        let dropped = coverage["dropped"].as_object()?.values().filter_map(Value::as_u64);
        (coverage["scored"].as_u64()? + dropped.sum::<u64>() == 250).then_some(())
    });
    gateway.kill();
    let gateway = values.site.start().ready();
    assert_eq!(folded(&gateway, 48)["evidence"]["log_wealth"], before["log_wealth"]);
    Values::up(&gateway);
    values.feed(&gateway, 300);
    folded(&gateway, 348);
    assert_eq!(gateway.view("price")["policy"]["bound"], bound);
    assert_eq!(gateway.view("price")["policy"]["bound_from"], 200);
    let events: i64 = ask_ledger(
        &values.site,
        "SELECT count(*) FROM journal WHERE json_extract(event, '$.event') = 'bound'",
    )
    .unwrap();
    assert_eq!(events, 1);
    // Values have their figures beside: what is shown decides nothing.
    let shown = gateway.version("price", "one")["display"].clone();
    let close = |x: &Value, to: f64| x.as_f64().is_some_and(|x| (x - to).abs() < 1e-4);
    assert!(
        close(&shown["window"]["mae"], 0.4722) && close(&shown["window"]["rmse"], 0.5533),
        "{shown}"
    );
    assert!(shown["note"].as_str().unwrap().contains("decides nothing"));
}
