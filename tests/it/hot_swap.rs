//! Swaps under load: no request fails, no answer mixes two versions, nobody goes back in time, and the old champions
//! are freed by the writer.
//!
//! In short by default; `DETHRONE_SWAPS=1000 cargo test --release --test it swaps_by_order` is the long form of the one
//! over sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dethrone::batch::{Batch, Schema};
use dethrone::champion::{Champion, Loaded, Question, Released, Slot, VersionInfo};
use dethrone::config::ExecutionConfig;
use dethrone::decode::{Form, Missing, Rules, Source, Unknown, Wanted};
use dethrone::model::facts::{Facts, pack};
use dethrone::model::head::{Head, HeadSettings};
use dethrone::model::interface::Interface;
use dethrone::model::onnx;
use dethrone::model::session::Session;
use dethrone::score::{Score, VersionNo};
use serde_json::{Value, json};

use super::support::{Gateway, Site, right_answers, shipped};

const NAMES: [&str; 2] = ["e01_logreg", "e05_forest"];

/// A shipped version as admission would describe it, and its interface.
fn facts(name: &str) -> (Facts, Head) {
    let path = shipped(name);
    let scan = onnx::scan(&std::fs::read(&path).unwrap()).unwrap();
    let mut session = Session::load(&path, 1).unwrap();
    let signature = session.signature().clone();
    let one = |spec: &dethrone::model::signature::TensorSpec| {
        use dethrone::model::tensor::{Data, Datatype, Tensor, Text};
        let data = match spec.datatype {
            Datatype::Bytes => {
                let mut text = Text::default();
                text.push(b"1");
                Data::Bytes(text)
            }
            _ => Data::Fp32(vec![0.5]),
        };
        Tensor::new(vec![1, 1], data).unwrap()
    };
    let inputs: Vec<_> = signature.inputs.iter().map(one).collect();
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let outputs = session.run(&inputs, &all).unwrap();
    let head = Head::find(&signature, &scan, &outputs, 1, &HeadSettings::default()).unwrap();
    let names = scan.feature_names();
    let facts = Facts {
        scan,
        signature,
        names,
        batched: true,
        probe_rows: 1,
        probe_inputs: pack(&inputs),
        probe_outputs: pack(&outputs),
        latency_us_p50: 0,
        latency_us_p99: 0,
        cpu_ns: 0,
        memory_bytes: 0,
        runtime: String::new(),
    };
    (facts, head)
}

fn load(no: u32) -> (Arc<Loaded>, Arc<Schema>) {
    let name = NAMES[no as usize - 1];
    let (facts, head) = facts(name);
    let interface = Interface::of_first(&facts, true, head.task, head.classes.clone());
    let (interface, layout) = interface.join(&facts, |_| true).unwrap();
    let info = VersionInfo {
        no: VersionNo(no),
        name: name.into(),
        digest: String::new(),
        outputs: facts.signature.output_names(),
        signature: facts.signature,
        layout,
        head,
        batched: true,
        counters: std::sync::Arc::default(),
        faults: std::sync::Arc::default(),
    };
    let loaded = Loaded::load(Arc::new(info), &shipped(name), 2, &ExecutionConfig::default(), None).unwrap();
    (Arc::new(loaded), interface.schema(&Arc::default()))
}

#[test]
fn six_thousand_swaps_mix_nothing_lose_nothing_and_are_freed_by_the_writer() {
    let ((first, schema), (second, _)) = (load(1), load(2));
    let rules = Rules {
        missing: Missing::Reject,
        unknown: Unknown::Reject,
        max_rows: 10,
    };
    let columns = (0..u32::try_from(schema.len()).unwrap()).collect();
    let form = Form::Features {
        schema,
        columns,
        native: None,
    };
    let table: Vec<(Arc<Batch>, [f64; 2])> = right_answers()
        .into_iter()
        .map(|(row, right)| {
            let text = json!([row, row]).to_string();
            let batch = form.read(Source::Instances(&text), rules).unwrap();
            (Arc::new(batch), NAMES.map(|name| right[name].as_f64().unwrap()))
        })
        .collect();

    let slot = Slot::default();
    let crown = |epoch: u64, version: &Arc<Loaded>, previous: Option<&Arc<Loaded>>| {
        Arc::new(Champion {
            epoch,
            since_ms: 0,
            version: Arc::clone(version),
            previous: previous.cloned(),
        })
    };
    slot.store(crown(1, &first, None));
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = |start: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut last = 0;
        let mut seen = [0_u64; 2];
        for (batch, right) in table.iter().cycle().skip(start) {
            if done.load(Ordering::Relaxed) && seen.iter().all(|n| *n > 0) {
                break;
            }
            let champion = slot.load().unwrap();
            assert!(champion.epoch >= last, "epoch {} after {last}", champion.epoch);
            last = champion.epoch;
            let question = Question {
                batch,
                wanted: &Wanted::None,
                deadline: None,
            };
            let answer = runtime.block_on(champion.answer(question)).unwrap();
            let which = champion.version.info.no.0 as usize - 1;
            seen[which] += 1;
            for row in &answer.rows {
                let Some(Score::Binary(score)) = row.score else {
                    panic!("{row:?}")
                };
                assert!((score - right[which]).abs() < 1e-6, "{score} is not {}'s", NAMES[which]);
                assert!(row.fallback.is_none());
            }
            answered.fetch_add(1, Ordering::Relaxed);
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for k in 0..4 {
            scope.spawn(move || reader(k * 7));
        }
        let mut released = Released::default();
        let mut gone: Vec<Weak<Champion>> = Vec::new();
        let mut sessions: Vec<Weak<Loaded>> = Vec::new();
        let (mut now, mut other) = (Arc::clone(&first), Arc::clone(&second));
        for epoch in 2..6_002_u64 {
            std::mem::swap(&mut now, &mut other);
            if epoch % 1_000 == 0 {
                // Now and then sessions that nobody else keeps.
                now = load(now.info.no.0).0;
                sessions.push(Arc::downgrade(&now));
            }
            let before = slot.store(crown(epoch, &now, Some(&other))).unwrap();
            gone.push(Arc::downgrade(&before));
            released.take(Some(before));
            // Whatever the readers did with it: it lives until the writer sweeps.
            assert!(gone.iter().rev().take(1).all(|champion| champion.strong_count() > 0));
            if epoch % 16 == 0 {
                released.sweep();
            }
            if epoch % 64 == 0 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        super::support::until("every old champion is freed by the sweep", || {
            (released.sweep() == 0).then_some(())
        });
        assert!(gone.iter().all(|champion| champion.upgrade().is_none()));
        // The last two are still named by the slot and by this thread; all others' sessions are gone.
        let alive = sessions.iter().filter(|s| s.upgrade().is_some()).count();
        assert!(alive <= 2, "{alive} sessions are still there");
    });
    assert!(answered.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_champion_that_a_request_holds_is_freed_by_the_sweep_after_it_and_not_by_the_request() {
    let (loaded, _) = load(1);
    let slot = Slot::default();
    let crown = |epoch| {
        Arc::new(Champion {
            epoch,
            since_ms: 0,
            version: Arc::clone(&loaded),
            previous: None,
        })
    };
    slot.store(crown(1));
    let request = slot.load().unwrap();
    let mut released = Released::default();
    released.take(slot.store(crown(2)));
    let old = Arc::downgrade(&request);
    assert_eq!(released.sweep(), 1);
    drop(request);
    assert_eq!(old.strong_count(), 1, "the request freed it");
    assert_eq!(released.sweep(), 0);
    assert!(old.upgrade().is_none() && released.is_empty());
}

/// A connection that is kept.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    fn predict(&mut self, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection was closed");
            let line = line.trim_end().to_lowercase();
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                status = code[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

/// One client: every answer is right for the version that it names. Gives how many it got from each.
fn client(gateway: &Gateway, (pin, shadow): (Option<&str>, bool), done: &AtomicBool) -> [u64; 2] {
    let mut kept = Kept::to(gateway.data);
    let mut seen = [0; 2];
    for (row, right) in right_answers().iter().cycle() {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let mut body = json!({"model": "elec2", "instances": [row, row], "shadow": shadow});
        if let Some(version) = pin {
            body["version"] = version.into();
        }
        let (status, answer) = kept.predict(&body);
        assert_eq!(status, 200, "{answer}");
        let version = answer["version"].as_str().unwrap();
        assert!(pin.is_none_or(|pin| pin == version), "{answer}");
        let right = right[version].as_f64().unwrap();
        for row in answer["predictions"].as_array().unwrap() {
            assert!(
                (row["score"].as_f64().unwrap() - right).abs() < 1e-6,
                "{answer}, not {right}"
            );
            assert!(row.get("fallback").is_none(), "{answer}");
        }
        seen[usize::from(version == NAMES[1])] += 1;
    }
    seen
}

#[test]
fn swaps_by_order_fail_no_request_and_mix_no_answer() {
    let swaps: u32 = std::env::var("DETHRONE_SWAPS").map_or(20, |n| n.parse().unwrap());
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n")
        .drop_file("elec2", NAMES[0], &shipped(NAMES[0]))
        .drop_file("elec2", NAMES[1], &shipped(NAMES[1]));
    let gateway = site.start().ready();
    gateway.until_role("elec2", NAMES[1], "challenger");
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let (gateway, done) = (&gateway, &done);
        // Of one client all rows are recorded and shadowed: all four would measure a debug build's recorder.
        let clients = [
            (None, true),
            (None, false),
            (Some(NAMES[0]), false),
            (Some(NAMES[1]), false),
        ];
        let clients = clients.map(|who| scope.spawn(move || client(gateway, who, done)));
        for k in 1..=swaps {
            let to = NAMES[k as usize % 2];
            let (status, answer) = gateway.act("elec2", "promote", Some(to));
            assert_eq!((status, &answer["changed"]), (200, &json!(true)), "swap {k}: {answer}");
            let (_, next) = gateway.predict(&json!({"model": "elec2", "instances": [right_answers()[0].0]}));
            assert_eq!(next["version"], to, "the very next answer is the new champion's");
        }
        done.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap())
    });
    for name in [0, 1] {
        assert!(seen[0][name] + seen[1][name] > 0, "{seen:?}");
    }
    let counted = gateway.metric("dethrone_swaps_total{model=\"elec2\",kind=\"order\"}");
    assert_eq!(counted, Some(f64::from(swaps)));
    assert_eq!(gateway.metric("dethrone_requests_dropped_by_swap_total"), Some(0.0));
    assert_eq!(gateway.view("elec2")["champion"]["epoch"], 1 + swaps);
}
