//! The child's side: `dethrone runner`, a program of its own inside the same binary.
//!
//! Always holds: it serves one parent over its standard input, one request at a time, and ends with the parent; it is
//! confined before it is asked anything, and so before it sees a byte of a model.
//! Leaves to others: deadlines (the parent asks it to end a run, and kills it when it does not listen) and what the answers mean.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::channel::{Channel, ChannelError};
use super::confine::{Confinement, SandboxPolicy, confine_as};
use super::mailbox::Mailbox;
use super::parcel::{self, Slip};
use super::sandbox::{self, RunnerLimits, turns};
use super::wire::{Loaded, Reply, Request};
use crate::model::runtime;
use crate::model::session::{Memory, Optimization, Session, SessionOptions};
use crate::model::tensor::Tensor;

/// Schedules of a runner, as its arguments name them: as the gateway, after everybody else, and so with rests at first.
pub(super) const NORMAL: &str = "normal";
pub(super) const IDLE: &str = "idle";
pub(super) const RESTING: &str = "resting";

/// Runs until the parent closes the channel. `args` are those after `runner`.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let Some((parent, (limits, rests), policy)) = parse(&args) else {
        eprintln!("runner is the gateway's own child process and is not meant to be started by hand");
        return ExitCode::from(64);
    };
    match enter(parent, (&limits, rests), policy) {
        Ok((channel, confinement)) => serve(Channel::taking_descriptors(channel), confinement, limits.idle),
        Err(error) => {
            eprintln!("a runner could not restrict itself: {error}");
            ExitCode::from(71)
        }
    }
}

/// All the steps from a bare process to one that serves, in the order of `arena`. `rests`: an idle one does so at first.
///
/// # Errors
/// A step that failed; the process is of no use.
pub fn enter(
    parent: u32,
    (limits, rests): (&RunnerLimits, bool),
    policy: SandboxPolicy,
) -> io::Result<(UnixStream, Confinement)> {
    restrict(parent, limits, rests)?;
    let channel = standard_input()?;
    // A library that does not start says so at the load.
    let _ = runtime::start();
    sandbox::read_locale();
    sandbox::take_halts()?;
    let confinement = confine_as(policy)?;
    Ok((channel, confinement))
}

fn parse(args: &[String]) -> Option<(u32, (RunnerLimits, bool), SandboxPolicy)> {
    let [parent, schedule, address_space, data, cpu, policy, library] = args else {
        return None;
    };
    let bytes = |text: &String| match text.as_str() {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let (idle, rests) = match schedule.as_str() {
        NORMAL => (false, false),
        IDLE => (true, false),
        RESTING => (true, true),
        _ => return None,
    };
    let limits = RunnerLimits {
        address_space_bytes: bytes(address_space)?,
        data_bytes: bytes(data)?,
        cpu_seconds: bytes(cpu)?,
        idle,
    };
    let policy = [SandboxPolicy::Require, SandboxPolicy::Prefer]
        .into_iter()
        .find(|known| known.name() == policy)?;
    runtime::trust(library);
    Some((parent.parse().ok()?, (limits, rests), policy))
}

/// The order is `arena`'s.
fn restrict(parent: u32, limits: &RunnerLimits, rests: bool) -> io::Result<()> {
    sandbox::die_with_parent()?;
    if std::os::unix::process::parent_id() != parent {
        // It died before the line above: nobody will ever kill or use this process.
        return Err(io::Error::other("the gateway is gone"));
    }
    sandbox::close_inherited();
    sandbox::limit(limits)?;
    if limits.idle {
        sandbox::schedule_idle()?;
        turns::begin(rests)?;
    }
    // It was started as /proc/self/exe, and "exe" tells nobody in a list of processes or in the kernel's log who it is.
    let _ = std::fs::write("/proc/self/comm", "dethrone-runner");
    // The kernel's first choice when memory runs out, shadows before whoever answers clients, and these before the gateway.
    // Before `undumpable`, which takes the file away from us.
    let _ = std::fs::write("/proc/self/oom_score_adj", if limits.idle { "1000" } else { "500" });
    sandbox::undumpable()
}

fn standard_input() -> io::Result<UnixStream> {
    io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from)
}

fn serve(mut channel: Channel, confinement: Confinement, takes_turns: bool) -> ExitCode {
    let mut session = None;
    loop {
        let request = match work(&mut channel, takes_turns) {
            Ok(frame) => Request::decode(frame),
            Err(ChannelError::Closed) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::from(76),
        };
        let Ok(request) = request else {
            return ExitCode::from(76);
        };
        let reply = match request {
            Request::Ping => Reply::Pong { confinement },
            Request::Mailbox => {
                let Some(Ok(mailbox)) = channel.descriptor().as_ref().map(Mailbox::open) else {
                    return ExitCode::from(76);
                };
                if deliver(&mut channel, &Reply::Pong { confinement }).is_err() {
                    return ExitCode::from(76);
                }
                channel.set_mailbox(mailbox);
                continue;
            }
            Request::Load {
                slips,
                threads,
                optimization,
                memory,
            } => load(
                channel.descriptor(),
                &slips,
                (&options(threads, optimization), memory),
                &mut session,
            ),
            Request::Run { seq, outputs, inputs } => run(seq, &outputs, &inputs, session.as_mut()),
        };
        if deliver(&mut channel, &reply).is_err() {
            return ExitCode::from(76);
        }
    }
}

/// Waits for work.
fn work(channel: &mut Channel, takes_turns: bool) -> Result<&[u8], ChannelError> {
    if !takes_turns {
        return channel.receive(&mut Channel::forever);
    }
    turns::set_computes(false);
    let received = channel.receive(&mut Channel::forever);
    turns::set_computes(true);
    received
}

fn load(
    parcel: Option<OwnedFd>,
    slips: &[Slip],
    (options, memory): (&SessionOptions, Memory),
    session: &mut Option<Session>,
) -> Reply {
    match sandbox::keeping_halts(|| parcel::load(parcel, slips, options, memory)) {
        Ok(loaded) => {
            let reply = Loaded {
                signature: loaded.signature().clone(),
                metadata: loaded.metadata().clone(),
            };
            *session = Some(loaded);
            Reply::Loaded(Box::new(reply))
        }
        Err(error) => Reply::LoadFailed {
            reason: error.to_string(),
        },
    }
}

fn run(seq: u64, outputs: &[u32], inputs: &[Tensor], session: Option<&mut Session>) -> Reply {
    let wanted: Vec<usize> = outputs.iter().map(|&o| o as usize).collect();
    let result = match session {
        Some(session) => session.run_haltable(inputs, &wanted).map_err(|error| error.to_string()),
        None => Err("no model is loaded".to_owned()),
    };
    match result {
        Ok(outputs) => Reply::Ran { seq, outputs },
        Err(reason) => Reply::RunFailed { seq, reason },
    }
}

fn options(threads: u32, optimization: Optimization) -> SessionOptions {
    SessionOptions {
        optimization,
        ..SessionOptions::threads(threads as usize)
    }
}

fn deliver(channel: &mut Channel, reply: &Reply) -> Result<(), ChannelError> {
    match (channel.send(|out| reply.encode(out), &mut Channel::forever), reply) {
        (Err(ChannelError::TooLarge(bytes)), Reply::Ran { seq, .. }) => {
            let reason = format!("its outputs are {bytes} bytes, more than one answer may carry");
            let seq = *seq;
            channel.send(
                |out| Reply::RunFailed { seq, reason }.encode(out),
                &mut Channel::forever,
            )
        }
        (result, _) => result,
    }
}
