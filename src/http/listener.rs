//! Sockets: bind, accept, serve, stop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::aside::unless;
use super::connection::{InFlight, Watch, Watched, period};
use super::edge::Edge;
use super::{App, Backend, Face, Limits, stack};
use crate::metrics::Seconds;

/// Streams of one HTTP/2 connection at once.
const MAX_H2_STREAMS: u32 = 256;
/// Largest head, over both protocols.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A connection that was busy more recently may still be sending its answer.
const EVICTABLE: Duration = Duration::from_millis(250);
/// How long accepting rests when there is no place or no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(20);
/// An HTTP/2 peer is asked this often whether it is still there, and has as long to say so: a stream may be silent for
/// longer than a dead peer may stay.
const H2_PING: Duration = Duration::from_secs(30);

/// A listening socket on `address`; port 0 takes a free one.
///
/// # Errors
/// The system's own.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Running listeners, with one way to stop them all.
#[derive(Debug)]
pub struct Servers {
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Default for Servers {
    fn default() -> Self {
        Self::new()
    }
}

impl Servers {
    /// No listener yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        }
    }

    /// Serves `face` on `listener`; returns the bound address.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn start<B: Backend>(&self, face: Face, listener: TcpListener, app: &Arc<App<B>>) -> io::Result<SocketAddr> {
        let bound = listener.local_addr()?.ip();
        let work = stack::work(Arc::clone(app));
        let app = Arc::clone(app);
        self.open(listener, |Background { tracker, stop }| Edge {
            face,
            bound,
            app,
            work,
            tracker,
            stop,
        })
    }

    /// Hands what arrives on `listener` to what `entry` makes; returns the bound address.
    ///
    /// # Errors
    /// The socket has no address.
    pub(crate) fn open<E: Entry>(
        &self,
        listener: TcpListener,
        entry: impl FnOnce(Background) -> E,
    ) -> io::Result<SocketAddr> {
        let address = listener.local_addr()?;
        let door = Door {
            entry: Arc::new(entry(Background {
                tracker: self.tracker.clone(),
                stop: self.stop.clone(),
            })),
            open: Arc::default(),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
            kill: self.kill.clone(),
        };
        self.tracker.spawn(door.accept(listener));
        Ok(address)
    }

    /// Stops accepting, lets what is in flight finish within `grace`, then cuts what is left.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            self.kill.cancel();
            // Connections end at their next wake-up; HTTP/2 streams end with them.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.tracker.wait()).await;
        }
    }
}

/// What a listener hands its requests to.
pub(crate) trait Entry: Send + Sync + 'static {
    /// What answers are made of.
    type Body: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// The listener's bounds.
    fn limits(&self) -> &Limits;

    /// Where the time of writing a prediction is recorded.
    fn write_time(&self) -> &Seconds;

    /// Answers a request; there is always an answer. The connection counts as busy while `guard` is held.
    fn handle(
        &self,
        request: Request<Incoming>,
        guard: InFlight,
    ) -> impl Future<Output = Response<Self::Body>> + Send + '_;
}

/// Where an entry's own tasks run, so that shutdown waits for them and they hear of it.
#[derive(Debug, Clone)]
pub(crate) struct Background {
    pub(crate) tracker: TaskTracker,
    /// The listeners are stopping.
    pub(crate) stop: CancellationToken,
}

/// Connections by number, to find the longest idle one.
type Open = Mutex<HashMap<u64, Arc<Watch>>>;

/// One listener.
struct Door<E> {
    entry: Arc<E>,
    open: Arc<Open>,
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl<E: Entry> Door<E> {
    async fn accept(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.entry.limits().max_connections));
        let mut number = 0u64;
        loop {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                evict(&self.open);
                if self.rest().await { return } else { continue }
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    let serving = self.serve(number, stream);
                    self.tracker.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: raise the limit of open files");
                    evict(&self.open);
                    if self.rest().await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits a little; true when it is time to stop.
    async fn rest(&self) -> bool {
        tokio::time::timeout(ACCEPT_REST, self.stop.cancelled()).await.is_ok()
    }

    fn serve(&self, number: u64, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let watch = Watch::new();
        lock(&self.open).insert(number, Arc::clone(&watch));
        let registered = Registered {
            open: Arc::clone(&self.open),
            number,
        };
        let (stop, kill) = (self.stop.clone(), self.kill.clone());
        let (entry, builder) = (Arc::clone(&self.entry), builder(self.tracker.clone()));
        async move {
            let _registered = registered;
            // Without it an answer may wait 40 ms for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let limits = entry.limits().clone();
            let io = TokioIo::new(Watched {
                stream,
                watch: Arc::clone(&watch),
                write: entry.write_time().clone(),
            });
            // Both are the connection's own: a request passes on no count that other workers use.
            let (own, watched) = (Arc::new(entry), Arc::clone(&watch));
            let service = service_fn(move |request| {
                let (entry, guard) = (Arc::clone(&own), watched.begin());
                async move { Ok::<_, Infallible>(entry.handle(request, guard).await) }
            });
            let serving = builder.serve_connection(io, service);
            tokio::pin!(serving);
            let mut look = tokio::time::interval(period(&limits));
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // `None`: it is over. `Some`: the listeners are stopping.
            let mut over = async |stop: &CancellationToken| loop {
                tokio::select! {
                    _ = look.tick() => if watch.is_over(&limits) { return None },
                    // A request may have come in between: it is served.
                    () = watch.evicted.notified() => if watch.idle().is_some() { return None },
                    () = stop.cancelled() => return Some(()),
                }
            };
            if let Some(Some(())) = unless(serving.as_mut(), over(&stop)).await {
                serving.as_mut().graceful_shutdown();
                unless(serving.as_mut(), over(&kill)).await;
            }
        }
    }
}

fn lock(open: &Open) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Watch>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failed accept that says nothing of the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Tells the longest idle connection to go.
fn evict(open: &Open) {
    let open = lock(open);
    let idle = open.values().filter_map(|watch| watch.idle().map(|idle| (idle, watch)));
    if let Some((_, watch)) = idle
        .filter(|(idle, _)| *idle >= EVICTABLE)
        .max_by_key(|(idle, _)| *idle)
    {
        watch.evicted.notify_one();
    }
}

/// Takes its connection off the list when it goes.
struct Registered {
    open: Arc<Open>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
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

fn builder(tracker: TaskTracker) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(tracker));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING)
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    builder
}
