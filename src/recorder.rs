//! The recorder: the one thread that writes the ledger, offers rows to the challengers, joins labels and folds pairs.
//!
//! Always holds: what is drained together is committed together; a label is applied after every observation that
//! was offered before it, so that its row is in the ledger or never will be; acknowledgements, and offers to the
//! challengers, leave after the commit. When a commit fails nothing of it is acknowledged; until the ledger can be
//! written again labels and orders are refused, observations are dropped and counted, and no row folds; then the books
//! are read again from the disk. Leaves to others: carrying decisions out (`control`), scoring (`arena`).

mod backlog;
mod book;
pub mod closed;
mod complaints;
mod core;
pub mod groups;
mod held;
mod inputs;
mod journal;
mod labels;
mod pace;
mod retention;
mod thread;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

pub use self::book::{Attached, Book, Closing, Coverage, Hashed, OwnSettings, Slice};
pub use self::core::{Core, Shadow};
pub use self::held::Held;
pub use self::journal::Event;
pub use self::labels::{ItemStatus, LabelItem, LabelKey, Reporter, Status};
pub use self::retention::{Keeping, KeptModel};

use self::thread::{LabelRequest, Queues, Thread};
use crate::arena::ShadowReport;
use crate::config::RetentionConfig;
use crate::judge::fold::Decision;
use crate::ledger::{Damage, Ledger, LedgerError, Writer};
use crate::mirror::{Mirror, Observation};
use crate::score::ModelNo;

/// Observations that may wait. At 100,000 rows/s this is a sixth of a second of a stalled disk.
const OBSERVATIONS: usize = 16_384;
/// Label requests that may wait; each is bounded by the request's size.
const LABEL_REQUESTS: usize = 1_024;
/// Reports of runners that may wait; the shadows block beyond, the request's path never does.
const REPORTS: usize = 4_096;
/// Commands, and looks, that may wait.
const COMMANDS: usize = 256;

/// The storage failed or is gone; nothing was acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ledger cannot be written: {why}")]
pub struct StorageError {
    /// What stands in the way, and what to do.
    pub why: String,
    /// There is no room on the disk.
    pub is_full: bool,
}

impl StorageError {
    fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_full: false,
        }
    }

    fn of(error: &LedgerError) -> Self {
        Self {
            why: error.to_string(),
            is_full: error.is_full(),
        }
    }
}

/// A decision of a model's judge, on its way to whoever carries it out.
#[derive(Debug, Clone)]
pub struct Verdicted {
    /// The model.
    pub model: ModelNo,
    /// What was decided.
    pub decision: Decision,
}

type AfterCommit = Box<dyn FnOnce() + Send>;
type Command = Box<dyn FnOnce(&mut Core, &Writer<'_>) -> Result<AfterCommit, LedgerError> + Send>;
type Look = Box<dyn FnOnce(&Core, &Writer<'_>) + Send>;
/// Why the ledger cannot be written, while it cannot.
type Fault = Arc<ArcSwapOption<StorageError>>;

/// The way to the recorder's thread.
#[derive(Debug, Clone)]
pub struct Recorder {
    mirror: Mirror,
    labels: Sender<LabelRequest>,
    commands: Sender<Command>,
    looks: Sender<Look>,
    reports: Sender<ShadowReport>,
    fault: Fault,
    damage: Damage,
    waiting: Receiver<Observation>,
    stopping: Arc<AtomicBool>,
    wake: Sender<()>,
    keeping: Arc<Keeping>,
    /// Another process still has the ledger.
    held: Arc<AtomicBool>,
}

impl Recorder {
    /// Opens the ledger and starts the thread; it ends after [`Recorder::stop`], or when all handles are gone, with
    /// everything drained written. Recording rows may take `share` of a processor; from 1 on there is no limit. What is
    /// recorded is kept within `limits`.
    ///
    /// # Errors
    /// What the ledger says at opening.
    pub fn start(
        state: &Path,
        decisions: Sender<Verdicted>,
        share: f64,
        limits: &RetentionConfig,
    ) -> Result<(Self, JoinHandle<()>), LedgerError> {
        let ledger = Ledger::open(state)?;
        let (recorder, queues, room) = Self::with_queues(ledger.damage().clone());
        let (fault, stopping) = (Arc::clone(&recorder.fault), Arc::clone(&recorder.stopping));
        let mut thread = Thread::new(ledger, queues, decisions, fault, stopping, (room, share));
        thread.keep(limits.clone(), Arc::clone(&recorder.keeping));
        let (watched, ended) = bounded(0);
        let join = recorder.spawn(state, move || {
            // Its end ends the look at the ledger, too.
            let _watched = watched;
            thread.run();
        })?;
        recorder.look_at_all(state, ended);
        Ok((recorder, join))
    }

    /// A recorder with empty queues, and their other ends.
    fn with_queues(damage: Damage) -> (Self, Queues, Arc<AtomicUsize>) {
        let (observe, observations) = bounded(OBSERVATIONS);
        let (labels, label_requests) = bounded(LABEL_REQUESTS);
        let (commands, command_queue) = bounded(COMMANDS);
        let (looks, look_queue) = bounded(COMMANDS);
        let (reports, report_queue) = bounded(REPORTS);
        let (wake, woken) = bounded(1);
        let room = Arc::new(AtomicUsize::new(OBSERVATIONS));
        let recorder = Self {
            mirror: Mirror::new(observe, Arc::clone(&room)),
            labels,
            commands,
            looks,
            reports,
            fault: Fault::default(),
            damage,
            waiting: observations.clone(),
            stopping: Arc::default(),
            wake,
            keeping: Arc::default(),
            held: Arc::default(),
        };
        let queues = Queues {
            observations,
            labels: label_requests,
            commands: command_queue,
            looks: look_queue,
            reports: report_queue,
            woken,
        };
        (recorder, queues, room)
    }

    fn spawn(&self, state: &Path, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
        let thread = std::thread::Builder::new().name("recorder".into());
        let work = move || {
            crate::priority::take_short_turns();
            work();
        };
        thread.spawn(work).map_err(|source| LedgerError::File {
            path: state.to_path_buf(),
            source,
        })
    }

    /// Looks at every row of the ledger, at leisure; a broken tree is handed to the thread, which mends it.
    fn look_at_all(&self, state: &Path, ended: Receiver<()>) {
        let (commands, damage, state) = (self.commands.clone(), self.damage.clone(), state.to_path_buf());
        let check = move || {
            crate::priority::give_way();
            crate::ledger::check_all(&state, &damage, &ended)
        };
        let look = move || match check() {
            Ok(()) => tracing::debug!("every row of the ledger was looked at"),
            Err(error @ LedgerError::Damaged(_)) => {
                // The reply goes nowhere: that it fails is what counts.
                let _ = commands.send(Box::new(move |_, _| Err(error)));
            }
            Err(error) => tracing::warn!(%error, "the ledger could not be looked through"),
        };
        if let Err(error) = std::thread::Builder::new().name("ledger-check".into()).spawn(look) {
            tracing::warn!(%error, "no thread to look through the ledger");
        }
    }

    /// Where answered requests are offered.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What of the record is kept.
    #[must_use]
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// Where challengers report.
    #[must_use]
    pub fn reports(&self) -> Sender<ShadowReport> {
        self.reports.clone()
    }

    /// Observations that wait to be written.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// False while the ledger cannot be written.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.fault.load().is_none()
    }

    /// Why the ledger cannot be written, while it cannot.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.load_full().map(|fault| fault.why.clone())
    }

    /// What was found damaged in the ledger: how much, and what, the first 20.
    #[must_use]
    pub fn damaged(&self) -> (u64, Vec<String>) {
        self.damage.found()
    }

    /// Nothing came back: whatever the transaction failed for has been told.
    fn failed(&self) -> StorageError {
        let fault = self.fault.load_full();
        fault.map_or_else(|| StorageError::new("the transaction failed"), |fault| (*fault).clone())
    }

    /// Stores labels; the statuses come back, in order, after they are on disk.
    ///
    /// # Errors
    /// When the queue is full or the ledger cannot be written: nothing was acknowledged then, send again.
    pub async fn labels(&self, items: Vec<LabelItem>, received_ms: i64) -> Result<Vec<ItemStatus>, StorageError> {
        if let Some(fault) = self.fault.load_full() {
            return Err((*fault).clone());
        }
        let (reply, answer) = oneshot::channel();
        let request = LabelRequest {
            items,
            received_ms,
            reply,
        };
        if self.labels.try_send(request).is_err() {
            return Err(StorageError::new("too many label requests wait"));
        }
        let answer = async { answer.await.map_err(|_| self.failed()) };
        if !self.is_held() {
            return answer.await;
        }
        let waited = tokio::time::timeout(held::PATIENCE, answer).await;
        waited.unwrap_or_else(|_| Err(Self::patience_is_over()))
    }

    /// Runs `work` on the recorder's thread inside a durable transaction and gives its result after the commit.
    ///
    /// # Errors
    /// When too many wait, or the ledger cannot be written.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let command = command(work, move |value| drop(reply.send(value)));
        if self.commands.try_send(command).is_err() {
            return Err(StorageError::new("too many orders wait"));
        }
        answer.await.map_err(|_| self.failed())
    }

    /// [`Recorder::call`] for threads outside the async runtime; waits where many wait.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = bounded(1);
        let command = command(work, move |value| drop(reply.send(value)));
        let ended = |_| StorageError::new("the recorder has ended");
        self.commands.send(command).map_err(ended)?;
        answer.recv().map_err(|_| self.failed())
    }

    /// Runs `work`, which only reads, between two transactions; also while the ledger cannot be written.
    ///
    /// # Errors
    /// What the ledger says, or when too many wait.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |core, reader| drop(reply.send(work(core, reader))));
        if self.looks.try_send(look).is_err() {
            return Err(StorageError::new("too many look at it"));
        }
        let seen = answer.await.map_err(|_| StorageError::new("the recorder has ended"))?;
        seen.map_err(|error| StorageError::of(&error))
    }

    /// [`Recorder::look`] for threads outside the async runtime; waits where many wait.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn look_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = bounded(1);
        let look: Look = Box::new(move |core, reader| drop(reply.send(work(core, reader))));
        let ended = || StorageError::new("the recorder has ended");
        self.looks.send(look).map_err(|_| ended())?;
        let seen = answer.recv().map_err(|_| ended())?;
        seen.map_err(|error| StorageError::of(&error))
    }

    /// Asks the thread to write what waits and to end; join it to know that it has. Offers that come after its end are
    /// dropped, calls fail.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Full: it is being woken already.
        let _ = self.wake.try_send(());
    }
}

fn command<T: Send + 'static>(
    work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    after: impl FnOnce(T) + Send + 'static,
) -> Command {
    Box::new(move |core, writer| {
        let value = work(core, writer)?;
        Ok(Box::new(move || after(value)))
    })
}
