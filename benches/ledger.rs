//! The recorder and the ledger, end to end: rows recorded per second, labels made durable per second.
//!
//! Measure with `cargo bench --bench ledger`; `TMPDIR` chooses the disk. Every iteration feeds the recorder through its
//! queues, as the gateway does, and ends when everything is committed (rows) or acknowledged after a sync (labels).
//! Rows have 30 features; on a machine that does other work look at the CPU time of the thread `recorder` (first
//! measured: 216,000 rows per CPU second with generated ids, 123,000 with callers' ids). The targets are 100,000 rows/s with generated ids, 25,000 with the caller's, 20,000 labels/s.
#![expect(clippy::unwrap_used, reason = "a program that measures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use dethrone::arena::{ShadowReport, ShadowWork};
use dethrone::batch::{Batch, Cell, Feature, Rows, Schema};
use dethrone::config::RetentionConfig;
use dethrone::judge::policy::Policy;
use dethrone::metrics::Metrics;
use dethrone::mirror::{Observation, Observed, Offered};
use dethrone::model::tensor::Datatype;
use dethrone::recorder::{Attached, Book, Closing, Event, LabelItem, LabelKey, Recorder, Shadow};
use dethrone::score::{ModelNo, Outcome, Score, Shed, Truth, VersionNo};
use dethrone::served::Served;
use dethrone::span::{Clock, Span};

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEATURES: usize = 30;
const CHAMPION: VersionNo = VersionNo(1);

/// A challenger that scores everything at once, on a thread of its own as the real ones do.
#[derive(Debug)]
struct Quick(Sender<ShadowWork>);

impl Shadow for Quick {
    fn offer(&self, work: ShadowWork) -> Result<(), Shed> {
        self.0.try_send(work).map_err(|_| Shed::QueueFull)
    }
}

fn score(version: VersionNo, work: &Receiver<ShadowWork>, reports: &Sender<ShadowReport>) {
    while let Ok(first) = work.recv() {
        let mut outcomes = Vec::new();
        for one in std::iter::once(first).chain(work.try_iter().take(63)) {
            let ids = (0_i64..).take(one.rows.len()).map(|k| one.first_id + k);
            outcomes.extend(ids.map(|id| (id, Outcome::Scored(Score::Binary(0.5)))));
        }
        let report = ShadowReport {
            version,
            outcomes,
            compute: Duration::ZERO,
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// A recorder with one model.
struct Rig {
    _dir: tempfile::TempDir,
    recorder: Recorder,
    model: ModelNo,
    batch: Arc<Batch>,
    next: i64,
}

impl Rig {
    fn new(challengers: u32) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let (decisions, _) = bounded(16);
        let (recorder, _) = Recorder::start(dir.path(), decisions, 1.0, &RetentionConfig::default()).unwrap();
        let served = Served::new("m".into(), ModelNo(1), Metrics::default().model("m"));
        let reports = recorder.reports();
        let lineup: Vec<(VersionNo, Arc<Quick>)> = (2..2 + challengers)
            .map(|no| {
                let (offer, work) = bounded(65_536);
                let reports = reports.clone();
                std::thread::spawn(move || score(VersionNo(no), &work, &reports));
                (VersionNo(no), Arc::new(Quick(offer)))
            })
            .collect();
        let model = recorder.call_blocking(move |core, writer| {
            let row = writer.model("m")?;
            let no = row.no;
            let closing = Closing {
                maturity: Span::Rows(1_000),
                horizon: Span::Rows(u64::MAX),
                absent: None,
                slice: None,
                dropped: Vec::new(),
                hashed: None,
                payees: Vec::new(),
            };
            let mut book = Book::load(writer, row, closing, Attached::to(&served))?;
            let clock = Clock::default();
            let policy = Policy::default();
            book.apply(
                writer,
                &Event::Start {
                    policy,
                    champion: CHAMPION,
                    clock,
                },
                0,
            )?;
            for (version, _) in &lineup {
                book.apply(
                    writer,
                    &Event::Enter {
                        version: *version,
                        clock,
                    },
                    0,
                )?;
            }
            core.add(book);
            core.set_challengers(writer, no, lineup)?;
            Ok(no)
        });
        let schema = Schema::new((0..FEATURES).map(|k| Feature {
            name: format!("feature_{k}"),
            datatype: Datatype::Fp32,
        }));
        let mut rows = Rows::new(Arc::new(schema), 1);
        let mut x = 0.1;
        for k in 0..FEATURES {
            x = 3.9 * x * (1.0 - x);
            let value: f32 = format!("{x}").parse().unwrap();
            assert!(rows.set(0, u32::try_from(k).unwrap(), Cell::Float(f64::from(value))));
        }
        Self {
            _dir: dir,
            recorder,
            model: model.unwrap(),
            batch: Arc::new(Batch::Features(rows)),
            next: 1,
        }
    }

    /// Offers rows as fast as the recorder takes them, and waits until they are recorded.
    fn record(&mut self, rows: u64, own_ids: bool) {
        for _ in 0..rows {
            self.next += 1;
            let mut seen = Observation {
                model: self.model,
                first_id: self.next,
                time_ms: self.next,
                epoch: 1,
                version: CHAMPION,
                batch: Arc::clone(&self.batch),
                rows: vec![Observed {
                    outcome: Outcome::Scored(Score::Binary(0.5)),
                    fallback: None,
                }],
                // Spread like the hashes that callers use.
                ids: own_ids.then(|| {
                    Arc::new(vec![format!(
                        "{:016x}",
                        self.next.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    )])
                }),
                entities: None,
                context: None,
                left_out: None,
            };
            while self.recorder.backlog() > 16_000 {
                std::thread::sleep(Duration::from_micros(200));
            }
            seen.time_ms = self.next;
            assert_eq!(self.recorder.mirror().offer(seen), Offered::Taken);
        }
        let (model, expected) = (self.model, self.next.cast_unsigned() - 1);
        loop {
            let recorded = self
                .recorder
                .call_blocking(move |core, _| Ok(core.books.get(&model).map_or(0, |book| book.clock().row)));
            if recorded.unwrap() == expected {
                break;
            }
        }
    }

    fn label(&self, id: i64) -> LabelItem {
        LabelItem {
            model: self.model,
            key: LabelKey::Ours { id, time_ms: id },
            label: "1".into(),
            truth: Ok(Some(Truth::Class(u32::from(id % 2 == 0)))),
            weight: 1.0,
            reward: None,
            extra: None,
            remark: None,
            reporter: None,
        }
    }
}

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("recorded rows");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4));
    const ROWS: u64 = 50_000;
    group.throughput(Throughput::Elements(ROWS));
    for (name, own_ids, challengers) in [
        ("generated ids", false, 0),
        ("generated ids, 3 challengers", false, 3),
        ("callers' ids", true, 0),
    ] {
        let mut rig = Rig::new(challengers);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|times| {
                let start = Instant::now();
                rig.record(times * ROWS, own_ids);
                start.elapsed()
            });
        });
        rig.recorder.stop();
    }
    group.finish();
}

fn labels(c: &mut Criterion) {
    let mut group = c.benchmark_group("durable labels");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    // So many clients at once, each with requests of so many labels.
    for (clients, size) in [(64_i64, 1_i64), (512, 1), (16, 100)] {
        const REQUESTS: i64 = 20;
        let count = clients * size * REQUESTS;
        group.throughput(Throughput::Elements(count.unsigned_abs()));
        let mut rig = Rig::new(0);
        let name = format!("{clients} clients, {size} a request");
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let first = rig.next + 1;
                    rig.record(count.unsigned_abs(), false);
                    let requests: Vec<Vec<Vec<LabelItem>>> = (0..clients)
                        .map(|client| {
                            let one = |r: i64| {
                                (0..size)
                                    .map(|k| rig.label(first + (client * REQUESTS + r) * size + k))
                                    .collect()
                            };
                            (0..REQUESTS).map(one).collect()
                        })
                        .collect();
                    let start = Instant::now();
                    runtime.block_on(async {
                        let mut clients = tokio::task::JoinSet::new();
                        for requests in requests {
                            let recorder = rig.recorder.clone();
                            clients.spawn(async move {
                                for items in requests {
                                    recorder.labels(items, 0).await.unwrap();
                                }
                            });
                        }
                        clients.join_all().await;
                    });
                    took += start.elapsed();
                }
                took
            });
        });
        rig.recorder.stop();
    }
    group.finish();
}

criterion_group!(benches, rows, labels);
criterion_main!(benches);
