//! Asks a child process to end.
#![expect(
    unsafe_code,
    reason = "the standard library can only kill a child, not ask it to drain and end"
)]

use std::process::Child;

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
