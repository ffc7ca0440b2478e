//! The life of a challenger's runner: one method per state, a loop that alternates them.
//!
//! starting → serving → (fault) → resting → starting …; too many faults of the model's own → quarantined; → stopped.
//!
//! Always holds: a row leaves this file once, in one report; a merged run that fails is taken apart, so that a row is
//! only blamed for what it did alone; a runner that was ended from outside, or got too little of a busy machine, costs
//! rows, never blame.
//! Leaves to others: what happens in a run (`runs`), limits within a call (`client`).

mod runs;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, select_biased};

use super::rows::{Backlog, Row};
use super::{Ask, CLOSED, ChallengerSpec, RunnerEvent, ShadowReport, ShadowWork, Shared};
use crate::arena::client::{RunnerClient, RunnerFault};
use crate::arena::spawner::{RunnerSpec, Spawner};
use crate::interference::{Member, Pass};
use crate::score::{Outcome, Shed};

const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// How often a runner without work is looked after.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether shadows may go on.
const CALM_LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether shadow work may begin.
const GATE_LOOK: Duration = Duration::from_millis(20);
/// A model has one thread in its runner: it is to use what is left over, not to be fast.
const THREADS: u32 = 1;

/// The driver's ends of all channels.
pub(super) struct Lanes {
    pub(super) work: Receiver<ShadowWork>,
    pub(super) foreground: Receiver<Ask>,
    /// Closed when the handle stops.
    pub(super) stop: Receiver<()>,
    pub(super) sink: Sender<ShadowReport>,
    pub(super) events: Sender<RunnerEvent>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "one for each challenger, moved a few times in the life of a runner"
)]
enum State {
    Starting,
    Serving(RunnerClient),
    Resting,
    Quarantined,
    Stopped,
}

enum Job {
    Ask(Ask),
    Rows(Vec<Row>, Pass),
    Look,
    Stop,
}

pub(super) struct Driver {
    spec: ChallengerSpec,
    /// Whoever rules the gate knows of this driver.
    _member: Member,
    spawner: Spawner,
    shared: Arc<Shared>,
    lanes: Lanes,
    backlog: Backlog,
    /// Rows of a merged run that failed, to be run one by one.
    suspects: VecDeque<Row>,
    /// A merged run ended the runner and no row has been found guilty yet.
    unblamed: bool,
    strikes: u32,
    /// Runs in a row that the runner slept on.
    silences: u32,
    rest: Duration,
    /// Why the last runner ended; `None` before the first.
    last: Option<String>,
    /// The row that the last fault was of, where it was one row's.
    offender: Option<i64>,
}

impl Driver {
    pub(super) fn new(spec: ChallengerSpec, spawner: Spawner, shared: Arc<Shared>, lanes: Lanes) -> Self {
        Self {
            _member: spec.gate.join(),
            spec,
            spawner,
            shared,
            lanes,
            backlog: Backlog::default(),
            suspects: VecDeque::new(),
            unblamed: false,
            strikes: 0,
            silences: 0,
            rest: FIRST_REST,
            last: None,
            offender: None,
        }
    }

    pub(super) fn drive(mut self) {
        let mut state = State::Starting;
        loop {
            state = match state {
                State::Starting => self.start(),
                State::Serving(runner) => self.serve(runner),
                State::Resting => self.rest(),
                State::Quarantined => self.quarantine(),
                State::Stopped => break,
            };
        }
        self.leave();
    }

    fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    fn start(&mut self) -> State {
        self.offender = None;
        if let Some(reason) = self.damage() {
            let version = self.spec.version;
            self.last = Some(reason.clone());
            self.tell(RunnerEvent::NoBytes { version, reason });
            return State::Resting;
        }
        match self.started() {
            Ok(runner) => {
                self.shared.pid.store(runner.process().pid(), Ordering::Relaxed);
                self.shared.up.store(true, Ordering::Relaxed);
                let version = self.spec.version;
                match self.last.clone() {
                    None => self.tell(RunnerEvent::Ready { version }),
                    Some(reason) => {
                        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
                        self.tell(RunnerEvent::Restarted { version, reason });
                    }
                }
                State::Serving(runner)
            }
            // It was loaded at its admission: a file that no longer does is as good as a crash.
            Err(RunnerFault::Model(reason)) => self.fallen(&RunnerFault::Crashed(reason)),
            Err(fault) => self.fallen(&fault),
        }
    }

    /// What is wrong with the bytes that are to be loaded.
    fn damage(&self) -> Option<String> {
        let digest = self.spec.digest.as_ref()?;
        let folder = self.spec.path.parent()?;
        crate::intake::store::compare(folder, digest)
            .err()
            .map(|error| error.to_string())
    }

    fn started(&mut self) -> Result<RunnerClient, RunnerFault> {
        let down = |error: std::io::Error| RunnerFault::Down(error.to_string());
        let spec = RunnerSpec {
            limits: self.spec.limits,
            show_stderr: false,
        };
        let process = self.spawner.spawn(spec).map_err(down)?;
        let mut runner = RunnerClient::new(process).map_err(down)?;
        let interrupter = runner.interrupter().map_err(down)?;
        *self.shared.interrupter.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupter);
        // Whoever stopped before the line above did not see this runner.
        if self.stopping() {
            return Err(RunnerFault::Down("it was stopped".into()));
        }
        let cpu = self.spec.load_cpu_limit;
        runner.load(&self.spec.path, THREADS, cpu, (cpu * 10).max(self.spec.wall_limit))?;
        Ok(runner)
    }

    fn serve(&mut self, mut runner: RunnerClient) -> State {
        loop {
            let fault = match self.next() {
                Job::Stop => return State::Stopped,
                Job::Ask(ask) => self.answer(&mut runner, ask),
                Job::Rows(rows, pass) => self.charged(&mut runner, rows, &pass),
                Job::Look => {
                    self.offender = None;
                    runner.check().err()
                }
            };
            match fault {
                None => {}
                Some(fault) if runner.is_alive() => {
                    self.last = Some(fault.to_string());
                    if self.counts(&fault) {
                        return State::Quarantined;
                    }
                }
                Some(fault) => return self.fallen(&fault),
            }
            // Together they crash, alone they do not: the version's fault all the same.
            if self.suspects.is_empty() && std::mem::take(&mut self.unblamed) && self.strike() {
                return State::Quarantined;
            }
        }
    }

    /// What to do next; waits only when nothing is there, and not for long.
    fn next(&mut self) -> Job {
        if self.stopping() {
            return Job::Stop;
        }
        if let Ok(ask) = self.lanes.foreground.try_recv() {
            return Job::Ask(ask);
        }
        if self.spec.pressure.is_high() {
            return self.wait_for_calm(CALM_LOOK);
        }
        if self.suspects.is_empty() && self.backlog.rows() == 0 {
            select_biased! {
                recv(self.lanes.stop) -> _ => return Job::Stop,
                recv(self.lanes.foreground) -> ask => return ask.map_or(Job::Stop, Job::Ask),
                recv(self.lanes.work) -> work => match work {
                    Ok(work) => self.backlog.push(work),
                    Err(_) => return Job::Stop,
                },
                default(LOOK) => return Job::Look,
            }
        }
        let Some(pass) = self.spec.gate.enter() else {
            return self.wait_for_calm(self.spec.gate.wait(GATE_LOOK));
        };
        if let Some(row) = self.suspects.pop_front() {
            return Job::Rows(vec![row], pass);
        }
        let most = if self.spec.batched {
            self.spec.max_batch.max(1)
        } else {
            1
        };
        while self.backlog.rows() < most
            && let Ok(work) = self.lanes.work.try_recv()
        {
            self.backlog.push(work);
        }
        Job::Rows(self.take(most), pass)
    }

    /// One run, for which the processor's time is paid where it is short.
    fn charged(&mut self, runner: &mut RunnerClient, rows: Vec<Row>, pass: &Pass) -> Option<RunnerFault> {
        if !pass.is_charged() {
            return self.shadow(runner, rows);
        }
        let (count, before, started) = (rows.len(), runner.process().cpu_time().ok(), Instant::now());
        let fault = self.shadow(runner, rows);
        let used = before.zip(runner.process().cpu_time().ok());
        // A child that has ended has no clock any more.
        let took = used.map_or_else(|| started.elapsed(), |(before, after)| after.saturating_sub(before));
        pass.pay(took, count);
        fault
    }

    /// Runs nothing but pinned requests: rows wait, and new ones are refused at the offer.
    fn wait_for_calm(&self, look: Duration) -> Job {
        select_biased! {
            recv(self.lanes.stop) -> _ => Job::Stop,
            recv(self.lanes.foreground) -> ask => ask.map_or(Job::Stop, Job::Ask),
            default(look) => Job::Look,
        }
    }

    fn take(&mut self, most: usize) -> Vec<Row> {
        let rows = self.backlog.take(most);
        self.shared.rows.fetch_sub(rows.len(), Ordering::SeqCst);
        rows
    }

    fn strike(&mut self) -> bool {
        self.strikes += 1;
        self.strikes >= self.spec.crashes_allowed
    }

    fn down(&self) {
        self.shared.up.store(false, Ordering::Relaxed);
        self.shared.pid.store(0, Ordering::Relaxed);
        *self.shared.interrupter.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The runner is gone: where to go from here.
    fn fallen(&mut self, fault: &RunnerFault) -> State {
        self.down();
        if self.stopping() {
            return State::Stopped;
        }
        self.last = Some(fault.to_string());
        if self.counts(fault) {
            return State::Quarantined;
        }
        State::Resting
    }

    /// Counts a fault of the version's own; true when it was one too many.
    fn counts(&mut self, fault: &RunnerFault) -> bool {
        if matches!(fault, RunnerFault::Silent) {
            self.silences += 1;
            return self.silences >= self.spec.crashes_allowed;
        }
        // While the rows of a merged run are suspects, the fault is not counted twice.
        if !own_fault(fault) || !self.suspects.is_empty() && self.unblamed {
            return false;
        }
        self.unblamed = false;
        self.strike()
    }

    fn rest(&mut self) -> State {
        let until = Instant::now() + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
        loop {
            select_biased! {
                recv(self.lanes.stop) -> _ => return State::Stopped,
                recv(self.lanes.foreground) -> ask => match ask {
                    Ok(ask) => self.decline(ask),
                    Err(_) => return State::Stopped,
                },
                default(until.saturating_duration_since(Instant::now())) => return State::Starting,
            }
        }
    }

    fn quarantine(&mut self) -> State {
        self.down();
        let reason = self.why_quarantined();
        let version = self.spec.version;
        self.tell(RunnerEvent::Quarantine { version, reason });
        self.shed_taken(Shed::RunnerDown);
        loop {
            select_biased! {
                recv(self.lanes.stop) -> _ => return State::Stopped,
                recv(self.lanes.foreground) -> ask => match ask {
                    Ok(ask) => self.decline(ask),
                    Err(_) => return State::Stopped,
                },
                recv(self.lanes.work) -> work => match work {
                    Ok(work) => {
                        self.backlog.push(work);
                        self.shed_taken(Shed::RunnerDown);
                    }
                    Err(_) => return State::Stopped,
                },
            }
        }
    }

    /// What it did, how often, and on which row the last time.
    fn why_quarantined(&self) -> String {
        let last = self.last.clone().unwrap_or_default();
        let (strikes, silences) = (self.strikes, self.silences);
        match self.offender {
            _ if silences >= self.spec.crashes_allowed => {
                format!("{last} {silences} times in a row, though it could have had the processor")
            }
            Some(row) => format!("{last}, on row {row} the last time; faults counted: {strikes}"),
            None => format!("{last}; faults counted: {strikes}"),
        }
    }

    fn decline(&self, ask: Ask) {
        let reason = self.last.clone().unwrap_or_else(|| "it is not ready yet".into());
        let _ = ask.reply.send(Err(RunnerFault::Down(reason)));
    }

    /// Reports what the driver holds as shed.
    fn shed_taken(&mut self, why: Shed) {
        let rows = self.take(usize::MAX);
        let rows = self.suspects.drain(..).chain(rows);
        let outcomes = rows.map(|row| (row.id, Outcome::Shed(why))).collect();
        self.report(outcomes, Duration::ZERO);
    }

    /// Reports what still waits. The count is closed: once it is zero, no offer is under way.
    fn leave(mut self) {
        self.down();
        while let Ok(ask) = self.lanes.foreground.try_recv() {
            self.decline(ask);
        }
        loop {
            self.shed_taken(Shed::Left);
            match self.lanes.work.try_recv() {
                Ok(work) => self.backlog.push(work),
                Err(_) if self.shared.rows.load(Ordering::SeqCst) & !CLOSED == 0 => return,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn report(&self, outcomes: Vec<(i64, Outcome)>, compute: Duration) {
        if outcomes.is_empty() {
            return;
        }
        let version = self.spec.version;
        // Nobody to tell: the gateway is shutting down.
        let _ = self.lanes.sink.send(ShadowReport {
            version,
            outcomes,
            compute,
        });
    }

    /// Waits for room, but not past the stop: the reader of events may be the one that stops us.
    fn tell(&self, event: RunnerEvent) {
        let Err(TrySendError::Full(event)) = self.lanes.events.try_send(event) else {
            return;
        };
        select_biased! {
            send(self.lanes.events, event) -> _ => {}
            recv(self.lanes.stop) -> _ => {}
        }
    }
}

/// Faults that the version answers for.
fn own_fault(fault: &RunnerFault) -> bool {
    matches!(
        fault,
        RunnerFault::CpuOverrun | RunnerFault::Crashed(_) | RunnerFault::Protocol(_)
    )
}
