//! A version loaded in this process: one session per worker, so that no request waits for another's.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::model::head::Head;
use crate::model::layout::Layout;
use crate::model::session::{LoadError, RunError, Session};
use crate::model::signature::Signature;
use crate::model::tensor::Tensor;
use crate::score::VersionNo;

/// Longer runs leave the async workers: below, the hand-over costs more than it frees.
const INLINE: Duration = Duration::from_micros(300);

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
}

/// A version with its sessions.
#[derive(Debug)]
pub struct Loaded {
    /// Who it is.
    pub info: Arc<VersionInfo>,
    sessions: Arc<[Mutex<Session>]>,
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

    /// Runs rows `rows` of the batch, computing only `outputs`.
    ///
    /// # Errors
    /// A row that is not covered, or the runtime's own words.
    pub fn run(&self, batch: &Batch, rows: Range<usize>, outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let feeds = self.info.layout.feeds(&[(batch, rows)]).map_err(RunError)?;
        self.session().run(&feeds, outputs)
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
