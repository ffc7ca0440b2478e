//! Books on a real ledger, driven without other threads; and the thread itself where it is the subject.

mod backtest;
mod closing;
mod failure;
mod feeding;
mod labelling;
mod principals;
mod reload;
mod retention;

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, bounded};
use tempfile::TempDir;

use super::core::Shadow;
use super::thread::{Drained, LabelRequest, Queues, Thread};
use super::*;
use crate::arena::{ShadowReport, ShadowWork};
use crate::batch::{Batch, Rows, Schema};
use crate::judge::pair::Pair;
use crate::judge::policy::{Group, Policy};
use crate::metrics::Metrics;
use crate::mirror::{Observation, Observed};
use crate::score::{Outcome, Score, Shed, Truth, VersionNo};
use crate::served::Served;
use crate::span::{Clock, Span};

const CHAMPION: VersionNo = VersionNo(1);
const FIRST: VersionNo = VersionNo(2);
const SECOND: VersionNo = VersionNo(3);

/// A challenger that only remembers, or refuses.
#[derive(Debug, Default)]
struct Fake {
    taken: Mutex<Vec<i64>>,
    refuses: Mutex<Option<Shed>>,
}

impl Shadow for Fake {
    fn offer(&self, work: ShadowWork) -> Result<(), Shed> {
        if let Some(why) = *self.refuses.lock().unwrap() {
            return Err(why);
        }
        let ids = (0..).take(work.rows.len()).map(|k| work.first_id + k);
        self.taken.lock().unwrap().extend(ids);
        Ok(())
    }
}

impl Fake {
    fn taken(&self) -> Vec<i64> {
        self.taken.lock().unwrap().clone()
    }
}

fn scored(p: f64) -> Outcome {
    Outcome::Scored(Score::Binary(p))
}

/// Quick to decide: any real advantage wins after a few labels.
fn eager() -> Policy {
    Policy {
        alpha: 0.5,
        min_labels: 5,
        min_class_labels: 1,
        dwell: Span::Rows(2),
        cooldown: Span::Rows(0),
        ..Policy::default()
    }
}

/// The same with named groups, by the context that every row here has: its id modulo 4.
fn grouped(exprs: &[&str]) -> Policy {
    let group = |(k, expr): (usize, &&str)| Group {
        name: format!("g{k}"),
        expr: (*expr).to_owned(),
        margin: 0.02,
        strict: k == 0,
    };
    Policy {
        groups: exprs.iter().enumerate().map(group).collect(),
        ..eager()
    }
}

fn closing(maturity: Span) -> Closing {
    Closing {
        maturity,
        horizon: Span::Rows(1_000_000),
        absent: None,
        slice: None,
        dropped: Vec::new(),
        hashed: None,
        payees: Vec::new(),
    }
}

fn queues() -> Queues {
    Queues {
        observations: bounded(1).1,
        labels: bounded(1).1,
        commands: bounded(1).1,
        looks: bounded(1).1,
        reports: bounded(1).1,
        woken: bounded(1).1,
    }
}

/// One model with a champion and challengers, on a ledger of its own.
struct Lab {
    dir: TempDir,
    thread: Thread,
    decisions: Receiver<Verdicted>,
    model: ModelNo,
    closing: Closing,
    challengers: Vec<(VersionNo, Arc<Fake>)>,
    statuses: Vec<Status>,
}

impl Lab {
    fn new(closing: Closing, policy: Policy, challengers: &[VersionNo]) -> Self {
        let dir = TempDir::new().unwrap();
        let challengers: Vec<_> = challengers.iter().map(|no| (*no, Arc::new(Fake::default()))).collect();
        let (thread, decisions, model) = Self::open(&dir, &closing, &challengers);
        let mut lab = Self {
            dir,
            thread,
            decisions,
            model,
            closing,
            challengers,
            statuses: Vec::new(),
        };
        lab.event(Event::Start {
            policy,
            champion: CHAMPION,
            clock: Clock::default(),
        });
        for (version, _) in lab.challengers.clone() {
            lab.event(Event::Enter {
                version,
                clock: Clock::default(),
            });
        }
        lab
    }

    fn open(
        dir: &TempDir,
        closing: &Closing,
        challengers: &[(VersionNo, Arc<Fake>)],
    ) -> (Thread, Receiver<Verdicted>, ModelNo) {
        let ledger = Ledger::open(dir.path()).unwrap();
        let (decide, decisions) = bounded(64);
        let mut thread = Thread::new(
            ledger,
            queues(),
            decide,
            Fault::default(),
            Arc::default(),
            (Arc::default(), 1.0),
        );
        let model = Arc::new(Mutex::new(None));
        let (found, closing, lineup) = (Arc::clone(&model), closing.clone(), challengers.to_vec());
        let open: Command = Box::new(move |core, writer| {
            let row = writer.model("m")?;
            *found.lock().unwrap() = Some(row.no);
            let served = Served::new("m".into(), row.no, Metrics::default().model("m"));
            let no = row.no;
            core.add(Book::load(writer, row, closing, Attached::to(&served))?);
            core.set_challengers(writer, no, lineup)?;
            Ok(Box::new(|| ()))
        });
        thread.commit(&mut commands(open)).unwrap();
        let model = model.lock().unwrap().unwrap();
        (thread, decisions, model)
    }

    /// As after a kill: another process opens the ledger.
    fn reload(&mut self) {
        let (thread, decisions, _) = Self::open(&self.dir, &self.closing, &self.challengers);
        (self.thread, self.decisions) = (thread, decisions);
    }

    fn commit(&mut self, mut drained: Drained) {
        while self.thread.commit(&mut drained).unwrap() {
            drained = Drained::default();
        }
    }

    fn event(&mut self, event: Event) {
        let model = self.model;
        self.commit(commands(Box::new(move |core, writer| {
            core.books.get_mut(&model).unwrap().apply(writer, &event, 0)?;
            Ok(Box::new(|| ()))
        })));
    }

    fn observation(&self, id: i64, rows: &[Outcome]) -> Observation {
        let batch = Batch::Features(Rows::new(Arc::new(Schema::default()), rows.len()));
        let observed = |outcome: &Outcome| Observed {
            outcome: outcome.clone(),
            fallback: None,
        };
        Observation {
            model: self.model,
            first_id: id,
            time_ms: id,
            epoch: self.book().judge.as_ref().unwrap().epoch(),
            version: CHAMPION,
            batch: Arc::new(batch),
            rows: rows.iter().map(observed).collect(),
            ids: None,
            entities: None,
            context: Some(
                (id..)
                    .take(rows.len())
                    .map(|id| format!("{{\"n\":{}}}", id % 4))
                    .collect(),
            ),
            left_out: None,
        }
    }

    fn record(&mut self, seen: Observation) {
        self.commit(Drained {
            observations: vec![seen],
            ..Drained::default()
        });
    }

    /// Records one row and its label together, so that the label is never late.
    fn record_with_label(&mut self, seen: Observation, class: Option<u32>) {
        let key = LabelKey::Ours {
            id: seen.first_id,
            time_ms: seen.time_ms,
        };
        let labels = class.map(|class| LabelRequest {
            items: vec![self.label_item(key, class, 1.0)],
            received_ms: 0,
            reply: oneshot::channel().0,
        });
        self.commit(Drained {
            observations: vec![seen],
            labels: labels.into_iter().collect(),
            ..Drained::default()
        });
    }

    /// Records rows `ids`, answered by the champion with .5.
    fn rows(&mut self, ids: impl IntoIterator<Item = i64>) {
        let observations = ids.into_iter().map(|id| self.observation(id, &[scored(0.5)])).collect();
        self.commit(Drained {
            observations,
            ..Drained::default()
        });
    }

    fn outcome(&mut self, version: VersionNo, id: i64, outcome: Outcome) {
        self.report(version, vec![(id, outcome)]);
    }

    fn report(&mut self, version: VersionNo, outcomes: Vec<(i64, Outcome)>) {
        self.commit(Drained {
            reports: vec![ShadowReport {
                version,
                outcomes,
                compute: std::time::Duration::ZERO,
            }],
            ..Drained::default()
        });
    }

    fn label_item(&self, key: LabelKey, class: u32, weight: f64) -> LabelItem {
        LabelItem {
            model: self.model,
            key,
            label: class.to_string(),
            truth: Ok(Some(Truth::Class(class))),
            weight,
            reward: None,
            extra: None,
            remark: None,
            reporter: None,
        }
    }

    fn label(&mut self, id: i64, class: u32) -> Status {
        self.send(vec![self.label_item(LabelKey::Ours { id, time_ms: id }, class, 1.0)])[0]
    }

    fn send(&mut self, items: Vec<LabelItem>) -> Vec<Status> {
        let (reply, mut answer) = oneshot::channel();
        self.commit(Drained {
            labels: vec![LabelRequest {
                items,
                received_ms: 0,
                reply,
            }],
            ..Drained::default()
        });
        let answer = answer.try_recv().unwrap();
        self.statuses = answer.into_iter().map(|item| item.status).collect();
        self.statuses.clone()
    }

    fn book(&self) -> &Book {
        &self.thread.core.books[&self.model]
    }

    fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let reader = self.thread.ledger.reader();
        reader.pairs(self.model, 0, |pair| pairs.push(pair)).unwrap();
        pairs
    }

    /// Row numbers of the pairs, and who has an entry.
    fn folded(&self) -> Vec<(u64, Vec<u32>)> {
        let entries = |pair: &Pair| pair.entries.iter().map(|e| e.version.0).collect();
        self.pairs()
            .iter()
            .map(|pair| (pair.clock.row, entries(pair)))
            .collect()
    }

    fn count(&self, version: VersionNo, reason: &str) -> u64 {
        self.book().coverage[&version].dropped.get(reason).copied().unwrap_or(0)
    }
}

fn commands(command: Command) -> Drained {
    Drained {
        commands: vec![command],
        ..Drained::default()
    }
}
