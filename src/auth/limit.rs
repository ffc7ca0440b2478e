//! How much a key may ask: so many a second with a burst, so many a day. Counted by this process, without a lock.
//!
//! A rate is kept as the one moment at which all that was taken is paid back (the generic cell rate algorithm). Something
//! larger than the burst is let through when nothing is owed, and is owed then: otherwise it never could be.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::{Allowance, KeyConfig};
use crate::error::{Error, Kind};
use crate::time::now_ms;

const DAY_MS: u64 = 86_400_000;
/// A day's count shares a word with the day: both fit for ever.
const DAY_BITS: u32 = 20;
const COUNT_BITS: u32 = 64 - DAY_BITS;
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Moments are counted from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a key may ask.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) requests: Limit,
    pub(super) rows: Limit,
}

impl Limits {
    pub(super) fn of(config: &KeyConfig) -> Self {
        let of = |allowance: &Allowance| Limit {
            rate: allowance.per_second.map(|rate| Rate::of(rate, config.burst)),
            per_day: allowance.per_day,
        };
        Self {
            requests: of(&config.requests),
            rows: of(&config.rows),
        }
    }
}

/// What a key has asked.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) requests: Used,
    pub(super) rows: Used,
    pub(super) asked: Counts,
}

/// What is counted for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) allowed: AtomicU64,
    pub(super) forbidden: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) rows: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Used {
    /// Nanoseconds after [`BEGAN`] at which all is paid back.
    paid_at: AtomicU64,
    /// The day since 1970, and what was taken on it.
    today: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Limit {
    rate: Option<Rate>,
    per_day: Option<u64>,
}

/// What one costs, and how much may be owed before the next is refused.
#[derive(Debug, Clone, Copy)]
struct Rate {
    each_ns: u64,
    owed_ns: u64,
}

impl Rate {
    fn of(per_second: f64, burst: Duration) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rates are positive and checked; a cast of what is too large stops at the largest"
        )]
        let each_ns = ((1e9 / per_second) as u64).max(1);
        let burst_ns = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX);
        Self {
            each_ns,
            // At least one at a time.
            owed_ns: burst_ns.saturating_sub(each_ns),
        }
    }

    /// Takes so many at `now`; or how long until some can be taken.
    fn take(self, paid_at: &AtomicU64, now: u64, count: u64) -> Result<(), Duration> {
        let taken = paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| {
            let owed = paid_at.saturating_sub(now);
            let cost = self.each_ns.saturating_mul(count);
            (owed <= self.owed_ns).then(|| now.saturating_add(owed).saturating_add(cost))
        });
        taken
            .map(drop)
            .map_err(|paid_at| Duration::from_nanos(paid_at.saturating_sub(now) - self.owed_ns))
    }
}

/// More than is allowed.
#[derive(Debug)]
pub(super) struct Over {
    wait: Duration,
    is_of_the_day: bool,
}

impl Over {
    pub(super) fn error(&self, key: &str, what: &str) -> Error {
        let text = if self.is_of_the_day {
            format!("the key '{key}' has used up its {what} of the day, which ends at midnight UTC")
        } else {
            format!("the key '{key}' asks for more {what} a second than it may: ask more slowly")
        };
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        Error::new(Kind::RateLimited, text).retry_after(seconds.max(1))
    }
}

impl Limit {
    /// Takes so many. What is refused by the day's limit has been taken off the rate: whoever is refused waits longer.
    pub(super) fn take(&self, used: &Used, count: u64) -> Result<(), Over> {
        if let Some(rate) = self.rate {
            let now = u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX);
            rate.take(&used.paid_at, now, count).map_err(|wait| Over {
                wait,
                is_of_the_day: false,
            })?;
        }
        let Some(per_day) = self.per_day else { return Ok(()) };
        let now = u64::try_from(now_ms()).unwrap_or(0);
        take_of_day(&used.today, now, count, per_day)
    }
}

fn take_of_day(today: &AtomicU64, now_ms: u64, count: u64, per_day: u64) -> Result<(), Over> {
    let day = (now_ms / DAY_MS) & ((1 << DAY_BITS) - 1);
    let taken = today.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
        let before = if packed >> COUNT_BITS == day {
            packed & MAX_COUNT
        } else {
            0
        };
        let after = before.saturating_add(count);
        (after <= per_day.min(MAX_COUNT)).then_some(day << COUNT_BITS | after)
    });
    taken.map(drop).map_err(|_| Over {
        wait: Duration::from_millis(DAY_MS - now_ms % DAY_MS),
        is_of_the_day: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let rate = Rate::of(10.0, Duration::from_millis(500));
        let paid = AtomicU64::new(0);
        for k in 0..5 {
            assert_eq!(rate.take(&paid, 0, 1), Ok(()), "{k}");
        }
        assert_eq!(rate.take(&paid, 0, 1), Err(Duration::from_millis(100)));
        let mut let_in = 0;
        for at in (SECOND..3 * SECOND).step_by(10_000_000) {
            let_in += u32::from(rate.take(&paid, at, 1).is_ok());
        }
        // The burst has come back after a second, and ten a second for two seconds.
        assert_eq!(let_in, 5 + 20 - 1);
    }

    #[test]
    fn what_is_larger_than_the_burst_is_owed_and_no_rate_lets_nothing_through_for_ever() {
        let rate = Rate::of(10.0, Duration::from_secs(1));
        let paid = AtomicU64::new(0);
        assert_eq!(rate.take(&paid, 0, 100), Ok(()));
        assert_eq!(rate.take(&paid, SECOND, 1), Err(Duration::from_millis(8_100)));
        assert_eq!(rate.take(&paid, 10 * SECOND, 1), Ok(()));
        // Less than one in the burst: one at a time.
        let slow = Rate::of(0.1, Duration::from_secs(1));
        let paid = AtomicU64::new(0);
        assert_eq!(slow.take(&paid, 0, 1), Ok(()));
        assert_eq!(slow.take(&paid, SECOND, 1), Err(Duration::from_secs(9)));
        assert_eq!(slow.take(&paid, 10 * SECOND, u64::MAX), Ok(()));
        assert!(slow.take(&paid, 20 * SECOND, 1).is_err());
    }

    #[test]
    fn a_day_has_so_many_and_the_next_has_them_again() {
        let today = AtomicU64::new(0);
        let noon = 20_000 * DAY_MS + DAY_MS / 2;
        assert!(take_of_day(&today, noon, 9, 10).is_ok());
        let over = take_of_day(&today, noon, 2, 10).unwrap_err();
        assert_eq!(over.wait, Duration::from_millis(DAY_MS / 2));
        assert!(take_of_day(&today, noon, 1, 10).is_ok() && take_of_day(&today, noon, 1, 10).is_err());
        assert!(take_of_day(&today, noon + DAY_MS, 10, 10).is_ok());
        assert!(take_of_day(&today, noon + DAY_MS, u64::MAX, u64::MAX).is_err());
    }
}
