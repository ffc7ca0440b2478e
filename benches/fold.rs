//! What it costs to fold a label: `cargo bench --bench fold`.
//!
//! One core, one judge; a label is one pair with one challenger, and everything that the judge does with it: both bets,
//! interval, dwell, coverage, the question whether anything is decided. Median of fifteen runs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program that measures: it may end with a message"
)]

use std::hint::black_box;

use dethrone::judge::fold::Judge;
use dethrone::judge::pair::{Classes, Entry, Kind, Pair, Seen};
use dethrone::judge::policy::Policy;
use dethrone::judge::wealth::{Wealth, scaled};
use dethrone::score::VersionNo;
use dethrone::span::Clock;
use dethrone::time::cpu::of_this_thread;

const LABELS: u64 = 200_000;
const RUNS: usize = 15;

fn main() {
    // A tenth of the rows tells the two apart, either way.
    let differences: Vec<f64> = (0..1_024_u64)
        .map(|n| match n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 {
            0 => 1.0,
            1 => -1.0,
            _ => 0.0,
        })
        .collect();
    let wealth = measure(|| {
        let mut wealth = Wealth::new();
        for label in 0..LABELS {
            wealth.step(scaled(
                differences[usize::try_from(label).unwrap() % 1_024],
                1.0,
                1.0,
                0.0,
            ));
        }
        black_box(wealth.value());
    });
    println!("the bet alone          {:>6.1} M labels/s", wealth / 1e6);
    for challengers in [1, 3, 8] {
        let folded = measure(|| fold(challengers, &differences)) * f64::from(challengers);
        println!(
            "judge, {challengers} challenger(s)  {:>6.1} M labels/s (a label counts once per challenger)",
            folded / 1e6
        );
    }
}

fn fold(challengers: u32, differences: &[f64]) {
    let mut judge = Judge::new(Policy::default(), VersionNo(0), 1, Clock::default());
    let versions = (1..=challengers).map(VersionNo);
    versions
        .clone()
        .for_each(|version| judge.enter(version, Clock::default()));
    let entries = versions.map(|version| Entry {
        version,
        difference: 0.0,
        kind: Kind::Scored,
        classes: Classes::Enough,
        seen: Seen::default(),
    });
    let mut pair = Pair {
        clock: Clock::default(),
        epoch: 1,
        weight: 1.0,
        champion_loss: Some(0.25),
        champion: Seen::default(),
        groups: 0,
        entries: entries.collect(),
    };
    for label in 0..LABELS {
        pair.clock = Clock {
            row: label,
            time_ms: i64::try_from(label).unwrap() * 100,
        };
        for (k, entry) in pair.entries.iter_mut().enumerate() {
            entry.difference = differences[(usize::try_from(label).unwrap() * 7 + k) % 1_024];
        }
        black_box(judge.fold(&pair));
    }
}

/// Rows per second of processor time: what others do on the machine is no part of it.
fn measure(mut run: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = of_this_thread();
            run();
            of_this_thread().saturating_sub(start).as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    LABELS as f64 / seconds[RUNS / 2]
}
