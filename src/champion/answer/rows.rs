//! Running a request's rows on one session and reading what came back.
//!
//! Always holds: a guilty row costs only itself: where a run of several fails, they are run one by one; the rows of a request share a run where the version is batched.

use std::time::{Duration, Instant};

use super::outputs::Outputs;
use super::{Begun, RowAnswer};
use crate::batch::Batch;
use crate::champion::{VersionInfo, Which};
use crate::error::{Error, Kind};
use crate::model::session::{RunError, Session};
use crate::model::tensor::Tensor;
use crate::score::{Outcome, Score};

/// What runs a version: a session, or a test's stand-in for one.
pub(in crate::champion) trait Run {
    /// Computes `outputs` from the version's inputs.
    ///
    /// # Errors
    /// The runtime's own words.
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError>;
}

impl Run for Session {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
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
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Uncovered(_) => Outcome::Uncovered,
            Self::Failed(_) => Outcome::Failed,
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
        Which::All if may_share(info, batch) => {
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
    let start = Instant::now();
    let results = run.run(&feeds, &outputs.run);
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
