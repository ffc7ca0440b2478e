//! One connection, from its first byte to its end.
//!
//! Always holds: an end that the client did not ask for is told where the protocol can say so, by `Connection: close` on
//! the last answer or by GOAWAY, so that clients ask elsewhere and lose nothing; whoever is slow is cut without a word.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::Limits;
use super::super::aside::unless;
use super::super::connection::{InFlight, Over, Watch, Watched, period};
use super::super::stream::Stream;
use super::Entry;

/// hyper's buffer for what arrives, where heads may not be larger than that: `framing` counts them.
const READ_BUFFER: usize = 64 * 1024;
/// An HTTP/2 peer is asked this often whether it is still there, and has as long to say so: a stream may be silent for
/// longer than a dead peer may stay.
const H2_PING: Duration = Duration::from_secs(30);
/// Streams that an HTTP/2 peer opened and reset before anybody saw them.
const MAX_H2_RESETS: usize = 20;
/// How long an idle HTTP/2 peer has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// At shutdown, how often it is asked whether a head that was on its way has arrived.
const LOOK: Duration = Duration::from_millis(50);

/// What a connection is told.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// Answers are the last on their connections. Read by each request, written once.
    pub(super) is_stopping: Arc<AtomicBool>,
    /// The same, for who waits for it.
    pub(super) stop: CancellationToken,
    /// The time for that is over.
    pub(super) kill: CancellationToken,
}

/// All are the connection's own: a request passes on no count that other workers use.
struct Own<E> {
    entry: Arc<E>,
    watch: Arc<Watch>,
    is_stopping: Arc<AtomicBool>,
}

impl<E: Entry> Own<E> {
    async fn answer(&self, request: Request<Incoming>, guard: InFlight) -> Response<E::Body> {
        let mut answer = self.entry.handle(request, guard).await;
        if self.is_stopping.load(Relaxed) && !self.watch.is_h2() {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<E: Entry>(
    entry: Arc<E>,
    stream: Stream,
    watch: Arc<Watch>,
    orders: Orders,
    tracker: TaskTracker,
) {
    let limits = entry.limits().clone();
    let io = TokioIo::new(Watched::new(stream, &watch, entry.write_time().clone(), &limits));
    let own = Arc::new(Own {
        entry: Arc::clone(&entry),
        watch: Arc::clone(&watch),
        is_stopping: Arc::clone(&orders.is_stopping),
    });
    let service = service_fn(move |request| {
        let (own, guard) = (Arc::clone(&own), own.watch.begin());
        async move { Ok::<_, Infallible>(own.answer(request, guard).await) }
    });
    {
        let builder = builder(tracker, &limits);
        let serving = builder.serve_connection(io, service);
        tokio::pin!(serving);
        let passed = || passed(&watch, &limits);
        let end = unless(serving.as_mut(), async {
            tokio::select! {
                over = passed() => End::Over(over),
                () = evicted(&watch) => End::Over(Over::Idle),
                () = orders.stop.cancelled() => End::Stop,
            }
        });
        match end.await {
            None | Some(End::Over(Over::Slow)) => {}
            Some(End::Over(Over::Idle)) => {
                if watch.is_h2() {
                    serving.as_mut().graceful_shutdown();
                    unless(serving.as_mut(), tokio::time::sleep(GOODBYE)).await;
                }
            }
            Some(End::Stop) => {
                // An idle connection is not closed at once: its client may have asked already. HTTP/2 can tell it.
                let lingered = unless(serving.as_mut(), async {
                    tokio::select! {
                        _ = passed() => false,
                        () = orders.kill.cancelled() => false,
                        () = lingered(&watch, limits.linger) => true,
                    }
                });
                if lingered.await == Some(true) {
                    serving.as_mut().graceful_shutdown();
                    unless(serving.as_mut(), async {
                        tokio::select! {
                            _ = passed() => {}
                            () = orders.kill.cancelled() => {}
                        }
                    })
                    .await;
                }
            }
        }
    }
    if let Some(left) = watch.left() {
        if let Some(fault) = left.unsaid {
            entry.refused(fault.error().status());
        }
        left.settle().await;
    }
}

/// Why a connection that was well is to end.
enum End {
    Over(Over),
    Stop,
}

/// Ends when one of the connection's limits has passed.
async fn passed(watch: &Watch, limits: &Limits) -> Over {
    let mut look = tokio::time::interval(period(limits));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Some(over) = watch.is_over(limits) {
            return over;
        }
    }
}

/// Ends when the connection is to make room, and idle: a request may have come in between, and is served.
async fn evicted(watch: &Watch) {
    loop {
        watch.evicted.notified().await;
        if watch.idle().is_some() {
            return;
        }
    }
}

/// Ends when the connection may be closed as soon as it is idle.
async fn lingered(watch: &Watch, linger: Duration) {
    if watch.is_h2() {
        return;
    }
    tokio::time::sleep(linger).await;
    while watch.has_part_of_a_head() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Spawns HTTP/2 streams where shutdown waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

fn builder(tracker: TaskTracker, limits: &Limits) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(tracker));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER.max(limits.max_head_bytes.saturating_mul(2)))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING)
        .max_concurrent_streams(limits.max_h2_streams)
        .max_pending_accept_reset_streams(MAX_H2_RESETS)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
}
