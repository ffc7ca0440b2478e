//! Histograms of durations: one counter per bucket, nothing else.
//!
//! Always holds: a sample costs two atomic additions in the thread's own place and no memory, so that a process that nobody scrapes stays as it
//! is; the count of a series is the sum of its buckets, whenever it is read. Leaves to others: which families there are.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::shard::Sharded;

/// Edges of all histograms, in nanoseconds: a tree or a small network answers in 20 to 500 µs, so the first ones are
/// close.
const EDGES: [u64; 18] = [
    25_000,
    50_000,
    100_000,
    200_000,
    350_000,
    500_000,
    750_000,
    1_000_000,
    1_500_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// One series.
#[derive(Debug)]
struct Series {
    family: &'static str,
    /// `route="predict",role="champion"`: as it is written between the braces.
    labels: String,
    samples: Sharded<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// Below or at each edge and above the one before; the last one above all.
    buckets: [AtomicU64; EDGES.len() + 1],
    sum_ns: AtomicU64,
}

/// The handle of one series.
#[derive(Debug, Clone)]
pub struct Seconds(Arc<Series>);

impl Seconds {
    /// Adds a sample.
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = EDGES.partition_point(|edge| *edge < ns);
        self.0.samples.with(|own| {
            if let Some(bucket) = own.buckets.get(at) {
                bucket.fetch_add(1, Relaxed);
            }
            own.sum_ns.fetch_add(ns, Relaxed);
        });
    }
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    series: Mutex<Vec<Arc<Series>>>,
}

impl Histograms {
    /// The series of this family with these labels; asked for again, it is the same one.
    pub(super) fn series(&self, family: &'static str, labels: &[(&'static str, &'static str)]) -> Seconds {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let labels = labels.join(",");
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(|s| s.family == family && s.labels == labels) {
            return Seconds(Arc::clone(known));
        }
        let new = Arc::new(Series {
            family,
            labels,
            samples: Sharded::default(),
        });
        all.push(Arc::clone(&new));
        Seconds(new)
    }

    /// Appends one family in the text format.
    pub(super) fn write(&self, text: &mut String, family: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} histogram\n");
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for series in all.iter().filter(|s| s.family == family) {
            series.write(text);
        }
        text.push('\n');
    }
}

impl Series {
    #[expect(clippy::cast_precision_loss, reason = "a sum of durations is read as a float anyway")]
    fn write(&self, text: &mut String) {
        let Self { family, labels, .. } = self;
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        let edges = EDGES.iter().map(|ns| (*ns as f64 / 1e9).to_string());
        for (at, edge) in edges.chain(["+Inf".to_owned()]).enumerate() {
            let buckets = self.samples.iter().filter_map(|own| own.buckets.get(at));
            count += buckets.map(|bucket| bucket.load(Relaxed)).sum::<u64>();
            let _ = writeln!(text, "{family}_bucket{{{labels}{comma}le=\"{edge}\"}} {count}");
        }
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let sum: u64 = self.samples.iter().map(|own| own.sum_ns.load(Relaxed)).sum();
        let sum = sum as f64 / 1e9;
        let _ = writeln!(text, "{family}_sum{braces} {sum}");
        let _ = writeln!(text, "{family}_count{braces} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(histograms: &Histograms) -> String {
        let mut text = String::new();
        histograms.write(&mut text, "f_seconds", "Help.");
        text
    }

    #[test]
    fn a_sample_on_an_edge_counts_below_it_and_the_buckets_add_up() {
        let histograms = Histograms::default();
        let series = histograms.series("f_seconds", &[("phase", "read")]);
        for ns in [0, 25_000, 25_001, 5_000_000_000, 5_000_000_001] {
            series.record(Duration::from_nanos(ns));
        }
        series.record(Duration::MAX);
        let text = written(&histograms);
        for line in [
            "# TYPE f_seconds histogram",
            "f_seconds_bucket{phase=\"read\",le=\"0.000025\"} 2",
            "f_seconds_bucket{phase=\"read\",le=\"0.00005\"} 3",
            "f_seconds_bucket{phase=\"read\",le=\"5\"} 4",
            "f_seconds_bucket{phase=\"read\",le=\"+Inf\"} 6",
            "f_seconds_count{phase=\"read\"} 6",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let histograms = Histograms::default();
        for _ in 0..3 {
            histograms.series("f_seconds", &[]).record(Duration::from_millis(250));
        }
        histograms.series("other_seconds", &[]).record(Duration::from_secs(1));
        let text = written(&histograms);
        assert!(
            text.contains("f_seconds_sum 0.75\nf_seconds_count 3\n") && !text.contains("other"),
            "{text}"
        );
    }
}
