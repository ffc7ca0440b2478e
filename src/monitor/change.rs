//! Two detectors of a change in the mean of a stream: ADWIN and Page–Hinkley, with River's defaults. As River's, both begin
//! anew with the value after the one at which they spoke.
//!
//! Always holds: bounded memory (ADWIN: logarithmic in its window). ADWIN's confidence holds for bounded, independent
//! values; Page–Hinkley promises nothing. So they are shown beside the evidence, and decide nothing.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets of one size before two of them are joined.
const BUCKETS: usize = 5;
/// Values between two looks for a change.
const CLOCK: u64 = 32;
/// Shortest part of the window that is compared.
const PART: f64 = 5.0;
/// No look before so many values.
const GRACE: f64 = 10.0;
/// Chance that a cut is false, as the paper has it.
const DELTA: f64 = 0.002;

/// Some values of the window: their sum, and the sum of their squared distances from their mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    sum: f64,
    spread: f64,
}

/// ADWIN: a window that grows while its halves agree and loses its old end when they do not (Bifet & Gavaldà 2007,
/// theorem 3.1 bounds how often it is cut without a change).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    /// Buckets of 2^k values, oldest first, by k.
    levels: Vec<VecDeque<Bucket>>,
    width: f64,
    sum: f64,
    spread: f64,
    ticks: u64,
    is_due: bool,
    /// Times that the window was cut.
    pub detections: u64,
}

fn size(level: usize) -> f64 {
    (0..level).fold(1.0, |size, _| size * 2.0)
}

impl Adwin {
    /// Takes a value in; true when the window was cut.
    pub fn add(&mut self, x: f64) -> bool {
        if !x.is_finite() {
            return false;
        }
        if self.is_due {
            *self = Self {
                detections: self.detections,
                ..Self::default()
            };
        }
        self.insert(x);
        self.join();
        self.ticks += 1;
        let mut is_cut = false;
        if self.ticks.is_multiple_of(CLOCK) && self.width > GRACE {
            while self.is_uneven() {
                self.drop_oldest();
                is_cut = true;
            }
        }
        self.detections += u64::from(is_cut);
        self.is_due = is_cut;
        is_cut
    }

    /// Values in the window.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.width > 0.0).then(|| self.sum / self.width)
    }

    fn insert(&mut self, x: f64) {
        self.width += 1.0;
        if self.width > 1.0 {
            let from = x - self.sum / (self.width - 1.0);
            self.spread += (self.width - 1.0) * from * from / self.width;
        }
        self.sum += x;
        let bucket = Bucket { sum: x, spread: 0.0 };
        match self.levels.first_mut() {
            Some(level) => level.push_back(bucket),
            None => self.levels.push(VecDeque::from([bucket])),
        }
    }

    /// Joins the two oldest of a size that there are too many of.
    fn join(&mut self) {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at)
            && level.len() > BUCKETS
            && let (Some(older), Some(newer)) = (level.pop_front(), level.pop_front())
        {
            let n = size(at);
            let apart = older.sum / n - newer.sum / n;
            let joined = Bucket {
                sum: older.sum + newer.sum,
                spread: older.spread + newer.spread + n * 0.5 * apart * apart,
            };
            at += 1;
            match self.levels.get_mut(at) {
                Some(next) => next.push_back(joined),
                None => self.levels.push(VecDeque::from([joined])),
            }
        }
    }

    /// Whether an old and a new part have means further apart than chance allows.
    fn is_uneven(&self) -> bool {
        let (mut old, mut old_sum) = (0.0, 0.0);
        for (level, buckets) in self.levels.iter().enumerate().rev() {
            for bucket in buckets {
                old += size(level);
                old_sum += bucket.sum;
                let new = self.width - old;
                if old < PART || new < PART {
                    continue;
                }
                if (old_sum / old - (self.sum - old_sum) / new).abs() > self.tolerance(old, new) {
                    return true;
                }
            }
        }
        false
    }

    fn tolerance(&self, old: f64, new: f64) -> f64 {
        let chance = libm::log(2.0 * libm::log(self.width) / DELTA);
        let parts = 1.0 / (old - PART + 1.0) + 1.0 / (new - PART + 1.0);
        (2.0 * parts * (self.spread / self.width) * chance).sqrt() + 2.0 / 3.0 * chance * parts
    }

    fn drop_oldest(&mut self) {
        let Some(level) = self.levels.len().checked_sub(1) else {
            return;
        };
        let n = size(level);
        let Some(oldest) = self.levels.get_mut(level).and_then(VecDeque::pop_front) else {
            return;
        };
        self.width -= n;
        self.sum -= oldest.sum;
        let apart = oldest.sum / n - self.sum / self.width;
        self.spread -= oldest.spread + n * self.width * apart * apart / (n + self.width);
        if self.levels.get(level).is_some_and(VecDeque::is_empty) {
            self.levels.pop();
        }
    }
}

/// Values before Page–Hinkley speaks.
const LEAST: f64 = 30.0;
/// Changes of the mean that it passes over.
const TOLERATED: f64 = 0.005;
/// How much must have come together.
const THRESHOLD: f64 = 50.0;
/// How slowly it forgets.
const FORGETTING: f64 = 1.0 - 0.0001;

/// Page–Hinkley: the sum of deviations from the running mean, against its own extreme (Page 1954), either way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    count: f64,
    mean: f64,
    rising: f64,
    falling: f64,
    least: Option<f64>,
    most: f64,
    is_due: bool,
    /// Times that it spoke.
    pub detections: u64,
}

impl Default for PageHinkley {
    fn default() -> Self {
        Self {
            count: 0.0,
            mean: 0.0,
            rising: 0.0,
            falling: 0.0,
            least: None,
            most: -1.0,
            is_due: false,
            detections: 0,
        }
    }
}

impl PageHinkley {
    /// Takes a value in; true at a change, after which it begins anew.
    pub fn add(&mut self, x: f64) -> bool {
        if !x.is_finite() {
            return false;
        }
        if self.is_due {
            *self = Self {
                detections: self.detections,
                ..Self::default()
            };
        }
        self.count += 1.0;
        self.mean += (x - self.mean) / self.count;
        let from = x - self.mean;
        self.rising = FORGETTING * self.rising + from - TOLERATED;
        self.falling = FORGETTING * self.falling + from + TOLERATED;
        let least = self.least.map_or(self.rising, |least| least.min(self.rising));
        self.least = Some(least);
        self.most = self.most.max(self.falling);
        let is_apart = self.rising - least > THRESHOLD || self.most - self.falling > THRESHOLD;
        self.is_due = self.count >= LEAST && is_apart;
        self.detections += u64::from(self.is_due);
        self.is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_changes_nothing_and_memory_stays_small() {
        let (mut adwin, mut hinkley) = (Adwin::default(), PageHinkley::default());
        for k in 0..100_000 {
            assert!(!adwin.add(f64::NAN) && !hinkley.add(f64::INFINITY));
            adwin.add(f64::from(k % 2));
        }
        let buckets: usize = adwin.levels.iter().map(VecDeque::len).sum();
        assert!(buckets < 100, "{buckets}");
        assert!((adwin.mean().unwrap() - 0.5).abs() < 1e-3);
        assert_eq!(hinkley, PageHinkley::default());
    }
}
