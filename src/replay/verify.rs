//! The recorded contest folded again: does everything come out as it was recorded, bit for bit?
//!
//! Always holds: the judge is driven by the stored pairs and the journal, by the code that drives it live; verdicts are
//! compared as the text that was stored, decisions with their numbers, pairs with those that the recorded rows make.
//! What cannot be computed again is counted apart, with the reason, and never called the same.

use serde::Serialize;
use serde_json::Value;

use super::past::{Happened, Past, Read};
use crate::judge::fold::{Action, Decision, Judge};
use crate::judge::pair::{Pair, Pairing};
use crate::judge::tenure::Swap;
use crate::ledger::{LedgerError, OpenRow, Position, RecordedDecision, RecordedVerdict, Writer};
use crate::recorder::Event;
use crate::recorder::groups::Groups;
use crate::score::VersionNo;

/// Where a replay went another way than the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The row.
    pub row: u64,
    /// The version, where one is meant.
    pub version: Option<String>,
    /// What was compared: `verdict`, `decision` or `pair`.
    pub what: &'static str,
    /// What was recorded.
    pub recorded: String,
    /// What came out.
    pub replayed: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = self.version.as_ref().map_or_else(String::new, |v| format!(" of '{v}'"));
        let Self { row, what, .. } = self;
        write!(
            f,
            "the first difference is the {what}{of} at row {row}: recorded {}, replayed {}",
            self.recorded, self.replayed
        )
    }
}

/// How much was compared, and what could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Stored pairs that were folded.
    pub pairs: u64,
    /// Journal entries that were applied.
    pub events: u64,
    /// Verdicts that were compared.
    pub verdicts: u64,
    /// Decisions of the judge that were compared.
    pub decisions: u64,
    /// Changes of champion by a person or a tripwire, which no evidence brings back.
    pub others: u64,
    /// Rows whose pair, or absence of one, was computed again.
    pub rows: u64,
    /// Pairs whose rows are no longer there.
    pub rows_gone: u64,
    /// Rows from before the label settings changed that come out otherwise under those of now: what silence meant then, and
    /// which rows were evidence, is not recorded.
    pub rows_unknown: u64,
    /// Rows with an outcome that is lost.
    pub rows_damaged: u64,
    /// The first difference; `None`: everything is the same.
    pub first_difference: Option<Difference>,
}

/// The walk along the record.
struct Walk<'a> {
    past: &'a Past,
    events: std::iter::Peekable<std::slice::Iter<'a, Happened>>,
    verdicts: std::iter::Peekable<std::vec::IntoIter<RecordedVerdict>>,
    swaps: Vec<RecordedDecision>,
    judge: Option<Judge>,
    pairing: Pairing,
    groups: Groups,
    pending: Option<Decision>,
    era: Option<(u64, u64)>,
    /// Labels per class are known from the beginning of this era on.
    counted: bool,
    /// Rows to compare.
    range: std::ops::RangeInclusive<u64>,
    /// The last row that was looked at.
    at: u64,
    silence_known_after: u64,
    found: Compared,
}

/// Folds the record again; `range` are the rows whose verdicts, decisions and pairs are compared. `each` hears of every
/// folded pair.
///
/// # Errors
/// What the ledger says.
pub fn verify(
    past: &Past,
    range: std::ops::RangeInclusive<u64>,
    mut each: impl FnMut(),
) -> Result<Compared, LedgerError> {
    let reader = past.reader();
    let mut walk = Walk {
        past,
        events: past.journal.iter().peekable(),
        verdicts: reader.recorded_verdicts(past.row.no)?.into_iter().peekable(),
        swaps: past.swaps()?,
        judge: None,
        pairing: Pairing::new(),
        groups: Groups::default(),
        pending: None,
        era: None,
        counted: past.kept.rows_to.row == 0,
        range,
        at: 0,
        silence_known_after: past.silence_known_after(),
        found: Compared::default(),
    };
    let mut failed = None;
    reader.pairs(past.row.no, 0, |pair| {
        if failed.is_none() && walk.found.first_difference.is_none() {
            failed = walk.pair(&reader, pair).err();
            each();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if walk.found.first_difference.is_none() {
        let folded = reader.cursor(past.row.no)?.map_or(walk.at, |cursor| cursor.folded_row);
        walk.rows(&reader, folded, None)?;
        walk.before(u64::MAX);
    }
    Ok(walk.found)
}

impl Walk<'_> {
    /// Everything up to this pair, and the pair.
    fn pair(&mut self, reader: &Writer<'_>, pair: Pair) -> Result<(), LedgerError> {
        let row = pair.clock.row;
        self.rows(reader, row, Some(&pair))?;
        self.before(row);
        if self.found.first_difference.is_some() {
            return Ok(());
        }
        if let Some(decision) = self.judge.as_mut().and_then(|judge| judge.fold(&pair)) {
            self.pending = Some(decision);
        }
        self.found.pairs += 1;
        Ok(())
    }

    /// Recorded rows after the last one up to `row`, which is the only one that has a pair, `stored`.
    fn rows(&mut self, reader: &Writer<'_>, row: u64, stored: Option<&Pair>) -> Result<(), LedgerError> {
        let from = Position {
            model: self.past.row.no,
            row: self.at + 1,
        };
        let mut met = false;
        reader.open_rows(from, |open| {
            if open.clock.row > row {
                return Ok(false);
            }
            let own = stored.filter(|_| open.clock.row == row);
            met |= own.is_some();
            self.before(open.clock.row);
            // After a difference nothing is applied any more, so that whatever follows would differ for its sake.
            if self.found.first_difference.is_none() {
                self.row(reader, open, own)?;
            }
            Ok(self.found.first_difference.is_none())
        })?;
        if let Some(stored) = stored.filter(|_| !met && self.found.first_difference.is_none()) {
            self.before(row);
            self.gone(stored);
        }
        self.at = row;
        Ok(())
    }

    fn gone(&mut self, stored: &Pair) {
        self.follow_era();
        self.counted = false;
        self.found.rows_gone += u64::from(self.range.contains(&stored.clock.row));
    }

    fn row(&mut self, reader: &Writer<'_>, open: &OpenRow, stored: Option<&Pair>) -> Result<(), LedgerError> {
        self.follow_era();
        let is_silent = open.label.is_none();
        let is_known = open.clock.row > self.silence_known_after;
        let absent = self.past.closing.absent.filter(|_| is_known);
        let counts = self.range.contains(&open.clock.row);
        self.groups.follow(self.judge.as_ref());
        let read = match self.past.closed(reader, open, absent, &mut self.groups)? {
            Read::PassedOver if is_silent && !is_known && stored.is_some() => {
                self.counted = false;
                self.found.rows_unknown += u64::from(counts);
                return Ok(());
            }
            read => read,
        };
        let mut is_keyed = false;
        let made = match read {
            Read::PassedOver => None,
            Read::Gone => {
                self.counted = false;
                self.found.rows_gone += u64::from(counts && stored.is_some());
                return Ok(());
            }
            Read::Damaged(why) => {
                tracing::warn!(row = open.clock.row, why, "a row cannot be computed again");
                self.counted = false;
                self.found.rows_damaged += u64::from(counts);
                return Ok(());
            }
            Read::Rows(rows) => {
                is_keyed = rows.iter().any(|row| row.principal.is_some());
                let judge = self.judge.as_ref();
                judge.and_then(|judge| self.pairing.observation(judge, &rows))
            }
        };
        // The last row of an entity, which has closed, may have no label of its own.
        let made = made.map(|pair| Pair {
            clock: open.clock,
            ..pair
        });
        if !counts {
            return Ok(());
        }
        self.found.rows += 1;
        let made = made.map(|pair| self.comparable(pair, stored));
        let is_limited = self
            .judge
            .as_ref()
            .is_some_and(|judge| judge.policy().principal_share < 1.0);
        let has_unknown_share = !self.counted && is_keyed && is_limited;
        if made.as_ref() != stored && (!is_known || has_unknown_share) {
            // What was evidence under the rules of then is not recorded, nor what keys had reported whose rows are gone.
            self.counted = false;
            self.found.rows -= 1;
            self.found.rows_unknown += 1;
        } else if made.as_ref() != stored {
            let text = |pair: Option<&Pair>| pair.map_or_else(|| "no pair".into(), json);
            let odd = made
                .as_ref()
                .zip(stored)
                .and_then(|(made, stored)| odd_one(made, stored));
            self.differ(open.clock.row, odd, "pair", text(stored), text(made.as_ref()));
        }
        Ok(())
    }

    /// In the order of the ledger, with its counts of classes where ours are not whole, and its groups where the inputs are
    /// pruned that said which.
    fn comparable(&self, mut pair: Pair, stored: Option<&Pair>) -> Pair {
        pair.entries.sort_by_key(|entry| entry.version);
        if let Some(stored) = stored.filter(|_| pair.clock.row <= self.past.kept.inputs_to) {
            pair.groups = stored.groups;
        }
        if let (false, Some(stored)) = (self.counted, stored) {
            for entry in &mut pair.entries {
                if let Some(known) = stored.entries.iter().find(|known| known.version == entry.version) {
                    entry.classes = known.classes;
                }
            }
        }
        pair
    }

    /// Counts of labels begin anew with the evidence.
    fn follow_era(&mut self) {
        let era = self.judge.as_ref().map(|judge| (judge.epoch(), judge.era()));
        if era != self.era {
            // Of an era that began among pruned rows the labels are not all there.
            (self.era, self.counted) = (era, self.at >= self.past.kept.rows_to.row);
        }
    }

    /// Verdicts and events that lie before the folding of `row`, in the order in which they happened: a verdict closes
    /// the folding up to its row, and events come after that.
    fn before(&mut self, row: u64) {
        while self.found.first_difference.is_none() {
            let event = self.events.peek().map(|h| h.after_row).filter(|after| *after < row);
            let verdict = self.verdicts.peek().map(|v| v.row).filter(|at| *at < row);
            match (event, verdict) {
                (Some(after), Some(at)) if at <= after => self.verdict(),
                (Some(_), _) => self.event(),
                (None, Some(_)) => self.verdict(),
                (None, None) => return,
            }
        }
    }

    fn verdict(&mut self) {
        let Some(RecordedVerdict { row, version, verdict }) = self.verdicts.next() else {
            return;
        };
        if !self.range.contains(&row) {
            return;
        }
        self.found.verdicts += 1;
        let ours = self.judge.as_ref().and_then(|judge| judge.verdict(version));
        let ours = ours.map_or_else(|| "no verdict".into(), |verdict| json(&verdict));
        if ours != verdict {
            self.differ(row, Some(version), "verdict", verdict, ours);
        }
    }

    fn event(&mut self) {
        let Some(happened) = self.events.next() else { return };
        if let Event::Swap { to, kind, .. } = happened.event {
            self.swap(happened, to, kind);
        }
        if let Some(version) = happened.event.apply(&mut self.judge) {
            self.pairing.forget(version);
        }
        if self.judge.as_ref().and_then(Judge::awaits).is_none() {
            self.pending = None;
        }
        if let (Event::Inherit { from, to }, Some(judge)) = (&happened.event, &self.judge) {
            self.pairing.inherit(judge, *from, *to);
        }
        self.found.events += 1;
    }

    /// The decision that goes with a swap, against what the judge has decided here.
    fn swap(&mut self, happened: &Happened, to: VersionNo, kind: Swap) {
        let row = happened.after_row;
        let at = self
            .swaps
            .iter()
            .position(|d| d.time_ms == happened.time_ms && d.to == Some(to));
        let Some(recorded) = at.map(|at| self.swaps.remove(at)) else {
            if self.range.contains(&row) {
                self.differ(
                    row,
                    Some(to),
                    "decision",
                    "none".into(),
                    format!("a {kind:?} in the journal"),
                );
            }
            return;
        };
        if !self.range.contains(&row) {
            return;
        }
        if recorded.author != "judge" {
            self.found.others += 1;
            return;
        }
        self.found.decisions += 1;
        let ours = self.pending.as_ref().map(|decision| Decided {
            kind: match decision.kind {
                Action::Promote => "promotion",
                Action::Rollback => "rollback",
            },
            from: self.judge.as_ref().map(|judge| judge.champion().0),
            to: decision.version.0,
            why: &decision.why,
            basis: serde_json::to_value(decision).unwrap_or_default(),
        });
        // What was kept beside it (who the versions are, how the others stood) is no part of what was decided.
        let known: Vec<String> = ours
            .as_ref()
            .and_then(|ours| Some(ours.basis.as_object()?.keys().cloned().collect()))
            .unwrap_or_default();
        let mut kept = recorded.basis.as_deref().map(basis).unwrap_or_default();
        if let Some(parts) = kept.as_object_mut() {
            parts.retain(|name, _| known.contains(name));
        }
        let theirs = Decided {
            kind: &recorded.kind,
            from: recorded.from.map(|v| v.0),
            to: to.0,
            why: &recorded.why,
            basis: kept,
        };
        let (ours, theirs) = (ours.map_or_else(|| "none".into(), |d| json(&d)), json(&theirs));
        if ours != theirs {
            self.differ(row, Some(to), "decision", theirs, ours);
        }
    }

    fn differ(&mut self, row: u64, version: Option<VersionNo>, what: &'static str, recorded: String, replayed: String) {
        let version = version.map(|v| self.past.name_of(v));
        self.found.first_difference.get_or_insert(Difference {
            row,
            version,
            what,
            recorded,
            replayed,
        });
    }
}

/// A decision as it is compared.
#[derive(Serialize)]
struct Decided<'a> {
    kind: &'a str,
    from: Option<u32>,
    to: u32,
    why: &'a str,
    basis: Value,
}

/// What the judge decided from; how long the new champion takes was measured and added later.
fn basis(text: &str) -> Value {
    let mut basis: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(parts) = basis.as_object_mut() {
        parts.remove("timed");
    }
    basis
}

/// The first version whose entry differs.
fn odd_one(made: &Pair, stored: &Pair) -> Option<VersionNo> {
    let differs = |a: &Pair, b: &Pair| {
        let odd = a.entries.iter().find(|entry| !b.entries.contains(entry));
        odd.map(|entry| entry.version)
    };
    differs(stored, made).or_else(|| differs(made, stored))
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
