//! The two threads that start runners: those that answer clients, and those that run when nothing else wants the processor.
//!
//! Always holds: a runner's parent is one of these threads, which live as long as any handle or runner does. The kernel
//! ties "die with the parent" to the parent *thread*: a runner started from a passing thread would die with that. A runner
//! has the priority of its parent from its first instruction: to load a program and its libraries takes as long as many
//! requests, and those that crash are started again and again.
//! A runner is the very program that runs, also after its file was replaced: both sides must speak one wire form.
//! Leaves to others: what a runner does to itself before it loads a model (`runner`).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::confine::SandboxPolicy;
use super::process::RunnerProcess;
use super::runner;
use super::sandbox::{self, RunnerLimits};
use crate::model::runtime;

/// What a runner keeps of the gateway's environment: how to find ONNX Runtime.
const KEPT: [&str; 3] = ["ORT_DYLIB_PATH", "LD_LIBRARY_PATH", "DETHRONE_ONNXRUNTIME_SHA256"];

/// How to start a runner.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunnerSpec {
    /// Memory and scheduling.
    pub limits: RunnerLimits,
    /// Let its standard error through to the gateway's, for looking into a model's trouble.
    pub show_stderr: bool,
}

struct Order {
    spec: RunnerSpec,
    policy: SandboxPolicy,
    reply: Sender<io::Result<(Child, UnixStream)>>,
}

/// A handle to the spawning thread; clone it freely.
#[derive(Debug, Clone)]
pub struct Spawner {
    orders: Sender<Order>,
    idle_orders: Sender<Order>,
    policy: SandboxPolicy,
}

impl Spawner {
    /// Starts the threads. `runner_path` is the binary whose `runner` command is the child's side.
    #[must_use]
    pub fn start(runner_path: PathBuf) -> Self {
        let path = runner_path.clone();
        Self {
            orders: thread("spawner", move |queue| serve(&path, queue)),
            idle_orders: thread("idle spawner", move |queue| {
                // Where it cannot, each runner sees to that itself, and says so if that fails.
                let _ = sandbox::schedule_idle();
                serve(&runner_path, queue);
            }),
            policy: SandboxPolicy::default(),
        }
    }

    /// Its runners are confined so, or are none.
    #[must_use]
    pub fn with_policy(self, policy: SandboxPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Starts the threads for the running executable.
    ///
    /// # Errors
    /// The executable's path is not known.
    pub fn of_this_program() -> io::Result<Self> {
        // The kernel resolves it to the file that this process was started from, though another has taken its name.
        let itself = PathBuf::from("/proc/self/exe");
        if itself.exists() {
            return Ok(Self::start(itself));
        }
        std::env::current_exe().map(Self::start)
    }

    /// Starts a runner; it has no model yet.
    ///
    /// # Errors
    /// No process, no descriptors, or the thread is gone.
    pub fn spawn(&self, spec: RunnerSpec) -> io::Result<RunnerProcess> {
        let gone = || io::Error::other("the thread that starts runners is gone");
        let (reply, answer) = bounded(1);
        let policy = self.policy;
        let orders = if spec.limits.idle {
            &self.idle_orders
        } else {
            &self.orders
        };
        orders.send(Order { spec, policy, reply }).map_err(|_| gone())?;
        let (child, channel) = answer.recv().map_err(|_| gone())??;
        Ok(RunnerProcess::new(child, channel, spec.limits.idle, self.clone()))
    }
}

/// A thread that serves orders.
fn thread(name: &str, serve: impl FnOnce(&Receiver<Order>) + Send + 'static) -> Sender<Order> {
    let (orders, queue) = bounded(16);
    // Without the thread the queue is closed, and `spawn` says so.
    let _ = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || serve(&queue));
    orders
}

fn serve(path: &Path, queue: &Receiver<Order>) {
    for order in queue {
        let started = spawn(path, &order);
        if let Err(undelivered) = order.reply.send(started)
            && let Ok((mut child, _)) = undelivered.into_inner()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(path: &Path, Order { spec, policy, .. }: &Order) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let number = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |most| most.to_string());
    let mut command = Command::new(path);
    command
        .arg("runner")
        .arg(std::process::id().to_string())
        .arg(match spec.limits.idle {
            false => runner::NORMAL,
            true if crate::priority::do_requests_press() => runner::RESTING,
            true => runner::IDLE,
        })
        .arg(number(spec.limits.address_space_bytes))
        .arg(number(spec.limits.data_bytes))
        .arg(number(spec.limits.cpu_seconds))
        .arg(policy.name())
        .arg(runtime::started().map_or("-", |runtime| runtime.stamp.as_str()))
        .env_clear()
        .env("ORT_DISABLE_TELEMETRY", "1")
        // The allocator would map a GiB at once, used or not, and what is mapped counts towards the limit of memory.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(if spec.show_stderr {
            Stdio::inherit()
        } else {
            Stdio::null()
        });
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(runtime) = runtime::started() {
        // The same library: what lies beside the executable may have been replaced, or be gone, with it.
        command.env("ORT_DYLIB_PATH", &runtime.path);
    }
    command.spawn().map(|child| (child, ours))
}
