//! Signs that the evidence rests on less than its numbers say: rows that repeat, scores that the metric cannot tell
//! apart.
//!
//! Always holds: so much memory and no more, whatever comes in; nothing is decided by it. Counted since the start of
//! the process: the judge's fold, which must come out alike at each replay, knows nothing of it.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::judge::loss::Metric;
use crate::score::{Outcome, Score};

/// Rows that are remembered, each by a hash; a later one may take a place.
const PLACES: usize = 1 << 15;
/// Fewer repetitions than this are no sign.
const LEAST: u64 = 10;
/// One row in so many that repeats is a sign.
const ONE_IN: u64 = 20;
/// Fewer scores than this say nothing of the clip.
const LEAST_SCORES: u64 = 100;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Signs {
    keys: RandomState,
    /// Empty until the first row comes.
    seen: Vec<u64>,
    /// Rows without an entity, and those of them whose inputs were there before.
    rows: u64,
    repeated: u64,
    /// Rows whose caller's id was there before: they are not recorded.
    duplicates: u64,
    scores: u64,
    clipped: u64,
    /// Losses of the champion under a bound that somebody chose, and those of them that it cuts.
    losses: u64,
    cut: u64,
}

impl Signs {
    /// A row was recorded.
    pub(super) fn row(&mut self, inputs: &ToSqlOutput<'_>, entity: Option<&str>) {
        let ToSqlOutput::Borrowed(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = inputs else {
            return;
        };
        if entity.is_some() {
            return;
        }
        self.rows += 1;
        if self.seen.is_empty() {
            self.seen = vec![0; PLACES];
        }
        let hash = self.keys.hash_one(bytes);
        let place = usize::try_from(hash % PLACES as u64).unwrap_or(0);
        if let Some(seen) = self.seen.get_mut(place) {
            self.repeated += u64::from(*seen == hash);
            *seen = hash;
        }
    }

    /// A row was not recorded, since its caller's id was.
    pub(super) fn duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// A row became evidence by this outcome.
    pub(super) fn score(&mut self, outcome: &Outcome, metric: &Metric) {
        let (&Metric::LogLoss { clip }, Outcome::Scored(score)) = (metric, outcome) else {
            return;
        };
        self.scores += 1;
        self.clipped += u64::from(match score {
            Score::Binary(p) => *p < clip || *p > 1.0 - clip,
            Score::Classes(all) => all.iter().any(|p| *p > 1.0 - clip),
            Score::Value(_) => false,
        });
    }

    /// The champion lost so much on a row that became evidence.
    pub(super) fn loss(&mut self, loss: Option<f64>, metric: &Metric) {
        if let Some(loss) = loss.filter(|_| metric.has_chosen_bound()) {
            self.losses += 1;
            self.cut += u64::from(loss >= metric.bound());
        }
    }

    /// What to say of it beside each verdict.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let is_sign = |count: u64, of: u64| count >= LEAST && count.saturating_mul(ONE_IN) >= of;
        if is_sign(self.repeated, self.rows) {
            warnings.push(format!(
                "{} of {} rows without an entity have the inputs of an earlier one: if they are about the same thing, they \
                 are one observation and are counted as many; send \"entities\"",
                self.repeated, self.rows
            ));
        }
        if is_sign(self.duplicates, self.rows) {
            warnings.push(format!(
                "{} rows came with an id of the caller's that was there before: they are answered and no evidence; if the \
                 ids name customers and not predictions, send them as \"entities\"",
                self.duplicates
            ));
        }
        if self.scores >= LEAST_SCORES && self.clipped * 2 > self.scores {
            warnings.push(format!(
                "{} of {} scores lie inside the clip of log_loss, where it cannot tell them apart: lower clip, or take \
                 metric = \"brier\"",
                self.clipped, self.scores
            ));
        }
        if is_sign(self.cut, self.losses) {
            warnings.push(format!(
                "{} of {} losses of the champion are cut at the bound, where one that is worse still counts no more: raise \
                 bound in model.toml",
                self.cut, self.losses
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(signs: &mut Signs, text: &str, entity: Option<&str>) {
        signs.row(&ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())), entity);
    }

    #[test]
    fn rows_that_repeat_without_an_entity_are_a_sign_and_others_are_not() {
        let mut signs = Signs::default();
        for n in 0..400 {
            row(&mut signs, &format!("{{\"x\":{n}}}"), None);
            row(&mut signs, "{\"x\":0}", Some("c1"));
        }
        assert_eq!(signs.warnings(), Vec::<String>::new());
        for _ in 0..30 {
            row(&mut signs, "{\"x\":7}", None);
        }
        let said = signs.warnings();
        assert!(said.len() == 1 && said[0].starts_with("30 of 430 rows"), "{said:?}");
        (0..40).for_each(|_| signs.duplicate());
        assert!(signs.warnings()[1].starts_with("40 rows came with an id"));
    }

    #[test]
    fn losses_beyond_a_chosen_bound_are_a_sign() {
        let (metric, mut signs) = (Metric::AbsoluteError { bound: 2.0 }, Signs::default());
        for n in 0..200 {
            signs.loss(Some(if n % 25 == 0 { 2.0 } else { 1.9 }), &metric);
            signs.loss(Some(1.0), &Metric::Brier);
        }
        assert_eq!(signs.warnings(), Vec::<String>::new(), "too few to say");
        (0..8).for_each(|_| signs.loss(Some(2.0), &metric));
        assert!(
            signs.warnings()[0].starts_with("16 of 208 losses"),
            "{:?}",
            signs.warnings()
        );
    }

    #[test]
    fn scores_inside_the_clip_are_a_sign_for_log_loss_only() {
        let (metric, mut signs) = (Metric::LogLoss { clip: 0.05 }, Signs::default());
        for n in 0..99 {
            let p = if n % 3 == 0 { 0.5 } else { 0.99 };
            signs.score(&Outcome::Scored(Score::Binary(p)), &metric);
            signs.score(&Outcome::Scored(Score::Binary(p)), &Metric::Brier);
            signs.score(&Outcome::Failed, &metric);
        }
        assert_eq!(signs.warnings(), Vec::<String>::new(), "too few to say");
        signs.score(&Outcome::Scored(Score::Classes([0.01, 0.99].into())), &metric);
        assert!(
            signs.warnings()[0].starts_with("67 of 100 scores"),
            "{:?}",
            signs.warnings()
        );
    }
}
