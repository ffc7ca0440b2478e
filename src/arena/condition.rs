//! What a child is doing, as the kernel shows it: whether it wants the processor, sleeps, or was stopped.
//!
//! Always holds: a child of which nothing can be read, and one that waits for the disk or for a debugger, counts as one
//! that wants the processor, which is held against nobody. Linux only.
//! Leaves to others: how often to look, and what follows (`client`).

use std::fs;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// A thread runs, or would if it got the processor.
    Wants,
    /// All threads sleep until somebody wakes them.
    Asleep,
    /// Somebody has stopped it.
    Stopped,
}

/// What a child does at this moment. Each of its threads is looked at: the one that waits for the others says nothing.
pub(super) fn of(pid: u32) -> Condition {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Condition::Wants;
    };
    let mut seen = Condition::Wants;
    for thread in threads.flatten() {
        seen = match fs::read(thread.path().join("stat")).ok().and_then(|stat| state(&stat)) {
            Some(b'S') => Condition::Asleep,
            Some(b'T') => Condition::Stopped,
            _ => return Condition::Wants,
        };
    }
    seen
}

/// The letter behind the name, which stands in parentheses and may hold any.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(end + 1..)?.iter().copied().find(|byte| *byte != b' ')
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    fn until(pid: u32, wanted: Condition) {
        let started = Instant::now();
        while of(pid) != wanted {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", of(pid));
            std::thread::yield_now();
        }
    }

    #[test]
    fn sleep_a_stop_and_work_are_told_apart() {
        let mut sleeper = shell("exec sleep 600");
        until(sleeper.id(), Condition::Asleep);
        let mut stopped = shell("kill -STOP $$");
        until(stopped.id(), Condition::Stopped);
        let mut busy = shell("while :; do :; done");
        until(busy.id(), Condition::Wants);
        for child in [&mut sleeper, &mut stopped, &mut busy] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(of(busy.id()), Condition::Wants, "nobody");
    }

    #[test]
    fn a_name_may_hold_what_looks_like_a_state() {
        assert_eq!(state(b"7 (a) S (b) R 1 2"), Some(b'R'));
        assert_eq!(state(b"7 (a"), None);
        assert_eq!(state(b"7 (a)"), None);
    }
}
