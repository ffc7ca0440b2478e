//! The pairing stage: from a closed row to the differences that are folded.
//!
//! A pair holds no id, no features and no label, so erasing rows never changes a verdict. Class counts need the
//! label, so they are kept here and only their state ([`Classes`]) goes into the pair. Only versions that
//! collect evidence at that moment get an entry, and only rows that the present champion answered make a pair.
//! Which rows close, in which order, is decided by the ledger. Two metrics need more than a row's score and truth:
//! the AUC matches rows (`order`), and a bound that nobody has declared is estimated from the first labels (`estimate`).
//! No key may report more than its part of the evidence (`share`).

mod estimate;
mod order;
mod share;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exact;
use super::fold::Judge;
use super::loss::{Metric, label_of};
use crate::score::{Outcome, Score, Truth, VersionNo};
use crate::span::Clock;
use estimate::Estimate;
use order::{Said, Waiting};

pub use estimate::BOUND_LABELS;
pub use share::{MANY, Reporter, Shares};

/// Classes counted per version; labels of further classes still make pairs, they are just not counted.
const MAX_CLASSES: usize = 4_096;

/// A row whose label window is over and whose outcomes are all known.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedRow {
    /// Its number and request time.
    pub clock: Clock,
    /// The tenure in which it was answered.
    pub epoch: u64,
    /// Its label, or what an absent one counts as.
    pub truth: Option<Truth>,
    /// Above 0; more than 1 counts as 1.
    pub weight: f64,
    /// What became of it at the champion of that tenure.
    pub champion: Outcome,
    /// What became of it at every version that it was offered to.
    pub others: Vec<(VersionNo, Outcome)>,
    /// The declared groups that it belongs to: bit `k` for the policy's group `k`.
    pub groups: u64,
    /// What each label would have earned, in class order; `None` for a label that nobody spoke of.
    pub rewards: Option<Box<[Option<f64>]>>,
    /// The API key that reported it, where one did.
    pub principal: Option<Arc<str>>,
}

/// What an entry's difference rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The version scored the row.
    Scored,
    /// The version failed on it: loss B.
    Failed,
    /// It lacked a feature that the version needs: difference 0.
    Uncovered,
}

/// Which labels a version's evidence rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// Labels of one class only: a version that always says so would win.
    #[default]
    OneClass,
    /// Two or more, but fewer than two of them with `min_class_labels`.
    Few,
    /// At least two classes with `min_class_labels` each; always so for values.
    Enough,
}

/// What a version said of a row, as coarse as guardrails need it: whether it decided for the positive class, and in
/// which tenth of [0, 1] its score lies. Nothing where it has no score of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Its label was the positive class.
    pub positive: Option<bool>,
    /// Tenth of its score, 0 to 9.
    pub tenth: Option<u8>,
}

impl Seen {
    /// What was said, from the version's threshold on it is positive.
    #[must_use]
    pub fn of(outcome: &Outcome, threshold: f64) -> Self {
        match outcome {
            Outcome::Scored(Score::Binary(p)) if p.is_finite() => Self {
                positive: Some(*p >= threshold),
                tenth: Some(tenth(*p)),
            },
            Outcome::Scored(Score::Classes(all)) => Self {
                positive: None,
                tenth: all
                    .iter()
                    .copied()
                    .reduce(f64::max)
                    .filter(|p| p.is_finite())
                    .map(tenth),
            },
            _ => Self::default(),
        }
    }

    /// As one small number, for storage.
    #[must_use]
    pub fn code(self) -> u8 {
        let positive = self.positive.map_or(0, |is| 1 + u8::from(is));
        positive + 3 * self.tenth.map_or(0, |tenth| 1 + tenth.min(9))
    }

    /// The inverse of [`Seen::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self {
            positive: (!code.is_multiple_of(3)).then_some(code % 3 == 2),
            tenth: (code / 3).checked_sub(1).map(|tenth| tenth.min(9)),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 9")]
fn tenth(p: f64) -> u8 {
    (p * 10.0).clamp(0.0, 9.0) as u8
}

/// One version's part of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The version.
    pub version: VersionNo,
    /// Champion's loss minus the version's, clipped to the bound, times the weight: above 0, the version was better.
    #[serde(with = "exact")]
    pub difference: f64,
    /// What it rests on.
    pub kind: Kind,
    /// Classes seen by this version's evidence, this row included.
    pub classes: Classes,
    /// What the version said.
    #[serde(default)]
    pub seen: Seen,
}

/// What is folded, and all that replay needs of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Row number and request time.
    pub clock: Clock,
    /// The tenure.
    pub epoch: u64,
    /// Weight of the row, in (0, 1].
    #[serde(with = "exact")]
    pub weight: f64,
    /// The champion's loss, unweighted; `None` when it lacked a feature.
    #[serde(with = "exact::option")]
    pub champion_loss: Option<f64>,
    /// What the champion said.
    #[serde(default)]
    pub champion: Seen,
    /// The declared groups that the row belongs to, a bit each.
    #[serde(default)]
    pub groups: u64,
    /// A difference per version that collects evidence and was not shed.
    pub entries: Vec<Entry>,
}

/// The pairing stage's memory since the evidence was started: labels per class and version, negatives that wait for a
/// positive, losses that the bound is estimated from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pairing {
    era: u64,
    counts: Vec<(VersionNo, BTreeMap<u32, u64>)>,
    #[serde(default)]
    waiting: Waiting,
    #[serde(default)]
    estimate: Estimate,
    #[serde(default, skip_serializing_if = "Shares::is_idle")]
    shares: Shares,
}

/// What a row is judged by.
#[derive(Debug, Clone, Copy)]
enum Basis<'a> {
    Truth(Truth),
    Rewards(&'a [Option<f64>]),
}

impl Pairing {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stage of the same era that has counted nothing.
    fn apart(&self) -> Self {
        Self {
            era: self.era,
            ..Self::default()
        }
    }

    /// The pair that a closed row makes for `judge`, to be folded next; `None` when it makes none: no label (or, under
    /// rewards, no table that pays the champion's), a row of another tenure, a champion without an outcome, a weight that
    /// is not above 0, a loss bound that is still estimated, or, under the AUC, a row that completes no match.
    pub fn pair(&mut self, judge: &Judge, row: &ClosedRow) -> Option<Pair> {
        self.follow(judge);
        if row.epoch != judge.epoch() || row.weight.is_nan() || row.weight <= 0.0 {
            return None;
        }
        let metric = &judge.policy().metric;
        let basis = match metric {
            Metric::Rewards { .. } => Basis::Rewards(row.rewards.as_deref()?),
            _ => Basis::Truth(row.truth.filter(is_finite)?),
        };
        if let Some(enough) = judge.policy().bound_from.filter(|_| judge.policy().needs_bound()) {
            self.learn(judge, row, basis, enough);
            return None;
        }
        match basis {
            Basis::Truth(Truth::Class(class)) if *metric == Metric::Auc => self.matched(judge, row, class),
            _ => self.compared(judge, row, basis),
        }
    }

    fn compared(&mut self, judge: &Judge, row: &ClosedRow, basis: Basis<'_>) -> Option<Pair> {
        let weight = row.weight.min(1.0);
        let metric = &judge.policy().metric;
        let champion_loss = loss(metric, &row.champion, basis, judge.threshold_of(judge.champion()))?;
        let entries = row
            .others
            .iter()
            .filter(|(version, _)| judge.collects(*version, row.clock));
        let entries = entries
            .filter_map(|(version, outcome)| {
                let threshold = judge.threshold_of(*version);
                let other = loss(metric, outcome, basis, threshold)?;
                let difference = match (champion_loss, other) {
                    (Some(champion), Some(other)) => champion - other,
                    _ => 0.0,
                };
                let classes = match basis {
                    Basis::Truth(truth) => self.count(*version, &truth, judge.policy().min_class_labels),
                    Basis::Rewards(_) => Classes::Enough,
                };
                Some(Entry {
                    version: *version,
                    difference: difference * weight,
                    kind: kind_of(outcome),
                    classes,
                    seen: Seen::of(outcome, threshold),
                })
            })
            .collect();
        Some(Pair {
            clock: row.clock,
            epoch: row.epoch,
            weight,
            champion_loss,
            champion: Seen::of(&row.champion, judge.threshold_of(judge.champion())),
            groups: row.groups,
            entries,
        })
    }

    /// The pair of one observation: of several rows of one entity, the mean of their differences and weights. Its clock
    /// is the last row's, and so is what was said and the class that is counted; an earlier row only adds to the mean.
    ///
    /// A row whose key has had its share of the evidence takes no part.
    pub fn observation(&mut self, judge: &Judge, rows: &[ClosedRow]) -> Option<Pair> {
        self.follow(judge);
        let rows = &*self.within_shares(judge, rows);
        let Some((last, [_, ..])) = rows.split_last() else {
            return self.pair(judge, rows.first()?);
        };
        entity::mean(self, judge, rows, last.clock)
    }

    /// How much each key has reported.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    fn within_shares<'a>(&mut self, judge: &Judge, rows: &'a [ClosedRow]) -> Cow<'a, [ClosedRow]> {
        let policy = judge.policy();
        if self.shares.is_idle() && rows.iter().all(|row| row.principal.is_none()) || policy.needs_bound() {
            return Cow::Borrowed(rows);
        }
        let mut takes = |row: &ClosedRow| {
            let is_evidence = row.epoch == judge.epoch() && row.weight > 0.0;
            let is_evidence = is_evidence && (row.truth.is_some() || row.rewards.is_some());
            // Several rows of one entity count together as much as one.
            let weight = row.weight.min(1.0) / rows.len() as f64;
            !is_evidence || self.shares.take(policy, row.principal.as_deref(), weight)
        };
        let taken: Vec<bool> = rows.iter().map(&mut takes).collect();
        if taken.iter().all(|is_taken| *is_taken) {
            return Cow::Borrowed(rows);
        }
        let pairs = rows.iter().zip(&taken).filter(|(_, is_taken)| **is_taken);
        Cow::Owned(pairs.map(|(row, _)| row.clone()).collect())
    }

    /// A positive row with the latest unused negative; a negative row waits. The weight of a match is the product of its
    /// rows' weights; the champion's loss is its own misorder.
    fn matched(&mut self, judge: &Judge, row: &ClosedRow, class: u32) -> Option<Pair> {
        let weight = row.weight.min(1.0);
        let champion = Said::of(&row.champion)?;
        let others = row
            .others
            .iter()
            .filter(|(version, _)| judge.collects(*version, row.clock))
            .filter_map(|(version, outcome)| Some((*version, Said::of(outcome)?, outcome)));
        if class == 0 {
            let others = others.map(|(version, said, _)| (version, said)).collect();
            self.waiting.push(weight, champion, others);
            return None;
        }
        let negative = self.waiting.latest()?;
        let weight = (weight * negative.weight).max(f64::MIN_POSITIVE);
        let champion_loss = Said::misorders(negative.champion, champion);
        let mut entries = Vec::new();
        for (version, said, outcome) in others {
            let Some(before) = negative.of(version) else { continue };
            let other = Said::misorders(before, said);
            let difference = match (champion_loss, other) {
                (Some(champion), Some(other)) => champion - other,
                _ => 0.0,
            };
            let failed = [before, said].contains(&Said::Failed);
            let enough = judge.policy().min_class_labels;
            self.count(version, &Truth::Class(0), enough);
            entries.push(Entry {
                version,
                difference: difference * weight,
                kind: match other {
                    None => Kind::Uncovered,
                    Some(_) if failed => Kind::Failed,
                    Some(_) => Kind::Scored,
                },
                classes: self.count(version, &Truth::Class(1), enough),
                seen: Seen::of(outcome, judge.threshold_of(version)),
            });
        }
        Some(Pair {
            clock: row.clock,
            epoch: row.epoch,
            weight,
            champion_loss,
            champion: Seen::of(&row.champion, judge.threshold_of(judge.champion())),
            groups: row.groups,
            entries,
        })
    }

    fn learn(&mut self, judge: &Judge, row: &ClosedRow, basis: Basis<'_>, enough: u64) {
        let Outcome::Scored(score) = &row.champion else { return };
        let loss = match basis {
            Basis::Truth(truth) => {
                let threshold = judge.threshold_of(judge.champion());
                judge.policy().metric.uncut(score, &truth, threshold)
            }
            Basis::Rewards(table) => {
                let paid = || table.iter().flatten().copied();
                let (least, most) = (paid().reduce(f64::min), paid().reduce(f64::max));
                least.zip(most).map(|(least, most)| most - least)
            }
        };
        if let Some(loss) = loss {
            self.estimate.push(loss, enough);
        }
    }

    /// The loss bound, once it is estimated: to be told to the judge before the next row.
    pub fn bound(&mut self, judge: &Judge) -> Option<f64> {
        let policy = judge.policy();
        let enough = policy.bound_from.filter(|_| policy.needs_bound())?;
        let bound = self.estimate.bound(&policy.metric, enough)?;
        self.estimate.clear();
        Some(bound)
    }

    /// How many labels the bound's estimate has, where one is made.
    #[must_use]
    pub fn estimating(&self, judge: &Judge) -> Option<u64> {
        judge.policy().needs_bound().then(|| self.estimate.labels())
    }

    /// What was counted for a version whose evidence, and its alone, is started anew.
    pub fn forget(&mut self, version: VersionNo) {
        self.counts.retain(|(other, _)| *other != version);
        self.waiting.retain(|other| other != version);
    }

    /// Counts restart with the evidence, and go with the versions.
    fn follow(&mut self, judge: &Judge) {
        if self.era == judge.era() {
            self.counts.retain(|(version, _)| judge.knows(*version));
            return;
        }
        self.era = judge.era();
        self.counts.clear();
        self.waiting.clear();
        self.estimate.clear();
        self.shares.clear();
    }

    /// What was counted for `from` is counted for `to`, after [`Judge::inherit`] has given it the evidence.
    pub fn inherit(&mut self, judge: &Judge, from: VersionNo, to: VersionNo) {
        if judge.knows(from) || !judge.knows(to) {
            return;
        }
        self.waiting.rename(from, to);
        if self.counts.iter().any(|(version, _)| *version == from) {
            self.counts.retain(|(version, _)| *version != to);
        }
        for (version, _) in self.counts.iter_mut().filter(|(version, _)| *version == from) {
            *version = to;
        }
    }

    fn count(&mut self, version: VersionNo, truth: &Truth, enough: u64) -> Classes {
        let Truth::Class(class) = *truth else {
            return Classes::Enough;
        };
        let at = self.counts.iter().position(|(v, _)| *v == version).unwrap_or_else(|| {
            self.counts.push((version, BTreeMap::new()));
            self.counts.len() - 1
        });
        if let Some((_, counts)) = self.counts.get_mut(at)
            && (counts.len() < MAX_CLASSES || counts.contains_key(&class))
        {
            *counts.entry(class).or_insert(0) += 1;
        }
        self.counted(version, enough)
    }

    /// What was counted of labels that are classes.
    fn counted(&self, version: VersionNo, enough: u64) -> Classes {
        let Some((_, counts)) = self.counts.iter().find(|(v, _)| *v == version) else {
            return Classes::OneClass;
        };
        if counts.len() < 2 {
            return Classes::OneClass;
        }
        if counts.values().filter(|n| **n >= enough).take(2).count() < 2 {
            Classes::Few
        } else {
            Classes::Enough
        }
    }
}

fn is_finite(truth: &Truth) -> bool {
    match truth {
        Truth::Class(_) => true,
        Truth::Value(value) => value.is_finite(),
    }
}

/// Outer `None`: no outcome, so no pair; or nobody has said what its label earns. Inner `None`: the row lacks a feature.
#[expect(clippy::option_option, reason = "two different absences, both private to this file")]
fn loss(metric: &Metric, outcome: &Outcome, basis: Basis<'_>, threshold: f64) -> Option<Option<f64>> {
    match (outcome, basis) {
        (Outcome::Scored(score), Basis::Truth(truth)) => Some(Some(metric.loss_at(score, &truth, threshold))),
        (Outcome::Scored(score), Basis::Rewards(table)) => match label_of(score, threshold) {
            Some(label) => metric.loss_of_rewards(label, table).map(Some),
            // A score without a label is the version's own fault.
            None => Some(Some(metric.bound())),
        },
        (Outcome::Failed, _) => Some(Some(metric.bound())),
        (Outcome::Uncovered, _) => Some(None),
        (Outcome::Unread | Outcome::Shed(_), _) => None,
    }
}

fn kind_of(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Failed => Kind::Failed,
        Outcome::Uncovered => Kind::Uncovered,
        _ => Kind::Scored,
    }
}

mod entity;

#[cfg(test)]
mod tests;
