//! One runner as a process: its channel, its end, its memory.
//!
//! Always holds: a runner that is dropped is dead and reaped; its pid is not reused before that.
//! Leaves to others: what is said on the channel (`client`), how the child restricts itself (`runner`).

use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use super::condition::{self, Condition};
use super::sandbox::{self, turns};
use super::spawner::Spawner;

/// How long an ending process may take to become a zombie after it closed its channel.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// How a runner ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A signal that a program brings upon itself, or an exit code: named.
    Crashed(String),
    /// A signal that somebody else sends (an operator, the OOM killer): named.
    Killed(String),
    /// It closed its channel and lived on.
    Alive,
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct RunnerProcess {
    child: Child,
    channel: UnixStream,
    idle: bool,
    /// The spawning thread must outlive the child: the child dies with it.
    _spawner: Spawner,
}

impl RunnerProcess {
    pub(super) fn new(child: Child, channel: UnixStream, idle: bool, spawner: Spawner) -> Self {
        Self {
            child,
            channel,
            idle,
            _spawner: spawner,
        }
    }

    /// Process id, valid until the value is dropped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Another handle to the parent's end of the channel.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn channel(&self) -> io::Result<UnixStream> {
        self.channel.try_clone()
    }

    /// CPU time that the child's threads have used.
    ///
    /// # Errors
    /// The child was reaped.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        crate::time::cpu::of_child(self.pid())
    }

    /// What the child is doing at this moment.
    pub(super) fn condition(&self) -> Condition {
        condition::of(self.pid())
    }

    /// The most memory the child ever held, in bytes.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }

    /// True when the child is dead; it is reaped later.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        sandbox::wait_exit(self.pid(), Duration::ZERO).unwrap_or(true)
    }

    /// Asks the child to end its run and go on.
    pub(super) fn ask_to_halt(&self) {
        sandbox::ask_to_halt(self.pid());
    }

    /// Has a child of idle priority rest between its turns for a while, where requests press.
    pub(super) fn let_rest(&self) {
        if self.idle && crate::priority::do_requests_press() {
            turns::tell_to_rest(self.pid());
        }
    }

    /// Ends the child and reaps it.
    pub fn kill(&mut self) {
        // Both can only fail when the child is reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How the child ended, after its channel closed. It is dead and reaped afterwards in any case.
    pub fn ending(&mut self) -> Ending {
        let by_itself = sandbox::wait_exit(self.pid(), LAST_BREATH).unwrap_or(false);
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) if by_itself => named(status),
            _ => Ending::Alive,
        }
    }
}

impl Drop for RunnerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn named(status: ExitStatus) -> Ending {
    let Some(signal) = status.signal() else {
        return Ending::Crashed(format!("exit code {}", status.code().unwrap_or(-1)));
    };
    let name = match signal {
        libc::SIGABRT => "SIGABRT".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGFPE => "SIGFPE".to_owned(),
        libc::SIGILL => "SIGILL".to_owned(),
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGSYS => "SIGSYS".to_owned(),
        libc::SIGTRAP => "SIGTRAP".to_owned(),
        libc::SIGXCPU => "SIGXCPU".to_owned(),
        libc::SIGKILL => return Ending::Killed("SIGKILL".to_owned()),
        libc::SIGTERM => return Ending::Killed("SIGTERM".to_owned()),
        libc::SIGINT => return Ending::Killed("SIGINT".to_owned()),
        libc::SIGHUP => return Ending::Killed("SIGHUP".to_owned()),
        libc::SIGQUIT => return Ending::Killed("SIGQUIT".to_owned()),
        other => format!("signal {other}"),
    };
    Ending::Crashed(name)
}
