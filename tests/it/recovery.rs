//! Kill it whenever you like: what was acknowledged is there, and nothing is judged differently.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::support::{Gateway, Site, cannot_be_recorded, client, right_answers, shipped, stream, until};

const MATURITY: u64 = 60;

fn site(champion: &str, versions: &[&str]) -> Site {
    let site = Site::new("");
    let settings = format!(
        "champion = \"{champion}\"\nmetric = \"brier\"\n\
         [label]\nmaturity = \"{MATURITY} rows\"\nhorizon = \"100000 rows\"\n\
         [policy]\ndwell = \"20 rows\"\ncooldown = \"20 rows\"\nprobation = \"100000 rows\"\n"
    );
    site.model_toml("elec2", &settings);
    for name in versions {
        site.drop_file("elec2", name, &shipped(name));
    }
    site
}

fn up(site: &Site, challengers: &[&str]) -> Gateway {
    let gateway = site.start().ready();
    for name in challengers {
        gateway.until_role("elec2", name, "challenger");
    }
    gateway
}

/// Waits until everything that can be folded is.
fn settled(gateway: &Gateway) -> Value {
    until("all closed rows are folded", || {
        let view = gateway.view("elec2");
        (view["rows"]["open"].as_u64()? <= MATURITY + 1).then_some(view)
    })
}

/// What a restart must not change: champion, hold, policy, and the whole evidence, to the last digit as printed.
fn standing(view: &Value) -> Value {
    let versions: Vec<Value> = view["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| json!([v["version"], v["role"], v["digest"], v["evidence"]]))
        .collect();
    json!([view["champion"], view["hold"], view["alarm"], view["policy"], versions])
}

fn labels<'a>(ids: &'a [String], rows: &[(Value, u8)]) -> Vec<(&'a str, Value)> {
    ids.iter()
        .zip(rows)
        .map(|(id, (_, l))| (id.as_str(), json!(l)))
        .collect()
}

#[test]
fn kill_9_after_an_order_changes_nothing_that_was_said() {
    let site = site("e01_logreg", &["e01_logreg", "e05_forest", "e06_flipped"]);
    let gateway = up(&site, &["e05_forest", "e06_flipped"]);
    let rows = stream(20_000, 1_200);
    gateway.feed("elec2", &rows[..200]);
    assert_eq!(gateway.act("elec2", "promote", Some("e05_forest")).0, 200);
    let ids = gateway.feed("elec2", &rows[200..600]);
    let own = json!({"instances": [rows[0].0], "ids": ["order-1"]});
    assert_eq!(gateway.predict(&own).0, 200);
    let before = settled(&gateway);
    let evidence = gateway.version("elec2", "e06_flipped")["evidence"].clone();
    assert!(evidence["labels"].as_u64().unwrap() > 300, "{evidence}");
    gateway.kill();

    let gateway = site.start().ready();
    let after = settled(&gateway);
    assert_eq!(standing(&after), standing(&before));
    assert_eq!(after["champion"]["version"], "e05_forest");
    assert_eq!(after["hold"], "test: because the test says so");
    let statuses = gateway.label("elec2", &labels(&ids, &rows[200..600]));
    assert!(statuses.iter().all(|s| s == "duplicate"), "{statuses:?}");
    assert_eq!(gateway.label("elec2", &[("order-1", json!(rows[0].1))]), ["accepted"]);
    let recorded = settled(&gateway)["rows"]["recorded"].clone();
    assert_eq!(gateway.predict(&own).0, 200, "a known caller's id is answered");
    assert_eq!(
        settled(&gateway)["rows"]["recorded"],
        recorded,
        "and not recorded again"
    );

    let later = gateway.feed("elec2", &rows[600..800]);
    let issued: HashSet<&String> = ids.iter().chain(&later).collect();
    assert_eq!(issued.len(), ids.len() + later.len(), "no id is issued twice");
    assert!(
        later.iter().min() > ids.iter().max(),
        "ids continue in the order of time"
    );
    for name in ["e01_logreg", "e06_flipped"] {
        until("challengers shadow again", || {
            let entry = gateway.version("elec2", name);
            let (had, has) = (
                before["versions"].as_array()?.iter().find(|v| v["version"] == name)?["coverage"]["scored"].as_u64()?,
                entry["coverage"]["scored"].as_u64()?,
            );
            (has > had).then_some(())
        });
    }
}

#[test]
fn kill_9_after_the_judges_promotion_keeps_it_and_a_decision_not_carried_out_is_carried_out() {
    let site = site("e06_flipped", &["e06_flipped", "e01_logreg"]);
    let gateway = up(&site, &["e01_logreg"]);
    let rows = stream(20_000, 4_000);
    let mut chunks = rows.chunks(80);
    until("the judge promotes", || {
        gateway.feed("elec2", chunks.next().unwrap());
        (gateway.view("elec2")["champion"]["version"] == "e01_logreg").then_some(())
    });
    gateway.feed("elec2", chunks.next().unwrap());
    let before = settled(&gateway);
    gateway.kill();
    let gateway = site.start().ready();
    assert_eq!(standing(&settled(&gateway)), standing(&before));
    gateway.kill();

    // The disk as it is when the power goes between the decision and the swap: the pairs are there, the swap is not.
    let ledger = Connection::open(site.state().join("ledger.sqlite")).unwrap();
    let undo = "
        DELETE FROM journal WHERE json_extract(event, '$.event') = 'swap';
        DELETE FROM decisions WHERE kind = 'promotion';
        DELETE FROM snapshots;
        UPDATE models SET champion_no = previous_no, previous_no = NULL, epoch = 1;
        UPDATE versions SET role = CASE role WHEN 'champion' THEN 'challenger' ELSE 'champion' END;";
    ledger.execute_batch(undo).unwrap();
    drop(ledger);
    dethrone::ledger::seal_again(&site.state()).unwrap();
    let gateway = site.start().ready();
    until("the decision is carried out", || {
        (gateway.view("elec2")["champion"]["version"] == "e01_logreg").then_some(())
    });
    let decision = gateway.decisions("elec2").pop().unwrap();
    assert!(
        decision["kind"] == "promotion" && decision["author"] == "judge",
        "{decision}"
    );
    assert_eq!(gateway.view("elec2")["champion"]["epoch"], 2);
}

/// SplitMix64: a seed repeats a failure.
pub(crate) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A request whose answer may never come: the gateway is about to be killed.
fn try_post(to: std::net::SocketAddr, path: &str, body: &Value) -> Option<Value> {
    let headers = "content-type: application/json\r\n";
    let request = client::request("POST", path, headers, body.to_string().as_bytes());
    let answer = client::raw(to, &request).ok()?;
    (answer.status == 200)
        .then(|| answer.json())
        .filter(|json| !json.is_null())
}

#[test]
fn at_whatever_moment_it_is_killed_what_was_acknowledged_is_there() {
    // `faults::is_long`: a thousand of them.
    let kills: usize = if super::faults::is_long() { 1_000 } else { 20 };
    let mut kept = 0;
    let mut seed = 20_260_801_u64;
    let site = site("e01_logreg", &["e01_logreg", "e05_forest"]);
    let rows = stream(20_000, 40);
    let mut gateway = up(&site, &["e05_forest"]);
    let mut issued: HashSet<String> = HashSet::new();
    let mut champion = "e01_logreg".to_owned();
    for round in 0..kills {
        let (data, admin) = (gateway.data, gateway.admin);
        let acknowledged: Mutex<Vec<(String, u8)>> = Mutex::default();
        let answered: Mutex<Vec<String>> = Mutex::default();
        // What the register may say afterwards: the last acknowledged order's, and the one that was under way.
        let orders: Mutex<(String, String)> = Mutex::new((champion.clone(), champion.clone()));
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !killed.load(Ordering::Relaxed) {
                    let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
                    let Some(answer) = try_post(data, "/predict", &json!({"instances": instances})) else {
                        continue;
                    };
                    let ids = answer["predictions"].as_array().unwrap().iter();
                    let ids: Vec<String> = ids.map(|p| p["id"].as_str().unwrap().to_owned()).collect();
                    answered.lock().unwrap().extend(ids.clone());
                    let labels: Vec<Value> = ids
                        .iter()
                        .zip(&rows)
                        .map(|(id, (_, label))| json!({"id": id, "label": label}))
                        .collect();
                    let body = json!({"model": "elec2", "labels": labels});
                    let Some(answer) = try_post(data, "/feedback", &body) else {
                        continue;
                    };
                    let results = answer["results"].as_array().unwrap().iter().zip(ids.iter().zip(&rows));
                    for (result, (id, (_, label))) in results {
                        if result["status"] == "accepted" {
                            acknowledged.lock().unwrap().push((id.clone(), *label));
                        }
                    }
                }
            });
            scope.spawn(|| {
                while !killed.load(Ordering::Relaxed) {
                    let to = match orders.lock().unwrap().0.as_str() {
                        "e01_logreg" => "e05_forest",
                        _ => "e01_logreg",
                    };
                    orders.lock().unwrap().1 = to.to_owned();
                    let body = json!({"version": to, "author": "test", "reason": "load"});
                    if try_post(admin, "/api/models/elec2/promote", &body).is_some() {
                        orders.lock().unwrap().0 = to.to_owned();
                    }
                }
            });
            // The moment is the point here: nothing is waited for.
            std::thread::park_timeout(Duration::from_millis(random(&mut seed) % 250));
            let old = std::mem::replace(&mut gateway, Gateway::nobody());
            old.kill();
            killed.store(true, Ordering::Relaxed);
        });
        gateway = site.start().ready();
        let view = gateway.view("elec2");
        let now = view["champion"]["version"].as_str().unwrap().to_owned();
        let (last, under_way) = orders.into_inner().unwrap();
        assert!(
            now == last || now == under_way,
            "round {round}: {now}, not {last} or {under_way}"
        );
        let (_, answer) = gateway.predict(&json!({"instances": [right_answers()[0].0]}));
        assert_eq!(
            answer["version"],
            now.as_str(),
            "round {round}: the register's champion answers"
        );
        champion = now;
        let acknowledged = acknowledged.into_inner().unwrap();
        kept += acknowledged.len();
        for part in acknowledged.chunks(1_000) {
            let part: Vec<(&str, Value)> = part.iter().map(|(id, label)| (id.as_str(), json!(label))).collect();
            let statuses = gateway.label("elec2", &part);
            assert!(statuses.iter().all(|s| s == "duplicate"), "round {round}: {statuses:?}");
        }
        for id in answered.into_inner().unwrap() {
            assert!(issued.insert(id.clone()), "round {round}: {id} was issued twice");
        }
        if super::faults::is_long() && (round + 1) % 50 == 0 {
            println!("{} of {kills} kills, {kept} acknowledged labels: 0 lost", round + 1);
        }
    }
    assert!(issued.len() > 1_000, "hardly any load: {}", issued.len());
    super::faults::told("SIGKILL at a random moment under writers", kills, kept, 0);
}

#[test]
fn sigterm_ends_with_0_and_everything_offered_is_recorded() {
    let site = site("e01_logreg", &["e01_logreg", "e05_forest"]);
    let gateway = up(&site, &["e05_forest"]);
    let rows = stream(20_000, 40);
    let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
    let body = json!({"instances": instances});
    // Faster than a debug build records, so that some wait when the signal comes.
    let last = std::thread::scope(|scope| {
        let clients = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut last = String::new();
                for _ in 0..25 {
                    let (status, answer) = gateway.predict(&body);
                    assert_eq!(status, 200);
                    last = answer["predictions"][39]["id"].as_str().unwrap().to_owned();
                }
                last
            })
        });
        clients.map(|client| client.join().unwrap())
    });
    assert_eq!(gateway.stop(), Some(0));
    let gateway = site.start().ready();
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 4_000);
    // Maturity is over for most of them; the rows are there all the same.
    for id in &last {
        let status = gateway.label("elec2", &[(id, json!(1))]).remove(0);
        assert!(status == "accepted" || status == "late", "{status}");
    }
}

#[test]
fn a_state_directory_in_use_or_of_a_newer_format_is_refused() {
    let site = site("e01_logreg", &["e01_logreg"]);
    let gateway = site.start().ready();
    let (code, said) = site.refused();
    assert!(
        code != Some(0) && said.contains("in use by another dethrone process"),
        "{code:?} {said}"
    );
    assert_eq!(
        gateway.predict(&json!({"instances": [right_answers()[0].0]})).0,
        200,
        "the first one goes on"
    );
    gateway.kill();
    let ledger = Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(ledger);
    let (code, said) = site.refused();
    assert!(code != Some(0) && said.contains("format 99"), "{code:?} {said}");
}

/// Where the state directory keeps a version's bytes.
fn stored(site: &Site, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let mut todo = vec![site.state()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().unwrap().to_string_lossy().contains(&hex) {
                    return path;
                }
                todo.push(path);
            }
        }
    }
    panic!("the store has no {hex}")
}

/// Loses a version: its stored bytes and its file.
fn lose(site: &Site, digest: &Value, name: &str) {
    std::fs::remove_dir_all(stored(site, digest)).unwrap();
    std::fs::remove_file(site.models().join(format!("elec2/{name}.onnx"))).unwrap();
}

#[test]
fn a_champion_that_cannot_be_loaded_is_stood_in_for_until_its_file_is_back_or_a_person_promotes() {
    let site = site("e01_logreg", &["e01_logreg", "e05_forest", "e06_flipped"]);
    let gateway = up(&site, &["e05_forest", "e06_flipped"]);
    assert_eq!(gateway.act("elec2", "promote", Some("e05_forest")).0, 200);
    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    let digest = |gateway: &Gateway, name| gateway.version("elec2", name)["digest"].clone();
    let (e01, e05) = (digest(&gateway, "e01_logreg"), digest(&gateway, "e05_forest"));
    gateway.kill();
    lose(&site, &e05, "e05_forest");

    let one = json!({"instances": [right_answers()[0].0]});
    let gateway = site.start().ready();
    let (status, answer) = gateway.predict(&one);
    assert_eq!((status, &answer["version"]), (200, &json!("e01_logreg")), "{answer}");
    let view = gateway.view("elec2");
    assert_eq!(
        view["champion"]["version"], "e05_forest",
        "the register keeps naming it"
    );
    assert_eq!(view["stand_in"]["version"], "e01_logreg");
    assert!(
        view["stand_in"]["why"]
            .as_str()
            .unwrap()
            .contains("drop the file again"),
        "{view}"
    );
    gateway.feed("elec2", &stream(20_000, 400));
    let entry = until("rows pass", || {
        (settled(&gateway)["rows"]["recorded"] == 401).then(|| gateway.version("elec2", "e06_flipped"))
    });
    assert_eq!(
        entry["evidence"]["labels"], 0,
        "a stand-in's answers say nothing of the champion"
    );

    site.drop_file("elec2", "e05_forest", &shipped("e05_forest"));
    until("the champion is back", || {
        (gateway.predict(&one).1["version"] == "e05_forest").then_some(())
    });
    assert_eq!(gateway.view("elec2")["stand_in"], Value::Null);
    gateway.kill();

    lose(&site, &e05, "e05_forest");
    let gateway = site.start().ready();
    let (status, answer) = gateway.act("elec2", "rollback", None);
    assert_eq!((status, &answer["champion"]), (200, &json!("e01_logreg")), "{answer}");
    assert_eq!(gateway.view("elec2")["stand_in"], Value::Null);
    assert_eq!(gateway.predict(&one).1["version"], "e01_logreg");
    gateway.kill();

    // Nobody left to answer: said so, and a person's word mends it.
    lose(&site, &e01, "e01_logreg");
    let gateway = site.start();
    until("a word on what is wrong", || {
        let text = client::get(gateway.data, "/v2/health/ready").text();
        text.contains("could not be loaded").then_some(())
    });
    assert_eq!(gateway.predict(&one).0, 503);
    let (status, answer) = gateway.act("elec2", "promote", Some("e06_flipped"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.predict(&one).1["version"], "e06_flipped");
}

#[test]
fn a_first_champion_or_an_edit_that_cannot_be_recorded_is_tried_again_and_held_against_nobody() {
    let site = Site::new("poll = \"50ms\"\n");
    let gateway = site.start();
    cannot_be_recorded(&site, "start", true);
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    until("a failed record", || {
        site.log().contains("the disk is full").then_some(())
    });
    let role = until("a look", || {
        gateway.version("elec2", "e01_logreg")["role"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(role, "candidate");
    cannot_be_recorded(&site, "start", false);
    let gateway = gateway.ready();
    gateway.until_role("elec2", "e01_logreg", "champion");

    cannot_be_recorded(&site, "policy", true);
    let had = site.log().matches("the disk is full").count();
    site.model_toml("elec2", "[policy]\nmode = \"recommend\"\n");
    until("a failed record", || {
        (site.log().matches("the disk is full").count() > had).then_some(())
    });
    // A look that shares a failing transaction is refused, and may be repeated.
    let mode = until("a look", || {
        gateway.view("elec2")["policy"]["mode"].as_str().map(str::to_owned)
    });
    assert_eq!(mode, "auto");
    cannot_be_recorded(&site, "policy", false);
    until("the edit is in force", || {
        (gateway.view("elec2")["policy"]["mode"] == "recommend").then_some(())
    });
}

/// Changes one bit of the stored file of a digest, in its middle.
fn damage(site: &Site, digest: &str) {
    use std::os::unix::fs::PermissionsExt;
    let hex = digest.trim_start_matches("sha256:");
    let path = site.state().join(format!("blobs/sha256/{hex}/model.onnx"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn bytes_that_are_not_what_their_digest_says_are_not_run_and_come_back_from_the_directory() {
    let site = Site::new("settle_ms = 100\npoll = \"100ms\"\n");
    let zipmap = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/exports/sklearn_zipmap_int.onnx");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
        .drop_file("elec2", "e05_forest", &shipped("e05_forest"))
        .drop_file("cut", "cut", &zipmap);
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    gateway.until_role("cut", "cut", "champion");
    let asked = [
        json!({"model": "elec2", "instances": [right_answers()[0].0]}),
        json!({"model": "elec2", "version": "e05_forest", "instances": [right_answers()[0].0]}),
        json!({"model": "cut", "inputs": {"X": [[0.5, -0.25, 1.5]]}}),
    ];
    let answers = |gateway: &Gateway| {
        asked.each_ref().map(|body| {
            until("an answer", || {
                let (status, answer) = gateway.predict(body);
                assert!(matches!(status, 200 | 404 | 422 | 503), "{answer}");
                (status == 200).then(|| answer["predictions"][0]["score"].clone())
            })
        })
    };
    let right = answers(&gateway);
    let digest = |model: &str, version: &str| gateway.version(model, version)["digest"].as_str().unwrap().to_owned();
    let stored: String =
        super::support::ask_ledger(&site, "SELECT stored_digest FROM versions WHERE name = 'cut'").unwrap();
    let digests = [digest("elec2", "e01_logreg"), digest("elec2", "e05_forest"), stored];
    assert_ne!(digests[2], digest("cut", "cut"), "the copy was cut");
    gateway.kill();

    digests.iter().for_each(|digest| damage(&site, digest));
    let gateway = site.start().ready();
    assert_eq!(answers(&gateway), right);
    gateway.until_role("elec2", "e05_forest", "challenger");
    until("it is whole again", || {
        (gateway.version("elec2", "e05_forest")["reason"] == Value::Null).then_some(())
    });
    let log = site.log();
    for digest in &digests {
        assert!(
            log.contains(&format!("the stored copy of {digest} is damaged")),
            "{log}"
        );
    }
    assert!(!log.contains("quarantined"), "{log}");

    // In a running gateway, and where a person crowns it.
    damage(&site, &digests[1]);
    let refused = gateway.act("elec2", "promote", Some("e05_forest"));
    assert!(
        refused.1["error"].as_str().is_some_and(|e| e.contains("damaged")),
        "{refused:?}"
    );
    until("it comes back", || {
        (gateway.act("elec2", "promote", Some("e05_forest")).0 == 200).then_some(())
    });
    gateway.kill();

    // Where no file has the bytes nobody answers in their name.
    std::fs::remove_file(site.models().join("cut/cut.onnx")).unwrap();
    damage(&site, &digests[2]);
    let hex = digests[2].trim_start_matches("sha256:");
    let original = std::fs::read_dir(site.state().join("blobs/sha256")).unwrap().flatten();
    original.for_each(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == 64 && name != hex {
            damage(&site, &name);
        }
    });
    let gateway = site.start();
    let why = until("the reason", || {
        let view = gateway.view("cut");
        view["waiting_for"]
            .as_str()
            .filter(|why| why.contains("damaged"))
            .map(str::to_owned)
    });
    assert!(
        why.contains(&digests[2]) && why.contains("drop the file again"),
        "{why}"
    );
    assert_eq!(gateway.predict(&asked[2]).0, 503);
    site.drop_file("cut", "cut", &zipmap);
    until("the dropped file is served", || {
        (gateway.predict(&asked[2]).0 == 200).then_some(())
    });
}
