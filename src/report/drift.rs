//! A stretch of rows against the baseline, in a window that slides along it: nobody keeps the distances of the past, so they
//! are made of the recorded rows whenever they are asked for.
//!
//! A window is four panes, as the monitor's is, and as long as that where the stretch is long enough: shorter ones would
//! cut a day in pieces, which are never like the whole.
//!
//! Always holds: at most [`MOST_READ`] rows are read (of more, those whose numbers a fixed hash picks, the same each time), in
//! at most [`PARTS`] panes of as many rows each; a few profiles per feature are held, whatever comes.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{ReportError, Stretch};
use crate::history::History;
use crate::judge::loss::label_of;
use crate::ledger::{FollowedRow, Writer};
use crate::monitor::beside::Compared;
use crate::monitor::feature::{Known, PANES};
use crate::monitor::fold::{FEATURES, certainty};
use crate::monitor::quality::apart;
use crate::monitor::row::each_feature;
use crate::monitor::sketch::{Profile, Value};
use crate::score::{Outcome, Score};
use crate::span::Span;
use crate::time::rfc3339;

/// Rows that are read at most.
const MOST_READ: u64 = 100_000;
/// Panes of a stretch at most, and of one that is no longer than a few windows.
const PARTS: u64 = 48;
const FEW: u64 = 16;
/// Rows of a pane at least: with fewer, distances are chance.
const LEAST: u64 = 100;
/// Features whose distances over time are kept.
const MOST: usize = 24;

/// Rows that are compared together: a window. The next one shares most of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// First row.
    pub first_row: u64,
    /// Last row.
    pub last_row: u64,
    /// Time of the first row that was read.
    pub from: String,
    /// Rows that were read.
    pub rows: u64,
}

/// The distance of a feature from its baseline, window by window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Whether it is an output.
    pub is_output: bool,
    /// Population Stability Index of each window; `None` where there is nothing to compare.
    pub psi: Vec<Option<f64>>,
    /// Mean of its numbers.
    pub mean: Vec<Option<f64>>,
    /// Share of missing values.
    pub missing: Vec<f64>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Rows that were read.
    pub read: u64,
    /// Of how many rows one was read, about.
    pub of: f64,
    /// The windows.
    pub buckets: Vec<Bucket>,
    /// Features by their largest distance.
    pub features: Vec<Series>,
    /// Features whose distances are not shown.
    pub left_out: usize,
    /// From where on a distribution counts as shifted, by the settings.
    pub limit: f64,
}

/// A feature on the way.
struct Followed<'a> {
    name: String,
    is_output: bool,
    known: Option<&'a Known>,
    open: Profile,
    /// The panes of the window that are over.
    panes: VecDeque<Profile>,
    all: Profile,
    series: Series,
}

struct Walk<'a> {
    compared: &'a Compared,
    features: Vec<Followed<'a>>,
    index: HashMap<String, usize>,
    /// Places of score and label.
    outputs: [Option<usize>; 2],
    /// The panes of the window, the open one last.
    panes: VecDeque<Bucket>,
    buckets: Vec<Bucket>,
    size: u64,
    read: u64,
}

type Profiles = Vec<(String, bool, Profile)>;

/// Reads the stretch: distances over time, and the values of all of it by name.
///
/// # Errors
/// What the ledger says.
pub(super) fn follow(
    reader: &Writer<'_>,
    history: &History<'_>,
    stretch: &Stretch,
    compared: &Compared,
) -> Result<(Drift, Profiles), ReportError> {
    let mut walk = Walk {
        compared,
        features: Vec::new(),
        index: HashMap::new(),
        outputs: [None; 2],
        panes: VecDeque::new(),
        buckets: Vec::new(),
        size: pane_rows(stretch, history.config.monitor.window),
        read: 0,
    };
    for known in &compared.inputs {
        walk.meet(&known.name, false);
    }
    walk.outputs = ["score", "label"].map(|name| walk.meet(name, true));
    let share = MOST_READ as f64 / stretch.rows as f64;
    let threshold = history.config.threshold;
    reader.chosen(
        history.model.no,
        (stretch.first_row, stretch.last_row),
        |row| share >= 1.0 || chance(row) < share,
        |row| walk.row(row, stretch.first_row, threshold),
    )?;
    walk.close();
    if walk.buckets.is_empty() {
        walk.window();
    }
    let read = walk.read;
    let (mut series, mut profiles) = (Vec::new(), Vec::new());
    let buckets = walk.buckets;
    for followed in walk.features {
        series.push(followed.series);
        profiles.push((followed.name, followed.is_output, followed.all));
    }
    series.retain(|series| series.psi.iter().any(Option::is_some));
    let largest = |series: &Series| series.psi.iter().flatten().copied().fold(0.0, f64::max);
    series.sort_by(|a, b| largest(b).total_cmp(&largest(a)).then_with(|| a.name.cmp(&b.name)));
    let left_out = series.len().saturating_sub(MOST);
    series.truncate(MOST);
    let drift = Drift {
        read,
        of: stretch.rows as f64 / read.max(1) as f64,
        buckets,
        features: series,
        left_out,
        limit: history.config.monitor.limits.shift,
    };
    Ok((drift, profiles))
}

/// Rows of a pane.
fn pane_rows(stretch: &Stretch, window: Span) -> u64 {
    let panes = PANES as u64;
    let of_window = match window {
        Span::Rows(rows) => rows / panes,
        Span::Time(time) => {
            let share = time.as_millis() as f64 / stretch.lasted_ms.max(1) as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and is bounded below"
            )]
            let rows = (share * stretch.rows as f64 / panes as f64) as u64;
            rows
        }
    };
    of_window
        .min(stretch.rows / FEW)
        .max(stretch.rows.div_ceil(PARTS))
        .max(LEAST)
}

/// A number in [0, 1) for a row: SplitMix64 (Steele, Lea and Flood 2014).
fn chance(row: u64) -> f64 {
    super::sample::mixed(row) as f64 / (u64::MAX as f64 + 1.0)
}

impl Walk<'_> {
    fn meet(&mut self, name: &str, is_output: bool) -> Option<usize> {
        if self.features.len() >= FEATURES + 2 {
            return None;
        }
        let known = if is_output {
            &self.compared.outputs
        } else {
            &self.compared.inputs
        };
        // Nothing is compared with what is still being learned.
        let is_there = |known: &&Known| known.name == name && known.sample.is_none();
        let (at, closed) = (self.features.len(), self.buckets.len());
        self.features.push(Followed {
            name: name.to_owned(),
            is_output,
            known: known.iter().find(is_there),
            open: Profile::default(),
            panes: VecDeque::new(),
            all: Profile::default(),
            series: Series {
                name: name.to_owned(),
                is_output,
                psi: vec![None; closed],
                mean: vec![None; closed],
                missing: vec![1.0; closed],
            },
        });
        if !is_output {
            self.index.insert(name.to_owned(), at);
        }
        Some(at)
    }

    fn add(&mut self, at: Option<usize>, value: Value<'_>) {
        if let Some(followed) = at.and_then(|at| self.features.get_mut(at)) {
            followed.open.add(value);
        }
    }

    fn row(&mut self, row: &FollowedRow, first: u64, threshold: f64) {
        let number = row.clock.row - first.min(row.clock.row);
        let begins = first + number / self.size * self.size;
        if self.panes.back().is_none_or(|open| open.first_row < begins) {
            self.close();
            self.panes.push_back(Bucket {
                first_row: begins,
                last_row: begins,
                from: rfc3339(row.clock.time_ms),
                rows: 0,
            });
        }
        self.read += 1;
        if let Some(open) = self.panes.back_mut() {
            open.rows += 1;
            open.last_row = row.clock.row;
        }
        if let Some(inputs) = &row.inputs {
            each_feature(inputs, |name, cell| {
                let at = self.index.get(name).copied().or_else(|| self.meet(name, false));
                self.add(at, cell.value());
            });
        }
        if let Outcome::Scored(score) = &row.outcome {
            let [of_scores, of_labels] = self.outputs;
            self.add(of_scores, certainty(score).map_or(Value::Missing, Value::Number));
            let label = label_of(score, threshold).map(|label| label.to_string());
            // A value is no label.
            if !matches!(score, Score::Value(_)) {
                self.add(of_labels, label.as_deref().map_or(Value::Missing, Value::Text));
            }
        }
    }

    /// The open pane is over.
    fn close(&mut self) {
        let Some(rows) = self.panes.back().map(|open| open.rows) else {
            return;
        };
        for followed in &mut self.features {
            let mut pane = std::mem::take(&mut followed.open);
            // A row without it has none.
            pane.missing += rows.saturating_sub(pane.rows);
            pane.rows = pane.rows.max(rows);
            followed.all.merge(&pane);
            followed.panes.push_back(pane);
            while followed.panes.len() > PANES {
                followed.panes.pop_front();
            }
        }
        while self.panes.len() > PANES {
            self.panes.pop_front();
        }
        if self.panes.len() == PANES {
            self.window();
        }
    }

    /// The panes that are held are compared.
    fn window(&mut self) {
        let (Some(first), Some(last)) = (self.panes.front(), self.panes.back()) else {
            return;
        };
        let rows = self.panes.iter().map(|pane| pane.rows).sum();
        self.buckets.push(Bucket {
            first_row: first.first_row,
            last_row: last.last_row,
            from: first.from.clone(),
            rows,
        });
        for followed in &mut self.features {
            let mut window = Profile::default();
            followed.panes.iter().for_each(|pane| window.merge(pane));
            // It came later than the window begins.
            window.missing += rows.saturating_sub(window.rows);
            window.rows = window.rows.max(rows);
            let distance = followed.known.and_then(|known| apart(&known.profile, &window).psi);
            let mean = window.numbers.as_ref().and_then(|numbers| numbers.moments());
            followed.series.psi.push(distance.filter(|psi| psi.is_finite()));
            followed
                .series
                .mean
                .push(mean.map(|(mean, _)| mean).filter(|mean| mean.is_finite()));
            followed
                .series
                .missing
                .push(window.missing as f64 / window.rows.max(1) as f64);
        }
    }
}
