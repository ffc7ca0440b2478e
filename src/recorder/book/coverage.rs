//! What a version's verdict rests on: which rows it was offered, and what became of them.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{LedgerError, Writer};
use crate::score::{ModelNo, Outcome, Shed, VersionNo};

/// Outcomes without a score besides those that were shed.
const OTHERS: [&str; 3] = ["failed", "uncovered", "unread"];

/// What a version's verdict rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Rows that were to be shadowed.
    pub offered: u64,
    /// Rows with a score.
    pub scored: u64,
    /// Rows without one, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Pairs folded.
    pub labelled: u64,
    /// Labels that came after maturity, on any row of the model.
    pub late: u64,
    #[serde(skip)]
    pub(super) changed: bool,
}

impl Coverage {
    /// Counts what became of a row.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.changed = true;
        let reason = match outcome {
            Outcome::Scored(_) => {
                self.scored += 1;
                return;
            }
            Outcome::Failed => "failed",
            Outcome::Uncovered => "uncovered",
            Outcome::Unread => "unread",
            Outcome::Shed(reason) => reason.name(),
        };
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// The coverage of all versions of a model.
    pub(super) fn load(writer: &Writer<'_>, model: ModelNo) -> Result<HashMap<VersionNo, Self>, LedgerError> {
        let mut all: HashMap<VersionNo, Self> = HashMap::new();
        for (version, counter, value) in writer.coverage(model)? {
            all.entry(version).or_default().set(&counter, value);
        }
        Ok(all)
    }

    /// Stores those that have changed.
    pub(super) fn save(
        all: &mut HashMap<VersionNo, Self>,
        writer: &Writer<'_>,
        model: ModelNo,
    ) -> Result<(), LedgerError> {
        for (&version, coverage) in all.iter_mut().filter(|(_, c)| c.changed) {
            for (counter, value) in coverage.counters() {
                writer.put_coverage(model, version, counter, value)?;
            }
            coverage.changed = false;
        }
        Ok(())
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let totals = [
            ("offered", self.offered),
            ("scored", self.scored),
            ("labelled", self.labelled),
            ("late", self.late),
        ];
        totals.into_iter().chain(self.dropped.iter().map(|(k, v)| (*k, *v)))
    }

    fn set(&mut self, counter: &str, value: u64) {
        match counter {
            "offered" => self.offered = value,
            "scored" => self.scored = value,
            "labelled" => self.labelled = value,
            "late" => self.late = value,
            other => {
                let reasons = Shed::ALL.map(Shed::name).into_iter().chain(OTHERS);
                if let Some(reason) = reasons.into_iter().find(|r| *r == other) {
                    self.dropped.insert(reason, value);
                }
            }
        }
    }
}
