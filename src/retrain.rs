//! Retraining: when the champion decays, the world drifts, enough labels have come, it is time, or somebody wants it, the
//! labelled rows leave as Parquet, and whoever trains on them is called.
//!
//! ```text
//!  monitor (alarms, forecast) ─┐
//!  ledger (closed labels) ─────┤ cause ─► ledger: a retraining ─► work: export ─► command
//!  schedule, orders ───────────┘ (cool-down per model)     └─► webhook reads it there
//! ```
//!
//! Always holds: a retraining is in the ledger, with its causes and their numbers, before anything of it happens; one is
//! worked on at a time over all models, and one waits per model at most; whatever does not lead to one, because one runs or
//! the last was a short while ago, is counted with that reason. What counts (cool-down, labels, which alarms were acted on)
//! is read from the ledger at a start. Nothing here runs on a request's path, and what comes of it is a file in the models
//! directory like any other: it has to win.
//!
//! | part | does |
//! |---|---|
//! | `cause` | what makes it time, with its numbers |
//! | `schedule` | cron syntax |
//! | `work` | export, command, deletion of old exports |
//! | `child` | the command's process |

mod cause;
mod child;
pub mod schedule;
mod work;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) use cause::CAUSES;

use crate::config::{RetrainConfig, ServerConfig, When};
use crate::control::Models;
use crate::error::{Error, Kind};
use crate::ledger::{Ledger, LedgerError, Position, RetrainState, RetrainingRow};
use crate::monitor::follow::Board;
use crate::recorder::Recorder;
use crate::score::ModelNo;
use crate::served::Served;
use crate::span::Clock;
use crate::time::{now_ms, rfc3339};
use cause::{Acted, Cause, Counted};
use schedule::Schedule;
use work::{Job, Worker};

/// By whom a retraining is that nobody ordered.
const AUTHOR: &str = "retrain";
/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Rows whose labels are counted at once, and how often in one look.
const COUNTED: u64 = 20_000;
const COUNTS: usize = 10;
/// Retrainings that are read at a start, for what was acted on.
const READ: u32 = 500;
/// Why nothing came of a cause, for counters that exist from the start.
pub(crate) const HELD: [&str; 3] = ["cooldown", "running", "ledger"];

/// What is shown of a model, beside what is in the ledger.
pub type Shown = Arc<ArcSwap<BTreeMap<ModelNo, Arc<Value>>>>;

/// Somebody's order, with the way back.
#[derive(Debug)]
pub struct Request {
    /// The model.
    pub model: String,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// What came of it.
    pub reply: oneshot::Sender<Result<Value, Error>>,
}

/// What the threads work with.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub config: Arc<ServerConfig>,
    /// The models.
    pub models: Models,
    /// Writes.
    pub recorder: Recorder,
    /// What the monitor sees.
    pub board: Board,
    /// Where it is shown.
    pub shown: Shown,
}

/// The way for orders, and its other end.
#[must_use]
pub fn orders() -> (Sender<Request>, Receiver<Request>) {
    bounded(16)
}

/// The running threads; they end when this is dropped, and a command that runs with them.
#[derive(Debug)]
pub struct Retrain {
    alive: Option<Sender<()>>,
    joins: Vec<JoinHandle<()>>,
}

impl Retrain {
    /// Starts the threads.
    ///
    /// # Errors
    /// There are none to be had.
    pub fn start(parts: Parts, orders: Receiver<Request>) -> std::io::Result<Self> {
        let (alive, stop) = bounded(0);
        let (jobs, queue) = bounded::<Job>(1);
        let (done, over) = bounded(1);
        let worker = Worker {
            config: Arc::clone(&parts.config),
            recorder: parts.recorder.clone(),
            stop: stop.clone(),
        };
        let work = move || {
            crate::priority::give_way_to_all();
            for job in queue {
                if done.send(worker.work(job)).is_err() {
                    return;
                }
            }
        };
        let look = move || {
            crate::priority::give_way_to_all();
            let mut thread = Thread {
                parts,
                ledger: None,
                known: HashMap::new(),
                waiting: VecDeque::new(),
                working: None,
                jobs,
                said: None,
            };
            thread.run(&orders, &over, &stop);
        };
        let spawn =
            |name: &str, work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(work);
        let joins = vec![
            spawn("retrain-work", Box::new(work))?,
            spawn("retrain", Box::new(look))?,
        ];
        Ok(Self {
            alive: Some(alive),
            joins,
        })
    }

    /// Ends a command that runs, and the threads.
    pub fn stop(&mut self) {
        self.alive = None;
        for join in self.joins.drain(..) {
            if join.join().is_err() {
                tracing::error!("a thread of retraining ended by a panic");
            }
        }
    }
}

impl Drop for Retrain {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is known of a model.
#[derive(Debug)]
struct Known {
    /// The last retraining.
    last: Option<Clock>,
    acted: Acted,
    counted: Counted,
    /// The next time by the schedule.
    next: Option<(Schedule, i64)>,
    /// Causes that are held, by why: each is counted once.
    held: BTreeSet<(&'static str, &'static str)>,
    /// The one that waits or is worked on.
    open: Option<i64>,
    /// The last one, as it was last seen.
    latest: Option<RetrainingRow>,
    /// Under these settings nothing can come by itself, and that is shown.
    resting: Option<RetrainConfig>,
}

#[derive(Debug)]
struct Thread {
    parts: Parts,
    /// Read beside its writer.
    ledger: Option<Ledger>,
    known: HashMap<ModelNo, Known>,
    waiting: VecDeque<RetrainingRow>,
    working: Option<i64>,
    jobs: Sender<Job>,
    /// A fault that was said already.
    said: Option<String>,
}

/// What a look at a model found.
struct Look<'a> {
    served: &'a Served,
    settings: &'a RetrainConfig,
    now: Clock,
}

impl Thread {
    fn run(&mut self, orders: &Receiver<Request>, over: &Receiver<RetrainingRow>, stop: &Receiver<()>) {
        while !self.resume() {
            if !matches!(
                stop.recv_timeout(PERIOD),
                Err(crossbeam_channel::RecvTimeoutError::Timeout)
            ) {
                return;
            }
        }
        let mut has_more = false;
        loop {
            let timeout = after(if has_more { Duration::ZERO } else { PERIOD });
            let (orders, over) = (orders.clone(), over.clone());
            select! {
                recv(stop) -> _ => return,
                recv(orders) -> order => match order {
                    Ok(order) => self.order(order),
                    Err(_) => Self::rest(stop),
                },
                recv(over) -> row => match row {
                    Ok(row) => self.over(row),
                    Err(_) => Self::rest(stop),
                },
                recv(timeout) -> _ => {}
            }
            let begun = Instant::now();
            has_more = self.step().unwrap_or_else(|error| {
                self.ledger = None;
                let text = error.to_string();
                if self.said.as_ref() != Some(&text) {
                    tracing::warn!("retraining cannot read the ledger and goes on trying: {text}");
                    self.said = Some(text);
                }
                false
            }) && begun.elapsed() < PERIOD;
            self.hand_over();
        }
    }

    /// Whoever it hears from is gone: nothing is left to do but to wait for the end.
    fn rest(stop: &Receiver<()>) {
        let _ = stop.recv();
    }

    /// At the start: what was under way was interrupted, what waited goes on. False: try again.
    fn resume(&mut self) -> bool {
        let read =
            Ledger::open_to_follow(&self.parts.config.state).and_then(|ledger| ledger.reader().open_retrainings());
        let open = match read {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "what was retrained cannot be read yet");
                return false;
            }
        };
        for mut row in open {
            if row.state == RetrainState::Waiting {
                self.waiting.push_back(row);
                continue;
            }
            child::end_marked(&row.uid);
            let what = match row.state {
                RetrainState::Exporting => {
                    // Half an export is of no use.
                    let path = row.path.as_deref().map(std::path::Path::new);
                    let is_ours = path.is_some_and(|path| path.file_name() == Some(std::ffi::OsStr::new(&row.uid)));
                    if is_ours && path.is_some_and(|path| work::remove(path).is_ok()) {
                        row.removed_ms = Some(now_ms());
                    }
                    "the gateway ended while the rows were exported"
                }
                _ => "the gateway ended while the command ran: it was ended too",
            };
            row.state = RetrainState::Interrupted;
            row.outcome = Some(what.into());
            row.ended_ms = Some(now_ms());
            tracing::warn!(n = row.n, "a retraining was interrupted: {what}");
            if self
                .parts
                .recorder
                .call_blocking(move |_, writer| writer.update_retraining(&row))
                .is_err()
            {
                self.waiting.clear();
                return false;
            }
        }
        true
    }

    /// A look at every model; true when more is to be counted.
    fn step(&mut self) -> Result<bool, LedgerError> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open_to_follow(&self.parts.config.state)?,
        };
        let models = self.parts.models.load_full();
        let mut has_more = false;
        for served in models.values() {
            has_more |= self.model(&ledger, served)?;
        }
        self.ledger = Some(ledger);
        self.said = None;
        Ok(has_more)
    }

    fn model(&mut self, ledger: &Ledger, served: &Served) -> Result<bool, LedgerError> {
        let Some(view) = served.view.load_full() else {
            return Ok(false);
        };
        let settings = &view.config.retrain;
        let is_resting = |known: &Known| known.resting.as_ref() == Some(settings);
        if self.known.get(&served.no).is_some_and(is_resting) {
            return Ok(false);
        }
        let now = Clock {
            row: ledger.reader().last_row(served.no)?,
            time_ms: now_ms(),
        };
        let known = match self.known.entry(served.no) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(wake(ledger, served.no, now)?),
        };
        let has_more = settings.when.labels.is_some() && known.count(ledger, served.no, settings)?;
        let schedule_at = known.look_at_clock(settings, now.time_ms);
        let board = self.parts.board.load();
        let signs = board.get(&served.no).map(|published| &published.signs);
        let causes = cause::due(&settings.when, signs, &known.acted, known.counted, schedule_at);
        let is_open = known.open.is_some();
        let held = if causes.is_empty() {
            None
        } else if is_open {
            Some(("running", "one is waiting or running already".to_owned()))
        } else if let Some(why) = cause::too_soon(known.last, settings.cooldown, now) {
            Some(("cooldown", why))
        } else if !self.parts.recorder.is_healthy() {
            Some(("ledger", "the ledger cannot be written".to_owned()))
        } else {
            None
        };
        let look = Look { served, settings, now };
        match &held {
            Some((why, _)) => known.hold(&causes, why, served),
            None if causes.is_empty() => known.held.clear(),
            None => {
                let added = self.add(&look, causes.clone(), None);
                if let Err(error) = added {
                    tracing::warn!(%error, "a retraining waits for the ledger");
                }
            }
        }
        self.show(&look, &causes, held.map(|(_, why)| why));
        if let Some(known) = self.known.get_mut(&served.no) {
            let can_rest = settings.when == When::default()
                && known.open.is_none()
                && known.last.is_none_or(|last| {
                    // Its end is shown, too.
                    settings.cooldown.has_passed(last, now)
                });
            known.resting = can_rest.then(|| settings.clone());
        }
        Ok(has_more)
    }

    /// Records a retraining and has it wait its turn; gives its number.
    fn add(
        &mut self,
        look: &Look<'_>,
        causes: Vec<Cause>,
        author: Option<&str>,
    ) -> Result<i64, crate::recorder::StorageError> {
        let Some(known) = self.known.get_mut(&look.served.no) else {
            return Ok(0);
        };
        let reasons: Vec<String> = causes.iter().map(Cause::text).collect();
        let mut row = RetrainingRow {
            n: 0,
            model: look.served.no,
            uid: uid(look.now.time_ms),
            time_ms: look.now.time_ms,
            row: look.now.row,
            labelled_row: known.counted.to_row,
            kind: causes.first().map_or("order", Cause::name).to_owned(),
            author: author.unwrap_or(AUTHOR).to_owned(),
            reason: reasons.join("; "),
            causes: serde_json::to_string(&causes).unwrap_or_default(),
            state: RetrainState::Waiting,
            path: None,
            export: None,
            rows: None,
            classes: None,
            command: None,
            began_ms: None,
            ended_ms: None,
            exit_code: None,
            outcome: None,
            log: None,
            removed_ms: None,
        };
        let copy = row.clone();
        row.n = self
            .parts
            .recorder
            .call_blocking(move |_, writer| writer.insert_retraining(&copy))?;
        for cause in &causes {
            look.served.metrics.retrain_caused(cause.name());
        }
        tracing::info!(
            model = look.served.name,
            n = row.n,
            reason = row.reason,
            "it is time to retrain"
        );
        known.acted.note(&causes);
        known.last = Some(look.now);
        known.counted.labels = 0;
        known.held.clear();
        known.open = Some(row.n);
        known.resting = None;
        known.latest = Some(row.clone());
        let n = row.n;
        self.waiting.push_back(row);
        Ok(n)
    }

    fn order(&mut self, order: Request) {
        let answer = self.ordered(&order.model, &order.author, &order.reason);
        // Who asked may have left.
        let _ = order.reply.send(answer);
    }

    fn ordered(&mut self, model: &str, author: &str, reason: &str) -> Result<Value, Error> {
        let models = self.parts.models.load_full();
        let served = models
            .get(model)
            .ok_or_else(|| Error::new(Kind::UnknownModel, format!("no model '{model}'")))?;
        let view = served.view.load_full();
        let view = view.ok_or_else(|| Error::new(Kind::NotReady, format!("model '{model}' has no champion yet")))?;
        let now = |ledger: &Ledger| -> Result<(Clock, Known), LedgerError> {
            let now = Clock {
                row: ledger.reader().last_row(served.no)?,
                time_ms: now_ms(),
            };
            Ok((now, wake(ledger, served.no, now)?))
        };
        let read = Ledger::open_to_follow(&self.parts.config.state).and_then(|ledger| now(&ledger));
        let (now, woken) = read.map_err(|error| Error::new(Kind::Storage, error.to_string()))?;
        let recorded = woken.open;
        let known = self.known.entry(served.no).or_insert(woken);
        // Its end may be recorded before it is heard of here.
        known.open = known.open.and(recorded);
        if let Some(n) = known.open {
            served.metrics.retrain_held("running");
            let text = format!("retraining {n} of '{model}' is waiting or running: wait for its end");
            return Err(Error::new(Kind::WrongRole, text));
        }
        let look = Look {
            served,
            settings: &view.config.retrain,
            now,
        };
        let cause = Cause::Order {
            reason: reason.to_owned(),
        };
        let n = self.add(&look, vec![cause], Some(author)).map_err(Error::from)?;
        Ok(json!({"model": model, "retraining": n, "state": RetrainState::Waiting.name()}))
    }

    /// Gives the next one to whoever works.
    fn hand_over(&mut self) {
        if self.working.is_some() {
            return;
        }
        let models = self.parts.models.load_full();
        let ready = |row: &RetrainingRow| {
            let served = models.values().find(|served| served.no == row.model)?;
            Some((Arc::clone(served), served.view.load_full()?))
        };
        // In the order of their numbers, which the webhook counts on: models come back soon after a start.
        let Some((served, view)) = self.waiting.front().and_then(ready) else {
            return;
        };
        let Some(row) = self.waiting.pop_front() else { return };
        let champion = served.slot.load().map(|champion| champion.version.info.name.clone());
        self.working = Some(row.n);
        let job = Job {
            model: served.name.clone(),
            champion: champion.unwrap_or_default(),
            settings: view.config.retrain.clone(),
            metrics: served.metrics.clone(),
            row,
        };
        if self.jobs.try_send(job).is_err() {
            tracing::error!("the thread that retrains is gone: restart");
        }
    }

    fn over(&mut self, row: RetrainingRow) {
        self.working = None;
        if let Some(known) = self.known.get_mut(&row.model) {
            known.open = known.open.filter(|n| *n != row.n);
            known.latest = Some(row);
            known.resting = None;
        }
    }

    fn show(&self, look: &Look<'_>, causes: &[Cause], held: Option<String>) {
        let Some(known) = self.known.get(&look.served.no) else {
            return;
        };
        let settings = look.settings;
        let too_soon = cause::too_soon(known.last, settings.cooldown, look.now);
        let shown = json!({
            "settings": settings,
            "commands_allowed": self.parts.config.retrain_commands,
            "open": known.open,
            "working": known.open.filter(|n| self.working == Some(*n)),
            "cooldown": too_soon,
            "next_time": known.next.as_ref().map(|(_, ms)| rfc3339(*ms)),
            "labels": settings.when.labels.map(|every| json!({
                "counted": known.counted.labels, "every": every, "to_row": known.counted.to_row,
            })),
            "due": causes.iter().map(Cause::text).collect::<Vec<_>>(),
            "waits_because": held,
            "latest": known.latest.as_ref().map(brief),
        });
        let no = look.served.no;
        let is_known = self.parts.shown.load().get(&no).is_some_and(|known| **known == shown);
        if !is_known {
            let shown = Arc::new(shown);
            self.parts.shown.rcu(|all| {
                let mut all = BTreeMap::clone(all);
                all.insert(no, Arc::clone(&shown));
                all
            });
        }
    }
}

/// What the ledger knows of a model's retrainings.
fn wake(ledger: &Ledger, no: ModelNo, now: Clock) -> Result<Known, LedgerError> {
    let rows = ledger.reader().retrainings(no, READ)?;
    let mut acted = Acted::default();
    for row in &rows {
        let causes: Vec<Cause> = serde_json::from_str(&row.causes).unwrap_or_default();
        acted.note(&causes);
    }
    let latest = rows.into_iter().next();
    let last = latest.as_ref().map(|row| {
        let last = Clock {
            row: row.row,
            time_ms: row.time_ms,
        };
        cause::not_later(last, now)
    });
    Ok(Known {
        last,
        acted,
        counted: Counted {
            labels: 0,
            to_row: latest.as_ref().map_or(0, |row| row.labelled_row),
        },
        next: None,
        held: BTreeSet::new(),
        open: latest.as_ref().filter(|row| !row.state.is_over()).map(|row| row.n),
        latest,
        resting: None,
    })
}

impl Known {
    /// Counts labels of rows that have closed since; true when more are to be counted.
    fn count(&mut self, ledger: &Ledger, no: ModelNo, settings: &RetrainConfig) -> Result<bool, LedgerError> {
        let reader = ledger.reader();
        let closed = reader.closed_row(no)?;
        if closed < self.counted.to_row && reader.last_row(no)? < self.counted.to_row {
            // A ledger that was put back.
            self.counted = Counted {
                labels: 0,
                to_row: closed,
            };
        }
        for _ in 0..COUNTS {
            let enough = settings.when.labels.is_some_and(|every| self.counted.labels >= every);
            // What is enough is not counted further, unless it has to wait.
            if self.counted.to_row >= closed || (enough && self.open.is_none() && self.held.is_empty()) {
                return Ok(false);
            }
            let to = closed.min(self.counted.to_row.saturating_add(COUNTED));
            let from = Position {
                model: no,
                row: self.counted.to_row + 1,
            };
            self.counted.labels += reader.count_labelled(from, to)?;
            self.counted.to_row = to;
        }
        Ok(self.counted.to_row < closed)
    }

    /// A time of the schedule that has come. Times that pass while the gateway is down are passed over.
    fn look_at_clock(&mut self, settings: &RetrainConfig, now: i64) -> Option<i64> {
        let Some(schedule) = &settings.when.schedule else {
            self.next = None;
            return None;
        };
        let came = match &self.next {
            Some((known, at)) if known == schedule => Some(*at).filter(|at| now >= *at),
            _ => None,
        };
        let is_known = self.next.as_ref().is_some_and(|(known, _)| known == schedule);
        if came.is_some() || !is_known {
            // However far the clock has leapt, it is one time.
            self.next = schedule.after(now).map(|at| (schedule.clone(), at));
        }
        came
    }

    /// Counts causes that have to wait, or pass: each once for each reason, times of a schedule each time.
    fn hold(&mut self, causes: &[Cause], why: &'static str, served: &Served) {
        for cause in causes {
            let is_new = self.held.insert((cause.name(), why));
            if is_new || matches!(cause, Cause::Schedule { .. }) {
                served.metrics.retrain_held(why);
            }
        }
    }
}

/// A retraining for people and programs.
#[must_use]
pub fn brief(row: &RetrainingRow) -> Value {
    let parsed = |text: &Option<String>| {
        text.as_deref()
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
    };
    json!({
        "n": row.n,
        "time": rfc3339(row.time_ms),
        "row": row.row,
        "cause": row.kind,
        "author": row.author,
        "reason": row.reason,
        "causes": serde_json::from_str::<Value>(&row.causes).unwrap_or_default(),
        "state": row.state.name(),
        "path": row.path,
        "export": row.export,
        "rows": row.rows,
        "classes": parsed(&row.classes),
        "command": parsed(&row.command),
        "began": row.began_ms.map(rfc3339),
        "ended": row.ended_ms.map(rfc3339),
        "exit_code": row.exit_code,
        "outcome": row.outcome,
        "log": row.log,
        "deleted": row.removed_ms.map(rfc3339),
    })
}

/// Names a retraining: in the order of time, and told apart from one of the same second.
fn uid(ms: i64) -> String {
    let mut random = [0; 6];
    // Without chance the time must do: the number in the ledger tells them apart.
    let _ = getrandom::fill(&mut random);
    let time: String = rfc3339(ms)
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(15)
        .collect();
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{time}-{random}")
}
