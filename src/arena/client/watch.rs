//! How long one call is worth waiting for, by two clocks: the child's CPU time and the wall's; and what is done then.
//!
//! Always holds: the caller looks again before either limit can be passed by much; past a limit the child is asked to end
//! its run, and the call goes on for a grace, after which nobody waits any more. A call that is answered at once reads no
//! clock of the child, which would cost more system calls than the call itself: the CPU time of the first moments, before
//! the first look, is not counted.

use std::time::{Duration, Instant};

use crate::arena::process::RunnerProcess;

/// When a call that was not answered yet is looked after first.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often a busy child's CPU clock is read, at least.
const LONGEST_LOOK_AWAY: Duration = Duration::from_millis(250);
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(2);
/// How long a run that used too much may take to end; one operator of a model may take longer than anybody waits.
const GRACE: Duration = Duration::from_millis(100);
/// The same for one that got too little: it needs the processor to listen.
const STARVED_GRACE: Duration = Duration::from_secs(1);

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// The child used more CPU time than it may.
    Cpu,
    /// Time passed, and the child did not get the processor.
    Wall,
}

/// The two clocks of one call.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    /// At the first look.
    cpu_before: Option<Duration>,
    cpu_limit: Duration,
    wall_limit: Duration,
    threads: u32,
    /// The call is a run, which can be ended.
    haltable: bool,
    passed: Option<(Passed, Instant)>,
}

impl Watch {
    pub(super) fn start(threads: u32, (cpu_limit, wall_limit): (Duration, Duration), haltable: bool) -> Self {
        Self {
            started: Instant::now(),
            cpu_before: None,
            cpu_limit,
            wall_limit,
            threads,
            haltable,
            passed: None,
        }
    }

    /// The limit that was passed, if one was: an answer that comes then comes too late.
    pub(super) fn passed(&self) -> Option<Passed> {
        self.passed.map(|(which, _)| which)
    }

    /// How long to look away: not past the limit of either clock.
    pub(super) fn wait(&mut self, process: &RunnerProcess) -> Option<Duration> {
        if self.passed.is_none() {
            match self.left(process) {
                Ok(left) => {
                    let longest = match self.cpu_before {
                        None => FIRST_LOOK,
                        Some(_) => LONGEST_LOOK_AWAY,
                    };
                    return Some(left.clamp(SHORTEST_LOOK_AWAY, longest));
                }
                Err(which) => self.passed = Some((which, Instant::now())),
            }
        }
        let (which, since) = self.passed?;
        let grace = match which {
            _ if !self.haltable => Duration::ZERO,
            Passed::Cpu => GRACE,
            Passed::Wall => STARVED_GRACE,
        };
        let left = grace.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        // Each time anew: it may have been about to begin.
        process.ask_to_halt();
        Some(left.clamp(SHORTEST_LOOK_AWAY, 4 * SHORTEST_LOOK_AWAY))
    }

    fn left(&mut self, process: &RunnerProcess) -> Result<Duration, Passed> {
        let elapsed = self.started.elapsed();
        let used = if elapsed < SHORTEST_LOOK_AWAY && self.cpu_before.is_none() {
            Duration::ZERO
        } else {
            // A dead child has no clock; its channel tells so at the next read.
            let now = process.cpu_time().ok();
            let before = *self.cpu_before.get_or_insert(now.unwrap_or_default());
            now.unwrap_or_default().saturating_sub(before)
        };
        if used > self.cpu_limit {
            return Err(Passed::Cpu);
        }
        let left = self.wall_limit.checked_sub(elapsed).ok_or(Passed::Wall)?;
        let cpu_left = self.cpu_limit.saturating_sub(used) / self.threads;
        Ok(cpu_left.min(left))
    }
}
