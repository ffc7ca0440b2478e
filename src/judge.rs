//! The judge: when does a challenger consistently win, and when does a new champion disappoint?
//!
//! Values in, values out: no clock, no randomness, no files, no threads. Its time is the row number and request
//! time of the pair being folded, its logarithms come from `libm`, so the same pairs and events give the same
//! state, bit for bit, on every machine.
//!
//! | part | does |
//! |---|---|
//! | [`loss`] | the declared metric: a bounded loss |
//! | [`pair`] | a closed row becomes a [`pair::Pair`]: a loss difference per version |
//! | [`wealth`] | the test: a bet that one version loses less, valid at every look |
//! | [`interval`] | mean difference with its interval, for display |
//! | [`policy`] | bars, waiting rules, defaults |
//! | [`fold`] | the state of one model's contest: `fold(pair) -> Option<Decision>` |
//! | [`settings`] | what a version's own settings change: threshold, calibration |
//! | [`tenure`] | its events: versions come and go, policies change, champions are swapped |
//! | [`guard`], [`standing`] | guardrails; the named groups, each with a bet of its own |
//! | [`twin`] | copies, whose disagreement is the noise |
//! | [`outlook`] | how far it still is, for display |
//! | [`verdict`] | what each challenger has shown, and what stands in its way |
//!
//! Promise, per tenure: if no challenger's expected loss, given the past, is ever lower than the champion's by
//! more than `margin`, the chance that this champion is ever displaced is at most `alpha`, at every look, over
//! all challengers, under any dependence. It is a promise against "never better": a challenger that is better
//! for half of every day does win; dwell is what guards against that. Waiting rules can only lower the chance.
//!
//! What is decided here is carried out elsewhere: the promoter loads, records and swaps, then tells the judge.

pub mod fold;
pub mod guard;
pub mod interval;
pub mod loss;
pub mod outlook;
pub mod pair;
pub mod policy;
pub mod settings;
pub mod standing;
pub mod tenure;
pub mod twin;
pub mod verdict;
pub mod wealth;

mod contender;
mod decide;
mod evidence;
mod exact;
mod obstacle;
mod window;
