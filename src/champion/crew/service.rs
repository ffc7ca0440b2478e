//! How long a request takes of a thread, as of late.
//!
//! What was measured when a version was loaded was measured on a quiet machine and alone. Here is what it takes under the
//! load there is, shared runs included: an average in which the latest eight answers weigh as much as all before.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Service(AtomicU64);

impl Service {
    /// Of a version whose runs took this long.
    pub(super) fn new(pace: Duration) -> Self {
        Self(AtomicU64::new(nanos(pace)))
    }

    /// Notes that a thread took so long for so many requests. Of two threads at once one may be overlooked: what is left
    /// is as fair.
    pub(super) fn took(&self, time: Duration, requests: usize) {
        let each = nanos(time) / (requests.max(1) as u64);
        let before = self.0.load(Relaxed);
        self.0.store(before - before / 8 + each / 8, Relaxed);
    }

    /// What the next will take.
    pub(super) fn each(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

fn nanos(time: Duration) -> u64 {
    // So that no sum overflows; nothing runs for a century.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 4)
}
