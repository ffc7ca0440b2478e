//! When rows are recorded, and how many: they are fetched a few dozen times a second rather than one by one, and
//! recording takes no more than its share of a processor.
//!
//! A row that wakes the recorder costs the request a system call, and a commit for each costs several times what it
//! costs in a group. And a recorder that keeps up whatever it costs takes the processors from the requests when they
//! need them most; beyond its share it leaves rows lying, the queue fills, and new ones are dropped and counted.
//!
//! Always holds: labels and orders wait for nothing here; some rows are always recorded, whatever they cost.

use std::time::{Duration, Instant};

/// Between two fetches while rows come.
pub(super) const PERIOD: Duration = Duration::from_millis(20);
/// Rows were there so lately that the next are fetched rather than waited for.
const LIVELY: Duration = Duration::from_millis(100);
/// Rows a second that are recorded whatever they cost.
const LEAST_ROWS: f64 = 2_000.0;
/// What was not used may be used later, for so many seconds: the queue holds what comes in a burst.
const SAVED: f64 = 0.25;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// CPU seconds a second for rows; infinite: as many as they need.
    share: f64,
    credit: f64,
    least: f64,
    at: Instant,
    rows_at: Option<Instant>,
}

impl Pace {
    /// Recording that may take `share` of a processor; from 1 on there is no limit.
    pub(super) fn new(share: f64, now: Instant) -> Self {
        let share = if share < 1.0 { share } else { f64::INFINITY };
        Self {
            share,
            credit: share * SAVED,
            least: LEAST_ROWS * SAVED,
            at: now,
            rows_at: None,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.credit = (self.credit + passed * self.share).min(self.share * SAVED);
        self.least = (self.least + passed * LEAST_ROWS).min(LEAST_ROWS * SAVED);
    }

    /// So many rows were recorded in so much CPU time.
    pub(super) fn spent(&mut self, rows: usize, cpu: Duration, now: Instant) {
        if rows == 0 {
            return;
        }
        self.rows_at = Some(now);
        #[expect(clippy::cast_precision_loss, reason = "a transaction has some thousand rows")]
        let rows = rows as f64;
        self.least -= rows;
        // What is below the least is free: it would be recorded anyway.
        if self.least < 0.0 {
            let beyond = (-self.least).min(rows);
            self.least = self.least.max(-LEAST_ROWS * SAVED);
            self.credit -= cpu.as_secs_f64() * beyond / rows;
            // A long transaction must not silence the recorder for minutes.
            self.credit = self.credit.max(-self.share * SAVED);
        }
    }

    /// True while rows may be fetched.
    pub(super) fn may_record(&self) -> bool {
        self.credit > 0.0 || self.least > 0.0
    }

    /// Until when rows are left lying so that several are fetched at once; `None`: wait for the first.
    pub(super) fn fetch_at(&self, now: Instant) -> Option<Instant> {
        let lively = self
            .rows_at
            .is_some_and(|at| now.saturating_duration_since(at) < LIVELY);
        (lively || !self.may_record()).then(|| now + PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows recorded in ten seconds of which each offers `rate` rows at `cost` each.
    fn recorded(share: f64, rate: usize, cost: Duration) -> usize {
        let mut now = Instant::now();
        let mut pace = Pace::new(share, now);
        let mut total = 0;
        let periods_a_second = 1_000 / PERIOD.as_millis() as usize;
        for _ in 0..10 * periods_a_second {
            now += PERIOD;
            pace.tick(now);
            if pace.may_record() {
                let rows = rate / periods_a_second;
                let cpu = cost * u32::try_from(rows).unwrap();
                pace.spent(rows, cpu, now);
                total += rows;
            }
        }
        total
    }

    #[test]
    fn recording_takes_its_share_of_a_processor_and_no_more() {
        let cost = Duration::from_micros(5);
        let all = recorded(1.0, 100_000, cost);
        assert_eq!(all, 1_000_000, "no limit");
        // 0.1 s of 5 µs rows are 20,000 rows a second, beside the 2,000 that are free, and what was saved at the start.
        let some = recorded(0.1, 100_000, cost);
        assert!((195_000..=250_000).contains(&some), "{some}");
        assert_eq!(recorded(0.1, 20_000, cost), 200_000, "what fits is recorded whole");
    }

    #[test]
    fn the_least_is_recorded_however_dear_rows_are() {
        let some = recorded(0.05, 10_000, Duration::from_millis(1));
        assert!((20_000..=27_000).contains(&some), "{some}");
    }

    #[test]
    fn the_first_row_after_a_silence_is_waited_for_and_the_next_are_fetched() {
        let now = Instant::now();
        let mut pace = Pace::new(0.1, now);
        assert_eq!(pace.fetch_at(now), None);
        pace.spent(1, Duration::from_micros(5), now);
        assert_eq!(pace.fetch_at(now), Some(now + PERIOD));
        assert_eq!(pace.fetch_at(now + LIVELY), None);
    }
}
