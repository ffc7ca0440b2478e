//! Whether shadow work may begin: not in a quiet stretch, and only as much as its share of the processors' time allows.
//!
//! Always holds: at a full share and outside quiet stretches asking is three atomic operations of the driver's thread and
//! nothing is measured; a quiet stretch that sees no run under way sees none begin until it ends. A share is kept over all
//! challengers together: each run delays the next one of anybody, so that the processors rest in one piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A full share, in millionths.
const FULL: u32 = 1_000_000;
/// A run delays the next one by so much at most, however long it took.
const LONGEST_REST_US: u64 = 60_000_000;
/// Rows that may wait for a challenger however small the share is.
const LEAST_ROOM: usize = 64;
/// A run as short as this delays a request by no more, however often it comes: it is long ones that make a tail.
const BRIEF: Duration = Duration::from_micros(300);
/// A row of a brief run delays the next run by so much at most: 2,000 rows a second, as many as the recorder takes whatever
/// they cost, are shadowed at any share.
const BRIEF_REST: Duration = Duration::from_micros(500);

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// A quiet stretch.
    held: AtomicBool,
    /// Millionths of the processors' time.
    share: AtomicU32,
    /// Microseconds after `start` from which on the next run may begin.
    next: AtomicU64,
    running: AtomicUsize,
    members: AtomicUsize,
    start: Instant,
    processors: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }
}

impl Gate {
    /// Open, with a full share of so many processors.
    #[must_use]
    pub fn new(processors: usize) -> Self {
        Self {
            held: AtomicBool::new(false),
            share: AtomicU32::new(FULL),
            next: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            start: Instant::now(),
            processors: f64::from(u32::try_from(processors.max(1)).unwrap_or(u32::MAX)),
        }
    }

    /// A challenger that asks here, until the value goes.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Member {
        self.members.fetch_add(1, Ordering::SeqCst);
        Member(Arc::clone(self))
    }

    /// Lets a run begin, if one may.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
        // Counted before it is asked: whoever holds the gate and sees nobody running has seen all.
        self.running.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(Arc::clone(self));
        let may = !self.held.load(Ordering::SeqCst) && (!self.is_slowed() || self.now() >= self.next());
        may.then_some(pass)
    }

    /// How long to wait before asking again.
    #[must_use]
    pub fn wait(&self, longest: Duration) -> Duration {
        if self.held.load(Ordering::SeqCst) {
            return longest;
        }
        let left = Duration::from_micros(self.next().saturating_sub(self.now()));
        left.clamp(Duration::from_millis(1), longest)
    }

    /// True while shadow work has less than all of the processors' time.
    #[must_use]
    pub fn is_slowed(&self) -> bool {
        self.share.load(Ordering::Relaxed) < FULL
    }

    /// How many rows may wait where `most` may at a full share: what waits is served as soon as ever.
    #[must_use]
    pub fn room(&self, most: usize) -> usize {
        let share = u64::from(self.share.load(Ordering::Relaxed));
        let room = most as u64 * share / u64::from(FULL);
        usize::try_from(room).unwrap_or(most).max(LEAST_ROOM).min(most)
    }

    /// The share of the processors' time, of 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / f64::from(FULL)
    }

    /// Gives shadow work this share of the processors' time, of 1.
    pub fn set_share(&self, share: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and a million"
        )]
        let millionths = (share * f64::from(FULL)).round().clamp(1.0, f64::from(FULL)) as u32;
        let before = self.share.swap(millionths, Ordering::Relaxed);
        // What is owed is owed at the new share.
        let now = self.now();
        let left = self.next().saturating_sub(now);
        let left = left.saturating_mul(u64::from(before)) / u64::from(millionths);
        self.next.store(now + left.min(LONGEST_REST_US), Ordering::Relaxed);
    }

    /// Lets nothing begin, or lets it again: a quiet stretch.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    /// Runs under way.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Challengers that ask here.
    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::SeqCst)
    }

    /// Processors that the share is of.
    pub(super) fn processors(&self) -> f64 {
        self.processors
    }

    /// A run of `rows` that is over by `now` took so much of a processor: the next one may begin when the share allows as
    /// much.
    fn spent(&self, cpu: Duration, rows: u32, now: u64) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let worth = Duration::try_from_secs_f64(cpu.as_secs_f64() / (self.share() * self.processors));
        let worth = worth.unwrap_or(Duration::MAX);
        let worth = match cpu <= BRIEF {
            true => worth.min(BRIEF_REST.saturating_mul(rows)),
            false => worth,
        };
        let (began, worth) = (now.saturating_sub(micros(cpu)), micros(worth));
        let later = |next: u64| {
            next.max(began)
                .saturating_add(worth)
                .min(now.saturating_add(LONGEST_REST_US))
        };
        // The closure never refuses.
        let _ = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some(later(next)));
    }

    fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A challenger at its gate.
#[derive(Debug)]
pub struct Member(Arc<Gate>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A run that was let begin, until the value goes.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Pass {
    /// Whether it is to be measured what the run takes.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.0.is_slowed()
    }

    /// The run of so many rows, which is over, took so much of a processor.
    pub fn pay(&self, cpu: Duration, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.0.spent(cpu, rows, self.0.now());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_begins_in_a_quiet_stretch_and_what_is_under_way_is_seen() {
        let gate = Arc::new(Gate::new(2));
        let pass = gate.enter().unwrap();
        gate.hold(true);
        assert_eq!(gate.running(), 1);
        drop(pass);
        assert!(gate.enter().is_none() && gate.running() == 0);
        gate.hold(false);
        assert!(gate.enter().is_some());
        let member = gate.join();
        assert_eq!(gate.members(), 1);
        drop(member);
        assert_eq!(gate.members(), 0);
    }

    #[test]
    fn a_share_is_kept_over_all_runs_together() {
        let gate = Arc::new(Gate::new(2));
        assert!(
            !gate.enter().unwrap().is_charged(),
            "at a full share nothing is measured"
        );
        // Two thousandths of one processor.
        gate.set_share(1e-3);
        for runs in 1..=3 {
            gate.spent(Duration::from_millis(10), 1, 20_000_000);
            let owed = 20_000_000 - 10_000 + runs * 5_000_000;
            assert_eq!(gate.next(), owed, "after {runs} runs");
        }
        gate.spent(Duration::from_secs(3_600), 1, 20_000_000);
        assert_eq!(gate.next(), 80_000_000, "a minute after the end at most");
        assert!(gate.enter().is_none() && gate.is_slowed());
        assert_eq!(gate.running(), 0, "who was not let in is not running");
        assert_eq!(gate.wait(Duration::from_millis(20)), Duration::from_millis(20));
        // Twice as much makes what is owed half as long.
        gate.set_share(2e-3);
        assert!(gate.next() <= gate.now() + 40_000_000);
        gate.set_share(1.0);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn quick_challengers_get_some_rows_a_second_at_any_share_and_slow_ones_do_not() {
        let gate = Gate::new(2);
        gate.set_share(1e-6);
        let now = 20_000_000;
        for runs in 1..=4 {
            gate.spent(Duration::from_micros(200), 10, now);
            assert_eq!(gate.next(), now - 200 + runs * 5_000, "2,000 rows a second");
        }
        gate.spent(Duration::from_millis(20), 10, now);
        assert_eq!(gate.next(), now + LONGEST_REST_US);
    }

    #[test]
    fn fewer_rows_wait_for_a_slower_challenger_and_some_always() {
        let gate = Gate::new(4);
        assert_eq!(gate.room(65_536), 65_536);
        gate.set_share(0.25);
        assert_eq!(gate.room(65_536), 16_384);
        gate.set_share(0.0);
        assert_eq!((gate.room(65_536), gate.room(3)), (64, 3));
    }
}
