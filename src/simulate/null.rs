//! How often a champion that nobody beats is displaced.
//!
//! Three rules see the same labels: wealth alone at bar 20 and at the default bar, and the whole default rule, which
//! waits as well. What lies within the promise must not be displaced more often than the bar allows; what lies outside is
//! counted too, and said.

use std::collections::BTreeMap;

use serde::Serialize;

use super::random::Random;
use super::runs::{Contest, all, bare, crossings, first_bar, whole};
use super::share::Share;
use super::source::{
    CYCLE, Draw, Errors, Source, changing, cyclic, disagreeing, disaster, probabilities, values, zero_one,
};
use crate::judge::loss::Metric;
use crate::judge::wealth::{Wealth, scaled};

/// Alpha at which the first challenger's bar is 20, and the default.
pub const ALPHAS: [f64; 2] = [0.1, 0.01];

/// One null and what was counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Null {
    /// The world.
    pub name: String,
    /// The promise covers it.
    pub promised: bool,
    /// Wealth alone at bar 20.
    pub bar_20: Share,
    /// Wealth alone at the default first bar, 200.
    pub bar_200: Share,
    /// The whole default rule.
    pub whole: Share,
}

/// Several challengers, none better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Many {
    /// How many at once.
    pub challengers: u32,
    /// Any of them wins where each may at bar 40, as if it were alone.
    pub uncorrected: Share,
    /// Any of them wins, bars j(j+1)/alpha, alpha .05.
    pub corrected: Share,
    /// The same at the default alpha.
    pub default: Share,
}

fn errors(champion: f64, challenger: f64, correlation: f64) -> Errors {
    Errors {
        champion,
        challenger,
        correlation,
    }
}

/// Every null of the table; true where the promise covers it.
#[must_use]
pub fn nulls() -> Vec<(&'static str, bool, Source)> {
    let half = |label: u64| (if label <= 10_000 { 0.12 } else { 0.32 }, 0.0);
    vec![
        ("equal, disagree .32", true, disagreeing(0.32, 0.0)),
        ("equal, near twins .05", true, disagreeing(0.05, 0.0)),
        ("champion better by .005", true, disagreeing(0.12, -0.005)),
        (
            "Brier, errors correlated .8",
            true,
            probabilities(Metric::Brier, errors(0.1, 0.1, 0.8)),
        ),
        (
            "log-loss, clip .01",
            true,
            probabilities(Metric::LogLoss { clip: 0.01 }, errors(0.1, 0.1, 0.0)),
        ),
        ("squared error", true, values(1.0, 0.15, errors(0.1, 0.1, 0.0))),
        ("both degrade at 10,000", true, changing(half)),
        ("challenger worse by 0 to .02, cyclic", true, cyclic(0.12, -0.01, 0.01)),
        ("many tiny wins, rare disaster, mean 0", true, disaster(0.002)),
        ("labels late by chance, those after maturity dropped", true, delayed()),
        (
            "entities scored on 30 days, averaged per entity",
            true,
            entities(200, true),
        ),
        ("each label 10 times, averaged per entity", true, repeated(true)),
        (
            "positives' labels early, folded in request order after maturity",
            true,
            early(false),
        ),
        (
            "better by .05 for half of each day, worse for the other",
            false,
            cyclic(0.12, 0.0, 0.05),
        ),
        ("the same, worse by .01 on average", false, cyclic(0.12, -0.01, 0.05)),
        ("each label 10 times, folded row by row", false, repeated(false)),
        (
            "200 entities on 30 days, folded row by row",
            false,
            entities(200, false),
        ),
        ("positives' labels early, folded as they arrive", false, early(true)),
    ]
}

/// Labels that take their time, independent of what they say; the late ones make no pair, which is a difference that is
/// never folded.
fn delayed() -> Source {
    Source::new(1.0, |_| {
        |random: &mut Random, _| loop {
            let delay = -libm::log(1.0 - random.uniform());
            let difference = zero_one(random, 0.32, 0.0);
            // Maturity is the mean delay: more than a third of the labels are late.
            if delay <= 1.0 {
                return difference;
            }
        }
    })
}

/// Entities scored once a day for 30 days; one outcome each, so that a model that is wrong about one is wrong every day.
fn entities(count: u64, averaged: bool) -> Source {
    const DAYS: u64 = 30;
    Source::new(1.0, move |_| {
        let mut own: Vec<f64> = Vec::new();
        move |random: &mut Random, label: u64| {
            if averaged {
                // The mean of the entity's rows, folded when its last window closes.
                let daily = (0..DAYS).map(|_| zero_one(random, 0.32, 0.0)).sum::<f64>() / DAYS as f64;
                return 0.5 * daily + 0.5 * zero_one(random, 0.32, 0.0);
            }
            let (at, day) = ((label - 1) % count, (label - 1) / count % DAYS);
            let at = usize::try_from(at).unwrap_or(0);
            if day == 0 {
                let fresh = zero_one(random, 0.32, 0.0);
                match own.get_mut(at) {
                    Some(entity) => *entity = fresh,
                    None => own.push(fresh),
                }
            }
            0.5 * zero_one(random, 0.32, 0.0) + 0.5 * own.get(at).copied().unwrap_or(0.0)
        }
    })
}

/// Each label ten times over, as when one outcome is joined to ten rows.
fn repeated(averaged: bool) -> Source {
    Source::new(1.0, move |_| {
        let mut last = 0.0;
        move |random: &mut Random, label: u64| {
            if averaged || label % 10 == 1 {
                last = zero_one(random, 0.32, 0.0);
            }
            last
        }
    })
}

/// The challenger is better on positives and worse on negatives, by the same. Positives are reported at once, negatives
/// 3,000 requests later: in the order of arrival the positives are ahead.
fn early(as_they_arrive: bool) -> Source {
    const LATE: u64 = 3_000;
    Source::new(1.0, move |random| -> Draw {
        if !as_they_arrive {
            return Box::new(|random: &mut Random, _| {
                let positive = random.uniform() < 0.5;
                zero_one(random, 0.3, if positive { 0.1 } else { -0.1 })
            });
        }
        // Requests are drawn as they come; whoever is reported by then waits here.
        let mut waiting: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        let mut request = 0;
        let mut class = Random::new(random.next(), 0, 0);
        Box::new(move |random: &mut Random, _| {
            loop {
                if let Some(first) = waiting.first_entry()
                    && first.key().0 <= request
                {
                    let positive = first.remove();
                    return zero_one(random, 0.3, if positive { 0.1 } else { -0.1 });
                }
                request += 1;
                let positive = class.uniform() < 0.5;
                waiting.insert((request + if positive { 0 } else { LATE }, request), positive);
            }
        })
    })
}

/// Counts how often each null displaces the champion, within so many labels.
#[must_use]
pub fn count(seed: u64, runs: u64, labels: u64, mut each: impl FnMut()) -> Vec<Null> {
    let bars = ALPHAS.map(first_bar);
    let counted = (0..).zip(nulls()).map(|(experiment, (name, promised, source))| {
        let found = all(runs, |run| {
            let mut random = Random::new(seed, experiment, run);
            let reached = crossings(&source, &mut random.clone(), labels, bars);
            // Waiting only ever lowers it: who never reached the bar has not won.
            let mut contest = Contest::new(whole(CYCLE), 1);
            let mut draw = source.start(&mut random);
            let won = reached.get(1).copied().flatten().is_some()
                && (1..=labels).any(|label| {
                    let difference = draw(&mut random, label) / source.bound;
                    contest.fold(label, |_| difference)
                });
            (reached, won)
        });
        each();
        let reached = |which: usize| Share::of(found.iter().map(|(at, _)| at.get(which).copied().flatten().is_some()));
        Null {
            name: name.to_owned(),
            promised,
            bar_20: reached(0),
            bar_200: reached(1),
            whole: Share::of(found.iter().map(|(_, won)| *won)),
        }
    });
    counted.collect()
}

/// Counts how often any of several equal challengers wins. They share the champion's errors.
#[must_use]
pub fn many(seed: u64, runs: u64, labels: u64, mut each: impl FnMut()) -> Vec<Many> {
    let counts = [1_u32, 3, 8, 20];
    let counted = (100..).zip(counts).map(|(experiment, challengers)| {
        let found = all(runs, |run| {
            let mut random = Random::new(seed, experiment, run);
            // Bar 40 for everybody.
            let (mut alone, bar) = (vec![Wealth::new(); challengers as usize], first_bar(0.05));
            let mut together = [bare(0.05), bare(0.01)].map(|policy| Contest::new(policy, challengers));
            let (mut any, mut won) = (false, [false; 2]);
            let mut differences = vec![0.0; alone.len()];
            for label in 1..=labels {
                let champion_is_wrong = random.uniform() < 0.5;
                for difference in &mut differences {
                    // It differs on a fifth of the rows; there it is right when the champion is wrong.
                    let differs = f64::from(u8::from(random.uniform() < 0.2));
                    *difference = if champion_is_wrong { differs } else { -differs };
                }
                if !any {
                    for (wealth, difference) in alone.iter_mut().zip(&differences) {
                        wealth.step(scaled(*difference, 1.0, 1.0, 0.0));
                        any |= wealth.value() >= bar;
                    }
                }
                for (won, contest) in won.iter_mut().zip(&mut together) {
                    *won = *won || contest.fold(label, |at| differences.get(at).copied().unwrap_or(0.0));
                }
                if any && won == [true; 2] {
                    break;
                }
            }
            (any, won)
        });
        each();
        Many {
            challengers,
            uncorrected: Share::of(found.iter().map(|(any, _)| *any)),
            corrected: Share::of(found.iter().map(|(_, [won, _])| *won)),
            default: Share::of(found.iter().map(|(_, [_, won])| *won)),
        }
    });
    counted.collect()
}
