//! How long one call is worth waiting for, by two clocks: the child's CPU time and the wall's.
//!
//! Always holds: the caller looks again before either limit can be passed by much. A call that is answered at once reads no
//! clock of the child, which would cost more system calls than the call itself: the CPU time of the first moments, before
//! the first look, is not counted.

use std::time::{Duration, Instant};

use crate::arena::process::RunnerProcess;

/// When a call that was not answered yet is looked after first.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often a busy child's CPU clock is read, at least.
const LONGEST_LOOK_AWAY: Duration = Duration::from_millis(250);
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(2);

/// The two clocks of one call.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    /// At the first look.
    cpu_before: Option<Duration>,
    cpu_limit: Duration,
    wall_limit: Duration,
    threads: u32,
    /// The child used more CPU time than it may.
    pub(super) overran: bool,
}

impl Watch {
    pub(super) fn start(threads: u32, cpu_limit: Duration, wall_limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            cpu_before: None,
            cpu_limit,
            wall_limit,
            threads,
            overran: false,
        }
    }

    /// How long to look away: not past the limit of either clock.
    pub(super) fn wait(&mut self, process: &RunnerProcess) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let left = self.wall_limit.checked_sub(elapsed)?;
        let used = if elapsed < SHORTEST_LOOK_AWAY && self.cpu_before.is_none() {
            Duration::ZERO
        } else {
            // A dead child has no clock; its channel tells so at the next read.
            let now = process.cpu_time().ok();
            let before = *self.cpu_before.get_or_insert(now.unwrap_or_default());
            now.unwrap_or_default().saturating_sub(before)
        };
        self.overran = used > self.cpu_limit;
        if self.overran {
            return None;
        }
        let longest = match self.cpu_before {
            None => FIRST_LOOK,
            Some(_) => LONGEST_LOOK_AWAY,
        };
        let cpu_left = self.cpu_limit.saturating_sub(used) / self.threads;
        Some(cpu_left.min(left).clamp(SHORTEST_LOOK_AWAY, longest))
    }
}
