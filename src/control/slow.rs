//! The tripwire on latency: a champion that takes several times as long as the one before it, with the same work.
//!
//! Always holds: compared are runs of as many rows, from counts that there are anyway; nothing on a request's path is
//! measured for it. A machine that is slow for everybody trips nobody: before anything is said both are timed on the same
//! recorded rows, in turns. Since the previous champion answers no requests any more, its runs are those of before the
//! swap; after a restart there are none, and this tripwire rests until the next swap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Thread;
use crate::champion::{Loaded, Trip};
use crate::oip::Counters;

/// Fewer rows of the new champion say nothing.
const LEAST_ROWS: u64 = 1_000;
/// So many times beyond the guardrail.
const FACTOR: f64 = 2.0;
/// A row that takes less than this much longer is no emergency.
const SPARE: Duration = Duration::from_micros(300);
/// The timing takes this thread's time: where it clears the champion, the next one waits.
const REST: Duration = Duration::from_secs(30);
/// Turns of the timing.
const TURNS: usize = 3;

/// Runs and nanoseconds, by rows of a run.
type Runs = BTreeMap<usize, (u64, u64)>;

/// A tenure that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    epoch: u64,
    /// What the champion had run before it was one.
    base: Runs,
    /// What the previous one had run until then.
    reference: Runs,
    told: bool,
    /// Not to be timed again before.
    rests: Option<Instant>,
}

impl Watched {
    /// A swap has been made.
    pub(super) fn begin(epoch: u64, champion: &Loaded, previous: Option<&Loaded>) -> Self {
        Self {
            epoch,
            base: runs(&champion.info.counters),
            reference: previous.map(|p| runs(&p.info.counters)).unwrap_or_default(),
            told: false,
            rests: None,
        }
    }

    /// Rows that can be compared, and how many times as long as the previous champion the new one took for them.
    fn compare(&self, now: &Runs) -> (u64, f64) {
        let (mut rows, mut own, mut expected) = (0, 0.0, 0.0);
        for (size, (count, ns)) in now {
            let (before, before_ns) = self.base.get(size).copied().unwrap_or_default();
            let (count, ns) = (count.saturating_sub(before), ns.saturating_sub(before_ns));
            let Some((runs, total)) = self.reference.get(size).filter(|(runs, _)| *runs > 0) else {
                continue;
            };
            rows += count * *size as u64;
            own += ns as f64;
            expected += count as f64 * *total as f64 / *runs as f64;
        }
        let longer = (own - expected) / rows.max(1) as f64;
        let is_long = longer >= SPARE.as_nanos() as f64;
        (rows, if is_long && expected > 0.0 { own / expected } else { 1.0 })
    }
}

fn runs(counters: &Counters) -> Runs {
    counters
        .runs()
        .into_iter()
        .map(|(size, count, ns)| (size, (count, ns)))
        .collect()
}

impl Thread {
    /// Looks whether a champion takes too long.
    pub(super) fn look_for_slow(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let Some(limit) = keeper.config.guardrail.latency.map(|limit| limit * FACTOR) else {
            return;
        };
        let (Some(watched), Some(slot)) = (&keeper.watched, keeper.served.slot.load()) else {
            return;
        };
        if watched.told || watched.epoch != slot.epoch {
            return;
        }
        let (rows, times) = watched.compare(&runs(&slot.version.info.counters));
        let rests = watched.rests.is_some_and(|until| Instant::now() < until);
        if rows < LEAST_ROWS || times < limit || rests {
            return;
        }
        let (epoch, no) = (slot.epoch, keeper.row.no);
        let timed = slot
            .previous
            .as_ref()
            .and_then(|p| self.time_both(model, &slot.version, p));
        if let Some(watched) = self.keepers.get_mut(model).and_then(|keeper| keeper.watched.as_mut()) {
            watched.rests = Some(Instant::now() + REST);
        }
        let Some((own, before)) = timed else { return };
        if own < before * limit || own - before < SPARE.as_secs_f64() * 1e6 {
            return;
        }
        if let Some(watched) = self.keepers.get_mut(model).and_then(|keeper| keeper.watched.as_mut()) {
            watched.told = true;
        }
        let why = format!(
            "takes {times:.1} times as long as the one before it, over {rows} rows in runs of as many rows, and \
             {own:.0} µs against {before:.0} µs on the same recorded rows: more than {limit} times"
        );
        self.trip(no, &Trip::slow(epoch, rows, why));
    }

    /// Median microseconds of a recorded row at both, in turns, so that what slows one slows the other.
    fn time_both(&self, model: &str, champion: &Loaded, previous: &Loaded) -> Option<(f64, f64)> {
        let rows = Arc::new(self.recorded_rows(model)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .ok()?;
        let mut best = (f64::INFINITY, f64::INFINITY);
        for _ in 0..TURNS {
            let (own, before) = runtime.block_on(async { (champion.time(&rows).await, previous.time(&rows).await) });
            // Who answers nothing is the business of another tripwire.
            if own.rows == 0 || before.rows == 0 {
                return None;
            }
            best = (best.0.min(own.us_p50), best.1.min(before.us_p50));
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_of_as_many_rows_are_compared_and_only_those_since_the_swap() {
        let ms = |n: u64| n * 1_000_000;
        let watched = Watched {
            epoch: 2,
            base: Runs::from([(1, (100, ms(900)))]),
            reference: Runs::from([(1, (1_000, ms(1_000))), (64, (10, ms(640)))]),
            told: false,
            rests: None,
        };
        // 500 single rows of 6 ms since the swap; runs of 7 rows, which the previous one never had.
        let now = Runs::from([(1, (600, ms(900 + 3_000))), (7, (10_000, ms(1_000_000)))]);
        let (rows, times) = watched.compare(&now);
        assert_eq!(rows, 500);
        assert!((times - 6.0).abs() < 1e-9, "{times}");
        // Quick models may differ by any factor.
        let quick = Watched {
            reference: Runs::from([(1, (1_000, 5_000_000))]),
            base: Runs::new(),
            ..watched
        };
        assert_eq!(quick.compare(&Runs::from([(1, (1_000, 100_000_000))])), (1_000, 1.0));
    }
}
