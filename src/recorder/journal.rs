//! What happens to a judge between pairs, as it is kept in the ledger.
//!
//! A judge is a fold over pairs and these events; the same events after the same rows give the same state, bit for
//! bit.

use serde::{Deserialize, Serialize};

use crate::judge::fold::{Decision, Judge};
use crate::judge::policy::Policy;
use crate::judge::tenure::Swap;
use crate::ledger::{JournalEntry, LedgerError, Snapshot, Writer};
use crate::score::{ModelNo, VersionNo};
use crate::shared::Log;
use crate::span::Clock;

/// An event in a judge's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first champion takes its place.
    Start {
        /// The rules.
        policy: Policy,
        /// Who answers.
        champion: VersionNo,
        /// When.
        clock: Clock,
    },
    /// A challenger joins, or comes back.
    Enter {
        /// Which.
        version: VersionNo,
        /// When.
        clock: Clock,
    },
    /// The bytes of a version that left come back as another version.
    Inherit {
        /// Who left.
        from: VersionNo,
        /// Who comes.
        to: VersionNo,
    },
    /// A challenger leaves.
    Leave {
        /// Which.
        version: VersionNo,
    },
    /// The rules change.
    Policy {
        /// The rules.
        policy: Policy,
    },
    /// The meaning of labels or scores changed: evidence, and an estimated bound, start anew.
    Restart,
    /// The champion changes.
    Swap {
        /// To whom.
        to: VersionNo,
        /// By what.
        kind: Swap,
        /// When.
        clock: Clock,
    },
    /// A person holds promotions, or lets them go on.
    Hold {
        /// Whether.
        on: bool,
    },
    /// A challenger may not be champion, or may again.
    Bar {
        /// Which.
        version: VersionNo,
        /// Why not.
        why: Option<String>,
    },
    /// A challenger is not crowned by evidence before somebody lets it through, or is again.
    Gate {
        /// Which.
        version: VersionNo,
        /// What is lacking.
        lacks: Option<String>,
    },
    /// Labels come for some answers rather than for others, or no longer.
    Doubt {
        /// How.
        why: Option<String>,
    },
    /// A version's label is positive from this score on.
    Threshold {
        /// Which.
        version: VersionNo,
        /// The score.
        threshold: f64,
    },
    /// A version's scores go through another calibration, or through none.
    Calibration {
        /// Which.
        version: VersionNo,
        /// The calibration's digest.
        digest: Option<String>,
        /// Rows recorded until then were scored without it.
        clock: Clock,
    },
    /// The loss bound was estimated.
    Bound {
        /// The bound.
        bound: f64,
        /// The labels that it was estimated from; their rows are no evidence.
        labels: u64,
    },
    /// A version's CPU time of a row, as its admission measured it.
    Cost {
        /// Which.
        version: VersionNo,
        /// Nanoseconds; 0: nobody knows.
        ns: u64,
    },
    /// A version is an A/A copy, or is none after all.
    Twin {
        /// Which.
        version: VersionNo,
        /// Whether.
        twin: bool,
        /// Whose bytes it has, where that one is here.
        of: Option<VersionNo>,
    },
    /// A decision could not be carried out.
    Decline {
        /// The version that did not load.
        version: VersionNo,
    },
}

/// Epoch of the first tenure.
const FIRST_EPOCH: u64 = 1;

impl Event {
    /// Applies the event; before [`Event::Start`] there is no judge to apply anything to. Gives the version back whose
    /// evidence, and its alone, was started anew by it.
    pub fn apply(&self, judge: &mut Option<Judge>) -> Option<VersionNo> {
        if let Self::Start {
            policy,
            champion,
            clock,
        } = self
        {
            *judge = Some(Judge::new(policy.clone(), *champion, FIRST_EPOCH, *clock));
            return None;
        }
        let judge = judge.as_mut()?;
        match self {
            Self::Start { .. } => {}
            Self::Enter { version, clock } => judge.enter(*version, *clock),
            Self::Inherit { from, to } => judge.inherit(*from, *to),
            Self::Leave { version } => judge.leave(*version),
            Self::Policy { policy } => {
                judge.set_policy(policy.clone());
            }
            Self::Restart => judge.relearn(),
            Self::Swap { to, kind, clock } => judge.swap(*to, *kind, *clock),
            Self::Hold { on } => judge.hold(*on),
            Self::Bar { version, why } => judge.bar_from_crown(*version, why.clone()),
            Self::Gate { version, lacks } => judge.gate(*version, lacks.clone()),
            Self::Doubt { why } => judge.set_doubt(why.clone()),
            Self::Threshold { version, threshold } => return judge.set_threshold(*version, *threshold),
            Self::Calibration { version, digest, clock } => {
                return judge.set_calibration(*version, digest.clone(), *clock);
            }
            Self::Bound { bound, .. } => judge.set_bound(*bound),
            Self::Cost { version, ns } => judge.set_cost(*version, *ns),
            Self::Twin { version, twin, of } => judge.set_twin(*version, *twin, *of),
            Self::Decline { version } => judge.decline(*version),
        }
        None
    }
}

/// A decision is pending as long as its judge awaits an answer.
pub(super) fn forget_answered(pending: &mut Option<Decision>, judge: Option<&Judge>) {
    if judge.and_then(Judge::awaits).is_none() {
        *pending = None;
    }
}

/// A judge as the ledger gives it back: its state, the last row that it has folded or passed over, and the last
/// event.
pub(super) struct Restored {
    pub(super) judge: Option<Judge>,
    pub(super) folded: u64,
    pub(super) entry: i64,
    /// Decided, and not carried out yet.
    pub(super) pending: Option<Decision>,
}

/// Reads a model's judge: the last snapshot, then pairs and events after it in the order in which they happened.
pub(super) fn restore(writer: &Writer<'_>, model: ModelNo) -> Result<Restored, LedgerError> {
    let mut restored = Restored {
        judge: None,
        folded: 0,
        entry: 0,
        pending: None,
    };
    if let Some(Snapshot {
        folded_row,
        entry,
        judge,
    }) = writer.snapshot(model)?
    {
        match serde_json::from_str(&judge) {
            Ok(judge) => {
                restored = Restored {
                    judge: Some(judge),
                    folded: folded_row,
                    entry,
                    pending: None,
                }
            }
            // A snapshot only saves work: without it the fold starts from the first pair.
            Err(error) => tracing::warn!(%error, "a judge's snapshot does not read back; folding all pairs again"),
        }
    }
    let mut events = Vec::new();
    for JournalEntry { no, after_row, event } in writer.read_after(model, restored.entry)? {
        let event: Event = serde_json::from_str(&event).map_err(|source| LedgerError::Json {
            what: "a journal entry",
            source,
        })?;
        events.push((no, after_row, event));
    }
    let mut events = events.into_iter().peekable();
    writer.pairs(model, restored.folded, |pair| {
        while let Some((no, _, event)) = events.next_if(|(_, after_row, _)| *after_row < pair.clock.row) {
            restored.apply(no, &event);
        }
        if let Some(decision) = restored.judge.as_mut().and_then(|judge| judge.fold(&pair)) {
            restored.pending = Some(decision);
        }
        restored.folded = pair.clock.row;
    })?;
    for (no, after_row, event) in events {
        restored.folded = restored.folded.max(after_row);
        restored.apply(no, &event);
    }
    Ok(restored)
}

impl Restored {
    fn apply(&mut self, no: i64, event: &Event) {
        event.apply(&mut self.judge);
        forget_answered(&mut self.pending, self.judge.as_ref());
        self.entry = no;
    }
}
