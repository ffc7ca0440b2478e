//! Whether shadows should rest, because the container is being slowed for having used up its processors' time.
//!
//! Idle priority orders threads on one processor; it does not order who spends a quota. So shadows stop as soon as the
//! group was slowed, and go on after it was not for a while.
//!
//! Always holds: asking is one load; where there is no quota nobody looks and nothing ever rests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Container;

/// How often the group's count is read: the kernel's usual period.
const LOOK: Duration = Duration::from_millis(100);
/// So long nobody may be slowed before shadows go on.
const CALM: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Pressure {
    resting: AtomicBool,
}

impl Pressure {
    /// Watches the container for as long as somebody holds the value. Without a quota nothing is watched.
    #[must_use]
    pub fn watch(container: Container) -> Arc<Self> {
        let pressure = Arc::new(Self::default());
        if container.limits().cpus.is_none() || container.throttled().is_none() {
            return pressure;
        }
        let watched = Arc::downgrade(&pressure);
        // Without the thread nothing rests, as without a quota.
        let started = std::thread::Builder::new()
            .name("container".into())
            .spawn(move || look(&container, &watched));
        if let Err(error) = started {
            tracing::warn!(%error, "nobody watches whether the container is slowed: shadows will not rest then");
        }
        pressure
    }

    /// True while shadows should not run.
    #[must_use]
    pub fn is_high(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    /// Lets shadows rest, or go on.
    pub fn set(&self, is_high: bool) {
        self.resting.store(is_high, Ordering::Relaxed);
    }
}

fn look(container: &Container, watched: &Weak<Pressure>) {
    let mut gauge = Gauge::new(container.throttled());
    while let Some(pressure) = watched.upgrade() {
        let (before, now) = (pressure.is_high(), gauge.read(container.throttled(), Instant::now()));
        if before != now {
            pressure.set(now);
            if now {
                tracing::info!("the container has used up its processors' time: shadows rest");
            }
        }
        drop(pressure);
        std::thread::sleep(LOOK);
    }
}

/// From counts to a state.
#[derive(Debug)]
struct Gauge {
    count: Option<u64>,
    slowed: Option<Instant>,
}

impl Gauge {
    fn new(count: Option<u64>) -> Self {
        Self { count, slowed: None }
    }

    fn read(&mut self, count: Option<u64>, now: Instant) -> bool {
        // A group that went and came back begins its count anew.
        if let (Some(before), Some(count)) = (self.count, count)
            && count > before
        {
            self.slowed = Some(now);
        }
        self.count = count;
        self.slowed
            .is_some_and(|slowed| now.saturating_duration_since(slowed) < CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadows_rest_while_the_count_rises_and_for_a_second_after() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gauge = Gauge::new(Some(40));
        assert!(!gauge.read(Some(40), at(100)));
        assert!(gauge.read(Some(41), at(200)));
        assert!(gauge.read(Some(45), at(900)));
        assert!(gauge.read(Some(45), at(1_899)));
        assert!(!gauge.read(Some(45), at(1_900)));
        // A group that went, and came back with a count of its own.
        assert!(!gauge.read(None, at(2_000)));
        assert!(!gauge.read(Some(7), at(2_100)));
        assert!(gauge.read(Some(8), at(2_200)));
    }
}
