//! How many labels it takes until a challenger that is better has won, against a test of fixed size that is told the
//! effect and the variance beforehand; and how soon one is found that becomes better later.

use serde::Serialize;

use super::null::ALPHAS;
use super::random::Random;
use super::runs::{all, crossings, first_bar};
use super::source::{
    Source, calibrated, changing, disagreeing, mean_of_probabilities, mean_of_values, probabilities, values,
};
use crate::judge::loss::Metric;

/// (1.645 + 0.8416)²: a one-sided test at .05 with 80 % power needs so many times variance / effect² labels.
const FIXED_05: f64 = 6.18;
/// The same at .005, which is what bar 200 spends on the first challenger: (2.5758 + 0.8416)².
const FIXED_005: f64 = 11.68;

/// One effect and what it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// The loss and the effect.
    pub name: String,
    /// Labels of the fixed test at .05 with 80 % power.
    pub n80: f64,
    /// At bar 20, in which 1 of 20 is spent.
    pub bar_20: Needed,
    /// Median at bar 20 over `n80`.
    pub ratio: f64,
    /// 95 % interval of the ratio, by the order of the runs.
    pub interval: [f64; 2],
    /// What that ratio may be: 1.1 times that of the reference.
    pub at_most: f64,
    /// Labels of the fixed test at .005, which bar 200 is to be compared with.
    pub n80_at_200: f64,
    /// At the default first bar, 200.
    pub bar_200: Needed,
}

/// Labels until a bar was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// Half of the runs had won by then.
    pub median: Option<u64>,
    /// Eight of ten had.
    pub p80: Option<u64>,
    /// Nine of ten had.
    pub p90: Option<u64>,
}

impl Needed {
    fn of(mut labels: Vec<Option<u64>>) -> Self {
        labels.sort_by_key(|at| at.unwrap_or(u64::MAX));
        let at = |share: usize| {
            let place = (labels.len() * share).div_ceil(100).saturating_sub(1);
            labels.get(place).copied().flatten()
        };
        Self {
            median: at(50),
            p80: at(80),
            p90: at(90),
        }
    }
}

/// Between which runs the median lies with 95 % probability, whatever their distribution is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of runs"
)]
fn median_interval(mut labels: Vec<Option<u64>>) -> [Option<u64>; 2] {
    labels.sort_by_key(|at| at.unwrap_or(u64::MAX));
    let runs = labels.len() as f64;
    let half = 0.98 * runs.sqrt();
    let at = |place: f64| labels.get(place.max(0.0) as usize).copied().flatten();
    [at((runs / 2.0 - half).floor() - 1.0), at((runs / 2.0 + half).ceil())]
}

/// A row of the table.
struct Case {
    name: String,
    effect: f64,
    source: Source,
    /// Median over `n80` of the reference, at bar 20.
    reference: f64,
}

/// Every effect of the table. `short`: the quick ones only.
fn cases(seed: u64, short: bool) -> Vec<Case> {
    let zero_one = [
        (0.002, 0.05, 1.12),
        (0.005, 0.12, 1.30),
        (0.01, 0.12, 1.10),
        (0.02, 0.12, 1.24),
        (0.05, 0.12, 1.22),
        (0.1, 0.12, 1.17),
        (0.02, 0.32, 1.33),
        (0.1, 0.32, 1.23),
    ];
    let zero_one = zero_one.into_iter().filter(|(effect, ..)| !short || *effect > 0.04);
    let mut all: Vec<Case> = zero_one
        .map(|(effect, disagree, reference)| Case {
            name: format!("0/1 {effect} (disagree {disagree})"),
            effect,
            source: disagreeing(disagree, effect),
            reference,
        })
        .collect();
    if short {
        return all;
    }
    let scored = [
        ("Brier", Metric::Brier, 0.002, 1.08),
        ("Brier", Metric::Brier, 0.01, 1.21),
        ("Brier", Metric::Brier, 0.05, 1.52),
        ("log-loss clip .05,", Metric::LogLoss { clip: 0.05 }, 0.005, 1.21),
        ("log-loss clip .05,", Metric::LogLoss { clip: 0.05 }, 0.02, 1.10),
        ("log-loss clip .01,", Metric::LogLoss { clip: 0.01 }, 0.02, 1.49),
        ("log-loss clip .01,", Metric::LogLoss { clip: 0.01 }, 0.002, 2.35),
    ];
    all.extend(scored.into_iter().map(|(name, metric, effect, reference)| {
        let errors = calibrated(effect, 0.02, |errors| mean_of_probabilities(&metric, errors, seed));
        Case {
            name: format!("{name} {effect}"),
            effect,
            source: probabilities(metric, errors),
            reference,
        }
    }));
    let valued = [
        (0.1, "squared error, B = .1,", 1.12),
        (1.0, "squared error, B = 1,", 6.96),
    ];
    all.extend(valued.into_iter().map(|(bound, name, reference)| {
        let errors = calibrated(0.002, 0.015, |errors| mean_of_values(bound, 0.15, errors, seed));
        Case {
            name: format!("{name} 0.002"),
            effect: 0.002,
            source: values(bound, 0.15, errors),
            reference,
        }
    }));
    all
}

/// Counts the labels that each effect needs. `short`: the quick ones only.
#[must_use]
pub fn count(seed: u64, runs: u64, short: bool, mut each: impl FnMut()) -> Vec<Effect> {
    let bars = ALPHAS.map(first_bar);
    let counted = (200..).zip(cases(seed, short)).map(|(experiment, case)| {
        let Case {
            name,
            effect,
            source,
            reference,
        } = case;
        let variance = source.variance(seed);
        let [n80, n80_at_200] = [FIXED_05, FIXED_005].map(|factor| factor * variance / (effect * effect));
        // Long enough for nearly all.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of labels"
        )]
        let labels = (12.0 * n80_at_200 + 60.0 * source.bound / effect) as u64;
        let found = all(runs, |run| {
            crossings(&source, &mut Random::new(seed, experiment, run), labels, bars)
        });
        each();
        let needed = |which: usize| Needed::of(found.iter().map(|at| at.get(which).copied().flatten()).collect());
        let bar_20 = needed(0);
        let interval = median_interval(found.iter().map(|at| at.first().copied().flatten()).collect());
        Effect {
            name,
            n80,
            ratio: bar_20.median.map_or(f64::INFINITY, |median| median as f64 / n80),
            interval: interval.map(|median| median.map_or(f64::INFINITY, |median| median as f64 / n80)),
            bar_20,
            at_most: 1.1 * reference,
            n80_at_200,
            bar_200: needed(1),
        }
    });
    counted.collect()
}

/// A challenger that becomes better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Before and after.
    pub name: String,
    /// Labels of the fixed test at .05, told when to begin.
    pub n80: f64,
    /// Median labels after the change at bar 20, of those that had not won before.
    pub bar_20: Option<u64>,
    /// At bar 200.
    pub bar_200: Option<u64>,
    /// Share that had reached bar 20 before the change.
    pub before: f64,
}

/// Labels before the change.
const CHANGE: u64 = 10_000;

/// Counts the labels after a change at label 10,000.
#[must_use]
pub fn changes(seed: u64, runs: u64, mut each: impl FnMut()) -> Vec<Change> {
    let cases = [
        (0.0, 0.02),
        (0.0, 0.05),
        (0.0, 0.1),
        (-0.02, 0.02),
        (-0.02, 0.05),
        (-0.02, 0.1),
    ];
    let bars = ALPHAS.map(first_bar);
    let counted = (300..).zip(cases).map(|(experiment, (before, after))| {
        let source = changing(move |label| (0.12, if label <= CHANGE { before } else { after }));
        let found = all(runs, |run| {
            crossings(&source, &mut Random::new(seed, experiment, run), 40 * CHANGE, bars)
        });
        each();
        let median = |which: usize| {
            let reached = found.iter().map(|at| at.get(which).copied().flatten());
            let later = reached.filter(|at| at.is_none_or(|at| at > CHANGE));
            Needed::of(later.map(|at| at.map(|at| at - CHANGE)).collect()).median
        };
        let early = found.iter().filter(|[at, _]| at.is_some_and(|at| at <= CHANGE)).count();
        Change {
            name: format!(
                "{} → better by {after}",
                if before < 0.0 { "worse by 0.02" } else { "equal" }
            ),
            n80: FIXED_05 * (0.12 - after * after) / (after * after),
            bar_20: median(0),
            bar_200: median(1),
            before: early as f64 / found.len().max(1) as f64,
        }
    });
    counted.collect()
}
