//! Servers under the same load in turns, and what of it can be said with confidence.

use std::time::Duration;

use super::Fallible;
use super::load::{self, Load, Outcome, Pace};
use super::numbers::{Interval, median};
use super::server::Server;

/// The name of the gateway's thread that records.
const RECORDER: &str = "recorder";

/// One server's part of one turn.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// CPU microseconds of the server per request.
    pub(crate) cpu: f64,
    /// What of it the recorder's thread took.
    pub(crate) recorder: f64,
}

/// One server over all turns.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) slices: Vec<Slice>,
    /// All of them, sorted, in nanoseconds.
    pub(crate) latencies: Vec<u32>,
    /// Requests answered, and refused because too much waited.
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    /// Rows that the recorder shed, and rows that it took.
    pub(crate) shed: f64,
    pub(crate) recorded: f64,
}

/// A measure of a slice.
pub(crate) type Measure = fn(&Slice) -> f64;

impl Side {
    /// Takes up a turn.
    pub(crate) fn take(&mut self, outcome: Outcome, slice: Slice) {
        self.answered += outcome.answered;
        self.refused += outcome.refused;
        self.latencies.extend(outcome.latencies);
        self.slices.push(slice);
    }

    pub(crate) fn median(&self, measure: Measure) -> f64 {
        median(&self.slices.iter().map(measure).collect::<Vec<_>>())
    }

    /// The same with its interval.
    pub(crate) fn interval(&self, measure: Measure) -> Interval {
        Interval::of(&self.slices.iter().map(measure).collect::<Vec<_>>())
    }

    /// This side's measure over the other's, turn by turn.
    pub(crate) fn ratio(&self, other: &Side, measure: Measure) -> Interval {
        self.paired(other, |a, b| measure(a) / measure(b))
    }

    /// This side's measure less the other's, turn by turn.
    pub(crate) fn difference(&self, other: &Side, measure: Measure) -> Interval {
        self.paired(other, |a, b| measure(a) - measure(b))
    }

    fn paired(&self, other: &Side, f: impl Fn(&Slice, &Slice) -> f64) -> Interval {
        let pairs: Vec<f64> = self.slices.iter().zip(&other.slices).map(|(a, b)| f(a, b)).collect();
        Interval::of(&pairs)
    }

    /// Share of the answered rows that the recorder shed, where there is one.
    pub(crate) fn shed_share(&self) -> Option<f64> {
        let all = self.shed + self.recorded;
        (all > 0.0).then(|| self.shed / all)
    }
}

/// Gives the load to one server after the other, `turns` times, the order reversed in every second turn; one more turn
/// before warms up. `model` is whose records are counted.
pub(crate) fn duel(servers: &[&Server], model: &str, load: &Load<'_>, turns: usize) -> Fallible<Vec<Side>> {
    let mut sides: Vec<Side> = servers.iter().map(|_| Side::default()).collect();
    let warm_up = Load {
        time: load.time.min(Duration::from_millis(300)),
        ..*load
    };
    for server in servers {
        one(server, &warm_up, 0)?;
    }
    let before = records(servers, model)?;
    for turn in 0..turns {
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (outcome, slice) = one(servers[at], load, turn as u64 + 1)?;
            sides[at].take(outcome, slice);
        }
    }
    let after = records(servers, model)?;
    for side in &mut sides {
        side.latencies.sort_unstable();
    }
    for (side, ((shed, recorded), (shed_before, recorded_before))) in
        sides.iter_mut().zip(after.into_iter().zip(before))
    {
        side.shed = shed - shed_before;
        side.recorded = recorded - recorded_before;
    }
    Ok(sides)
}

/// Rows shed and recorded so far, of those servers that record.
fn records(servers: &[&Server], model: &str) -> Fallible<Vec<(f64, f64)>> {
    let of = |server: &&Server| -> Fallible<(f64, f64)> {
        match server.admin {
            Some(_) => Ok((
                server.metric("dethrone_recorder_dropped_total")?,
                server.recorded(model)? as f64,
            )),
            None => Ok((0.0, 0.0)),
        }
    };
    servers.iter().map(of).collect()
}

/// One server's part of a turn.
pub(crate) fn one(server: &Server, load: &Load<'_>, seed: u64) -> Fallible<(Outcome, Slice)> {
    let (before, recorder_before) = (server.cpu(), server.cpu_of(RECORDER));
    let outcome = match load.pace {
        Pace::Closed(connections) => load::closed(server.data, connections, load)?,
        Pace::Calls(connections) => load::calls(server.grpc.ok_or("no gRPC listener")?, connections, load)?,
        Pace::Open(rate) => load::open(server.data, rate, seed, load)?,
    };
    // What was only put off is work too, and must not disturb the next.
    server.settle()?;
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / outcome.answered as f64;
    let cpu = per_request(server.cpu().saturating_sub(before));
    let recorder = per_request(server.cpu_of(RECORDER).saturating_sub(recorder_before));
    if outcome.failed + outcome.wrong > 0 || outcome.answered == 0 {
        let Outcome {
            answered,
            failed,
            wrong,
            ..
        } = outcome;
        return Err(format!(
            "{}: of {answered} answers {failed} failed and {wrong} were wrong",
            server.name
        )
        .into());
    }
    let slice = Slice {
        per_second: outcome.per_second(),
        p50: outcome.quantile(0.5),
        p99: outcome.quantile(0.99),
        cpu,
        recorder,
    };
    Ok((outcome, slice))
}
