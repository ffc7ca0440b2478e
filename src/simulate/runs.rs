//! Runs of one experiment, on all cores, in an order that does not matter; and what the real judge makes of a run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::random::Random;
use super::source::Source;
use crate::judge::fold::Judge;
use crate::judge::pair::{Classes, Entry, Kind, Pair, Seen};
use crate::judge::policy::Policy;
use crate::judge::wealth::{Wealth, scaled};
use crate::score::VersionNo;
use crate::span::{Clock, Span};

/// The champion of every simulated contest; challengers have the numbers after it.
pub const CHAMPION: VersionNo = VersionNo(0);

/// `run` for each of so many runs, on all cores; results in order.
pub fn all<T: Send>(runs: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        break;
                    }
                    own.push((number, run(number)));
                }
                if let Ok(mut done) = done.lock() {
                    done.extend(own);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The rule without waiting: whoever reaches its bar has won.
#[must_use]
pub fn bare(alpha: f64) -> Policy {
    Policy {
        alpha,
        min_labels: 1,
        min_class_labels: 0,
        dwell: Span::Rows(0),
        cooldown: Span::Rows(0),
        ..Policy::default()
    }
}

/// The default rule, whose day is `dwell` labels.
#[must_use]
pub fn whole(dwell: u64) -> Policy {
    Policy {
        dwell: Span::Rows(dwell),
        cooldown: Span::Rows(dwell),
        ..Policy::default()
    }
}

/// The wealth at which the first challenger wins under this alpha.
#[must_use]
pub fn first_bar(alpha: f64) -> f64 {
    bare(alpha).bar(1)
}

/// A judge with so many challengers, fed with loss differences.
#[derive(Debug)]
pub struct Contest {
    judge: Judge,
    pair: Pair,
}

impl Contest {
    /// All challengers are there from the first label on. Differences are those of a loss with bound `bound`.
    #[must_use]
    pub fn new(policy: Policy, challengers: u32) -> Self {
        let mut judge = Judge::new(policy, CHAMPION, 1, Clock::default());
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
        let pair = Pair {
            clock: Clock::default(),
            epoch: judge.epoch(),
            weight: 1.0,
            champion_loss: Some(0.0),
            champion: Seen::default(),
            groups: 0,
            entries: entries.collect(),
        };
        Self { judge, pair }
    }

    /// Folds one label's differences, as shares of the bound. True when the champion is displaced.
    pub fn fold(&mut self, label: u64, mut difference: impl FnMut(usize) -> f64) -> bool {
        self.pair.clock.row = label;
        for (number, entry) in self.pair.entries.iter_mut().enumerate() {
            entry.difference = difference(number);
        }
        self.judge.fold(&self.pair).is_some()
    }
}

/// When wealth reached each bar, within so many labels.
#[must_use]
pub fn crossings(source: &Source, random: &mut Random, labels: u64, bars: [f64; 2]) -> [Option<u64>; 2] {
    let (mut wealth, mut found) = (Wealth::new(), [None; 2]);
    let mut draw = source.start(random);
    for label in 1..=labels {
        wealth.step(scaled(draw(random, label), 1.0, source.bound, 0.0));
        let value = wealth.value();
        for (at, bar) in found.iter_mut().zip(bars) {
            if at.is_none() && value >= bar {
                *at = Some(label);
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}
