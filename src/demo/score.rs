//! How good an answer was, and what other ways of answering would have reached with hindsight.
//!
//! Always holds: a model is never used before the row from which it exists; every way is scored on the same rows.
//! Leaves to others: where probabilities come from (`table`), and what was really served (`replay`).

use std::ops::Range;

use super::table::Table;

/// A model answers "up" from this probability on.
const THRESHOLD: f64 = 0.5;

/// Mean scores over rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Mean logarithmic loss of clipped probabilities.
    pub log_loss: f64,
    /// Mean squared difference of probability and outcome.
    pub brier: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

/// Logarithmic loss of one probability, kept `clip` away from 0 and 1.
#[must_use]
pub fn log_loss(probability: f64, label: bool, clip: f64) -> f64 {
    let p = probability.clamp(clip, 1.0 - clip);
    -libm::log(if label { p } else { 1.0 - p })
}

/// Means over (probability, label).
#[must_use]
pub fn summarise(rows: impl Iterator<Item = (f64, bool)>, clip: f64) -> Summary {
    let (mut loss, mut brier, mut right, mut n) = (0.0, 0.0, 0.0, 0.0);
    for (p, label) in rows {
        let outcome = f64::from(u8::from(label));
        loss += log_loss(p, label, clip);
        brier += (p - outcome) * (p - outcome);
        right += f64::from(u8::from((p > THRESHOLD) == label));
        n += 1.0;
    }
    Summary {
        log_loss: loss / n,
        brier: brier / n,
        accuracy: right / n,
    }
}

/// Share of the way from `from` to `to` that `x` has gone; `None` when there is no way to go.
#[must_use]
pub fn gap_closed(x: f64, from: f64, to: f64) -> Option<f64> {
    ((from - to).abs() > 1e-12).then(|| (from - x) / (from - to))
}

/// Everything that hindsight knows.
#[derive(Debug)]
pub struct Hindsight<'a> {
    /// Probabilities.
    pub table: &'a Table,
    /// All labels, from row 0.
    pub labels: &'a [bool],
    /// Per model, the row from which it exists.
    pub available: Vec<usize>,
    /// The first champion's number.
    pub first: usize,
    /// The rows that were served.
    pub rows: Range<usize>,
    /// Distance from 0 and 1.
    pub clip: f64,
}

/// Which model answers each of the rows.
pub type Choice = Vec<usize>;

impl Hindsight<'_> {
    fn models(&self) -> Range<usize> {
        0..self.available.len()
    }

    fn arrival(&self, model: usize) -> usize {
        self.available.get(model).copied().unwrap_or(usize::MAX)
    }

    fn label(&self, row: usize) -> bool {
        self.labels.get(row).copied().unwrap_or(false)
    }

    fn loss(&self, model: usize, rows: Range<usize>) -> f64 {
        let one = |row| log_loss(self.table.get(model, row), self.label(row), self.clip);
        rows.map(one).sum()
    }

    /// The model with the smallest loss among `models`.
    fn best(&self, models: impl Iterator<Item = usize>, loss: impl Fn(usize) -> f64) -> usize {
        let scored = models.map(|m| (loss(m), m));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(self.first, |(_, m)| m)
    }

    /// The first champion for ever.
    #[must_use]
    pub fn fixed(&self) -> Choice {
        vec![self.first; self.rows.len()]
    }

    /// Whichever model arrived last.
    #[must_use]
    pub fn newest(&self) -> Choice {
        let newest = |row| {
            self.models()
                .filter(|&m| self.arrival(m) <= row)
                .max_by_key(|&m| self.arrival(m))
        };
        self.rows.clone().map(|row| newest(row).unwrap_or(self.first)).collect()
    }

    /// The first champion, then one model from its arrival on: the best such change, and that model.
    #[must_use]
    pub fn one_change(&self) -> (Choice, usize) {
        let change = |m: usize| self.arrival(m).clamp(self.rows.start, self.rows.end);
        let loss =
            |m: usize| self.loss(self.first, self.rows.start..change(m)) + self.loss(m, change(m)..self.rows.end);
        let best = self.best(self.models(), loss);
        let at = change(best);
        let choice = |row| if row < at { self.first } else { best };
        (self.rows.clone().map(choice).collect(), best)
    }

    /// The best model of every window of this many rows, among those that existed at its start.
    #[must_use]
    pub fn oracle(&self, window: usize) -> Choice {
        let mut choice = Vec::with_capacity(self.rows.len());
        for start in self.rows.clone().step_by(window.max(1)) {
            let end = (start + window.max(1)).min(self.rows.end);
            let there = self.models().filter(|&m| self.arrival(m) <= start);
            let best = self.best(there, |m| self.loss(m, start..end));
            choice.extend(std::iter::repeat_n(best, end - start));
        }
        choice
    }

    /// Scores of a choice.
    #[must_use]
    pub fn summary(&self, choice: &[usize]) -> Summary {
        let rows = self.rows.clone().zip(choice);
        summarise(
            rows.map(|(row, &m)| (self.table.get(m, row), self.label(row))),
            self.clip,
        )
    }

    /// Loss of every row under a choice.
    #[must_use]
    pub fn losses(&self, choice: &[usize]) -> Vec<f64> {
        let rows = self.rows.clone().zip(choice);
        rows.map(|(row, &m)| log_loss(self.table.get(m, row), self.label(row), self.clip))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stream::tests::shipped;

    #[test]
    fn hindsight_on_the_shipped_stream_gives_the_published_figures() {
        let stream = shipped();
        let rows = stream.manifest.serve_from..stream.len();
        let table = Table::compute(&stream, rows.clone()).unwrap();
        let hindsight = Hindsight {
            table: &table,
            labels: stream.labels(),
            available: stream.manifest.models.iter().map(|m| m.available_from).collect(),
            first: 0,
            rows,
            clip: stream.manifest.log_loss_clip,
        };
        let (one, best) = hindsight.one_change();
        assert_eq!(stream.manifest.models[best].name, "e05_forest");
        let figures = [
            (hindsight.fixed(), 0.7210, 0.7086),
            (hindsight.newest(), 0.7796, 0.6725),
            (one, 0.5777, 0.7301),
            (hindsight.oracle(stream.manifest.window_rows), 0.4980, 0.7474),
        ];
        for (choice, log_loss, accuracy) in figures {
            let summary = hindsight.summary(&choice);
            assert!((summary.log_loss - log_loss).abs() < 6e-5, "{log_loss}: {summary:?}");
            assert!((summary.accuracy - accuracy).abs() < 6e-5, "{accuracy}: {summary:?}");
        }
    }

    /// Model 1 exists from row 2 on and is right from row 4 on; model 0 is right before.
    fn small(table: &Table) -> Hindsight<'_> {
        Hindsight {
            table,
            labels: &[true; 8],
            available: vec![0, 2],
            first: 0,
            rows: 0..8,
            clip: 0.001,
        }
    }

    #[test]
    fn no_way_of_answering_uses_a_model_before_it_exists() {
        let ahead = Table::of(0, vec![vec![0.1; 8], vec![0.9; 8]]);
        let hindsight = small(&ahead);
        assert_eq!(hindsight.oracle(4), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(hindsight.oracle(1), [0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(hindsight.newest(), [0, 0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(hindsight.one_change(), (vec![0, 0, 1, 1, 1, 1, 1, 1], 1));
    }

    #[test]
    fn the_gap_is_a_share_of_the_way_from_fixed_to_oracle() {
        assert_eq!(gap_closed(0.6, 0.7, 0.5).map(|g| (g * 100.0).round()), Some(50.0));
        assert_eq!(gap_closed(0.6, 0.5, 0.5), None);
    }

    #[test]
    fn a_summary_clips_only_the_logarithm() {
        let summary = summarise([(1.0, false), (0.8, true)].into_iter(), 0.001);
        assert!((summary.brier - (1.0 + 0.04) / 2.0).abs() < 1e-12);
        assert!((summary.log_loss - (-(0.001f64.ln()) - 0.8f64.ln()) / 2.0).abs() < 1e-12);
        assert!((summary.accuracy - 0.5).abs() < 1e-12);
    }
}
