//! Upgrades: a new process takes the running one's place, and nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::signals::Clients;
use crate::support::client::{get, post};
use crate::support::{Gateway, Site, ask_ledger, elec2_row, ids, shipped, until};

fn site() -> Site {
    let site = Site::new("");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

/// The next process, once the one before it has ended as one does that was asked to stop.
fn upgraded(site: &Site, before: Gateway) -> Gateway {
    let after = site.take_over();
    assert_eq!(after.data, before.data, "the same socket");
    assert_eq!(before.ended(), Some(0));
    after
}

/// Nothing waits for a process before this one any more.
fn settled(gateway: &Gateway) {
    until("the ledger", || {
        let ready = get(gateway.data, "/v2/health/ready");
        (ready.status == 200 && !ready.text().contains("upgrade")).then_some(())
    });
}

#[test]
fn no_request_fails_over_upgrades() {
    // The long form: `DETHRONE_UPGRADES=100`.
    let upgrades = std::env::var("DETHRONE_UPGRADES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    let site = site();
    let mut gateway = site.start().ready();
    let clients = Clients::of(gateway.data);
    for _ in 0..upgrades {
        clients.more(200);
        gateway = upgraded(&site, gateway);
    }
    clients.more(200);
    let (answered, failed) = clients.end();
    assert!(
        failed.is_empty(),
        "{} of {answered} failed: {}",
        failed.len(),
        failed[0]
    );
    println!("{answered} answered over {upgrades} upgrades, none failed");
}

/// Asks and reports outcomes without a pause: every id with whether its label was acknowledged.
fn ask_and_label(to: std::net::SocketAddr, stop: &AtomicBool) -> BTreeMap<String, bool> {
    let mut seen = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = post(to, "/predict", &json!({"instances": [elec2_row(), elec2_row()]}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let new = ids(&answer.json());
        let labels: Vec<Value> = new.iter().map(|id| json!({"id": id, "label": 1})).collect();
        let answer = post(to, "/feedback", &json!({"labels": labels}));
        // 503: the ledger was another process's for too long; nothing was acknowledged.
        let is_taken = answer.status == 200;
        assert!(is_taken || answer.status == 503, "{}", answer.text());
        if is_taken {
            for result in answer.json()["results"].as_array().unwrap() {
                assert_eq!(result["status"], "accepted", "{result}");
            }
        }
        for id in new {
            assert_eq!(seen.insert(id.clone(), is_taken), None, "{id} was given twice");
        }
    }
    seen
}

#[test]
fn what_is_answered_and_labelled_during_upgrades_is_kept_and_no_id_is_given_twice() {
    let site = site();
    let mut gateway = site.start().ready();
    let (to, stop) = (gateway.data, Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask_and_label(to, &stop))
        })
        .collect();
    for _ in 0..2 {
        gateway = upgraded(&site, gateway);
        settled(&gateway);
    }
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<(String, bool)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let distinct: BTreeSet<&String> = seen.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), seen.len(), "two processes gave the same id");
    for part in seen.chunks(500) {
        let again: Vec<(&str, Value)> = part.iter().map(|(id, _)| (id.as_str(), json!(1))).collect();
        for ((id, was_taken), status) in part.iter().zip(gateway.label("elec2", &again)) {
            let expected = if *was_taken { "duplicate" } else { "accepted" };
            assert_eq!(status, expected, "{id}");
        }
    }
    let labels: i64 = ask_ledger(&site, "SELECT count(*) FROM labels").unwrap();
    let rows: i64 = ask_ledger(&site, "SELECT count(*) FROM predictions").unwrap();
    assert_eq!((labels, rows), (seen.len() as i64, seen.len() as i64));
    // Whatever else there is goes on, too.
    site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    gateway.until_role("elec2", "e02_tree", "challenger");
    assert_eq!(gateway.act("elec2", "promote", Some("e02_tree")).0, 200);
    assert_eq!(gateway.view("elec2")["champion"]["version"], "e02_tree");
    let gateway = upgraded(&site, gateway);
    let (status, answer) = gateway.predict(&json!({"instances": [elec2_row()]}));
    assert_eq!((status, &answer["version"]), (200, &json!("e02_tree")));
}

/// A frame, as both sides write it.
fn say(socket: &mut UnixStream, message: &Value) -> Value {
    let text = message.to_string();
    socket
        .write_all(&u32::try_from(text.len()).unwrap().to_le_bytes())
        .unwrap();
    socket.write_all(text.as_bytes()).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut answer).unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn an_upgrade_that_fails_before_it_answers_changes_nothing() {
    let site = site();
    let gateway = site.start().ready();
    let predict = || gateway.predict(&json!({"instances": [elec2_row()]})).0;
    let connect = || UnixStream::connect(site.state().join("hand-over.sock")).unwrap();
    // One that cannot even load a model.
    let (code, said) = site.refused_take_over(
        Command::new(env!("CARGO_BIN_EXE_dethrone")).env("ORT_DYLIB_PATH", "/there/is/no/such/library.so"),
    );
    assert_eq!((code, predict()), (Some(78), 200), "{said}");
    // One of another time.
    let refused = say(
        &mut connect(),
        &json!({"ask": "hello", "protocol": 99, "version": "99.0.0"}),
    );
    assert!(refused["why"].as_str().unwrap().contains("protocol 99"), "{refused}");
    // One that dies with the sockets in its hands, while another one is told to wait.
    let mut dying = connect();
    let hello = json!({"ask": "hello", "protocol": 1, "version": "0.1.0"});
    assert_eq!(say(&mut dying, &hello)["answer"], "here");
    let second = say(&mut connect(), &hello);
    assert!(second["why"].as_str().unwrap().contains("already"), "{second}");
    let share = say(&mut dying, &json!({"ask": "take"}));
    assert_eq!(share["listeners"], json!(["data", "grpc", "admin"]));
    assert_eq!(
        say(&mut dying, &json!({"ask": "listener", "name": "data"}))["answer"],
        "listener"
    );
    assert_eq!(
        say(&mut dying, &json!({"ask": "listener", "name": "nobody"}))["answer"],
        "refused"
    );
    drop(dying);
    assert_eq!(predict(), 200);
    // The next one may try again, and the ids of both still differ.
    let (_, before) = gateway.predict(&json!({"instances": [elec2_row()]}));
    let mut again = UnixStream::connect(site.state().join("hand-over.sock")).unwrap();
    until("the place of the one that died", || {
        let answer = say(&mut again, &hello);
        if answer["answer"] == "here" {
            return Some(());
        }
        again = UnixStream::connect(site.state().join("hand-over.sock")).unwrap();
        None
    });
    drop(again);
    until("the log", || site.log().contains("this one goes on").then_some(()));
    let gateway = {
        let after = until("an upgrade", || {
            let busy = site.log().matches("this one goes on").count() >= 2;
            busy.then(|| site.take_over())
        });
        assert_eq!(gateway.ended(), Some(0));
        after
    };
    let (_, after) = gateway.predict(&json!({"instances": [elec2_row()]}));
    assert_ne!(ids(&before), ids(&after));
    settled(&gateway);
    assert_eq!(gateway.label("elec2", &[(&ids(&before)[0], json!(1))]), ["accepted"]);
}

#[test]
fn where_nobody_can_be_taken_over_from_it_is_said_and_nothing_starts() {
    let site = site();
    let (code, said) = site.refused_take_over(&mut Command::new(env!("CARGO_BIN_EXE_dethrone")));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no process that can be taken over serves"), "{said}");
    let upgrade = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["upgrade", "--state"])
        .arg(site.state())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&upgrade.stderr);
    assert_eq!(upgrade.status.code(), Some(1), "{said}");
    assert!(said.contains("no gateway that can be taken over runs on"), "{said}");
}
