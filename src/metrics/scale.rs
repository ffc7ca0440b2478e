//! Where the buckets of a histogram end.
//!
//! A sample is counted once, between edges that hold both kinds: the classic ones, of which an SLO must be able to be one
//! exactly, and powers of two with their roots, which native histograms are made of. Either kind is a sum over the cells
//! that lie between its own edges.
//!
//! Always holds: edges are ascending, whole numbers of the scale's unit, and inclusive; finding a sample's cell takes a
//! table and a step or two, whatever the number of edges.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::page::{Native, Samples, number};
use crate::shard::Sharded;

/// Cells of a histogram at most.
const CELLS: usize = 320;
/// Classic edges at most, beside the built-in ones.
pub const MOST_EDGES: usize = 32;
/// Bits of a sample that the table looks at after its first one.
const FINE: u32 = 3;

/// Classic edges of times of requests: a tree or a small network answers in 20 to 500 µs, so the first ones are close.
const REQUESTS: [Duration; 18] = [
    us(25),
    us(50),
    us(100),
    us(200),
    us(350),
    us(500),
    us(750),
    us(1_000),
    us(1_500),
    us(2_500),
    us(5_000),
    us(10_000),
    us(25_000),
    us(50_000),
    us(100_000),
    us(250_000),
    us(1_000_000),
    us(5_000_000),
];

/// Classic edges of how long labels are awaited: seconds to months.
const DELAYS: [Duration; 16] = [
    s(1),
    s(10),
    s(60),
    s(300),
    s(900),
    s(HOUR),
    s(3 * HOUR),
    s(6 * HOUR),
    s(12 * HOUR),
    s(24 * HOUR),
    s(48 * HOUR),
    s(72 * HOUR),
    s(168 * HOUR),
    s(336 * HOUR),
    s(720 * HOUR),
    s(2_880 * HOUR),
];

const HOUR: u64 = 3_600;

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// How many samples lie in each cell, and their sum.
#[derive(Debug)]
pub(super) struct Cells {
    sum: AtomicU64,
    cells: [AtomicU64; CELLS],
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            cells: [const { AtomicU64::new(0) }; CELLS],
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scale {
    /// Samples are milliseconds, not nanoseconds: years of them have a sum.
    coarse: bool,
    edges: Vec<u64>,
    /// The first edge that a sample may lie below, by its leading bits.
    starts: Vec<u16>,
    /// Edges in seconds, and where they stand.
    classic: Vec<(f64, usize)>,
    schema: i32,
    /// The bucket that ends at the lowest native edge: what lies below counts as 0.
    lowest: i32,
    /// Where the native edges stand.
    native: Vec<usize>,
}

impl Scale {
    /// Of requests: nanoseconds, natively from a microsecond to a quarter of an hour in steps of a ninth, classically with
    /// these edges besides.
    pub(super) fn of_requests(more: &[Duration]) -> Self {
        let mut classic = REQUESTS.to_vec();
        classic.extend(more.iter().take(MOST_EDGES));
        Self::new(false, &classic, 3, -20..=10)
    }

    /// Of labels: milliseconds, natively from a second to half a year in steps of a fifth.
    pub(super) fn of_delays() -> Self {
        Self::new(true, &DELAYS, 2, 0..=24)
    }

    fn new(coarse: bool, classic: &[Duration], schema: i32, powers: RangeInclusive<i32>) -> Self {
        let per_second = if coarse { 1e3 } else { 1e9 };
        let steps = 1_i32 << schema;
        let (lowest, highest) = (powers.start() * steps, powers.end() * steps);
        // At most 2^24 s, in nanoseconds below 2^54.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and far below 2^64"
        )]
        let native: Vec<u64> = (lowest..=highest)
            .map(|index| (2_f64.powf(f64::from(index) / f64::from(steps)) * per_second) as u64)
            .collect();
        let mut classic: Vec<(f64, u64)> = classic
            .iter()
            .map(|edge| (edge.as_secs_f64(), value(coarse, *edge)))
            .collect();
        classic.sort_by_key(|(_, value)| *value);
        classic.dedup_by_key(|(_, value)| *value);
        let mut edges: Vec<u64> = native
            .iter()
            .copied()
            .chain(classic.iter().map(|(_, value)| *value))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let place = |value: u64| edges.partition_point(|edge| *edge < value);
        let start = |key: usize| u16::try_from(place(smallest(key))).unwrap_or(u16::MAX);
        Self {
            coarse,
            starts: (0..=key(u64::MAX)).map(start).collect(),
            classic: classic.iter().map(|(edge, value)| (*edge, place(*value))).collect(),
            schema,
            lowest,
            native: native.iter().map(|value| place(*value)).collect(),
            edges,
        }
    }

    /// Counts a sample.
    pub(super) fn record(&self, own: &Cells, sample: Duration) {
        let value = value(self.coarse, sample);
        let mut at = usize::from(self.starts.get(key(value)).copied().unwrap_or_default());
        while self.edges.get(at).is_some_and(|edge| *edge < value) {
            at += 1;
        }
        if let Some(cell) = own.cells.get(at) {
            cell.fetch_add(1, Relaxed);
        }
        own.sum.fetch_add(value, Relaxed);
    }

    /// What all threads have counted. The count is the sum of the cells as they are read, so that no bucket is larger.
    pub(super) fn read(&self, all: Option<&Sharded<Cells>>) -> Samples {
        let mut cells = vec![0_u64; self.edges.len() + 1];
        let mut sum = 0_u64;
        for own in all.into_iter().flat_map(Sharded::iter) {
            for (cell, counted) in cells.iter_mut().zip(&own.cells) {
                *cell += counted.load(Relaxed);
            }
            sum = sum.wrapping_add(own.sum.load(Relaxed));
        }
        let below: Vec<u64> = cells
            .iter()
            .scan(0, |below, cell| {
                *below += cell;
                Some(*below)
            })
            .collect();
        let to = |at: usize| below.get(at).copied().unwrap_or_default();
        let count = below.last().copied().unwrap_or_default();
        let per_second = if self.coarse { 1e3 } else { 1e9 };
        Samples {
            count,
            sum: number(sum) / per_second,
            classic: self.classic.iter().map(|(edge, at)| (*edge, to(*at))).collect(),
            native: self.native(&to, count),
            examples: Vec::new(),
        }
    }

    /// The number of the classic bucket that a sample is in; that of the last is how many edges there are.
    pub(super) fn classic_bucket(&self, sample: Duration) -> usize {
        let value = value(self.coarse, sample);
        let ends = |at: usize| self.edges.get(at).copied().unwrap_or(u64::MAX);
        self.classic.partition_point(|(_, at)| ends(*at) < value)
    }

    fn native(&self, to: &impl Fn(usize) -> u64, count: u64) -> Native {
        let ends = self.native.iter().map(|at| to(*at)).chain([count]);
        let mut native = Native {
            schema: self.schema,
            zero_threshold: 2_f64.powf(f64::from(self.lowest) / f64::from(1 << self.schema)),
            ..Native::default()
        };
        let mut before = None;
        // What lies above the last edge is counted in the bucket behind it.
        for (index, end) in (self.lowest..).zip(ends) {
            match before {
                None => native.zero_count = end,
                Some(before) if end > before => native.counts.push((index, end - before)),
                Some(_) => {}
            }
            before = Some(end);
        }
        native
    }
}

fn value(coarse: bool, time: Duration) -> u64 {
    let value = if coarse { time.as_millis() } else { time.as_nanos() };
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The place of the first bit that is set, and the [`FINE`] bits behind it, as one small number.
fn key(value: u64) -> usize {
    let Some(first) = value.checked_ilog2().filter(|first| *first >= FINE) else {
        return usize::try_from(value).unwrap_or_default();
    };
    let fine = (value >> (first - FINE)) & ((1 << FINE) - 1);
    usize::try_from((u64::from(first - FINE + 1) << FINE) | fine).unwrap_or_default()
}

/// The smallest value of a key.
fn smallest(key: usize) -> u64 {
    let key = key as u64;
    match (key >> FINE).checked_sub(1) {
        None => key,
        Some(shift) => ((1 << FINE) | (key & ((1 << FINE) - 1))) << shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(scale: &Scale, samples: &[Duration]) -> Samples {
        let cells: Sharded<Cells> = Sharded::default();
        for sample in samples {
            cells.with(|own| scale.record(own, *sample));
        }
        scale.read(Some(&cells))
    }

    #[test]
    fn every_value_finds_the_first_edge_that_it_does_not_pass() {
        for scale in [Scale::of_requests(&[us(40)]), Scale::of_delays()] {
            assert!(scale.edges.len() < CELLS, "{}", scale.edges.len());
            let near = scale.edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]);
            let bits = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
            for value in near.chain(bits).chain([0, u64::MAX]) {
                assert_eq!(key(smallest(key(value))), key(value), "{value}");
                assert!(smallest(key(value)) <= value, "{value}");
                let mut at = usize::from(scale.starts[key(value)]);
                while scale.edges.get(at).is_some_and(|edge| *edge < value) {
                    at += 1;
                }
                assert_eq!(at, scale.edges.partition_point(|edge| *edge < value), "{value}");
            }
        }
    }

    #[test]
    fn a_sample_on_an_edge_counts_below_it_and_both_kinds_hold_all_samples() {
        let ns = Duration::from_nanos;
        let samples = [
            ns(0),
            us(25),
            ns(25_001),
            s(5),
            ns(5_000_000_001),
            s(1),
            ns(1_000_000_001),
            Duration::MAX,
        ];
        let read = read(&Scale::of_requests(&[]), &samples);
        assert_eq!(read.count, 8);
        let at = |edge: f64| read.classic.iter().find(|(e, _)| (e - edge).abs() < 1e-12).unwrap().1;
        assert_eq!((at(25e-6), at(50e-6), at(1.0), at(5.0)), (2, 3, 4, 6));
        let native = &read.native;
        assert_eq!((native.schema, native.zero_count), (3, 1));
        assert_eq!(native.counts.iter().map(|(_, n)| n).sum::<u64>() + native.zero_count, 8);
        // 1 s ends bucket 0; a nanosecond more is bucket 1; what has no bucket lies in the one behind the last.
        let bucket = |index: i32| native.counts.iter().find(|(i, _)| *i == index).map(|(_, n)| *n);
        assert_eq!((bucket(0), bucket(1), bucket(81)), (Some(1), Some(1), Some(1)));
        for (index, _) in native.counts.iter().filter(|(i, _)| *i < 81) {
            let (low, high) = (
                2_f64.powf(f64::from(index - 1) / 8.0),
                2_f64.powf(f64::from(*index) / 8.0),
            );
            let inside = |sample: &Duration| sample.as_secs_f64() > low && sample.as_secs_f64() <= high;
            assert!(samples.iter().any(inside), "{index}: {low} to {high}");
        }
    }

    #[test]
    fn an_edge_of_the_settings_is_one_exactly_and_one_that_is_there_is_not_there_twice() {
        let scale = Scale::of_requests(&[Duration::from_millis(3), us(500)]);
        let edges: Vec<f64> = scale.classic.iter().map(|(edge, _)| *edge).collect();
        assert_eq!(edges.len(), 19);
        assert!(
            edges.windows(2).all(|w| w[0] < w[1]) && edges.contains(&0.003),
            "{edges:?}"
        );
    }

    #[test]
    fn delays_of_months_have_a_sum() {
        let months = s(120 * 24 * HOUR);
        let read = read(&Scale::of_delays(), &[months; 3]);
        assert!((read.sum - 3.0 * months.as_secs_f64()).abs() < 1e-6, "{}", read.sum);
        assert_eq!(read.classic.last().unwrap().1, 3);
    }
}
