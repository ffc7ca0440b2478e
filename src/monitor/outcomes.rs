//! Labelled rows, in the order of recording, once they have closed: does the champion still do what it did when it was
//! crowned, for everybody?
//!
//! Always holds: it begins anew with each champion; bounded memory; nothing of it is evidence. The decay alarm is the
//! judge's bet (`judge::wealth`) on the loss being higher than the level of the champion's first labels by more than the
//! tolerance: while it is not, the chance that it is ever raised is at most `alpha`, given the level. ADWIN and
//! Page–Hinkley stand beside it and promise less.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::association::{Together, mutual_information};
use super::calibration::Reliability;
use super::change::{Adwin, PageHinkley};
use super::feature::{Feature, PANES};
use super::row::{Cell, each_feature};
use super::sketch::clipped;
use super::tally::{Answered, Tally};
use crate::judge::loss::{Metric, label_of};
use crate::judge::wealth::{Wealth, scaled};
use crate::score::{Outcome, Score, Truth, VersionNo};
use crate::span::{Clock, Span};
use crate::time::rfc3339;

/// Labels that the level is formed from.
const LEVEL: u64 = 200;
/// Bins of a feature and classes of a label whose mutual information is counted.
const BINS: usize = 10;
const CLASSES: usize = 10;
/// Categories of a feature that groups are made by.
const CATEGORIES: usize = 32;
/// Points of the past that are kept.
const HISTORY: usize = 400;
/// Rows at which a detector spoke that are kept.
const SPOKEN: usize = 50;

/// What is asked of labelled rows.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The loss.
    pub metric: &'a Metric,
    /// From which score on a label is positive.
    pub threshold: f64,
    /// How long a window is.
    pub window: Span,
    /// Chance of a false decay alarm.
    pub alpha: f64,
    /// By how much of the bound the loss may rise.
    pub decay: f64,
    /// Features whose categories are groups.
    pub by: &'a [String],
}

/// A labelled row.
#[derive(Debug)]
pub struct LabelledRow<'a> {
    /// Row number and request time.
    pub clock: Clock,
    /// The champion that was asked.
    pub version: VersionNo,
    /// Named features as JSON.
    pub inputs: Option<&'a str>,
    /// What the champion made of it.
    pub outcome: &'a Outcome,
    /// What became of it.
    pub truth: Truth,
    /// Names of the groups that it is in.
    pub groups: Vec<&'a str>,
}

/// Labels of some rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Pane {
    since: Clock,
    tally: Tally,
    reliability: Reliability,
}

/// A point of the past: the last row of a pane and its mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where the pane begins.
    pub at: Clock,
    /// Its labels.
    pub labels: u64,
    /// Their mean loss.
    pub loss: f64,
}

/// What a feature tells of the label, over some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Bond {
    together: Together,
    table: Vec<Vec<f64>>,
}

impl Bond {
    fn add(&mut self, number: Option<f64>, bin: usize, truth: &Truth) {
        let (y, class) = match truth {
            Truth::Class(class) => (f64::from(*class), usize::try_from(*class).ok()),
            Truth::Value(value) => (*value, None),
        };
        if let Some(x) = number {
            self.together.add(x, y);
        }
        let Some(class) = class.filter(|class| *class < CLASSES) else {
            return;
        };
        if self.table.is_empty() {
            self.table = vec![vec![0.0; 2]; BINS + 1];
        }
        if let Some(row) = self.table.get_mut(bin.min(BINS)) {
            if row.len() <= class {
                row.resize(class + 1, 0.0);
            }
            if let Some(count) = row.get_mut(class) {
                *count += 1.0;
            }
        }
    }

    fn json(&self) -> Json {
        json!({"correlation": self.together.correlation(), "mutual_information": mutual_information(&self.table)})
    }
}

/// A feature's bond with the label: of the first labels, of the last whole window, and of the open one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Bonds {
    first: Bond,
    last: Bond,
    open: Bond,
}

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// The champion.
    version: Option<VersionNo>,
    /// The last row that was looked at.
    pub last_row: u64,
    since: Clock,
    all: Tally,
    level: Tally,
    first: Reliability,
    wealth: Wealth,
    decayed: Option<Clock>,
    adwin: Adwin,
    hinkley: PageHinkley,
    cuts: VecDeque<u64>,
    calls: VecDeque<u64>,
    panes: VecDeque<Pane>,
    /// Mean losses of past panes.
    pub history: VecDeque<Point>,
    bonds: BTreeMap<String, Bonds>,
    bonds_since: Clock,
    groups: BTreeMap<String, Tally>,
    is_value: bool,
}

/// Label, and truth where it is one of two classes.
fn answered(outcome: &Outcome, truth: &Truth, terms: &Terms<'_>) -> Option<Answered> {
    let score = match outcome {
        Outcome::Scored(score) => score,
        // The champion's own failure counts as the largest loss.
        Outcome::Failed => {
            let loss = terms.metric.bound();
            return loss.is_finite().then_some(Answered {
                loss,
                right: Some(false),
                positive: None,
            });
        }
        Outcome::Uncovered | Outcome::Unread | Outcome::Shed(_) => return None,
    };
    let loss = terms.metric.loss_at(score, truth, terms.threshold);
    let label = label_of(score, terms.threshold);
    let (right, positive) = match (truth, label) {
        (Truth::Class(class), Some(label)) => {
            let class = usize::try_from(*class).ok();
            let positive = matches!(score, Score::Binary(_)).then_some((label == 1, class == Some(1)));
            (Some(class == Some(label)), positive)
        }
        _ => (None, None),
    };
    Some(Answered { loss, right, positive })
}

impl Outcomes {
    /// Takes a row in. True when the decay alarm is raised by it.
    pub fn row(&mut self, row: &LabelledRow<'_>, terms: &Terms<'_>, features: &[Feature]) -> bool {
        if self.version != Some(row.version) {
            *self = Self {
                version: Some(row.version),
                since: row.clock,
                bonds_since: row.clock,
                ..Self::default()
            };
        }
        self.last_row = row.clock.row;
        let Some(answered) = answered(row.outcome, &row.truth, terms) else {
            return false;
        };
        self.is_value = matches!(row.truth, Truth::Value(_));
        let is_first = self.level.labels < LEVEL;
        self.turn(row.clock, terms.window);
        self.all.add(answered);
        if let Some(pane) = self.panes.back_mut() {
            pane.tally.add(answered);
        }
        if let (Outcome::Scored(Score::Binary(score)), Truth::Class(class)) = (row.outcome, &row.truth) {
            if let Some(pane) = self.panes.back_mut() {
                pane.reliability.add(*score, *class == 1);
            }
            if is_first {
                self.first.add(*score, *class == 1);
            }
        }
        self.bind(row, features, is_first);
        self.group(row, terms, answered);
        self.watch(row.clock, terms, answered, is_first)
    }

    fn watch(&mut self, clock: Clock, terms: &Terms<'_>, answered: Answered, is_first: bool) -> bool {
        let say = |spoken: &mut VecDeque<u64>| {
            if spoken.len() >= SPOKEN {
                spoken.pop_front();
            }
            spoken.push_back(clock.row);
        };
        let bound = terms.metric.bound();
        let share = if bound.is_finite() {
            answered.loss / bound
        } else {
            answered.loss
        };
        if self.adwin.add(share) {
            say(&mut self.cuts);
        }
        if self.hinkley.add(share) {
            say(&mut self.calls);
        }
        if is_first {
            self.level.add(answered);
            return false;
        }
        let Some((level, _)) = self.level.loss().filter(|_| bound.is_finite()) else {
            return false;
        };
        self.wealth
            .step(scaled(answered.loss - level, 1.0, bound, terms.decay * bound));
        let is_raised = self.decayed.is_none() && self.wealth.ln() >= -libm::log(terms.alpha);
        if is_raised {
            self.decayed = Some(clock);
        }
        is_raised
    }

    fn turn(&mut self, clock: Clock, window: Span) {
        let pane = match window {
            Span::Rows(rows) => Span::Rows((rows / PANES as u64).max(1)),
            Span::Time(time) => Span::Time(time / u32::try_from(PANES).unwrap_or(1)),
        };
        if window.has_passed(self.bonds_since, clock) {
            self.bonds_since = clock;
            for bonds in self.bonds.values_mut() {
                bonds.last = std::mem::take(&mut bonds.open);
            }
        }
        if !self.panes.back().is_none_or(|open| pane.has_passed(open.since, clock)) {
            return;
        }
        if let Some(over) = self.panes.back().copied()
            && let Some((loss, _)) = over.tally.loss()
        {
            if self.history.len() >= HISTORY {
                self.halve();
            }
            self.history.push_back(Point {
                at: over.since,
                labels: over.tally.labels,
                loss,
            });
        }
        if self.panes.len() >= PANES {
            self.panes.pop_front();
        }
        self.panes.push_back(Pane {
            since: clock,
            ..Pane::default()
        });
    }

    /// Two points become one, so that all of the tenure stays in sight.
    fn halve(&mut self) {
        let points = std::mem::take(&mut self.history);
        let mut points = points.into_iter();
        while let Some(first) = points.next() {
            let joined = points.next().map_or(first, |second| {
                let labels = first.labels + second.labels;
                let sum = first.loss * first.labels as f64 + second.loss * second.labels as f64;
                Point {
                    labels,
                    loss: sum / labels.max(1) as f64,
                    ..first
                }
            });
            self.history.push_back(joined);
        }
    }

    fn bind(&mut self, row: &LabelledRow<'_>, features: &[Feature], is_first: bool) {
        let Some(inputs) = row.inputs else { return };
        let bonds = &mut self.bonds;
        each_feature(inputs, |name, cell| {
            let Some(feature) = features.iter().find(|feature| feature.known.name == name) else {
                return;
            };
            // Without a scale there are no bins: the baseline is still being learned.
            let Some(scale) = &feature.known.scale else { return };
            let number = match &cell {
                Cell::Number(x) => Some(*x),
                Cell::Missing | Cell::Text(_) => None,
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of the bins"
            )]
            let bin = scale
                .rank(cell.value())
                .map_or(BINS, |rank| ((rank * BINS as f64) as usize).min(BINS - 1));
            if !bonds.contains_key(name) {
                bonds.insert(name.to_owned(), Bonds::default());
            }
            if let Some(known) = bonds.get_mut(name) {
                known.open.add(number, bin, &row.truth);
                if is_first {
                    known.first.add(number, bin, &row.truth);
                }
            }
        });
    }

    fn group(&mut self, row: &LabelledRow<'_>, terms: &Terms<'_>, answered: Answered) {
        for name in &row.groups {
            self.groups.entry((*name).to_owned()).or_default().add(answered);
        }
        let Some(inputs) = row.inputs.filter(|_| !terms.by.is_empty()) else {
            return;
        };
        let groups = &mut self.groups;
        each_feature(inputs, |name, cell| {
            if !terms.by.iter().any(|by| by == name) {
                return;
            }
            let value = match &cell {
                Cell::Text(text) => clipped(text).to_owned(),
                Cell::Number(x) => x.to_string(),
                Cell::Missing => "missing".to_owned(),
            };
            let group = format!("{name} = {value}");
            let of_feature = format!("{name} = ");
            let is_full = !groups.contains_key(&group)
                && groups.keys().filter(|known| known.starts_with(&of_feature)).count() >= CATEGORIES;
            let group = if is_full { format!("{name} = (others)") } else { group };
            groups.entry(group).or_default().add(answered);
        });
    }

    /// Where the champion stands against its level.
    #[must_use]
    pub fn decay(&self, terms: &Terms<'_>) -> Decay {
        let bound = terms.metric.bound();
        let mut recent = Tally::default();
        self.panes.iter().for_each(|pane| recent.merge(&pane.tally));
        let (level, now) = (
            self.level.loss().map(|(loss, _)| loss),
            recent.loss().map(|(loss, _)| loss),
        );
        let limit = level
            .map(|level| level + terms.decay * bound)
            .filter(|limit| limit.is_finite());
        Decay {
            level,
            limit,
            recent: now,
            raised: self.decayed,
            trend: super::decay::trend(&self.history),
        }
    }

    /// The first row of this champion whose label was looked at.
    #[must_use]
    pub fn since_row(&self) -> u64 {
        self.since.row
    }

    /// Rows in a day, by the request times of the past; `None` where that is too short to tell.
    #[must_use]
    pub fn rows_per_day(&self) -> Option<f64> {
        let (first, last) = (self.history.front()?, self.history.back()?);
        let (rows, ms) = (
            last.at.row.checked_sub(first.at.row)?,
            last.at.time_ms - first.at.time_ms,
        );
        (rows > 0 && ms > 0).then(|| rows as f64 / ms as f64 * 86_400_000.0)
    }

    /// For people and programs.
    #[must_use]
    pub fn json(&self, terms: &Terms<'_>) -> Json {
        if self.all.labels == 0 {
            return json!({"labels": 0, "why_empty": "no labelled row of this champion has closed yet"});
        }
        let (mut recent, mut reliability) = (Tally::default(), Reliability::default());
        for pane in &self.panes {
            recent.merge(&pane.tally);
            reliability.merge(&pane.reliability);
        }
        let decay = self.decay(terms);
        let bonds: Vec<Json> = self
            .bonds
            .iter()
            .map(|(name, bonds)| {
                let now = if bonds.last == Bond::default() {
                    &bonds.open
                } else {
                    &bonds.last
                };
                json!({"feature": name, "first": bonds.first.json(), "recent": now.json()})
            })
            .collect();
        let groups: Vec<Json> = self
            .groups
            .iter()
            .map(|(name, tally)| {
                let mut shown = tally.json(Some(&tally.rest_of(&self.all)), self.is_value);
                if let Some(shown) = shown.as_object_mut() {
                    shown.insert("group".into(), json!(name));
                }
                shown
            })
            .collect();
        json!({
            "labels": self.all.labels,
            "since_row": self.since.row,
            "last_row": self.last_row,
            "metric": terms.metric.name(),
            "tenure": self.all.json(None, self.is_value),
            "level": {"labels": self.level.labels, "wanted": LEVEL, "loss": decay.level},
            "recent": recent.json(None, self.is_value),
            "decay": {
                "limit": decay.limit,
                "log_wealth": self.wealth.ln(),
                "log_bar": -libm::log(terms.alpha),
                "raised": decay.raised.map(|at| json!({"row": at.row, "time": rfc3339(at.time_ms)})),
                "forecast": decay.forecast(self.last_row),
            },
            "adwin": {"detections": self.adwin.detections, "rows": self.cuts, "window": self.adwin.width(),
                      "mean": self.adwin.mean()},
            "page_hinkley": {"detections": self.hinkley.detections, "rows": self.calls},
            "reliability": (!self.is_value).then(|| json!({
                "first": {"curve": self.first.curve(), "calibration_error": self.first.error()},
                "recent": {"curve": reliability.curve(), "calibration_error": reliability.error()},
            })),
            "associations": bonds,
            "groups": groups,
            "groups_note": "95 % intervals for one look at one group; of many groups some lie outside by chance",
            "history": self.history.iter().map(|point| json!([point.at.row, point.loss, point.labels])).collect::<Vec<_>>(),
        })
    }
}

/// Where the champion stands against its level.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decay {
    /// Mean loss over its first labels.
    pub level: Option<f64>,
    /// From which loss on it counts as decayed.
    pub limit: Option<f64>,
    /// Mean loss of the recent window.
    pub recent: Option<f64>,
    /// Where the alarm was raised.
    pub raised: Option<Clock>,
    /// How fast the loss rises.
    pub trend: Option<super::decay::Trend>,
}

impl Decay {
    /// In how many rows the limit will be crossed if things go on so.
    #[must_use]
    pub fn rows_to_limit(&self) -> Option<u64> {
        self.trend?.forecast(self.recent, self.limit).1
    }

    /// When the limit will be crossed if things go on so.
    #[must_use]
    pub fn forecast(&self, row: u64) -> Json {
        let Some(trend) = self.trend else {
            return json!({"text": "too few windows for a trend"});
        };
        let (text, rows) = trend.forecast(self.recent, self.limit);
        json!({
            "loss_per_1000_rows": trend.slope * 1_000.0,
            "interval": [(trend.slope - 2.0 * trend.error) * 1_000.0, (trend.slope + 2.0 * trend.error) * 1_000.0],
            "rows_to_limit": rows,
            "at_row": rows.map(|rows| row.saturating_add(rows)),
            "text": text,
        })
    }
}
