//! Where simulated loss differences come from: the champion's loss minus the challenger's, label by label.
//!
//! Losses of probabilities and values are the gateway's own ([`Metric`]); what is made up here is the world.

use std::sync::Arc;

use super::random::Random;
use crate::judge::loss::Metric;
use crate::score::{Score, Truth};

/// Labels in one cycle of those that go up and down.
pub const CYCLE: u64 = 2_000;
/// Draws by which a world is measured.
const MEASURED: u64 = 400_000;

/// Draws the difference of a label.
pub type Draw = Box<dyn FnMut(&mut Random, u64) -> f64>;

/// One world.
#[derive(Clone)]
pub struct Source {
    /// The loss bound.
    pub bound: f64,
    start: Arc<dyn Fn(&mut Random) -> Draw + Send + Sync>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// `start` is asked once per run, `draw` once per label (counted from 1).
    pub fn new<D>(bound: f64, start: impl Fn(&mut Random) -> D + Send + Sync + 'static) -> Self
    where
        D: FnMut(&mut Random, u64) -> f64 + 'static,
    {
        Self {
            bound,
            start: Arc::new(move |random| Box::new(start(random))),
        }
    }

    /// A run's differences.
    pub fn start(&self, random: &mut Random) -> Draw {
        (self.start)(random)
    }

    /// Variance of its differences.
    #[must_use]
    pub fn variance(&self, seed: u64) -> f64 {
        let mut random = Random::new(seed, u64::MAX, 0);
        let mut draw = self.start(&mut random);
        let (mut sum, mut squares) = (0.0, 0.0);
        for label in 1..=MEASURED {
            let d = draw(&mut random, label);
            sum += d;
            squares += d * d;
        }
        let mean = sum / MEASURED as f64;
        squares / MEASURED as f64 - mean * mean
    }
}

/// A difference of 0/1 losses: exactly one of the two is wrong with chance `disagree`, the champion more often by
/// `effect`.
pub fn zero_one(random: &mut Random, disagree: f64, effect: f64) -> f64 {
    let u = random.uniform();
    if u < f64::midpoint(disagree, effect) {
        1.0
    } else if u < disagree {
        -1.0
    } else {
        0.0
    }
}

/// 0/1 losses.
#[must_use]
pub fn disagreeing(disagree: f64, effect: f64) -> Source {
    changing(move |_| (disagree, effect))
}

/// 0/1 losses whose disagreement and effect depend on the label's number.
pub fn changing(at: impl Fn(u64) -> (f64, f64) + Copy + Send + Sync + 'static) -> Source {
    Source::new(1.0, move |_| {
        move |random: &mut Random, label| {
            let (disagree, effect) = at(label);
            zero_one(random, disagree, effect)
        }
    })
}

/// 0/1 losses whose effect is `mean + swing * sin`, beginning anywhere in the cycle.
#[must_use]
pub fn cyclic(disagree: f64, mean: f64, swing: f64) -> Source {
    Source::new(1.0, move |random| {
        let phase = random.uniform();
        move |random: &mut Random, label: u64| {
            let turn = label as f64 / CYCLE as f64 + phase;
            zero_one(random, disagree, mean + swing * libm::sin(std::f64::consts::TAU * turn))
        }
    })
}

/// How far two models' scores are from the truth, and how much their errors have in common.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    /// Standard deviation of the champion's.
    pub champion: f64,
    /// Of the challenger's.
    pub challenger: f64,
    /// Their correlation.
    pub correlation: f64,
}

impl Errors {
    fn draw(self, random: &mut Random) -> (f64, f64) {
        let (a, b) = (random.normal(), random.normal());
        let rest = libm::sqrt(1.0 - self.correlation * self.correlation);
        (self.champion * a, self.challenger * (self.correlation * a + rest * b))
    }
}

/// Two models that see the chance of the positive class, each with its error.
#[must_use]
pub fn probabilities(metric: Metric, errors: Errors) -> Source {
    let bound = metric.bound();
    let metric = Arc::new(metric);
    Source::new(bound, move |_| {
        let metric = Arc::clone(&metric);
        move |random: &mut Random, _| {
            let chance = 0.05 + 0.9 * random.uniform();
            let truth = Truth::Class(u32::from(random.uniform() < chance));
            let (a, b) = errors.draw(random);
            let loss = |error: f64| metric.loss(&Score::Binary((chance + error).clamp(0.0, 1.0)), &truth);
            loss(a) - loss(b)
        }
    })
}

/// Two models of a value that has noise of its own.
#[must_use]
pub fn values(bound: f64, noise: f64, errors: Errors) -> Source {
    let metric = Arc::new(Metric::SquaredError { bound });
    Source::new(bound, move |_| {
        let metric = Arc::clone(&metric);
        move |random: &mut Random, _| {
            let truth = Truth::Value(noise * random.normal());
            let (a, b) = errors.draw(random);
            let loss = |error: f64| metric.loss(&Score::Value(error), &truth);
            loss(a) - loss(b)
        }
    })
}

/// Mean difference of [`probabilities`]: over the truth it is computed, over chances and errors it is drawn.
#[must_use]
pub fn mean_of_probabilities(metric: &Metric, errors: Errors, seed: u64) -> f64 {
    let mut random = Random::new(seed, u64::MAX, 1);
    let mut sum = 0.0;
    for _ in 0..MEASURED / 4 {
        let chance = 0.05 + 0.9 * random.uniform();
        let (a, b) = errors.draw(&mut random);
        let loss = |error: f64, class: u32| {
            let score = Score::Binary((chance + error).clamp(0.0, 1.0));
            metric.loss(&score, &Truth::Class(class))
        };
        let of = |error: f64| chance * loss(error, 1) + (1.0 - chance) * loss(error, 0);
        sum += of(a) - of(b);
    }
    sum / (MEASURED / 4) as f64
}

/// Mean difference of [`values`]: every draw counts with the noise and with its mirror image.
#[must_use]
pub fn mean_of_values(bound: f64, noise: f64, errors: Errors, seed: u64) -> f64 {
    let metric = Metric::SquaredError { bound };
    let mut random = Random::new(seed, u64::MAX, 2);
    let mut sum = 0.0;
    for _ in 0..MEASURED / 4 {
        let truth = noise * random.normal();
        let (a, b) = errors.draw(&mut random);
        for truth in [truth, -truth] {
            let loss = |error: f64| metric.loss(&Score::Value(error), &Truth::Value(truth));
            sum += loss(a) - loss(b);
        }
    }
    sum / (MEASURED / 2) as f64
}

/// The champion's error that makes the mean difference `effect`, where the challenger's is `challenger`.
pub fn calibrated(effect: f64, challenger: f64, mean: impl Fn(Errors) -> f64) -> Errors {
    let of = |champion: f64| Errors {
        champion,
        challenger,
        correlation: 0.0,
    };
    let (mut low, mut high) = (challenger, 1.0);
    for _ in 0..24 {
        let middle = f64::midpoint(low, high);
        if mean(of(middle)) < effect {
            low = middle;
        } else {
            high = middle;
        }
    }
    of(f64::midpoint(low, high))
}

/// Many tiny wins and a rare disaster that takes them all: mean 0.
#[must_use]
pub fn disaster(chance: f64) -> Source {
    let win = chance / (1.0 - chance);
    Source::new(1.0, move |_| {
        move |random: &mut Random, _| if random.uniform() < chance { -1.0 } else { win }
    })
}
