//! What only the kernel can do for a runner: its only files with `unsafe` are this one and what lies beneath it.
//!
//! Always holds: every call here passes plain numbers or a pointer to a local that outlives the call.
//! Leaves to others: the order of the steps (`runner`). Linux only.
#![expect(
    unsafe_code,
    reason = "process attributes have no safe interface in the standard library"
)]

pub(super) mod turns;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What a runner may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerLimits {
    /// Address space, in bytes; `None`: as the parent.
    pub address_space_bytes: Option<u64>,
    /// Data segment and private mappings, in bytes; `None`: as the parent.
    pub data_bytes: Option<u64>,
    /// CPU time of its whole life, in seconds: for one that is to vet a file and no more. `None`: as the parent.
    pub cpu_seconds: Option<u64>,
    /// Runs only when nothing else wants the processor.
    pub idle: bool,
}

impl Default for RunnerLimits {
    fn default() -> Self {
        Self {
            address_space_bytes: None,
            data_bytes: None,
            cpu_seconds: None,
            idle: true,
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Has the kernel kill this process when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one number and touches no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(drop)
}

/// Closes everything but the three standard descriptors. Only for the start of a process, before anything is opened.
pub(super) fn close_inherited() {
    // SAFETY: closes descriptors that nothing in this process owns yet. Kernels without the call leave them open:
    // the parent opens everything close-on-exec, this is the second lock.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Gains no privileges any more, whatever program it starts: what filters and rules ask for.
pub(super) fn no_new_privs() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers and touches no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Whether it is so, by the kernel's word.
pub(super) fn has_no_new_privs() -> bool {
    // SAFETY: PR_GET_NO_NEW_PRIVS takes zeros and touches no memory.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// Has the C library read the locale that ONNX Runtime's operators on text go by, where the system has it: later there
/// is no file to read it from.
pub(super) fn read_locale() {
    // SAFETY: a name that lives across the call. The locale is never freed, and never used but by the C library, which
    // knows it by its name.
    let _ = unsafe { libc::newlocale(libc::LC_ALL_MASK, c"en_US.UTF-8".as_ptr(), std::ptr::null_mut()) };
}

/// No core files, and no more memory and time than given.
pub(super) fn limit(limits: &RunnerLimits) -> io::Result<()> {
    set_limit(libc::RLIMIT_CORE, 0)?;
    if let Some(bytes) = limits.address_space_bytes {
        set_limit(libc::RLIMIT_AS, bytes)?;
    }
    if let Some(bytes) = limits.data_bytes {
        set_limit(libc::RLIMIT_DATA, bytes)?;
    }
    if let Some(seconds) = limits.cpu_seconds {
        // At the first the kernel sends SIGXCPU, which says what it was; at the second it kills.
        set_limits(libc::RLIMIT_CPU, seconds, seconds.saturating_add(1))?;
    }
    Ok(())
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    set_limits(resource, value, value)
}

fn set_limits(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` lives across the call, which only reads it.
    checked(unsafe { libc::setrlimit(resource, &raw const limit) }).map(drop)
}

/// Gives way to everything else on the machine. Threads that start later inherit it; there is no way back.
pub(super) fn schedule_idle() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` lives across the call, which only reads it; 0 means the calling thread.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) }).map(drop)
}

/// Keeps other processes of the same user from reading this one's memory.
pub(super) fn undumpable() -> io::Result<()> {
    // SAFETY: PR_SET_DUMPABLE takes one number and touches no memory.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }).map(drop)
}

/// Asks a runner to end its run.
const HALT: libc::c_int = libc::SIGUSR1;

extern "C" fn halted(_: libc::c_int) {
    crate::model::session::halt();
}

/// Lets the parent end a run.
pub(super) fn take_halts() -> io::Result<()> {
    handle(HALT, halted)
}

/// Has a signal handled. Calls that wait go on after it.
fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all zeros are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` lives across the call, which only reads it; the handlers here do what a handler may.
    checked(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Does what may start threads: the parent's signal stays with this one.
pub(super) fn keeping_halts<T>(work: impl FnOnce() -> T) -> T {
    let mask = |how| {
        // SAFETY: all zeros are a valid set, which the next calls fill.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` lives across the three calls, which write it and read it.
        unsafe {
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, HALT);
            // Fails for an unknown `how` only.
            libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
        }
    };
    mask(libc::SIG_BLOCK);
    let done = work();
    mask(libc::SIG_UNBLOCK);
    done
}

/// Asks a child that is not reaped yet to end its run.
pub(super) fn ask_to_halt(pid: u32) {
    signal(pid, HALT);
}

fn signal(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes two numbers. Fails when the child is dead.
        let _ = unsafe { libc::kill(pid, signal) };
    }
}

/// Waits until a child that is not reaped yet has ended; false when it still runs after `timeout`.
pub(super) fn wait_exit(pid: u32, timeout: Duration) -> io::Result<bool> {
    // SAFETY: pidfd_open takes two numbers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) };
    let fd = checked(libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one `pollfd` that lives across the call.
    checked(unsafe { libc::poll(&raw mut poll, 1, timeout) }).map(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_new_privileges_is_in_force_for_the_thread_that_asked_for_it_and_for_no_other() {
        if has_no_new_privs() {
            eprintln!("\n!!! SKIPPED: the tests run without new privileges themselves: NOT TESTED !!!\n");
            return;
        }
        let asked = || no_new_privs().is_ok() && has_no_new_privs();
        assert!(std::thread::spawn(asked).join().unwrap());
        assert!(!has_no_new_privs());
    }

    #[test]
    fn a_child_is_waited_for_without_being_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!wait_exit(child.id(), Duration::from_millis(1)).unwrap());
        child.kill().unwrap();
        assert!(wait_exit(child.id(), Duration::from_secs(30)).unwrap());
        assert!(!child.wait().unwrap().success());
    }
}
