//! A version loaded to answer: with its sessions in this process, or with processes of its own (`boxed`).
//!
//! Always holds: a quick version runs on the thread that serves the request, on a session that few others want; a slow
//! one, and a request of many rows, runs on the version's own threads (`crew`). What happens where is decided once, by
//! what was measured at load, unless the settings say it.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answer::outputs::Outputs;
use super::answer::{Begun, Which, rows};
use super::boxed::{Pool, ProcessSpec, Quick, Resume, WarmUp, Worker};
use super::crew::{Crew, Task};
use super::execution::{Execution, Mode, Sharing};
use super::pace::{self, Pace, Probe};
use super::tripwire::Faults;
use crate::batch::Batch;
use crate::config::ExecutionConfig;
use crate::error::{Error, Kind};
use crate::model::head::Head;
use crate::model::layout::Layout;
use crate::model::session::{self, Holding, LoadError, Memory, Session};
use crate::model::signature::Signature;
use crate::oip::Counters;
use crate::score::VersionNo;
use crate::time::cpu;

/// Longer runs leave the threads that serve requests: below, the hand-over costs more than it frees.
const INLINE: Duration = Duration::from_micros(300);

/// Quicker runs have no intermediate results that would be worth keeping memory for.
const BRIEF: Duration = Duration::from_micros(50);

/// What the way to a process and back adds to a run, on a machine that does other work too.
const WAY: Duration = Duration::from_micros(100);

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
    /// Rows that it could not answer as champion, since it was loaded first.
    pub faults: Arc<Faults>,
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

/// So many processes run a version beside the spare, unless the settings say another number: each has its own copy of the
/// model and of the runtime.
const PROCESSES: usize = 4;

/// A version with its sessions, or its processes.
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
    /// Processes for all runs; none where they take place in this one.
    pool: Option<Arc<Pool>>,
}

/// Sessions that are warm, and what was measured of them.
struct Ready {
    all: Vec<Session>,
    /// How many are for the threads that serve requests.
    seats: usize,
    sessions: usize,
    sharing: Sharing,
    memory: Memory,
    pace: Pace,
    mode: Mode,
}

impl Ready {
    fn load(
        info: &VersionInfo,
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
        let clock = match config.options.is_of_one_thread() {
            true => cpu::of_this_thread,
            false => pace::wall,
        };
        let load = |memory| -> Result<(Session, Pace), LoadError> {
            let mut session = Session::load_with(path, &config.options, memory, shared)?;
            let pace = match probe {
                Some(probe) => Pace::measure(&mut session, probe, (info.batched, wanted), clock)?,
                None => Pace::default(),
            };
            Ok((session, pace))
        };
        let mut memory = at_first(large, probe);
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
                pace::warm(session, (probe.inputs, probe.rows), wanted)?;
            }
        }
        Ok(Self {
            all,
            seats,
            sessions,
            sharing: match holding {
                Holding::Shared(_) => Sharing::Weights,
                Holding::Large if is_fewer => Sharing::Fewer,
                Holding::Own | Holding::Large => Sharing::None,
            },
            memory,
            pace,
            mode,
        })
    }
}

/// How a version is tried first.
fn at_first(is_large: bool, probe: Option<Probe<'_>>) -> Memory {
    match is_large || probe.is_none() {
        true => Memory::Kept,
        false => Memory::Fresh,
    }
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
        let loading = || Ready::load(&info, path, workers, config, probe);
        // Threads that a session starts keep the priority of the thread that loads it.
        let ready = match config.options.is_of_one_thread() {
            true => pace::gently(loading)
                .ok_or_else(|| LoadError("it could not be loaded: there was no thread for it, or a panic".into()))?,
            false => loading(),
        };
        let Ready {
            mut all,
            seats,
            sessions,
            sharing,
            memory,
            pace,
            mode,
        } = ready?;
        let aside = all.len() - seats;
        let max_batch = if info.batched { config.max_batch } else { 1 };
        let own = all.split_off(seats);
        let crew = (aside > 0)
            .then(|| Crew::start(&info.name, own, max_batch, pace))
            .transpose();
        Ok(Self {
            crew: crew
                .map_err(|e| LoadError(format!("it got no threads: {e}")))?
                .map(Arc::new),
            seats: all.into_iter().map(Mutex::new).collect(),
            execution: Arc::new(Execution {
                mode,
                sessions,
                sharing,
                max_batch,
                memory,
                pace,
                timed: OnceLock::new(),
                config: config.clone(),
            }),
            info,
            pool: None,
        })
    }

    /// Starts processes that run the version, measures its runs in one of them on `probe` and decides how it is asked.
    /// Every process is warm, the spare too.
    ///
    /// # Errors
    /// The runtime's own words, or why there are no processes.
    pub fn load_apart(
        info: Arc<VersionInfo>,
        spec: ProcessSpec,
        workers: usize,
        config: &ExecutionConfig,
        probe: Option<Probe<'_>>,
    ) -> Result<Self, LoadError> {
        let wanted = info.head.wanted();
        let is_large = session::is_large(&spec.path);
        let sessions = config.sessions.unwrap_or(match is_large {
            // Processes cannot share weights.
            true => 1,
            false => workers.clamp(1, PROCESSES),
        });
        let warm_up = WarmUp {
            inputs: probe.map(|probe| probe.inputs.to_vec()).unwrap_or_default(),
            outputs: wanted.to_vec(),
        };
        let start = |memory| -> Result<(Pool, Pace), LoadError> {
            let how = (config.options.clone(), memory);
            let pool = Pool::start(&info.name, spec.clone(), how, warm_up.clone()).map_err(LoadError)?;
            let pace = match probe {
                Some(probe) => Pace::measure(&mut Worker::new(&pool), probe, (info.batched, wanted), pace::wall)?,
                None => Pace::default(),
            };
            Ok((pool, pace))
        };
        let mut memory = at_first(is_large, probe);
        let (mut pool, mut pace) = start(memory)?;
        if memory == Memory::Fresh && pace.median > BRIEF + WAY {
            memory = Memory::Kept;
            drop(pool);
            (pool, pace) = start(memory)?;
        }
        pool.fill(sessions).map_err(LoadError)?;
        let max_batch = if info.batched { config.max_batch } else { 1 };
        let own: Vec<Worker> = (0..sessions).map(|_| Worker::new(&pool)).collect();
        let crew = Crew::start(&info.name, own, max_batch, pace);
        Ok(Self {
            crew: Some(Arc::new(
                crew.map_err(|e| LoadError(format!("it got no threads: {e}")))?,
            )),
            seats: Arc::default(),
            execution: Arc::new(Execution {
                mode: Mode::decide(config, info.batched, pace.slow > INLINE),
                sessions,
                sharing: match is_large && config.sessions.is_none() && sessions < workers {
                    true => Sharing::Fewer,
                    false => Sharing::None,
                },
                max_batch,
                memory,
                pace,
                timed: OnceLock::new(),
                config: config.clone(),
            }),
            info,
            pool: Some(Arc::new(pool)),
        })
    }

    /// How many processes run it, the spare too; none where it runs in this one.
    #[must_use]
    pub fn processes(&self) -> u64 {
        let wanted = u64::try_from(self.execution.sessions).unwrap_or(u64::MAX);
        self.pool.as_ref().map_or(0, |_| wanted.saturating_add(1))
    }

    /// Requests that wait for a session.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.crew.as_ref().map_or(0, |crew| crew.waiting())
    }

    /// How and where it runs, as the API shows it.
    #[must_use]
    pub fn view(&self) -> Value {
        let mut view = self.execution.view();
        let isolation = self
            .pool
            .as_ref()
            .map_or_else(|| json!({"mode": "inline"}), |pool| pool.view());
        if let Some(view) = view.as_object_mut() {
            view.insert("isolation".into(), isolation);
        }
        view
    }

    /// The same sessions, asked and read in another way.
    #[must_use]
    pub fn with_info(&self, info: Arc<VersionInfo>) -> Self {
        Self {
            info,
            execution: Arc::clone(&self.execution),
            seats: Arc::clone(&self.seats),
            crew: self.crew.clone(),
            pool: self.pool.clone(),
        }
    }

    /// What the version makes of these rows. Where its processes have ended, it has so much `patience` for another one;
    /// `None`: as long as anybody waits for the rows.
    ///
    /// # Errors
    /// 429 when too many wait for it, 504 when the deadline passed while the rows waited.
    pub(super) async fn begin(
        &self,
        batch: &Arc<Batch>,
        which: Which,
        outputs: Outputs,
        (deadline, patience): (Option<tokio::time::Instant>, Option<Duration>),
    ) -> Result<Begun, Error> {
        let is_quick = self.is_quick(which.rows(batch));
        let mut resume = None;
        if let Some(pool) = self.pool.as_ref().filter(|_| is_quick) {
            match self.glance(pool, batch, &which, &outputs) {
                Ok(begun) => return Ok(begun),
                Err(rest) => resume = rest,
            }
        }
        match &self.crew {
            Some(crew) if !is_quick || self.pool.is_some() => {
                let task = Task {
                    info: Arc::clone(&self.info),
                    batch: Arc::clone(batch),
                    which,
                    outputs,
                    deadline,
                    patience,
                    resume,
                };
                crew.ask(task).await
            }
            _ => self.here(batch, &which, &outputs),
        }
    }

    /// One quick run in a process, from this thread. Where none is free, or the answer is not there at once, or it takes
    /// more than one run, it is for the crew, with what was begun.
    fn glance(
        &self,
        pool: &Pool,
        batch: &Batch,
        which: &Which,
        outputs: &Outputs,
    ) -> Result<Begun, Option<Box<Resume>>> {
        let rows = which.rows(batch);
        let is_one_run =
            rows == 1 || matches!(which, Which::All) && rows::may_share(&self.info, batch) && !pool.is_wary();
        let mut quick = Quick::new(pool).filter(|_| is_one_run).ok_or(None)?;
        let start = Instant::now();
        let mut begun = rows::answer(&self.info, &mut quick, batch, which, outputs);
        begun.compute = start.elapsed();
        if quick.is_done() {
            return Ok(begun);
        }
        Err(quick.into_rest())
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
