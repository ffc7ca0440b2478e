//! A version loaded in this process, with its sessions.
//!
//! Always holds: a quick version runs on the thread that serves the request, on a session that few others want; a slow
//! one, and a request of many rows, runs on the version's own threads (`crew`). What happens where is decided once, by
//! what was measured at load, unless the settings say it.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::answer::outputs::Outputs;
use super::answer::{Begun, Which, rows};
use super::crew::{Crew, Task};
use super::execution::{Execution, Mode, Sharing};
use super::pace::{self, Pace, Probe};
use crate::batch::Batch;
use crate::config::ExecutionConfig;
use crate::error::{Error, Kind};
use crate::model::head::Head;
use crate::model::layout::Layout;
use crate::model::session::{self, Holding, LoadError, Memory, Session};
use crate::model::signature::Signature;
use crate::oip::Counters;
use crate::score::VersionNo;

/// Longer runs leave the threads that serve requests: below, the hand-over costs more than it frees.
const INLINE: Duration = Duration::from_micros(300);

/// Quicker runs have no intermediate results that would be worth keeping memory for.
const BRIEF: Duration = Duration::from_micros(50);

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

impl VersionInfo {
    /// The version as a whole number, for clients who know no other versions: its name where that is one, else its
    /// number in the ledger.
    #[must_use]
    pub fn number(&self) -> String {
        if !self.name.is_empty() && self.name.bytes().all(|digit| digit.is_ascii_digit()) {
            return self.name.clone();
        }
        self.no.0.to_string()
    }
}

/// A version with its sessions.
#[derive(Debug)]
pub struct Loaded {
    /// Who it is.
    pub info: Arc<VersionInfo>,
    /// How it runs.
    pub execution: Arc<Execution>,
    /// Sessions for runs on the threads that serve requests; none where runs take place elsewhere.
    seats: Arc<[Mutex<Session>]>,
    /// Threads for other runs; none where all take place here.
    crew: Option<Arc<Crew>>,
}

thread_local! {
    /// The session that this thread tries first.
    static SEAT: Cell<usize> = Cell::new(NEXT_SEAT.fetch_add(1, Ordering::Relaxed));
}
static NEXT_SEAT: AtomicUsize = AtomicUsize::new(0);

impl Loaded {
    /// Loads the file for so many workers, measures its runs on `probe` and decides how it runs. Every session is warm,
    /// so that the first request meets warm code and memory.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load(
        info: Arc<VersionInfo>,
        path: &Path,
        workers: usize,
        config: &ExecutionConfig,
        probe: Option<Probe<'_>>,
    ) -> Result<Self, LoadError> {
        let wanted = info.head.wanted();
        let large = session::is_large(path);
        let holding = match config.sessions.unwrap_or(workers) > 1 && large {
            true => session::holding(path)?,
            false => Holding::Own,
        };
        let shared = match &holding {
            Holding::Shared(weights) => Some(weights),
            Holding::Own | Holding::Large => None,
        };
        let sessions = config.sessions.unwrap_or(match holding {
            // More would be that many copies of it: those who know their memory can ask for them.
            Holding::Large => 1,
            Holding::Own | Holding::Shared(_) => workers.max(1),
        });
        let is_fewer = sessions < workers && config.sessions.is_none();
        let load = |memory| -> Result<(Session, Pace), LoadError> {
            let mut session = Session::load_with(path, &config.options, memory, shared)?;
            let pace = match probe {
                Some(probe) => Pace::measure(&mut session, probe, info.batched, wanted)?,
                None => Pace::default(),
            };
            Ok((session, pace))
        };
        let mut memory = if large || probe.is_none() {
            Memory::Kept
        } else {
            Memory::Fresh
        };
        let (mut first, mut pace) = load(memory)?;
        if memory == Memory::Fresh && pace.median > BRIEF {
            memory = Memory::Kept;
            drop(first);
            (first, pace) = load(memory)?;
        }
        let mode = Mode::decide(config, info.batched, pace.slow > INLINE || is_fewer);
        let aside = match mode {
            Mode::Inline if config.mode == crate::config::ExecutionMode::Inline => 0,
            Mode::Inline => sessions.div_ceil(2),
            Mode::Threads | Mode::Batch => sessions,
        };
        let seats = if mode == Mode::Inline { sessions } else { 0 };
        let mut all = vec![first];
        while all.len() < seats + aside {
            all.push(Session::load_with(path, &config.options, memory, shared)?);
        }
        if large {
            session::give_back();
        }
        if let Some(weights) = shared {
            weights.settle();
        }
        for session in all.iter_mut().skip(1) {
            if let Some(probe) = probe {
                pace::warm(session, probe.inputs, wanted)?;
            }
        }
        let max_batch = if info.batched { config.max_batch } else { 1 };
        let own = all.split_off(seats);
        let crew = (aside > 0)
            .then(|| Crew::start(&info.name, own, max_batch, pace.slow))
            .transpose();
        Ok(Self {
            crew: crew
                .map_err(|e| LoadError(format!("it got no threads: {e}")))?
                .map(Arc::new),
            seats: all.into_iter().map(Mutex::new).collect(),
            execution: Arc::new(Execution {
                mode,
                sessions,
                sharing: match holding {
                    Holding::Shared(_) => Sharing::Weights,
                    Holding::Large if is_fewer => Sharing::Fewer,
                    Holding::Own | Holding::Large => Sharing::None,
                },
                max_batch,
                memory,
                pace,
                config: config.clone(),
            }),
            info,
        })
    }

    /// The same sessions, asked and read in another way.
    #[must_use]
    pub fn with_info(&self, info: Arc<VersionInfo>) -> Self {
        Self {
            info,
            execution: Arc::clone(&self.execution),
            seats: Arc::clone(&self.seats),
            crew: self.crew.clone(),
        }
    }

    /// What the version makes of these rows.
    ///
    /// # Errors
    /// 429 when too many wait for it, 504 when the deadline passed while the rows waited.
    pub(super) async fn begin(
        &self,
        batch: &Arc<Batch>,
        which: Which,
        outputs: Outputs,
        deadline: Option<tokio::time::Instant>,
    ) -> Result<Begun, Error> {
        match &self.crew {
            Some(crew) if !self.is_quick(which.rows(batch)) => {
                let task = Task {
                    info: Arc::clone(&self.info),
                    batch: Arc::clone(batch),
                    which,
                    outputs,
                    deadline,
                };
                crew.ask(task).await
            }
            _ => self.here(batch, &which, &outputs),
        }
    }

    /// True when a run of so many rows may hold up a thread that serves requests.
    fn is_quick(&self, rows: usize) -> bool {
        self.execution.mode == Mode::Inline && self.execution.pace.of(rows) <= INLINE
    }

    fn here(&self, batch: &Batch, which: &Which, outputs: &Outputs) -> Result<Begun, Error> {
        let gone = || Error::new(Kind::NotReady, format!("version '{}' has no session", self.info.name));
        let mut session = self.session().ok_or_else(gone)?;
        Ok(rows::answer(&self.info, &mut *session, batch, which, outputs))
    }

    /// A free session, this thread's own if possible.
    fn session(&self) -> Option<MutexGuard<'_, Session>> {
        let seat = SEAT.with(Cell::get);
        let count = self.seats.len();
        for i in 0..count {
            match self.seats.get((seat + i) % count).map(Mutex::try_lock) {
                Some(Ok(session)) => return Some(session),
                Some(Err(TryLockError::Poisoned(poisoned))) => return Some(poisoned.into_inner()),
                Some(Err(TryLockError::WouldBlock)) | None => {}
            }
        }
        // More threads than sessions: wait for one's own.
        let own = self.seats.get(seat.checked_rem(count)?)?;
        Some(own.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
