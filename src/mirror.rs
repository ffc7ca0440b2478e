//! Beside the reply: one non-blocking offer of what was answered.
//!
//! Always holds: an offer never waits, allocates nothing but what it hands over, and when the queue is full it is
//! dropped and counted. Leaves to others: everything behind the queue (`recorder`, `arena`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::batch::Batch;
use crate::score::{ModelNo, Outcome, Score, VersionNo};

/// What became of one row of a request.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What the champion made of it.
    pub outcome: Outcome,
    /// Who answered instead, and what; apart, because it is rare.
    pub fallback: Option<Box<StandIn>>,
}

/// An answer in the champion's place.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// The version.
    pub version: VersionNo,
    /// Its score, where the task is known.
    pub score: Option<Score>,
}

/// An answered request, shared with whoever learns from it.
#[derive(Debug)]
pub struct Observation {
    /// The model.
    pub model: ModelNo,
    /// Number of the first row's id; row `k` has `first_id + k`.
    pub first_id: i64,
    /// Request time, Unix ms.
    pub time_ms: i64,
    /// The tenure in which it was answered.
    pub epoch: u64,
    /// The champion that was asked.
    pub version: VersionNo,
    /// The decoded rows.
    pub batch: Arc<Batch>,
    /// One per row.
    pub rows: Vec<Observed>,
    /// The caller's own ids, one per row.
    pub ids: Option<Arc<Vec<String>>>,
    /// Entities, one per row.
    pub entities: Option<Vec<String>>,
    /// Context objects as JSON, one per row.
    pub context: Option<Vec<String>>,
    /// Rows whose entity is kept out: they leave no trace.
    pub left_out: Option<Box<[bool]>>,
}

/// What happened to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits for the recorder.
    Taken,
    /// The queue is full.
    Full,
    /// The recorder has ended.
    Closed,
}

/// The way into the recorder.
#[derive(Debug, Clone)]
pub struct Mirror {
    queue: Sender<Observation>,
    /// How many may wait at the moment.
    room: Arc<AtomicUsize>,
}

impl Mirror {
    /// A mirror that offers into `queue`, in which at most `room` wait.
    #[must_use]
    pub fn new(queue: Sender<Observation>, room: Arc<AtomicUsize>) -> Self {
        Self { queue, room }
    }

    /// False while nothing more is taken: an observation need not even be made. True promises nothing.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.room.load(Ordering::Relaxed)
    }

    /// Hands the observation over, or drops it.
    pub fn offer(&self, observation: Observation) -> Offered {
        match self.queue.try_send(observation) {
            Ok(()) => Offered::Taken,
            Err(TrySendError::Full(_)) => Offered::Full,
            Err(TrySendError::Disconnected(_)) => Offered::Closed,
        }
    }
}
