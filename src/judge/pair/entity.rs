//! Several rows of one entity as one observation.
//!
//! Rows of one entity whose label windows overlap share an outcome: folded one by one they would count one fact many
//! times (JUDGE.md, section 0: a quarter of all equal challengers would win). Their mean is bounded as each of them is,
//! and its expectation given the past is no greater, so that the promise holds for it.

use super::{ClosedRow, Entry, Kind, Pair, Pairing};
use crate::judge::fold::Judge;
use crate::judge::loss::Metric;
use crate::score::{Truth, VersionNo};
use crate::span::Clock;

/// The mean over the rows that make a pair; `None` when none does.
pub(super) fn mean(pairing: &mut Pairing, judge: &Judge, rows: &[ClosedRow], clock: Clock) -> Option<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    // A match of rows takes one of an entity: else its negatives would count one fact as often as they are matched.
    let rows = match judge.policy().metric {
        Metric::Auc => rows.last().map(std::slice::from_ref).unwrap_or_default(),
        _ => rows,
    };
    // From the last row back: the first that makes a pair is the one that counts.
    for row in rows.iter().rev() {
        // A stage without a memory of its own: what it counts is counted by nobody.
        let pair = match pairs.is_empty() {
            true => pairing.pair(judge, row),
            false => pairing.apart().pair(judge, row),
        };
        pairs.extend(pair);
    }
    let mut all: Mean = Mean::default();
    let mut champion = Mean::default();
    for pair in &pairs {
        all.add(pair.weight);
        if let Some(loss) = pair.champion_loss {
            champion.add(loss);
        }
    }
    let last = pairs.first()?;
    let mut versions: Vec<VersionNo> = pairs.iter().flat_map(|p| p.entries.iter().map(|e| e.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut entries: Vec<Entry> = versions
        .into_iter()
        .filter_map(|version| entry(version, &pairs))
        .collect();
    // Who has no part in the row that counts has counted nothing now.
    let counts = |entry: &Entry| last.entries.iter().any(|e| e.version == entry.version);
    let is_class = rows.iter().any(|row| matches!(row.truth, Some(Truth::Class(_))));
    for entry in entries.iter_mut().filter(|entry| is_class && !counts(entry)) {
        entry.classes = pairing.counted(entry.version, judge.policy().min_class_labels);
    }
    Some(Pair {
        clock,
        weight: all.value()?,
        champion_loss: champion.value(),
        entries,
        ..last.clone()
    })
}

/// One version's part. It counts as failed, or as uncovered, where it is so on every row.
fn entry(version: VersionNo, pairs: &[Pair]) -> Option<Entry> {
    let own = || {
        pairs
            .iter()
            .filter_map(|p| p.entries.iter().find(|e| e.version == version))
    };
    let mut mean = Mean::default();
    own().for_each(|entry| mean.add(entry.difference));
    let first = own().next()?;
    let kind = match first.kind {
        kind if own().all(|entry| entry.kind == kind) => kind,
        _ => Kind::Scored,
    };
    Some(Entry {
        difference: mean.value()?,
        kind,
        ..*first
    })
}

#[derive(Default)]
struct Mean {
    sum: f64,
    of: f64,
}

impl Mean {
    fn add(&mut self, x: f64) {
        self.sum += x;
        self.of += 1.0;
    }

    fn value(&self) -> Option<f64> {
        (self.of > 0.0).then(|| self.sum / self.of)
    }
}
