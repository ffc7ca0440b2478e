//! Running a request's rows on one session and reading what came back.
//!
//! Always holds: a guilty row costs only itself: where a run of several fails, they are run one by one; the rows of a request share a run where the version is batched.

use std::time::{Duration, Instant};

use super::outputs::Outputs;
use super::{Begun, RowAnswer};
use crate::batch::Batch;
use crate::champion::boxed::Resume;
use crate::champion::{VersionInfo, Which};
use crate::error::{Error, Kind};
use crate::model::session::{RunError, Session};
use crate::model::tensor::Tensor;
use crate::score::{Outcome, Score};

/// What runs a version: a session, or a test's stand-in for one.
pub(in crate::champion) trait Run {
    /// Computes `outputs` from the version's inputs, which are of so many rows.
    ///
    /// # Errors
    /// The runtime's own words.
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize], rows: usize) -> Result<Vec<Tensor>, RunError>;

    /// The next runs are one request's, which waits until then for a process to run in; of the first one this was begun
    /// already.
    fn begin(&mut self, _until: Option<Instant>, _resume: Option<Box<Resume>>) {}

    /// True when a run of what began last ended the process that it was in.
    fn ended_one(&self) -> bool {
        false
    }

    /// True while it refuses some rows.
    fn is_wary(&self) -> bool {
        false
    }

    /// True for the inputs of one row that it does not run.
    fn refuses(&self, _row: &[Tensor]) -> bool {
        false
    }
}

impl Run for Session {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize], _rows: usize) -> Result<Vec<Tensor>, RunError> {
        Session::run(self, inputs, outputs)
    }
}

/// Why a version has no answer for a row.
#[derive(Debug, Clone)]
pub(in crate::champion) enum Fault {
    /// The row lacks this feature.
    Uncovered(String),
    /// The version failed on the row.
    Failed(String),
    /// It failed on the same row before, so badly that it is not run again.
    Refused,
}

impl Fault {
    pub(in crate::champion) fn into_error(self, row: Option<usize>) -> Error {
        let at = row.map(|k| format!("row {k}: ")).unwrap_or_default();
        match self {
            Self::Uncovered(feature) => Error::new(
                Kind::MissingFeature,
                format!("{at}feature '{feature}' is missing: send it, or null where model.toml says missing = \"nan\""),
            ),
            Self::Failed(why) => Error::new(Kind::NoAnswer, format!("{at}no version can answer this row: {why}")),
            Self::Refused => Error::new(
                Kind::NoAnswer,
                format!(
                    "{at}no version can answer this row: it ended two processes that ran it, and is not run again for \
                     a while; send other values"
                ),
            ),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Uncovered(_) => Outcome::Uncovered,
            Self::Failed(_) | Self::Refused => Outcome::Failed,
        }
    }
}

/// One result per row.
pub(super) type Rows = Vec<Result<RowAnswer, Fault>>;

/// True when the rows of the batch may share a run, with those of other requests too.
pub(in crate::champion) fn may_share(info: &VersionInfo, batch: &Batch) -> bool {
    info.batched && info.layout.covers(batch)
}

/// Answers these rows of the batch: all of them in one run where the version is batched and no row stands in the way.
pub(in crate::champion) fn answer(
    info: &VersionInfo,
    run: &mut impl Run,
    batch: &Batch,
    which: &Which,
    outputs: &Outputs,
) -> Begun {
    let rows = batch.rows();
    let mut compute = Duration::ZERO;
    match which {
        Which::These(some) => return apart(info, run, batch, some.iter().copied(), outputs),
        Which::All if may_share(info, batch) && (rows == 1 || !refuses_any(info, run, batch, rows)) => {
            let mut begun = match together(info, run, batch, (0, rows), outputs, &mut compute) {
                Ok(results) => split(info, results, rows, outputs),
                Err(fault) => Begun::failed(&fault, rows),
            };
            begun.compute = compute;
            if rows == 1 || begun.missing() == 0 {
                return begun;
            }
        }
        Which::All => {}
    }
    let mut begun = apart(info, run, batch, 0..rows, outputs);
    begun.compute += compute;
    begun
}

/// True when one of the first `rows` rows would not be run, for the sake of which no run may be shared.
pub(in crate::champion) fn refuses_any(info: &VersionInfo, run: &impl Run, batch: &Batch, rows: usize) -> bool {
    let refuses = |row: usize| {
        let feeds = info.layout.feeds(&[(batch, row..row + 1)]);
        feeds.is_ok_and(|feeds| run.refuses(&feeds))
    };
    run.is_wary() && (0..rows).any(refuses)
}

/// Answers some rows of the batch one by one; what is given has a result for each of them, in their order.
fn apart(
    info: &VersionInfo,
    run: &mut impl Run,
    batch: &Batch,
    rows: impl Iterator<Item = usize>,
    outputs: &Outputs,
) -> Begun {
    let mut begun = Begun::default();
    for row in rows {
        let answered = match info.layout.uncovered(batch, row) {
            Some(feature) => Err(Fault::Uncovered(feature.to_owned())),
            None => together(info, run, batch, (row, row + 1), outputs, &mut begun.compute).and_then(|results| {
                let answer = read(info, &results, 1, outputs).pop();
                let answer = answer.unwrap_or_else(|| Err(Fault::Failed("no output".into())))?;
                begun.raw.take(row, 1, results, outputs);
                Ok(answer)
            }),
        };
        begun.rows.push(answered);
    }
    begun
}

/// What one run gave for all `rows` rows of a request.
pub(in crate::champion) fn split(info: &VersionInfo, results: Vec<Tensor>, rows: usize, outputs: &Outputs) -> Begun {
    let mut begun = Begun {
        rows: read(info, &results, rows, outputs),
        ..Begun::default()
    };
    if begun.missing() == 0 {
        begun.raw.take(0, rows, results, outputs);
    }
    begun
}

/// One run over covered rows `from..to`; its time is added to `compute`.
fn together(
    info: &VersionInfo,
    run: &mut impl Run,
    batch: &Batch,
    (from, to): (usize, usize),
    outputs: &Outputs,
    compute: &mut Duration,
) -> Result<Vec<Tensor>, Fault> {
    let feeds = info.layout.feeds(&[(batch, from..to)]).map_err(Fault::Failed)?;
    if to - from == 1 && run.is_wary() && run.refuses(&feeds) {
        return Err(Fault::Refused);
    }
    let start = Instant::now();
    let results = run.run(&feeds, &outputs.run, to - from);
    let took = start.elapsed();
    *compute += took;
    let results = results.map_err(|error| Fault::Failed(error.0))?;
    info.counters.ran(to - from, took);
    Ok(results)
}

/// Scores and labels of `rows` rows from one run's results.
fn read(info: &VersionInfo, results: &[Tensor], rows: usize, outputs: &Outputs) -> Rows {
    let head = &info.head;
    let answer = |score: Option<Score>| RowAnswer {
        label: score.as_ref().map(|score| head.label(score)),
        outcome: score.clone().map_or(Outcome::Unread, Outcome::Scored),
        score,
        fallback: None,
    };
    if head.task.is_none() {
        return (0..rows).map(|_| Ok(answer(None))).collect();
    }
    let scores = head.read(results.get(..outputs.head).unwrap_or_default(), rows);
    let answered = scores.into_iter();
    answered
        .map(|score| score.map(|score| answer(Some(score))).map_err(Fault::Failed))
        .collect()
}
