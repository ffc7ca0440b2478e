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

/// The same in nanoseconds.
#[must_use]
pub fn ns_at(moment: Instant) -> u64 {
    let (clock, start) = &*CLOCK;
    let since = moment.saturating_duration_since(*start);
    let start_ms = u64::try_from(clock.start_ms.load(Ordering::Relaxed)).unwrap_or_default();
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    start_ms.saturating_mul(1_000_000).saturating_add(since)
}

/// Has the clock go on from `ms` where that lies in the future: what is recorded happened before now. True when it does.
pub fn not_before(ms: i64) -> bool {
    let (clock, start) = &*CLOCK;
    clock.not_before(ms, start.elapsed())
}

/// Unix milliseconds of a date (`2026-11-26`) or of a date and time as in RFC 3339 (`2026-11-26T09:30:00.25+01:00`); a blank
/// may stand for the `T`, and where no zone is given it is UTC.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?.trim_start()),
        None => (text, ""),
    };
    let digits = |part: &str| {
        let all = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        all.then(|| part.parse::<i64>().ok()).flatten()
    };
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = (rest.get(..zone_at)?.trim_end(), rest.get(zone_at..)?);
    let mut ms = 0;
    if !clock.is_empty() {
        let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut parts = whole.split(':');
        let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
        let second = parts.next().map_or(Some(0), digits)?;
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let thousandths = format!("{fraction:0<3}");
        ms = ((hour * 60 + minute) * 60 + second) * 1000 + digits(thousandths.get(..3)?)?;
    }
    let offset = match zone {
        "" | "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hour, minute) = zone.get(1..)?.split_once(':').or(zone.get(1..3).zip(zone.get(3..)))?;
            sign * (digits(hour)? * 60 + digits(minute)?) * 60_000
        }
    };
    // Civil date to days: the inverse of what `rfc3339` does.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400_000 + ms - offset)
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
    fn a_time_that_was_written_reads_back() {
        for ms in [0, -1, 951_782_400_123, 4_102_444_800_000, 1_000_000_000_999] {
            assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms), "{}", rfc3339(ms));
        }
        let given = [
            ("1970-01-02", 86_400_000),
            ("1970-01-01 01:00", 3_600_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T01:00:00.5-0100", 7_200_500),
        ];
        for (text, ms) in given {
            assert_eq!(parse_rfc3339(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "12",
            "1970-13-01",
            "1970-01-01T25:00",
            "yesterday",
            "1970-01-01T01:00:00+1",
            "1970-01-01Tx",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

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
