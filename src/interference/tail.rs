//! Latencies of the champion's answers, counted apart for quiet stretches and for the rest.
//!
//! Always holds: a sample is one addition in the thread's own place, in a bucket no wider than 3.2 % of what it holds, so
//! that quantiles can be told apart by a few percent; while nothing is to be counted a sample is one load.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::shard::Sharded;

/// From so many nanoseconds, as a power of two: about a microsecond.
const LOWEST: u32 = 10;
/// Up to so many: seventeen seconds.
const HIGHEST: u32 = 34;
/// Buckets of each power of two, as a power of two.
const FINE: u32 = 5;
const BUCKETS: usize = ((HIGHEST - LOWEST) << FINE) as usize;

/// What a latency is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Arm {
    /// Not at all: nothing is shadowed, or one kind of stretch is turning into the other.
    None = 0,
    /// No shadow work is under way.
    Quiet = 1,
    /// As ever.
    Rest = 2,
}

#[derive(Debug)]
struct Counts([[AtomicU32; BUCKETS]; 2]);

impl Default for Counts {
    fn default() -> Self {
        Self([const { [const { AtomicU32::new(0) }; BUCKETS] }; 2])
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tail {
    arm: AtomicU8,
    counts: Sharded<Counts>,
}

impl Tail {
    /// Counts an answer of the champion.
    pub fn record(&self, took: Duration) {
        let arm = usize::from(self.arm.load(Relaxed));
        if arm == Arm::None as usize {
            return;
        }
        let at = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.counts.with(|Counts(own)| {
            if let Some(bucket) = own.get(arm - 1).and_then(|arm| arm.get(at)) {
                bucket.fetch_add(1, Relaxed);
            }
        });
    }

    /// What latencies count as from now on.
    pub(super) fn count_as(&self, arm: Arm) {
        self.arm.store(arm as u8, Relaxed);
    }

    /// All that was counted as `arm` so far. Counts start anew after four billion, which a difference does not notice.
    pub(super) fn counted(&self, arm: Arm) -> Counted {
        let mut sum = Counted::default();
        let Some(at) = (arm as usize).checked_sub(1) else {
            return sum;
        };
        for Counts(own) in self.counts.iter() {
            for (sum, bucket) in sum.0.iter_mut().zip(own.get(at).into_iter().flatten()) {
                *sum = sum.wrapping_add(bucket.load(Relaxed));
            }
        }
        sum
    }
}

fn bucket(ns: u64) -> usize {
    let ns = ns.clamp(1 << LOWEST, (1 << HIGHEST) - 1);
    let power = ns.ilog2();
    let within = (ns >> (power - FINE)) & ((1 << FINE) - 1);
    (((power - LOWEST) << FINE) as usize) + usize::try_from(within).unwrap_or(0)
}

/// The nanoseconds from which a bucket counts.
fn edge(bucket: usize) -> f64 {
    let power = LOWEST + u32::try_from(bucket >> FINE).unwrap_or(HIGHEST - LOWEST);
    let within = (bucket & ((1 << FINE) - 1)) as u64 + (1 << FINE);
    #[expect(clippy::cast_precision_loss, reason = "six bits and a shift")]
    let ns = (within << (power - FINE)) as f64;
    ns
}

/// Latencies of some time, by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted(Box<[u32]>);

impl Default for Counted {
    fn default() -> Self {
        Self(vec![0; BUCKETS].into())
    }
}

impl Counted {
    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let both = self.0.iter().zip(&before.0);
        Self(both.map(|(now, before)| now.wrapping_sub(*before)).collect())
    }

    /// Adds another time's.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// How many lie in buckets that begin at `ns` or later.
    pub(super) fn from(&self, ns: f64) -> u64 {
        let counts = self.0.iter().enumerate().filter(|(at, _)| edge(*at) >= ns);
        counts.map(|(_, count)| u64::from(*count)).sum()
    }

    /// The smallest edge from which on at most `most` lie.
    pub(super) fn edge_above(&self, most: u64) -> f64 {
        let mut above = 0;
        for (at, count) in self.0.iter().enumerate().rev() {
            above += u64::from(*count);
            if above > most {
                return edge(at + 1);
            }
        }
        edge(0)
    }

    /// The latency that a share of them does not reach, in nanoseconds: within its bucket they count as evenly spread.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let rank = share * self.total() as f64;
        let mut below = 0.0;
        for (at, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= rank {
                let (from, to) = (edge(at), edge(at + 1));
                return Some(from + (to - from) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
impl Counted {
    /// Adds one latency.
    pub(super) fn note(&mut self, ns: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a test's latencies"
        )]
        if let Some(count) = self.0.get_mut(bucket(ns as u64)) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for ns in (10..34).flat_map(|power| (0..50).map(move |step| (1_u64 << power) + step * ((1 << power) / 50))) {
            let at = bucket(ns);
            let (from, to) = (edge(at), edge(at + 1));
            assert!(from <= ns as f64 && (ns as f64) < to, "{ns}: {from} to {to}");
            assert!(to / from <= 1.032, "{from} to {to}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn answers_are_counted_for_the_stretch_in_which_they_end() {
        let tail = Tail::default();
        let answer = |times: usize, us| (0..times).for_each(|_| tail.record(Duration::from_micros(us)));
        answer(5, 100);
        let before = tail.counted(Arm::Rest);
        assert_eq!(before.total(), 0);
        tail.count_as(Arm::Rest);
        answer(99, 100);
        answer(1, 9_000);
        tail.count_as(Arm::Quiet);
        answer(50, 200);
        let (rest, quiet) = (tail.counted(Arm::Rest).since(&before), tail.counted(Arm::Quiet));
        assert_eq!((rest.total(), quiet.total()), (100, 50));
        let near = |found: Option<f64>, us: f64| assert!((found.unwrap() / (us * 1e3) - 1.0).abs() < 0.04, "{found:?}");
        near(rest.quantile(0.5), 100.0);
        near(rest.quantile(1.0), 9_000.0);
        near(quiet.quantile(0.99), 200.0);
        assert_eq!((rest.from(150e3), rest.edge_above(1) < 105e3), (1, true));
        assert_eq!(rest.since(&rest).quantile(0.5), None);
    }
}
