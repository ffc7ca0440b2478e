//! How long one call is worth waiting for, by two clocks: the child's CPU time and the wall's.
//!
//! Always holds: the caller looks again before either limit can be passed by much.

use std::time::{Duration, Instant};

use crate::arena::process::RunnerProcess;

/// How often a busy child's CPU clock is read, at least.
const LONGEST_LOOK_AWAY: Duration = Duration::from_millis(250);
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(2);

/// The two clocks of one call.
pub(super) struct Watch {
    started: Instant,
    cpu_before: Option<Duration>,
    cpu_limit: Duration,
    wall_limit: Duration,
    threads: u32,
    /// The child used more CPU time than it may.
    pub(super) overran: bool,
}

impl Watch {
    pub(super) fn start(process: &RunnerProcess, threads: u32, cpu_limit: Duration, wall_limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            cpu_before: process.cpu_time().ok(),
            cpu_limit,
            wall_limit,
            threads,
            overran: false,
        }
    }

    /// How long to look away: not past the limit of either clock.
    pub(super) fn wait(&mut self, process: &RunnerProcess) -> Option<Duration> {
        let before = self.cpu_before.unwrap_or_default();
        // A dead child has no clock; its channel tells so at the next read.
        let used = process
            .cpu_time()
            .map_or(Duration::ZERO, |now| now.saturating_sub(before));
        self.overran = used > self.cpu_limit;
        let left = self.wall_limit.checked_sub(self.started.elapsed())?;
        if self.overran {
            return None;
        }
        let cpu_left = self.cpu_limit.saturating_sub(used) / self.threads;
        Some(cpu_left.min(left).clamp(SHORTEST_LOOK_AWAY, LONGEST_LOOK_AWAY))
    }
}
