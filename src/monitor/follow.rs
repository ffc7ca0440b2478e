//! The monitor's thread: follows the record of every model and publishes what it makes of it.
//!
//! It reads the ledger over a connection of its own, a few rows at a time, and gives way to every other thread; so the
//! request's path and the recorder know nothing of it. Why not a tap on the recorder: a reader can be slow, fail and be
//! started again without losing a row, and what it has seen is exactly what a replay sees.
//!
//! Always holds: a row is folded once; when more wait than can be caught up with, the oldest are passed over and counted;
//! a fault of one model is said and the others go on. Leaves to others: writing the ledger (the recorder does it, for
//! baselines and alarms, which are rare).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::alarm::Raised;
use super::baseline::{Baseline, Column, Source, file_of};
use super::fold::{Alarm, Fold, Row};
use super::freeze::Freeze;
use super::keep;
use super::outcomes::{LabelledRow, Outcomes, Terms};
use super::view::{Labels, Published, publish};
use crate::config::{MonitorConfig, ServerConfig};
use crate::control::{self, Models, policy};
use crate::decode::Form;
use crate::judge::loss::Metric;
use crate::ledger::{AlarmRow, FollowedRow, Ledger, LedgerError, Position, Report};
use crate::model::tensor::Datatype;
use crate::priority::offer_turn;
use crate::recorder::Recorder;
use crate::recorder::groups::Groups;
use crate::score::{ModelNo, VersionNo};
use crate::served::Served;
use crate::span::Span;
use crate::time::now_ms;

/// Rows that are read at a time.
const BATCH: u32 = 500;
/// Between two looks while nothing waits.
const PERIOD: Duration = Duration::from_millis(200);
/// Between two publications.
const PUBLISH: Duration = Duration::from_millis(500);
/// Between two writings of what was folded.
const KEEP: Duration = Duration::from_secs(10);
/// Rows that may wait.
const MOST_WAITING: u64 = 200_000;
/// Rows that are folded when too many wait, or on a ledger that was not watched before.
const CAUGHT_UP: u64 = 100_000;
/// Rows of a window of time that are read again at a start.
const REREAD: u64 = 20_000;

/// What losses are shown by: what needs more than a row's score and its label, by the error of the probabilities.
pub(super) fn shown_by(metric: Metric) -> Metric {
    match metric {
        Metric::Auc | Metric::Rewards { .. } => Metric::Brier,
        // Estimated by the judge alone: here errors of values count as they are.
        Metric::SquaredError { bound } if bound <= 0.0 => Metric::SquaredError { bound: f64::INFINITY },
        Metric::AbsoluteError { bound } if bound <= 0.0 => Metric::AbsoluteError { bound: f64::INFINITY },
        Metric::Pinball { quantile, bound } if bound <= 0.0 => Metric::Pinball {
            quantile,
            bound: f64::INFINITY,
        },
        metric => metric,
    }
}

/// What is published, by model.
pub type Board = Arc<ArcSwap<BTreeMap<ModelNo, Arc<Published>>>>;

/// What the thread works with.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub config: Arc<ServerConfig>,
    /// The models.
    pub models: Models,
    /// Writes baselines and alarms.
    pub recorder: Recorder,
    /// Where it is published.
    pub board: Board,
    /// The way to control, which holds promotions.
    pub acts: Sender<control::Request>,
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    alive: Option<Sender<()>>,
    join: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (alive, ended) = bounded(0);
        let work = move || {
            crate::priority::give_way_to_all();
            Follower::new(parts).run(&ended);
        };
        let join = std::thread::Builder::new().name("monitor".into()).spawn(work)?;
        Ok(Self {
            alive: Some(alive),
            join: Some(join),
        })
    }

    /// Keeps what was folded, and ends.
    pub fn stop(&mut self) {
        self.alive = None;
        if let Some(join) = self.join.take()
            && join.join().is_err()
        {
            tracing::error!("the monitor ended by a panic");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One followed model.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) fold: Fold,
    pub(super) outcomes: Outcomes,
    pub(super) groups: Groups,
    freeze: Freeze,
    /// It was folded further since it was kept.
    is_newer: bool,
    kept: Instant,
    published: Option<Instant>,
    /// Its window is to be read again.
    is_waking: bool,
    /// What could not be written yet.
    alarms: Vec<Alarm>,
    baseline: Option<(VersionNo, String)>,
}

#[derive(Debug)]
struct Follower {
    parts: Parts,
    folder: PathBuf,
    ledger: Option<Ledger>,
    models: HashMap<ModelNo, Followed>,
    /// A fault that was said already.
    said: Option<String>,
}

/// Why a model could not be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Follower {
    fn new(parts: Parts) -> Self {
        Self {
            folder: parts.config.state.join("monitor"),
            parts,
            ledger: None,
            models: HashMap::new(),
            said: None,
        }
    }

    fn run(&mut self, ended: &Receiver<()>) {
        loop {
            let has_more = self.step().unwrap_or_else(|error| {
                // The connection may be what is wrong.
                self.ledger = None;
                let text = error.to_string();
                if self.said.as_ref() != Some(&text) {
                    tracing::warn!("the monitor cannot read the ledger and goes on trying: {text}");
                    self.said = Some(text);
                }
                false
            });
            let pause = if has_more { Duration::ZERO } else { PERIOD };
            if !matches!(ended.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                break;
            }
        }
        let folder = self.folder.clone();
        for (no, followed) in &mut self.models {
            keep_it(&folder, *no, followed);
        }
    }

    /// A look at every model; true when more rows wait.
    fn step(&mut self) -> Result<bool, FollowError> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open_to_follow(&self.parts.config.state)?,
        };
        let models = self.parts.models.load_full();
        let mut has_more = false;
        for served in models.values() {
            has_more |= self.model(&ledger, served)?;
        }
        let gone = |no: &ModelNo| !models.values().any(|served| served.no == *no);
        if self.models.keys().any(gone) {
            self.models.retain(|no, _| !gone(no));
            self.parts.board.rcu(|board| {
                let mut board = BTreeMap::clone(board);
                board.retain(|no, _| !gone(no));
                board
            });
        }
        self.ledger = Some(ledger);
        self.said = None;
        Ok(has_more)
    }

    fn model(&mut self, ledger: &Ledger, served: &Served) -> Result<bool, FollowError> {
        let Some(view) = served.view.load_full() else {
            return Ok(false);
        };
        let settings = &view.config.monitor;
        let no = served.no;
        if !settings.on {
            if let Some(mut followed) = self.models.remove(&no) {
                followed.freeze.follow(&[], &served.name, &self.parts.acts);
                self.parts.board.rcu(|board| {
                    let mut board = BTreeMap::clone(board);
                    board.remove(&no);
                    board
                });
            }
            return Ok(false);
        }
        let columns = columns(&view.reading.form);
        let directory = self.parts.config.models.join(&served.name);
        let last = ledger.reader().last_row(no)?;
        if !self.models.contains_key(&no) {
            self.models.insert(no, wake(&self.folder, no, last));
        }
        let Some(followed) = self.models.get_mut(&no) else {
            return Ok(false);
        };
        let source = Files {
            ledger,
            of: (no, &served.name),
            directory: Some(&directory),
            columns: &columns,
            served: Some(served),
            learns_again: false,
        };
        if followed.is_waking {
            followed.is_waking = false;
            reread(followed, ledger, no, settings, view.config.threshold)?;
        }
        let mut has_more = follow(followed, &source, settings, view.config.threshold, last)?;
        let rules = policy::policy(&view.config, view.head.task);
        followed.groups.follow_groups(&rules.groups);
        let metric = shown_by(rules.metric);
        let terms = Terms {
            metric: &metric,
            threshold: view.config.threshold,
            window: settings.window,
            alpha: settings.alpha,
            decay: settings.decay,
            by: &settings.by,
        };
        has_more |= follow_labels(followed, &source, &terms)?;
        source.look_for_file(followed, settings);
        self.write(no);
        let Some(followed) = self.models.get_mut(&no) else {
            return Ok(false);
        };
        if followed.is_newer && followed.kept.elapsed() >= KEEP {
            keep_it(&self.folder, no, followed);
        }
        let is_due = followed.published.is_none_or(|at| at.elapsed() >= PUBLISH);
        if is_due && (!has_more || followed.published.is_none_or(|at| at.elapsed() >= PUBLISH * 4)) {
            let lag = last.saturating_sub(followed.fold.last.row);
            let name = followed.fold.version.and_then(|version| source.name_of(version));
            followed.fold.volume.tick(now_ms());
            let labels = Labels {
                outcomes: &followed.outcomes,
                terms: &terms,
            };
            let now = now_ms();
            let published = Arc::new(publish(&followed.fold, settings, name.as_deref(), lag, now, labels));
            if published.is_judged {
                followed
                    .freeze
                    .follow(&published.broken, &served.name, &self.parts.acts);
            }
            followed.published = Some(Instant::now());
            self.parts.board.rcu(|board| {
                let mut board = BTreeMap::clone(board);
                board.insert(no, Arc::clone(&published));
                board
            });
        }
        Ok(has_more)
    }

    /// Hands baselines and alarms to the recorder; what it cannot write waits.
    fn write(&mut self, no: ModelNo) {
        let Some(followed) = self.models.get_mut(&no) else {
            return;
        };
        if (followed.alarms.is_empty() && followed.baseline.is_none()) || !self.parts.recorder.is_healthy() {
            return;
        }
        let (alarms, baseline) = (followed.alarms.clone(), followed.baseline.clone());
        let written = self.parts.recorder.call_blocking(move |_, writer| {
            if let Some((version, text)) = &baseline {
                writer.put_baseline(*version, now_ms(), text)?;
            }
            for alarm in &alarms {
                writer.put_alarm(no, &row_of(alarm))?;
            }
            Ok(())
        });
        if written.is_ok() {
            followed.alarms.clear();
            followed.baseline = None;
        }
    }
}

fn row_of(alarm: &Alarm) -> AlarmRow {
    let feature = &alarm.feature;
    AlarmRow {
        clock: alarm.raised.at,
        version: alarm.version,
        feature: if alarm.is_output {
            format!("output {feature}")
        } else {
            feature.clone()
        },
        what: alarm.raised.what.clone(),
        log_wealth: alarm.raised.log_wealth,
    }
}

fn columns(form: &Form) -> Vec<Column> {
    match form {
        Form::Features { schema, .. } => {
            let features = schema.features().iter();
            features
                .map(|f| (f.name.clone(), f.datatype == Datatype::Bytes))
                .collect()
        }
        Form::Tensors { .. } => Vec::new(),
    }
}

/// What was kept of a model, or nothing yet.
pub(super) fn wake(folder: &Path, no: ModelNo, last: u64) -> Followed {
    let kept = keep::load(folder, no).unwrap_or_else(|why| {
        tracing::warn!(
            "what the monitor kept of model number {} cannot be used, it begins anew: {why}",
            no.0
        );
        None
    });
    // A ledger that was put back has fewer rows than were folded.
    let kept = kept.filter(|(fold, _)| fold.last.row <= last);
    let (mut fold, outcomes) = kept.unwrap_or_else(|| {
        let (mut fold, mut outcomes) = (Fold::default(), Outcomes::default());
        fold.last.row = last.saturating_sub(CAUGHT_UP);
        outcomes.last_row = fold.last.row;
        (fold, outcomes)
    });
    fold.wake();
    Followed {
        fold,
        outcomes,
        groups: Groups::default(),
        freeze: Freeze::default(),
        is_newer: false,
        kept: Instant::now(),
        published: None,
        is_waking: true,
        alarms: Vec::new(),
        baseline: None,
    }
}

fn keep_it(folder: &Path, no: ModelNo, followed: &mut Followed) {
    if !followed.is_newer {
        return;
    }
    match keep::save(folder, no, (&followed.fold, &followed.outcomes)) {
        Ok(()) => followed.is_newer = false,
        Err(error) => tracing::warn!(
            "the monitor cannot keep what it has folded: {}: {error}",
            folder.display()
        ),
    }
    followed.kept = Instant::now();
}

/// Fills the recent windows again.
pub(super) fn reread(
    followed: &mut Followed,
    ledger: &Ledger,
    no: ModelNo,
    settings: &MonitorConfig,
    threshold: f64,
) -> Result<(), LedgerError> {
    let back = match settings.window {
        Span::Rows(rows) => rows.saturating_mul(2),
        Span::Time(_) => REREAD,
    };
    let upto = followed.fold.last.row;
    let mut row = upto.saturating_sub(back) + 1;
    loop {
        let rows = ledger
            .reader()
            .followed(Position { model: no, row }, upto, BATCH, false)?;
        let Some(last) = rows.last() else { return Ok(()) };
        row = last.clock.row + 1;
        for row in &rows {
            offer_turn();
            followed.fold.row(&given(row), settings, threshold);
        }
    }
}

fn given(row: &FollowedRow) -> Row<'_> {
    Row {
        clock: row.clock,
        version: row.version,
        inputs: row.inputs.as_deref(),
        outcome: &row.outcome,
    }
}

/// Folds the next rows; true when more wait.
pub(super) fn follow(
    followed: &mut Followed,
    source: &Files<'_>,
    settings: &MonitorConfig,
    threshold: f64,
    last: u64,
) -> Result<bool, FollowError> {
    let fold = &mut followed.fold;
    if last.saturating_sub(fold.last.row) > MOST_WAITING {
        let next = last - CAUGHT_UP;
        fold.skipped += next - fold.last.row;
        fold.last.row = next;
    }
    let from = Position {
        model: source.of.0,
        row: fold.last.row + 1,
    };
    let rows = source.ledger.reader().followed(from, last, BATCH, false)?;
    for row in &rows {
        offer_turn();
        if fold.version != Some(row.version) {
            let baseline = source.baseline(row.version, settings);
            if matches!(baseline.source, Source::File(_)) {
                followed.baseline = stored(row.version, &baseline);
            }
            fold.begin(row.version, baseline, settings);
        }
        let was_settled = fold.baseline.is_settled();
        followed.alarms.extend(fold.row(&given(row), settings, threshold));
        if !was_settled && let Some(learned) = fold.learned() {
            followed.baseline = stored(row.version, &learned);
            // It took long to learn, and others read it: it is kept at once.
            followed.kept = followed.kept.checked_sub(KEEP).unwrap_or(followed.kept);
        }
        followed.is_newer = true;
    }
    if rows.is_empty() && fold.last.row < last {
        // They were erased.
        fold.last.row = last;
    }
    Ok(fold.last.row < last)
}

/// Looks at the next rows that have closed, for their labels; true when more wait.
pub(super) fn follow_labels(
    followed: &mut Followed,
    source: &Files<'_>,
    terms: &Terms<'_>,
) -> Result<bool, FollowError> {
    let reader = source.ledger.reader();
    let no = source.of.0;
    // Never ahead of the features, whose scales are needed.
    let upto = reader.closed_row(no)?.min(followed.fold.last.row);
    let outcomes = &mut followed.outcomes;
    if outcomes.last_row >= upto {
        return Ok(false);
    }
    let from = Position {
        model: no,
        row: outcomes.last_row + 1,
    };
    let rows = reader.followed(from, upto, BATCH, true)?;
    for row in &rows {
        offer_turn();
        if let Some(truth) = row.label {
            let key = match followed.groups.ask_for_keys() {
                true => reader.reported_by(row.id, Report::Label)?,
                false => None,
            };
            let (inputs, context) = (row.inputs.as_deref(), row.context.as_deref());
            let bits = followed.groups.of_row(inputs, context, key.as_deref());
            let labelled = LabelledRow {
                clock: row.clock,
                version: row.version,
                inputs: row.inputs.as_deref(),
                outcome: &row.outcome,
                truth,
                groups: followed.groups.names(bits).collect(),
            };
            if outcomes.row(&labelled, terms, &followed.fold.features) {
                tracing::warn!(model = %source.of.1, row = row.clock.row, "the champion's loss has risen above its level");
                followed.alarms.push(Alarm {
                    feature: "loss".into(),
                    is_output: true,
                    version: row.version,
                    raised: Raised {
                        at: row.clock,
                        what: "decay".into(),
                        log_wealth: -libm::log(terms.alpha),
                    },
                });
            }
        }
        followed.is_newer = true;
    }
    outcomes.last_row = rows.last().map_or(upto, |row| row.clock.row);
    Ok(outcomes.last_row < upto)
}

fn stored(version: VersionNo, baseline: &Baseline) -> Option<(VersionNo, String)> {
    Some((version, serde_json::to_string(baseline).ok()?))
}

/// Where baselines come from.
pub(super) struct Files<'a> {
    pub(super) ledger: &'a Ledger,
    /// The model: number and name.
    pub(super) of: (ModelNo, &'a str),
    /// Where files of baselines lie; `None` where the record is all there is.
    pub(super) directory: Option<&'a Path>,
    pub(super) columns: &'a [Column],
    pub(super) served: Option<&'a Served>,
    /// The record is folded from its first row: a baseline of first rows is learned as it was in service.
    pub(super) learns_again: bool,
}

impl Files<'_> {
    pub(super) fn name_of(&self, version: VersionNo) -> Option<String> {
        let champion = self.served.and_then(|served| served.slot.load());
        let loaded = champion.map(|champion| champion.loaded()).unwrap_or_default();
        let info = loaded.iter().map(|loaded| &loaded.info).find(|info| info.no == version);
        info.map(|info| info.name.clone()).or_else(|| {
            let versions = self.ledger.reader().version_names(self.of.0).ok()?;
            versions.into_iter().find(|v| v.no == version).map(|v| v.name)
        })
    }

    fn file(&self, version: VersionNo) -> Option<PathBuf> {
        let name = self.name_of(version)?;
        file_of(self.directory?, crate::control::file_of(&name))
    }

    /// The baseline of a version: its file's, else the one that was learned before, else one to be learned.
    fn baseline(&self, version: VersionNo, settings: &MonitorConfig) -> Baseline {
        let mut notes = Vec::new();
        if let Some(path) = self.file(version) {
            match Baseline::read(&path, self.columns) {
                Ok(baseline) => return baseline,
                Err(why) => {
                    tracing::warn!(model = %self.of.1, "the baseline is not used: {why}");
                    notes.push(format!("{why}: it is not used"));
                }
            }
        }
        let stored = self.ledger.reader().baseline(version).ok().flatten();
        let stored: Option<Baseline> = stored.and_then(|text| serde_json::from_str(&text).ok());
        // A file that is gone or does not read any more is no reason to forget what it said.
        match stored.filter(|known| !(self.learns_again && known.source == Source::FirstRows)) {
            Some(mut known) => {
                known.notes.extend(notes);
                known
            }
            None => Baseline::to_learn(settings.baseline_rows, notes),
        }
    }

    /// A file that appears beside a version in service is taken from then on.
    fn look_for_file(&self, followed: &mut Followed, settings: &MonitorConfig) {
        let fold = &followed.fold;
        let Some(version) = fold
            .version
            .filter(|_| fold.is_of_first_rows() && fold.baseline.notes.is_empty())
        else {
            return;
        };
        if self.file(version).is_some() {
            let baseline = self.baseline(version, settings);
            followed.baseline = stored(version, &baseline).filter(|_| baseline.is_settled());
            followed.fold.begin(version, baseline, settings);
            followed.is_newer = true;
        }
    }
}
