//! Every metric: name, labels, edges, help. Handles are made once and kept; nothing is looked up by name on the way
//! of a request.
//!
//! Always holds: histograms, never summaries, in seconds; every counter exists at 0 from the start; identity stands on
//! series that are written from the gateway's state at each scrape, so that a version that left leaves no series;
//! memory is flat when nobody scrapes.
//! Leaves to others: when to count.

mod allocator;
mod families;
mod format;
mod grpc;
mod http;
mod model;
mod page;
mod process;
pub mod protobuf;
mod registered;
mod scale;
mod text;
mod trace;
mod triton;
mod unanswered;
mod versions;
mod webhook;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::Counter;

use crate::interference::Tail;
use http::ROLES;
use page::Labels;
use registered::{Registered, Tally};
use scale::Scale;

pub use format::Format;
pub use grpc::GrpcMetrics;
pub use http::{Connections, Crowd, HttpMetrics, Phases, Role, RouteName, write_listeners};
pub use model::{ModelMetrics, RecorderDrop, SwapKind, write_interference, write_ledger, write_monitor};
pub use page::{Page, number};
pub use registered::Seconds;
pub use scale::MOST_EDGES;
pub use trace::TraceMetrics;
pub use triton::write_triton;
pub(crate) use unanswered::Unanswered;
pub use versions::{ModelSeries, Standing, VersionSeries, write_models};
pub use webhook::{Delivery, WebhookMetrics};

/// Asked when the champion changes; not there before the listeners are.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<Option<Box<dyn Fn() -> usize + Send>>>);

impl InFlight {
    /// From now on this is asked.
    pub(crate) fn ask(&self, count: impl Fn() -> usize + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(count));
    }

    fn now(&self) -> usize {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.as_ref().map_or(0, |count| count())
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}

/// One gateway's metrics; several may live in one process.
#[derive(Debug)]
pub struct Metrics {
    counts: Registered<Arc<Tally>>,
    seconds: Registered<Seconds>,
    requests: Arc<Scale>,
    delays: Arc<Scale>,
    tail: Arc<Tail>,
    /// How many predictions are being answered; the listeners know.
    in_flight: Arc<InFlight>,
    /// Unix milliseconds.
    started_ms: i64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Metrics {
    /// All families, at 0; times of requests are counted at these edges besides the built-in ones.
    #[must_use]
    pub fn new(edges: &[Duration]) -> Self {
        let metrics = Self {
            counts: Registered::default(),
            seconds: Registered::default(),
            requests: Arc::new(Scale::of_requests(edges)),
            delays: Arc::new(Scale::of_delays()),
            tail: Arc::default(),
            in_flight: Arc::default(),
            started_ms: crate::time::now_ms(),
        };
        // Not a model's: it must be there, at 0, before the first model is.
        let _ = metrics.count(families::DROPPED_BY_SWAP, Vec::new());
        metrics
    }

    /// The latencies of which the tail is watched.
    #[must_use]
    pub fn tail(&self) -> Arc<Tail> {
        Arc::clone(&self.tail)
    }

    /// Handles of the listeners.
    #[must_use]
    pub fn http(&self) -> HttpMetrics {
        HttpMetrics::new(self)
    }

    /// Handles of the gRPC listener.
    #[must_use]
    pub fn grpc(&self) -> GrpcMetrics {
        GrpcMetrics::new(self)
    }

    /// Handles of the webhook.
    #[must_use]
    pub fn webhook(&self) -> WebhookMetrics {
        WebhookMetrics::new(self)
    }

    /// Handles of the traces.
    #[must_use]
    pub fn trace(&self) -> TraceMetrics {
        TraceMetrics::new(self)
    }

    /// Handles of one model.
    #[must_use]
    pub fn model(&self, model: &str) -> ModelMetrics {
        ModelMetrics::new(self, model)
    }

    /// What was counted so far, and the process; the rest of a scrape is appended by whoever knows it.
    #[must_use]
    pub fn page(&self) -> Page {
        let mut page = Page::default();
        for family in families::HISTOGRAMS {
            page.push(self.seconds.family(family));
        }
        for family in families::COUNTERS {
            page.push(self.counts.family(family));
        }
        process::write(&mut page, self.started_ms);
        allocator::write(&mut page);
        page
    }

    /// Predictions that were answered so far, however they ended; calls over gRPC of any kind. Read now and then.
    #[must_use]
    pub fn answers(&self) -> u64 {
        let is_prediction = |labels: &Labels| {
            let is_one = |route: &str| matches!(route, "predict" | "infer");
            labels.iter().any(|(name, value)| *name == "route" && is_one(value))
        };
        let over_http = self.counts.sum(families::REQUESTS, is_prediction);
        over_http.wrapping_add(self.counts.sum(families::GRPC_REQUESTS, |_| true))
    }

    pub(crate) fn count(&self, name: &'static str, labels: Labels) -> Counter {
        Counter::from_arc(self.counts.series(name, labels, Arc::default))
    }

    pub(crate) fn seconds(&self, name: &'static str, labels: Labels) -> Seconds {
        self.seconds.series(name, labels, || Seconds::new(&self.requests))
    }

    pub(crate) fn delays(&self, name: &'static str, labels: Labels) -> Seconds {
        self.seconds.series(name, labels, || Seconds::new(&self.delays))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &Page) -> String {
        String::from_utf8(Format::Prometheus.write(page)).unwrap()
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn every_counter_exists_at_zero_and_every_family_has_help() {
        let metrics = Metrics::default();
        let (_http, _grpc, _model) = (metrics.http(), metrics.grpc(), metrics.model("m"));
        let text = text(&metrics.page());
        for series in [
            "dethrone_requests_total{route=\"predict\",code=\"200\"}",
            "dethrone_requests_total{route=\"predict\",code=\"429\"}",
            "dethrone_grpc_requests_total{rpc=\"ModelInfer\",code=\"OK\"}",
            "dethrone_labels_total{model=\"m\",status=\"late\"}",
            "dethrone_shadow_offered_total{model=\"m\"}",
            "dethrone_shadow_failed_total{model=\"m\"}",
            "dethrone_shadow_dropped_total{model=\"m\",reason=\"queue_full\"}",
            "dethrone_swaps_total{model=\"m\",kind=\"rollback\"}",
            "dethrone_requests_dropped_by_swap_total",
            "dethrone_requests_abandoned_total{route=\"predict\"}",
            "dethrone_grpc_requests_abandoned_total{rpc=\"ModelInfer\"}",
            "dethrone_in_flight_at_swap_total{model=\"m\"}",
            "dethrone_fallbacks_total{model=\"m\"}",
            "dethrone_no_answer_total{model=\"m\"}",
            "dethrone_quarantines_total{model=\"m\"}",
            "dethrone_refusals_total{model=\"m\"}",
            "dethrone_runner_restarts_total{model=\"m\"}",
            "dethrone_recorder_dropped_total{model=\"m\",reason=\"queue_full\"}",
            "dethrone_label_delay_seconds_count{model=\"m\"}",
        ] {
            assert_eq!(value(&text, series), Some(0.0), "{series}\n{text}");
        }
        let typed: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        for family in &typed {
            let name = family.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(typed.len() >= 20 && !text.contains("summary"), "{typed:?}");
        assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6, "{text}");
        assert!(value(&text, "process_open_fds").unwrap() >= 3.0);
    }

    #[test]
    fn a_duration_falls_into_the_bucket_of_its_edge_and_two_gateways_do_not_mix() {
        let (a, b) = (Metrics::default(), Metrics::new(&[Duration::from_micros(70)]));
        let (http, other) = (a.http(), b.http());
        http.answered(RouteName::Predict, 200, Role::Champion, Duration::from_micros(60));
        other.answered(RouteName::Predict, 200, Role::Pinned, Duration::from_micros(80));
        let (a, b) = (text(&a.page()), text(&b.page()));
        let bucket = |role: &str, le: &str| {
            format!(
                "dethrone_request_duration_seconds_bucket{{route=\"predict\",role=\"{role}\",outcome=\"ok\",le=\"{le}\"}}"
            )
        };
        assert_eq!(value(&a, &bucket("champion", "0.00005")), Some(0.0));
        assert_eq!(value(&a, &bucket("champion", "0.0001")), Some(1.0));
        assert_eq!(value(&a, &bucket("pinned", "+Inf")), Some(0.0));
        assert_eq!(value(&a, &bucket("champion", "0.00007")), None);
        assert_eq!(value(&b, &bucket("pinned", "0.00007")), Some(0.0));
        assert_eq!(value(&b, &bucket("pinned", "+Inf")), Some(1.0));
    }
}
