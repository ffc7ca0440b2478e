//! What became of spans.

use metrics::Counter;

use super::{Metrics, families};

/// Handles, each at 0 from the start.
#[derive(Clone)]
pub struct TraceMetrics {
    /// The collector took them.
    pub sent: Counter,
    /// It did not, or could not be reached.
    pub failed: Counter,
    /// There was no room in the queue.
    pub dropped: Counter,
}

impl std::fmt::Debug for TraceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TraceMetrics")
    }
}

impl TraceMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let one = |result: &'static str| metrics.count(families::SPANS, vec![("result", result.into())]);
        Self {
            sent: one("sent"),
            failed: one("failed"),
            dropped: one("dropped"),
        }
    }
}
