//! Spans to the collector, in batches, by a thread of its own.
//!
//! Always holds: the queue is bounded, and who offers does not wait; a call ends within [`TIMEOUT`]; what a collector does
//! not take is dropped and counted, and the log says so once until it takes spans again. No other address is contacted.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::span::{pair, text};
use crate::metrics::TraceMetrics;

/// Requests that wait.
const QUEUE: usize = 2_048;
/// Requests of one call.
const BATCH: usize = 256;
/// The longest that the first of a batch waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time for a call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// At the end what waits has this long.
const GRACE: Duration = Duration::from_secs(1);

/// The way to the collector.
#[derive(Debug)]
pub struct Collector {
    queue: Sender<Vec<Span>>,
    metrics: TraceMetrics,
}

impl Collector {
    pub(super) fn offer(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            self.metrics.dropped.increment(count);
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Exporter {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Exporter {
    pub(super) fn start(endpoint: String, metrics: TraceMetrics) -> std::io::Result<(Collector, Self)> {
        let (queue, spans) = bounded(QUEUE);
        let (stop, stopped) = bounded(1);
        let (alive, ended) = bounded::<()>(0);
        let sender = Sending {
            endpoint,
            agent: agent(),
            spans,
            stopped,
            metrics: metrics.clone(),
            complained: false,
        };
        std::thread::Builder::new().name("traces".into()).spawn(move || {
            let _alive = alive;
            crate::priority::give_way();
            sender.run();
        })?;
        Ok((Collector { queue, metrics }, Self { stop, ended }))
    }

    /// Sends what waits, unless the collector takes longer than a moment.
    pub fn stop(self) {
        let _ = self.stop.try_send(());
        let _ = self.ended.recv_timeout(GRACE);
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // Nobody is contacted whom the settings do not name.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("dethrone/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

struct Sending {
    endpoint: String,
    agent: ureq::Agent,
    spans: Receiver<Vec<Span>>,
    stopped: Receiver<()>,
    metrics: TraceMetrics,
    complained: bool,
}

impl Sending {
    fn run(mut self) {
        loop {
            let (batch, goes_on) = self.batch();
            if !batch.is_empty() {
                self.send(batch);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The next batch, and whether another one may come.
    fn batch(&self) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let mut end = None;
        for _ in 0..BATCH {
            let wait = end.map_or(PATIENCE, |end: Instant| end.saturating_duration_since(Instant::now()));
            if self.stopped.try_recv().is_ok() {
                batch.extend(self.spans.try_iter().take(QUEUE).flatten());
                return (batch, false);
            }
            match self.spans.recv_timeout(wait) {
                Ok(spans) => {
                    batch.extend(spans);
                    end.get_or_insert_with(|| Instant::now() + PATIENCE);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return (batch, false),
            }
        }
        (batch, true)
    }

    fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = request(spans).encode_to_vec();
        let call = self
            .agent
            .post(&self.endpoint)
            .content_type("application/x-protobuf")
            .send(&body[..]);
        let why = match call {
            Ok(answer) if answer.status().is_success() => {
                self.complained = false;
                return self.metrics.sent.increment(count);
            }
            Ok(answer) => format!("it answers {}", answer.status()),
            Err(error) => error.to_string(),
        };
        self.metrics.failed.increment(count);
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                why,
                "the collector does not take traces: they are dropped until it does"
            );
        }
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            pair("service.name", text("dethrone")),
            pair("service.version", text(env!("CARGO_PKG_VERSION"))),
            pair("process.pid", super::span::text(&std::process::id().to_string())),
        ],
        ..Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "dethrone".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}
