//! A version loaded in this process: one session per worker, so that no request waits for another's.
//!
//! Always holds: runs that leave the async workers are as many as there are sessions, and of the requests that wait for
//! one there are a few at most; one more is refused at once.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Begun;
use super::answer::outputs::Outputs;
use super::answer::rows;
use crate::batch::Batch;
use crate::error::{Error, Kind};
use crate::model::head::Head;
use crate::model::layout::Layout;
use crate::model::session::{LoadError, Session};
use crate::model::signature::Signature;
use crate::model::tensor::Tensor;
use crate::oip::Counters;
use crate::score::VersionNo;

/// Longer runs leave the async workers: below, the hand-over costs more than it frees.
const INLINE: Duration = Duration::from_micros(300);

/// Requests that may wait for each session of a slow version: a client that would wait longer does better elsewhere.
const WAITING: usize = 4;

/// What identifies a version and how it is asked and read.
#[derive(Debug)]
pub struct VersionInfo {
    /// Number in the ledger.
    pub no: VersionNo,
    /// Name in the directory.
    pub name: String,
    /// SHA-256 of what was dropped, `sha256:…`.
    pub digest: String,
    /// Inputs and outputs.
    pub signature: Signature,
    /// How its inputs are filled.
    pub layout: Layout,
    /// How its outputs are read.
    pub head: Head,
    /// Rows may be merged into one run.
    pub batched: bool,
    /// Names of the outputs, in the signature's order: shared by every reply that carries them.
    pub outputs: Vec<Arc<str>>,
    /// What its requests and runs took, since it was loaded first.
    pub counters: Arc<Counters>,
}

/// A version with its sessions.
#[derive(Debug)]
pub struct Loaded {
    /// Who it is.
    pub info: Arc<VersionInfo>,
    sessions: Arc<[Mutex<Session>]>,
    gate: Gate,
    /// Measured time of a one-row run.
    run_time: Duration,
}

thread_local! {
    /// The session that this thread tries first.
    static SEAT: Cell<usize> = Cell::new(NEXT_SEAT.fetch_add(1, Ordering::Relaxed));
}
static NEXT_SEAT: AtomicUsize = AtomicUsize::new(0);

impl Loaded {
    /// Loads `sessions` sessions of the file and runs each once on `probe`, so that the first request meets warm
    /// code and memory.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load(
        info: Arc<VersionInfo>,
        path: &Path,
        sessions: usize,
        probe: Option<&[Tensor]>,
    ) -> Result<Self, LoadError> {
        let mut run_time = Duration::ZERO;
        let mut loaded = Vec::with_capacity(sessions.max(1));
        for _ in 0..sessions.max(1) {
            let mut session = Session::load(path, 1)?;
            if let Some(probe) = probe {
                run_time = warm(&mut session, probe, info.head.wanted())?;
            }
            loaded.push(Mutex::new(session));
        }
        Ok(Self {
            info,
            gate: Gate::new(loaded.len()),
            sessions: loaded.into(),
            run_time,
        })
    }

    /// The same sessions, asked and read in another way.
    #[must_use]
    pub fn with_info(&self, info: Arc<VersionInfo>) -> Self {
        Self {
            info,
            sessions: Arc::clone(&self.sessions),
            gate: self.gate.clone(),
            run_time: self.run_time,
        }
    }

    /// True when a run of so many rows should not hold up an async worker.
    #[must_use]
    pub fn is_slow(&self, rows: usize) -> bool {
        // Rows of a batch share the fixed cost of a run: a merged row costs about a fifth of a lone one.
        let runs = if self.info.batched { 1 + rows / 5 } else { rows };
        self.run_time.saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX)) > INLINE
    }

    /// Waits for a session's turn, for a run away from the async workers.
    ///
    /// # Errors
    /// 429 when too many wait already.
    pub async fn turn(&self) -> Result<Turn, Error> {
        self.gate.turn().await.ok_or_else(|| {
            let text = format!(
                "too many requests wait for version '{}': send fewer at once",
                self.info.name
            );
            Error::new(Kind::Overloaded, text).retry_after(1)
        })
    }

    /// Answers the batch.
    pub(super) fn whole(&self, batch: &Batch, outputs: &Outputs) -> Begun {
        rows::whole(&self.info, &mut *self.session(), batch, outputs)
    }

    /// Answers these rows of the batch, one by one.
    pub(super) fn apart(&self, batch: &Batch, which: &[usize], outputs: &Outputs) -> Begun {
        rows::apart(&self.info, &mut *self.session(), batch, which.iter().copied(), outputs)
    }

    /// A free session, this thread's own if possible.
    fn session(&self) -> MutexGuard<'_, Session> {
        let seat = SEAT.with(Cell::get);
        for i in 0..self.sessions.len() {
            match self.sessions.get((seat + i) % self.sessions.len()).map(Mutex::try_lock) {
                Some(Ok(session)) => return session,
                Some(Err(TryLockError::Poisoned(poisoned))) => return poisoned.into_inner(),
                Some(Err(TryLockError::WouldBlock)) | None => {}
            }
        }
        // More threads than sessions: wait for one's own. `load` made at least one, and the remainder is in range.
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder is below the length, which is at least one"
        )]
        self.sessions[seat % self.sessions.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may run, and who may wait for it.
#[derive(Debug, Clone)]
struct Gate {
    places: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
}

/// Leave to run; hold it until the run has ended.
#[derive(Debug)]
pub struct Turn {
    _session: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Gate {
    fn new(sessions: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(sessions * (1 + WAITING))),
            sessions: Arc::new(Semaphore::new(sessions)),
        }
    }

    /// `None`: there is no place to wait. Whoever gives up while it waits leaves its place.
    async fn turn(&self) -> Option<Turn> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Turn {
            _session: Arc::clone(&self.sessions).acquire_owned().await.ok()?,
            _place: place,
        })
    }
}

/// Runs a few times and gives the median time.
fn warm(session: &mut Session, probe: &[Tensor], wanted: &[usize]) -> Result<Duration, LoadError> {
    let mut times = Vec::with_capacity(5);
    for _ in 0..5 {
        let start = Instant::now();
        session.run(probe, wanted).map_err(|error| LoadError(error.0))?;
        times.push(start.elapsed());
        if start.elapsed() > Duration::from_millis(100) {
            break;
        }
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_few_wait_for_each_session_one_more_is_refused_and_who_gives_up_leaves_its_place() {
        let gate = Gate::new(2);
        let mut context = Context::from_waker(Waker::noop());
        let mut asked: Vec<_> = (0..2 * (1 + WAITING)).map(|_| Box::pin(gate.turn())).collect();
        let mut running = Vec::new();
        asked.retain_mut(|turn| match turn.as_mut().poll(&mut context) {
            Poll::Ready(turn) => {
                running.push(turn.unwrap());
                false
            }
            Poll::Pending => true,
        });
        assert_eq!((running.len(), asked.len()), (2, 2 * WAITING));
        assert!(matches!(
            Box::pin(gate.turn()).as_mut().poll(&mut context),
            Poll::Ready(None)
        ));
        asked.pop();
        let mut late = Box::pin(gate.turn());
        assert!(
            late.as_mut().poll(&mut context).is_pending(),
            "it waits in the place that was left"
        );
        running.pop();
        assert!(
            asked[0].as_mut().poll(&mut context).is_ready(),
            "first come, first served"
        );
    }
}
