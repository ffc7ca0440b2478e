//! A place in the queue of challengers, and what is remembered of rolled back versions.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::standing::Standings;
use crate::score::VersionNo;
use crate::span::{Clock, Span};

/// A challenger of the present tenure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Contender {
    pub(super) version: VersionNo,
    /// Order of arrival in the tenure, from 1; given when it starts to collect evidence, and then kept.
    pub(super) order: Option<u32>,
    /// False while its file is gone or it is retired; its evidence waits for it until the tenure ends.
    pub(super) present: bool,
    /// Since when it had a chance: it came, came back, or its evidence was started anew.
    pub(super) since: Clock,
    pub(super) evidence: Evidence,
    /// What the named groups say.
    #[serde(default)]
    pub(super) groups: Standings,
}

impl Contender {
    pub(super) fn new(version: VersionNo, since: Clock) -> Self {
        Self {
            version,
            order: None,
            present: true,
            since,
            evidence: Evidence::default(),
            groups: Standings::default(),
        }
    }
}

/// A new champion is watched against the old one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Probation {
    pub(super) against: VersionNo,
    pub(super) since: Clock,
    /// Of the old champion against the new one, margin 0.
    pub(super) evidence: Evidence,
    /// For each named group, the bet that the new champion loses more there.
    #[serde(default)]
    pub(super) groups: Standings,
}

/// How often a version was rolled back, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fall {
    pub(super) version: VersionNo,
    pub(super) times: u32,
    pub(super) last: Clock,
}

impl Fall {
    pub(super) fn waits(&self, wait: Span, now: Clock) -> bool {
        !wait.times(self.times).has_passed(self.last, now)
    }
}
