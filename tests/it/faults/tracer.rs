//! `strace` on a running gateway: faults at chosen system calls, and a record of what was written and synced.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Gateway, until};

/// A tracer; it lets go when this goes.
pub(super) struct Tracer(Child);

/// Whether there is one that may trace.
pub(super) fn works() -> bool {
    let output = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    output.is_ok_and(|output| output.status.success())
}

impl Tracer {
    /// Attaches to all threads, with these further arguments.
    pub(super) fn attach(gateway: &Gateway, out: &Path, args: &[&str]) -> Self {
        let pid = gateway.pid();
        let child = Command::new("strace")
            .args(["-f", "-qq", "-p", &pid.to_string(), "-o"])
            .arg(out)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("every thread is traced", || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let is_traced = |thread: std::io::Result<std::fs::DirEntry>| {
                let Ok(thread) = thread else { return true };
                let about = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                about.is_empty() || !about.contains("TracerPid:\t0\n")
            };
            threads.into_iter().all(is_traced).then_some(())
        });
        Self(child)
    }

    /// Lets go, and waits until it has.
    pub(super) fn end(mut self) {
        self.interrupt();
    }

    fn interrupt(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.interrupt();
    }
}
