//! One model's rows, folded in the order in which they were recorded.
//!
//! Always holds: the same rows make the same state, whenever they are read; memory is bounded by the number of features,
//! whatever comes; a row that was folded before fills the recent windows again and nothing else. Leaves to others: where
//! rows come from and where the state is kept (`follow`), and how it is shown (`view`).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::alarm::{Blocks, Raised, log_bar};
use super::baseline::{Baseline, Source};
use super::calibration::Expected;
use super::feature::{Feature, Known, PANES};
use super::row::{Cell, each_feature};
use super::sketch::Value;
use super::volume::Volume;
use crate::config::MonitorConfig;
use crate::judge::loss::label_of;
use crate::score::{Outcome, Score, VersionNo};
use crate::span::{Clock, Span};

/// Features that are watched; more are counted and not watched.
pub const FEATURES: usize = 512;
/// Rows that a repetition is looked for among.
const REMEMBERED: usize = 4_096;
/// Alarms that are kept.
const ALARMS: usize = 256;

/// A recorded row.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// Row number and request time.
    pub clock: Clock,
    /// The champion that was asked.
    pub version: VersionNo,
    /// Named features as JSON; `None` where the row had tensors, or was erased.
    pub inputs: Option<&'a str>,
    /// What the champion made of it.
    pub outcome: &'a Outcome,
}

/// An alarm that was raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The feature, or the output.
    pub feature: String,
    /// Whether it is an output.
    pub is_output: bool,
    /// The version that was compared with its baseline.
    pub version: VersionNo,
    /// Where and what.
    #[serde(flatten)]
    pub raised: Raised,
}

/// Rows of a pane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pane {
    pub(super) since: Clock,
    pub(super) rows: u64,
    pub(super) repeated: u64,
    /// What the scores let one expect.
    pub(super) expected: Expected,
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fold {
    /// The version that rows are compared for.
    pub version: Option<VersionNo>,
    /// Its baseline, without the features, which are below.
    pub baseline: Baseline,
    /// The features, in the order in which they were seen.
    pub features: Vec<Feature>,
    /// Score and label.
    pub outputs: Vec<Feature>,
    /// The bar of every stream, as a logarithm.
    pub log_bar: f64,
    blocks: Blocks,
    /// Alarms, oldest first.
    pub alarms: VecDeque<Alarm>,
    /// Rows by hour of the week.
    pub volume: Volume,
    /// The last row.
    pub last: Clock,
    /// Rows that were folded.
    pub rows: u64,
    /// Rows that were passed over because too many waited.
    pub skipped: u64,
    /// Names beyond [`FEATURES`].
    pub unwatched: u64,
    #[serde(skip)]
    index: HashMap<Box<str>, usize>,
    #[serde(skip)]
    pub(super) panes: VecDeque<Pane>,
    #[serde(skip)]
    hashes: Vec<u64>,
    #[serde(skip)]
    marks: Vec<u64>,
    #[serde(skip)]
    turn: u64,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            version: None,
            baseline: Baseline::to_learn(1, Vec::new()),
            features: Vec::new(),
            outputs: Vec::new(),
            log_bar: f64::INFINITY,
            blocks: Blocks::default(),
            alarms: VecDeque::new(),
            volume: Volume::default(),
            last: Clock::default(),
            rows: 0,
            skipped: 0,
            unwatched: 0,
            index: HashMap::new(),
            panes: VecDeque::new(),
            hashes: Vec::new(),
            marks: Vec::new(),
            turn: 0,
        }
    }
}

impl Fold {
    /// From here on rows are compared for this version. Alarms of the one before stay in the list.
    pub fn begin(&mut self, version: VersionNo, mut baseline: Baseline, settings: &MonitorConfig) {
        let features = std::mem::take(&mut baseline.features);
        self.version = Some(version);
        self.baseline = baseline;
        self.blocks = Blocks::default();
        let panes = self.panes.len().max(1);
        let feature = |known: Known| {
            let name = known.name.clone();
            Feature::new(known, &name, panes)
        };
        // Recent values go on; what they are compared with is another.
        let mut old: HashMap<String, Feature> = self
            .features
            .drain(..)
            .map(|feature| (feature.known.name.clone(), feature))
            .collect();
        let mut next: Vec<Feature> = features
            .into_iter()
            .take(FEATURES)
            .map(|known| {
                let before = old.remove(&known.name);
                let mut feature = feature(known);
                if let Some(before) = before {
                    feature.keep_recent(before);
                }
                feature
            })
            .collect();
        let mut rest: Vec<Feature> = old.into_values().collect();
        rest.sort_by(|a, b| a.known.name.cmp(&b.known.name));
        for before in rest.into_iter().take(FEATURES.saturating_sub(next.len())) {
            let mut feature = feature(Known::new(&before.known.name));
            feature.keep_recent(before);
            if self.baseline.is_settled() {
                feature.known.settle();
            }
            next.push(feature);
        }
        self.features = next;
        for name in ["score", "label"] {
            let mut output = Feature::new(Known::new(name), &format!("output {name}"), panes);
            if let Some(at) = self.outputs.iter().position(|output| output.known.name == name) {
                output.keep_recent(self.outputs.remove(at));
            }
            self.outputs.push(output);
        }
        self.reindex();
        self.set_bar(settings);
    }

    fn reindex(&mut self) {
        let names = self.features.iter().map(|feature| feature.known.name.as_str().into());
        self.index = names.zip(0..).collect();
        self.marks.resize(self.features.len(), 0);
    }

    /// All streams share the rate: those of the baseline's features, and of the outputs.
    fn set_bar(&mut self, settings: &MonitorConfig) {
        self.log_bar = log_bar(self.features.len() + self.outputs.len(), settings.alpha);
    }

    /// After it was read back: recent windows are empty and fill as rows are folded again.
    pub fn wake(&mut self) {
        self.reindex();
        self.panes.clear();
        let all = self.features.iter_mut().chain(&mut self.outputs);
        all.for_each(Feature::clear);
    }

    /// Takes a row in; gives the alarms that it raises. A row that is not after the last one fills the windows only.
    pub fn row(&mut self, row: &Row<'_>, settings: &MonitorConfig, threshold: f64) -> Vec<Alarm> {
        let is_repeated = row.clock.row <= self.last.row;
        self.turn_pane(row.clock, settings.window);
        let raised = if is_repeated {
            Vec::new()
        } else {
            self.close_block(row.clock, settings)
        };
        let is_learning = !self.baseline.is_settled();
        let is_same = self.is_same(row.inputs);
        if let Some(pane) = self.panes.back_mut() {
            pane.rows += 1;
            pane.repeated += u64::from(is_same);
        }
        if let Some(inputs) = row.inputs {
            self.inputs(inputs, is_learning, is_repeated);
        }
        self.outputs(row.outcome, threshold, is_repeated);
        if !is_repeated {
            self.rows += 1;
            self.last = row.clock;
            self.volume.row(row.clock.time_ms);
            if is_learning {
                self.learn(settings);
            }
        }
        raised
    }

    fn inputs(&mut self, inputs: &str, is_learning: bool, is_repeated: bool) {
        self.turn += 1;
        let turn = self.turn;
        let mut new: Vec<(String, Cell<'_>)> = Vec::new();
        let (index, features, marks) = (&self.index, &mut self.features, &mut self.marks);
        each_feature(inputs, |name, cell| {
            let Some(at) = index.get(name) else {
                // At most as many as a request may carry.
                return new.push((name.to_owned(), cell));
            };
            if let (Some(feature), Some(mark)) = (features.get_mut(*at), marks.get_mut(*at))
                && *mark != turn
            {
                *mark = turn;
                feature.add(cell.value(), is_learning, is_repeated);
            }
        });
        for (name, cell) in new {
            self.meet(&name, &cell, is_repeated);
        }
        for (feature, mark) in self.features.iter_mut().zip(&self.marks) {
            if *mark != turn {
                feature.add(Value::Missing, is_learning, is_repeated);
            }
        }
    }

    /// A name that no row had before.
    fn meet(&mut self, name: &str, cell: &Cell<'_>, is_repeated: bool) {
        if self.features.len() >= FEATURES {
            self.unwatched = self.unwatched.saturating_add(1);
            return;
        }
        let is_learning = !self.baseline.is_settled();
        let mut feature = Feature::new(Known::new(name), name, self.panes.len().max(1));
        if is_learning {
            // The rows before it had none.
            feature.known.profile.rows = self.baseline.rows;
            feature.known.profile.missing = self.baseline.rows;
        } else {
            feature.known.settle();
        }
        feature.add(cell.value(), is_learning, is_repeated);
        self.index.insert(name.into(), self.features.len());
        self.marks.push(self.turn);
        self.features.push(feature);
    }

    fn outputs(&mut self, outcome: &Outcome, threshold: f64, is_repeated: bool) {
        let (score, label) = match outcome {
            Outcome::Scored(score) => (
                certainty(score),
                label_of(score, threshold).map(|label| label.to_string()),
            ),
            Outcome::Failed | Outcome::Uncovered | Outcome::Unread | Outcome::Shed(_) => (None, None),
        };
        let is_value = matches!(outcome, Outcome::Scored(Score::Value(_)));
        if let (Outcome::Scored(Score::Binary(score)), Some(pane)) = (outcome, self.panes.back_mut()) {
            pane.expected.add(*score, threshold);
        }
        let settled = self.baseline.is_settled();
        for output in &mut self.outputs {
            let value = match output.known.name.as_str() {
                "score" => score.map_or(Value::Missing, Value::Number),
                // A value is no label.
                _ if is_value => continue,
                _ => label.as_deref().map_or(Value::Missing, Value::Text),
            };
            // A file says nothing of scores: they are learned in service.
            let is_learning = output.known.sample.is_some();
            output.add(value, is_learning, is_repeated);
            if settled && is_learning && !is_repeated && output.known.profile.rows >= SCORES {
                output.known.settle();
            }
        }
    }

    fn learn(&mut self, settings: &MonitorConfig) {
        self.baseline.rows += 1;
        if self.baseline.rows < self.baseline.wanted {
            return;
        }
        self.baseline.wanted = 0;
        let all = self.features.iter_mut().chain(&mut self.outputs);
        all.for_each(|feature| feature.known.settle());
        self.blocks = Blocks::default();
        self.set_bar(settings);
    }

    /// The baseline with its features, to be kept; `None` while it is being learned.
    #[must_use]
    pub fn learned(&self) -> Option<Baseline> {
        self.baseline.is_settled().then(|| Baseline {
            features: self.features.iter().map(|feature| feature.known.clone()).collect(),
            ..self.baseline.clone()
        })
    }

    /// Panes lie where the clock says, not where the fold began: after a restart they are the same.
    fn turn_pane(&mut self, clock: Clock, window: Span) {
        let panes = PANES as u64;
        let pane = |clock: Clock| match window {
            Span::Rows(rows) => i64::try_from(clock.row.saturating_sub(1) / (rows / panes).max(1)).unwrap_or(i64::MAX),
            Span::Time(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / panes;
                clock.time_ms.div_euclid(i64::try_from(ms).unwrap_or(i64::MAX).max(1))
            }
        };
        let is_over = self.panes.back().is_none_or(|open| pane(clock) > pane(open.since));
        if !is_over {
            return;
        }
        if !self.panes.is_empty() {
            let all = self.features.iter_mut().chain(&mut self.outputs);
            all.for_each(Feature::turn);
        }
        if self.panes.len() >= PANES * 2 {
            self.panes.pop_front();
        }
        self.panes.push_back(Pane {
            since: clock,
            ..Pane::default()
        });
    }

    fn close_block(&mut self, clock: Clock, settings: &MonitorConfig) -> Vec<Alarm> {
        if !self.baseline.is_settled() {
            return Vec::new();
        }
        let Some((at, is_whole)) = self.blocks.row(clock, settings.cycle) else {
            return Vec::new();
        };
        let (bar, version) = (self.log_bar, self.version.unwrap_or(VersionNo(0)));
        let mut raised = Vec::new();
        let inputs = self.features.iter_mut().map(|feature| (feature, false));
        for (feature, is_output) in inputs.chain(self.outputs.iter_mut().map(|output| (output, true))) {
            // What had no values then is compared with nothing, and has no part in the rate.
            let counts = is_whole && feature.known.scale.is_some();
            if let Some(found) = feature.close(counts, bar, at) {
                raised.push(Alarm {
                    feature: feature.known.name.clone(),
                    is_output,
                    version,
                    raised: found,
                });
            }
        }
        for alarm in &raised {
            if self.alarms.len() >= ALARMS {
                self.alarms.pop_front();
            }
            self.alarms.push_back(alarm.clone());
        }
        raised
    }

    /// Whether the same inputs came a short while ago; those of different rows that share a place are forgotten.
    fn is_same(&mut self, inputs: Option<&str>) -> bool {
        let Some(inputs) = inputs else { return false };
        let hash = SipHasher13::new().hash(inputs.as_bytes());
        self.hashes.resize(REMEMBERED, 0);
        let at = usize::try_from(hash % REMEMBERED as u64).unwrap_or(0);
        self.hashes
            .get_mut(at)
            .is_some_and(|known| std::mem::replace(known, hash) == hash)
    }

    /// The panes of the recent window, oldest first.
    pub(super) fn recent_panes(&self) -> Vec<Pane> {
        let from = self.panes.len().saturating_sub(PANES);
        self.panes.iter().skip(from).copied().collect()
    }

    /// Bytes that all of it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let all = self.features.iter().chain(&self.outputs);
        all.map(Feature::bytes).sum::<usize>() + self.hashes.len() * size_of::<u64>()
    }

    /// Whether the baseline was learned in service.
    #[must_use]
    pub fn is_of_first_rows(&self) -> bool {
        self.baseline.source == Source::FirstRows
    }
}

/// Rows from which the scores of a version with a file are learned.
const SCORES: u64 = 2_000;

/// What is watched of a score: the probability of the positive class, the value, or the largest probability.
pub(crate) fn certainty(score: &Score) -> Option<f64> {
    match score {
        Score::Binary(x) | Score::Value(x) => Some(*x),
        Score::Classes(all) => all.iter().copied().reduce(f64::max),
    }
}
