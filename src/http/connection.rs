//! One connection's clock: heads that drip, connections that idle, answers that nobody takes.
//!
//! hyper's own head timer runs while a connection idles too, so that one limit would have to serve for both, and it
//! costs an allocation per request. Here a request costs two stores, and one task per connection looks once a second.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use crate::metrics::Seconds;

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Watch {
    born: Instant,
    in_flight: AtomicU32,
    /// Microseconds after birth at which the last request was done.
    idle_since: AtomicU64,
    /// Microseconds after birth, plus one, at which a head began to arrive; 0: none is.
    head_since: AtomicU64,
    /// Microseconds after birth, plus one, at which a prediction that is yet to be written was answered; 0: none is.
    answered_at: AtomicU64,
    /// HTTP/2 frames are no heads: there only idleness counts.
    is_h2: AtomicBool,
    /// Told to go, to make room.
    pub(crate) evicted: Notify,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            is_h2: AtomicBool::new(false),
            evicted: Notify::new(),
        })
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
    }

    /// A request has arrived; it is done when the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.head_since.store(0, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        InFlight {
            watch: Arc::clone(self),
            end: None,
        }
    }

    fn has_read(&self, bytes: &[u8]) {
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 && !self.is_h2.load(Relaxed) {
            if self.idle_since.load(Relaxed) == 0 && bytes.starts_with(b"PRI ") {
                self.is_h2.store(true, Relaxed);
            } else {
                self.head_since.store(self.now() + 1, Relaxed);
            }
        }
    }

    /// How long no request has been in flight.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let idle = self.in_flight.load(Relaxed) == 0;
        idle.then(|| Duration::from_micros(self.now().saturating_sub(self.idle_since.load(Relaxed))))
    }

    /// True when a limit has passed.
    pub(crate) fn is_over(&self, limits: &Limits) -> bool {
        let Some(idle) = self.idle() else { return false };
        let head = match self.head_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros((self.now() + 1).saturating_sub(since)),
        };
        idle >= limits.idle_timeout || head >= limits.header_timeout
    }
}

/// How often a connection is looked at, so that it is cut within a fifth after its limit.
pub(crate) fn period(limits: &Limits) -> Duration {
    (limits.header_timeout.min(limits.idle_timeout) / 5).max(Duration::from_millis(5))
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    watch: Arc<Watch>,
    /// When it was done, on the connection's clock; `None`: when this goes.
    end: Option<u64>,
}

impl InFlight {
    /// The request was done at `end`; a prediction's writing is timed from there. Answers of HTTP/2 leave interleaved:
    /// there no single one can be timed.
    pub(crate) fn answered(mut self, timed: bool, end: Instant) {
        let end = self.watch.at(end);
        if timed && !self.watch.is_h2.load(Relaxed) {
            self.watch.answered_at.store(end + 1, Relaxed);
        }
        self.end = Some(end);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let end = self.end.unwrap_or_else(|| self.watch.now());
        self.watch.idle_since.store(end.max(1), Relaxed);
        self.watch.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The socket, with a look at what arrives.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) stream: TcpStream,
    pub(crate) watch: Arc<Watch>,
    /// Time from a prediction's answer to its last byte in the socket's buffer.
    pub(crate) write: Seconds,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled().get(before..)
            && !new.is_empty()
        {
            self.watch.has_read(new);
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        let since = self.watch.answered_at.load(Relaxed);
        if since != 0 && poll.is_ready() {
            self.watch.answered_at.store(0, Relaxed);
            let took = (self.watch.now() + 1).saturating_sub(since);
            self.write.record(Duration::from_micros(took));
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// A head and a body of a few hundred bytes are copied together sooner than the system gathers them from two places.
    /// hyper decides by this once, for the connection: a large body is copied too, at a memory's speed.
    fn is_write_vectored(&self) -> bool {
        false
    }
}
