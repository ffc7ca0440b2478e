//! Rows that a champion could not answer: counted, and told when they are too many.
//!
//! Always holds: a row that is answered costs nothing here; a window holds rows of one tenure only, and tells once. A row
//! that is refused because it ended processes before is not counted again: whoever repeats one row must not bring down a
//! champion. Leaves to others: what is done about it (`control`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Rows of a window.
const WINDOW: u64 = 10_000;
/// So many failed rows of a window are too many: 0.1 %. The number stands for the share from the window's first row on, so
/// that a champion that fails on everything is caught at its tenth row, and no smaller number says anything of a share.
const MOST_FAILED: u64 = WINDOW / 1_000;

/// Rows that one version could not answer as champion, since it was loaded first.
#[derive(Debug, Default)]
pub struct Faults {
    failed: AtomicU64,
    uncovered: AtomicU64,
}

impl Faults {
    pub(super) fn note(&self, failed: u64, uncovered: u64) {
        self.failed.fetch_add(failed, Relaxed);
        self.uncovered.fetch_add(uncovered, Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.failed.load(Relaxed), self.uncovered.load(Relaxed))
    }
}

/// Why a champion should not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trip {
    /// Of which tenure.
    pub epoch: u64,
    /// Rows that it failed on.
    pub failed: u64,
    /// Rows that lacked a feature which it needs.
    pub uncovered: u64,
    /// Of so many.
    pub rows: u64,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub why: String,
}

impl Trip {
    /// It takes too long.
    #[must_use]
    pub fn slow(epoch: u64, rows: u64, why: String) -> Self {
        Self {
            epoch,
            failed: 0,
            uncovered: 0,
            rows,
            reason: "latency",
            why,
        }
    }
}

#[derive(Debug, Default)]
struct Window {
    epoch: u64,
    /// The model's count of rows at its begin, and the version's faults.
    from: u64,
    faults: (u64, u64),
    told: bool,
}

/// See the module. One per model.
#[derive(Debug, Default)]
pub struct Tripwire(Mutex<Window>);

impl Tripwire {
    /// A tenure begins, `rows` having been answered before it.
    pub fn begin(&self, epoch: u64, rows: u64, faults: &Faults) {
        *self.window() = Window {
            epoch,
            from: rows,
            faults: faults.read(),
            told: false,
        };
    }

    /// To be asked after a row failed: why the champion should not go on, once per window.
    pub fn look(&self, epoch: u64, rows: u64, faults: &Faults, min_coverage: f64) -> Option<Trip> {
        let mut window = self.window();
        if window.epoch != epoch {
            return None;
        }
        if rows.saturating_sub(window.from) >= WINDOW {
            // Nobody looked since the last failure: all but the row that failed just now belongs to what has passed.
            let (failed, uncovered) = faults.read();
            *window = Window {
                epoch,
                from: window.from + (rows - window.from) / WINDOW * WINDOW,
                faults: (failed.saturating_sub(1), uncovered.saturating_sub(1)),
                told: false,
            };
        }
        let trip = window.trip(rows, faults, min_coverage).filter(|_| !window.told)?;
        window.told = true;
        Some(trip)
    }

    /// The same while it lasts, for those who look.
    #[must_use]
    pub fn alarm(&self, epoch: u64, rows: u64, faults: &Faults, min_coverage: f64) -> Option<String> {
        let window = self.window();
        let is_over = window.epoch != epoch || rows.saturating_sub(window.from) >= WINDOW;
        let trip = window.trip(rows, faults, min_coverage).filter(|_| !is_over)?;
        Some(trip.why)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn trip(&self, rows: u64, faults: &Faults, min_coverage: f64) -> Option<Trip> {
        let (failed, uncovered) = faults.read();
        let failed = failed.saturating_sub(self.faults.0);
        let uncovered = uncovered.saturating_sub(self.faults.1);
        // A challenger is promoted though it lacks as many: they are no surprise.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of 10,000 rows"
        )]
        let most_uncovered = ((1.0 - min_coverage).clamp(0.0, 1.0) * WINDOW as f64).round() as u64 + MOST_FAILED;
        let rows = rows.saturating_sub(self.from);
        let why = if failed >= MOST_FAILED {
            format!(
                "failed on {failed} of {rows} rows (error, crash or no finite output): more than 0.1 % of {WINDOW} rows"
            )
        } else if uncovered >= most_uncovered {
            format!(
                "{uncovered} of {rows} rows lack a feature that it needs: more than min_coverage lets pass of {WINDOW} rows"
            )
        } else {
            return None;
        };
        Some(Trip {
            epoch: self.epoch,
            failed,
            uncovered,
            rows,
            reason: "errors",
            why,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(tripwire: &Tripwire, faults: &Faults, rows: u64) -> Option<Trip> {
        faults.note(1, 0);
        tripwire.look(1, rows, faults, 0.99)
    }

    #[test]
    fn the_tenth_failed_row_of_a_window_trips_once_and_none_before() {
        let (tripwire, faults) = (Tripwire::default(), Faults::default());
        faults.note(500, 500);
        tripwire.begin(1, 1_000, &faults);
        for row in 1..10 {
            assert_eq!(fails(&tripwire, &faults, 1_000 + row * 900), None);
        }
        let trip = fails(&tripwire, &faults, 9_200).unwrap();
        assert_eq!((trip.failed, trip.rows, trip.epoch), (10, 8_200, 1));
        assert_eq!(fails(&tripwire, &faults, 9_300), None, "once");
        assert!(tripwire.alarm(1, 9_300, &faults, 0.99).is_some());
        assert_eq!(tripwire.alarm(1, 11_000, &faults, 0.99), None, "the window has passed");
        assert_eq!(tripwire.alarm(2, 9_300, &faults, 0.99), None, "another tenure");
    }

    #[test]
    fn few_failures_in_many_rows_never_trip() {
        let (tripwire, faults) = (Tripwire::default(), Faults::default());
        tripwire.begin(1, 0, &faults);
        for failure in 1..200 {
            // One row in 2,000.
            assert_eq!(fails(&tripwire, &faults, failure * 2_000), None, "{failure}");
        }
    }

    #[test]
    fn rows_without_a_feature_trip_only_beyond_what_coverage_lets_pass() {
        let (tripwire, faults) = (Tripwire::default(), Faults::default());
        tripwire.begin(1, 0, &faults);
        faults.note(0, 109);
        assert_eq!(tripwire.look(1, 5_000, &faults, 0.99), None);
        faults.note(0, 1);
        assert!(tripwire.look(1, 5_000, &faults, 0.99).unwrap().why.contains("feature"));
    }
}
