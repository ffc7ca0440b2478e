//! The HTTP listeners: HTTP/1.1 and HTTP/2 with prior knowledge on one port, three faces.
//!
//! Always holds: a body, a head, an idle connection and a queue have limits; a request whose end can be read in two ways
//! is refused (`framing`); what is refused is refused with JSON and
//! a code; a body and its head leave in one write; health and scrapes are never shed; nothing on the way of
//! `/predict` is boxed by us; shutting down stops accepting, finishes what is in flight, and ends after the grace.
//! Leaves to others: what the answers are ([`Backend`]), what rows and tensors look like (`decode`, `oip`), gRPC.

mod admin;
mod aside;
pub(crate) mod asking;
pub mod backend;
pub(crate) mod body;
pub(crate) mod coding;
pub(crate) mod connection;
mod edge;
mod encode;
mod feedback;
pub(crate) mod framing;
mod gate;
mod health;
pub(crate) mod infer;
mod lag;
pub(crate) mod listener;
pub(crate) mod models;
mod places;
mod predict;
mod query;
mod refusal;
pub(crate) mod reply;
mod route;
pub(crate) mod stack;
pub(crate) mod stream;
pub(crate) mod strict;

/// What is private here and measured alone (`benches/parts`).
#[doc(hidden)]
pub mod bench {
    /// The body of a `/predict` reply.
    #[must_use]
    pub fn encode(model: &str, reply: &super::backend::Reply) -> Vec<u8> {
        super::encode::reply(model, reply)
    }

    /// The framing of one connection.
    #[derive(Debug)]
    pub struct Framing(super::framing::Framing);

    impl Default for Framing {
        fn default() -> Self {
            Self(super::framing::Framing::new(super::Limits::default().max_head_bytes))
        }
    }

    impl Framing {
        /// True where the bytes are sound.
        pub fn follow(&mut self, bytes: &[u8]) -> bool {
            self.0.follow(bytes).is_ok()
        }
    }
}

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use backend::Backend;
pub use listener::{Listener, Servers, bind};
pub use route::Face;

use crate::auth::Auth;
use crate::config::ServerConfig;
use crate::metrics::HttpMetrics;
use crate::trace::Tracer;
pub(crate) use lag::Lag;
use places::Places;

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body.
    pub max_body_bytes: usize,
    /// Body bytes held by all requests together.
    pub max_buffered_bytes: usize,
    /// Labels in one JSON body.
    pub max_labels: usize,
    /// Connections per listener; at the limit the longest idle one goes.
    pub max_connections: usize,
    /// Predictions being answered at once, and as many requests with labels; more are shed.
    pub max_in_flight: usize,
    /// Label streams at once; more are shed.
    pub max_streams: usize,
    /// Streams of one HTTP/2 connection at once; more are refused.
    pub max_h2_streams: u32,
    /// Largest head.
    pub max_head_bytes: usize,
    /// Longest time for a head.
    pub header_timeout: Duration,
    /// Longest time for a body, and between two chunks of a label stream.
    pub body_timeout: Duration,
    /// Longest time between two pieces of a body.
    pub body_idle_timeout: Duration,
    /// In this time a client takes all that there is for it, or a fair piece of it.
    pub write_timeout: Duration,
    /// A request that brings no deadline has this long, counted from when it was decoded.
    pub default_timeout: Duration,
    /// A connection without a request in flight is closed after this time; also the time to take the last answer.
    pub idle_timeout: Duration,
    /// At shutdown, connections without a request in flight have this long to ask once more.
    pub linger: Duration,
    /// Models may be loaded and unloaded from other machines.
    pub repository_control: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            max_buffered_bytes: 512 << 20,
            max_labels: 10_000,
            max_connections: 10_000,
            max_in_flight: 1_024,
            max_streams: 8,
            max_h2_streams: 256,
            max_head_bytes: 32 << 10,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            default_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            linger: Duration::from_secs(1),
            repository_control: false,
        }
    }
}

impl From<&ServerConfig> for Limits {
    fn from(config: &ServerConfig) -> Self {
        Self {
            max_body_bytes: config.max_body_bytes,
            max_buffered_bytes: config.max_buffered_bytes,
            max_labels: config.max_rows,
            max_connections: config.max_connections,
            max_in_flight: config.max_in_flight,
            max_streams: config.max_label_streams,
            max_h2_streams: config.max_h2_streams,
            max_head_bytes: config.max_head_bytes,
            header_timeout: config.header_timeout,
            body_timeout: config.body_timeout,
            body_idle_timeout: config.body_idle_timeout,
            write_timeout: config.write_timeout,
            default_timeout: config.default_timeout,
            idle_timeout: config.idle_timeout,
            linger: config.shutdown_linger,
            repository_control: config.repository_control,
        }
    }
}

/// What every request of a gateway shares.
#[derive(Debug)]
pub struct App<B> {
    pub(crate) backend: Arc<B>,
    /// The keys; `None`: nobody is asked for one.
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) limits: Limits,
    pub(crate) metrics: HttpMetrics,
    pub(crate) buffered: Arc<Semaphore>,
    pub(crate) places: Arc<Places>,
    pub(crate) labelling: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    /// Where single requests are told; most gateways have none.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

impl<B: Backend> App<B> {
    /// The same with other limits, for new connections. Those of what all connections share stay as they are.
    pub(crate) fn with_limits(&self, limits: &Limits) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            auth: self.auth.clone(),
            limits: Limits {
                max_buffered_bytes: self.limits.max_buffered_bytes,
                max_labels: self.limits.max_labels,
                max_connections: self.limits.max_connections,
                max_in_flight: self.limits.max_in_flight,
                max_streams: self.limits.max_streams,
                ..limits.clone()
            },
            metrics: self.metrics.clone(),
            buffered: Arc::clone(&self.buffered),
            places: Arc::clone(&self.places),
            labelling: Arc::clone(&self.labelling),
            streams: Arc::clone(&self.streams),
            tracer: self.tracer.clone(),
        }
    }

    /// The same, where predictions are shed while work waits for too long.
    #[must_use]
    pub(crate) fn with_lag(mut self, lag: Arc<Lag>) -> Self {
        self.places = Arc::new(Places::new(self.limits.max_in_flight, lag));
        self.counted()
    }

    /// The same, with a tracer.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Option<Arc<Tracer>>) -> Self {
        self.tracer = tracer;
        self
    }

    /// The gateway.
    #[must_use]
    pub fn backend(&self) -> &Arc<B> {
        &self.backend
    }

    /// Joins the gateway with its keys, limits and metrics.
    #[must_use]
    pub fn new(backend: Arc<B>, auth: Option<Arc<Auth>>, limits: Limits, metrics: HttpMetrics) -> Self {
        Self {
            backend,
            auth,
            buffered: body::budget(&limits),
            places: Arc::new(Places::new(limits.max_in_flight, Arc::default())),
            labelling: Arc::new(Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(limits.max_streams)),
            limits,
            metrics,
            tracer: None,
        }
        .counted()
    }

    /// Who changes a champion is told how many predictions are being answered.
    fn counted(self) -> Self {
        let places = Arc::clone(&self.places);
        self.metrics.in_flight.ask(move || places.crowd().in_flight);
        self
    }
}
