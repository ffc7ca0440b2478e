//! How long a version's runs take as of late, and how far that can be trusted.
//!
//! What was measured when a version was loaded was measured on a quiet machine and alone. Here is what it takes under the
//! load there is: a request's share of a thread (shared runs included), and how much longer a run takes than on a quiet
//! machine; averages in which the latest eight runs weigh as much as all before. Whatever they do not foresee shows in
//! requests that were let in and came late all the same: each run with one of those makes the share of a client's time that
//! is planned smaller by an eighth, each run without makes it a little larger again (additive increase, multiplicative
//! decrease, as TCP's window).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::champion::pace::Pace;

/// A factor of one.
const ONE: u64 = 1 << 10;
/// A run may take so much less, or more, than on a quiet machine.
const STRETCH: std::ops::RangeInclusive<u64> = ONE / 4..=ONE * 64;
/// Of a client's time so much is planned at the most, and at the least.
const SHARE: std::ops::RangeInclusive<u64> = ONE / 8..=ONE * 3 / 4;
const MORE: u64 = ONE / 64;

/// See the module. Of two threads at once one may be overlooked: what is left is as fair.
#[derive(Debug)]
pub(super) struct Service {
    pace: Pace,
    each: AtomicU64,
    stretch: AtomicU64,
    share: AtomicU64,
    /// Somebody came late since the last run.
    late: AtomicBool,
}

impl Service {
    /// Of a version whose runs took this long.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            each: AtomicU64::new(nanos(pace.slow)),
            stretch: AtomicU64::new(ONE),
            share: AtomicU64::new(*SHARE.end()),
            late: AtomicBool::new(false),
        }
    }

    /// Notes that a thread took so long for so many requests, of so many rows together.
    pub(super) fn took(&self, time: Duration, requests: usize, rows: usize) {
        let time = nanos(time);
        average(&self.each, time / (requests.max(1) as u64));
        let usual = nanos(self.pace.usual(rows)).max(1);
        let stretch = u128::from(time) * u128::from(ONE) / u128::from(usual);
        let stretch = u64::try_from(stretch).unwrap_or(u64::MAX);
        average(&self.stretch, stretch.clamp(*STRETCH.start(), *STRETCH.end()));
        let share = self.share.load(Relaxed);
        let share = match self.late.swap(false, Relaxed) {
            true => share - share / 8,
            false => share + MORE,
        };
        self.share.store(share.clamp(*SHARE.start(), *SHARE.end()), Relaxed);
    }

    /// Somebody came late who was let in to be answered in time.
    pub(super) fn was_late(&self) {
        self.late.store(true, Relaxed);
    }

    /// What the next request will take of a thread.
    pub(super) fn each(&self) -> Duration {
        Duration::from_nanos(self.each.load(Relaxed))
    }

    /// What a run of so many rows will take.
    pub(super) fn run(&self, rows: usize) -> Duration {
        scaled(self.pace.usual(rows), self.stretch.load(Relaxed))
    }

    /// So much of a client's time may be planned.
    pub(super) fn plan(&self, left: Duration) -> Duration {
        scaled(left, self.share.load(Relaxed))
    }
}

fn average(of: &AtomicU64, latest: u64) {
    let before = of.load(Relaxed);
    of.store(before - before / 8 + latest / 8, Relaxed);
}

fn scaled(time: Duration, factor: u64) -> Duration {
    let scaled = time.as_nanos().saturating_mul(u128::from(factor)) / u128::from(ONE);
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

fn nanos(time: Duration) -> u64 {
    // So that no sum overflows; nothing runs for a century.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        median: Duration::from_millis(10),
        slow: Duration::from_millis(12),
        row: Duration::from_millis(2),
    };

    #[test]
    fn what_is_planned_shrinks_while_somebody_is_late_and_grows_back() {
        let service = Service::new(PACE);
        let second = Duration::from_secs(1);
        assert_eq!(service.plan(second), Duration::from_millis(750));
        let take = || service.took(Duration::from_millis(10), 1, 1);
        for _ in 0..100 {
            service.was_late();
            take();
        }
        assert_eq!(
            service.plan(second),
            Duration::from_millis(125),
            "it does not come to nothing"
        );
        take();
        assert!(service.plan(second) > Duration::from_millis(125));
        (0..100).for_each(|_| take());
        assert_eq!(service.plan(second), Duration::from_millis(750));
    }

    #[test]
    fn a_run_takes_longer_by_as_much_as_runs_did_of_late() {
        let service = Service::new(PACE);
        assert_eq!(service.run(6), Duration::from_millis(20));
        // Twice as long as on a quiet machine, whatever the rows.
        for k in 0..200 {
            let rows = 1 + k % 7;
            service.took(PACE.usual(rows) * 2, rows, rows);
        }
        let found = service.run(6);
        assert!(
            (Duration::from_millis(39)..=Duration::from_millis(41)).contains(&found),
            "{found:?}"
        );
    }
}
