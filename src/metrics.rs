//! Every metric: name, labels, edges, help. Handles are made once and kept; nothing is looked up by name on the way
//! of a request.
//!
//! Always holds: histograms, never summaries, in seconds; every counter exists at 0 from the start; identity stands on
//! series that are written from the gateway's state at each scrape, so that a version that left leaves no series;
//! [`Metrics::upkeep`], called on a timer, keeps memory flat when nobody scrapes.
//! Leaves to others: when to count.

mod families;
mod model;

use std::time::Duration;

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use model::{ModelMetrics, RecorderDrop, SwapKind, VersionSeries};

use crate::error::Kind;

/// Edges of all histograms, in seconds: a tree or a small network answers in 20 to 500 µs, so the first ones are close.
const EDGES: [f64; 18] = [
    25e-6, 50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 1.5e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3,
    250e-3, 1.0, 5.0,
];

const METADATA: Metadata<'static> = Metadata::new("dethrone", Level::INFO, None);

/// One gateway's metrics; several may live in one process.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
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
        // Only an empty list of edges is an error.
        let builder = PrometheusBuilder::new().set_buckets(&EDGES).unwrap_or_default();
        let recorder = builder.build_recorder();
        families::describe(&recorder);
        let handle = recorder.handle();
        let metrics = Self { recorder, handle };
        // Not a model's: it must be there, at 0, before the first model is.
        metrics.counter(families::DROPPED_BY_SWAP, Vec::new());
        metrics
    }

    /// Handles of the listeners.
    #[must_use]
    pub fn http(&self) -> HttpMetrics {
        HttpMetrics::new(self)
    }

    /// Handles of one model.
    #[must_use]
    pub fn model(&self, model: &str) -> ModelMetrics {
        ModelMetrics::new(self, model)
    }

    /// Folds the raw samples of the histograms into their buckets.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The text of a scrape, with the series of the versions that are loaded now.
    #[must_use]
    pub fn render(&self, versions: &[VersionSeries]) -> String {
        let mut text = self.handle.render();
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

    pub(crate) fn seconds(&self, name: &'static str, labels: Vec<Label>) -> Seconds {
        Seconds(
            self.recorder
                .register_histogram(&Key::from_parts(name, labels), &METADATA),
        )
    }
}

/// A histogram of durations.
#[derive(Clone)]
pub struct Seconds(Histogram);

impl std::fmt::Debug for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seconds")
    }
}

impl Seconds {
    /// Adds a sample.
    pub fn record(&self, duration: Duration) {
        self.0.record(duration.as_secs_f64());
    }
}

/// Routes as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the labels")]
pub enum RouteName {
    Predict,
    Feedback,
    Health,
    Metrics,
    Admin,
    None,
}

impl RouteName {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Predict, "predict"),
        (Self::Feedback, "feedback"),
        (Self::Health, "health"),
        (Self::Metrics, "metrics"),
        (Self::Admin, "admin"),
        (Self::None, "none"),
    ];
}

/// How a request ended, coarsely enough for a histogram.
const OUTCOMES: [&str; 4] = ["ok", "refused", "shed", "failed"];

fn outcome(code: u16) -> usize {
    match code {
        0..400 => 0,
        429 => 2,
        400..500 => 1,
        _ => 3,
    }
}

/// Handles of the listeners.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    routes: Vec<RouteHandles>,
    /// Time of each phase of a prediction.
    pub phases: Phases,
    /// What the gateway adds to the model's own time.
    pub overhead: Seconds,
}

/// Handles of one route.
#[derive(Clone, Debug)]
struct RouteHandles {
    codes: Vec<(u16, Counter)>,
    champion: Vec<Seconds>,
    pinned: Vec<Seconds>,
}

/// The phases that a listener sees.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the labels")]
pub struct Phases {
    pub read: Seconds,
    pub decode: Seconds,
    pub queue: Seconds,
    pub compute: Seconds,
    pub encode: Seconds,
}

impl HttpMetrics {
    fn new(metrics: &Metrics) -> Self {
        let phase = |name: &'static str| metrics.seconds(families::PHASE, vec![Label::new("phase", name)]);
        Self {
            routes: RouteName::ALL
                .iter()
                .map(|(_, name)| RouteHandles::new(metrics, name))
                .collect(),
            phases: Phases {
                read: phase("read"),
                decode: phase("decode"),
                queue: phase("queue"),
                compute: phase("compute"),
                encode: phase("encode"),
            },
            overhead: metrics.seconds(families::OVERHEAD, Vec::new()),
        }
    }

    /// Counts an answer.
    pub fn answered(&self, route: RouteName, code: u16, pinned: bool, took: Duration) {
        let Some(handles) = self.routes.get(route as usize) else {
            return;
        };
        if let Some((_, counter)) = handles.codes.iter().find(|(c, _)| *c == code) {
            counter.increment(1);
        }
        let role = if pinned { &handles.pinned } else { &handles.champion };
        if let Some(histogram) = role.get(outcome(code)) {
            histogram.record(took);
        }
    }
}

impl RouteHandles {
    fn new(metrics: &Metrics, route: &'static str) -> Self {
        let mut codes: Vec<u16> = Kind::ALL.iter().map(|kind| kind.status()).collect();
        codes.push(200);
        codes.sort_unstable();
        codes.dedup();
        let count = |code: u16| {
            let labels = vec![Label::new("route", route), Label::new("code", code.to_string())];
            (code, metrics.counter(families::REQUESTS, labels))
        };
        let durations = |role: &'static str| -> Vec<Seconds> {
            let labels = |outcome: &'static str| {
                vec![
                    Label::new("route", route),
                    Label::new("role", role),
                    Label::new("outcome", outcome),
                ]
            };
            OUTCOMES
                .iter()
                .map(|o| metrics.seconds(families::DURATION, labels(o)))
                .collect()
        };
        let is_predict = route == "predict";
        Self {
            codes: codes.into_iter().map(count).collect(),
            champion: durations(if is_predict { "champion" } else { "none" }),
            pinned: if is_predict { durations("pinned") } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn every_counter_exists_at_zero_and_every_family_has_help() {
        let metrics = Metrics::new();
        let (_http, _model) = (metrics.http(), metrics.model("m"));
        let text = metrics.render(&[]);
        for series in [
            "dethrone_requests_total{route=\"predict\",code=\"200\"}",
            "dethrone_requests_total{route=\"predict\",code=\"429\"}",
            "dethrone_labels_total{model=\"m\",status=\"late\"}",
            "dethrone_shadow_offered_total{model=\"m\"}",
            "dethrone_shadow_dropped_total{model=\"m\",reason=\"queue_full\"}",
            "dethrone_swaps_total{model=\"m\",kind=\"rollback\"}",
            "dethrone_requests_dropped_by_swap_total",
            "dethrone_fallbacks_total{model=\"m\"}",
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
        http.answered(RouteName::Predict, 200, false, Duration::from_micros(60));
        other.answered(RouteName::Predict, 200, true, Duration::from_micros(60));
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

    #[test]
    fn upkeep_without_a_scrape_loses_no_sample() {
        let metrics = Metrics::new();
        let http = metrics.http();
        for batch in 0..100u64 {
            for i in 0..10_000u64 {
                http.overhead.record(Duration::from_micros(i % 100 + batch));
            }
            metrics.upkeep();
        }
        assert_eq!(
            value(&metrics.render(&[]), "dethrone_overhead_seconds_count"),
            Some(1e6)
        );
    }
}
