//! What the protocol's statistics extension tells of a version: cumulative counts and times since it was loaded.
//!
//! Always holds: nothing here goes down; all is counted by atomic additions in the thread's own place, so that no request waits
//! for another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use crate::shard::Sharded;

/// Batches of more rows are counted, and not listed by size.
const LISTED: usize = 128;

/// How often, and how long.
#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Sum {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Relaxed);
        add(&self.ns, time);
    }
}

fn add(ns: &AtomicU64, time: Duration) {
    ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
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
#[derive(Debug, Default)]
pub struct Counters(Sharded<Counted>);

/// What one thread has counted.
#[derive(Debug)]
struct Counted {
    last_ms: AtomicU64,
    rows: AtomicU64,
    success: Sum,
    fail: Sum,
    queue_ns: AtomicU64,
    input_ns: AtomicU64,
    infer_ns: AtomicU64,
    output_ns: AtomicU64,
    /// Runs, and their time, by rows.
    runs: Box<[Sum]>,
    /// Runs of more rows.
    larger: Sum,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            last_ms: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            success: Sum::default(),
            fail: Sum::default(),
            queue_ns: AtomicU64::new(0),
            input_ns: AtomicU64::new(0),
            infer_ns: AtomicU64::new(0),
            output_ns: AtomicU64::new(0),
            runs: (0..LISTED).map(|_| Sum::default()).collect(),
            larger: Sum::default(),
        }
    }
}

impl Counters {
    /// Counts a run of the model.
    pub fn ran(&self, rows: usize, time: Duration) {
        self.0.with(|own| {
            let sum = rows
                .checked_sub(1)
                .and_then(|at| own.runs.get(at))
                .unwrap_or(&own.larger);
            sum.add(time);
        });
    }

    /// Runs of the model so far and their nanoseconds, by rows of a run; without the largest.
    #[must_use]
    pub fn runs(&self) -> Vec<(usize, u64, u64)> {
        let run = |at: usize| self.total(|own| own.runs.get(at).unwrap_or(&own.larger));
        let all = (0..LISTED).map(|at| (at + 1, run(at)));
        let some = all.filter(|(_, total)| total.count > 0);
        some.map(|(rows, total)| (rows, total.count, total.ns)).collect()
    }

    /// Counts an answered request of so many rows.
    pub fn answered(&self, rows: usize, times: Times, now_ms: i64) {
        self.0.with(|own| {
            own.last_ms.store(u64::try_from(now_ms).unwrap_or(0), Relaxed);
            own.rows.fetch_add(rows as u64, Relaxed);
            own.success.add(times.total);
            add(&own.queue_ns, times.queue);
            add(&own.input_ns, times.input);
            add(&own.infer_ns, times.infer);
            add(&own.output_ns, times.output);
        });
    }

    /// Counts a request that could not be answered.
    pub fn failed(&self, time: Duration) {
        self.0.with(|own| own.fail.add(time));
    }

    fn sum(&self, of: impl Fn(&Counted) -> &AtomicU64) -> u64 {
        self.0.iter().map(|own| of(own).load(Relaxed)).sum()
    }

    fn total(&self, of: impl Fn(&Counted) -> &Sum) -> Total {
        Total {
            count: self.sum(|own| &of(own).count),
            ns: self.sum(|own| &of(own).ns),
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn read(&self, name: &str, version: &str, version_name: &str) -> Statistics {
        let success = self.total(|own| &own.success);
        let phase = |of: fn(&Counted) -> &AtomicU64| Total {
            count: success.count,
            ns: self.sum(of),
        };
        let none = Total::default();
        let mut executions = self.total(|own| &own.larger).count;
        let mut batch_stats = Vec::new();
        for (at, batch_size) in (0..LISTED).zip(1_u64..) {
            let run = self.total(|own| own.runs.get(at).unwrap_or(&own.larger));
            executions += run.count;
            if run.count > 0 {
                let untimed = Total {
                    count: run.count,
                    ns: 0,
                };
                batch_stats.push(Batches {
                    batch_size,
                    compute_input: untimed,
                    compute_infer: run,
                    compute_output: untimed,
                });
            }
        }
        Statistics {
            name: name.to_owned(),
            version: version.to_owned(),
            version_name: version_name.to_owned(),
            last_inference: self.0.iter().map(|own| own.last_ms.load(Relaxed)).max().unwrap_or(0),
            inference_count: self.sum(|own| &own.rows),
            execution_count: executions,
            inference_stats: Durations {
                success,
                fail: self.total(|own| &own.fail),
                queue: phase(|own| &own.queue_ns),
                compute_input: phase(|own| &own.input_ns),
                compute_infer: phase(|own| &own.infer_ns),
                compute_output: phase(|own| &own.output_ns),
                cache_hit: none,
                cache_miss: none,
            },
            response_stats: Empty {},
            batch_stats,
            memory_usage: [],
        }
    }
}

/// See [`Counters::read`]; field names are the protocol's.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct Statistics {
    pub name: String,
    /// A whole number.
    pub version: String,
    /// Ours.
    pub version_name: String,
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
        let json = serde_json::to_value(counters.read("m", "7", "e01")).unwrap();
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
