//! Asks a child process to end; sees to it that it does when nobody is left to ask.
#![expect(
    unsafe_code,
    reason = "the standard library can only kill a child: not ask it to drain and end, nor bind it to its parent"
)]

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Sends SIGTERM to a child that has not been waited for.
pub(super) fn terminate(child: &Child) {
    let Ok(id) = libc::pid_t::try_from(child.id()) else {
        return;
    };
    // SAFETY: kill takes two integers and touches no memory of ours. The id is that of our own child: it was not
    // waited for yet (the caller holds it), so that the number cannot have passed to another process.
    unsafe {
        libc::kill(id, libc::SIGTERM);
    }
}

/// The kernel sends SIGTERM to the child when the thread that starts it ends, were it by SIGKILL. Where the kernel is
/// another than Linux the child is on its own then.
pub(super) fn end_with_this_thread(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let bind = move || {
            // SAFETY: prctl takes numbers here and getppid nothing; neither touches memory.
            let (bound, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
            if bound != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have ended before the kernel was told.
            if u32::try_from(now) != Ok(parent) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: between fork and exec only these two system calls run; the closure allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(bind);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
