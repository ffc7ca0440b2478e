//! How long work waits for a thread that serves requests, and which share of the predictions is let in because of it.
//!
//! A quick version is run by the thread that has read the request: no queue of ours lies before it. Where more requests
//! come than the threads answer, they wait all the same, in the runtime's queue. So a thread of its own puts a grain of work
//! into that queue, again and again, and sees how long it waits there. One long wait is a large body that was decoded;
//! where waits stay long ([`STANDING`]) a queue stands, and all that it does is to make everybody late (Nichols and
//! Jacobson, Controlling Delay, RFC 8289). Then the share of predictions that are let in shrinks by a quarter at each look,
//! and it grows by an eighth at each look as soon as the wait is half of what is allowed.
//!
//! Always holds: while nothing is shed a request costs one load; labels are not concerned; some predictions are let in
//! whatever happens. Leaves to others: versions with threads of their own (`crew`), and how many are answered at once
//! ([`super::places`]).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::priority::requests_answered;
use crate::time::cpu::of_this_process;

/// How often is looked.
const TICK: Duration = Duration::from_millis(50);
/// Shorter waits are of no account: nobody's deadline changes by them.
const NOTABLE: Duration = Duration::from_millis(10);
/// Waits that are long for so long are a queue that stands.
const STANDING: Duration = Duration::from_secs(1);
/// All.
const ONE: u64 = 1 << 10;
const LEAST: u64 = ONE / 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lag {
    /// Nanoseconds that work has waited lately, or 0 where that is of no account.
    waited: AtomicU64,
    share: AtomicU64,
    /// Predictions that came while only a share was let in.
    came: AtomicU64,
    /// Nanoseconds that the grain waited, and one; 0 while it waits still.
    grain: AtomicU64,
}

impl Default for Lag {
    fn default() -> Self {
        Self {
            waited: AtomicU64::new(0),
            share: AtomicU64::new(ONE),
            came: AtomicU64::new(0),
            grain: AtomicU64::new(0),
        }
    }
}

impl Lag {
    /// Watches this runtime, from a thread of its own, until nobody holds what is given any more. Longer than `most` no
    /// work should wait. `answers` counts the answers so far: where there are more, and they cost much, work that can wait
    /// is to rest.
    ///
    /// # Errors
    /// There was no thread.
    pub(crate) fn watch(
        runtime: Handle,
        most: Duration,
        answers: impl Fn() -> u64 + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let lag = Arc::new(Self::default());
        let watched = Arc::downgrade(&lag);
        let thread = std::thread::Builder::new().name("lag".into());
        thread.spawn(move || look_after(&watched, &runtime, most, answers))?;
        Ok(lag)
    }

    /// How long a request has waited before anybody looked at it, as far as that is of account.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Relaxed))
    }

    /// True while a queue stands.
    pub(crate) fn sheds(&self) -> bool {
        self.share.load(Relaxed) < ONE
    }

    /// Share of the predictions that are let in.
    pub(crate) fn share(&self) -> f64 {
        self.share.load(Relaxed) as f64 / ONE as f64
    }

    /// Whether this prediction is let in.
    pub(crate) fn admits(&self) -> bool {
        let share = self.share.load(Relaxed);
        if share >= ONE {
            return true;
        }
        // Evenly: of any 1024 in a row the share.
        let number = self.came.fetch_add(1, Relaxed) % ONE;
        (number * share) % ONE < share
    }

    fn decide(&self, decision: &Decision) {
        self.waited.store(nanos(decision.waited), Relaxed);
        self.share.store(decision.share, Relaxed);
    }
}

/// What follows from the waits that were seen.
#[derive(Debug)]
struct Decision {
    most: Duration,
    waited: Duration,
    share: u64,
    /// Waits are long since then.
    since: Option<Instant>,
}

impl Decision {
    fn new(most: Duration) -> Self {
        Self {
            most,
            waited: Duration::ZERO,
            share: ONE,
            since: None,
        }
    }

    /// One look: the grain has waited for so long.
    fn see(&mut self, waited: Duration, now: Instant) {
        self.waited = if waited < NOTABLE { Duration::ZERO } else { waited };
        if waited > self.most {
            let since = *self.since.get_or_insert(now);
            if self.share < ONE || now.saturating_duration_since(since) >= STANDING {
                self.share = (self.share - self.share / 4).max(LEAST);
            }
            return;
        }
        self.since = None;
        if waited <= self.most / 2 {
            self.share = (self.share + self.share / 8 + 1).min(ONE);
        }
    }
}

fn look_after(lag: &Weak<Lag>, runtime: &Handle, most: Duration, answers: impl Fn() -> u64) {
    let (mut decision, mut asked): (_, Option<Instant>) = (Decision::new(most), None);
    let mut seen = (answers(), Instant::now(), of_this_process());
    loop {
        std::thread::sleep(TICK);
        let Some(lag) = lag.upgrade() else { return };
        let (count, at, taken) = std::mem::replace(&mut seen, (answers(), Instant::now(), of_this_process()));
        if seen.0 != count {
            requests_answered(seen.1.saturating_duration_since(at), seen.2.saturating_sub(taken));
        }
        let mut waited = Duration::ZERO;
        if let Some(since) = asked {
            waited = match lag.grain.swap(0, Relaxed) {
                // It waits still.
                0 => since.elapsed(),
                nanos => {
                    asked = None;
                    Duration::from_nanos(nanos - 1)
                }
            };
        }
        decision.see(waited, Instant::now());
        lag.decide(&decision);
        if asked.is_none() {
            let since = Instant::now();
            asked = Some(since);
            // From here it goes where the work goes that the threads' own queues have no room for.
            runtime.spawn(async move { lag.grain.store(nanos(since.elapsed()) + 1, Relaxed) });
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(500);

    /// Sees the same wait at each look for so long; how many looks until the share was as wanted.
    fn until(decision: &mut Decision, from: Instant, waited: Duration, wanted: impl Fn(u64) -> bool) -> (u32, Instant) {
        let mut at = from;
        for looks in 0..400 {
            if wanted(decision.share) {
                return (looks, at);
            }
            at += TICK;
            decision.see(waited, at);
        }
        panic!("never: {decision:?}");
    }

    #[test]
    fn one_long_wait_sheds_nobody_and_a_queue_that_stands_does_until_it_is_gone() {
        let (mut decision, start) = (Decision::new(MOST), Instant::now());
        let long = Duration::from_secs(3);
        for look in 0..19 {
            decision.see(long, start + TICK * look);
        }
        decision.see(Duration::from_millis(20), start + TICK * 19);
        assert_eq!(decision.share, ONE, "it was gone within a second");
        assert_eq!(decision.waited, Duration::from_millis(20));
        let start = start + TICK * 20;
        let (looks, at) = until(&mut decision, start, MOST + TICK, |share| share < ONE);
        assert!((20..=22).contains(&looks), "{looks}");
        let (looks, at) = until(&mut decision, at, MOST + TICK, |share| share == LEAST);
        assert!(looks <= 20, "{looks}");
        // Neither long nor short: as it is.
        decision.see(MOST, at);
        assert_eq!(decision.share, LEAST);
        let (looks, _) = until(&mut decision, at, Duration::from_millis(1), |share| share == ONE);
        assert!(looks <= 40, "back within two seconds, not {looks} looks");
        assert_eq!(decision.waited, Duration::ZERO);
    }

    #[test]
    fn of_those_that_come_a_share_is_let_in_evenly() {
        let lag = Lag::default();
        assert!((0..100).all(|_| lag.admits()) && !lag.sheds());
        for share in [LEAST, 100, ONE / 2, ONE - 1] {
            lag.share.store(share, Relaxed);
            assert!(lag.sheds());
            let admitted: Vec<bool> = (0..ONE).map(|_| lag.admits()).collect();
            let count = |some: &[bool]| some.iter().filter(|one| **one).count() as u64;
            assert_eq!(count(&admitted), share);
            for half in admitted.chunks(512) {
                assert!(count(half).abs_diff(share / 2) <= 1, "{share}");
            }
        }
    }

    #[test]
    fn work_that_waits_is_seen_to_wait_and_the_thread_ends_with_its_owner() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let lag = Lag::watch(runtime.handle().clone(), Duration::from_millis(1), || 0).unwrap();
        let (hold, held) = std::sync::mpsc::sync_channel::<()>(1);
        // The only thread is kept from its work.
        runtime.spawn(async move {
            let _ = held.recv();
        });
        while !lag.sheds() {
            std::thread::park_timeout(TICK / 10);
        }
        assert!(lag.waited() > STANDING / 2, "{:?}", lag.waited());
        drop(hold);
        while lag.sheds() || lag.waited() > Duration::ZERO {
            std::thread::park_timeout(TICK / 10);
        }
        let gone = Arc::downgrade(&lag);
        drop(lag);
        while gone.strong_count() > 0 {
            std::thread::park_timeout(TICK / 10);
        }
    }
}
