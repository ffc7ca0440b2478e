//! What one version has shown against the champion since the evidence was started.
//!
//! Always holds: armed from the pair at which wealth reaches the bar until it falls below a tenth of it. When
//! that is enough for a swap is decided elsewhere.

use serde::{Deserialize, Serialize};

use super::exact;
use super::interval::Interval;
use super::pair::{Classes, Entry, Kind, Pair};
use super::wealth::{self, Wealth};
use super::window::{Counts, Window};
use crate::span::{Clock, Span};

/// What is asked of a pair: the loss bound, the margin to beat, the wealth that arms; and how long it must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) bound: f64,
    pub(super) margin: f64,
    pub(super) bar: f64,
    /// Wealth may fall to the bar divided by it before the dwell starts anew.
    pub(super) drop_factor: f64,
    pub(super) dwell: Span,
}

/// The time since wealth reached the bar. What came before bought the bar; what came since shows whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Armed {
    pub(super) since: Clock,
    pub(super) labels: u64,
    #[serde(with = "exact")]
    pub(super) sum: f64,
}

impl Armed {
    pub(super) fn new(since: Clock) -> Self {
        Self {
            since,
            labels: 0,
            sum: 0.0,
        }
    }

    /// Mean difference since arming, in loss units.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.labels > 0).then(|| self.sum / self.labels as f64)
    }
}

/// Evidence of one version.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Evidence {
    pub(super) win: Wealth,
    /// The mirrored bet, that the version loses more.
    pub(super) lose: Wealth,
    pub(super) interval: Interval,
    pub(super) armed: Option<Armed>,
    pub(super) classes: Classes,
    pub(super) failed: u64,
    pub(super) uncovered: u64,
    /// Snapshots from before it was kept lack it.
    #[serde(default)]
    pub(super) window: Window,
    /// The first pair's.
    #[serde(default)]
    pub(super) first: Option<Clock>,
}

impl Evidence {
    /// Folds one entry of `pair`.
    pub(super) fn fold(&mut self, entry: &Entry, pair: &Pair, question: Question) {
        let Question { bound, margin, .. } = question;
        self.win
            .step(wealth::scaled(entry.difference, pair.weight, bound, margin));
        self.lose
            .step(wealth::scaled(-entry.difference, pair.weight, bound, 0.0));
        self.interval.push(entry.difference, bound);
        self.classes = entry.classes;
        self.failed += u64::from(entry.kind == Kind::Failed);
        self.uncovered += u64::from(entry.kind == Kind::Uncovered);
        self.first.get_or_insert(pair.clock);
        self.window.push(entry, pair.champion, pair.clock, question.dwell);
        self.arm(entry, pair.clock, question);
    }

    fn arm(&mut self, entry: &Entry, clock: Clock, question: Question) {
        let Question { bar, drop_factor, .. } = question;
        let wealth = self.win.value();
        match &mut self.armed {
            Some(_) if wealth < bar * (1.0 / drop_factor) => self.armed = None,
            Some(armed) => {
                armed.labels += 1;
                armed.sum += entry.difference;
            }
            None if wealth >= bar => self.armed = Some(Armed::new(clock)),
            None => {}
        }
    }

    pub(super) fn labels(&self) -> u64 {
        self.win.labels()
    }

    /// What became of the rows of the last dwell; of all where there is no dwell.
    pub(super) fn counts(&self) -> Counts {
        match self.window.counts() {
            // A snapshot from before there was a window.
            Counts { rows: 0, .. } => Counts {
                rows: self.labels(),
                covered: self.labels() - self.uncovered,
                failed: self.failed,
                ..Counts::default()
            },
            counts => counts,
        }
    }

    /// Share of rows whose features the version had, over the last dwell.
    pub(super) fn coverage(&self) -> f64 {
        match self.counts() {
            Counts { rows: 0, .. } => 1.0,
            counts => counts.covered as f64 / counts.rows as f64,
        }
    }
}
