//! Which rows are evidence: the exploration slice, and the rows of one entity, over HTTP and through a restart.

use serde_json::{Value, json};

use super::support::{Gateway, Site, elec2_row, ids, shipped, stream, until};

fn site(label: &str) -> Site {
    let site = Site::new("");
    let toml = format!(
        "champion = \"e06_flipped\"\nmetric = \"brier\"\n[label]\nmaturity = \"10 rows\"\nhorizon = \"1000 rows\"\n\
         {label}\n[policy]\nmode = \"off\"\n"
    );
    site.model_toml("elec2", &toml);
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

fn labels_of(gateway: &Gateway) -> u64 {
    let entry = gateway.version("elec2", "e01_logreg");
    entry["evidence"]["labels"].as_u64().unwrap_or(0)
}

#[test]
fn the_reply_names_the_rows_of_the_exploration_slice_and_only_they_are_evidence() {
    let site = site("explore = 0.5\nevidence = \"explore\"");
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    let mut explored = 0;
    for (features, label) in stream(0, 120) {
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [features]}));
        assert_eq!(status, 200, "{answer}");
        match &answer["predictions"][0]["explore"] {
            Value::Null => {}
            said => {
                assert_eq!(said, &json!(true));
                explored += 1;
            }
        }
        gateway.label("elec2", &[(&ids(&answer)[0], json!(label))]);
    }
    assert!((30..90).contains(&explored), "{explored} of 120");
    // Rows after them close all of them; nobody says what became of these.
    let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); 20]}));
    let said = answer["predictions"].as_array().unwrap();
    assert!(said.iter().any(|row| row["explore"] == true) && said.iter().any(|row| row["explore"].is_null()));
    until("all closed rows are folded", || {
        (labels_of(&gateway) == explored).then_some(())
    });

    // What is kept out of the record is in no slice.
    for _ in 0..20 {
        let body = json!({"model": "elec2", "instances": [elec2_row()], "shadow": false});
        assert!(gateway.predict(&body).1["predictions"][0]["explore"].is_null());
    }
    let shown = gateway.view("elec2")["labels"].clone();
    assert_eq!(shown["received"], 120, "{shown}");
    assert!(shown["doubt"].is_null(), "{shown}");
}

#[test]
fn rows_of_one_entity_are_one_observation_whatever_request_they_came_in() {
    let site = site("");
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    for chunk in stream(0, 60).chunks(6) {
        // Of six rows in a request, three are of one customer and three of another; the next request has others.
        let rows: Vec<&Value> = chunk.iter().map(|(features, _)| features).collect();
        let first = chunk.as_ptr() as usize;
        let names: Vec<String> = (0..6).map(|k| format!("c{first}-{}", k % 2)).collect();
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": rows, "entities": names}));
        assert_eq!(status, 200, "{answer}");
        let ids = ids(&answer);
        let labels: Vec<(&str, Value)> = ids
            .iter()
            .zip(chunk)
            .map(|(id, (_, label))| (id.as_str(), json!(label)))
            .collect();
        gateway.label("elec2", &labels);
    }
    gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); 12]}));
    until("twenty observations", || (labels_of(&gateway) == 20).then_some(()));
    gateway.kill();
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    assert_eq!(labels_of(&gateway), 20);
}
