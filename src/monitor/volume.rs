//! How many rows come, against what the hour of the day and the day of the week let one expect.

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
/// Hours of a week.
const HOURS: usize = 168;
/// Weeks over which an hour's mean is formed.
const WEEKS: f64 = 8.0;
/// Weeks before something is expected.
const LEAST_WEEKS: f64 = 2.0;

/// What is known of one hour of the week.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Usual {
    mean: f64,
    weeks: f64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    usual: Vec<Usual>,
    /// The open hour, counted from 1970, and its rows.
    open: Option<(i64, f64)>,
    /// What the last whole hour had, and what was expected of it.
    pub last: Option<Hour>,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            usual: vec![Usual::default(); HOURS],
            open: None,
            last: None,
        }
    }
}

/// A whole hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// When it began, Unix ms.
    #[serde(serialize_with = "crate::time::serialize_ms", skip_deserializing)]
    pub began: i64,
    /// Its rows.
    pub rows: f64,
    /// Rows of that hour of the week in the weeks before; `None` until two weeks were seen.
    pub expected: Option<f64>,
}

impl Volume {
    /// A row came.
    pub fn row(&mut self, time_ms: i64) {
        self.tick(time_ms);
        if let Some((_, rows)) = &mut self.open {
            *rows += 1.0;
        }
    }

    /// Time has come so far, with or without rows.
    pub fn tick(&mut self, time_ms: i64) {
        let now = time_ms.div_euclid(HOUR_MS);
        let Some((open, rows)) = self.open else {
            self.open = Some((now, 0.0));
            return;
        };
        if now <= open {
            return;
        }
        self.close(open, rows);
        // Hours without rows; of a long silence the last week tells all.
        for hour in (open + 1).max(now - 168)..now {
            self.close(hour, 0.0);
        }
        self.open = Some((now, 0.0));
    }

    fn close(&mut self, hour: i64, rows: f64) {
        let at = usize::try_from(hour.rem_euclid(168)).unwrap_or(0);
        let Some(usual) = self.usual.get_mut(at) else { return };
        self.last = Some(Hour {
            began: hour * HOUR_MS,
            rows,
            expected: (usual.weeks >= LEAST_WEEKS).then_some(usual.mean),
        });
        usual.weeks = (usual.weeks + 1.0).min(WEEKS);
        usual.mean += (rows - usual.mean) / usual.weeks;
    }

    /// What is unusual about the last whole hour: half as many rows as expected, or twice, where that is not chance.
    #[must_use]
    pub fn unusual(&self) -> Option<String> {
        let hour = self.last?;
        let expected = hour.expected?;
        // Four standard deviations of a count.
        let is_chance = (hour.rows - expected).abs() < 4.0 * expected.max(1.0).sqrt();
        let is_usual = hour.rows > expected / 2.0 && hour.rows < expected * 2.0;
        (!is_chance && !is_usual).then(|| {
            format!(
                "{} rows in the last hour; that hour of the week usually has {expected:.0}",
                hour.rows
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_compared_with_the_same_hour_of_the_weeks_before() {
        let mut volume = Volume::default();
        let hour = |volume: &mut Volume, hour: i64, rows: i64| {
            (0..rows).for_each(|k| volume.row(hour * HOUR_MS + k));
        };
        // Busy by day, quiet by night, for three weeks.
        for at in 0..504 {
            hour(&mut volume, at, if at % 24 < 12 { 100 } else { 10 });
        }
        volume.tick(504 * HOUR_MS);
        assert_eq!((volume.unusual(), volume.last.unwrap().expected), (None, Some(10.0)));
        hour(&mut volume, 504, 20);
        volume.tick(505 * HOUR_MS);
        assert!(
            volume.unusual().unwrap().contains("usually has 100"),
            "{:?}",
            volume.last
        );
        volume.tick(507 * HOUR_MS);
        assert!(volume.unusual().unwrap().starts_with("0 rows"));
        // A leap of the clock, years on: a week of silence, and it goes on.
        volume.tick(90_000 * HOUR_MS);
        assert!(volume.last.unwrap().rows < 0.5);
        volume.tick(1_000 * HOUR_MS);
    }
}
