//! Sockets: bind, accept, serve (`serve`), stop.

#[cfg(test)]
mod differential;
mod handshake;
mod serve;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{InFlight, Watch};
use super::edge::Edge;
use super::stream::Stream;
use super::{App, Backend, Face, Limits, stack};
use crate::metrics::{Connections, Seconds};
use crate::tls::{Speaks, Tls};
use serve::Orders;

/// A connection that was busy more recently may still be sending its answer.
const EVICTABLE: Duration = Duration::from_millis(250);
/// How long accepting rests when there is no place or no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// How often a gate is asked.
const LOOK: Duration = Duration::from_millis(20);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Who connects waits in the system's queue until this says true; `None`: nobody waits.
    pub gate: Option<watch::Receiver<bool>>,
    /// What connections begin with; `None`: they are bare.
    pub tls: Option<Arc<Tls>>,
}

/// A listening socket on `address`; port 0 takes a free one.
///
/// # Errors
/// The system's own.
pub async fn bind(address: SocketAddr) -> io::Result<Listener> {
    let socket = TcpListener::bind(address).await?;
    Ok(Listener {
        socket,
        gate: None,
        tls: None,
    })
}

/// Running listeners, with one way to stop them all.
pub struct Servers {
    /// What gives each listener's new connections other limits.
    reloads: Mutex<Vec<Reload>>,
    tracker: TaskTracker,
    /// Answers are the last on their connections; `stop` tells whoever waits.
    is_stopping: Arc<AtomicBool>,
    stop: CancellationToken,
    /// Nobody is let in any more.
    shut: CancellationToken,
    kill: CancellationToken,
}

type Reload = Box<dyn Fn(&Limits) + Send + Sync>;

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers")
            .field("tracker", &self.tracker)
            .finish_non_exhaustive()
    }
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
            reloads: Mutex::default(),
            tracker: TaskTracker::new(),
            is_stopping: Arc::default(),
            stop: CancellationToken::new(),
            shut: CancellationToken::new(),
            kill: CancellationToken::new(),
        }
    }

    /// Serves `face` on `listener`; returns the bound address.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn start<B: Backend>(&self, face: Face, listener: Listener, app: &Arc<App<B>>) -> io::Result<SocketAddr> {
        let bound = listener.socket.local_addr()?.ip();
        let work = stack::work(Arc::clone(app));
        let app = Arc::clone(app);
        let is_tls = listener.tls.is_some();
        self.open((face.name(), listener), Speaks::Http, |Background { tracker, stop }| {
            Edge {
                face,
                bound,
                is_tls,
                app,
                work,
                tracker,
                stop,
            }
        })
    }

    /// Hands what arrives on `listener` to what `entry` makes; returns the bound address.
    ///
    /// # Errors
    /// The socket has no address.
    pub(crate) fn open<E: Entry>(
        &self,
        (name, listener): (&'static str, Listener),
        speaks: Speaks,
        entry: impl FnOnce(Background) -> E,
    ) -> io::Result<SocketAddr> {
        let address = listener.socket.local_addr()?;
        let entry = Arc::new(ArcSwap::from_pointee(entry(Background {
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        })));
        let connections = entry.load().connections().of(name);
        let limited = Arc::clone(&entry);
        let reload = move |limits: &Limits| limited.store(Arc::new(limited.load_full().with_limits(limits)));
        self.reloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(reload));
        let door = Door {
            entry,
            connections,
            open: Arc::default(),
            tls: listener.tls.clone().map(|tls| (tls, speaks)),
            tracker: self.tracker.clone(),
            orders: Orders {
                is_stopping: Arc::clone(&self.is_stopping),
                stop: self.stop.clone(),
                kill: self.kill.clone(),
            },
            shut: self.shut.clone(),
        };
        self.tracker.spawn(door.accept(listener));
        Ok(address)
    }

    /// New connections have these limits, as far as a connection has them for itself.
    pub(crate) fn reload(&self, limits: &Limits) {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.iter().for_each(|reload| reload(limits));
    }

    /// A gate that opens as soon as `is_open` says so, and after `most` at the latest.
    pub(crate) fn gate(
        &self,
        most: Duration,
        is_open: impl Fn() -> bool + Send + Sync + 'static,
    ) -> watch::Receiver<bool> {
        let (opens, gate) = watch::channel(false);
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let wait = async {
                while !is_open() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(most, wait) => {}
                () = stop.cancelled() => {}
            }
            opens.send_replace(true);
        });
        gate
    }

    /// Says that it is stopping, and accepts for `delay` all the same; then stops accepting, lets what is in flight
    /// finish within `grace`, and cuts what is left.
    pub async fn shutdown(self, delay: Duration, grace: Duration) {
        self.is_stopping.store(true, Ordering::Release);
        self.stop.cancel();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.shut.cancel();
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

    /// Where it is counted who is connected.
    fn connections(&self) -> &Connections;

    /// The same with other limits.
    fn with_limits(&self, limits: &Limits) -> Self;

    /// Counts a request that was refused before it was one.
    fn refused(&self, status: u16);

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
    entry: Arc<ArcSwap<E>>,
    /// How many are open, for scrapes.
    connections: Arc<AtomicU64>,
    open: Arc<Open>,
    tls: Option<(Arc<Tls>, Speaks)>,
    tracker: TaskTracker,
    orders: Orders,
    shut: CancellationToken,
}

impl<E: Entry> Door<E> {
    async fn accept(self, listener: Listener) {
        let Listener {
            socket: listener, gate, ..
        } = listener;
        if let Some(mut gate) = gate {
            tokio::select! {
                () = self.shut.cancelled() => return,
                // Nobody is left to open it: then it is open.
                _ = gate.wait_for(|is_open| *is_open) => {}
            }
        }
        let places = Arc::new(Semaphore::new(self.entry.load().limits().max_connections));
        let mut number = 0u64;
        loop {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                evict(&self.open);
                if self.rest().await { break } else { continue }
            };
            let accepted = tokio::select! {
                () = self.shut.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    self.serve(number, stream, place);
                }
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: raise the limit of open files");
                    evict(&self.open);
                    if self.rest().await {
                        break;
                    }
                }
            }
        }
        self.let_in_who_waits(listener, &places, number);
    }

    /// Whoever has connected already may have sent a request too: closing the socket would reset them.
    fn let_in_who_waits(&self, listener: TcpListener, places: &Arc<Semaphore>, mut number: u64) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(place) = Arc::clone(places).try_acquire_owned() {
            let accepted = listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            });
            match accepted {
                Ok(stream) => {
                    number += 1;
                    self.serve(number, stream, place);
                }
                Err(e) if is_of_one_connection(&e) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits a little; true when it is time to stop.
    async fn rest(&self) -> bool {
        tokio::time::timeout(ACCEPT_REST, self.shut.cancelled()).await.is_ok()
    }

    fn serve(&self, number: u64, stream: TcpStream, place: OwnedSemaphorePermit) {
        let watch = Watch::new();
        lock(&self.open).insert(number, Arc::clone(&watch));
        self.connections.fetch_add(1, Ordering::Relaxed);
        let registered = Registered {
            connections: Arc::clone(&self.connections),
            open: Arc::clone(&self.open),
            number,
        };
        let (entry, orders, tracker) = (self.entry.load_full(), self.orders.clone(), self.tracker.clone());
        let acceptor = self.tls.as_ref().map(|(tls, speaks)| tls.acceptor(*speaks));
        self.tracker.spawn(async move {
            // Without it an answer may wait 40 ms for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            give_up_after(&stream, entry.limits().write_timeout);
            let stream = match acceptor {
                None => Some(Stream::Bare(stream)),
                Some(acceptor) => handshake::shake(acceptor, stream, &watch, &orders, entry.limits()).await,
            };
            if let Some(stream) = stream {
                serve::serve(entry, stream, watch, orders, tracker).await;
            }
            drop(registered);
            drop(place);
        });
    }
}

/// After a connection is cut the system goes on offering what its client has not taken, for minutes and with its memory:
/// no longer than we would have.
fn give_up_after(stream: &TcpStream, limit: Duration) {
    // 0 would be the system's own patience.
    let ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1);
    // Where the system does not know this, it is as patient as ever.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, ms);
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
    connections: Arc<AtomicU64>,
    open: Arc<Open>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
