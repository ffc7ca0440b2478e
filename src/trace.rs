//! What happened to single requests: spans for a collector (OpenTelemetry's protocol over HTTP), and a line of log for the
//! slow ones. Both are off unless the settings ask for them.
//!
//! Always holds: off, a request pays a branch; on, whatever is told is made when the answer is ready and handed to a bounded
//! queue, and what finds no room is dropped and counted. Nobody waits for a collector. A caller's `traceparent` (W3C) is
//! taken up, and the answer says in `traceresponse` which trace it is in. Leaves to others: when a request is over (`http`,
//! `grpc`).

mod context;
mod export;
mod slow;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Response};

pub use export::{Collector, Exporter};
pub use span::{Moments, Told};

use crate::metrics::TraceMetrics;
use context::Context;
use slow::Slow;

/// What the settings ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceConfig {
    /// Where spans go; `None`: nowhere.
    pub endpoint: Option<String>,
    /// Share of the requests without a caller's trace that are told.
    pub sample: f64,
    /// Requests that take longer are logged; `None`: none.
    pub slow: Option<Duration>,
}

/// See the module. The listeners have one where the settings ask for anything.
#[derive(Debug)]
pub struct Tracer {
    collector: Option<Collector>,
    sample: f64,
    asked: AtomicU64,
    slow: Option<Slow>,
}

/// The trace that a caller is in, where it says so.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Option<Context>);

impl Caller {
    /// As a head has it.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(Context::of(headers))
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// `predict`, `infer`, `ModelInfer`, …
    pub(crate) route: &'static str,
    /// As the protocol has it, and how traces call that.
    pub(crate) code: (&'static str, u16),
    /// The service failed it.
    pub(crate) failed: bool,
    /// Its head was there.
    pub(crate) start: Instant,
    /// Its answer was.
    pub(crate) end: Instant,
}

/// A request that is over, with what it was about where it got that far.
#[derive(Debug)]
struct Request<'a> {
    ended: Ended,
    told: Option<&'a Told>,
}

impl Tracer {
    /// The tracer, and what sends its spans, for these settings; `None` where they ask for nothing.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        config: &TraceConfig,
        metrics: &TraceMetrics,
    ) -> std::io::Result<(Option<Arc<Self>>, Option<Exporter>)> {
        let (mut collector, mut exporter) = (None, None);
        if let Some(endpoint) = &config.endpoint {
            let (queue, sender) = Exporter::start(endpoint.clone(), metrics.clone())?;
            (collector, exporter) = (Some(queue), Some(sender));
        }
        let slow = config.slow.map(Slow::new);
        let is_on = collector.is_some() || slow.is_some();
        let tracer = is_on.then(|| {
            Arc::new(Self {
                collector,
                sample: config.sample,
                asked: AtomicU64::new(0),
                slow,
            })
        });
        Ok((tracer, exporter))
    }

    /// Tells of a request that is over, and lets the answer name the trace, whose number it gives.
    pub(crate) fn answered<T>(&self, headers: &HeaderMap, ended: &Ended, answer: &mut Response<T>) -> Option<[u8; 16]> {
        let told: Option<Box<Told>> = answer.extensions_mut().remove();
        let request = Request {
            ended: *ended,
            told: told.as_deref(),
        };
        let own = self.tell(Context::of(headers), &request)?;
        if let Some(name) = own.response() {
            answer.headers_mut().insert("traceresponse", name);
        }
        Some(own.trace)
    }

    /// Tells of a message in a stream that is answered; `caller` is what the stream's head said.
    pub(crate) fn answered_in_stream(&self, caller: &Caller, ended: &Ended, told: Option<&Told>) -> Option<[u8; 16]> {
        let request = Request { ended: *ended, told };
        self.tell(caller.0.clone(), &request).map(|own| own.trace)
    }

    fn tell(&self, parent: Option<Context>, request: &Request<'_>) -> Option<Context> {
        let Ended { start, end, .. } = request.ended;
        let took = end.saturating_duration_since(start);
        if let Some(slow) = self.slow.as_ref().filter(|slow| slow.is_slow(took)) {
            slow.log(request, took, parent.as_ref());
        }
        let collector = self.collector.as_ref()?;
        let is_told = match &parent {
            Some(parent) => parent.sampled,
            None => self.draws(),
        };
        if !is_told {
            return None;
        }
        let own = Context::new(parent.as_ref());
        collector.offer(span::of(&own, parent.as_ref(), request));
        Some(own)
    }

    /// Evenly: of n requests floor(n · share) are drawn.
    fn draws(&self) -> bool {
        let count = crate::metrics::number(self.asked.fetch_add(1, Ordering::Relaxed));
        let drawn = |count: f64| (count * self.sample).floor();
        drawn(count + 1.0) > drawn(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(sample: f64) -> Tracer {
        Tracer {
            collector: None,
            sample,
            asked: AtomicU64::new(0),
            slow: None,
        }
    }

    #[test]
    fn a_share_is_drawn_evenly_and_exactly() {
        for (share, of, drawn) in [
            (0.0, 1_000, 0),
            (1.0, 1_000, 1_000),
            (0.25, 1_000, 250),
            (0.01, 1_000, 10),
        ] {
            let tracer = tracer(share);
            assert_eq!((0..of).filter(|_| tracer.draws()).count(), drawn, "{share}");
        }
    }

    #[test]
    fn nothing_is_started_where_nothing_is_asked_for() {
        let metrics = crate::metrics::Metrics::default().trace();
        let (tracer, exporter) = Tracer::start(&TraceConfig::default(), &metrics).unwrap();
        assert!(tracer.is_none() && exporter.is_none());
    }
}
