//! Answering: the champion, row by row the previous one where the champion cannot, and a clear refusal last.
//!
//! Always holds: raw outputs that one run gave are handed over as they are; they are cut or joined only where rows were
//! answered apart.

pub(super) mod outputs;
mod raw;
pub(super) mod rows;

use std::sync::Arc;

use super::{Champion, Loaded, VersionInfo};
use crate::arena::Challenger;
use crate::batch::Batch;
use crate::decode::Wanted;
use crate::error::{Error, Kind};
use crate::model::head::LabelValue;
use crate::model::tensor::Tensor;
use crate::score::{Outcome, Score};
use outputs::Outputs;
use raw::Raw;
use rows::{Fault, Rows};

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
}

/// An answered request.
#[derive(Debug)]
pub struct Answer {
    /// One per row, in order.
    pub rows: Vec<RowAnswer>,
    /// The raw outputs that were asked for, over all rows, in the order asked for.
    pub outputs: Vec<(Arc<str>, Tensor)>,
}

/// A version's own answers, some of which may be missing.
#[derive(Debug, Default)]
pub struct Begun {
    rows: Rows,
    raw: Raw,
}

impl Begun {
    /// Rows that the version could not answer.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.rows.iter().filter(|row| row.is_err()).count()
    }

    /// The answer, where no row is missing.
    ///
    /// # Errors
    /// What is wrong with the first row that nobody could answer.
    pub(super) fn into_answer(self) -> Result<Answer, Error> {
        let count = self.rows.len();
        let rows = self.rows.into_iter().enumerate();
        let rows = rows.map(|(k, row)| row.map_err(|fault| fault.into_error((count > 1).then_some(k))));
        Ok(Answer {
            rows: rows.collect::<Result<_, _>>()?,
            outputs: self.raw.join(count),
        })
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
        let outputs = Outputs::of(&self.version.info, wanted)?;
        Ok(self.version.whole(batch, &outputs))
    }

    /// The rows that are still open, by the previous champion.
    ///
    /// # Errors
    /// As [`Champion::answer`].
    pub fn finish(&self, mut begun: Begun, batch: &Batch, wanted: &Wanted) -> Result<Answer, Error> {
        if let Some(previous) = self.previous.as_ref().filter(|_| begun.missing() > 0) {
            // It may not have the outputs that were named; it answers all the same.
            let outputs = Outputs::of(&previous.info, wanted)
                .or_else(|_| Outputs::of(&previous.info, &Wanted::None))
                .unwrap_or_default();
            let open: Vec<usize> = (0..begun.rows.len())
                .filter(|&k| begun.rows.get(k).is_some_and(Result::is_err))
                .collect();
            let instead = previous.apart(batch, &open, &outputs);
            begun.fall_back(&open, instead, previous);
        }
        begun.into_answer()
    }
}

impl Begun {
    /// Puts the previous champion's answers in the place of those that are missing.
    fn fall_back(&mut self, open: &[usize], instead: Begun, previous: &Arc<Loaded>) {
        for (&k, second) in open.iter().zip(instead.rows) {
            let Some(Err(first)) = self.rows.get(k) else { continue };
            let answered = match second {
                Ok(answer) => Ok(RowAnswer {
                    fallback: Some(Arc::clone(previous)),
                    outcome: first.outcome(),
                    ..answer
                }),
                // A feature that both need is the request's own gap.
                Err(Fault::Uncovered(_)) => Err(first.clone()),
                Err(Fault::Failed(why)) => Err(Fault::Failed(why)),
            };
            if let Some(row) = self.rows.get_mut(k) {
                *row = answered;
            }
        }
        self.raw.extend(instead.raw);
    }
}

impl Loaded {
    /// Answers every row with this version alone: a pinned request.
    ///
    /// # Errors
    /// As [`Champion::answer`].
    pub fn answer(&self, batch: &Batch, wanted: &Wanted) -> Result<Answer, Error> {
        let outputs = Outputs::of(&self.info, wanted)?;
        self.whole(batch, &outputs).into_answer()
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
    let outputs = Outputs::of(info, wanted)?;
    let rows = batch.rows();
    if let Some((k, feature)) = (0..rows).find_map(|k| Some((k, info.layout.uncovered(batch, k)?))) {
        return Err(Fault::Uncovered(feature.to_owned()).into_error((rows > 1).then_some(k)));
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
    rows::split(info, results, rows, &outputs).into_answer()
}
