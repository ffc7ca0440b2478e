//! Prediction ids in a running gateway: forged ones have no effect, replayed labels count once, keys rotate.

use std::collections::BTreeSet;
use std::process::Command;

use dethrone::id::{IdGenerator, IdKey};
use serde_json::{Value, json};

use super::support::client::{post, raw, request};
use super::support::{Gateway, Site, ask_ledger, elec2_row, ids, shipped, until};

/// How many forged ids are tried: `DETHRONE_FORGED_IDS=1000000` is the long form.
fn forgeries() -> usize {
    let asked = std::env::var("DETHRONE_FORGED_IDS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(50_000)
}

fn site() -> Site {
    let site = Site::new("recorder_percent = 100\nmax_rows = 1000\n");
    site.model_toml("elec2", "[label]\nmaturity = \"24h\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

fn predict(gateway: &Gateway, rows: usize) -> Vec<String> {
    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); rows]}));
    assert_eq!(status, 200, "{answer}");
    ids(&answer)
}

/// The counts per status of a stream of labels.
fn counts(gateway: &Gateway, ids: &[String]) -> Value {
    let lines: Vec<String> = ids.iter().map(|id| json!({"id": id, "label": 1}).to_string()).collect();
    let bytes = request(
        "POST",
        "/feedback",
        "content-type: application/x-ndjson\r\n",
        lines.join("\n").as_bytes(),
    );
    raw(gateway.data, &bytes).unwrap().json()["counts"].clone()
}

/// Splitmix64: the same forgeries in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((x ^ (x >> 31)) % n as u64).unwrap()
    }
}

/// An id that was changed in one of many ways; never one that means a row of the same request.
fn forged(chance: &mut Chance, good: &str, other: &str) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = good.as_bytes().to_vec();
    let digit = |chance: &mut Chance| 3 + chance.below(26);
    match chance.below(7) {
        0 | 1 => {
            for _ in 0..=chance.below(3) {
                let at = digit(chance);
                bytes[at] = LETTERS[chance.below(32)];
            }
        }
        2 => {
            let (a, b) = (digit(chance), digit(chance));
            bytes.swap(a, b);
        }
        // The number of one with the tag of another.
        3 => bytes[16..29].copy_from_slice(&other.as_bytes()[16..29]),
        4 => bytes.truncate(3 + chance.below(26)),
        // A row that the request did not have.
        5 => bytes.extend(format!(".{}", 1 + chance.below(900_000)).bytes()),
        _ => {
            for byte in &mut bytes[3..29] {
                *byte = LETTERS[chance.below(32)];
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn of_many_forged_ids_none_is_accepted_and_the_ledger_is_not_asked() {
    let site = site();
    let gateway = site.start().ready();
    let real: Vec<String> = (0..50).map(|_| predict(&gateway, 1).remove(0)).collect();
    let known: BTreeSet<&String> = real.iter().collect();
    until("the rows are recorded", || {
        (gateway.view("elec2")["rows"]["recorded"] == 50).then_some(())
    });
    // Nobody can write: whatever needs the ledger is refused.
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut chance = Chance(7);
    let mut tried = 0;
    while tried < forgeries() {
        let batch = (0..25_000).map(|_| {
            let (a, b) = (chance.below(real.len()), chance.below(real.len()));
            forged(&mut chance, &real[a], &real[b])
        });
        let batch: Vec<String> = batch.filter(|id| !known.contains(id)).collect();
        tried += batch.len();
        assert_eq!(
            counts(&gateway, &batch),
            json!({"unknown": batch.len()}),
            "seed 7, after {tried}"
        );
    }
    println!("{tried} forged ids: 0 accepted");
    ledger.execute_batch("COMMIT").unwrap();
    drop(ledger);
    assert_eq!(ask_ledger::<i64>(&site, "SELECT count(*) FROM labels"), Some(0));
    until("the real ones are taken", || {
        (counts(&gateway, &real) == json!({"accepted": 50})).then_some(())
    });
}

#[test]
fn every_label_sent_five_times_by_each_of_four_clients_counts_once() {
    let gateway_site = site();
    let gateway = gateway_site.start().ready();
    let all: Vec<String> = (0..4).flat_map(|_| predict(&gateway, 250)).collect();
    let totals: Vec<Value> = std::thread::scope(|scope| {
        let (gateway, all) = (&gateway, &all);
        let client = |k: usize| {
            scope.spawn(move || {
                // Each in an order of its own.
                let mut own = all.clone();
                own.rotate_left(k * 250);
                (0..5).map(|_| counts(gateway, &own)).collect::<Vec<_>>()
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let sum = |status: &str| totals.iter().filter_map(|counts| counts[status].as_u64()).sum::<u64>();
    assert_eq!((sum("accepted"), sum("duplicate")), (1_000, 19_000), "{totals:?}");
    assert_eq!(
        ask_ledger::<i64>(&gateway_site, "SELECT count(*) FROM labels"),
        Some(1_000)
    );
    assert_eq!(
        ask_ledger::<i64>(&gateway_site, "SELECT count(*) FROM corrections"),
        Some(0)
    );
    assert_eq!(
        gateway.metric("dethrone_labels_total{model=\"elec2\",status=\"accepted\"}"),
        Some(1_000.0)
    );
}

fn rotate(args: &[&str]) -> (bool, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["rotate-key", "--reason", "a drill"])
        .args(args)
        .output()
        .unwrap();
    let text = [&out.stdout[..], &out.stderr[..]].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_running_gateway_takes_a_new_key_and_ids_of_the_old_one_are_labelled_all_the_same() {
    let site = site();
    let gateway = site.start().ready();
    let before = predict(&gateway, 2);
    let admin = gateway.admin.to_string();
    let (done, said) = rotate(&["--admin", &admin]);
    assert!(done && said.contains("under key 1"), "{said}");
    let after = predict(&gateway, 2);
    let label = |gateway: &Gateway, id: &str| gateway.label("elec2", &[(id, json!(1))]).remove(0);
    assert_eq!(
        [&before[0], &after[0]].map(|id| label(&gateway, id)),
        ["accepted", "accepted"]
    );
    // The directory is the gateway's.
    let state = site.state().to_str().unwrap().to_owned();
    let (done, said) = rotate(&["--state", &state]);
    assert!(!done && said.contains("--admin"), "{said}");
    let (done, said) = rotate(&["--admin", &admin]);
    assert!(!done && said.contains("may still be labelled until"), "{said}");
    let key = gateway.admin("/api/ledger")["key"].clone();
    assert_eq!(key["generation"], 1, "{key}");
    gateway.kill();

    let gateway = site.start().ready();
    assert_eq!(
        [&before[1], &after[1]].map(|id| label(&gateway, id)),
        ["accepted", "accepted"]
    );
    assert_eq!(gateway.stop(), Some(0));
    let (done, said) = rotate(&["--state", &state, "--force"]);
    assert!(done && said.contains("under key 2"), "{said}");
    let gateway = site.start().ready();
    assert_eq!(
        [&before[0], &after[0]].map(|id| label(&gateway, id)),
        ["unknown", "duplicate"]
    );
}

#[test]
fn an_id_of_another_instance_says_so() {
    let (here, there) = (site(), site());
    let (here, there) = (here.start().ready(), there.start().ready());
    let id = predict(&there, 1).remove(0);
    let body = json!({"labels": [{"id": id, "label": 1}, {"id": &id[..20], "label": 1}]});
    let said = post(here.data, "/feedback", &body).json();
    let result = |at: usize| {
        (
            said["results"][at]["status"].clone(),
            said["results"][at]["error"].to_string(),
        )
    };
    let ((status, error), (short_status, short_error)) = (result(0), result(1));
    assert_eq!((status, short_status), (json!("unknown"), json!("unknown")), "{said}");
    assert!(error.contains("another instance"), "{said}");
    assert!(short_error.contains("not written as prediction ids are"), "{said}");
    assert_eq!(there.label("elec2", &[(&id, json!(1))]), ["accepted"]);
}

#[test]
fn an_id_from_before_the_horizon_is_expired_and_the_ledger_is_not_asked() {
    let site = site();
    let gateway = site.start().ready();
    let real = predict(&gateway, 1).remove(0);
    assert_eq!(gateway.label("elec2", &[(&real, json!(1))]), ["accepted"]);
    // As the gateway issued them 121 days ago, and as it will in a year.
    let key = IdKey::load(&site.state().join("ids.key")).unwrap();
    let day = 86_400_000;
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    );
    let now = now.unwrap();
    let issued = |ms: i64| IdGenerator::new(key.clone(), 0).issue(ms, 1).to_string();
    let (old, young, future) = (
        issued(now - 121 * day),
        issued(now - 119 * day),
        issued(now + 365 * day),
    );
    let statuses = gateway.label("elec2", &[(&old, json!(1)), (&young, json!(1)), (&future, json!(1))]);
    assert_eq!(statuses, ["expired", "unrecorded", "unrecorded"]);
}
