//! One shadowed version: a bounded queue, a thread that drives its runner, a foreground lane for pinned requests.
//!
//! Always holds: [`Challenger::offer`] never waits; every row of an accepted offer gets exactly one outcome, also
//! when the runner crashes, starves or is stopped; the queue is bounded in rows and in items.
//! Leaves to others: the runner's life (`driver`), merging and splitting (`rows`), which rows are offered (`mirror`).

mod driver;
mod rows;
mod spec;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::oneshot;

pub use self::spec::{ChallengerSpec, RunnerEvent, ShadowReport, ShadowWork};
use super::client::{Interrupter, RunnerFault};
use super::spawner::Spawner;
use crate::batch::Batch;
use crate::container::Pressure;
use crate::interference::Gate;
use crate::model::tensor::Tensor;
use crate::score::Shed;

/// Offers that wait at most, however few rows they have.
const QUEUE_ITEMS: usize = 8_192;
/// Pinned requests that wait at most.
const FOREGROUND_ITEMS: usize = 64;
/// Set in the row count when no more rows are taken.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A pinned request.
struct Ask {
    batch: Arc<Batch>,
    outputs: Vec<usize>,
    reply: oneshot::Sender<Result<Vec<Tensor>, RunnerFault>>,
}

/// What the handle and the driver share.
#[derive(Debug, Default)]
struct Shared {
    /// Rows that wait, and [`CLOSED`].
    rows: AtomicUsize,
    up: AtomicBool,
    executed: AtomicU64,
    restarts: AtomicU64,
    /// 0: none.
    pid: AtomicU32,
    stopping: AtomicBool,
    interrupter: Mutex<Option<Interrupter>>,
}

impl Shared {
    /// A driver that is to stop must neither wait for its runner nor start another one.
    fn interrupt(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(runner) = &*self.interrupter.lock().unwrap_or_else(PoisonError::into_inner) {
            runner.interrupt();
        }
    }
}

/// A look at a challenger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengerStats {
    /// Rows that wait for a run.
    pub queued_rows: usize,
    /// Rows that went through a run.
    pub executed_rows: u64,
    /// Runners started after the first.
    pub restarts: u64,
    /// The runner's process id while it has one.
    pub pid: Option<u32>,
    /// A loaded runner is there.
    pub up: bool,
}

/// A shadowed version. Dropping it stops it.
#[derive(Debug)]
pub struct Challenger {
    work: Sender<ShadowWork>,
    foreground: Sender<Ask>,
    queue_rows: usize,
    pressure: Arc<Pressure>,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// Dropped to wake the driver.
    alive: Sender<()>,
    thread: JoinHandle<()>,
}

impl Challenger {
    /// Starts the driver thread, which starts the runner. `sink` must be read until the challenger is stopped: when it
    /// is full the driver waits, and new rows are shed at the offer.
    #[must_use]
    pub fn start(
        spec: ChallengerSpec,
        spawner: Spawner,
        sink: Sender<ShadowReport>,
        events: Sender<RunnerEvent>,
    ) -> Self {
        let (work, work_queue) = bounded(QUEUE_ITEMS);
        let (foreground, foreground_queue) = bounded(FOREGROUND_ITEMS);
        let (alive, stop) = bounded(0);
        let shared = Arc::new(Shared::default());
        let queue_rows = spec.queue_rows.min(CLOSED / 2);
        let (name, pressure, gate) = (spec.name.clone(), Arc::clone(&spec.pressure), Arc::clone(&spec.gate));
        let driver = driver::Driver::new(
            spec,
            spawner,
            Arc::clone(&shared),
            driver::Lanes {
                work: work_queue,
                foreground: foreground_queue,
                stop,
                sink,
                events,
            },
        );
        // Without a thread the lanes are closed, and offers are refused.
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            crate::priority::give_way();
            driver.drive();
        });
        Self {
            work,
            foreground,
            queue_rows,
            pressure,
            gate,
            shared,
            running: Mutex::new(thread.ok().map(|thread| Running { alive, thread })),
        }
    }

    /// Offers rows. Never waits.
    ///
    /// # Errors
    /// Why the rows were not taken; the caller records it for each of them.
    pub fn offer(&self, work: ShadowWork) -> Result<(), Shed> {
        let count = work.rows.len();
        if count == 0 {
            return Ok(());
        }
        // The count goes up before the rows are sent: a driver that has closed the count and sees zero has seen all.
        let before = self.shared.rows.fetch_add(count, Ordering::SeqCst);
        let refused = if before & CLOSED != 0 {
            Some(Shed::Left)
        } else if self.pressure.is_high() {
            Some(Shed::Throttled)
        } else if self.gate.is_slowed() && before >= self.gate.room(self.queue_rows) {
            Some(Shed::Interference)
        } else if before + count > self.queue_rows || self.work.try_send(work).is_err() {
            let up = self.shared.up.load(Ordering::Relaxed);
            Some(if up { Shed::QueueFull } else { Shed::RunnerDown })
        } else {
            None
        };
        let Some(why) = refused else { return Ok(()) };
        self.shared.rows.fetch_sub(count, Ordering::SeqCst);
        Err(why)
    }

    /// Runs a pinned request before all shadow work: `outputs` are numbers into the signature's outputs. False when
    /// too many wait; the reply is dropped when the challenger is stopped first.
    #[must_use]
    pub fn ask(
        &self,
        batch: Arc<Batch>,
        outputs: Vec<usize>,
        reply: oneshot::Sender<Result<Vec<Tensor>, RunnerFault>>,
    ) -> bool {
        let ask = Ask { batch, outputs, reply };
        self.foreground.try_send(ask).is_ok()
    }

    /// A look at the queue and the runner.
    #[must_use]
    pub fn stats(&self) -> ChallengerStats {
        let pid = self.shared.pid.load(Ordering::Relaxed);
        ChallengerStats {
            queued_rows: self.shared.rows.load(Ordering::Relaxed) & !CLOSED,
            executed_rows: self.shared.executed.load(Ordering::Relaxed),
            restarts: self.shared.restarts.load(Ordering::Relaxed),
            pid: (pid != 0).then_some(pid),
            up: self.shared.up.load(Ordering::Relaxed),
        }
    }

    /// Takes no more rows, reports what waits as [`Shed::Left`], kills the runner, and waits for all of it. Offers that
    /// come meanwhile are refused or reported, never lost.
    pub fn stop(&self) {
        self.shared.rows.fetch_or(CLOSED, Ordering::SeqCst);
        self.shared.interrupt();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { alive, thread }) = running {
            drop(alive);
            // A panic there has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Challenger {
    fn drop(&mut self) {
        self.stop();
    }
}
