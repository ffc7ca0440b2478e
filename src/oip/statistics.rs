//! What the protocol's statistics extension tells of a version: cumulative counts and times since it was loaded.
//!
//! Always holds: nothing here goes down; all is counted by atomic additions, so that no request waits for another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Batches of more rows are counted, and not listed by size.
const LISTED: usize = 128;

/// How often, and how long.
#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Sum {
    fn add(&self, count: u64, time: Duration) {
        self.count.fetch_add(count, Relaxed);
        self.ns
            .fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn read(&self) -> Total {
        Total {
            count: self.count.load(Relaxed),
            ns: self.ns.load(Relaxed),
        }
    }
}

/// Times of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// From its head to its answer.
    pub total: Duration,
    /// Waiting for a session.
    pub queue: Duration,
    /// Reading its tensors.
    pub input: Duration,
    /// Running the model.
    pub infer: Duration,
    /// Writing the answer.
    pub output: Duration,
}

/// One version's counters.
#[derive(Debug)]
pub struct Counters {
    last_ms: AtomicU64,
    rows: AtomicU64,
    success: Sum,
    fail: Sum,
    queue: Sum,
    input: Sum,
    infer: Sum,
    output: Sum,
    /// Runs, and their time, by rows.
    runs: Box<[Sum]>,
    /// Runs of more rows.
    larger: Sum,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            last_ms: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            success: Sum::default(),
            fail: Sum::default(),
            queue: Sum::default(),
            input: Sum::default(),
            infer: Sum::default(),
            output: Sum::default(),
            runs: (0..LISTED).map(|_| Sum::default()).collect(),
            larger: Sum::default(),
        }
    }
}

impl Counters {
    /// Counts a run of the model.
    pub fn ran(&self, rows: usize, time: Duration) {
        let sum = rows
            .checked_sub(1)
            .and_then(|at| self.runs.get(at))
            .unwrap_or(&self.larger);
        sum.add(1, time);
    }

    /// Counts an answered request of so many rows.
    pub fn answered(&self, rows: usize, times: Times, now_ms: i64) {
        self.last_ms.store(u64::try_from(now_ms).unwrap_or(0), Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.success.add(1, times.total);
        self.queue.add(1, times.queue);
        self.input.add(1, times.input);
        self.infer.add(1, times.infer);
        self.output.add(1, times.output);
    }

    /// Counts a request that could not be answered.
    pub fn failed(&self, time: Duration) {
        self.fail.add(1, time);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn read(&self, name: &str, version: &str) -> Statistics {
        let executions = self
            .runs
            .iter()
            .chain([&self.larger])
            .map(|run| run.count.load(Relaxed))
            .sum();
        let none = Total::default();
        let batches = self.runs.iter().zip(1_u64..).filter_map(|(run, batch_size)| {
            let run = run.read();
            (run.count > 0).then_some(Batches {
                batch_size,
                compute_input: Total {
                    count: run.count,
                    ns: 0,
                },
                compute_infer: run,
                compute_output: Total {
                    count: run.count,
                    ns: 0,
                },
            })
        });
        Statistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: self.last_ms.load(Relaxed),
            inference_count: self.rows.load(Relaxed),
            execution_count: executions,
            inference_stats: Durations {
                success: self.success.read(),
                fail: self.fail.read(),
                queue: self.queue.read(),
                compute_input: self.input.read(),
                compute_infer: self.infer.read(),
                compute_output: self.output.read(),
                cache_hit: none,
                cache_miss: none,
            },
            response_stats: Empty {},
            batch_stats: batches.collect(),
            memory_usage: [],
        }
    }
}

/// See [`Counters::read`]; field names are the protocol's.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct Statistics {
    pub name: String,
    pub version: String,
    /// Unix milliseconds.
    pub last_inference: u64,
    /// Rows.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    pub inference_stats: Durations,
    pub response_stats: Empty,
    pub batch_stats: Vec<Batches>,
    pub memory_usage: [u64; 0],
}

/// An object without keys.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Empty {}

/// A count and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct Total {
    pub count: u64,
    pub ns: u64,
}

/// Clients index all eight without asking whether they are there.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct Durations {
    pub success: Total,
    pub fail: Total,
    pub queue: Total,
    pub compute_input: Total,
    pub compute_infer: Total,
    pub compute_output: Total,
    pub cache_hit: Total,
    pub cache_miss: Total,
}

/// Runs of one size.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct Batches {
    pub batch_size: u64,
    pub compute_input: Total,
    pub compute_infer: Total,
    pub compute_output: Total,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_runs_are_counted_apart_and_no_duration_is_left_out() {
        let counters = Counters::default();
        let us = Duration::from_micros;
        counters.ran(1, us(5));
        counters.ran(64, us(50));
        counters.ran(64, us(70));
        counters.ran(LISTED + 1, us(900));
        let times = Times {
            total: us(100),
            queue: us(1),
            input: us(2),
            infer: us(50),
            output: us(3),
        };
        counters.answered(64, times, 1_700_000_000_000);
        counters.failed(us(9));
        let json = serde_json::to_value(counters.read("m", "e01")).unwrap();
        assert_eq!(
            (&json["inference_count"], &json["execution_count"]),
            (&64.into(), &4.into())
        );
        assert_eq!(json["last_inference"], 1_700_000_000_000_u64);
        for (name, count, ns) in [
            ("success", 1, 100_000),
            ("fail", 1, 9_000),
            ("queue", 1, 1_000),
            ("compute_input", 1, 2_000),
            ("compute_infer", 1, 50_000),
            ("compute_output", 1, 3_000),
            ("cache_hit", 0, 0),
            ("cache_miss", 0, 0),
        ] {
            assert_eq!(
                json["inference_stats"][name],
                serde_json::json!({"count": count, "ns": ns}),
                "{name}"
            );
        }
        let batches = json["batch_stats"].as_array().unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[1]["batch_size"], 64);
        assert_eq!(
            batches[1]["compute_infer"],
            serde_json::json!({"count": 2, "ns": 120_000})
        );
    }
}
