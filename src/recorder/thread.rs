//! The recorder's thread: waits, drains, commits; and what it does while the ledger cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, after, never, select};
use tokio::sync::oneshot;

use super::backlog::{Backlog, Limit};
use super::complaints::Complaints;
use super::labels::{ItemStatus, LabelItem};
use super::pace::Pace;
use super::retention::{Keeping, Retention};
use super::{AfterCommit, Command, Core, Fault, LABEL_REQUESTS, Look, OBSERVATIONS, REPORTS, StorageError, Verdicted};
use crate::arena::ShadowReport;
use crate::config::RetentionConfig;
use crate::ledger::{Ledger, LedgerError};
use crate::mirror::Observation;
use crate::time::cpu;
use crate::time::now_ms;

/// Observations in one transaction: long enough to pay for a commit, short enough for a label to wait behind.
const DRAIN: usize = 1_024;
/// Closed rows folded in one transaction.
const FOLD: usize = 8_192;
/// Between two looks whether the ledger can be written again.
const PROBE: Duration = Duration::from_millis(500);
/// Between two attempts to empty the log of what was erased.
const SCRUB: Duration = Duration::from_secs(5);
/// Between two offers of a decision that found no room.
const RETRY: Duration = Duration::from_millis(20);

pub(super) struct LabelRequest {
    pub(super) items: Vec<LabelItem>,
    pub(super) received_ms: i64,
    pub(super) reply: oneshot::Sender<Vec<ItemStatus>>,
}

pub(super) struct Queues {
    pub(super) observations: Receiver<Observation>,
    pub(super) labels: Receiver<LabelRequest>,
    pub(super) commands: Receiver<Command>,
    pub(super) looks: Receiver<Look>,
    pub(super) reports: Receiver<ShadowReport>,
    pub(super) woken: Receiver<()>,
}

/// What one transaction takes in.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) commands: Vec<Command>,
    pub(super) looks: Vec<Look>,
    pub(super) labels: Vec<LabelRequest>,
    pub(super) observations: Vec<Observation>,
    pub(super) reports: Vec<ShadowReport>,
}

impl Drained {
    fn writes_nothing(&self) -> bool {
        self.commands.is_empty() && self.labels.is_empty() && self.observations.is_empty() && self.reports.is_empty()
    }
}

impl Queues {
    /// The first message to come by `until`, if there is an end to the waiting; of rows and their outcomes, and of labels,
    /// only where that is said. False: all handles are gone.
    fn wait(&self, drained: &mut Drained, until: Option<Instant>, Takes { rows, labels }: Takes) -> bool {
        let (observations, reports) = match rows {
            true => (&self.observations, &self.reports),
            false => (&never(), &never()),
        };
        let labels = if labels { &self.labels } else { &never() };
        let timeout = until.map_or_else(never, |end| after(end.saturating_duration_since(Instant::now())));
        select! {
            recv(self.commands) -> one => one.map(|command| drained.commands.push(command)).is_ok(),
            recv(self.looks) -> one => one.map(|look| drained.looks.push(look)).is_ok(),
            recv(labels) -> one => one.map(|labels| drained.labels.push(labels)).is_ok(),
            recv(observations) -> one => one.map(|seen| drained.observations.push(seen)).is_ok(),
            recv(reports) -> one => one.map(|report| drained.reports.push(report)).is_ok(),
            recv(self.woken) -> one => one.is_ok(),
            recv(timeout) -> _ => true,
        }
    }

    /// Labels and commands first, then the observations that were there by then: every row that a label can speak of
    /// was offered before it.
    fn drain(&self, drained: &mut Drained, Takes { rows, labels }: Takes) {
        drained.looks.extend(self.looks.try_iter().take(64));
        drained.commands.extend(self.commands.try_iter().take(64));
        let requests = if labels { LABEL_REQUESTS } else { 0 };
        drained.labels.extend(self.labels.try_iter().take(requests));
        let waiting = match (drained.labels.is_empty(), rows) {
            (false, _) => OBSERVATIONS,
            (true, true) => DRAIN,
            (true, false) => 0,
        };
        drained.observations.extend(self.observations.try_iter().take(waiting));
        drained.reports.extend(self.reports.try_iter().take(REPORTS));
    }
}

/// What is taken out of the queues besides orders and looks.
#[derive(Debug, Clone, Copy)]
struct Takes {
    rows: bool,
    labels: bool,
}

impl Takes {
    const ALL: Self = Self {
        rows: true,
        labels: true,
    };
}

pub(super) struct Thread {
    // Declared, and so dropped, before `core`: a challenger whose last handle is in there ends by reporting into a
    // queue that must not be full and unread then.
    queues: Queues,
    pub(super) ledger: Ledger,
    pub(super) core: Core,
    decisions: Sender<Verdicted>,
    fault: Fault,
    complaints: Complaints,
    stopping: Arc<AtomicBool>,
    pace: Pace,
    backlog: Backlog,
    scrub_at: Instant,
    retention: Retention,
    /// While it is true the books are not open yet: rows and labels wait.
    held: Option<Arc<AtomicBool>>,
}

impl Thread {
    pub(super) fn new(
        ledger: Ledger,
        queues: Queues,
        decisions: Sender<Verdicted>,
        fault: Fault,
        stopping: Arc<AtomicBool>,
        (room, share): (Limit, f64),
    ) -> Self {
        Self {
            queues,
            ledger,
            core: Core::default(),
            decisions,
            fault,
            complaints: Complaints::default(),
            stopping,
            pace: Pace::new(share, Instant::now()),
            backlog: Backlog::new(room),
            scrub_at: Instant::now(),
            retention: Retention::new(RetentionConfig::default(), Arc::default(), Instant::now()),
            held: None,
        }
    }

    /// Lets rows and labels wait while `held` is true.
    pub(super) fn hold(&mut self, held: Arc<AtomicBool>) {
        self.held = Some(held);
    }

    /// What may be taken in at this moment.
    fn takes(&self, rows: bool) -> Takes {
        let is_held = self.held.as_ref().is_some_and(|held| held.load(Ordering::Acquire));
        Takes {
            rows: rows && !is_held,
            labels: !is_held,
        }
    }

    /// From now on the record is kept within these limits.
    pub(super) fn keep(&mut self, limits: RetentionConfig, keeping: Arc<Keeping>) {
        self.core.keeping = Arc::clone(&keeping);
        self.retention = Retention::new(limits, keeping, Instant::now());
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn run(&mut self) {
        let mut backlog = false;
        while !self.is_stopping() {
            let mut drained = Drained::default();
            // As many as a transaction takes are there: waiting would gather nothing, and cap what can be recorded.
            let is_full = self.queues.observations.len() >= DRAIN && self.takes(self.pace.may_record()).rows;
            if !backlog && !is_full {
                let now = Instant::now();
                // Decisions that found no room are offered again soon.
                let retry = (!self.core.outbox.is_empty()).then(|| now + RETRY);
                let fetch = self.pace.fetch_at(now);
                let until = [retry, fetch, Some(self.retention.due())].into_iter().flatten().min();
                if !self.queues.wait(&mut drained, until, self.takes(fetch.is_none())) {
                    self.stopping.store(true, Ordering::Release);
                }
            }
            let now = Instant::now();
            self.backlog.see(self.queues.observations.len(), now);
            self.pace.tick(now);
            let takes = self.takes(self.pace.may_record());
            self.queues.drain(&mut drained, takes);
            if takes.labels && self.held.take().is_some() {
                // Whoever has given up while they waited was told to send them again.
                drained.labels.retain(|request| !request.reply.is_closed());
            }
            let (rows, before) = (drained.observations.len(), cpu::of_this_thread());
            backlog = self.step(drained, backlog);
            let spent = cpu::of_this_thread().saturating_sub(before);
            self.pace.spent(rows, spent, Instant::now());
            self.send_decisions();
            self.prune(Instant::now());
        }
        self.finish(backlog);
    }

    /// A step of what is due to go, between two commits.
    pub(super) fn prune(&mut self, now: Instant) {
        if now < self.retention.due() || self.is_stopping() {
            return;
        }
        match self.retention.step(&mut self.core, &mut self.ledger, now_ms()) {
            Ok(true) => self.checkpoint(),
            Ok(false) => {}
            Err(error) => self.outage(&error, Drained::default()),
        }
    }

    fn checkpoint(&mut self) {
        match self.ledger.checkpoint() {
            Ok(()) => {}
            // A sync that has failed once may be reported as done the next time: the log has to begin anew.
            Err(error) if error.doubts_the_log() => self.outage(&error, Drained::default()),
            Err(error) => {
                tracing::warn!(%error, "the ledger's log could not be moved into its file; it grows until it can");
            }
        }
    }

    /// True when there is more to do at once.
    fn step(&mut self, mut drained: Drained, backlog: bool) -> bool {
        let mut more = backlog;
        if backlog || !drained.writes_nothing() {
            more = match self.commit(&mut drained) {
                Ok(more) => more,
                Err(error) => {
                    self.outage(&error, drained);
                    return true;
                }
            };
        }
        self.show(drained.looks);
        more
    }

    fn show(&self, looks: Vec<Look>) {
        for look in looks {
            look(&self.core, &self.ledger.reader());
        }
    }

    /// Writes what was offered before the stop, folds what is closed, and keeps the judges' states.
    fn finish(&mut self, mut backlog: bool) {
        loop {
            let mut drained = Drained::default();
            self.queues.drain(&mut drained, Takes::ALL);
            if drained.writes_nothing() && !backlog {
                break;
            }
            match self.commit(&mut drained) {
                Ok(more) => backlog = more,
                Err(error) => {
                    let rows = self.core.count_dropped(&drained.observations);
                    tracing::error!(%error, rows, "the last rows were not written");
                    return;
                }
            }
        }
        let core = &mut self.core;
        if let Err(error) = self.ledger.transaction(true, |writer| core.save_snapshots(writer)) {
            tracing::error!(%error, "the last snapshot was not written; the next start folds more pairs again");
        }
    }

    /// One transaction. True when there is more to write or to fold.
    pub(super) fn commit(&mut self, drained: &mut Drained) -> Result<bool, LedgerError> {
        let durable = !drained.labels.is_empty() || !drained.commands.is_empty();
        let core = &mut self.core;
        let undecided = core.outbox.len();
        let mut statuses = Vec::with_capacity(drained.labels.len());
        let mut acks: Vec<AfterCommit> = Vec::with_capacity(drained.commands.len());
        let done = self.ledger.transaction(durable, |writer| {
            core.observe(writer, &drained.observations)?;
            core.report(writer, &drained.reports)?;
            for request in &drained.labels {
                statuses.push(match core.may_label(&request.items) {
                    true => Some(core.label(writer, &request.items, request.received_ms)?),
                    false => None,
                });
            }
            for command in drained.commands.drain(..) {
                acks.push(command(core, writer)?);
            }
            let more = core.fold(writer, FOLD)?;
            core.save(writer)?;
            Ok(more)
        });
        let more = match done {
            Ok(more) => more,
            Err(error) => {
                core.outbox.truncate(undecided);
                return Err(error);
            }
        };
        self.ledger.note_rows(core.recorded_rows());
        if !acks.is_empty() {
            core.settle();
        }
        for (request, statuses) in drained.labels.drain(..).zip(statuses) {
            // Whoever asked may have given up. Without an answer it is told to send them again.
            let _ = statuses.map(|statuses| request.reply.send(statuses));
        }
        for ack in acks {
            ack();
        }
        let refused = core.offer();
        core.let_go();
        if core.scrub && Instant::now() >= self.scrub_at {
            match self.ledger.scrub() {
                Ok(done) => core.scrub = !done,
                Err(error) => {
                    tracing::warn!(%error, "what was erased may still stand in the ledger's log, or in a copy")
                }
            }
            self.scrub_at = Instant::now() + SCRUB;
        }
        self.checkpoint();
        Ok(more || refused)
    }

    /// Until the ledger can be written: labels and orders are refused, rows dropped and counted. Then the books agree
    /// with the disk again.
    fn outage(&mut self, cause: &LedgerError, drained: Drained) {
        let said = self.complaints.due(Instant::now());
        if let Some(unsaid) = said {
            tracing::error!(error = %cause, unsaid, "the ledger cannot be written: nothing is acknowledged, promotions wait");
        }
        let mut why = cause.to_string();
        self.fault.store(Some(Arc::new(StorageError::of(cause))));
        let began_ms = now_ms();
        // What the failed transaction had changed in memory must not be shown to anybody.
        let mut agrees = self.core.reload(&self.ledger).is_ok();
        let mut rows = self.refuse(drained, agrees);
        while !self.is_stopping() {
            let healed = self
                .ledger
                .heal(cause, began_ms, now_ms(), rows)
                .and_then(|()| self.core.reload(&self.ledger));
            match healed {
                Ok(()) => {
                    if said.is_some() {
                        tracing::info!(rows_dropped = rows, "the ledger can be written again");
                    }
                    self.fault.store(None);
                    return;
                }
                Err(error) if error.to_string() != why => {
                    why = error.to_string();
                    if let Some(unsaid) = self.complaints.due(Instant::now()) {
                        tracing::error!(%error, unsaid, "the ledger still cannot be written");
                    }
                    self.fault.store(Some(Arc::new(StorageError::of(&error))));
                }
                Err(_) => {}
            }
            let next = Instant::now() + PROBE;
            while Instant::now() < next && !self.is_stopping() {
                let mut drained = Drained::default();
                if !self.queues.wait(&mut drained, Some(next), Takes::ALL) {
                    self.stopping.store(true, Ordering::Release);
                }
                self.queues.drain(&mut drained, Takes::ALL);
                agrees = agrees || self.core.reload(&self.ledger).is_ok();
                rows += self.refuse(drained, agrees);
            }
        }
    }

    /// Counts the rows, answers looks where the books agree with the disk, and lets the rest know by dropping it.
    fn refuse(&mut self, drained: Drained, agrees: bool) -> u64 {
        let rows = self.core.count_dropped(&drained.observations);
        if agrees {
            self.show(drained.looks);
        }
        rows
    }

    fn send_decisions(&mut self) {
        // Full: later. Closed: nobody will ever carry it out; the next start sends it again.
        self.core
            .outbox
            .retain(|decision| matches!(self.decisions.try_send(decision.clone()), Err(TrySendError::Full(_))));
    }
}
