//! The load: closed loops over many connections, open loops at a rate.
//!
//! Always holds: latencies of a closed loop are of the request alone; those of an open loop count from the moment at
//! which the request was *meant* to be sent, so that a server that stalls pays for everyone who waits behind.

mod calls;
mod closed;
mod open;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub(crate) use calls::calls;
pub(crate) use closed::closed;
pub(crate) use open::open;

use super::numbers::quantile;

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many connections, each asking again as soon as it is answered.
    Closed(usize),
    /// The same over gRPC: one call at a time per connection.
    Calls(usize),
    /// So many requests per second, at random times.
    Open(u32),
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(connections) | Self::Calls(connections) => write!(f, "{connections} connections"),
            Self::Open(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// Looks at the body of an answer; false: it is wrong.
pub(crate) type Check<'a> = &'a (dyn Fn(&[u8]) -> bool + Sync);

/// What is sent and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) requests: &'a [Vec<u8>],
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
    pub(crate) check: Option<Check<'a>>,
    /// While it is true a closed loop holds back.
    pub(crate) held: Option<&'a AtomicBool>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Refused because too much waits (429): no answers, no failures.
    pub(crate) refused: u64,
    /// Other statuses than 200.
    pub(crate) failed: u64,
    /// Answers that the check refused.
    pub(crate) wrong: u64,
    pub(crate) took: Duration,
    /// Sorted, in nanoseconds.
    pub(crate) latencies: Vec<u32>,
}

impl Outcome {
    fn note(&mut self, status: u16, body: &[u8], latency: Duration, check: Option<Check<'_>>) {
        if status == 429 {
            self.refused += 1;
            return;
        }
        self.answered += 1;
        if status != 200 {
            self.failed += 1;
        } else if check.is_some_and(|check| !check(body)) {
            self.wrong += 1;
        }
        self.latencies
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    /// In microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.latencies, share) / 1e3
    }
}
