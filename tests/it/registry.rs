//! The life of a file in the models directory, under traffic that never fails.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Site, Traffic, ask_ledger, client, data, elec2, marked, shipped, until};

/// Quick enough for a test: what takes a minute in life takes less than a second here.
const QUICK: &str = "settle_ms = 100\npoll = \"100ms\"\ngone = \"600ms\"\n";

fn row() -> Value {
    json!({"period": 0.5, "nswprice": 0.06, "nswdemand": 0.4, "vicprice": 0.003, "vicdemand": 0.42,
           "transfer": 0.41, "day": "2"})
}

fn ask(model: &str) -> Value {
    json!({"model": model, "instances": [row()]})
}

fn export(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/exports")
        .join(name)
}

/// A gateway with the first champion, and traffic on it.
fn served(settings: &str) -> (Site, Gateway, Traffic) {
    let site = Site::new(settings);
    site.drop_file("m", "e01", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let traffic = Traffic::of(gateway.data, vec![ask("m")]);
    (site, gateway, traffic)
}

fn file(site: &Site, model: &str, version: &str) -> PathBuf {
    site.models().join(model).join(format!("{version}.onnx"))
}

fn reason(entry: &Value) -> String {
    entry["reason"].as_str().unwrap_or_default().to_owned()
}

fn until_rejected(gateway: &Gateway, version: &str, piece: &str) {
    until(&format!("{version} rejected: {piece}"), || {
        let entry = gateway.version("m", version);
        (entry["role"] == "rejected" && reason(&entry).contains(piece)).then_some(())
    });
}

#[test]
fn a_file_that_still_grows_is_no_candidate_and_a_renamed_one_is_at_once() {
    let (site, gateway, traffic) = served("settle_ms = 2000\npoll = \"100ms\"\n");
    let bytes = fs::read(shipped("e02_tree")).unwrap();
    let (slow, parts) = (file(&site, "m", "slow"), bytes.clone());
    // A thread of its own, so that only the writer's own pauses count: it grows for longer than it must stand still.
    let writer = std::thread::spawn(move || {
        let mut growing = fs::File::create(slow).unwrap();
        for part in parts.chunks(parts.len() / 30 + 1) {
            growing.write_all(part).unwrap();
            std::thread::park_timeout(Duration::from_millis(100));
        }
    });
    while !writer.is_finished() {
        let entry = gateway.version("m", "slow");
        assert!(
            entry == Value::Null || writer.is_finished(),
            "seen while it grew: {entry}"
        );
        traffic.more(1);
    }
    writer.join().unwrap();
    let whole = Instant::now();
    // Another file, renamed into place now, is taken before the first has stood still.
    site.drop_bytes("m", "whole", &marked(&bytes, "whole"));
    gateway.until_role("m", "whole", "challenger");
    gateway.until_role("m", "slow", "challenger");
    assert!(whole.elapsed() > Duration::from_millis(1500));
    let arrived = |v: &str| gateway.version("m", v)["arrived"].as_str().unwrap().to_owned();
    assert!(arrived("whole") <= arrived("slow"));
    traffic.end();
}

#[test]
fn bytes_and_names_say_what_a_file_is() {
    let (site, gateway, traffic) = served(QUICK);
    let tree = fs::read(shipped("e02_tree")).unwrap();
    site.drop_bytes("m", "e02", &tree);
    let first = gateway.until_role("m", "e02", "challenger");
    // The same bytes again, renamed into place: nothing.
    site.drop_bytes("m", "e02", &tree);
    // The same bytes under another name: rejected, naming the one that has them.
    site.drop_bytes("m", "copy", &tree);
    until_rejected(&gateway, "copy", "'e02'");
    is_still(&gateway, &first);
    // Edited settings do not let the copy in by the back door, twin = true does.
    site.model_toml("m", "[policy]\nmode = \"recommend\"\n");
    until("the policy", || {
        (gateway.view("m")["policy"]["mode"] == "recommend").then_some(())
    });
    traffic.more(50);
    until_rejected(&gateway, "copy", "'e02'");
    fs::write(site.models().join("m/copy.toml"), "twin = true\n").unwrap();
    gateway.until_role("m", "copy", "challenger");
    // New bytes under a live name are another version; both are shadowed.
    site.drop_bytes("m", "e02", &marked(&tree, "new"));
    let name = until("e02@…", || {
        let view = gateway.view("m");
        let versions = view["versions"].as_array()?.clone();
        let found = versions
            .iter()
            .find(|v| v["version"].as_str().is_some_and(|n| n.starts_with("e02@")))?;
        (found["role"] == "challenger").then(|| found.clone())
    });
    let short: String = name["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")
        .chars()
        .take(8)
        .collect();
    assert_eq!(name["version"], format!("e02@{short}"));
    assert_eq!(gateway.version("m", "e02")["role"], "challenger");
    // New bytes under a rejected name replace it.
    site.drop_bytes("m", "bad", b"not a model");
    until_rejected(&gateway, "bad", "");
    site.drop_bytes("m", "bad", &marked(&tree, "good"));
    gateway.until_role("m", "bad", "challenger");
    // The same under a retired name.
    assert_eq!(gateway.act("m", "retire", Some("bad")).0, 200);
    gateway.until_role("m", "bad", "retired");
    site.drop_bytes("m", "bad", &marked(&tree, "better"));
    gateway.until_role("m", "bad", "challenger");
    traffic.end();
}

/// e02 is the version that it was.
fn is_still(gateway: &Gateway, first: &Value) {
    let now = gateway.version("m", "e02");
    for key in ["digest", "arrived", "role"] {
        assert_eq!(now[key], first[key], "{now}");
    }
}

#[test]
fn a_deleted_file_retires_its_version_and_the_same_bytes_resume_its_evidence() {
    let site = Site::new(QUICK);
    site.model_toml("m", "[label]\nmaturity = \"5 rows\"\nhorizon = \"1000 rows\"\n")
        .drop_file("m", "e01", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    for _ in 0..20 {
        let (status, answer) = gateway.predict(&ask("m"));
        assert_eq!(status, 200);
        let id = answer["predictions"][0]["id"].as_str().unwrap().to_owned();
        gateway.label("m", &[(&id, json!(1))]);
    }
    let labels = |g: &Gateway| g.version("m", "e02")["evidence"]["labels"].as_u64();
    let before = until("evidence", || labels(&gateway).filter(|n| *n >= 5));
    let traffic = Traffic::of(gateway.data, vec![ask("m")]);
    fs::remove_file(file(&site, "m", "e02")).unwrap();
    // Renamed, not only removed: the same bytes under another name take over when the old name is gone.
    fs::remove_file(file(&site, "m", "e01")).unwrap();
    let gone = gateway.until_role("m", "e02", "retired");
    assert!(reason(&gone).contains("gone"), "{gone}");
    until("the champion's file to be missed", || {
        site.log().contains("served from the store").then_some(())
    });
    assert_eq!(gateway.version("m", "e01")["role"], "champion");
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    assert!(labels(&gateway).unwrap_or(0) >= before, "the evidence was lost");
    // A promotion by hand, then the file of the previous champion goes: it stays, too.
    assert_eq!(gateway.act("m", "promote", Some("e02")).0, 200);
    traffic.more(5);
    until("a look", || {
        site.log().matches("served from the store").count().ge(&2).then_some(())
    });
    assert_eq!(gateway.version("m", "e01")["role"], "previous");
    traffic.end();
}

#[test]
fn a_challenger_that_is_renamed_goes_on_under_its_new_name() {
    let (site, gateway, traffic) = served(QUICK);
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    fs::rename(file(&site, "m", "e02"), file(&site, "m", "tree")).unwrap();
    gateway.until_role("m", "e02", "retired");
    gateway.until_role("m", "tree", "challenger");
    traffic.end();
}

#[test]
fn directories_that_vanish_for_a_moment_disturb_nothing() {
    let (site, gateway, traffic) = served("settle_ms = 100\npoll = \"50ms\"\ngone = \"20s\"\n");
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    for (here, away) in [
        (site.models(), site.models().with_extension("away")),
        (site.models().join("m"), site.models().with_extension("away")),
    ] {
        fs::rename(&here, &away).unwrap();
        traffic.more(60);
        fs::rename(&away, &here).unwrap();
        traffic.more(20);
        assert_eq!(gateway.version("m", "e02")["role"], "challenger");
        // It is watched again: a new file is taken.
        let mark = if here == site.models() { "root" } else { "model" };
        site.drop_bytes("m", mark, &marked(&fs::read(shipped("e02_tree")).unwrap(), mark));
        gateway.until_role("m", mark, "challenger");
    }
    assert_eq!(gateway.version("m", "e01")["role"], "champion");
    traffic.end();
}

#[test]
fn an_exchanged_configmap_is_seen_and_a_link_that_leaves_is_refused() {
    let site = Site::new(QUICK);
    let model = site.models().join("m");
    let tree = fs::read(shipped("e02_tree")).unwrap();
    let volume = |stamp: &str, e02: &[u8]| {
        let at = model.join(format!("..{stamp}"));
        fs::create_dir_all(&at).unwrap();
        fs::copy(shipped("e01_logreg"), at.join("e01.onnx")).unwrap();
        fs::write(at.join("e02.onnx"), e02).unwrap();
        symlink(format!("..{stamp}"), model.join("..data_tmp")).unwrap();
        fs::rename(model.join("..data_tmp"), model.join("..data")).unwrap();
    };
    site.model_toml("m", "champion = \"e01\"\n");
    volume("2026_01", b"not a model");
    for name in ["e01.onnx", "e02.onnx"] {
        symlink(format!("..data/{name}"), model.join(name)).unwrap();
    }
    let gateway = site.start().ready();
    let traffic = Traffic::of(gateway.data, vec![ask("m")]);
    until_rejected(&gateway, "e02", "");
    volume("2026_02", &tree);
    fs::remove_dir_all(model.join("..2026_01")).unwrap();
    gateway.until_role("m", "e02", "challenger");
    assert_eq!(gateway.version("m", "e01")["role"], "champion");
    symlink(shipped("e05_forest"), model.join("out.onnx")).unwrap();
    until_rejected(&gateway, "out.onnx", "symlink that leaves");
    traffic.end();
}

#[test]
fn the_shipped_rejects_are_refused_by_the_name_of_their_fault_and_the_watch_goes_on() {
    let (site, gateway, traffic) = served(QUICK);
    traffic.more(120);
    let cases = [
        ("empty", "empty"),
        ("not_a_model", "text"),
        ("truncated", "truncated"),
        ("unknown_column", "feature"),
    ];
    for (name, _) in cases {
        let from = elec2().join(format!("stream/rejects/{name}.onnx"));
        fs::copy(from, file(&site, "m", name)).unwrap();
    }
    for (name, piece) in cases {
        until_rejected(&gateway, name, piece);
    }
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    traffic.end();
}

#[test]
fn settings_are_read_again_and_a_bad_edit_changes_nothing_but_what_is_said() {
    let (site, gateway, traffic) = served(QUICK);
    let error = || {
        gateway.view("m")["settings_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    site.model_toml("m", "[policy]\nmin_labels = 77\n");
    until("the edit", || {
        (gateway.view("m")["policy"]["min_labels"] == 77).then_some(())
    });
    site.model_toml("m", "[policy]\nmin_label = 5\n");
    until("the nearest key", || error().contains("min_labels").then_some(()));
    assert_eq!(gateway.view("m")["policy"]["min_labels"], 77);
    site.model_toml("m", "[policy\n");
    until("a syntax error", || {
        (!error().is_empty() && !error().contains("min_labels")).then_some(())
    });
    assert_eq!(gateway.view("m")["policy"]["min_labels"], 77);
    // Not even a pipe in the place of the settings holds the watch up.
    fs::remove_file(site.models().join("m/model.toml")).unwrap();
    let pipe = site.models().join("m/model.toml");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    until("a pipe to be refused", || {
        error().contains("regular file").then_some(())
    });
    fs::remove_file(&pipe).unwrap();
    site.model_toml("m", "champion = \"e02\"\n[policy]\nmin_labels = 88\n");
    until("the good edit", || {
        (gateway.view("m")["policy"]["min_labels"] == 88).then_some(())
    });
    assert_eq!(error(), "");
    until("the ignored champion", || {
        site.log()
            .contains("names the first champion only: ignored")
            .then_some(())
    });
    assert_eq!(gateway.view("m")["champion"]["version"], "e01");
    traffic.end();
}

#[test]
fn nobody_is_crowned_under_settings_that_cannot_be_read() {
    let site = Site::new(QUICK);
    site.model_toml("m", "interfac = \"tensors\"\n")
        .drop_file("m", "e01", &shipped("e01_logreg"))
        .drop_bytes("m", "e00", b"not a model");
    let gateway = site.start();
    until("the fault of the file", || {
        let ready = client::get(gateway.data, "/v2/health/ready");
        let models = client::get(gateway.admin, "/api/models").text();
        let says = |text: &str| text.contains("interfac") && text.contains("m/model.toml");
        (ready.status == 503 && says(&ready.text()) && says(&models)).then_some(())
    });
    until_rejected(&gateway, "e00", "");
    gateway.until_role("m", "e01", "candidate");
    site.model_toml("m", "interface = \"tensors\"\nchampion = \"e01\"\n");
    let gateway = gateway.ready();
    assert_eq!(gateway.view("m")["interface"]["inputs"]["kind"], "tensors");
    let log = site.log();
    let said = |piece: &str| log.lines().filter(|line| line.contains(piece)).count();
    assert_eq!(said("rejected"), 1, "a refused file is warned of once: {log}");
    assert!(!log.contains("is candidate"), "{log}");
}

#[test]
fn several_versions_and_none_named_wait_for_one_line() {
    let site = Site::new(QUICK);
    site.drop_file("m", "e01", &shipped("e01_logreg"))
        .drop_file("m", "e02", &shipped("e02_tree"));
    let gateway = site.start();
    until("the line to add", || {
        let why = client::get(gateway.data, "/v2/health/ready").text();
        (why.contains("champion = \\\"e01\\\"") || why.contains("champion = \"e01\"")).then_some(())
    });
    assert_eq!(client::get(gateway.data, "/v2/health/ready").status, 503);
    site.model_toml("m", "champion = \"e01\"\n");
    let gateway = gateway.ready();
    assert_eq!(gateway.predict(&ask("m")).0, 200);
    gateway.until_role("m", "e02", "challenger");
}

#[test]
fn a_newcomer_without_room_waits_and_says_so_and_enters_when_there_is_room() {
    let (site, gateway, traffic) = served(QUICK);
    site.model_toml(
        "m",
        "[shadow]\nmax_challengers = 1\n[policy]\ndwell = \"1000000 rows\"\n",
    );
    until("the policy", || {
        gateway.view("m")["policy"]["dwell"]
            .as_str()
            .is_some_and(|d| d.contains("rows"))
            .then_some(())
    });
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    site.drop_file("m", "e05", &shipped("e05_forest"));
    until("the newcomer to wait", || {
        let entry = gateway.version("m", "e05");
        (entry["role"] == "candidate" && reason(&entry).contains("max_challengers")).then_some(())
    });
    assert_eq!(gateway.act("m", "retire", Some("e02")).0, 200);
    gateway.until_role("m", "e05", "challenger");
    traffic.end();
}

#[test]
fn a_newcomer_without_memory_waits_and_says_so_and_enters_when_there_is_some() {
    // A runner of these models takes between 32 and 60 MiB, so that there is memory for one, and not for two.
    let (site, gateway, traffic) =
        served("settle_ms = 100\npoll = \"100ms\"\n[runner]\ntotal_memory_bytes = \"64MiB\"\n");
    site.drop_file("m", "e02", &shipped("e02_tree"));
    let first = gateway.until_role("m", "e02", "challenger");
    let taken = first["measured"]["memory_bytes"].as_u64().unwrap() >> 20;
    assert!((32..64).contains(&taken), "{taken} MiB");
    site.drop_file("m", "e05", &shipped("e05_forest"));
    let said = until("the newcomer to wait", || {
        let entry = gateway.version("m", "e05");
        (entry["role"] == "candidate" && reason(&entry).contains("waits for memory")).then(|| reason(&entry))
    });
    assert!(said.contains("may take 64 MiB (runner.total_memory_bytes)"), "{said}");
    assert_eq!(gateway.act("m", "retire", Some("e02")).0, 200);
    gateway.until_role("m", "e05", "challenger");
    traffic.end();
}

/// Children of the gateway that are a version's runner: all of them here, for the champion runs inside the gateway.
fn until_runners(gateway: &Gateway, wanted: usize) {
    until(&format!("{wanted} runners"), || {
        (gateway.children().len() == wanted).then_some(())
    });
}

fn restart_with(site: &mut Site, gateway: Gateway, memory: u64) -> Gateway {
    assert_eq!(gateway.stop(), Some(0));
    site.set(&format!(
        "settle_ms = 100\npoll = \"100ms\"\n[runner]\ntotal_memory_bytes = {memory}\n"
    ));
    site.start().ready()
}

fn says_it_waits(gateway: &Gateway, version: &str, role: &str) {
    until(&format!("{version} to wait"), || {
        let entry = gateway.version("m", version);
        (entry["role"] == role && reason(&entry).contains("waits for memory")).then_some(())
    });
}

#[test]
fn after_a_restart_with_less_memory_the_previous_champion_is_shadowed_and_challengers_wait_with_their_evidence() {
    let mut site = Site::new(QUICK);
    site.model_toml(
        "m",
        "champion = \"e01\"\n[label]\nmaturity = \"100 rows\"\nhorizon = \"100000 rows\"\n",
    );
    for (name, file) in [
        ("e01", "e01_logreg"),
        ("e02", "e02_tree"),
        ("e05", "e05_forest"),
        ("e06", "e06_flipped"),
    ] {
        site.drop_file("m", name, &shipped(file));
    }
    let gateway = site.start().ready();
    for name in ["e02", "e05", "e06"] {
        gateway.until_role("m", name, "challenger");
    }
    assert_eq!(gateway.act("m", "promote", Some("e02")).0, 200);
    until_runners(&gateway, 3);
    let labels = |gateway: &Gateway| gateway.version("m", "e05")["evidence"]["labels"].as_u64().unwrap_or(0);
    let rows = crate::support::stream(20_000, 40);
    until("evidence", || {
        gateway.feed("m", &rows);
        (labels(&gateway) > 20).then_some(())
    });

    // A runner of these models takes between 32 and 60 MiB: there is memory for one.
    let gateway = restart_with(&mut site, gateway, 64 << 20);
    says_it_waits(&gateway, "e05", "candidate");
    says_it_waits(&gateway, "e06", "candidate");
    until_runners(&gateway, 1);
    let previous = gateway.version("m", "e01");
    assert_eq!(
        (&previous["role"], &previous["reason"]),
        (&json!("previous"), &Value::Null)
    );

    let gateway = restart_with(&mut site, gateway, 4 << 30);
    let entry = gateway.until_role("m", "e05", "challenger");
    assert_eq!(entry["reason"], Value::Null);
    gateway.until_role("m", "e06", "challenger");
    until_runners(&gateway, 3);
    let entry = gateway.version("m", "e05");
    assert!(labels(&gateway) > 20, "its evidence is resumed: {entry}");

    // Back to the one before: whoever answered goes into its place, and nobody else gets the memory.
    let gateway = restart_with(&mut site, gateway, 64 << 20);
    says_it_waits(&gateway, "e05", "candidate");
    assert_eq!(gateway.act("m", "rollback", None).0, 200);
    let previous = gateway.version("m", "e02");
    assert_eq!(
        (&previous["role"], &previous["reason"]),
        (&json!("previous"), &Value::Null)
    );
    until_runners(&gateway, 1);
    says_it_waits(&gateway, "e05", "candidate");
}

#[test]
fn a_previous_champion_whose_runner_is_too_large_waits_and_says_so_or_goes_before_challengers() {
    let layers = crate::support::onnx::layers;
    let mut site = Site::new(QUICK);
    site.model_toml(
        "m",
        "champion = \"large\"\ntask = \"regression\"\nscore_output = \"y[0]\"\n",
    );
    for (name, count, seed) in [("large", 24, 1), ("b", 1, 3), ("c", 1, 5)] {
        site.drop_bytes("m", name, &layers(count, 1_000, seed));
    }
    let gateway = site.start().ready();
    let memory = |gateway: &Gateway, version: &str| {
        gateway.version("m", version)["measured"]["memory_bytes"]
            .as_u64()
            .unwrap()
    };
    gateway.until_role("m", "b", "challenger");
    gateway.until_role("m", "c", "challenger");
    let (large, b, c) = (memory(&gateway, "large"), memory(&gateway, "b"), memory(&gateway, "c"));
    assert!(b + c < large, "{large} {b} {c}");

    let gateway = restart_with(&mut site, gateway, large.max(b + c));
    gateway.until_role("m", "c", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("b")).0, 200);
    let entry = gateway.version("m", "large");
    assert_eq!((&entry["role"], &entry["reason"]), (&json!("previous"), &Value::Null));
    says_it_waits(&gateway, "c", "candidate");
    until_runners(&gateway, 1);

    // For this one there is no memory at all: it keeps nobody waiting.
    let gateway = restart_with(&mut site, gateway, large - 1);
    says_it_waits(&gateway, "large", "previous");
    gateway.until_role("m", "c", "challenger");
    until_runners(&gateway, 1);
    let gateway = restart_with(&mut site, gateway, 4 << 30);
    until_runners(&gateway, 2);
    assert_eq!(gateway.version("m", "large")["reason"], Value::Null);
}

#[test]
fn a_hundred_files_at_once_are_all_judged_while_answers_go_on() {
    let (site, gateway, traffic) = served(QUICK);
    let tree = fs::read(shipped("e02_tree")).unwrap();
    for n in 0..100 {
        // Most are no models: what counts is that each is judged, and that nobody waits for it.
        let bytes = if n % 20 == 0 {
            marked(&tree, &n.to_string())
        } else {
            format!("no model {n}").into_bytes()
        };
        site.drop_bytes("m", &format!("v{n:03}"), &bytes);
    }
    until("all to be judged", || {
        let view = gateway.view("m");
        let versions = view["versions"].as_array()?;
        let judged = |role: &str| versions.iter().filter(|v| v["role"] == role).count();
        (judged("rejected") == 95 && judged("challenger") == 5).then_some(())
    });
    traffic.end();
}

#[test]
fn a_file_that_keeps_changing_stays_one_version() {
    let (site, gateway, traffic) = served("settle_ms = 1\npoll = \"50ms\"\n");
    for n in 0..30 {
        site.drop_bytes("m", "bad", format!("no model {n}").as_bytes());
        let digest = sha256(format!("no model {n}").as_bytes());
        until("the bytes to be judged", || {
            let entry = gateway.version("m", "bad");
            (entry["role"] == "rejected" && (entry["digest"] == digest || entry["digest"] == "")).then_some(())
        });
    }
    drop(traffic);
    assert_eq!(gateway.stop(), Some(0));
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    let count: i64 = ledger
        .query_row("SELECT count(*) FROM versions", [], |row| row.get(0))
        .unwrap();
    assert!(count <= 3, "{count} versions in the ledger");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    format!(
        "sha256:{}",
        digest.iter().map(|b| format!("{b:02x}")).collect::<String>()
    )
}

#[test]
fn models_appear_at_runtime_in_either_layout_and_do_not_disturb_each_other() {
    let (site, gateway, traffic) = served(QUICK);
    // A new directory of a model that nobody knew.
    site.drop_file("late", "e01", &shipped("e01_logreg"));
    let is_ready = |model: &str| client::get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200;
    until("the new model", || is_ready("late").then_some(()));
    // The Triton layout; with a config.pbtxt the model keeps its tensors.
    let folder = site.models().join("triton/1");
    fs::create_dir_all(&folder).unwrap();
    fs::write(site.models().join("triton/config.pbtxt"), "name: \"triton\"\n").unwrap();
    fs::copy(shipped("e02_tree"), folder.join("model.onnx")).unwrap();
    until("the Triton layout", || is_ready("triton").then_some(()));
    let view = gateway.view("triton");
    assert_eq!(
        (&view["champion"]["version"], &view["interface"]["inputs"]["kind"]),
        (&json!("1"), &json!("tensors"))
    );
    let asked = json!({"model": "triton", "inputs": {"features": [[0.5, 0.06, 0.4]]}});
    assert_eq!(gateway.predict(&asked).0, 200);
    // The same bytes in two models are two versions, and what befalls one model leaves the others alone.
    site.drop_file("late", "e02", &shipped("e02_tree"))
        .drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("late", "e02", "challenger");
    gateway.until_role("m", "e02", "challenger");
    site.model_toml("late", "no toml at all")
        .drop_bytes("late", "bad", b"no model");
    gateway.until_role("late", "bad", "rejected");
    assert_eq!(gateway.view("m")["settings_error"], Value::Null);
    assert_eq!(gateway.version("m", "bad"), Value::Null);
    assert_eq!(gateway.predict(&ask("late")).0, 200);
    traffic.end();
}

#[test]
fn a_candidate_that_was_examined_during_a_crash_is_examined_again() {
    let site = Site::new(QUICK);
    site.drop_file("m", "e01", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    site.drop_file("m", "e10", &shipped("e10_boosted_all"));
    until("the candidate", || {
        (gateway.version("m", "e10")["role"] != Value::Null).then_some(())
    });
    gateway.kill();
    let gateway = site.start().ready();
    let entry = until("a decision on it", || {
        let entry = gateway.version("m", "e10");
        (entry["role"] == "challenger" || entry["role"] == "rejected").then_some(entry)
    });
    assert_eq!(entry["role"], "challenger", "{entry}");
    assert_eq!(gateway.predict(&ask("m")).0, 200);
}

#[test]
fn a_versions_own_threshold_outlives_a_restart() {
    let site = Site::new(QUICK);
    site.drop_file("m", "e01", &shipped("e01_logreg"));
    fs::write(site.models().join("m/e01.toml"), "threshold = 0.0\n").unwrap();
    let label = |gateway: &Gateway| gateway.predict(&ask("m")).1["predictions"][0]["label"].clone();
    let gateway = site.start().ready();
    let first = label(&gateway);
    fs::remove_file(site.models().join("m/e01.toml")).unwrap();
    fs::write(site.models().join("m/e01.toml"), "threshold = 1.0\n").unwrap();
    gateway.kill();
    let gateway = site.start().ready();
    assert_ne!(
        label(&gateway),
        first,
        "the threshold in e01.toml is not the one in force"
    );
}

#[test]
fn an_edit_of_how_outputs_are_read_reaches_the_versions_that_run() {
    let (site, gateway, traffic) = served(QUICK);
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    let answer = |version: &str| {
        let mut body = ask("m");
        body["version"] = json!(version);
        gateway.predict(&body).1["predictions"][0].clone()
    };
    let score = |version: &str| answer(version)["score"].as_f64().unwrap();
    let labels = || (answer("e01")["label"].clone(), answer("e02")["label"].clone());
    site.model_toml("m", "threshold = 0.0\n");
    until("everything is positive", || {
        (labels() == (json!(1), json!(1))).then_some(())
    });
    let runners = gateway.children();
    site.model_toml("m", "threshold = 1.0\n");
    until("nothing is positive", || {
        (labels() == (json!(0), json!(0))).then_some(())
    });
    fs::write(site.models().join("m/e02.toml"), "threshold = 0.0\n").unwrap();
    until("a version's own threshold", || {
        (labels() == (json!(0), json!(1))).then_some(())
    });
    assert_eq!(gateway.children(), runners, "a threshold needs no new runner");

    let (champion, challenger) = (score("e01"), score("e02"));
    site.model_toml("m", "positive = \"0\"\n");
    let is = |a: f64, b: f64| (a - b).abs() < 1e-6;
    until("the other class is the positive one", || {
        (is(score("e01"), 1.0 - champion) && is(score("e02"), 1.0 - challenger)).then_some(())
    });
    let restarts = "SELECT count(*) FROM journal WHERE json_extract(event, '$.event') = 'restart'";
    assert_eq!(ask_ledger::<i64>(&site, restarts), Some(1));
    site.model_toml("m", "positive = \"maybe\"\n");
    until("a class that is none", || {
        let view = gateway.view("m");
        view["settings_error"]
            .as_str()
            .is_some_and(|e| e.contains("maybe"))
            .then_some(())
    });
    assert!(is(score("e01"), 1.0 - champion));
    traffic.end();
}

#[test]
fn a_line_of_names_widens_the_interface_of_a_running_model_for_ever() {
    let site = Site::new(QUICK);
    site.drop_file("m", "plain", &export("sklearn_zipmap_int.onnx"));
    let gateway = site.start().ready();
    let zipmap = fs::read(export("sklearn_zipmap_int.onnx")).unwrap();
    site.drop_bytes("m", "other", &marked(&zipmap, "other"));
    gateway.until_role("m", "other", "challenger");
    // Without names the outputs must be the first champion's, too.
    site.drop_file("m", "renamed_outputs", &export("sklearn_plain.onnx"));
    until_rejected(&gateway, "renamed_outputs", "output");
    assert_eq!(gateway.view("m")["interface"]["inputs"]["kind"], "tensors");
    let named = json!({"model": "m", "instances": [{"a": 0.5, "b": -0.25, "c": 1.5}]});
    for refused in [named.clone(), json!({"model": "m", "instances": [[0.5, -0.25, 1.5]]})] {
        let (status, answer) = gateway.predict(&refused);
        let text = answer.to_string();
        assert_eq!(status, 400, "{text}");
        assert!(
            text.contains("features = [\\\"…\\\", \\\"…\\\"]  # 3 names, in column order"),
            "{text}"
        );
        assert!(
            text.contains("models/m/model.toml") && text.contains("\\\"inputs\\\": {\\\"X\\\": [[…]]}"),
            "{text}"
        );
    }
    let spellings = vec![
        json!({"model": "m", "inputs": {"X": [[0.5, -0.25, 1.5]]}}),
        json!({"model": "m", "inputs": {"X": [0.5, -0.25, 1.5, 0.5, -0.25, 1.5]}}),
    ];
    let score = |body: &Value| {
        let (status, answer) = gateway.predict(body);
        assert_eq!(status, 200, "{answer}");
        answer["predictions"][0]["score"].as_f64().unwrap()
    };
    let expected = score(&spellings[0]);
    let traffic: Vec<Traffic> = (0..3).map(|_| Traffic::of(gateway.data, spellings.clone())).collect();
    traffic[0].more(100);
    // Names that do not fit are said so, and nothing changes.
    site.model_toml("m", "features = [\"a\", \"b\"]\n");
    until("the misfit", || {
        let why = gateway.view("m")["settings_error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        why.contains("2 names").then_some(())
    });
    site.model_toml("m", "features = [\"a\", \"b\", \"c\"]\n");
    until("named features", || {
        (gateway.view("m")["interface"]["inputs"]["kind"] == "features").then_some(())
    });
    assert_eq!(gateway.view("m")["settings_error"], Value::Null);
    traffic[0].more(100);
    let shuffled = json!({"model": "m", "instances": [{"c": 1.5, "a": 0.5, "b": -0.25}]});
    for body in [&named, &shuffled, &spellings[0], &spellings[1]] {
        assert!((score(body) - expected).abs() < 1e-9);
    }
    // Challengers follow, both kinds of rows are judged, and no row counts as a failure of anybody.
    let scored = |g: &Gateway| g.version("m", "other")["coverage"]["scored"].as_u64().unwrap_or(0);
    let before = scored(&gateway);
    until("shadowed rows", || {
        score(&named);
        (scored(&gateway) > before + 20).then_some(())
    });
    gateway.until_role("m", "renamed_outputs", "challenger");
    let pinned = json!({"model": "m", "version": "other", "instances": [{"a": 0.5, "b": -0.25, "c": 1.5}]});
    assert!(score(&pinned).is_finite());
    traffic.into_iter().for_each(Traffic::end);
    let dropped = gateway.version("m", "other")["coverage"]["dropped"].clone();
    assert!(
        dropped.get("failed").is_none() && dropped.get("uncovered").is_none(),
        "{dropped}"
    );
    assert_eq!(gateway.version("m", "other")["role"], "challenger");
    // For ever: after a kill, and without the line.
    gateway.kill();
    site.model_toml("m", "");
    let gateway = site.start().ready();
    for body in [&named, &spellings[0], &spellings[1]] {
        let (status, answer) = gateway.predict(body);
        assert_eq!(status, 200, "{answer}");
        assert!((answer["predictions"][0]["score"].as_f64().unwrap() - expected).abs() < 1e-9);
    }
    gateway.until_role("m", "other", "challenger");
}

#[test]
fn what_was_found_out_about_a_file_is_not_found_out_again_after_a_restart() {
    let site = Site::new(QUICK);
    site.drop_file("m", "e01", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    for _ in 0..150 {
        assert_eq!(gateway.predict(&ask("m")).0, 200);
    }
    site.drop_file("m", "dated", &shipped("e11_date_overfit"))
        .drop_bytes("m", "text", b"not a model")
        .drop_file("m", "crash", &data("nan"));
    until_rejected(&gateway, "dated", "carried");
    until_rejected(&gateway, "text", "");
    until_rejected(&gateway, "crash", "");
    let examined = |site: &Site| site.log().matches("examining").count();
    let before = examined(&site);
    gateway.kill();

    let gateway = site.start().ready();
    site.drop_file("m", "e02", &shipped("e02_tree"));
    // Files wait in one line: the others have had their turn.
    gateway.until_role("m", "e02", "challenger");
    until_rejected(&gateway, "dated", "carried");
    until_rejected(&gateway, "text", "");
    until_rejected(&gateway, "crash", "");
    assert_eq!(examined(&site), before + 1, "{}", site.log());
    let mut row = row();
    row["date"] = json!(0.5);
    assert_eq!(gateway.predict(&json!({"model": "m", "instances": [row]})).0, 200);
    gateway.until_role("m", "dated", "challenger");
    assert_eq!(
        examined(&site),
        before + 1,
        "what it lacked is carried, and its bytes are known"
    );
}

#[test]
fn a_regression_without_a_metric_is_not_judged_and_says_which_line_to_add() {
    let site = Site::new(QUICK);
    site.drop_file("r", "mean", &data("mean"));
    let gateway = site.start().ready();
    let view = gateway.view("r");
    assert_eq!(view["policy"]["mode"], "off", "{view}");
    let why = view["mode_reason"].as_str().unwrap().to_owned();
    assert!(why.contains("metric") && why.contains("bound"), "{why}");
    assert_eq!(site.log().matches("nothing is judged").count(), 1, "{}", site.log());
    site.model_toml("r", "metric = \"squared_error\"\nbound = 4.0\n");
    until("the metric", || {
        (gateway.view("r")["policy"]["mode"] == "auto").then_some(())
    });
    assert_eq!(gateway.view("r")["mode_reason"], Value::Null);
}

#[test]
fn a_copy_stays_a_copy_when_its_file_goes_and_comes_back() {
    let (site, gateway, traffic) = served(QUICK);
    for _ in 0..2 {
        site.drop_file("m", "copy", &shipped("e01_logreg"));
        until_rejected(&gateway, "copy", "'e01'");
        fs::remove_file(file(&site, "m", "copy")).unwrap();
        gateway.until_role("m", "copy", "retired");
    }
    traffic.end();
}

#[test]
fn a_directory_that_is_away_retires_nothing_and_is_missed_once() {
    let (site, gateway, traffic) = served(QUICK);
    site.drop_file("m", "e02", &shipped("e02_tree"))
        .drop_file("other", "e01", &shipped("e01_logreg"))
        .drop_file("other", "e02", &shipped("e02_tree"));
    site.model_toml("other", "champion = \"e01\"\n");
    gateway.until_role("m", "e02", "challenger");
    gateway.until_role("other", "e02", "challenger");
    let (here, away) = (site.models().join("m"), site.models().with_extension("away"));
    fs::rename(&here, &away).unwrap();
    let missed = || {
        site.log()
            .matches("is not there: what was loaded from it stays")
            .count()
    };
    until("the directory is missed", || (missed() > 0).then_some(()));
    // For as long as it takes a file to be given up.
    fs::remove_file(file(&site, "other", "e02")).unwrap();
    gateway.until_role("other", "e02", "retired");
    assert_eq!(missed(), 1);
    for (version, role) in [("e01", "champion"), ("e02", "challenger")] {
        assert_eq!(gateway.version("m", version)["role"], role);
    }
    fs::rename(&away, &here).unwrap();
    site.drop_bytes("m", "new", &marked(&fs::read(shipped("e02_tree")).unwrap(), "new"));
    gateway.until_role("m", "new", "challenger");
    let names: Vec<Value> = gateway.view("m")["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["version"].clone())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    traffic.end();
}

#[test]
fn evidence_belongs_to_the_bytes_whatever_they_are_called() {
    let site = Site::new(QUICK);
    site.model_toml("m", "[label]\nmaturity = \"5 rows\"\nhorizon = \"1000 rows\"\n")
        .drop_file("m", "e01", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    for _ in 0..20 {
        let (_, answer) = gateway.predict(&ask("m"));
        let id = answer["predictions"][0]["id"].as_str().unwrap().to_owned();
        gateway.label("m", &[(&id, json!(1))]);
    }
    let labels = |name: &str| gateway.version("m", name)["evidence"]["labels"].as_u64();
    let before = until("evidence", || labels("e02").filter(|n| *n >= 5));
    fs::rename(file(&site, "m", "e02"), file(&site, "m", "tree")).unwrap();
    gateway.until_role("m", "tree", "challenger");
    assert!(labels("tree").unwrap_or(0) >= before, "the evidence was lost");
    // Who retired the old name is on record.
    let decisions = gateway.decisions("m");
    let retired = decisions.iter().find(|d| d["kind"] == "retire").unwrap();
    assert_eq!(
        (&retired["from"], &retired["author"]),
        (&json!("e02"), &json!("registry"))
    );
    assert!(retired["why"].as_str().unwrap().contains("gone"), "{retired}");
    // A person's retirement is no way around it either.
    assert_eq!(gateway.act("m", "retire", Some("tree")).0, 200);
    fs::rename(file(&site, "m", "tree"), file(&site, "m", "again")).unwrap();
    gateway.until_role("m", "again", "challenger");
    assert!(labels("again").unwrap_or(0) >= before, "the evidence was lost");
}

#[test]
fn whoever_makes_room_is_retired_by_a_decision() {
    let (site, gateway, traffic) = served(QUICK);
    site.model_toml("m", "[shadow]\nmax_challengers = 1\n[policy]\ndwell = \"1 rows\"\n");
    until("the policy", || {
        (gateway.view("m")["policy"]["dwell"] == "1 rows").then_some(())
    });
    site.drop_file("m", "e02", &shipped("e02_tree"));
    gateway.until_role("m", "e02", "challenger");
    site.drop_file("m", "e05", &shipped("e05_forest"));
    gateway.until_role("m", "e05", "challenger");
    gateway.until_role("m", "e02", "retired");
    let decision = gateway.decisions("m").pop().unwrap();
    let expected = (&json!("retire"), &json!("judge"), &json!("e02"));
    assert_eq!((&decision["kind"], &decision["author"], &decision["from"]), expected);
    assert_eq!(
        gateway.metric("dethrone_swaps_total{model=\"m\",kind=\"first\"}"),
        Some(1.0)
    );
    traffic.end();
}

#[test]
fn a_file_without_its_weights_says_what_it_waits_for() {
    let site = Site::new(QUICK);
    let folder = site.models().join("m");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(export("torch_external.onnx"), folder.join("torch_external.onnx")).unwrap();
    let gateway = site.start();
    until_rejected(
        &gateway,
        "torch_external",
        "waits for its external data torch_external.onnx.data",
    );
    assert_eq!(
        site.log().matches("waits for its external data").count(),
        1,
        "it is said once"
    );
    let data = "torch_external.onnx.data";
    fs::copy(export(data), folder.join(data)).unwrap();
    gateway.until_role("m", "torch_external", "champion");
}

#[test]
fn silence_can_only_count_as_a_label_that_the_model_has() {
    let (site, gateway, traffic) = served(QUICK);
    let says = |why: &Value| {
        why.as_str()
            .is_some_and(|why| why.contains("absent = 7") && why.contains("classes 0, 1"))
    };
    site.model_toml("m", "[label]\nabsent = 7\n");
    until("the edit is refused", || {
        says(&gateway.view("m")["settings_error"]).then_some(())
    });
    site.model_toml("m", "[label]\nabsent = 0\n");
    until("the edit is taken", || {
        (gateway.view("m")["settings_error"] == Value::Null).then_some(())
    });
    // Nobody is crowned under settings that mean nothing.
    site.model_toml("late", "[label]\nabsent = 7\n")
        .drop_file("late", "e01", &shipped("e01_logreg"));
    until("the reason", || {
        says(&gateway.view("late")["waiting_for"]).then_some(())
    });
    site.model_toml("late", "");
    until("it is served", || (gateway.view("late")["ready"] == true).then_some(()));
    traffic.end();
}

#[test]
fn a_faulty_toml_of_a_version_is_shown_with_it() {
    let (site, gateway, traffic) = served(QUICK);
    let toml = site.models().join("m/copy.toml");
    fs::write(&toml, "twn = true\n").unwrap();
    site.drop_file("m", "copy", &shipped("e01_logreg"));
    until_rejected(
        &gateway,
        "copy",
        "copy.toml, which could say twin = true, cannot be read",
    );
    let fault = gateway.version("m", "copy")["settings_error"].clone();
    assert!(fault.as_str().is_some_and(|fault| fault.contains("twin")), "{fault}");
    assert_eq!(gateway.version("m", "e01")["settings_error"], Value::Null);
    fs::remove_file(&toml).unwrap();
    fs::write(&toml, "twin = true\n").unwrap();
    let entry = gateway.until_role("m", "copy", "challenger");
    assert_eq!(entry["settings_error"], Value::Null);
    traffic.end();
}
