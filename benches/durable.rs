//! What the ledger keeps up with, beside what its disk does in the same minute: `cargo bench --bench durable`.
//!
//! Prints the cost of reading a prediction id; the disk's own rate of `fdatasync`; rows recorded per second; durable labels
//! per second with the time until they are acknowledged; and what a row costs to prune. Everything goes through the
//! recorder's queues, as in the gateway; `TMPDIR` chooses the disk, and a word (`ids`, `disk`, `rows`, `labels`, `prune`) a
//! part. To reach: an id in 2 µs, 100,000 rows/s (25,000 with the caller's ids), 20,000 labels/s acknowledged within 25 ms at
//! p99.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that measures: it may end with a message"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use dethrone::batch::{Batch, Cell, Feature, Rows, Schema};
use dethrone::config::RetentionConfig;
use dethrone::id::{IdGenerator, IdKey};
use dethrone::judge::policy::Policy;
use dethrone::metrics::Metrics;
use dethrone::mirror::{Observation, Observed, Offered};
use dethrone::model::tensor::Datatype;
use dethrone::recorder::{Attached, Book, Closing, Event, LabelItem, LabelKey, Recorder};
use dethrone::score::{ModelNo, Outcome, Score, Truth, VersionNo};
use dethrone::served::Served;
use dethrone::span::{Clock, Span};

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEATURES: usize = 30;
const CHAMPION: VersionNo = VersionNo(1);
const NOW: i64 = 1_790_000_000_000;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|word| word == part);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine: {}", load.trim());
    if is_asked("ids") {
        ids();
    }
    if is_asked("disk") {
        disk("before");
    }
    if is_asked("rows") {
        rows();
    }
    if is_asked("labels") {
        labels();
        disk("after");
    }
    if is_asked("prune") {
        prune();
    }
}

/// Percentile of sorted times.
fn at(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted[place.min(sorted.len() - 1)]
}

fn ids() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ids.key");
    let ids = IdGenerator::new(IdKey::load_or_create(&path).unwrap(), 0);
    let former = ids.issue(NOW, 1).to_string();
    ids.rotate(&path, NOW + 1, 0, true).unwrap();
    let good = ids.issue(NOW + 2, 1).to_string();
    let batch = format!("{}.900", ids.issue(NOW + 2, 1_000));
    let (last, rest) = good.split_at(good.len() - 1);
    let forged = format!("{last}{}", if rest == "0" { "1" } else { "0" });
    for (name, text) in [
        ("of the present key", &good),
        ("row 900 of a request", &batch),
        ("of the former key", &former),
        ("forged", &forged),
        ("cut short", &good[..20].to_owned()),
    ] {
        const TIMES: u32 = 200_000;
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for _ in 0..TIMES {
                black_box(ids.key().read(black_box(text))).ok();
            }
            best = best.min(start.elapsed() / TIMES);
        }
        println!("an id, {name:<22} {:>6.2} µs (2)", best.as_secs_f64() * 1e6);
    }
}

/// The disk's own: what a log of labels would do at best without gathering them.
fn disk(when: &str) {
    let dir = tempfile::TempDir::new().unwrap();
    let mut file = File::create(dir.path().join("probe")).unwrap();
    let page = [7_u8; 4_096];
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            file.write_all(&page).unwrap();
            let start = Instant::now();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect();
    let total: Duration = times.iter().sum();
    times.sort();
    println!(
        "the disk {when}: {:.0} fdatasync/s, p50 {:.2} ms, p99 {:.2} ms",
        times.len() as f64 / total.as_secs_f64(),
        at(&times, 0.5).as_secs_f64() * 1e3,
        at(&times, 0.99).as_secs_f64() * 1e3
    );
}

/// A recorder with one model and no challengers.
struct Rig {
    _dir: tempfile::TempDir,
    recorder: Recorder,
    model: ModelNo,
    batch: Arc<Batch>,
    /// Rows of today: old ones would be pruned beside what is measured.
    began_ms: i64,
    next: i64,
}

impl Rig {
    fn new(limits: &RetentionConfig) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let (recorder, _) = Recorder::start(dir.path(), bounded(16).0, 1.0, limits).unwrap();
        let served = Served::new("m".into(), ModelNo(1), Metrics::default().model("m"));
        let model = recorder.call_blocking(move |core, writer| {
            let row = writer.model("m")?;
            let no = row.no;
            let closing = Closing {
                maturity: Span::Rows(1_000),
                horizon: Span::Rows(10_000_000),
                absent: None,
                slice: None,
                dropped: Vec::new(),
                hashed: None,
                payees: Vec::new(),
            };
            let mut book = Book::load(writer, row, closing, Attached::to(&served))?;
            let start = Event::Start {
                policy: Policy::default(),
                champion: CHAMPION,
                clock: Clock::default(),
            };
            book.apply(writer, &start, 0)?;
            core.add(book);
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
            began_ms: dethrone::time::now_ms(),
            next: 0,
        }
    }

    /// Offers rows as fast as the recorder takes them, and waits until they are recorded.
    fn record(&mut self, rows: i64, own_ids: bool) {
        for _ in 0..rows {
            self.next += 1;
            let next = self.next;
            // Spread like the hashes that callers use.
            let own = || format!("{:016x}", next.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let seen = Observation {
                model: self.model,
                first_id: next,
                time_ms: self.began_ms + next / 100,
                epoch: 1,
                version: CHAMPION,
                batch: Arc::clone(&self.batch),
                rows: vec![Observed {
                    outcome: Outcome::Scored(Score::Binary(0.5)),
                    fallback: None,
                }],
                ids: own_ids.then(|| Arc::new(vec![own()])),
                entities: None,
                context: None,
                left_out: None,
            };
            while self.recorder.backlog() > 16_000 {
                std::thread::sleep(Duration::from_micros(200));
            }
            assert_eq!(self.recorder.mirror().offer(seen), Offered::Taken);
        }
        while self.recorded() < self.next.cast_unsigned() {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn recorded(&self) -> u64 {
        let model = self.model;
        let look = self
            .recorder
            .call_blocking(move |core, _| Ok(core.books.get(&model).map_or(0, |book| book.clock().row)));
        look.unwrap()
    }

    fn label(&self, id: i64) -> LabelItem {
        LabelItem {
            model: self.model,
            key: LabelKey::Ours {
                id,
                time_ms: self.began_ms + id / 100,
            },
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

/// CPU time that the thread of this name has used: what it costs whoever else computes, also where the disk is slow.
fn cpu_of(thread: &str) -> Duration {
    let read = |task: &std::path::Path| -> Option<Duration> {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = (name.trim() == thread).then(|| std::fs::read_to_string(task.join("schedstat")))?;
        Some(Duration::from_nanos(stat.ok()?.split(' ').next()?.parse().ok()?))
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| read(&task.path())).sum()
}

fn rows() {
    for (name, own_ids, target) in [("generated", false, "100,000"), ("the caller's", true, "25,000")] {
        let mut rig = Rig::new(&RetentionConfig::default());
        rig.record(20_000, own_ids);
        const ROWS: i64 = 300_000;
        let (start, before) = (Instant::now(), cpu_of("recorder"));
        rig.record(ROWS, own_ids);
        println!(
            "rows with {name} ids: {:.0} a second ({target}), {:.1} µs of the recorder's CPU time for each",
            ROWS as f64 / start.elapsed().as_secs_f64(),
            (cpu_of("recorder") - before).as_secs_f64() * 1e6 / ROWS as f64
        );
        rig.recorder.stop();
    }
}

fn labels() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    for (clients, size, requests) in [
        (4_i64, 1_i64, 200_i64),
        (64, 1, 200),
        (512, 1, 40),
        (16, 100, 40),
        (4, 1_000, 20),
    ] {
        let mut rig = Rig::new(&RetentionConfig::default());
        let count = clients * size * requests;
        rig.record(count, false);
        let items = |client: i64, request: i64| -> Vec<LabelItem> {
            let first = 1 + (client * requests + request) * size;
            (first..first + size).map(|id| rig.label(id)).collect()
        };
        let work: Vec<Vec<Vec<LabelItem>>> = (0..clients)
            .map(|client| (0..requests).map(|request| items(client, request)).collect())
            .collect();
        let start = Instant::now();
        let mut acks: Vec<Duration> = runtime.block_on(async {
            let mut set = tokio::task::JoinSet::new();
            for requests in work {
                let recorder = rig.recorder.clone();
                set.spawn(async move {
                    let mut acks = Vec::with_capacity(requests.len());
                    for items in requests {
                        let sent = Instant::now();
                        recorder.labels(items, 0).await.unwrap();
                        acks.push(sent.elapsed());
                    }
                    acks
                });
            }
            set.join_all().await.into_iter().flatten().collect()
        });
        let took = start.elapsed();
        acks.sort();
        println!(
            "labels, {clients} clients, {size} a request: {:.0} a second (20,000), acknowledged p50 {:.1} ms, p99 {:.1} ms (25)",
            count as f64 / took.as_secs_f64(),
            at(&acks, 0.5).as_secs_f64() * 1e3,
            at(&acks, 0.99).as_secs_f64() * 1e3
        );
        rig.recorder.stop();
    }
}

/// Rows beyond the bytes go while others come.
fn prune() {
    let limits = RetentionConfig {
        inputs_bytes: 8 << 20,
        ..RetentionConfig::default()
    };
    let mut rig = Rig::new(&limits);
    const ROWS: i64 = 200_000;
    let start = Instant::now();
    rig.record(ROWS, false);
    let recorded = start.elapsed();
    let inputs = || rig.recorder.keeping().show()["bytes"]["inputs"].as_u64().unwrap();
    while inputs() > limits.inputs_bytes {
        std::thread::sleep(Duration::from_millis(5));
    }
    let shown = rig.recorder.keeping().show();
    println!(
        "pruning beside it: {:.0} rows a second recorded, {} pruned within {:.1} s, longest step {:.1} ms of {}",
        ROWS as f64 / recorded.as_secs_f64(),
        shown["models"][0]["inputs"]["pruned"],
        start.elapsed().as_secs_f64(),
        shown["longest_step_ms"].as_f64().unwrap(),
        shown["steps"]
    );
    rig.recorder.stop();
}
