//! How long one call is worth waiting for, by two clocks: the child's CPU time and the wall's; and what is done then.
//!
//! Always holds: the caller looks again before either limit can be passed by much; past a limit the child is asked to end
//! its run, and the call goes on for a grace, after which nobody waits any more. A call that is answered at once reads no
//! clock of the child, which would cost more system calls than the call itself: the CPU time of the first moments, before
//! the first look, is not counted.
//!
//! A child that gets too little of the processor waits for it; one that sleeps does not want it. What it does is looked at
//! while it is waited for, so that a busy machine can be told from a child that is silent. A child that answers between
//! two looks is heard before the second: whoever is found doing nothing several times in a row had nothing to say.
//!
//! Time in which the gateway itself stood still (a machine that is moved, a debugger, SIGSTOP) is nobody's: the answer may
//! have been there all along.

use std::time::{Duration, Instant};

use crate::arena::condition::Condition;
use crate::arena::process::RunnerProcess;

/// When a call that was not answered yet is looked after first.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often a busy child's CPU clock is read, at least.
const LONGEST_LOOK_AWAY: Duration = Duration::from_millis(250);
/// The same for one that somebody else could stand in for.
const LONGEST_LOOK_AWAY_CLOSELY: Duration = Duration::from_millis(50);
const SHORTEST_LOOK_AWAY: Duration = Duration::from_millis(2);
/// How soon a child is looked at again that did nothing, and no sooner: it is to have the time to be woken.
const SECOND_LOOK: Duration = Duration::from_millis(10);
/// So often in a row a vital child does nothing, without a moment of the processor, before another one is asked.
const NOTHING_CLOSELY: u32 = 3;
/// Who has used a larger part of the time since the last look rested, and did not sleep.
const LEAST_OF_A_REST: u32 = 64;
/// Fewer looks say nothing of a child, however long it took.
const FEWEST_LOOKS: u32 = 3;
/// How long a run that used too much may take to end; one operator of a model may take longer than anybody waits.
const GRACE: Duration = Duration::from_millis(100);
/// The same for one that got too little: it needs the processor to listen.
const STARVED_GRACE: Duration = Duration::from_secs(1);

/// Who looks again so much later than it wanted to did not run itself meanwhile.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// The child used more CPU time than it may.
    Cpu,
    /// Time passed, and the child did not get the processor.
    Wall,
    /// Time passed, and the child did not want the processor.
    Asleep,
    /// Somebody has stopped the child.
    Stopped,
}

/// The two clocks of one call.
#[derive(Debug)]
pub(super) struct Watch {
    wall: Wall,
    /// At the first look.
    cpu_before: Option<Duration>,
    cpu_limit: Duration,
    wall_limit: Duration,
    threads: u32,
    /// The call is a run, which can be ended.
    haltable: bool,
    /// Nothing is waited for that does nothing.
    closely: bool,
    doing: Doing,
    passed: Option<(Passed, Instant)>,
}

/// The wall's clock, less the time in which nobody here could read it.
#[derive(Debug)]
struct Wall {
    started: Instant,
    /// When the next look is due.
    due: Instant,
    stood_still: Duration,
}

impl Wall {
    fn start(now: Instant) -> Self {
        Self {
            started: now,
            due: now,
            stood_still: Duration::ZERO,
        }
    }

    /// How long the call has taken.
    fn read(&mut self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.due);
        if late > STOOD_STILL {
            self.stood_still += late;
        }
        self.due = now;
        now.saturating_duration_since(self.started)
            .saturating_sub(self.stood_still)
    }

    /// The next look is so far away.
    fn look_away(&mut self, time: Duration) {
        self.due = self.due.checked_add(time).unwrap_or(self.due);
    }
}

/// What the child was seen doing.
#[derive(Debug, Default)]
struct Doing {
    looked: Option<Instant>,
    looks: u32,
    /// Looks at which it did nothing.
    nothing: u32,
    /// The same in a row, and the CPU time that it had used by then.
    in_a_row: u32,
    used: Duration,
}

impl Doing {
    /// It is found so, `since` the look before, and has used so much of the processor in all.
    fn note(&mut self, condition: Condition, used: Duration, since: Duration) {
        self.looks += 1;
        let is_nothing = condition != Condition::Wants;
        let goes_on = is_nothing && self.in_a_row > 0 && used == self.used;
        // It may rest between its turns.
        let rests = used.saturating_sub(self.used) > since / LEAST_OF_A_REST;
        self.nothing += u32::from(is_nothing && !rests);
        self.in_a_row = match goes_on {
            true => self.in_a_row + 1,
            false => u32::from(is_nothing),
        };
        self.used = used;
    }

    /// It did nothing for most of the time. One that computes and is kept from it wants the processor at every look.
    fn was_silent(&self) -> bool {
        self.looks >= FEWEST_LOOKS && self.nothing > self.looks / 2
    }
}

impl Watch {
    pub(super) fn start(threads: u32, (cpu_limit, wall_limit): (Duration, Duration), haltable: bool) -> Self {
        Self {
            wall: Wall::start(Instant::now()),
            cpu_before: None,
            cpu_limit,
            wall_limit,
            threads,
            haltable,
            closely: false,
            doing: Doing::default(),
            passed: None,
        }
    }

    /// From now on nothing is waited for that does nothing.
    pub(super) fn closely(&mut self) {
        self.closely = true;
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
                    let time = left.clamp(SHORTEST_LOOK_AWAY, self.longest_look_away());
                    self.wall.look_away(time);
                    if self.doing.looked.is_some() {
                        process.let_rest();
                    }
                    return Some(time);
                }
                Err(which) => self.passed = Some((which, Instant::now())),
            }
        }
        let (which, since) = self.passed?;
        let grace = match which {
            _ if !self.haltable => Duration::ZERO,
            Passed::Cpu => GRACE,
            Passed::Wall => STARVED_GRACE,
            // It does not listen, either.
            Passed::Asleep | Passed::Stopped => Duration::ZERO,
        };
        let left = grace.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        // Each time anew: it may have been about to begin.
        process.ask_to_halt();
        Some(left.clamp(SHORTEST_LOOK_AWAY, 4 * SHORTEST_LOOK_AWAY))
    }

    fn longest_look_away(&self) -> Duration {
        match self.doing.looked {
            None => FIRST_LOOK,
            Some(_) if self.doing.in_a_row > 0 => SECOND_LOOK,
            Some(_) if self.closely => LONGEST_LOOK_AWAY_CLOSELY,
            Some(_) => LONGEST_LOOK_AWAY,
        }
    }

    fn left(&mut self, process: &RunnerProcess) -> Result<Duration, Passed> {
        let elapsed = self.wall.read(Instant::now());
        let used = if elapsed < SHORTEST_LOOK_AWAY && self.cpu_before.is_none() {
            Duration::ZERO
        } else {
            // A dead child has no clock; its channel tells so at the next read.
            let now = process.cpu_time().ok();
            let before = *self.cpu_before.get_or_insert(now.unwrap_or_default());
            let used = now.unwrap_or_default().saturating_sub(before);
            self.look(process, used)?;
            used
        };
        if used > self.cpu_limit {
            return Err(Passed::Cpu);
        }
        let left = self
            .wall_limit
            .checked_sub(elapsed)
            .ok_or(match self.doing.was_silent() {
                true => Passed::Asleep,
                false => Passed::Wall,
            })?;
        let cpu_left = self.cpu_limit.saturating_sub(used) / self.threads;
        Ok(cpu_left.min(left))
    }

    fn look(&mut self, process: &RunnerProcess, used: Duration) -> Result<(), Passed> {
        let now = Instant::now();
        let since = self.doing.looked.unwrap_or(self.wall.started);
        let since = now.saturating_duration_since(since);
        if since < SECOND_LOOK {
            return Ok(());
        }
        self.doing.looked = Some(now);
        let condition = process.condition();
        self.doing.note(condition, used, since);
        match condition {
            Condition::Stopped if self.closely && self.doing.in_a_row > 1 => Err(Passed::Stopped),
            Condition::Asleep if self.closely && self.doing.in_a_row >= NOTHING_CLOSELY => Err(Passed::Asleep),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From one look to the next.
    const LOOK: Duration = Duration::from_millis(250);

    #[test]
    fn time_in_which_the_gateway_stood_still_is_not_counted_and_that_of_a_busy_machine_is() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut wall = Wall::start(start);
        assert_eq!(wall.read(at(0)), Duration::ZERO);
        wall.look_away(Duration::from_millis(250));
        // Half a second late, as on a machine with too much to do: it is the run's time.
        assert_eq!(wall.read(at(750)), Duration::from_millis(750));
        wall.look_away(Duration::from_millis(250));
        // Five seconds late.
        assert_eq!(wall.read(at(6_000)), Duration::from_millis(1_000));
        wall.look_away(Duration::from_millis(250));
        // Sooner than asked for: bytes came.
        assert_eq!(wall.read(at(6_100)), Duration::from_millis(1_100));
        // Before the first look, while the question was sent.
        let mut wall = Wall::start(start);
        assert_eq!(wall.read(at(5_000)), Duration::ZERO);
        wall.look_away(Duration::MAX);
        assert_eq!(wall.read(at(5_100)), Duration::from_millis(100));
    }

    #[test]
    fn one_that_wants_the_processor_is_never_called_silent_however_little_it_gets() {
        let mut doing = Doing::default();
        for _ in 0..1_000 {
            doing.note(Condition::Wants, Duration::ZERO, LOOK);
            assert!(!doing.was_silent() && doing.in_a_row == 0);
        }
        // For a moment it slept.
        (0..400).for_each(|_| doing.note(Condition::Asleep, Duration::ZERO, LOOK));
        assert!(!doing.was_silent());
    }

    #[test]
    fn one_that_sleeps_is_silent_also_where_it_wakes_now_and_then() {
        let mut doing = Doing::default();
        for look in 0..100 {
            doing.note(Condition::Asleep, Duration::from_micros(look), LOOK);
            doing.note(Condition::Stopped, Duration::from_micros(look), LOOK);
            doing.note(Condition::Wants, Duration::from_micros(look), LOOK);
        }
        assert!(doing.was_silent());
        assert_eq!(doing.in_a_row, 0);
        let used = Duration::from_micros(100);
        (0..2).for_each(|_| doing.note(Condition::Asleep, used, LOOK));
        assert_eq!(doing.in_a_row, 2);
        doing.note(Condition::Asleep, used + Duration::from_nanos(1), LOOK);
        assert_eq!(doing.in_a_row, 1, "it did something meanwhile");
        let mut young = Doing::default();
        (0..2).for_each(|_| young.note(Condition::Asleep, used, LOOK));
        assert!(!young.was_silent(), "two looks are no evidence");
        let mut resting = Doing::default();
        (1..=400).for_each(|look| resting.note(Condition::Asleep, look * LOOK / 4, LOOK));
        assert!(!resting.was_silent(), "a quarter of the time it computed");
    }
}
