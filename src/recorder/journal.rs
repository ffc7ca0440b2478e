//! What happens to a judge between pairs, as it is kept in the ledger.
//!
//! A judge is a fold over pairs and these events; the same events after the same rows give the same state, bit for
//! bit.

use serde::{Deserialize, Serialize};

use crate::judge::{Judge, Policy, SwapKind};
use crate::ledger::{JournalEntry, LedgerError, Snapshot, Writer};
use crate::score::{ModelNo, VersionNo};
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
    /// The meaning of labels changed: evidence starts anew.
    Restart,
    /// The champion changes.
    Swap {
        /// To whom.
        to: VersionNo,
        /// By what.
        kind: SwapKind,
        /// When.
        clock: Clock,
    },
    /// A person holds promotions, or lets them go on.
    Hold {
        /// Whether.
        on: bool,
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
    /// Applies the event; before [`Event::Start`] there is no judge to apply anything to.
    pub fn apply(&self, judge: &mut Option<Judge>) {
        if let Self::Start { policy, champion, clock } = self {
            *judge = Some(Judge::new(policy.clone(), *champion, FIRST_EPOCH, *clock));
            return;
        }
        let Some(judge) = judge else { return };
        match self {
            Self::Start { .. } => {}
            Self::Enter { version, clock } => judge.enter(*version, *clock),
            Self::Leave { version } => judge.leave(*version),
            Self::Policy { policy } => judge.set_policy(policy.clone()),
            Self::Restart => judge.restart_evidence(),
            Self::Swap { to, kind, clock } => judge.swap(*to, *kind, *clock),
            Self::Hold { on } => judge.hold(*on),
            Self::Decline { version } => judge.decline(*version),
        }
    }
}

/// A judge as the ledger gives it back: its state, the last row that it has folded or passed over, and the last
/// event.
pub(super) struct Restored {
    pub(super) judge: Option<Judge>,
    pub(super) folded: u64,
    pub(super) entry: i64,
}

/// Reads a model's judge: the last snapshot, then pairs and events after it in the order in which they happened.
pub(super) fn restore(writer: &Writer<'_>, model: ModelNo) -> Result<Restored, LedgerError> {
    let mut restored = Restored { judge: None, folded: 0, entry: 0 };
    if let Some(Snapshot { folded_row, entry, judge }) = writer.snapshot(model)? {
        match serde_json::from_str(&judge) {
            Ok(judge) => restored = Restored { judge: Some(judge), folded: folded_row, entry },
            // A snapshot only saves work: without it the fold starts from the first pair.
            Err(error) => tracing::warn!(%error, "a judge's snapshot does not read back; folding all pairs again"),
        }
    }
    let mut events = writer.journal(model, restored.entry)?.into_iter().peekable();
    let mut apply = |judge: &mut Option<Judge>, entry: JournalEntry| -> Result<i64, LedgerError> {
        let event: Event = serde_json::from_str(&entry.event)
            .map_err(|source| LedgerError::Json { what: "a journal entry", source })?;
        event.apply(judge);
        Ok(entry.no)
    };
    let (mut failed, mut entry, mut folded) = (None, restored.entry, restored.folded);
    let judge = &mut restored.judge;
    writer.pairs(model, restored.folded, |pair| {
        while let Some(due) = events.next_if(|e| e.after_row < pair.clock.row) {
            match apply(judge, due) {
                Ok(no) => entry = no,
                Err(error) => failed = failed.take().or(Some(error)),
            }
        }
        if let Some(judge) = judge {
            // A decision that was carried out is followed by its swap; one that was not stays with the judge.
            let _ = judge.fold(&pair);
        }
        folded = pair.clock.row;
    })?;
    for due in events {
        folded = folded.max(due.after_row);
        entry = apply(judge, due)?;
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Restored { judge: restored.judge, folded, entry }),
    }
}
