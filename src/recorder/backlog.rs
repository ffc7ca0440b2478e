//! How many rows may wait to be recorded: many in a burst, few when more come than can be recorded for long.
//!
//! A long queue that stays full helps nobody: as many rows are dropped as with a short one, those that are kept are
//! seconds old, and each lies in memory that neither processor has at hand any more.
//!
//! Always holds: what is in the queue stays there; only how much more may come changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Rows that may wait once there have been as many for too long.
const SHORT: usize = 1_024;
/// How long a burst may last; and how long it must be over before the next may be as long.
const BURST: Duration = Duration::from_secs(2);

/// How many may wait, as whoever offers them reads it.
pub(super) type Limit = Arc<AtomicUsize>;

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: Limit,
    long: usize,
    /// Since when it has been as it is not to stay: long, or short.
    since: Option<Instant>,
}

impl Backlog {
    /// A queue for `limit` observations.
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            long: limit.load(Relaxed),
            limit,
            since: None,
        }
    }

    /// So many wait.
    pub(super) fn see(&mut self, waiting: usize, now: Instant) {
        let is_short = self.limit.load(Relaxed) < self.long;
        // What is cut to be short is almost full whenever it is looked at, as long as too many come.
        let is_due = if is_short { waiting < SHORT / 2 } else { waiting > SHORT };
        if !is_due {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= BURST {
            self.limit
                .store(if is_short { self.long } else { SHORT.min(self.long) }, Relaxed);
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_fill_the_queue_and_what_lasts_longer_keeps_a_short_one() {
        let limit = Limit::new(AtomicUsize::new(16_384));
        let mut backlog = Backlog::new(Arc::clone(&limit));
        let (start, ms) = (Instant::now(), Duration::from_millis);
        for at in (0..1_900).step_by(20) {
            backlog.see(16_384, start + ms(at));
        }
        backlog.see(10, start + ms(1_990));
        backlog.see(16_384, start + ms(2_100));
        assert_eq!(limit.load(Relaxed), 16_384, "two bursts");
        for at in (2_100..=4_100).step_by(20) {
            backlog.see(9_000, start + ms(at));
        }
        assert_eq!(limit.load(Relaxed), SHORT, "no burst");
        for at in (4_200..9_000).step_by(20) {
            backlog.see(if at % 40 == 0 { 900 } else { 3 }, start + ms(at));
        }
        assert_eq!(limit.load(Relaxed), SHORT, "it still fills");
        for at in (9_000..=11_100).step_by(20) {
            backlog.see(3, start + ms(at));
        }
        assert_eq!(limit.load(Relaxed), 16_384, "it is over");
    }
}
