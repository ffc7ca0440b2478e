//! What became of the webhook's calls.

use metrics::Counter;

use super::{Metrics, families};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The other side took the event.
    Taken,
    /// It does not want it: given up.
    Refused,
    /// It could not be reached, or could not take it: tried again.
    Failed,
}

/// Names, in the order of the variants.
const NAMES: [&str; 3] = ["taken", "refused", "failed"];

/// Handles, each at 0 from the start.
#[derive(Clone)]
pub struct WebhookMetrics {
    calls: [Counter; 3],
}

impl std::fmt::Debug for WebhookMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookMetrics")
    }
}

impl WebhookMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            calls: NAMES.map(|name| metrics.count(families::WEBHOOK, vec![("result", name.into())])),
        }
    }

    /// Counts a call.
    pub fn delivered(&self, delivery: Delivery) {
        let [taken, refused, failed] = &self.calls;
        match delivery {
            Delivery::Taken => taken,
            Delivery::Refused => refused,
            Delivery::Failed => failed,
        }
        .increment(1);
    }
}
