//! `strace` on a running gateway: faults at chosen system calls, and a record of what was written and synced.

use std::path::{Path, PathBuf};
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
    /// Attaches to the thread that writes the ledger, with these further arguments.
    pub(super) fn attach(gateway: &Gateway, out: &Path, args: &[&str]) -> Self {
        let threads = PathBuf::from(format!("/proc/{}/task", gateway.pid()));
        let is_recorder =
            |thread: &PathBuf| std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "recorder");
        let threads = std::fs::read_dir(threads)
            .unwrap()
            .flatten()
            .map(|thread| thread.path());
        let thread = threads.into_iter().find(is_recorder).unwrap();
        let id = thread.file_name().unwrap().to_string_lossy().into_owned();
        let child = Command::new("strace")
            .args(["-qq", "-p", &id, "-o"])
            .arg(out)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("it is traced", || {
            let about = std::fs::read_to_string(thread.join("status")).unwrap_or_default();
            (!about.is_empty() && !about.contains("TracerPid:\t0\n")).then_some(())
        });
        Self(child)
    }

    /// Lets go, and waits until it has.
    pub(super) fn end(mut self) {
        self.interrupt();
    }

    fn interrupt(&mut self) {
        let pid = self.0.id().to_string();
        // It may have ended with what it traced.
        let _ = Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.interrupt();
    }
}
