//! A/A copies: their disagreement with their original is the noise that every other difference is to be seen beside.
//!
//! Always holds: a twin never becomes champion by the judge's word, takes no place in the queue, and makes no bar higher.

use serde::{Deserialize, Serialize};

use super::exact;
use super::fold::Judge;
use super::pair::Pair;
use crate::score::VersionNo;

/// A copy of a version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Twin {
    pub(super) version: VersionNo,
    /// Whose bytes it has; `None` while that one is not here.
    pub(super) of: Option<VersionNo>,
    labels: u64,
    differ: u64,
    #[serde(with = "exact")]
    sum: f64,
    #[serde(with = "exact")]
    sum_abs: f64,
}

/// How much a copy disagrees with its original, in loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Noise {
    /// Rows that both were judged on, in this tenure.
    pub labels: u64,
    /// Mean loss difference, original minus copy: 0 but for chance.
    pub mean_difference: f64,
    /// Mean of its size.
    pub mean_abs_difference: f64,
    /// Share of rows on which their losses differ.
    pub share_of_rows_that_differ: f64,
}

impl Twin {
    fn new(version: VersionNo, of: Option<VersionNo>) -> Self {
        Self {
            version,
            of,
            labels: 0,
            differ: 0,
            sum: 0.0,
            sum_abs: 0.0,
        }
    }

    pub(super) fn restart(&mut self) {
        *self = Self::new(self.version, self.of);
    }

    fn fold(&mut self, pair: &Pair, champion: VersionNo) {
        let Some(of) = self.of else { return };
        let difference = |version: VersionNo| {
            let entry = pair.entries.iter().find(|entry| entry.version == version);
            entry.map(|entry| entry.difference)
        };
        let original = if of == champion { Some(0.0) } else { difference(of) };
        let (Some(own), Some(original)) = (difference(self.version), original) else {
            return;
        };
        let between = own - original;
        self.labels += 1;
        self.differ += u64::from(between != 0.0);
        self.sum += between;
        self.sum_abs += between.abs();
    }

    fn noise(&self) -> Option<Noise> {
        let labels = self.labels as f64;
        (self.labels > 0).then(|| Noise {
            labels: self.labels,
            mean_difference: self.sum / labels,
            mean_abs_difference: self.sum_abs / labels,
            share_of_rows_that_differ: self.differ as f64 / labels,
        })
    }
}

impl Judge {
    /// `version` is a twin, a copy of `of`, or is none after all. Its noise starts anew where that changes.
    pub fn set_twin(&mut self, version: VersionNo, is_twin: bool, of: Option<VersionNo>) {
        if self.is_twin(version) == is_twin && self.original_of(version) == of {
            return;
        }
        self.twins.retain(|twin| twin.version != version);
        if !is_twin {
            return;
        }
        if self.pending == Some(version) {
            self.pending = None;
        }
        self.twins.push(Twin::new(version, of));
        // What it had of a place is nobody's.
        for contender in self.queue.iter_mut().filter(|c| c.version == version) {
            contender.order = None;
            contender.evidence.armed = None;
        }
    }

    /// Whether a version is an A/A copy.
    #[must_use]
    pub fn is_twin(&self, version: VersionNo) -> bool {
        self.twins.iter().any(|twin| twin.version == version)
    }

    /// Whose bytes a twin has; `None` also while that one is not here.
    #[must_use]
    pub fn original_of(&self, version: VersionNo) -> Option<VersionNo> {
        self.twins.iter().find(|twin| twin.version == version)?.of
    }

    /// How much a copy disagrees with its original: of the twin that was judged on most rows.
    #[must_use]
    pub fn noise(&self) -> Option<Noise> {
        let twins = self.twins.iter().filter_map(Twin::noise);
        twins.reduce(|best, other| if other.labels > best.labels { other } else { best })
    }

    pub(super) fn fold_twins(&mut self, pair: &Pair) {
        let champion = self.champion;
        self.twins.iter_mut().for_each(|twin| twin.fold(pair, champion));
    }
}
