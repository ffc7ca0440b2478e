//! The processes of one version: who is free, who stands by, who is missing.
//!
//! Always holds: a process is with one borrower, or free, or the spare; a dead one is replaced by the spare before anybody
//! waits; what takes time (starting, ending, reaping) is done by the pool's own thread, with a pause that grows where
//! processes die without having answered anything. Dropping the pool ends them all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ProcessSpec;
use super::killers::Killers;
use crate::arena::client::{Interrupter, Pending};
use crate::arena::{RunnerClient, RunnerFault, RunnerSpec};
use crate::model::session::{Memory, SessionOptions};
use crate::model::tensor::Tensor;

/// How often those that are free are looked after.
const LOOK: Duration = Duration::from_secs(1);
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Runs that warm a process: the first ones take memory and code in.
const WARM_UP: usize = 3;

/// What a process computes when it is warmed.
#[derive(Debug, Clone, Default)]
pub(in crate::champion) struct WarmUp {
    pub(in crate::champion) inputs: Vec<Tensor>,
    pub(in crate::champion) outputs: Vec<usize>,
}

/// See the module. Dropping it ends the processes.
#[derive(Debug)]
pub(in crate::champion) struct Pool {
    shared: Arc<Shared>,
}

/// What the pool, its thread and its borrowers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spec: ProcessSpec,
    pub(super) killers: Killers,
    name: String,
    options: SessionOptions,
    memory: Memory,
    warm_up: WarmUp,
    state: Mutex<State>,
    /// A process came free.
    came: Condvar,
    /// There is work for the pool's thread.
    work: Condvar,
    /// A run was answered since the last start.
    answered: AtomicBool,
    restarts: AtomicU64,
    /// Ends the start that is under way.
    starting: Mutex<Option<Interrupter>>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<RunnerClient>,
    spare: Option<RunnerClient>,
    /// How many wait for one that is free.
    waiting: usize,
    /// How many are with borrowers.
    lent: usize,
    /// How many there should be beside the spare.
    wanted: usize,
    /// Dead, to be reaped.
    graves: Vec<RunnerClient>,
    pids: Vec<u32>,
    /// Why the last one ended.
    last_fault: Option<String>,
    closed: bool,
}

impl State {
    fn is_missing_one(&self) -> bool {
        self.spare.is_none() || self.free.len() + self.lent < self.wanted
    }

    fn bury(&mut self, dead: RunnerClient) {
        let pid = dead.process().pid();
        self.pids.retain(|&known| known != pid);
        self.graves.push(dead);
    }

    /// The spare, if it lives.
    fn take_spare(&mut self) -> Option<RunnerClient> {
        let mut spare = self.spare.take()?;
        match spare.check() {
            Ok(()) => Some(spare),
            Err(fault) => {
                self.last_fault = Some(fault.to_string());
                self.bury(spare);
                None
            }
        }
    }

    fn put(&mut self, runner: RunnerClient) {
        if self.free.len() + self.lent < self.wanted {
            self.free.push(runner);
        } else {
            self.spare = Some(runner);
        }
    }
}

/// A process on loan. It comes back when this is dropped, unless it is buried.
#[derive(Debug)]
pub(super) struct Seat {
    runner: Option<RunnerClient>,
    /// It was asked and has not answered: nobody else may have it.
    is_busy: bool,
    shared: Arc<Shared>,
}

impl Seat {
    fn new(runner: RunnerClient, shared: &Arc<Shared>) -> Self {
        Self {
            runner: Some(runner),
            is_busy: false,
            shared: Arc::clone(shared),
        }
    }

    pub(super) fn runner(&mut self) -> Option<&mut RunnerClient> {
        self.runner.as_mut()
    }

    /// Asks for a run of so many rows.
    pub(super) fn ask(&mut self, inputs: &[Tensor], outputs: &[usize], rows: usize) -> Result<Pending, RunnerFault> {
        let spec = &self.shared.spec;
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let cpu = spec.cpu_limit + ProcessSpec::PER_ROW.saturating_mul(rows);
        let gone = || RunnerFault::Down("it has ended".into());
        let runner = self.runner.as_mut().ok_or_else(gone)?;
        let asked = runner.ask(inputs, outputs, cpu, spec.wall_limit);
        // What is too large to be sent leaves it as it was.
        self.is_busy = !matches!(asked, Err(RunnerFault::Model(_)));
        asked
    }

    /// The run was answered: the next death is not for want of a process that can.
    pub(super) fn has_answered(&mut self) {
        self.is_busy = false;
        if !self.shared.answered.load(Ordering::Relaxed) {
            self.shared.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Gives a dead process up for the spare, or for whoever comes free before `until`.
    pub(super) fn replace(mut self, fault: &RunnerFault, until: Instant) -> Option<Self> {
        tracing::warn!(version = self.shared.name, %fault, "a process that runs the version has ended");
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        if let Some(dead) = self.runner.take() {
            state.last_fault = Some(fault.to_string());
            state.bury(dead);
        }
        shared.work.notify_one();
        // This loan goes on with the spare.
        self.runner = state.take_spare();
        self.is_busy = false;
        if self.runner.is_some() {
            return Some(self);
        }
        state.lent -= 1;
        drop(state);
        Shared::take(&shared, until)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(runner) = self.runner.take() else { return };
        let mut state = self.shared.state();
        state.lent -= 1;
        if state.closed {
            drop(state);
            // The runner is ended here.
            return;
        }
        if self.is_busy {
            state.bury(runner);
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        state.free.push(runner);
        let is_awaited = state.waiting > 0;
        drop(state);
        // A word to nobody is a system call all the same.
        if is_awaited {
            self.shared.came.notify_one();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free process, at once or never.
    pub(super) fn try_take(this: &Arc<Self>) -> Option<Seat> {
        let mut state = this.state();
        let runner = state.free.pop()?;
        state.lent += 1;
        Some(Seat::new(runner, this))
    }

    /// A free process, as soon as there is one.
    pub(super) fn take(this: &Arc<Self>, until: Instant) -> Option<Seat> {
        let mut state = this.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(runner) = state.free.pop() {
                state.lent += 1;
                return Some(Seat::new(runner, this));
            }
            let left = until.checked_duration_since(Instant::now())?;
            state.waiting += 1;
            state = this
                .came
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.waiting -= 1;
        }
    }

    /// Starts a process, loads the version and warms it.
    fn start_one(&self) -> Result<RunnerClient, RunnerFault> {
        let down = |error: std::io::Error| RunnerFault::Down(error.to_string());
        if let Some(folder) = self.spec.path.parent() {
            let whole = crate::intake::store::compare(folder, &self.spec.digest);
            whole.map_err(|error| RunnerFault::Down(error.to_string()))?;
        }
        let spec = RunnerSpec {
            limits: self.spec.limits(),
            show_stderr: false,
        };
        let mut runner = RunnerClient::new(self.spec.spawner.spawn(spec).map_err(down)?).map_err(down)?;
        *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner.interrupter().map_err(down)?);
        // Whoever closed the pool before the line above did not see this one.
        if self.state().closed {
            return Err(RunnerFault::Down("it was stopped".into()));
        }
        let (cpu, wall) = (ProcessSpec::LOAD, ProcessSpec::LOAD * 10);
        runner.load_with(&self.spec.path, &self.options, self.memory, (cpu, wall))?;
        runner.share_memory(wall)?;
        if !self.warm_up.inputs.is_empty() {
            for _ in 0..WARM_UP {
                match runner.run(&self.warm_up.inputs, &self.warm_up.outputs, cpu, wall) {
                    Ok(_) | Err(RunnerFault::Model(_)) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        runner.make_vital();
        Ok(runner)
    }

    /// Work for the pool's thread: whom to reap, and whether to start one. `None` once the pool is closed.
    fn next(&self, rest_until: Option<Instant>) -> Option<(Vec<RunnerClient>, bool)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let graves = std::mem::take(&mut state.graves);
            let rests = rest_until.is_some_and(|end| Instant::now() < end);
            let starts = state.is_missing_one() && !rests;
            if starts || !graves.is_empty() {
                return Some((graves, starts));
            }
            let timeout = match rest_until {
                Some(end) if rests => end.saturating_duration_since(Instant::now()).min(LOOK),
                _ => LOOK,
            };
            state = self
                .work
                .wait_timeout(state, timeout.max(Duration::from_millis(1)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            self.look_after(&mut state);
        }
    }

    /// Those that died while nothing was asked of them.
    fn look_after(&self, state: &mut State) {
        let free = std::mem::take(&mut state.free);
        for mut runner in free {
            match runner.check() {
                Ok(()) => state.free.push(runner),
                Err(fault) => {
                    tracing::warn!(version = self.name, %fault, "a process that runs the version has ended");
                    state.last_fault = Some(fault.to_string());
                    state.bury(runner);
                    if let Some(spare) = state.take_spare() {
                        state.free.push(spare);
                    }
                }
            }
        }
        if let Some(spare) = state.take_spare() {
            state.spare = Some(spare);
        }
    }

    fn serve(&self) {
        let mut rest = Duration::ZERO;
        let mut rest_until = None;
        while let Some((graves, starts)) = self.next(rest_until) {
            if starts {
                rest = match self.answered.swap(false, Ordering::Relaxed) {
                    true => Duration::ZERO,
                    false => (rest * 2).clamp(FIRST_REST, LONGEST_REST),
                };
                let started = self.start_one();
                *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = None;
                match started {
                    Ok(runner) => self.welcome(runner),
                    Err(fault) => {
                        tracing::error!(version = self.name, %fault, "a process could not be started; tried again");
                        rest = rest.max(FIRST_REST);
                    }
                }
                rest_until = Some(Instant::now() + rest);
            }
            // After the start, which somebody may wait for.
            drop(graves);
        }
        let mut state = self.state();
        let all = (
            std::mem::take(&mut state.free),
            state.spare.take(),
            std::mem::take(&mut state.graves),
        );
        drop(state);
        drop(all);
    }

    fn welcome(&self, runner: RunnerClient) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return;
        }
        state.pids.push(runner.process().pid());
        state.put(runner);
        drop(state);
        self.came.notify_all();
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.spec.metrics.runner_restarts.increment(1);
    }
}

impl Pool {
    /// The first process alone, so that it can be measured.
    ///
    /// # Errors
    /// Why it did not start.
    pub(in crate::champion) fn start(
        name: &str,
        spec: ProcessSpec,
        (options, memory): (SessionOptions, Memory),
        warm_up: WarmUp,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            spec,
            killers: Killers::default(),
            name: name.to_owned(),
            options,
            memory,
            warm_up,
            state: Mutex::default(),
            came: Condvar::new(),
            work: Condvar::new(),
            answered: AtomicBool::new(true),
            restarts: AtomicU64::new(0),
            starting: Mutex::default(),
        });
        let first = shared.start_one().map_err(|fault| fault.to_string())?;
        let mut state = shared.state();
        (state.wanted, state.pids) = (1, vec![first.process().pid()]);
        state.free.push(first);
        drop(state);
        Ok(Self { shared })
    }

    /// As many more as there are to be `wanted` and a spare, and the thread that looks after them.
    ///
    /// # Errors
    /// Why one did not start.
    pub(in crate::champion) fn fill(&self, wanted: usize) -> Result<(), String> {
        let shared = &self.shared;
        let started: Vec<Result<RunnerClient, String>> = std::thread::scope(|scope| {
            let start = || std::thread::Builder::new().spawn_scoped(scope, || shared.start_one());
            let starts: Vec<_> = (0..wanted).map(|_| start()).collect();
            let joined = starts.into_iter().map(|start| {
                let thread = start.map_err(|error| format!("it got no thread: {error}"))?;
                let started = thread.join().map_err(|_| "the start ended by a panic".to_owned())?;
                started.map_err(|fault| fault.to_string())
            });
            joined.collect()
        });
        *shared.starting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut state = shared.state();
        state.wanted = wanted;
        for one in started {
            let runner = one?;
            state.pids.push(runner.process().pid());
            state.put(runner);
        }
        drop(state);
        let thread = std::thread::Builder::new().name(format!("spare {}", shared.name));
        let kept = Arc::clone(shared);
        thread
            .spawn(move || kept.serve())
            .map(drop)
            .map_err(|error| format!("it got no thread: {error}"))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// True while rows are remembered that end processes.
    pub(in crate::champion) fn is_wary(&self) -> bool {
        self.shared.killers.any()
    }

    /// As the API shows it.
    pub(in crate::champion) fn view(&self) -> Value {
        let state = self.shared.state();
        let spare = state.spare.as_ref().map(|spare| spare.process().pid());
        let pids: Vec<u32> = state.pids.iter().copied().filter(|&pid| Some(pid) != spare).collect();
        json!({
            "mode": "process",
            "pids": pids,
            "spare": spare,
            "restarts": self.shared.restarts.load(Ordering::Relaxed),
            "last_fault": state.last_fault,
            "refused_rows": self.shared.killers.count(),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        // Where there is no thread yet they are ended here.
        drop(state);
        self.shared.came.notify_all();
        self.shared.work.notify_all();
        if let Some(starting) = &*self.shared.starting.lock().unwrap_or_else(PoisonError::into_inner) {
            starting.interrupt();
        }
    }
}
