//! What is measured: a gateway in this process, and the steps of a request to it.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use dethrone::champion::Question;
use dethrone::config::{ServeArgs, ServerConfig};
use dethrone::decode::{PredictBody, Wanted};
use dethrone::gateway::{self, Running};
use dethrone::http::backend::{Ask, Backend, Interface, Model};
use dethrone::id::{IdGenerator, IdKey};
use dethrone::judge::fold::Judge;
use dethrone::judge::pair::{ClosedRow, Pairing};
use dethrone::judge::policy::Policy;
use dethrone::mirror::{Mirror, Observation, Observed};
use dethrone::score::{ModelNo, Outcome, Score, Truth, VersionNo};
use dethrone::served::Served;
use dethrone::span::Clock;

use crate::models;
use crate::numbers::Random;

/// One step, to be called again and again.
pub(crate) type Part<'a> = Box<dyn FnMut() + 'a>;

/// A gateway with the logistic model of 30 features.
pub(crate) struct Rig {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
    pub(crate) address: std::net::SocketAddr,
    model: Arc<Served>,
    interface: Arc<Interface>,
    /// Bodies of one row: a list, an object.
    pub(crate) lists: String,
    named: String,
    _dir: Option<tempfile::TempDir>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

impl Rig {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Self::start_in(dir.path());
        rig._dir = Some(dir);
        rig
    }

    /// Where a rig has been in this directory before, the model is known and not admitted again.
    pub(crate) fn start_in(dir: &Path) -> Self {
        let path = |name| Some(dir.join(name));
        models::lay_down(&dir.join("models"), &["logreg"], 1, "").unwrap();
        let any = Some((std::net::Ipv4Addr::LOCALHOST, 0).into());
        let args = ServeArgs {
            models: path("models"),
            state: path("state"),
            listen: any,
            grpc_listen: any,
            admin_listen: any,
            settle_ms: Some(20),
            // This program is no runner.
            runner_path: Some(env!("CARGO_BIN_EXE_dethrone").into()),
            ..ServeArgs::default()
        };
        let config = ServerConfig::parse(&args, "bench", "").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(gateway::start(config)).unwrap();
        let interface = loop {
            let model = running.gateway.resolve(Some("logreg")).ok();
            if let Some((model, interface)) = model.and_then(|model| Some((Arc::clone(&model), model.interface()?))) {
                break (model, interface);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let mut random = Random::new(3);
        let numbers: Vec<String> = (0..models::FEATURES).map(|_| format!("{:.4}", random.unit())).collect();
        let names = models::feature_names();
        let cells: Vec<String> = names
            .iter()
            .zip(&numbers)
            .map(|(name, x)| format!("\"{name}\":{x}"))
            .collect();
        Self {
            address: running.listeners[0].1,
            running: Some(running),
            runtime,
            model: interface.0,
            interface: interface.1,
            lists: format!("{{\"instances\":[[{}]]}}", numbers.join(",")),
            named: format!("{{\"instances\":[{{{}}}]}}", cells.join(",")),
            _dir: None,
        }
    }

    fn decode(&self, body: &str) -> Ask {
        let mut body = PredictBody::parse(body.as_bytes()).unwrap();
        let batch = self
            .interface
            .form
            .read(body.source().unwrap(), self.interface.rules)
            .unwrap();
        Ask {
            keys: body.keys(batch.rows()).unwrap(),
            batch,
            version: None,
            outputs: body.outputs(),
            shadow: true,
            deadline: None,
            crowded: false,
        }
    }

    fn gateway(&self) -> &gateway::Gateway {
        &self.running.as_ref().unwrap().gateway
    }

    fn answer(&self, ask: Ask) -> dethrone::http::backend::Reply {
        self.runtime.block_on(self.gateway().answer(&self.model, ask)).unwrap()
    }

    /// Every part by name.
    pub(crate) fn parts(&self) -> Vec<(&'static str, Part<'_>)> {
        let reply = self.answer(self.decode(&self.lists));
        let batch = Arc::new(self.decode(&self.lists).batch);
        let champion = self.model.slot.load().unwrap();
        let ids = IdGenerator::new(IdKey::generate().unwrap(), 0);
        let mut text = Vec::with_capacity(64);
        let request = format!(
            "POST /predict HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{}",
            self.lists.len(),
            self.lists
        );
        let mut framing = dethrone::http::bench::Framing::default();
        vec![
            (
                "framing",
                Box::new(move || assert!(black_box(framing.follow(black_box(request.as_bytes()))))),
            ),
            ("decode", Box::new(|| drop(black_box(self.decode(&self.lists))))),
            ("decode_named", Box::new(|| drop(black_box(self.decode(&self.named))))),
            ("slot_load", Box::new(|| drop(black_box(self.model.slot.load())))),
            (
                "run",
                Box::new({
                    let batch = Arc::clone(&batch);
                    move || {
                        let question = Question {
                            batch: &batch,
                            wanted: &Wanted::None,
                            deadline: None,
                        };
                        drop(black_box(self.runtime.block_on(champion.answer(question))));
                    }
                }),
            ),
            (
                "id",
                Box::new(move || {
                    text.clear();
                    ids.issue(1_700_000_000_000, 1).write(None, &mut text);
                    black_box(&text);
                }),
            ),
            ("offer", offer(Arc::clone(&batch))),
            (
                "encode",
                Box::new(move || drop(black_box(dethrone::http::bench::encode("logreg", &reply)))),
            ),
            ("judge", judge()),
        ]
    }
}

/// The offer, and its other end.
fn offer(batch: Arc<dethrone::batch::Batch>) -> Part<'static> {
    let (queue, other_end) = crossbeam_channel::bounded(64);
    let mirror = Mirror::new(queue, Arc::new(usize::MAX.into()));
    Box::new(move || {
        mirror.offer(Observation {
            model: ModelNo(1),
            first_id: 1,
            time_ms: 1,
            epoch: 1,
            version: VersionNo(1),
            batch: Arc::clone(&batch),
            rows: vec![Observed {
                outcome: Outcome::Scored(Score::Binary(0.5)),
                fallback: None,
            }],
            ids: None,
            entities: None,
            context: None,
            left_out: None,
        });
        drop(other_end.try_recv());
    })
}

/// One closed row with three challengers: paired and folded.
fn judge() -> Part<'static> {
    let start = Clock::default();
    let mut judge = Judge::new(Policy::default(), VersionNo(1), 1, start);
    let challengers = [VersionNo(2), VersionNo(3), VersionNo(4)];
    for version in challengers {
        judge.enter(version, start);
    }
    let mut pairing = Pairing::new();
    let mut random = Random::new(5);
    let mut row = 0;
    Box::new(move || {
        row += 1;
        let mut score = || Outcome::Scored(Score::Binary(f64::from(random.unit())));
        let closed = ClosedRow {
            principal: None,
            clock: Clock {
                row,
                ..Clock::default()
            },
            epoch: 1,
            truth: Some(Truth::Class(u32::from(row % 2 == 0))),
            weight: 1.0,
            champion: score(),
            others: challengers.map(|version| (version, score())).to_vec(),
            groups: 0,
            rewards: None,
        };
        let pair = pairing.pair(&judge, &closed).unwrap();
        drop(black_box(judge.fold(&pair)));
    })
}
