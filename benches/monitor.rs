//! Feature values that the monitor folds per second, and the memory that a feature takes:
//! `cargo bench --bench monitor`.

use std::time::Instant;

use dethrone::config::MonitorConfig;
use dethrone::monitor::baseline::Baseline;
use dethrone::monitor::fold::{Fold, Row};
use dethrone::score::{Outcome, Score, VersionNo};
use dethrone::simulate::random::Random;
use dethrone::span::{Clock, Span};

const ROWS: usize = 20_000;
const FEATURES: usize = 30;
const RUNS: usize = 5;

fn main() {
    let mut random = Random::new(1, 2, 3);
    let mut row = || {
        let numbers = (0..FEATURES - 2).map(|k| format!("\"x{k}\":{}", random.normal()));
        let mut cells: Vec<String> = numbers.collect();
        for k in 0..2 {
            cells.push(format!("\"c{k}\":\"category {}\"", (random.uniform() * 40.0).floor()));
        }
        format!("{{{}}}", cells.join(","))
    };
    let rows: Vec<String> = (0..ROWS).map(|_| row()).collect();
    let settings = MonitorConfig {
        window: Span::Rows(4_000),
        cycle: Span::Rows(48),
        ..MonitorConfig::default()
    };
    let outcome = Outcome::Scored(Score::Binary(0.5));
    let (mut rates, mut bytes) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let mut fold = Fold::default();
        fold.begin(VersionNo(1), Baseline::to_learn(2_000, Vec::new()), &settings);
        let start = Instant::now();
        for (at, inputs) in (1..).zip(&rows) {
            let row = Row {
                clock: Clock { row: at, time_ms: 0 },
                version: VersionNo(1),
                inputs: Some(inputs),
                outcome: &outcome,
            };
            let _ = fold.row(&row, &settings, 0.5);
        }
        rates.push((ROWS * FEATURES) as f64 / start.elapsed().as_secs_f64());
        bytes = fold.bytes() / (FEATURES + 2);
    }
    rates.sort_by(f64::total_cmp);
    let median = rates.get(RUNS / 2).copied().unwrap_or_default();
    println!(
        "feature values per second: {:.2} million (median of {RUNS})",
        median / 1e6
    );
    println!("bytes per feature: {bytes}");
}
