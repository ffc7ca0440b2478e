//! A line of log for slow requests, a few a second at most.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Request;
use super::context::{self, Context};

/// Lines a second.
const MOST: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Slow {
    limit: Duration,
    start: Instant,
    /// The second that is counted, and how many requests were slow in it.
    count: Mutex<(u64, u64)>,
}

impl Slow {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            start: Instant::now(),
            count: Mutex::default(),
        }
    }

    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took >= self.limit
    }

    pub(super) fn log(&self, request: &Request<'_>, took: Duration, parent: Option<&Context>) {
        let second = request.ended.end.saturating_duration_since(self.start).as_secs();
        if !self.has_room(second) {
            return;
        }
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (code, route, took_us) = (request.ended.code.1, request.ended.route, us(took));
        let trace = parent.map(|parent| context::text(&parent.trace));
        let Some(told) = request.told else {
            tracing::warn!(route, code, took_us, trace, "slow request");
            return;
        };
        let moments = &told.moments;
        tracing::warn!(
            route,
            code,
            took_us,
            trace,
            model = told.model,
            version = told.version,
            role = told.role,
            id = told.id,
            rows = told.rows,
            read_us = us(moments.read.saturating_duration_since(request.ended.start)),
            decode_us = us(moments.decoded.saturating_duration_since(moments.read)),
            queue_us = us(moments.queue),
            compute_us = us(moments.compute),
            encode_us = us(moments.encoded.saturating_duration_since(moments.answered)),
            "slow request"
        );
    }

    /// The first ones of each second.
    fn has_room(&self, second: u64) -> bool {
        let mut seen = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != second {
            *seen = (second, 0);
        }
        seen.1 += 1;
        seen.1 <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_slow_requests_leaves_ten_lines_a_second() {
        let slow = Slow::new(Duration::ZERO);
        for second in [1, 2, 9] {
            assert_eq!((0..1_000).filter(|_| slow.has_room(second)).count(), 10, "{second}");
        }
    }
}
