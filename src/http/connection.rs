//! One connection's clock: heads that drip, connections that idle, answers that nobody takes.
//!
//! hyper's own head timer runs while a connection idles too, so that one limit would have to serve for both, and it
//! costs an allocation per request. Here a request costs two stores, and one task per connection looks once a second.

mod socket;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::refusal::Left;
pub(super) use socket::Watched;

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
    /// Microseconds after birth, plus one, since when the client has taken too little of what is there for it; 0: it
    /// takes what there is.
    stuck_since: AtomicU64,
    /// Bytes it has taken since then.
    taken: AtomicUsize,
    /// Told to go, to make room.
    pub(crate) evicted: Notify,
    /// The socket, where its end is left to us.
    left: Mutex<Option<Left>>,
}

/// So much must be taken in the time of the write limit, or all there is. No more waits inside TLS.
pub(super) const TAKEN: usize = 16 * 1024;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing was asked for too long.
    Idle,
    /// A head did not arrive, or an answer was not taken, in time.
    Slow,
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
            stuck_since: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            evicted: Notify::new(),
            left: Mutex::default(),
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

    /// The limit that has passed, if one has.
    pub(crate) fn is_over(&self, limits: &Limits) -> Option<Over> {
        if self.since(&self.stuck_since) >= limits.write_timeout {
            return Some(Over::Slow);
        }
        let idle = self.idle()?;
        if self.since(&self.head_since) >= limits.header_timeout {
            return Some(Over::Slow);
        }
        (idle >= limits.idle_timeout).then_some(Over::Idle)
    }

    /// Time since a moment that is noted plus one.
    fn since(&self, noted: &AtomicU64) -> Duration {
        match noted.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros((self.now() + 1).saturating_sub(since)),
        }
    }

    /// A head is on its way.
    pub(crate) fn has_part_of_a_head(&self) -> bool {
        self.head_since.load(Relaxed) != 0
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.load(Relaxed)
    }

    /// The socket, where its end is left to us.
    pub(super) fn left(&self) -> Option<Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All that there was has been taken; gives the time since the answer of a prediction that was timed.
    fn has_flushed(&self) -> Option<Duration> {
        if self.stuck_since.load(Relaxed) != 0 {
            self.stuck_since.store(0, Relaxed);
        }
        if self.answered_at.load(Relaxed) == 0 {
            return None;
        }
        let took = self.since(&self.answered_at);
        self.answered_at.store(0, Relaxed);
        Some(took)
    }

    fn is_stuck(&self) {
        if self.stuck_since.load(Relaxed) == 0 {
            self.taken.store(0, Relaxed);
            self.stuck_since.store(self.now() + 1, Relaxed);
        }
    }

    /// Notes when a client does not take what is written. The clock is read when it stops doing so, not before.
    fn has_written(&self, poll: &Poll<io::Result<usize>>) {
        let is_stuck = self.stuck_since.load(Relaxed) != 0;
        match poll {
            Poll::Pending => self.is_stuck(),
            Poll::Ready(Ok(taken)) if is_stuck => {
                let taken = self.taken.load(Relaxed) + taken;
                self.taken.store(taken, Relaxed);
                if taken >= TAKEN {
                    self.stuck_since.store(0, Relaxed);
                }
            }
            _ => {}
        }
    }
}

/// How often a connection is looked at, so that it is cut within a fifth after its limit.
pub(crate) fn period(limits: &Limits) -> Duration {
    (limits.header_timeout.min(limits.idle_timeout).min(limits.write_timeout) / 5).max(Duration::from_millis(5))
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
