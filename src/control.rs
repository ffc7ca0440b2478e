//! Control: the one thread that owns the roles of versions and the champion's slot.
//!
//! Always holds: roles change on this thread only, in the ledger first and in memory after; whatever may fail (loading,
//! warming, recording) is done before the slot is stored, and storing cannot fail; a fault of one version or one
//! directory is named and the loop goes on. Leaves to others: finding and copying files (`intake`, `admission`),
//! deciding (`judge`), and everything on a request's path.

mod act;
mod candidates;
mod keeper;
mod policy;
mod promote;
mod roles;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use tokio::sync::oneshot;

pub use act::{Act, Action};
pub use view::VersionView;

use crate::admission::{Admission, Finding};
use crate::arena::{RunnerEvent, Spawner};
use crate::config::ServerConfig;
use crate::error::Error;
use crate::intake::{Hint, Settler, Watcher};
use crate::ledger::LedgerError;
use crate::metrics::Metrics;
use crate::recorder::{Recorder, StorageError, Verdicted};
use crate::served::Served;
use keeper::Keeper;

/// A file gone for this long, while its directory can be read, retires its version.
const GONE: Duration = Duration::from_secs(60);
/// While files settle, they are looked at again this often.
const SETTLING: Duration = Duration::from_millis(100);

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

/// The way to the control thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    requests: Option<Sender<Request>>,
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
    /// Metrics.
    pub metrics: Metrics,
}

impl Control {
    /// Starts the thread. It first brings back the recorded champions, then looks at the directory.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (requests, queue) = bounded(64);
        let join = std::thread::Builder::new().name("control".into()).spawn(move || {
            let mut thread = Thread::new(parts, queue);
            thread.restore();
            thread.run();
        })?;
        Ok(Self { requests: Some(requests), join: Some(join) })
    }

    /// The way for a person's word.
    #[must_use]
    pub fn requests(&self) -> Option<Sender<Request>> {
        self.requests.clone()
    }

    /// Ends the thread and waits for it; runners end with it.
    pub fn stop(&mut self) {
        self.requests = None;
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

struct Thread {
    config: Arc<ServerConfig>,
    models: Models,
    recorder: Recorder,
    decisions: Receiver<Verdicted>,
    requests: Receiver<Request>,
    spawner: Spawner,
    metrics: Metrics,
    runner_events: Receiver<RunnerEvent>,
    runner_events_in: Sender<RunnerEvent>,
    admission: Admission,
    findings: Receiver<Finding>,
    hints: Receiver<Hint>,
    _watcher: Watcher,
    settler: Settler,
    keepers: BTreeMap<String, Keeper>,
    /// Sessions that nobody may need any more; dropped here, away from the requests, once they are alone.
    released: VecDeque<Arc<crate::champion::Champion>>,
    /// Directories that could not be read at the last look.
    unreadable: Vec<PathBuf>,
    /// When to look at the directory again.
    look_at: Instant,
}

/// Why a step of the control thread failed; the loop says so and goes on.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Thread {
    fn new(parts: Parts, requests: Receiver<Request>) -> Self {
        let Parts { config, models, recorder, decisions, spawner, metrics } = parts;
        let (runner_events_in, runner_events) = bounded(1_024);
        let (found, findings) = bounded(1_024);
        let (hint, hints) = bounded(256);
        let watcher = Watcher::start(config.models.clone(), config.poll, hint);
        Self {
            admission: Admission::start(&config, spawner.clone(), found),
            settler: Settler::new(Duration::from_millis(config.settle_ms)),
            config,
            models,
            recorder,
            decisions,
            requests,
            spawner,
            metrics,
            runner_events,
            runner_events_in,
            findings,
            hints,
            _watcher: watcher,
            keepers: BTreeMap::new(),
            released: VecDeque::new(),
            unreadable: Vec::new(),
            look_at: Instant::now(),
        }
    }

    fn run(&mut self) {
        loop {
            if Instant::now() >= self.look_at {
                self.look();
            }
            self.release();
            let wake = crossbeam_channel::at(self.wake_at());
            select! {
                recv(self.requests) -> request => match request {
                    Ok(Request { act, reply }) => drop(reply.send(self.act(act))),
                    Err(_) => break,
                },
                recv(self.decisions) -> decided => if let Ok(decided) = decided { self.carry_out(decided) },
                recv(self.findings) -> finding => if let Ok(finding) = finding { self.found(finding) },
                recv(self.runner_events) -> event => if let Ok(event) = event { self.runner_event(event) },
                recv(self.hints) -> hint => {
                    if let Ok(hint) = hint {
                        self.settler.hint(&hint);
                    }
                    while let Ok(hint) = self.hints.try_recv() {
                        self.settler.hint(&hint);
                    }
                    self.look_at = Instant::now();
                },
                recv(wake) -> _ => {}
            }
        }
        for keeper in self.keepers.values_mut() {
            keeper.stop_runners();
        }
    }

    fn wake_at(&self) -> Instant {
        let soon = Instant::now() + Duration::from_millis(200);
        if self.released.is_empty() { self.look_at } else { self.look_at.min(soon) }
    }

    /// Drops what no request holds any more.
    fn release(&mut self) {
        self.released.retain(|champion| Arc::strong_count(champion) > 1);
    }

    fn runner_event(&mut self, event: RunnerEvent) {
        let (no, quarantined) = match &event {
            RunnerEvent::Ready { version } => (*version, None),
            RunnerEvent::Restarted { version, .. } => (*version, None),
            RunnerEvent::Quarantine { version, reason } => (*version, Some(reason.clone())),
        };
        let Some(keeper) = self.keepers.values_mut().find(|keeper| keeper.holds(no)) else { return };
        if let RunnerEvent::Restarted { reason, .. } = &event {
            keeper.served.metrics.runner_restarts.increment(1);
            tracing::warn!(model = keeper.served.name, version = keeper.name_of(no), reason, "runner restarted");
        }
        let Some(reason) = quarantined else { return };
        tracing::warn!(model = keeper.served.name, version = keeper.name_of(no), reason, "quarantined");
        let done = keeper.leave(&self.recorder, no, "quarantined", &reason);
        self.report(done);
    }

    fn report(&self, done: Result<(), Fault>) {
        if let Err(error) = done {
            tracing::error!(%error, "a change of roles was not recorded and does not hold; it is tried again at the next event");
        }
    }
}
