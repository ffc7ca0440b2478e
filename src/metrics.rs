//! Every metric: name, labels, edges, help. Handles are made once and kept; nothing is looked up by name on the way
//! of a request.
//!
//! Always holds: histograms, never summaries, in seconds; every counter exists at 0 from the start; identity stands on
//! series that are written from the gateway's state at each scrape, so that a version that left leaves no series;
//! memory is flat when nobody scrapes.
//! Leaves to others: when to count.

mod families;
mod grpc;
mod histogram;
mod http;
mod model;
mod webhook;

use std::sync::Arc;

use metrics::{Counter, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::interference::Tail;
use histogram::Histograms;
use http::ROLES;

pub use grpc::GrpcMetrics;
pub use histogram::Seconds;
pub use http::{HttpMetrics, Phases, Role, RouteName};
pub use model::{ModelMetrics, RecorderDrop, SwapKind, VersionSeries, write_interference, write_ledger, write_monitor};
pub use webhook::{Delivery, WebhookMetrics};

const METADATA: Metadata<'static> = Metadata::new("dethrone", Level::INFO, None);

/// One gateway's metrics; several may live in one process.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    histograms: Histograms,
    tail: Arc<Tail>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All families, at 0.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        families::describe(&recorder);
        let handle = recorder.handle();
        let metrics = Self {
            recorder,
            handle,
            histograms: Histograms::default(),
            tail: Arc::default(),
        };
        // Not a model's: it must be there, at 0, before the first model is.
        let _ = metrics.counter(families::DROPPED_BY_SWAP, Vec::new());
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

    /// Handles of one model.
    #[must_use]
    pub fn model(&self, model: &str) -> ModelMetrics {
        ModelMetrics::new(self, model)
    }

    /// The text of a scrape, with the series of the versions that are loaded now.
    #[must_use]
    pub fn render(&self, versions: &[VersionSeries]) -> String {
        let mut text = self.handle.render();
        for (family, help) in families::HISTOGRAMS {
            self.histograms.write(&mut text, family, help);
        }
        model::write_versions(&mut text, versions);
        text
    }

    pub(crate) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let counter = self
            .recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA);
        counter.increment(0);
        counter
    }

    pub(crate) fn seconds(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Seconds {
        self.histograms.series(name, labels)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn every_counter_exists_at_zero_and_every_family_has_help() {
        let metrics = Metrics::new();
        let (_http, _grpc, _model) = (metrics.http(), metrics.grpc(), metrics.model("m"));
        let text = metrics.render(&[]);
        for series in [
            "dethrone_requests_total{route=\"predict\",code=\"200\"}",
            "dethrone_requests_total{route=\"predict\",code=\"429\"}",
            "dethrone_grpc_requests_total{rpc=\"ModelInfer\",code=\"OK\"}",
            "dethrone_labels_total{model=\"m\",status=\"late\"}",
            "dethrone_shadow_offered_total{model=\"m\"}",
            "dethrone_shadow_dropped_total{model=\"m\",reason=\"queue_full\"}",
            "dethrone_swaps_total{model=\"m\",kind=\"rollback\"}",
            "dethrone_requests_dropped_by_swap_total",
            "dethrone_fallbacks_total{model=\"m\"}",
            "dethrone_no_answer_total{model=\"m\"}",
            "dethrone_runner_restarts_total{model=\"m\"}",
            "dethrone_recorder_dropped_total{model=\"m\",reason=\"queue_full\"}",
        ] {
            assert_eq!(value(&text, series), Some(0.0), "{series}\n{text}");
        }
        let typed: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        for family in &typed {
            let name = family.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(typed.len() >= 10 && !text.contains("summary"), "{typed:?}");
    }

    #[test]
    fn a_duration_falls_into_the_bucket_of_its_edge_and_two_gateways_do_not_mix() {
        let (a, b) = (Metrics::new(), Metrics::new());
        let (http, other) = (a.http(), b.http());
        http.answered(RouteName::Predict, 200, Role::Champion, Duration::from_micros(60));
        other.answered(RouteName::Predict, 200, Role::Pinned, Duration::from_micros(60));
        let text = a.render(&[]);
        let bucket = |role: &str, le: &str| {
            format!(
                "dethrone_request_duration_seconds_bucket{{route=\"predict\",role=\"{role}\",outcome=\"ok\",le=\"{le}\"}}"
            )
        };
        assert_eq!(value(&text, &bucket("champion", "0.00005")), Some(0.0));
        assert_eq!(value(&text, &bucket("champion", "0.0001")), Some(1.0));
        assert_ne!(value(&text, &bucket("pinned", "+Inf")), Some(1.0));
        assert_eq!(value(&b.render(&[]), &bucket("pinned", "+Inf")), Some(1.0));
    }
}
