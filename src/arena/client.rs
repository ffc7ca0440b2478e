//! The gateway's side of one runner: ask, wait within bounds, and name what went wrong.
//!
//! Always holds: every call ends by its wall limit (time in which the gateway itself stood still is not counted), and
//! sooner when the child has used its CPU time (and a moment, for the child to end the run itself), or where the child is
//! vital and does nothing; after any fault but the model's own error, or a run that ended when it was asked to, the child is
//! dead; an answer that does not belong to the question is a fault.
//! Leaves to others: what a fault means for the rows (`challenger`) or the file (`admission::probe`).

mod watch;

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::watch::{Passed, Watch};
use super::channel::{Channel, ChannelError};
use super::confine::Confinement;
use super::mailbox::Mailbox;
use super::parcel::{PackError, Parcel};
use super::process::{Ending, RunnerProcess};
use super::wire::{self, Loaded, Reply, Request, WireError};
use crate::model::session::{Memory, SessionOptions};
use crate::model::tensor::Tensor;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunnerFault {
    /// The model's own error, in the runtime's words. The runner lives.
    #[error("{0}")]
    Model(String),
    /// It used more CPU time than it may.
    #[error("it used up its CPU time")]
    CpuOverrun,
    /// Time passed, but the child did not get the processor.
    #[error("it was starved of CPU time")]
    Starved,
    /// It was asked and neither answered nor wanted the processor: no busy machine is to blame.
    #[error("it was given work and slept on it")]
    Silent,
    /// The child brought about its own end: signal or exit code.
    #[error("it crashed ({0})")]
    Crashed(String),
    /// Somebody else ended the child: an operator, the OOM killer.
    #[error("it was ended from outside ({0})")]
    Killed(String),
    /// It answered something that is no answer.
    #[error("it broke the protocol: {0}")]
    Protocol(String),
    /// There is no runner at the moment.
    #[error("its runner is down: {0}")]
    Down(String),
}

/// Ends a call from another thread.
#[derive(Debug)]
pub struct Interrupter {
    interrupted: Arc<AtomicBool>,
    channel: UnixStream,
}

impl Interrupter {
    /// Ends the call that is under way, and all later ones, with [`RunnerFault::Down`].
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        // Fails only when the child has closed it already.
        let _ = self.channel.shutdown(Shutdown::Both);
    }
}

/// A run that was asked for, until it is answered.
#[derive(Debug)]
pub struct Pending {
    seq: u64,
    outputs: usize,
    watch: Watch,
}

/// A runner that can be asked.
#[derive(Debug)]
pub struct RunnerClient {
    process: RunnerProcess,
    channel: Channel,
    interrupted: Arc<AtomicBool>,
    threads: u32,
    /// Its runs are watched closely.
    is_vital: bool,
    seq: u64,
    dead: bool,
}

impl RunnerClient {
    /// Takes over a fresh runner.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(process: RunnerProcess) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::new(process.channel()?),
            process,
            interrupted: Arc::default(),
            threads: 1,
            is_vital: false,
            seq: 0,
            dead: false,
        })
    }

    /// Somebody waits for its answers who could have them from another: a run that is slept on, or stopped, is over within
    /// some tens of milliseconds and not at its wall limit.
    pub fn make_vital(&mut self) {
        self.is_vital = true;
    }

    /// From now on questions and answers, where they are small, go the quicker way, through memory.
    ///
    /// # Errors
    /// No descriptors or no memory left, or the runner's fault, within `wall`.
    pub fn share_memory(&mut self, wall: Duration) -> Result<(), RunnerFault> {
        let (mailbox, file) = Mailbox::create().map_err(|error| RunnerFault::Down(error.to_string()))?;
        match self.exchange(|out| Request::Mailbox.encode(out), Some(file.as_fd()), (wall, wall))? {
            Reply::Pong { .. } => self.channel.set_mailbox(mailbox),
            other => return Err(self.unasked(&other)),
        }
        Ok(())
    }

    /// A handle for another thread.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        Ok(Interrupter {
            interrupted: Arc::clone(&self.interrupted),
            channel: self.process.channel()?,
        })
    }

    /// The process behind it.
    #[must_use]
    pub fn process(&self) -> &RunnerProcess {
        &self.process
    }

    /// Asks whether the child serves, and what keeps it in.
    ///
    /// # Errors
    /// The fault, within `wall`.
    pub fn ping(&mut self, wall: Duration) -> Result<Confinement, RunnerFault> {
        match self.exchange(|out| Request::Ping.encode(out), None, (wall, wall))? {
            Reply::Pong { confinement } => Ok(confinement),
            other => Err(self.unasked(&other)),
        }
    }

    /// True while it can be asked: also after a run that took too long, where the run ended and the child did not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.dead
    }

    /// Looks whether the child has ended while nothing was asked of it.
    ///
    /// # Errors
    /// How it ended.
    pub fn check(&mut self) -> Result<(), RunnerFault> {
        if self.dead {
            return Err(RunnerFault::Down("it has ended".into()));
        }
        if !self.process.has_ended() {
            return Ok(());
        }
        let fault = self.ended();
        Err(self.bury(fault))
    }

    /// Loads a file. The child never sees its path: it gets the bytes, and those of the external data beside it.
    ///
    /// # Errors
    /// [`RunnerFault::Model`] in the runtime's words, or the runner's fault.
    pub fn load(
        &mut self,
        path: &Path,
        threads: u32,
        cpu_limit: Duration,
        wall_limit: Duration,
    ) -> Result<Loaded, RunnerFault> {
        let options = SessionOptions::threads(threads as usize);
        self.load_with(path, &options, Memory::Kept, (cpu_limit, wall_limit))
    }

    /// The same, to compute as these options say; a runner computes on the processor, whatever the providers are.
    ///
    /// # Errors
    /// As [`RunnerClient::load`].
    pub fn load_with(
        &mut self,
        path: &Path,
        options: &SessionOptions,
        memory: Memory,
        limits: (Duration, Duration),
    ) -> Result<Loaded, RunnerFault> {
        self.threads = u32::try_from(options.threads).unwrap_or(u32::MAX).max(1);
        let parcel = Parcel::pack(path).map_err(|error| match error {
            PackError::Model(reason) => RunnerFault::Model(reason),
            PackError::System(_) => RunnerFault::Down(error.to_string()),
        })?;
        let request = Request::Load {
            slips: parcel.slips().to_vec(),
            threads: self.threads,
            optimization: options.optimization,
            memory,
        };
        let file = Some(parcel.file().as_fd());
        match self.exchange(|out| request.encode(out), file, limits)? {
            Reply::Loaded(loaded) => Ok(*loaded),
            Reply::LoadFailed { reason } => Err(RunnerFault::Model(reason)),
            other => Err(self.unasked(&other)),
        }
    }

    /// Runs the loaded model; the outputs come in the order asked for.
    ///
    /// # Errors
    /// [`RunnerFault::Model`] when the model failed on these inputs, or the runner's fault.
    pub fn run(
        &mut self,
        inputs: &[Tensor],
        outputs: &[usize],
        cpu_limit: Duration,
        wall_limit: Duration,
    ) -> Result<Vec<Tensor>, RunnerFault> {
        let pending = self.ask(inputs, outputs, cpu_limit, wall_limit)?;
        self.finish(pending)
    }

    /// Asks for a run and does not wait for its answer, which the next call must ask for.
    ///
    /// # Errors
    /// As [`RunnerClient::run`].
    pub fn ask(
        &mut self,
        inputs: &[Tensor],
        outputs: &[usize],
        cpu_limit: Duration,
        wall_limit: Duration,
    ) -> Result<Pending, RunnerFault> {
        self.seq += 1;
        let seq = self.seq;
        let encode = |out: &mut Vec<u8>| wire::encode_run(out, seq, outputs, inputs);
        Ok(Pending {
            seq,
            outputs: outputs.len(),
            watch: self.send(encode, None, (cpu_limit, wall_limit), true)?,
        })
    }

    /// The answer, if it comes so soon. `None`: not yet, or the runner has ended, which [`RunnerClient::finish`] looks
    /// into at leisure; it is to be called then.
    pub fn glance(&mut self, pending: &Pending, patience: Duration) -> Option<Result<Vec<Tensor>, RunnerFault>> {
        let mut once = Some(patience);
        let frame = self.channel.receive(&mut || once.take()).ok()?;
        // What is no answer breaks the protocol, now or later.
        let reply = Reply::decode(frame);
        Some(self.read(reply, pending))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`RunnerClient::run`].
    pub fn finish(&mut self, mut pending: Pending) -> Result<Vec<Tensor>, RunnerFault> {
        let answer = self.channel.resume(&mut || pending.watch.wait(&self.process));
        let reply = match answer.map(Reply::decode) {
            Ok(reply) => reply,
            Err(error) => return Err(self.lost(error, &pending.watch)),
        };
        self.read(reply, &pending)
    }

    fn read(&mut self, reply: Result<Reply, WireError>, pending: &Pending) -> Result<Vec<Tensor>, RunnerFault> {
        let answer = match reply {
            Ok(Reply::Ran { seq, outputs }) if seq == pending.seq && outputs.len() == pending.outputs => Ok(outputs),
            Ok(Reply::RunFailed { seq, reason }) if seq == pending.seq => Err(RunnerFault::Model(reason)),
            Ok(other) => return Err(self.unasked(&other)),
            Err(error) => return Err(self.bury(RunnerFault::Protocol(error.to_string()))),
        };
        // Ended or not, it took too long.
        pending.watch.passed().map_or(answer, |which| Err(too_late(which)))
    }

    fn exchange(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        descriptor: Option<BorrowedFd<'_>>,
        limits: (Duration, Duration),
    ) -> Result<Reply, RunnerFault> {
        let mut watch = self.send(encode, descriptor, limits, false)?;
        let answer = self.channel.resume(&mut || watch.wait(&self.process));
        match answer.map(Reply::decode) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.bury(RunnerFault::Protocol(error.to_string()))),
            Err(error) => Err(self.lost(error, &watch)),
        }
    }

    fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        descriptor: Option<BorrowedFd<'_>>,
        limits: (Duration, Duration),
        haltable: bool,
    ) -> Result<Watch, RunnerFault> {
        if self.dead {
            return Err(RunnerFault::Down("it has ended".into()));
        }
        let mut watch = Watch::start(self.threads, limits, haltable);
        if self.is_vital && haltable {
            watch.closely();
        }
        let sent = self
            .channel
            .send_with(encode, descriptor, &mut || watch.wait(&self.process));
        match sent {
            Ok(()) => Ok(watch),
            Err(ChannelError::TooLarge(bytes)) => Err(RunnerFault::Model(format!(
                "its inputs are {bytes} bytes, more than one run may carry"
            ))),
            Err(error) => Err(self.lost(error, &watch)),
        }
    }

    /// The channel is of no more use: what that says of the runner, which is dead afterwards.
    fn lost(&mut self, error: ChannelError, watch: &Watch) -> RunnerFault {
        let fault = match error {
            // Also one that ended of being asked to end its run.
            ChannelError::GaveUp | ChannelError::Closed if let Some(which) = watch.passed() => too_late(which),
            ChannelError::GaveUp => RunnerFault::Starved,
            ChannelError::Closed => self.ended(),
            error => RunnerFault::Protocol(error.to_string()),
        };
        self.bury(fault)
    }

    fn ended(&mut self) -> RunnerFault {
        if self.interrupted.load(Ordering::SeqCst) {
            return RunnerFault::Down("it was stopped".into());
        }
        match self.process.ending() {
            Ending::Crashed(how) => RunnerFault::Crashed(how),
            Ending::Killed(how) => RunnerFault::Killed(how),
            Ending::Alive => RunnerFault::Protocol("it closed its channel and went on".into()),
        }
    }

    fn unasked(&mut self, reply: &Reply) -> RunnerFault {
        let what = match reply {
            Reply::Pong { .. } => "a pong",
            Reply::Loaded(_) | Reply::LoadFailed { .. } => "an answer to a load",
            Reply::Ran { .. } | Reply::RunFailed { .. } => "an answer to another run, or with other outputs",
        };
        self.bury(RunnerFault::Protocol(format!("{what} that was not asked for")))
    }

    fn bury(&mut self, fault: RunnerFault) -> RunnerFault {
        self.dead = true;
        self.process.kill();
        fault
    }
}

fn too_late(passed: Passed) -> RunnerFault {
    match passed {
        Passed::Cpu => RunnerFault::CpuOverrun,
        Passed::Wall => RunnerFault::Starved,
        Passed::Asleep => RunnerFault::Silent,
        Passed::Stopped => RunnerFault::Down("somebody has stopped it (SIGSTOP)".into()),
    }
}
