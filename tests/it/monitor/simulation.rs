//! How often the alarm is false, and how soon it is right.
//!
//! The short form runs with all tests. The long one, with 50 features and 200,000 rows a run, prints its tables:
//! `cargo test --release --locked --test it monitor::simulation -- --ignored --nocapture`. It takes half an hour of a
//! processor's time, and a share of it with fewer runs than a hundred (`DETHRONE_ALARM_RUNS=40`).

use std::sync::atomic::{AtomicU64, Ordering};

use dethrone::monitor::alarm::{Blocks, Watch, log_bar};
use dethrone::monitor::feature::Known;
use dethrone::monitor::sketch::Value;
use dethrone::simulate::random::Random;
use dethrone::span::{Clock, Span};

/// What one feature is drawn from.
#[derive(Clone, Copy)]
struct Shift {
    /// Row from which on the mean moves.
    from: u64,
    /// By so many standard deviations.
    by: f64,
    /// Over so many rows.
    over: u64,
}

/// One feature of one run; gives the row at which it is alarmed.
fn run(seed: u64, feature: u64, rows: u64, features: usize, alpha: f64, shift: Option<Shift>) -> Option<u64> {
    const BASELINE: u64 = 1_000;
    let mut random = Random::new(2_026, feature, seed);
    let mut draw = |row: u64| {
        let x = random.normal();
        // Several shapes: a normal, a heavy tail, a count, a coin.
        let x = match feature % 4 {
            0 => x,
            1 => libm::exp(x),
            2 => (x * 2.0).round(),
            _ => f64::from(u8::from(x > 0.5)),
        };
        let moved = shift.map_or(0.0, |shift| {
            let part = row.saturating_sub(shift.from) as f64 / shift.over.max(1) as f64;
            shift.by * part.min(1.0)
        });
        x + moved
    };
    let mut known = Known::new("x");
    (0..BASELINE).for_each(|_| known.add(Value::Number(draw(0))));
    known.settle();
    let scale = known.scale.unwrap();
    let (mut watch, bar) = (Watch::new(&format!("{seed} {feature}")), log_bar(features, alpha));
    let mut blocks = Blocks::default();
    (1..=rows).find_map(|row| {
        let clock = Clock { row, time_ms: 0 };
        let raised = blocks
            .row(clock, Span::Rows(1))
            .and_then(|(at, counts)| watch.close(counts, bar, at));
        watch.add(scale.rank(Value::Number(draw(row))));
        raised.map(|raised| raised.at.row)
    })
}

/// What these runs give, on all processors.
fn each(runs: u64, run: impl Fn(u64) -> Option<u64> + Sync) -> Vec<u64> {
    let (next, run) = (AtomicU64::new(0), &run);
    let some = || {
        let seeds = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|seed| *seed < runs);
        seeds.filter_map(run).collect::<Vec<u64>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Runs in which any feature is alarmed.
fn false_alarms(runs: u64, features: usize, rows: u64, alpha: f64) -> u64 {
    let alarmed = |seed| (0..features as u64).find_map(|k| run(seed, k, rows, features, alpha, None));
    each(runs, alarmed).len() as u64
}

/// The largest count that chance explains (three standard deviations above the rate).
fn most(runs: u64, alpha: f64) -> f64 {
    let (n, p) = (runs as f64, alpha);
    n * p + 3.0 * (n * p * (1.0 - p)).sqrt()
}

#[test]
fn false_alarms_over_all_features_keep_to_their_rate() {
    // A coarse rate, so that few runs tell something: without its share of the bar each feature would reach it.
    let (runs, alpha) = (40, 0.2);
    let found = false_alarms(runs, 10, 1_500, alpha);
    assert!(found as f64 <= most(runs, alpha), "{found} of {runs}");
    // The same streams with a shift are found, so that silence is no proof of deafness.
    let shift = Some(Shift {
        from: 700,
        by: 1.0,
        over: 0,
    });
    let rows: Vec<u64> = (0..5).filter_map(|seed| run(seed, 0, 1_500, 50, 0.01, shift)).collect();
    assert!(
        rows.len() == 5 && rows.iter().all(|row| (700..1_200).contains(row)),
        "{rows:?}"
    );
}

#[test]
#[ignore = "takes minutes: see the head of the file"]
fn delays_and_false_alarms_of_the_long_form() {
    println!("| shift (sd) | over rows | from row | alarmed | median delay (rows) | 90 % |");
    println!("|---|---|---|---|---|---|");
    for (by, over) in [
        (2.0, 0),
        (1.0, 0),
        (0.5, 0),
        (0.25, 0),
        (0.1, 0),
        (1.0, 5_000),
        (0.5, 5_000),
    ] {
        for from in [1_000, 20_000] {
            let shift = Shift { from, by, over };
            let row = |seed| run(seed, 0, from + 50_000, 50, 0.01, Some(shift));
            let mut delays: Vec<u64> = each(50, row)
                .into_iter()
                .filter_map(|row| row.checked_sub(from))
                .collect();
            delays.sort_unstable();
            let at = |share: usize| delays.get(delays.len() * share / 100).copied().unwrap_or(0);
            println!(
                "| {by} | {over} | {from} | {} of 50 | {} | {} |",
                delays.len(),
                at(50),
                at(90)
            );
        }
    }
    let runs: u64 = std::env::var("DETHRONE_ALARM_RUNS").map_or(100, |n| n.parse().unwrap());
    for alpha in [0.2, 0.01] {
        let found = false_alarms(runs, 50, 200_000, alpha);
        println!("50 features, 200,000 rows, alpha {alpha}: {found} of {runs} runs with a false alarm");
        assert!(found as f64 <= most(runs, alpha), "{found} of {runs}");
    }
}
