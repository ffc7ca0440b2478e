//! Answering: the champion, row by row the previous one where the champion cannot, and a clear refusal last.
//!
//! Always holds: raw outputs that one run gave are handed over as they are; they are cut or joined only where rows were
//! answered apart.

pub(super) mod outputs;
mod raw;
pub(super) mod rows;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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

/// Where the champion's processes have ended and no other is there within this time, the previous champion answers: the
/// spare takes no time, and a start takes longer than a client should wait where somebody else can answer.
const PATIENCE: Duration = Duration::from_millis(80);

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
    /// Waiting for a session.
    pub queue: Duration,
    /// The versions' own time.
    pub compute: Duration,
    /// So many waited that others may be refused soon: whatever is not an answer should rest.
    pub crowded: bool,
}

/// What is asked of a version.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The rows.
    pub batch: &'a Arc<Batch>,
    /// Which raw outputs to compute and give back.
    pub wanted: &'a Wanted,
    /// After this nobody waits for the answer: what still waits then is not run.
    pub deadline: Option<Instant>,
}

/// Rows of a batch.
#[derive(Debug, Clone)]
pub(super) enum Which {
    /// All of them.
    All,
    /// Those that another version could not answer.
    These(Vec<usize>),
}

impl Which {
    pub(super) fn rows(&self, batch: &Batch) -> usize {
        match self {
            Self::All => batch.rows(),
            Self::These(some) => some.len(),
        }
    }
}

/// A version's own answers, some of which may be missing.
#[derive(Debug, Default)]
pub(super) struct Begun {
    rows: Rows,
    raw: Raw,
    pub(super) queue: Duration,
    pub(super) compute: Duration,
    pub(super) crowded: bool,
}

impl Begun {
    /// No row was answered.
    fn failed(fault: &Fault, rows: usize) -> Self {
        Self {
            rows: (0..rows).map(|_| Err(fault.clone())).collect(),
            ..Self::default()
        }
    }

    /// Rows that the version could not answer.
    pub(super) fn missing(&self) -> usize {
        self.rows.iter().filter(|row| row.is_err()).count()
    }

    /// Rows that it failed on now, and rows that lack a feature.
    fn faults(&self) -> (u64, u64) {
        let faults = self.rows.iter().filter_map(|row| row.as_ref().err());
        faults.fold((0, 0), |(failed, uncovered), fault| match fault {
            Fault::Failed(_) => (failed + 1, uncovered),
            Fault::Uncovered(_) => (failed, uncovered + 1),
            Fault::Refused => (failed, uncovered),
        })
    }

    /// Which they are.
    fn open(&self) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(k, row)| row.is_err().then_some(k)).collect()
    }

    /// Puts the previous champion's answers in the place of those that are missing.
    fn fall_back(&mut self, open: &[usize], instead: Self, previous: &Arc<Loaded>) {
        for (&k, second) in open.iter().zip(instead.rows) {
            let Some(row) = self.rows.get_mut(k) else { continue };
            let Err(first) = row else { continue };
            match second {
                Ok(answer) => {
                    *row = Ok(RowAnswer {
                        fallback: Some(Arc::clone(previous)),
                        outcome: first.outcome(),
                        ..answer
                    });
                }
                // A feature that both need is the request's own gap.
                Err(Fault::Uncovered(_)) => {}
                Err(failed) => *first = failed,
            }
        }
        self.raw.extend(instead.raw);
        self.queue += instead.queue;
        self.compute += instead.compute;
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
            queue: self.queue,
            compute: self.compute,
            crowded: self.crowded,
        })
    }
}

impl Champion {
    /// Answers every row of the batch, or says which one nobody can answer.
    ///
    /// # Errors
    /// 400 where a needed feature is missing and no version can do without, 422 where every version failed; 429 when
    /// too many wait for the version, 504 when the deadline passed while the rows waited.
    pub async fn answer(&self, question: Question<'_>) -> Result<Answer, Error> {
        let Question {
            batch,
            wanted,
            deadline,
        } = question;
        let outputs = Outputs::of(&self.version.info, wanted)?;
        let patience = self.previous.is_some().then_some(PATIENCE);
        let mut begun = self
            .version
            .begin(batch, Which::All, outputs, (deadline, patience))
            .await?;
        let missing = begun.missing();
        if missing > 0 {
            let (failed, uncovered) = begun.faults();
            self.version.info.faults.note(failed, uncovered);
        }
        if let Some(previous) = self.previous.as_ref().filter(|_| missing > 0) {
            // It may not have the outputs that were named; it answers all the same.
            let outputs = Outputs::of(&previous.info, wanted)
                .or_else(|_| Outputs::of(&previous.info, &Wanted::None))
                .unwrap_or_default();
            let open = begun.open();
            let which = Which::These(open.clone());
            let instead = previous.begin(batch, which, outputs, (deadline, None)).await?;
            begun.fall_back(&open, instead, previous);
        }
        begun.into_answer()
    }
}

impl Loaded {
    /// Answers every row with this version alone: a pinned request.
    ///
    /// # Errors
    /// As [`Champion::answer`].
    pub async fn answer(&self, question: Question<'_>) -> Result<Answer, Error> {
        let Question {
            batch,
            wanted,
            deadline,
        } = question;
        let outputs = Outputs::of(&self.info, wanted)?;
        self.begin(batch, Which::All, outputs, (deadline, None))
            .await?
            .into_answer()
    }
}

/// Answers every row by a challenger's runner, in its foreground lane: a pinned request.
///
/// # Errors
/// As [`Champion::answer`]; 429 when too many wait, 503 when the runner is going.
pub async fn ask_runner(
    info: &Arc<VersionInfo>,
    challenger: &Challenger,
    question: Question<'_>,
) -> Result<Answer, Error> {
    let Question { batch, wanted, .. } = question;
    let outputs = Outputs::of(info, wanted)?;
    let rows = batch.rows();
    if let Some((k, feature)) = (0..rows).find_map(|k| Some((k, info.layout.uncovered(batch, k)?))) {
        return Err(Fault::Uncovered(feature.to_owned()).into_error((rows > 1).then_some(k)));
    }
    let asked = Instant::now();
    let (reply, answer) = tokio::sync::oneshot::channel();
    if !challenger.ask(Arc::clone(batch), outputs.run.clone(), reply) {
        return Err(Error::new(Kind::Overloaded, "too many pinned requests wait for this version").retry_after(1));
    }
    let gone = || Error::new(Kind::NotReady, format!("version '{}' is being taken out", info.name)).retry_after(1);
    let results = answer
        .await
        .map_err(|_| gone())?
        .map_err(|fault| Fault::Failed(fault.to_string()).into_error(None))?;
    let mut begun = rows::split(info, results, rows, &outputs);
    begun.compute = asked.elapsed();
    let (runs, each) = if info.batched { (1, rows) } else { (rows, 1) };
    for _ in 0..runs {
        info.counters
            .ran(each, begun.compute / u32::try_from(runs).unwrap_or(u32::MAX));
    }
    begun.into_answer()
}
