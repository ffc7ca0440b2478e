//! Counters and histograms of durations that are added to on the way of a request, and all of them by name.
//!
//! Always holds: adding takes one or two atomic additions in the thread's own place ([`crate::shard`]) and no memory once
//! it has begun, so that a process that nobody scrapes stays as it is; what nobody has added to takes next to none.
//! Leaves to others: which families there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use metrics::CounterFn;

use super::page::{Example, Family, Kind, Labels, Named, Series, Value, number};
use super::scale::{Cells, Scale};
use crate::shard::Sharded;

/// What a counter's handle, which is the field's own ([`metrics::Counter`]), adds to.
#[derive(Debug, Default)]
pub(super) struct Tally(OnceLock<Sharded<AtomicU64>>);

impl CounterFn for Tally {
    fn increment(&self, by: u64) {
        self.0.get_or_init(Sharded::default).with(|own| {
            own.fetch_add(by, Relaxed);
        });
    }

    /// Of a count that somebody else keeps: what it has grown by.
    fn absolute(&self, value: u64) {
        self.increment(value.saturating_sub(self.read()));
    }
}

impl Tally {
    fn read(&self) -> u64 {
        let all = self.0.get().into_iter().flat_map(Sharded::iter);
        all.map(|own| own.load(Relaxed)).sum()
    }
}

/// The handle of a histogram of durations.
#[derive(Debug, Clone)]
pub struct Seconds(Arc<Histogram>);

#[derive(Debug)]
struct Histogram {
    scale: Arc<Scale>,
    cells: OnceLock<Sharded<Cells>>,
    /// By classic bucket; only of requests that a trace tells of.
    examples: OnceLock<Mutex<BTreeMap<usize, Example>>>,
}

impl Seconds {
    pub(super) fn new(scale: &Arc<Scale>) -> Self {
        Self(Arc::new(Histogram {
            scale: Arc::clone(scale),
            cells: OnceLock::new(),
            examples: OnceLock::new(),
        }))
    }

    /// A trace tells of a sample that was added.
    pub(crate) fn exemplify(&self, duration: Duration, trace: [u8; 16]) {
        let example = Example {
            trace,
            value: duration.as_secs_f64(),
            at_ms: crate::time::now_ms(),
        };
        let mut examples = lock(self.0.examples.get_or_init(Mutex::default));
        examples.insert(self.0.scale.classic_bucket(duration), example);
    }

    /// Adds a sample.
    pub fn record(&self, duration: Duration) {
        let Histogram { scale, cells, .. } = &*self.0;
        cells
            .get_or_init(Sharded::default)
            .with(|own| scale.record(own, duration));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is registered: read at each scrape.
pub(super) trait Read: Clone {
    const KIND: Kind;

    fn value(&self) -> Value;
}

impl Read for Arc<Tally> {
    const KIND: Kind = Kind::Counter;

    fn value(&self) -> Value {
        Value::Number(number(self.read()))
    }
}

impl Read for Seconds {
    const KIND: Kind = Kind::Histogram;

    fn value(&self) -> Value {
        let mut samples = self.0.scale.read(self.0.cells.get());
        if let Some(examples) = self.0.examples.get() {
            samples.examples = lock(examples)
                .iter()
                .map(|(bucket, example)| (*bucket, *example))
                .collect();
        }
        Value::Samples(Box::new(samples))
    }
}

/// All series of one kind.
#[derive(Debug)]
pub(super) struct Registered<T>(Mutex<BTreeMap<&'static str, BTreeMap<Labels, T>>>);

impl<T> Default for Registered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Read> Registered<T> {
    /// The series of this family with these labels; asked for again, it is the same one.
    pub(super) fn series(&self, family: &'static str, labels: Labels, new: impl FnOnce() -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(family).or_default().entry(labels).or_insert_with(new).clone()
    }

    /// All that was added to a family so far.
    pub(super) fn family(&self, (name, help): Named) -> Family {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.get(name).into_iter().flatten();
        let one = |(labels, of): (&Labels, &T)| Series {
            labels: labels.clone(),
            value: of.value(),
        };
        Family {
            name,
            help,
            kind: T::KIND,
            series: series.map(one).collect(),
        }
    }
}

impl Registered<Arc<Tally>> {
    /// What was added so far to those series of a family that are wanted.
    pub(super) fn sum(&self, family: &'static str, wanted: impl Fn(&Labels) -> bool) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = all.get(family).into_iter().flatten();
        let added = series
            .filter(|(labels, _)| wanted(labels))
            .map(|(_, tally)| tally.read());
        added.fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use metrics::Counter;

    use super::*;

    #[test]
    fn the_same_labels_are_the_same_series_and_what_nobody_added_to_is_zero() {
        let registered = Registered::<Arc<Tally>>::default();
        let labels = |model: &'static str| -> Labels { vec![("model", model.into())] };
        for _ in 0..3 {
            let series = registered.series("f_total", labels("a"), Arc::default);
            Counter::from_arc(series).increment(2);
        }
        Counter::from_arc(registered.series("f_total", labels("a"), Arc::default)).absolute(6);
        let _ = registered.series("f_total", labels("b"), Arc::default);
        let family = registered.family(("f_total", "Help."));
        let read: Vec<(Labels, f64)> = family
            .series
            .into_iter()
            .map(|series| match series.value {
                Value::Number(value) => (series.labels, value),
                Value::Samples(_) => panic!("a counter"),
            })
            .collect();
        assert_eq!(read, [(labels("a"), 6.0), (labels("b"), 0.0)]);
        assert!(registered.family(("other_total", "Help.")).series.is_empty());
        let of_a = |all: &Labels| *all == labels("a");
        assert_eq!(
            (registered.sum("f_total", of_a), registered.sum("f_total", |_| true)),
            (6, 6)
        );
        assert_eq!(registered.sum("f_total", |all| !of_a(all)), 0);
    }
}
