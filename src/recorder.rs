//! The recorder: the one thread that writes the ledger, offers rows to the challengers, joins labels and folds pairs.
//!
//! Always holds: what is drained together is committed together; a label is applied after every observation that
//! was offered before it, so that its row is in the ledger or never will be; acknowledgements leave after the commit.
//! When a commit fails nothing of it is acknowledged, the books are read again from the disk, and the recorder goes
//! on when the disk does. Leaves to others: carrying decisions out (`control`), scoring (`arena`).

mod book;
mod journal;
mod labels;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use tokio::sync::oneshot;

pub use book::{Attached, Book, Closing, Coverage};
pub use journal::Event;
pub use labels::{ItemStatus, LabelItem, LabelKey, Status};

use crate::arena::{Challenger, ShadowReport};
use crate::judge::fold::Decision;
use crate::ledger::{Ledger, LedgerError, Writer};
use crate::mirror::{Mirror, Observation};
use crate::score::{ModelNo, VersionNo};

/// Observations that may wait. At 100,000 rows/s this is a sixth of a second of a stalled disk.
const OBSERVATIONS: usize = 16_384;
/// Label requests that may wait; each is bounded by the request's size.
const LABEL_REQUESTS: usize = 1_024;
/// Reports of runners that may wait; the shadows block beyond, the request's path never does.
const REPORTS: usize = 4_096;
/// Observations in one transaction: long enough to pay for a commit, short enough for a label to wait behind.
const DRAIN: usize = 4_096;
/// Closed rows folded in one transaction.
const FOLD: usize = 8_192;

/// The storage failed or is gone; nothing was acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ledger cannot be written: {0}")]
pub struct StorageError(pub String);

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

struct LabelRequest {
    items: Vec<LabelItem>,
    received_ms: i64,
    reply: oneshot::Sender<Vec<ItemStatus>>,
}

/// Everything that the recorder's thread owns but the file.
#[derive(Debug, Default)]
pub struct Core {
    /// One book per model.
    pub books: HashMap<ModelNo, Book>,
    /// The model of every version that was ever offered a row.
    models: HashMap<VersionNo, ModelNo>,
    /// Decisions that no one has taken yet.
    outbox: Vec<Verdicted>,
    /// Rows answered but not recorded because their caller's id was seen before.
    pub duplicates: u64,
    stopping: bool,
}

impl Core {
    /// From now on rows of `model` are offered to these challengers.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn set_challengers(
        &mut self,
        writer: &Writer<'_>,
        model: ModelNo,
        challengers: Vec<(VersionNo, Arc<Challenger>)>,
    ) -> Result<(), LedgerError> {
        self.models
            .extend(challengers.iter().map(|(version, _)| (*version, model)));
        match self.books.get_mut(&model) {
            Some(book) => book.set_challengers(writer, challengers),
            None => Ok(()),
        }
    }

    /// Takes a model's book in; what its judge had decided before a restart is sent out again.
    pub fn add(&mut self, book: Book) {
        if let Some(decision) = book.pending() {
            self.outbox.push(Verdicted {
                model: book.row.no,
                decision: decision.clone(),
            });
        }
        self.books.insert(book.row.no, book);
    }
}

/// The way to the recorder's thread.
#[derive(Debug, Clone)]
pub struct Recorder {
    mirror: Mirror,
    labels: Sender<LabelRequest>,
    commands: Sender<Command>,
    reports: Sender<ShadowReport>,
    healthy: Arc<AtomicBool>,
    waiting: Receiver<Observation>,
}

impl Recorder {
    /// Opens the ledger and starts the thread; it ends when all handles are gone, with everything drained written.
    ///
    /// # Errors
    /// What the ledger says at opening.
    pub fn start(state: &Path, decisions: Sender<Verdicted>) -> Result<(Self, JoinHandle<()>), LedgerError> {
        let ledger = Ledger::open(state)?;
        let (observe, observations) = bounded(OBSERVATIONS);
        let (labels, label_requests) = bounded(LABEL_REQUESTS);
        let (commands, command_queue) = bounded(256);
        let (reports, report_queue) = bounded(REPORTS);
        let healthy = Arc::new(AtomicBool::new(true));
        let mut thread = Thread {
            ledger,
            core: Core::default(),
            observations: observations.clone(),
            labels: label_requests,
            commands: command_queue,
            reports: report_queue,
            decisions,
            healthy: Arc::clone(&healthy),
        };
        let join = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || thread.run())
            .map_err(|source| LedgerError::File {
                path: state.to_path_buf(),
                source,
            })?;
        let recorder = Self {
            mirror: Mirror::new(observe),
            labels,
            commands,
            reports,
            healthy,
            waiting: observations,
        };
        Ok((recorder, join))
    }

    /// Where answered requests are offered.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
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
        self.healthy.load(Ordering::Relaxed)
    }

    /// Stores labels; the statuses come back, in order, after they are on disk.
    ///
    /// # Errors
    /// When the queue is full or the ledger cannot be written: nothing was acknowledged then, send again.
    pub async fn labels(&self, items: Vec<LabelItem>, received_ms: i64) -> Result<Vec<ItemStatus>, StorageError> {
        let (reply, answer) = oneshot::channel();
        if self
            .labels
            .try_send(LabelRequest {
                items,
                received_ms,
                reply,
            })
            .is_err()
        {
            return Err(StorageError("too many label requests wait".into()));
        }
        answer.await.map_err(|_| StorageError("the transaction failed".into()))
    }

    /// Runs `work` on the recorder's thread inside a durable transaction and gives its result after the commit.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.submit(work, move |value| drop(reply.send(value)))?;
        answer.await.map_err(|_| StorageError("the transaction failed".into()))
    }

    /// [`Recorder::call`] for threads outside the async runtime.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn call_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = bounded(1);
        self.submit(work, move |value| drop(reply.send(value)))?;
        answer.recv().map_err(|_| StorageError("the transaction failed".into()))
    }

    /// Lets the thread write what waits and end. Offers after this are dropped, calls fail.
    pub fn stop(&self) {
        let stopped = self.call_blocking(|core, _| {
            core.stopping = true;
            Ok(())
        });
        if let Err(error) = stopped {
            tracing::error!(%error, "the recorder was not stopped in order");
        }
    }

    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, &Writer<'_>) -> Result<T, LedgerError> + Send + 'static,
        after: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), StorageError> {
        let command: Command = Box::new(move |core, writer| {
            let value = work(core, writer)?;
            Ok(Box::new(move || after(value)))
        });
        self.commands
            .send(command)
            .map_err(|_| StorageError("the recorder has ended".into()))
    }
}

struct Thread {
    ledger: Ledger,
    core: Core,
    observations: Receiver<Observation>,
    labels: Receiver<LabelRequest>,
    commands: Receiver<Command>,
    reports: Receiver<ShadowReport>,
    decisions: Sender<Verdicted>,
    healthy: Arc<AtomicBool>,
}

/// What one transaction takes in.
#[derive(Default)]
struct Drained {
    commands: Vec<Command>,
    labels: Vec<LabelRequest>,
    observations: Vec<Observation>,
    reports: Vec<ShadowReport>,
}

impl Drained {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.labels.is_empty() && self.observations.is_empty() && self.reports.is_empty()
    }
}

impl Thread {
    fn run(&mut self) {
        let mut backlog = false;
        loop {
            let Some(mut drained) = self.wait(backlog) else { break };
            self.drain(&mut drained);
            if drained.is_empty() && !backlog && self.is_healthy() {
                self.send_decisions();
                continue;
            }
            match self.commit(drained) {
                Ok(more) => backlog = more,
                Err(error) => {
                    tracing::error!(%error, "a transaction failed: nothing of it is acknowledged, promotion is frozen");
                    self.healthy.store(false, Ordering::Relaxed);
                    backlog = false;
                    self.recover();
                }
            }
            self.send_decisions();
            if self.core.stopping {
                if !self.finish() {
                    // The books hold what the disk does not: no snapshot of them may be taken.
                    return;
                }
                break;
            }
        }
        if let Err(error) = self.ledger.transaction(true, |writer| self.core.snapshot_all(writer)) {
            tracing::error!(%error, "the last snapshot was not written; the next start folds more pairs again");
        }
    }

    /// The first message to come, or nothing at once when there is a backlog to fold. `None`: all handles are gone.
    fn wait(&self, backlog: bool) -> Option<Drained> {
        let mut drained = Drained::default();
        if backlog {
            return Some(drained);
        }
        // Decisions that found no room are offered again soon; a disk that failed is tried again without traffic.
        let retry = match (self.is_healthy(), self.core.outbox.is_empty()) {
            (true, true) => never(),
            (true, false) => crossbeam_channel::after(Duration::from_millis(20)),
            (false, _) => crossbeam_channel::after(Duration::from_millis(500)),
        };
        select! {
            recv(self.commands) -> command => match command {
                Ok(command) => drained.commands.push(command),
                // The command queue closes last: the handles hold all senders together.
                Err(_) => return self.rest(),
            },
            recv(self.labels) -> labels => drained.labels.extend(labels),
            recv(self.observations) -> observation => drained.observations.extend(observation),
            recv(self.reports) -> report => drained.reports.extend(report),
            recv(retry) -> _ => {}
        }
        Some(drained)
    }

    /// Writes what was offered before the stop. False when that failed.
    fn finish(&mut self) -> bool {
        while let Some(drained) = self.rest() {
            if let Err(error) = self.commit(drained) {
                tracing::error!(%error, "the last rows were not written");
                return false;
            }
        }
        true
    }

    /// What is left after the last handle went.
    fn rest(&self) -> Option<Drained> {
        let mut drained = Drained::default();
        drained.labels.extend(self.labels.try_iter());
        drained.observations.extend(self.observations.try_iter());
        drained.reports.extend(self.reports.try_iter());
        (!drained.is_empty()).then_some(drained)
    }

    /// Labels and commands first, then the observations that were there by then: every row that a label or a
    /// command can speak of was offered before it.
    fn drain(&self, drained: &mut Drained) {
        drained.commands.extend(self.commands.try_iter().take(64));
        drained.labels.extend(self.labels.try_iter().take(LABEL_REQUESTS));
        let waiting = if drained.labels.is_empty() { DRAIN } else { OBSERVATIONS };
        drained.observations.extend(self.observations.try_iter().take(waiting));
        drained.reports.extend(self.reports.try_iter().take(REPORTS));
    }

    /// One transaction. True when closed rows are left to fold.
    fn commit(&mut self, drained: Drained) -> Result<bool, LedgerError> {
        let durable = !drained.labels.is_empty() || !drained.commands.is_empty();
        let core = &mut self.core;
        if !drained.commands.is_empty() {
            core.keep();
        }
        let mut acks: Vec<AfterCommit> = Vec::new();
        let more = self.ledger.transaction(durable, |writer| {
            for observation in &drained.observations {
                core.observe(writer, observation)?;
            }
            for report in &drained.reports {
                core.report(writer, report)?;
            }
            for request in drained.labels {
                let statuses = core.label(writer, &request.items, request.received_ms)?;
                acks.push(Box::new(move || drop(request.reply.send(statuses))));
            }
            for command in drained.commands {
                acks.push(command(core, writer)?);
            }
            let more = core.fold(writer, FOLD)?;
            core.save_coverage(writer)?;
            Ok(more)
        })?;
        core.forget();
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the ledger can be written again");
        }
        for ack in acks {
            ack();
        }
        Ok(more)
    }

    /// Makes the books agree with the disk again. While that fails, requests are turned away by dropping them.
    fn recover(&mut self) {
        while let Err(error) = self.core.reload(&self.ledger) {
            tracing::error!(%error, "the ledger cannot be read");
            std::thread::sleep(Duration::from_secs(1));
            let mut dropped = Drained::default();
            self.drain(&mut dropped);
        }
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Sends what was decided, unless the disk fails: promotion is frozen then.
    fn send_decisions(&mut self) {
        if !self.is_healthy() {
            return;
        }
        self.core
            .outbox
            .retain(|decision| self.decisions.try_send(decision.clone()).is_err());
    }
}

#[cfg(test)]
mod tests;
