//! Wall time at the edges: request times come in as Unix milliseconds, and go out as RFC 3339.
//!
//! Always holds: time never goes back or leaps while the process runs. The system's clock is read once; from there on
//! the monotonic clock counts. Spans of time close rows and make labels late, and that cannot be taken back: one step
//! of the system's clock must not do it. A step is taken up at the next start, and one that leads behind what the
//! ledger has recorded is not ([`not_before`]). The time that a machine sleeps is not counted.

pub mod cpu;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The process's clock.
static CLOCK: LazyLock<(Clock, Instant)> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Clock::at(millis(since)), Instant::now())
});

/// Wall time at the start plus what has passed since.
#[derive(Debug)]
struct Clock {
    start_ms: AtomicI64,
}

impl Clock {
    fn at(start_ms: i64) -> Self {
        Self {
            start_ms: AtomicI64::new(start_ms),
        }
    }

    fn now_ms(&self, elapsed: Duration) -> i64 {
        self.start_ms.load(Ordering::Relaxed).saturating_add(millis(elapsed))
    }

    /// Goes on from `ms` where that lies ahead. True when it does.
    fn not_before(&self, ms: i64, elapsed: Duration) -> bool {
        let start = ms.saturating_sub(millis(elapsed));
        self.start_ms.fetch_max(start, Ordering::Relaxed) < start
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Now, in Unix milliseconds. Inside, time is an argument: call this at the edge only.
#[must_use]
pub fn now_ms() -> i64 {
    let (clock, start) = &*CLOCK;
    clock.now_ms(start.elapsed())
}

/// The same for a moment that was read before.
#[must_use]
pub fn ms_at(moment: Instant) -> i64 {
    let (clock, start) = &*CLOCK;
    clock.now_ms(moment.saturating_duration_since(*start))
}

/// Has the clock go on from `ms` where that lies in the future: what is recorded happened before now. True when it does.
pub fn not_before(ms: i64) -> bool {
    let (clock, start) = &*CLOCK;
    clock.not_before(ms, start.elapsed())
}

/// Unix milliseconds as RFC 3339 in UTC, e.g. `2026-11-23T09:30:00.250Z`.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to civil date: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{milli:03}Z")
}

/// Serializes Unix milliseconds as RFC 3339.
///
/// # Errors
/// What the serializer says.
pub fn serialize_ms<S: serde::Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&rfc3339(*ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_start_whatever_the_systems_clock_does() {
        let clock = Clock::at(1_000);
        assert_eq!(clock.now_ms(Duration::ZERO), 1_000);
        assert_eq!(clock.now_ms(Duration::from_secs(2)), 3_000);
        let (before, system) = (now_ms(), SystemTime::now());
        let now = millis(system.duration_since(UNIX_EPOCH).unwrap());
        assert!((now - before).abs() < 60_000, "{now} {before}");
        assert!(now_ms() >= before);
    }

    #[test]
    fn what_is_recorded_lies_in_the_past() {
        let clock = Clock::at(1_000);
        assert!(!clock.not_before(1_500, Duration::from_secs(1)));
        assert_eq!(clock.now_ms(Duration::from_secs(1)), 2_000);
        assert!(clock.not_before(9_000, Duration::from_secs(1)));
        assert_eq!(clock.now_ms(Duration::from_secs(1)), 9_000);
        assert_eq!(clock.now_ms(Duration::from_secs(2)), 10_000);
    }

    #[test]
    fn known_moments_read_as_they_should() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(1_795_478_400_001), "2026-11-24T00:00:00.001Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }
}
