//! How much of the processors' time shadow work gets: less where the tail of the rest is beyond the budget, more again
//! where it is not.
//!
//! A cycle is a quiet stretch and the rest before it. The question is whether the 99th percentile of the rest is more than
//! `budget` times that of the quiet stretches. Noise must not answer it, so three things are asked for at once:
//! - the quiet percentile is taken as the largest value that chance leaves it (of the quiet answers so few lie beyond it that
//!   of a true 99th percentile more would, in 99 of 100 cases);
//! - the share of the rest that lies beyond `budget` times that is above 1 % by three standard errors of a binomial count;
//! - it is above 1 % in three of four cycles, for answers of one stretch are no independent draws: what shook the machine
//!   once shook all that were under way.
//!
//! Asked are the last cycles, as few as hold enough quiet answers and then more and more of them, so that what begins now
//! is not hidden by an hour of peace. The rest is as congestion control does it: a cut by what is too much, a small step
//! back up after as many cycles as a judgement takes; each begins a new window.
//!
//! Always holds: no clock, no chance; the same cycles give the same shares. The share never falls below the floor.

use std::collections::VecDeque;

use super::tail::Counted;

/// Whose latency is compared.
const QUANTILE: f64 = 0.99;
/// Fewer quiet answers say nothing of a 99th percentile.
const LEAST_QUIET: u64 = 500;
/// Fewer cycles say nothing about what the machine does besides.
const LEAST_CYCLES: usize = 5;
/// Cycles that are looked back on at most.
const MOST_CYCLES: usize = 64;
/// After so many cycles without a change it is known what the challengers cost.
const SETTLED: usize = 32;
/// Standard errors of the quiet percentile, and of the share beyond.
const DOUBT: (f64, f64) = (2.33, 3.0);
/// Of so many cycles most must show it.
const AGREEING: f64 = 0.75;
/// The smallest and the largest part of the share that a cut leaves.
const CUT: (f64, f64) = (0.25, 0.75);
/// What is given back at a time, of all processors; and of what there is, where that is little.
const STEP: (f64, f64) = (0.05, 0.5);
/// The floor: so much of one processor. A row in a hundred may be touched by it, and not the tail.
const FLOOR: f64 = 0.005;

/// A quiet stretch, and the rest before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cycle {
    pub(super) quiet: Counted,
    pub(super) rest: Counted,
}

/// What the last cycle led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// A smaller share, or the same where it is the floor.
    Cut,
    /// A larger one.
    Raised,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Controller {
    budget: f64,
    floor: f64,
    share: f64,
    cycles: VecDeque<Cycle>,
    ratio: Option<f64>,
    cuts: u64,
}

impl Controller {
    /// All of the processors' time at first.
    pub(super) fn new(budget: f64, processors: f64) -> Self {
        Self {
            budget,
            floor: FLOOR / processors,
            share: 1.0,
            cycles: VecDeque::new(),
            ratio: None,
            cuts: 0,
        }
    }

    /// The share of the processors' time.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// How many times as long the 99th percentile of the rest is, where enough is known.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.ratio
    }

    /// How often the share was cut.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Nothing is shadowed any more: what was learnt is of another time.
    pub(super) fn forget(&mut self) {
        self.cycles.clear();
        (self.share, self.ratio) = (1.0, None);
    }

    /// Something else is shadowed than before: what was seen says nothing of it.
    pub(super) fn begin_anew(&mut self) {
        self.cycles.clear();
    }

    /// Nothing has changed for long, and nothing is to be changed.
    pub(super) fn is_settled(&self) -> bool {
        self.share >= 1.0 && self.cycles.len() >= SETTLED
    }

    /// Takes a cycle in.
    pub(super) fn take(&mut self, cycle: Cycle) -> Step {
        if self.cycles.len() == MOST_CYCLES {
            self.cycles.pop_front();
        }
        self.cycles.push_back(cycle);
        let (mut quiet, mut rest, mut last) = (Counted::default(), Counted::default(), 0);
        let mut known = None;
        let mut next = LEAST_CYCLES;
        for (back, cycle) in self.cycles.iter().rev().enumerate() {
            last += 1;
            quiet.add(&cycle.quiet);
            rest.add(&cycle.rest);
            let is_last = back + 1 == self.cycles.len();
            if (last < next && !is_last) || last < LEAST_CYCLES || quiet.total() < LEAST_QUIET {
                continue;
            }
            next = last * 2;
            let Some(ratio) = ratio(&quiet, &rest) else { continue };
            known = Some(ratio);
            if self.is_beyond(&quiet, &rest, last) {
                return self.cut(ratio);
            }
        }
        if known.is_some() {
            self.ratio = known;
        }
        let is_back = known.is_some_and(|ratio| ratio <= self.budget);
        if self.share < 1.0 && (is_back || self.cycles.len() == MOST_CYCLES) {
            let (most, of_share) = STEP;
            self.share = (self.share + most.min(self.share * of_share)).min(1.0);
            self.cycles.clear();
            return Step::Raised;
        }
        Step::None
    }

    fn cut(&mut self, ratio: f64) -> Step {
        let (least, most) = CUT;
        self.ratio = Some(ratio);
        self.share = (self.share * (self.budget / ratio).clamp(least, most)).max(self.floor);
        self.cuts += 1;
        self.cycles.clear();
        Step::Cut
    }

    /// Whether the rest of the last so many cycles is beyond the budget, and not by chance.
    fn is_beyond(&self, quiet: &Counted, rest: &Counted, last: usize) -> bool {
        let (z_quiet, z_rest) = DOUBT;
        let expected = (1.0 - QUANTILE) * as_f64(quiet.total());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and a count"
        )]
        let fewest = (expected - z_quiet * expected.sqrt()).max(0.0) as u64;
        let limit = quiet.edge_above(fewest) * self.budget;
        let allowed = (1.0 - QUANTILE) * as_f64(rest.total());
        if as_f64(rest.from(limit)) < allowed + z_rest * allowed.sqrt() {
            return false;
        }
        let share = |cycle: &&Cycle| as_f64(cycle.rest.from(limit)) > (1.0 - QUANTILE) * as_f64(cycle.rest.total());
        let agreeing = self.cycles.iter().rev().take(last).filter(share).count();
        as_f64(agreeing as u64) >= AGREEING * as_f64(last as u64)
    }
}

fn ratio(quiet: &Counted, rest: &Counted) -> Option<f64> {
    Some(rest.quantile(QUANTILE)? / quiet.quantile(QUANTILE)?)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Random;

    /// A machine: answers of log-normal length, of which shadow work touches some.
    struct Machine {
        random: Random,
        /// Answers in a second.
        rate: f64,
        /// Of the answers of the rest, so many are touched at a full share.
        touched: f64,
        /// What is touched takes so many times as long.
        times: f64,
        /// Chance that something else shakes a stretch: a third of its answers take ten times as long.
        shaken: f64,
    }

    impl Machine {
        fn new(seed: u64) -> Self {
            Self {
                random: Random::new(seed, 0, 0),
                rate: 600.0,
                touched: 0.0,
                times: 4.0,
                shaken: 0.0,
            }
        }

        fn stretch(&mut self, seconds: f64, share: f64) -> Counted {
            let mut counted = Counted::default();
            let is_shaken = self.random.uniform() < self.shaken;
            let (answers, mut at) = (self.rate * seconds, 0.0);
            while at < answers {
                at += 1.0;
                let mut ns = 100e3 * (0.4 * self.random.normal()).exp();
                if self.random.uniform() < self.touched * share {
                    ns *= self.times;
                }
                if is_shaken && self.random.uniform() < 1.0 / 3.0 {
                    ns *= 10.0;
                }
                counted.note(ns);
            }
            counted
        }

        fn cycle(&mut self, controller: &mut Controller) -> Step {
            let seconds = 1.0 + 2.0 * self.random.uniform();
            let rest = self.stretch(seconds, controller.share());
            let quiet = self.stretch(0.2, 0.0);
            controller.take(Cycle { quiet, rest })
        }
    }

    fn controller() -> Controller {
        Controller::new(1.05, 2.0)
    }

    /// The share of answers, per million, beyond 1.05 times what 1 % are beyond on a quiet machine.
    fn beyond(machine: &mut Machine, share: f64) -> f64 {
        let quiet = machine.stretch(200.0, 0.0);
        let limit = quiet.quantile(QUANTILE).unwrap() * 1.05;
        let rest = machine.stretch(200.0, share);
        as_f64(rest.from(limit)) / as_f64(rest.total())
    }

    #[test]
    fn a_greedy_challenger_is_slowed_until_the_tail_is_within_the_budget_and_gets_its_share_back() {
        for seed in 0..3 {
            let (mut machine, mut controller) = (Machine::new(seed), controller());
            machine.touched = 0.3;
            assert!(beyond(&mut machine, 1.0) > 0.05, "the machine is burdened");
            let cycles = (0..40).find(|_| machine.cycle(&mut controller) == Step::Cut);
            assert!(cycles.is_some_and(|cycles| cycles < 10), "seed {seed}: {cycles:?}");
            for _ in 0..150 {
                machine.cycle(&mut controller);
            }
            let mut shares = Vec::new();
            for _ in 0..200 {
                machine.cycle(&mut controller);
                shares.push(controller.share());
            }
            let mean = shares.iter().sum::<f64>() / 200.0;
            let share = beyond(&mut machine, mean);
            // Probing upwards costs a little; the unslowed machine is at seven times the budget and more.
            assert!(share < 0.02, "seed {seed}: {share} at {mean}");
            assert!(shares.iter().all(|share| *share >= controller.floor), "seed {seed}");
            machine.touched = 0.0;
            let back = (0..400).find(|_| {
                machine.cycle(&mut controller);
                controller.share() >= 1.0
            });
            assert!(back.is_some(), "seed {seed}: still at {}", controller.share());
        }
    }

    #[test]
    fn what_burdens_at_any_share_still_gets_the_floor() {
        let (mut machine, mut controller) = (Machine::new(7), controller());
        machine.touched = 1_000.0;
        let mut at_floor = 0;
        for _ in 0..200 {
            machine.cycle(&mut controller);
            assert!(controller.share() >= controller.floor && controller.floor > 0.0);
            at_floor += u32::from(controller.share() <= controller.floor);
        }
        assert!(at_floor > 100 && controller.cuts() > 5, "{at_floor}");
    }

    #[test]
    fn noise_slows_nobody() {
        // Tails that are alike, on a machine at peace and on one that something else shakes every tenth stretch; few
        // answers and many.
        for (seed, shaken, rate) in [(1, 0.0, 600.0), (2, 0.1, 600.0), (3, 0.1, 300.0), (4, 0.0, 40.0)] {
            let (mut machine, mut controller) = (Machine::new(seed), controller());
            (machine.shaken, machine.rate) = (shaken, rate);
            for cycle in 0..150 {
                let step = machine.cycle(&mut controller);
                assert_eq!(
                    step,
                    Step::None,
                    "seed {seed}, cycle {cycle}, ratio {:?}",
                    controller.ratio()
                );
            }
            let ratio = controller.ratio().unwrap();
            assert!((0.5..2.0).contains(&ratio), "seed {seed}: {ratio}");
        }
    }

    #[test]
    fn what_is_within_the_budget_or_cannot_be_known_changes_nothing() {
        let (mut machine, mut controller) = (Machine::new(1), controller());
        // A tenth of a percent is touched: the 99th percentile does not notice.
        machine.touched = 0.001;
        for _ in 0..120 {
            assert_eq!(machine.cycle(&mut controller), Step::None);
        }
        // Everything is touched, and there is next to nobody to notice.
        let (mut machine, mut controller) = (Machine::new(2), self::controller());
        (machine.touched, machine.rate) = (1.0, 5.0);
        for _ in 0..100 {
            assert_eq!(machine.cycle(&mut controller), Step::None);
        }
        assert_eq!(controller.ratio(), None);
        assert!((controller.share() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_new_burden_is_seen_after_a_long_peace() {
        let (mut machine, mut controller) = (Machine::new(5), controller());
        for _ in 0..80 {
            machine.cycle(&mut controller);
        }
        assert!(controller.is_settled());
        machine.touched = 0.2;
        let cycles = (1..).find(|_| machine.cycle(&mut controller) == Step::Cut).unwrap();
        assert!(cycles <= 8, "{cycles} cycles");
        assert!(!controller.is_settled(), "it is looked at often again");
        controller.forget();
        assert_eq!(
            (controller.ratio(), controller.share().to_bits()),
            (None, 1.0_f64.to_bits())
        );
    }
}
