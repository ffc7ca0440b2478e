//! The champion's slot and what it takes to answer from it.
//!
//! Always holds: a request loads the slot once and computes, falls back and names itself from that one load; storing
//! a new champion cannot fail and waits for nobody; the old one is released by whoever drops the last handle, which
//! the writer arranges to be a thread away from the requests. Leaves to others: building and warming (`control`).

mod answer;
mod boxed;
mod crew;
mod execution;
mod loaded;
mod pace;
mod queue;
mod time;
mod tripwire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use answer::Which;
pub use answer::{Answer, Question, RowAnswer, ask_runner};
pub use boxed::ProcessSpec;
pub use execution::{Execution, Mode, Sharing};
pub use loaded::{Loaded, VersionInfo};
pub use pace::Probe;
pub use time::Timed;
pub use tripwire::{Faults, Trip, Tripwire};

/// Who answers, and who stands by for the rows that it cannot.
#[derive(Debug)]
pub struct Champion {
    /// Number of the tenure.
    pub epoch: u64,
    /// Since when, Unix ms.
    pub since_ms: i64,
    /// Who answers.
    pub version: Arc<Loaded>,
    /// The champion before: warm, answers what the champion cannot.
    pub previous: Option<Arc<Loaded>>,
}

impl Champion {
    /// Epoch of answers that a stand-in gives because the recorded champion could not be loaded. No tenure has it,
    /// so that they never become evidence on the champion.
    pub const STAND_IN: u64 = 0;

    /// Who is loaded here: the one that answers first.
    #[must_use]
    pub fn loaded(&self) -> Vec<Arc<Loaded>> {
        [Some(&self.version), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

/// One model's slot.
#[derive(Debug, Default)]
pub struct Slot {
    champion: ArcSwapOption<Champion>,
    closed: AtomicBool,
}

impl Slot {
    /// The champion of this moment; a request takes it once.
    #[must_use]
    pub fn load(&self) -> Option<Arc<Champion>> {
        self.champion.load_full().filter(|_| !self.is_closed())
    }

    /// From now on nobody answers, also when a champion is stored. Gives back who did, for the caller to release at
    /// leisure; to be called again as long as the slot is closed.
    pub fn close(&self) -> Option<Arc<Champion>> {
        self.closed.store(true, Ordering::Release);
        self.champion.swap(None)
    }

    /// Takes back [`Slot::close`]; a champion must be stored anew.
    pub fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    /// True between [`Slot::close`] and [`Slot::open`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Puts a prepared champion in place and gives back the one before, for the caller to release at leisure.
    pub fn store(&self, champion: Arc<Champion>) -> Option<Arc<Champion>> {
        self.champion.swap(Some(champion))
    }
}

/// Champions that the slot no longer names and that requests may still hold. Kept until they are alone, so that the
/// thread that sweeps frees their sessions and never a request's.
#[derive(Debug, Default)]
pub struct Released {
    waiting: Vec<Arc<Champion>>,
}

impl Released {
    /// Takes what [`Slot::store`] gave back.
    pub fn take(&mut self, champion: Option<Arc<Champion>>) {
        self.waiting.extend(champion);
    }

    /// Frees what no request holds any more; gives how many are still held.
    pub fn sweep(&mut self) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|champion| Arc::strong_count(champion) > 1);
        if self.waiting.len() < before {
            // The allocator would keep what they held for a while.
            crate::model::session::give_back();
        }
        self.waiting.len()
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
