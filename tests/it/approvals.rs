//! What a promotion needs besides evidence, where the model's policy says so: words of the lineage, approvals by keys.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::keys::{Key, SETTINGS, ask, key, write_keys};
use crate::support::{Gateway, Site, shipped, stream, until};

const MODEL: &str = "champion = \"e06_flipped\"\nmetric = \"brier\"\n\
     [label]\nmaturity = \"60 rows\"\nhorizon = \"100000 rows\"\n\
     [policy]\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\nprobation = \"100000 rows\"\n\
     rollback_wait = \"100000 rows\"\napprovals = 2\nrequire = [\"author\", \"training_data\"]\n";

struct Asker<'a> {
    gateway: &'a Gateway,
    app: &'a Key,
    eyes: &'a Key,
}

impl Asker<'_> {
    fn feed(&self, rows: &[(Value, u8)]) {
        let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
        let body = json!({"model": "elec2", "instances": instances});
        let answer = ask(self.gateway.data, "POST", "/predict", &self.app.secret, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ids = crate::support::ids(&answer.json());
        let labels: Vec<Value> = ids
            .iter()
            .zip(rows)
            .map(|(id, (_, l))| json!({"id": id, "label": l}))
            .collect();
        let body = json!({"model": "elec2", "labels": labels});
        let answer = ask(self.gateway.data, "POST", "/feedback", &self.app.secret, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn view(&self) -> Value {
        ask(
            self.gateway.admin,
            "GET",
            "/api/models/elec2",
            &self.eyes.secret,
            &json!(null),
        )
        .json()
    }

    fn champion(&self) -> Value {
        self.view()["champion"]["version"].clone()
    }

    /// The verdict on a version, and its sentence.
    fn standing(&self, name: &str) -> (Value, String) {
        let view = self.view();
        let all = view["versions"].as_array().cloned().unwrap_or_default();
        let version = all.into_iter().find(|v| v["version"] == name).unwrap_or_default();
        let evidence = &version["evidence"];
        (
            evidence["verdict"].clone(),
            evidence["why"].as_str().unwrap_or("").to_owned(),
        )
    }

    fn act(&self, key: &Key, action: &str, version: &str) -> (u16, Value) {
        let path = format!("/api/models/elec2/{action}");
        let body = json!({"version": version, "reason": "tried"});
        let answer = ask(self.gateway.admin, "POST", &path, &key.secret, &body);
        (answer.status, answer.json())
    }
}

/// By the command line: whether it was done, and what it said.
fn approve(gateway: &Gateway, key: &Key, dir: &Path) -> (bool, String) {
    let file = dir.join("secret");
    std::fs::write(&file, &key.secret).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args([
            "approve",
            "--model",
            "elec2",
            "--version",
            "e01_logreg",
            "--reason",
            "looked at",
        ])
        .args(["--admin", &gateway.admin.to_string(), "--key-file"])
        .arg(&file)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_winner_waits_for_its_lineage_and_for_two_keys_and_approvals_end_with_the_tenure() {
    let (ops, ada) = (key("ops", &["--scope", "admin"]), key("ada", &["--scope", "admin"]));
    let app = key("app", &["--scope", "predict", "--scope", "feedback"]);
    let eyes = key("eyes", &["--scope", "read"]);
    let site = Site::new(SETTINGS);
    write_keys(&site, &[&ops, &ada, &app, &eyes].map(|key| key.line.as_str()));
    site.model_toml("elec2", MODEL);
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let secrets = tempfile::tempdir().unwrap();
    let gateway = site.start().ready();
    let asker = Asker {
        gateway: &gateway,
        app: &app,
        eyes: &eyes,
    };
    until("a challenger", || {
        (!asker.standing("e01_logreg").1.is_empty()).then_some(())
    });
    let rows = stream(20_000, 8_000);
    let mut rows = rows.chunks(80);
    let why = until("a winner", || {
        asker.feed(rows.next().unwrap());
        let (verdict, why) = asker.standing("e01_logreg");
        (verdict == "wins").then_some(why)
    });
    assert!(
        why.contains("waits for a person") && why.contains("does not say author, training_data"),
        "{why}"
    );
    let (status, said) = asker.act(&ops, "promote", "e01_logreg");
    assert!(
        status == 409 && said["error"].as_str().unwrap().contains("author"),
        "{said}"
    );

    std::fs::write(
        site.models().join("elec2/e01_logreg.toml"),
        "[lineage]\nauthor = \"ada\"\ndata = \"half of it\"\n",
    )
    .unwrap();
    until("the lineage is seen", || {
        let why = asker.standing("e01_logreg").1;
        (why.contains("2 approvals are needed") && why.contains("given by: none")).then_some(())
    });
    assert_eq!(asker.act(&eyes, "approve", "e01_logreg").0, 403);
    for _ in 0..2 {
        let (done, said) = approve(&gateway, &ops, secrets.path());
        assert!(done && said.contains("approved by 1 of 2: ops"), "{said}");
    }
    asker.feed(rows.next().unwrap());
    asker.feed(rows.next().unwrap());
    assert_eq!(asker.champion(), "e06_flipped", "one key is not two");
    gateway.kill();

    let gateway = site.start().ready();
    let asker = Asker {
        gateway: &gateway,
        app: &app,
        eyes: &eyes,
    };
    until("what was approved is remembered", || {
        asker.standing("e01_logreg").1.contains("given by: ops").then_some(())
    });
    let (done, said) = approve(&gateway, &ada, secrets.path());
    assert!(done && said.contains("approved by 2 of 2: ops, ada"), "{said}");
    until("the judge promotes", || {
        asker.feed(rows.next().unwrap());
        (asker.champion() == "e01_logreg").then_some(())
    });
    let decisions = ask(
        gateway.admin,
        "GET",
        "/api/models/elec2/decisions",
        &eyes.secret,
        &json!(null),
    )
    .json();
    let decisions: Vec<(&str, &str)> = decisions["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["kind"].as_str().unwrap(), d["author"].as_str().unwrap()))
        .collect();
    assert_eq!(
        decisions[1..],
        [("approval", "ops"), ("approval", "ada"), ("promotion", "judge")]
    );

    // In the new tenure nobody has approved of anything; a person's word counts as one.
    std::fs::write(
        site.models().join("elec2/e06_flipped.toml"),
        "[lineage]\nauthor = \"bob\"\ndata = \"all of it\"\n",
    )
    .unwrap();
    let (status, said) = until("its lineage is seen", || {
        let (status, said) = asker.act(&ops, "promote", "e06_flipped");
        (status != 409).then_some((status, said))
    });
    assert_eq!(
        (status, &said["changed"], &said["approvals"]["by"]),
        (200, &json!(false), &json!(["ops"]))
    );
    assert_eq!(asker.champion(), "e01_logreg");
    let (status, said) = asker.act(&ada, "promote", "e06_flipped");
    assert_eq!((status, &said["champion"]), (200, &json!("e06_flipped")));
}
