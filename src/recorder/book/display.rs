//! What people know models by, beside the metric that decides: accuracy, AUC, log-loss and calibration error; of values
//! the mean absolute error and its root mean square.
//!
//! Always holds: nothing is decided by it, and the judge knows nothing of it; so much memory per version and no more. A
//! version that failed on a row, or was shed, has no part in it: its coverage tells of those. Weights do not count. Kept
//! in memory: after a restart the last rows of the ledger are read again, and `since_row` says from where on it counts.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use super::Book;
use crate::judge::fold::Judge;
use crate::judge::loss::label_of;
use crate::judge::pair::ClosedRow;
use crate::ledger::{LedgerError, Position, Writer};
use crate::score::{Outcome, Score, Truth, VersionNo};

/// Labelled rows in the window.
const WINDOW: usize = 1_000;
/// Rows that are read again at the start.
const RECALLED: u64 = 2_000;
/// Less likely than this is not told apart: the log-loss shown is at most its logarithm.
const CLIP: f64 = 1e-6;
/// Bins of the calibration error.
const BINS: usize = 10;
/// Bins of the AUC over a tenure; over the window it is exact.
const FINE_BINS: usize = 1_000;
/// More versions than are shadowed at once; beyond it those that left are forgotten.
const VERSIONS: usize = 64;

/// What a version has shown on labelled rows.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Of the present tenure.
    pub tenure: Summary,
    /// Of the last rows.
    pub window: Summary,
    /// What it is for.
    pub note: &'static str,
    /// Probabilities below it count as it in the log-loss.
    pub log_loss_clip: f64,
}

/// Figures over some labelled rows; what does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Labelled rows that the version has scored.
    pub labels: u64,
    /// Row number of the first of them.
    pub since_row: Option<u64>,
    /// Share of right labels, by the version's own threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Share of positives that score above a negative; of two classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Mean of minus the logarithm of the true class' probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_loss: Option<f64>,
    /// Expected calibration error: how far probabilities lie from shares, in ten bins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_error: Option<f64>,
    /// Mean absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root of the mean squared error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
}

const NOTE: &str = "for display: decides nothing; tenure AUC in 1,000 bins, window of the last 1,000 labelled rows, \
                    calibration error in 10 bins";

/// One labelled row at one version.
#[derive(Debug, Clone, Copy)]
enum Point {
    Class {
        /// Probability of what may come true: the positive class, or of several the predicted one.
        belief: f32,
        came_true: bool,
        is_right: bool,
        /// Two classes.
        is_binary: bool,
        log_loss: f32,
    },
    Value {
        error: f64,
    },
}

#[expect(clippy::cast_possible_truncation, reason = "for display")]
fn point(score: &Score, truth: &Truth, threshold: f64) -> Option<Point> {
    if !score.is_finite() {
        return None;
    }
    let log_loss = |p: f64| -libm::log(p.clamp(CLIP, 1.0)) as f32;
    match (score, truth) {
        (Score::Binary(p), Truth::Class(class @ (0 | 1))) => {
            let is_positive = *class == 1;
            Some(Point::Class {
                belief: *p as f32,
                came_true: is_positive,
                is_right: (*p >= threshold) == is_positive,
                is_binary: true,
                log_loss: log_loss(if is_positive { *p } else { 1.0 - p }),
            })
        }
        (Score::Classes(scores), Truth::Class(class)) => {
            let class = usize::try_from(*class).ok()?;
            let label = label_of(score, threshold)?;
            Some(Point::Class {
                belief: *scores.get(label)? as f32,
                came_true: label == class,
                is_right: label == class,
                is_binary: false,
                log_loss: log_loss(*scores.get(class)?),
            })
        }
        (Score::Value(value), Truth::Value(truth)) => Some(Point::Value { error: value - truth }),
        _ => None,
    }
}

/// The sums over some points.
#[derive(Debug, Default)]
struct Sums {
    labels: u64,
    classes: u64,
    right: u64,
    log_loss: f64,
    bins: [Bin; BINS],
    values: u64,
    absolute: f64,
    squares: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    belief: f64,
    came_true: u64,
    count: u64,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bin's number")]
fn bin(p: f32, bins: usize) -> usize {
    let last = bins.saturating_sub(1);
    ((f64::from(p) * bins as f64).max(0.0) as usize).min(last)
}

impl Sums {
    fn add(&mut self, point: Point) {
        self.labels += 1;
        match point {
            Point::Class {
                belief,
                came_true,
                is_right,
                log_loss,
                ..
            } => {
                self.classes += 1;
                self.right += u64::from(is_right);
                self.log_loss += f64::from(log_loss);
                if let Some(bin) = self.bins.get_mut(bin(belief, BINS)) {
                    bin.belief += f64::from(belief);
                    bin.came_true += u64::from(came_true);
                    bin.count += 1;
                }
            }
            Point::Value { error } => {
                self.values += 1;
                self.absolute += error.abs();
                self.squares += error * error;
            }
        }
    }

    fn summary(&self, since_row: Option<u64>, auc: Option<f64>) -> Summary {
        let mean = |sum: f64, of: u64| (of > 0).then(|| sum / of as f64).filter(|mean| mean.is_finite());
        let gap = |bin: &Bin| (bin.belief - bin.came_true as f64).abs();
        Summary {
            labels: self.labels,
            since_row,
            accuracy: mean(self.right as f64, self.classes),
            auc,
            log_loss: mean(self.log_loss, self.classes),
            calibration_error: mean(self.bins.iter().map(gap).sum(), self.classes),
            mae: mean(self.absolute, self.values),
            rmse: mean(self.squares, self.values).map(f64::sqrt),
        }
    }
}

/// Positives and negatives by score.
#[derive(Debug)]
struct Counts {
    positives: Vec<u64>,
    negatives: Vec<u64>,
}

impl Counts {
    fn add(&mut self, belief: f32, is_positive: bool) {
        let side = if is_positive {
            &mut self.positives
        } else {
            &mut self.negatives
        };
        if side.is_empty() {
            *side = vec![0; FINE_BINS];
        }
        if let Some(count) = side.get_mut(bin(belief, FINE_BINS)) {
            *count += 1;
        }
    }

    fn auc(&self) -> Option<f64> {
        area(self.positives.iter().copied().zip(self.negatives.iter().copied()))
    }
}

/// The AUC from positives and negatives per score, from the lowest on; those of one score tie.
fn area(rising: impl Iterator<Item = (u64, u64)>) -> Option<f64> {
    let (mut below, mut positives, mut sum) = (0.0, 0.0, 0.0);
    for (positive, negative) in rising {
        let (positive, negative) = (positive as f64, negative as f64);
        sum += positive * (below + negative / 2.0);
        below += negative;
        positives += positive;
    }
    (positives > 0.0 && below > 0.0).then(|| sum / (positives * below))
}

/// One version's figures.
#[derive(Debug)]
struct Kept {
    tenure: Sums,
    counts: Counts,
    since: Option<u64>,
    window: VecDeque<(u64, Point)>,
}

impl Kept {
    fn new() -> Self {
        Self {
            tenure: Sums::default(),
            counts: Counts {
                positives: Vec::new(),
                negatives: Vec::new(),
            },
            since: None,
            window: VecDeque::new(),
        }
    }

    fn add(&mut self, row: u64, point: Point, is_of_tenure: bool) {
        if self.window.len() >= WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((row, point));
        if !is_of_tenure {
            return;
        }
        self.since.get_or_insert(row);
        self.tenure.add(point);
        if let Point::Class {
            belief,
            came_true,
            is_binary: true,
            ..
        } = point
        {
            self.counts.add(belief, came_true);
        }
    }

    fn window(&self) -> Summary {
        let mut sums = Sums::default();
        let mut scores: Vec<(f32, bool)> = Vec::with_capacity(self.window.len());
        for (_, point) in &self.window {
            sums.add(*point);
            if let Point::Class {
                belief,
                came_true,
                is_binary: true,
                ..
            } = point
            {
                scores.push((*belief, *came_true));
            }
        }
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ties = scores.chunk_by(|a, b| a.0.to_bits() == b.0.to_bits());
        let auc = area(ties.map(|tie| {
            let positives = tie.iter().filter(|(_, is_positive)| *is_positive).count();
            (positives as u64, (tie.len() - positives) as u64)
        }));
        sums.summary(self.window.front().map(|(row, _)| *row), auc)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Display {
    epoch: u64,
    versions: HashMap<VersionNo, Kept>,
}

impl Display {
    /// A row was closed.
    pub(super) fn row(&mut self, judge: &Judge, row: &ClosedRow) {
        let Some(truth) = &row.truth else { return };
        self.follow(judge);
        let is_of_tenure = row.epoch == judge.epoch();
        // Whose answer it was in another tenure is not known here.
        let champion = is_of_tenure.then_some((judge.champion(), &row.champion));
        let others = row.others.iter().map(|(version, outcome)| (*version, outcome));
        for (version, outcome) in others.chain(champion) {
            let Outcome::Scored(score) = outcome else { continue };
            if let Some(point) = point(score, truth, judge.threshold_of(version)) {
                let kept = self.versions.entry(version).or_insert_with(Kept::new);
                kept.add(row.clock.row, point, is_of_tenure);
            }
        }
    }

    fn follow(&mut self, judge: &Judge) {
        let is_new = self.epoch != judge.epoch();
        if is_new || self.versions.len() > VERSIONS {
            let champion = judge.champion();
            self.versions
                .retain(|version, _| *version == champion || judge.knows(*version));
        }
        if is_new {
            self.epoch = judge.epoch();
            for kept in self.versions.values_mut() {
                let window = std::mem::take(&mut kept.window);
                *kept = Kept { window, ..Kept::new() };
            }
        }
    }

    fn shown(&self) -> impl Iterator<Item = (VersionNo, Shown)> {
        self.versions.iter().map(|(version, kept)| {
            let shown = Shown {
                tenure: kept.tenure.summary(kept.since, kept.counts.auc()),
                window: kept.window(),
                note: NOTE,
                log_loss_clip: CLIP,
            };
            (*version, shown)
        })
    }
}

impl Book {
    /// What each version has shown, for display.
    #[must_use]
    pub fn shown(&self) -> Vec<(VersionNo, Shown)> {
        self.display.shown().collect()
    }

    /// Reads the last closed rows again.
    pub(super) fn recall(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        let Some(judge) = &self.judge else { return Ok(()) };
        let (folded, absent, display) = (self.folded, self.closing.absent, &mut self.display);
        let from = Position {
            model: self.row.no,
            row: folded.saturating_sub(RECALLED) + 1,
        };
        writer.open_rows(from, |row| {
            if row.clock.row > folded {
                return Ok(false);
            }
            let truth = row.label.map(|label| label.truth).or(absent);
            let answered = match truth {
                Some(_) => writer.answered(row.id)?,
                None => None,
            };
            if let Some(answered) = answered {
                let closed = ClosedRow {
                    clock: row.clock,
                    epoch: answered.epoch,
                    truth,
                    weight: 1.0,
                    champion: answered.outcome,
                    others: writer.outcomes(row.id)?,
                    groups: 0,
                    rewards: None,
                    principal: None,
                };
                display.row(judge, &closed);
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::policy::Policy;
    use crate::judge::tenure::Swap;
    use crate::span::Clock;

    const CHAMPION: VersionNo = VersionNo(1);
    const OTHER: VersionNo = VersionNo(2);

    fn judge() -> Judge {
        let mut judge = Judge::new(Policy::default(), CHAMPION, 1, Clock::default());
        judge.enter(OTHER, Clock::default());
        judge
    }

    fn row(row: u64, truth: Truth, champion: Score, other: Score) -> ClosedRow {
        ClosedRow {
            clock: Clock { row, time_ms: 0 },
            epoch: 1,
            truth: Some(truth),
            weight: 1.0,
            champion: Outcome::Scored(champion),
            others: vec![(OTHER, Outcome::Scored(other))],
            groups: 0,
            rewards: None,
            principal: None,
        }
    }

    fn shown(display: &Display, version: VersionNo) -> Shown {
        display.shown().find(|(no, _)| *no == version).unwrap().1
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-6)
    }

    #[test]
    fn two_classes_show_accuracy_by_the_own_threshold_auc_log_loss_and_calibration() {
        let (mut judge, mut display) = (judge(), Display::default());
        judge.set_threshold(OTHER, 0.3);
        let rows = [(0, 0.2), (0, 0.4), (1, 0.4), (1, 0.9)];
        for (at, (class, p)) in (1..).zip(rows) {
            let closed = row(at, Truth::Class(class), Score::Binary(p), Score::Binary(p));
            display.row(&judge, &closed);
        }
        let (champion, other) = (shown(&display, CHAMPION), shown(&display, OTHER));
        assert!(close(champion.tenure.accuracy, 0.75), "{champion:?}");
        assert!(
            close(other.tenure.accuracy, 0.75) && other.tenure.labels == 4,
            "{other:?}"
        );
        // Of four matches three are in order and one ties.
        assert!(close(champion.tenure.auc, 3.5 / 4.0) && close(champion.window.auc, 3.5 / 4.0));
        let log_loss = -(0.8f64.ln() + 0.6f64.ln() + 0.4f64.ln() + 0.9f64.ln()) / 4.0;
        assert!(close(champion.window.log_loss, log_loss));
        // Bins: .2 of none; .4 and .4 of which one came true; .9 which did.
        assert!(
            close(champion.window.calibration_error, (0.2 + 0.2 + 0.1) / 4.0),
            "{champion:?}"
        );
        assert_eq!((champion.window.since_row, champion.window.mae), (Some(1), None));
        let json = serde_json::to_value(&champion).unwrap();
        assert!(json["note"].as_str().unwrap().contains("decides nothing") && json["tenure"]["mae"].is_null());
    }

    #[test]
    fn several_classes_and_values_show_what_applies_to_them() {
        let (judge, mut display) = (judge(), Display::default());
        let scores = |p: [f64; 3]| Score::Classes(p.into());
        display.row(
            &judge,
            &row(1, Truth::Class(2), scores([0.1, 0.2, 0.7]), scores([0.6, 0.2, 0.2])),
        );
        let (champion, other) = (shown(&display, CHAMPION).window, shown(&display, OTHER).window);
        assert!(close(champion.accuracy, 1.0) && close(other.accuracy, 0.0));
        assert!(close(champion.calibration_error, 0.3) && close(other.calibration_error, 0.6));
        assert_eq!((champion.auc, champion.rmse), (None, None));

        let mut display = Display::default();
        for (at, error) in (1..).zip([3.0, -4.0]) {
            let closed = row(at, Truth::Value(1.0), Score::Value(1.0 + error), Score::Value(f64::NAN));
            display.row(&judge, &closed);
        }
        let champion = shown(&display, CHAMPION).tenure;
        assert!(close(champion.mae, 3.5) && close(champion.rmse, 12.5f64.sqrt()) && champion.accuracy.is_none());
        assert!(
            display.shown().all(|(no, _)| no == CHAMPION),
            "what is no score is not shown"
        );
    }

    #[test]
    fn the_window_is_the_last_thousand_labels_and_goes_on_over_a_swap_where_the_tenure_begins_anew() {
        let (mut judge, mut display) = (judge(), Display::default());
        for at in 1..=1_500 {
            let truth = Truth::Class(u32::from(at > 500));
            display.row(&judge, &row(at, truth, Score::Binary(0.9), Score::Binary(0.1)));
        }
        let champion = shown(&display, CHAMPION);
        assert_eq!((champion.window.labels, champion.tenure.labels), (1_000, 1_500));
        assert_eq!(champion.window.since_row, Some(501));
        assert!(close(champion.window.accuracy, 1.0) && close(champion.tenure.accuracy, 2.0 / 3.0));
        assert_eq!(champion.window.auc, None, "of one class only");
        judge.swap(OTHER, Swap::Person, Clock { row: 1_500, time_ms: 0 });
        // A row of the tenure before: nothing is known of who answered it.
        let late = row(1_501, Truth::Class(1), Score::Binary(0.9), Score::Binary(0.1));
        display.row(&judge, &late);
        let (old, new) = (shown(&display, CHAMPION), shown(&display, OTHER));
        assert_eq!((old.window.labels, old.tenure.labels), (1_000, 0));
        assert_eq!((new.window.labels, new.tenure.labels), (1_000, 0));
    }
}
