//! Matching rows for the AUC: each positive row with the latest negative one that is not used yet.
//!
//! Always holds: a row takes part in at most one match, so matches are as independent as rows are; how a match is made
//! does not depend on any score, so the mean over matches is the AUC's difference, without bias; so many negatives wait
//! and no more, the oldest give way.

use serde::{Deserialize, Serialize};

use crate::judge::exact;
use crate::judge::loss::misorder;
use crate::score::{Outcome, Score, VersionNo};

/// Negatives that wait for a positive. More would matter only where positives come in bursts larger than that, and the
/// waiting ones are stored with every fold.
const MOST: usize = 64;

/// What a version made of one row of a match.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    /// Its score.
    Score(#[serde(with = "exact")] f64),
    /// It failed, or its score is none: out of order, whatever the other row is.
    Failed,
    /// It lacked a feature.
    Uncovered,
}

impl Said {
    /// `None` where the version has no outcome: no entry.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Scored(Score::Binary(p)) if p.is_finite() => Some(Self::Score(*p)),
            Outcome::Scored(_) | Outcome::Failed => Some(Self::Failed),
            Outcome::Uncovered => Some(Self::Uncovered),
            Outcome::Unread | Outcome::Shed(_) => None,
        }
    }

    /// How wrong the order is; `None` where a row lacked a feature.
    pub(super) fn misorders(negative: Self, positive: Self) -> Option<f64> {
        match (negative, positive) {
            (Self::Uncovered, _) | (_, Self::Uncovered) => None,
            (Self::Score(negative), Self::Score(positive)) => Some(misorder(negative, positive)),
            _ => Some(1.0),
        }
    }
}

/// A negative row that waits for a positive one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Negative {
    #[serde(with = "exact")]
    pub(super) weight: f64,
    pub(super) champion: Said,
    others: Vec<(VersionNo, Said)>,
}

impl Negative {
    /// What `version` made of it.
    pub(super) fn of(&self, version: VersionNo) -> Option<Said> {
        let own = self.others.iter().find(|(other, _)| *other == version);
        own.map(|(_, said)| *said)
    }
}

/// The negatives that wait, the latest last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Waiting(Vec<Negative>);

impl Waiting {
    pub(super) fn push(&mut self, weight: f64, champion: Said, others: Vec<(VersionNo, Said)>) {
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Negative {
            weight,
            champion,
            others,
        });
    }

    /// The latest, which is used now.
    pub(super) fn latest(&mut self) -> Option<Negative> {
        self.0.pop()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps what versions said of which this is true.
    pub(super) fn retain(&mut self, keep: impl Fn(VersionNo) -> bool) {
        for negative in &mut self.0 {
            negative.others.retain(|(version, _)| keep(*version));
        }
    }

    /// What `from` said, `to` has said.
    pub(super) fn rename(&mut self, from: VersionNo, to: VersionNo) {
        for negative in &mut self.0 {
            if negative.of(from).is_some() {
                negative.others.retain(|(version, _)| *version != to);
            }
            for (version, _) in negative.others.iter_mut().filter(|(version, _)| *version == from) {
                *version = to;
            }
        }
    }
}
