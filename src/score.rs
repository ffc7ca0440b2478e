//! Scores, labels and what became of one row at one version: the words that the champion, the arena,
//! the ledger and the judge share.

use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Two classes; the score is the probability of the positive one.
    Binary,
    /// More than two classes; a score per class.
    Multiclass,
    /// A number.
    Regression,
}

/// A version's prediction for one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Score {
    /// Probability of the positive class.
    Binary(f64),
    /// Probability per class, in class order.
    Classes(Box<[f64]>),
    /// A regression's value.
    Value(f64),
}

impl Score {
    /// True when every number in it is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Binary(x) | Self::Value(x) => x.is_finite(),
            Self::Classes(xs) => xs.iter().all(|x| x.is_finite()),
        }
    }
}

/// The true outcome of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    /// Index of the class in class order (binary: 1 is the positive class).
    Class(u32),
    /// A regression's value.
    Value(f64),
}

/// Why a version has no score for a row that it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// Its queue was full.
    QueueFull,
    /// Its runner got no CPU time before the wall limit.
    Starved,
    /// The container had used up its processors' time: shadows rested.
    Throttled,
    /// Shadow work was slowed because answers took longer beside it.
    Interference,
    /// Its runner was down.
    RunnerDown,
    /// The gateway was restarted before the outcome was on disk.
    Restart,
    /// The version left (retired, swapped, replaced) before it scored the row.
    Left,
}

impl Shed {
    /// All reasons, for metrics that exist from the start.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::Starved,
        Self::Throttled,
        Self::Interference,
        Self::RunnerDown,
        Self::Restart,
        Self::Left,
    ];

    /// Name in metrics and in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Starved => "starved",
            Self::Throttled => "throttled",
            Self::Interference => "interference",
            Self::RunnerDown => "runner_down",
            Self::Restart => "restart",
            Self::Left => "left",
        }
    }
}

/// What became of one row at one version (JUDGE.md, missing outcomes).
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was scored.
    Scored(Score),
    /// The version's own fault: error, overrun of CPU time, non-finite, bad shape. Counts as loss B.
    Failed,
    /// The row lacks a feature that the version needs. A pair of difference 0.
    Uncovered,
    /// It answered, but which of its numbers is the score is not known. No pair.
    Unread,
    /// Not the version's fault. No pair.
    Shed(Shed),
}

/// Number of a version in the ledger; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionNo(pub u32);

/// Number of a model in the ledger; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelNo(pub u32);
