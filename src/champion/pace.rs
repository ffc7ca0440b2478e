//! How long a version's runs take, measured when it is loaded.
//!
//! What else happens on the machine only adds to a run's time, so that of several rounds the quietest counts.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::answer::rows::Run;
use crate::model::session::LoadError;
use crate::model::tensor::Tensor;

/// Rounds of runs, and runs in each: the slowest of a quiet round stands for the 99th percentile.
const ROUNDS: usize = 5;
const RUNS: usize = 20;
/// No more time than this is spent on a slow version; the round that is under way ends after [`FEWEST`] runs.
const BUDGET: Duration = Duration::from_millis(200);
const FEWEST: usize = 3;
/// What runs are timed by: the thread's own CPU time where it does all the work, for it may have to wait for a processor.
pub(super) type Clock = fn() -> Duration;

/// Time that passes for all.
pub(super) fn wall() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Does heavy work on a thread that gives way to those that serve requests. `None`: there was no thread, or it ended by a
/// panic.
pub(super) fn gently<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let given_way = || {
        crate::priority::give_way();
        work()
    };
    let thread = std::thread::Builder::new().name("loader".into());
    std::thread::scope(|scope| thread.spawn_scoped(scope, given_way).ok()?.join().ok())
}

/// Rows of the run that tells what one more row costs.
const ROWS: usize = 16;

/// Example rows of a version.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// One tensor per input.
    pub inputs: &'a [Tensor],
    /// How many rows they hold.
    pub rows: usize,
}

impl Probe<'_> {
    /// Inputs of `rows` times the first row, where the rows can be told apart.
    fn first_row(&self, rows: usize) -> Option<Vec<Tensor>> {
        let repeated = |tensor: &Tensor| {
            let first = (tensor.rows() == self.rows)
                .then(|| tensor.slice_rows(0, 1))
                .flatten()?;
            Tensor::concat(&vec![&first; rows])
        };
        self.inputs.iter().map(repeated).collect()
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// Median run of one row.
    pub(super) median: Duration,
    /// The slowest run of one row in a quiet round.
    pub(super) slow: Duration,
    /// What each further row adds.
    pub(super) row: Duration,
}

impl Pace {
    /// Measures, and warms what runs.
    ///
    /// # Errors
    /// The runtime's own words.
    pub(super) fn measure(
        run: &mut impl Run,
        probe: Probe<'_>,
        (batched, wanted): (bool, &[usize]),
        clock: Clock,
    ) -> Result<Self, LoadError> {
        let several = if batched { probe.first_row(ROWS) } else { None };
        let one = if batched { probe.first_row(1) } else { None };
        let (one, rows) = one.as_deref().map_or((probe.inputs, probe.rows), |one| (one, 1));
        warm(run, (one, rows), wanted)?;
        let start = Instant::now();
        let mut all = Vec::with_capacity(ROUNDS * RUNS);
        let mut slow = Duration::MAX;
        for _ in 0..ROUNDS {
            let round = rounds(run, (one, rows), (wanted, clock), start)?;
            slow = slow.min(round.iter().copied().max().unwrap_or_default());
            all.extend(round);
            if start.elapsed() > BUDGET {
                break;
            }
        }
        let median = median(&mut all);
        let row = match several {
            // A run of so many rows would only take time: one more row costs no more than a run.
            Some(_) if median > BUDGET => median,
            Some(several) => {
                warm(run, (&several, ROWS), wanted)?;
                let mut many = rounds(run, (&several, ROWS), (wanted, clock), Instant::now())?;
                let further = u32::try_from(ROWS - 1).unwrap_or(1);
                self::median(&mut many).saturating_sub(median) / further
            }
            None => median,
        };
        Ok(Self { median, slow, row })
    }

    /// Most rows, up to so many, that are worth sharing a run: with more of them a row would take hardly less.
    ///
    /// Of `b` rows each takes `(median + (b - 1) · row) / b`, which comes down to `row`: the least `b` at which nine tenths
    /// of the rows per second are reached that runs of any size could reach.
    pub(super) fn worth(&self, most: usize) -> usize {
        let (one, further) = (self.median.as_nanos(), self.row.as_nanos());
        let saved = one.saturating_sub(further).saturating_mul(9);
        let enough = saved
            .checked_div(further)
            .map_or(most, |rows| usize::try_from(rows + 1).unwrap_or(most));
        enough.clamp(1, most.max(1))
    }

    /// Time of a run of so many rows on a quiet machine, most of the time.
    pub(super) fn usual(&self, rows: usize) -> Duration {
        let further = u32::try_from(rows.saturating_sub(1)).unwrap_or(u32::MAX);
        self.median.saturating_add(self.row.saturating_mul(further))
    }

    /// Time of a run of so many rows, at the longest.
    pub(super) fn of(&self, rows: usize) -> Duration {
        let further = u32::try_from(rows.saturating_sub(1)).unwrap_or(u32::MAX);
        self.slow.saturating_add(self.row.saturating_mul(further))
    }
}

/// The first runs take memory and code in: they are slower than all others.
pub(super) fn warm(run: &mut impl Run, (inputs, rows): (&[Tensor], usize), wanted: &[usize]) -> Result<(), LoadError> {
    let start = Instant::now();
    for _ in 0..FEWEST {
        run.run(inputs, wanted, rows).map_err(|error| LoadError(error.0))?;
        if start.elapsed() > BUDGET {
            break;
        }
    }
    Ok(())
}

fn rounds(
    run: &mut impl Run,
    (inputs, rows): (&[Tensor], usize),
    (wanted, clock): (&[usize], Clock),
    since: Instant,
) -> Result<Vec<Duration>, LoadError> {
    let mut times = Vec::with_capacity(RUNS);
    while times.len() < RUNS && (times.len() < FEWEST || since.elapsed() < BUDGET) {
        let start = clock();
        run.run(inputs, wanted, rows).map_err(|error| LoadError(error.0))?;
        times.push(clock().saturating_sub(start));
    }
    Ok(times)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::Data;

    #[test]
    fn a_run_of_many_rows_is_one_run_and_what_the_others_add() {
        let pace = Pace {
            median: Duration::from_micros(40),
            slow: Duration::from_micros(50),
            row: Duration::from_micros(8),
        };
        assert_eq!(pace.of(1), Duration::from_micros(50));
        assert_eq!(pace.of(64), Duration::from_micros(50 + 63 * 8));
        assert!(pace.of(usize::MAX) > Duration::from_secs(3600));
    }

    #[test]
    fn rows_share_a_run_as_long_as_that_saves_time() {
        let worth = |one: u64, row: u64| {
            let (median, row) = (Duration::from_micros(one), Duration::from_micros(row));
            let pace = Pace {
                median,
                slow: median,
                row,
            };
            (pace.worth(64), pace)
        };
        for (one, row, expected) in [
            (10_000, 10_000, 1),
            (10_000, 11_000, 1),
            (10_000, 5_000, 10),
            (400, 10, 64),
            (400, 0, 64),
        ] {
            let (rows, pace) = worth(one, row);
            assert_eq!(rows, expected, "{one} and {row} µs");
            let rate = |rows: usize| rows as f64 / pace.usual(rows).as_secs_f64();
            assert!(rows == 64 || rate(rows) >= 0.9 * rate(100_000), "{one} and {row} µs");
        }
        assert_eq!(Pace::default().worth(0), 1);
    }

    #[test]
    fn the_first_row_of_a_probe_is_repeated_and_what_is_no_row_cannot_be() {
        let tensor = Tensor::new(vec![2, 2], Data::Int64(vec![1, 2, 3, 4])).unwrap();
        let probe = |rows| Probe {
            inputs: std::slice::from_ref(&tensor),
            rows,
        };
        let repeated = probe(2).first_row(3).unwrap();
        assert_eq!(
            repeated[0],
            Tensor::new(vec![3, 2], Data::Int64(vec![1, 2, 1, 2, 1, 2])).unwrap()
        );
        assert!(probe(1).first_row(3).is_none());
    }
}
