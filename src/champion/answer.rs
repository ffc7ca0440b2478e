//! Answering: the champion, row by row the previous one where the champion cannot, and a clear refusal last.

use std::sync::Arc;

use super::{Champion, Loaded, VersionInfo};
use crate::arena::Challenger;
use crate::batch::Batch;
use crate::decode::Wanted;
use crate::error::{Error, Kind};
use crate::model::head::LabelValue;
use crate::model::tensor::Tensor;
use crate::score::{Outcome, Score};

/// One answered row.
#[derive(Debug)]
pub struct RowAnswer {
    /// The score, where the task is known.
    pub score: Option<Score>,
    /// The label that goes with it.
    pub label: Option<LabelValue>,
    /// The version that answered instead of the champion.
    pub fallback: Option<Arc<Loaded>>,
    /// What the champion made of it (what the ledger records).
    pub outcome: Outcome,
    /// Raw outputs by name, one row each.
    pub outputs: Vec<(String, Tensor)>,
}

/// An answered request.
#[derive(Debug)]
pub struct Answer {
    /// One per row, in order.
    pub rows: Vec<RowAnswer>,
}

/// The champion's own answers, some of which may be missing.
#[derive(Debug)]
pub struct Begun(Vec<Result<RowAnswer, Fault>>);

impl Begun {
    /// Rows that the champion could not answer.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.0.iter().filter(|row| row.is_err()).count()
    }
}

impl Champion {
    /// Answers every row of the batch, or says which one nobody can answer.
    ///
    /// # Errors
    /// 400 where a needed feature is missing and no version can do without, 422 where every version failed.
    pub fn answer(&self, batch: &Batch, wanted: &Wanted) -> Result<Answer, Error> {
        self.finish(self.begin(batch, wanted)?, batch, wanted)
    }

    /// What the champion itself makes of the batch.
    ///
    /// # Errors
    /// It lacks an output that was asked for.
    pub fn begin(&self, batch: &Batch, wanted: &Wanted) -> Result<Begun, Error> {
        let outputs = outputs(&self.version.info, wanted)?;
        Ok(Begun(answer_with(&self.version, batch, &outputs)))
    }

    /// The rows that are still open, by the previous champion.
    ///
    /// # Errors
    /// As [`Champion::answer`].
    pub fn finish(&self, begun: Begun, batch: &Batch, wanted: &Wanted) -> Result<Answer, Error> {
        let Begun(mut rows) = begun;
        if rows.iter().any(Result::is_err) {
            let stand_in = self.previous.as_ref().map(|previous| {
                // It may not have the outputs that were named; it answers all the same.
                let outputs = self::outputs(&previous.info, wanted)
                    .or_else(|_| self::outputs(&previous.info, &Wanted::None))
                    .unwrap_or_default();
                (previous, outputs)
            });
            for (k, row) in rows.iter_mut().enumerate() {
                if let Err(fault) = row {
                    *row = stand_in
                        .as_ref()
                        .ok_or_else(|| fault.clone())
                        .and_then(|(previous, outputs)| fall_back(fault, previous, batch, k, outputs));
                }
            }
        }
        let several = rows.len() > 1;
        let rows = rows
            .into_iter()
            .enumerate()
            .map(|(k, row)| row.map_err(|fault| fault.into_error(several.then_some(k))));
        Ok(Answer {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }
}

impl Loaded {
    /// Answers every row with this version alone: a pinned request.
    ///
    /// # Errors
    /// As [`Champion::answer`].
    pub fn answer(&self, batch: &Batch, wanted: &Wanted) -> Result<Answer, Error> {
        let outputs = outputs(&self.info, wanted)?;
        let several = batch.rows() > 1;
        let rows = answer_with(self, batch, &outputs).into_iter().enumerate();
        let rows = rows.map(|(k, row)| row.map_err(|fault| fault.into_error(several.then_some(k))));
        Ok(Answer {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }
}

/// Answers every row by a challenger's runner, in its foreground lane: a pinned request.
///
/// # Errors
/// As [`Champion::answer`]; 429 when too many wait, 503 when the runner is going.
pub async fn ask_runner(
    info: &Arc<VersionInfo>,
    challenger: &Challenger,
    batch: &Arc<Batch>,
    wanted: &Wanted,
) -> Result<Answer, Error> {
    let outputs = outputs(info, wanted)?;
    let rows = batch.rows();
    let several = rows > 1;
    if let Some((k, feature)) = (0..rows).find_map(|k| Some((k, info.layout.uncovered(batch, k)?))) {
        return Err(Fault::Uncovered(feature.to_owned()).into_error(several.then_some(k)));
    }
    let (reply, answer) = tokio::sync::oneshot::channel();
    if !challenger.ask(Arc::clone(batch), outputs.run.clone(), reply) {
        return Err(Error::new(Kind::Overloaded, "too many pinned requests wait for this version").retry_after(1));
    }
    let gone = || Error::new(Kind::NotReady, format!("version '{}' is being taken out", info.name)).retry_after(1);
    let results = answer
        .await
        .map_err(|_| gone())?
        .map_err(|fault| Fault::Failed(fault.to_string()).into_error(None))?;
    let rows = read(info, &results, rows, &outputs).into_iter().enumerate();
    let rows = rows.map(|(k, row)| row.map_err(|fault| fault.into_error(several.then_some(k))));
    Ok(Answer {
        rows: rows.collect::<Result<_, _>>()?,
    })
}

/// Why a version has no answer for a row.
#[derive(Debug, Clone)]
enum Fault {
    /// The row lacks this feature.
    Uncovered(String),
    /// The version failed on the row.
    Failed(String),
}

impl Fault {
    fn into_error(self, row: Option<usize>) -> Error {
        let at = row.map(|k| format!("row {k}: ")).unwrap_or_default();
        match self {
            Self::Uncovered(feature) => Error::new(
                Kind::MissingFeature,
                format!("{at}feature '{feature}' is missing: send it, or null where model.toml says missing = \"nan\""),
            ),
            Self::Failed(why) => Error::new(Kind::NoAnswer, format!("{at}no version can answer this row: {why}")),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Uncovered(_) => Outcome::Uncovered,
            Self::Failed(_) => Outcome::Failed,
        }
    }
}

fn fall_back(
    fault: &Fault,
    previous: &Arc<Loaded>,
    batch: &Batch,
    row: usize,
    outputs: &Outputs,
) -> Result<RowAnswer, Fault> {
    let mut answer = answer_rows(previous, batch, row, row + 1, outputs)
        .pop()
        .unwrap_or_else(|| Err(fault.clone()))
        .map_err(|second| match second {
            // A feature that both need is the request's own gap.
            Fault::Uncovered(_) => fault.clone(),
            Fault::Failed(why) => Fault::Failed(why),
        })?;
    answer.fallback = Some(Arc::clone(previous));
    answer.outcome = fault.outcome();
    Ok(answer)
}

/// Which outputs to compute, and which of them to give back raw.
#[derive(Debug, Default)]
struct Outputs {
    /// Numbers into the signature: the head's first, then the raw ones that the head does not need.
    run: Vec<usize>,
    /// How many of `run` the head reads.
    head: usize,
    /// Name and place in `run` of the raw ones.
    raw: Vec<(String, usize)>,
}

fn outputs(info: &VersionInfo, wanted: &Wanted) -> Result<Outputs, Error> {
    let known = info.head.task.is_some();
    let mut outputs = Outputs {
        run: info.head.wanted().to_vec(),
        head: info.head.wanted().len(),
        raw: Vec::new(),
    };
    if *wanted == Wanted::None && known {
        return Ok(outputs);
    }
    let declared = &info.signature.outputs;
    let chosen: Vec<usize> = match wanted {
        Wanted::Names(names) => names
            .iter()
            .map(|name| {
                declared.iter().position(|o| o.name == *name).ok_or_else(|| {
                    let have: Vec<&str> = declared.iter().map(|o| o.name.as_str()).collect();
                    Error::new(
                        Kind::UnknownOutput,
                        format!(
                            "version '{}' has no output '{name}'; it has {}",
                            info.name,
                            have.join(", ")
                        ),
                    )
                })
            })
            .collect::<Result<_, _>>()?,
        Wanted::None | Wanted::All => (0..declared.len()).collect(),
    };
    for number in chosen {
        let Some(spec) = declared.get(number) else { continue };
        let place = outputs.run.iter().position(|&n| n == number).unwrap_or_else(|| {
            outputs.run.push(number);
            outputs.run.len() - 1
        });
        outputs.raw.push((spec.name.clone(), place));
    }
    Ok(outputs)
}

/// One result per row: the covered rows in one run where the version is batched.
fn answer_with(version: &Loaded, batch: &Batch, outputs: &Outputs) -> Vec<Result<RowAnswer, Fault>> {
    let rows = batch.rows();
    let uncovered = |row| version.info.layout.uncovered(batch, row).map(str::to_owned);
    if version.info.batched && (0..rows).all(|row| uncovered(row).is_none()) {
        let together = answer_rows(version, batch, 0, rows, outputs);
        if rows == 1 || together.iter().all(Result::is_ok) {
            return together;
        }
    }
    // One by one: so that a guilty row costs only itself.
    (0..rows)
        .map(|row| match uncovered(row) {
            Some(feature) => Err(Fault::Uncovered(feature)),
            None => answer_rows(version, batch, row, row + 1, outputs)
                .pop()
                .unwrap_or_else(|| Err(Fault::Failed("no output".into()))),
        })
        .collect()
}

/// One run over rows `from..to`.
fn answer_rows(
    version: &Loaded,
    batch: &Batch,
    from: usize,
    to: usize,
    outputs: &Outputs,
) -> Vec<Result<RowAnswer, Fault>> {
    let count = to - from;
    if let Some(feature) = (from..to).find_map(|row| version.info.layout.uncovered(batch, row)) {
        return (0..count).map(|_| Err(Fault::Uncovered(feature.to_owned()))).collect();
    }
    let results = match version.run(batch, from..to, &outputs.run) {
        Ok(results) => results,
        Err(error) => return (0..count).map(|_| Err(Fault::Failed(error.0.clone()))).collect(),
    };
    read(&version.info, &results, count, outputs)
}

/// Scores, labels and raw outputs of `count` rows from one run's results.
fn read(info: &VersionInfo, results: &[Tensor], count: usize, outputs: &Outputs) -> Vec<Result<RowAnswer, Fault>> {
    let head = &info.head;
    let scores: Vec<Result<Option<Score>, String>> = if head.task.is_some() {
        let read = results.get(..outputs.head).unwrap_or_default();
        head.read(read, count)
            .into_iter()
            .map(|score| score.map(Some))
            .collect()
    } else {
        (0..count).map(|_| Ok(None)).collect()
    };
    let raw = |k: usize| -> Vec<(String, Tensor)> {
        let slice = |tensor: &Tensor| {
            if info.batched && tensor.rows() == count {
                tensor.slice_rows(k, k + 1)
            } else {
                None
            }
        };
        let take = |(name, place): &(String, usize)| {
            let tensor = results.get(*place)?;
            Some((name.clone(), slice(tensor).unwrap_or_else(|| tensor.clone())))
        };
        outputs.raw.iter().filter_map(take).collect()
    };
    let answer = |(k, score): (usize, Result<Option<Score>, String>)| match score {
        Ok(score) => Ok(RowAnswer {
            label: score.as_ref().map(|score| head.label(score)),
            outcome: score.clone().map_or(Outcome::Unread, Outcome::Scored),
            score,
            fallback: None,
            outputs: raw(k),
        }),
        Err(why) => Err(Fault::Failed(why)),
    };
    scores.into_iter().enumerate().map(answer).collect()
}
