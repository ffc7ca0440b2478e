//! Control: the one thread that owns the roles of versions and the champion's slot.
//!
//! Always holds: roles change on this thread only, in the ledger first and in memory after; whatever may fail (loading,
//! warming, recording) is done before the slot is stored, and storing cannot fail; a fault of one version or one
//! directory is named and the loop goes on. Leaves to others: finding and copying files (`intake`, `admission`),
//! deciding (`judge`), and everything on a request's path.

mod act;
mod approval;
mod basis;
mod budget;
mod bytes;
mod candidates;
mod keeper;
mod marks;
pub(crate) mod policy;
mod promote;
mod pulse;
mod reconcile;
mod rename;
mod repository;
mod reread;
mod restore;
mod roles;
mod slow;
mod trip;
mod upkeep;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use tokio::sync::oneshot;

pub use act::Act;
pub use pulse::Pulse;
pub(crate) use roles::file_of;

use crate::admission::probe::ProbeSettings;
use crate::admission::{Admission, Examiner, Finding};
use crate::arena::{RunnerEvent, Spawner};
use crate::champion::{Released, Trip};
use crate::config::ServerConfig;
use crate::container::{Limits, Pressure};
use crate::error::Error;
use crate::id::IdKey;
use crate::intake::settle::Settler;
use crate::intake::store::{IntakeError, Store};
use crate::intake::watch::Watch;
use crate::interference::Gate;
use crate::ledger::LedgerError;
use crate::metrics::Metrics;
use crate::recorder::{Recorder, StorageError, Verdicted};
use crate::score::ModelNo;
use crate::served::Served;
use budget::Budget;
use keeper::Keeper;
use pulse::Beat;

/// While files settle, they are looked at again this often.
const SETTLING: Duration = Duration::from_millis(100);
/// Looks are no closer than this, however many events a busy directory sends.
const BREATH: Duration = Duration::from_millis(25);

/// All served models by name, replaced as a whole when one joins.
pub type Models = Arc<ArcSwap<BTreeMap<String, Arc<Served>>>>;

/// A person's word, with the way back.
#[derive(Debug)]
pub struct Request {
    /// The word.
    pub act: Act,
    /// What came of it.
    pub reply: oneshot::Sender<Result<serde_json::Value, Error>>,
}

/// A client's word about a model as a whole.
#[derive(Debug)]
pub struct Repository {
    /// The model.
    pub model: String,
    /// Load it, or let it go.
    pub load: bool,
    /// What came of it.
    pub reply: oneshot::Sender<Result<(), Error>>,
}

/// The way to the control thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    requests: Sender<Request>,
    repository: Sender<Repository>,
    trips: Sender<(ModelNo, Trip)>,
    alive: Option<Sender<()>>,
    pulse: Pulse,
    join: Option<JoinHandle<()>>,
}

/// What the control thread works with.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub config: Arc<ServerConfig>,
    /// Where models appear for the requests.
    pub models: Models,
    /// The recorder.
    pub recorder: Recorder,
    /// Decisions of the judges.
    pub decisions: Receiver<Verdicted>,
    /// Starts runners.
    pub spawner: Spawner,
    /// What the container lets all of this have.
    pub limits: Limits,
    /// Whether shadows should rest.
    pub pressure: Arc<Pressure>,
    /// When shadow work may begin.
    pub gate: Arc<Gate>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The key of the ids, which draws the exploration slice.
    pub ids: IdKey,
    /// Set when all recorded models are known.
    pub restored: Arc<AtomicBool>,
    /// Where another process still has the state directory: brings a word when it has not. Until then the recorded
    /// champions answer, and nothing else is done.
    pub waits: Option<Receiver<()>>,
}

impl Control {
    /// Starts the thread. It first brings back the recorded champions, then looks at the directory.
    ///
    /// # Errors
    /// When no thread can be had, or the content store cannot be opened.
    pub fn start(mut parts: Parts) -> Result<Self, StartError> {
        let (requests, queue) = bounded(64);
        let (repository, repository_queue) = bounded(64);
        let (trips, tripped) = bounded(16);
        let (alive, stop) = bounded(0);
        let (restored, waits) = (Arc::clone(&parts.restored), parts.waits.take());
        let store = match waits {
            Some(_) => Store::beside(&parts.config.state, parts.config.max_model_bytes)?,
            None => Store::open(&parts.config.state, parts.config.max_model_bytes)?,
        };
        let store = Arc::new(store);
        let recorder = parts.recorder.clone();
        let mut thread = Thread::new(parts, Arc::clone(&store), (queue, repository_queue, tripped), stop)?;
        let pulse = thread.pulse.clone();
        let beat = Beat(pulse.clone());
        let join = std::thread::Builder::new().name("control".into()).spawn(move || {
            let _beat = beat;
            crate::priority::take_short_turns();
            if let Some(waits) = waits {
                thread.seat_beforehand();
                restored.store(true, Ordering::Release);
                if !thread.wait(&waits) {
                    return thread.end();
                }
                if let Err(error) = store.clear() {
                    tracing::warn!(%error, "what another process has left half copied stays");
                }
            }
            thread.restore();
            restored.store(true, Ordering::Release);
            recorder.go_on();
            drop(recorder);
            thread.run();
        })?;
        Ok(Self {
            requests,
            repository,
            trips,
            alive: Some(alive),
            pulse,
            join: Some(join),
        })
    }

    /// The way for a person's word.
    #[must_use]
    pub fn requests(&self) -> Sender<Request> {
        self.requests.clone()
    }

    /// The way for a client's word about a model as a whole.
    #[must_use]
    pub fn repository(&self) -> Sender<Repository> {
        self.repository.clone()
    }

    /// The way for the word that a champion fails too often.
    #[must_use]
    pub fn trips(&self) -> Sender<(ModelNo, Trip)> {
        self.trips.clone()
    }

    /// Whether control and everybody it hears from runs, for readiness.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// True while control and everybody it hears from runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.pulse.is_alive()
    }

    /// Ends the thread and waits for it; runners end with it.
    pub fn stop(&mut self) {
        self.alive = None;
        if let Some(join) = self.join.take()
            && join.join().is_err()
        {
            tracing::error!("the control thread ended by a panic");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Thread {
    config: Arc<ServerConfig>,
    models: Models,
    recorder: Recorder,
    decisions: Receiver<Verdicted>,
    requests: Receiver<Request>,
    repository: Receiver<Repository>,
    tripped: Receiver<(ModelNo, Trip)>,
    stop: Receiver<()>,
    pulse: Pulse,
    ids: IdKey,
    spawner: Spawner,
    budget: Budget,
    /// Whether shadows should rest.
    pressure: Arc<Pressure>,
    /// When shadow work may begin.
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    runner_events: Receiver<RunnerEvent>,
    runner_events_in: Sender<RunnerEvent>,
    admission: Admission,
    findings: Receiver<Finding>,
    watch: Watch,
    settler: Settler,
    keepers: BTreeMap<String, Keeper>,
    /// Sessions that nobody may need any more; dropped here, away from the requests, once they are alone.
    released: Released,
    /// What was said of a place in the directory, so that it is said once.
    said: BTreeMap<String, String>,
    /// Models of which stored bytes are missed: their files are copied again.
    missed: RefCell<BTreeSet<String>>,
    /// Models whose book could not be opened at the start.
    unbooked: BTreeSet<String>,
    /// When to look at the directory again.
    look_at: Instant,
    /// When it was last looked at.
    looked: Instant,
    upkeep: upkeep::Upkeep,
}

/// Why a step of the control thread failed; the loop says so and goes on.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why the control thread could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The content store.
    #[error(transparent)]
    Store(#[from] IntakeError),
    /// A thread.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Thread {
    fn new(
        parts: Parts,
        store: Arc<Store>,
        (requests, repository, tripped): (Receiver<Request>, Receiver<Repository>, Receiver<(ModelNo, Trip)>),
        stop: Receiver<()>,
    ) -> Result<Self, StartError> {
        let Parts {
            config,
            models,
            recorder,
            decisions,
            spawner,
            limits,
            pressure,
            gate,
            metrics,
            ids,
            restored: _,
            waits: _,
        } = parts;
        let (runner_events_in, runner_events) = bounded(1_024);
        let (found, findings) = bounded(1_024);
        let budget = Budget::of(&config.runner, limits);
        let mut settings = ProbeSettings::default();
        // What its runner will have later.
        settings.limits.data_bytes = Some(budget.of_one(&config.runner));
        let examiner = Examiner {
            spawner: spawner.clone(),
            settings,
        };
        Ok(Self {
            admission: Admission::start(store, examiner, found)?,
            watch: Watch::start(config.models.clone(), config.poll)?,
            settler: Settler::new(config.settle_ms),
            config,
            models,
            recorder,
            decisions,
            requests,
            repository,
            tripped,
            stop,
            pulse: Pulse::default(),
            ids,
            spawner,
            budget,
            pressure,
            gate,
            metrics,
            runner_events,
            runner_events_in,
            findings,
            keepers: BTreeMap::new(),
            released: Released::default(),
            said: BTreeMap::new(),
            missed: RefCell::default(),
            unbooked: BTreeSet::new(),
            look_at: Instant::now(),
            looked: Instant::now(),
            upkeep: upkeep::Upkeep::default(),
        })
    }

    fn run(&mut self) {
        loop {
            self.copy_missed();
            self.book_again();
            if Instant::now() >= self.look_at {
                self.look();
            }
            self.keep_closed();
            self.vet_refused();
            self.released.sweep();
            self.upkeep();
            let wake = crossbeam_channel::at(self.wake_at());
            select! {
                recv(self.stop) -> _ => break,
                recv(self.requests) -> request => match request {
                    Ok(Request { act, reply }) => drop(reply.send(self.act(act))),
                    // Nobody is left to give an order.
                    Err(_) => self.requests = never(),
                },
                recv(self.repository) -> word => match word {
                    Ok(Repository { model, load, reply }) => drop(reply.send(self.repository(&model, load))),
                    Err(_) => self.repository = never(),
                },
                recv(self.tripped) -> word => match word {
                    Ok((model, trip)) => self.trip(model, &trip),
                    Err(_) => self.tripped = never(),
                },
                recv(self.decisions) -> got => {
                    if let Some(decided) = self.pulse.heard(&mut self.decisions, got, "recorder") {
                        self.carry_out(decided);
                    }
                }
                recv(self.findings) -> got => {
                    if let Some(finding) = self.pulse.heard(&mut self.findings, got, "admission") {
                        self.found(finding);
                    }
                }
                recv(self.runner_events) -> event => if let Ok(event) = event { self.runner_event(event) },
                recv(self.watch.woken()) -> _ => {
                    for path in self.watch.take().renamed {
                        self.settler.renamed(&path);
                    }
                    self.look_at = self.look_at.min(self.looked + BREATH);
                },
                recv(wake) -> _ => {}
            }
        }
        self.end();
    }

    /// True when the word has come, false when it is time to end.
    fn wait(&self, word: &Receiver<()>) -> bool {
        select! {
            recv(self.stop) -> _ => false,
            recv(word) -> word => word.is_ok(),
        }
    }

    fn end(&mut self) {
        for keeper in self.keepers.values_mut() {
            keeper.stop_runners();
            // Nobody asks any more: processes that answered end with the slot.
            self.released.take(keeper.served.slot.close());
        }
        self.released.sweep();
    }

    fn wake_at(&self) -> Instant {
        let soon = Instant::now() + Duration::from_millis(200);
        if self.released.is_empty() && self.unbooked.is_empty() {
            self.look_at
        } else {
            self.look_at.min(soon)
        }
    }

    fn runner_event(&mut self, event: RunnerEvent) {
        let (no, quarantined) = match &event {
            RunnerEvent::Ready { version } => (*version, None),
            RunnerEvent::Restarted { version, .. } => (*version, None),
            RunnerEvent::NoBytes { version, .. } => return self.runner_misses_bytes(*version),
            RunnerEvent::Quarantine { version, reason } => (*version, Some(reason.clone())),
        };
        let Some(keeper) = self.keepers.values_mut().find(|keeper| keeper.holds(no)) else {
            return;
        };
        if let RunnerEvent::Restarted { reason, .. } = &event {
            keeper.served.metrics.runner_restarts.increment(1);
            tracing::warn!(
                model = keeper.served.name,
                version = keeper.name_of(no),
                reason,
                "runner restarted"
            );
        }
        let Some(reason) = quarantined else {
            let model = keeper.served.name.clone();
            return self.note_bytes(&model, no, None);
        };
        tracing::warn!(
            model = keeper.served.name,
            version = keeper.name_of(no),
            reason,
            "quarantined"
        );
        keeper.served.metrics.quarantines.increment(1);
        let model = keeper.served.name.clone();
        let done = self.leave(&model, no, ("quarantined", &reason), None);
        self.report(done);
    }

    fn report(&self, done: Result<(), Fault>) {
        if let Err(error) = done {
            tracing::error!(%error, "a change of roles was not recorded and does not hold; it is tried again at the next event");
        }
    }
}
