//! One run of a challenger: from rows to outcomes, or from a pinned request to its answer.
//!
//! Always holds: the rows of a run leave it in a report or as suspects, never both; only rows that ran alone are blamed.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::Ask;
use super::super::rows::{Row, stretches};
use super::{Driver, FIRST_REST, own_fault};
use crate::arena::client::{RunnerClient, RunnerFault};
use crate::model::tensor::Tensor;
use crate::score::{Outcome, Score, Shed};

impl Driver {
    /// One run; the fault if the runner did not survive it.
    pub(super) fn shadow(&mut self, runner: &mut RunnerClient, rows: Vec<Row>) -> Option<RunnerFault> {
        let started = Instant::now();
        let layout = &self.spec.layout;
        let (rows, uncovered): (Vec<Row>, Vec<Row>) = rows
            .into_iter()
            .partition(|row| layout.uncovered(row.batch(), row.number()).is_none());
        let mut outcomes: Vec<(i64, Outcome)> = uncovered.iter().map(|row| (row.id, Outcome::Uncovered)).collect();
        let mut fault = None;
        if !rows.is_empty() {
            match self.run(runner, &rows) {
                Ok(scored) => {
                    (self.rest, self.silences) = (FIRST_REST, 0);
                    outcomes.extend(rows.iter().map(|row| row.id).zip(scored));
                }
                Err(found) => {
                    if matches!(found, RunnerFault::Model(_)) {
                        self.silences = 0;
                    }
                    self.offender = match rows.as_slice() {
                        [row] => Some(row.id),
                        _ => None,
                    };
                    match self.blame(&found, rows.len()) {
                        Some(outcome) => outcomes.extend(rows.iter().map(|row| (row.id, outcome.clone()))),
                        None => self.suspects.extend(rows),
                    }
                    fault = (!matches!(found, RunnerFault::Model(_))).then_some(found);
                }
            }
        }
        self.report(outcomes, started.elapsed());
        fault
    }

    /// An outcome per row.
    fn run(&self, runner: &mut RunnerClient, rows: &[Row]) -> Result<Vec<Outcome>, RunnerFault> {
        let inputs = self.spec.layout.feeds(&stretches(rows)).map_err(RunnerFault::Model)?;
        let outputs = self.call(runner, &inputs, self.spec.head.wanted(), rows.len())?;
        self.shared.executed.fetch_add(rows.len() as u64, Ordering::Relaxed);
        if self.spec.head.task.is_none() {
            return Ok(vec![Outcome::Unread; rows.len()]);
        }
        let mut outcomes: Vec<Outcome> = self
            .spec
            .head
            .read(&outputs, rows.len())
            .into_iter()
            .map(outcome)
            .collect();
        outcomes.resize(rows.len(), Outcome::Failed);
        Ok(outcomes)
    }

    fn call(
        &self,
        runner: &mut RunnerClient,
        inputs: &[Tensor],
        outputs: &[usize],
        rows: usize,
    ) -> Result<Vec<Tensor>, RunnerFault> {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let cpu = self.spec.cpu_limit + self.spec.cpu_limit_per_row.saturating_mul(rows);
        runner.run(inputs, outputs, cpu, self.spec.wall_limit)
    }

    /// The outcome of rows whose common run failed; `None`: run them one by one.
    fn blame(&mut self, fault: &RunnerFault, rows: usize) -> Option<Outcome> {
        match fault {
            RunnerFault::Starved => Some(Outcome::Shed(Shed::Starved)),
            // No row need have made it silent, and each row alone would take as long again.
            RunnerFault::Killed(_) | RunnerFault::Down(_) | RunnerFault::Silent => {
                let left = self.stopping();
                Some(Outcome::Shed(if left { Shed::Left } else { Shed::RunnerDown }))
            }
            _ if rows == 1 => {
                self.unblamed = false;
                Some(Outcome::Failed)
            }
            _ => {
                self.unblamed = own_fault(fault);
                None
            }
        }
    }

    /// A pinned request; the fault if the runner did not survive it.
    pub(super) fn answer(&mut self, runner: &mut RunnerClient, ask: Ask) -> Option<RunnerFault> {
        if ask.reply.is_closed() {
            return None;
        }
        let answer = self.pinned(runner, &ask);
        self.offender = None;
        let fault = answer
            .as_ref()
            .err()
            .filter(|fault| !matches!(fault, RunnerFault::Model(_)))
            .cloned();
        // The client may have given up meanwhile.
        let _ = ask.reply.send(answer);
        fault
    }

    fn pinned(&self, runner: &mut RunnerClient, ask: &Ask) -> Result<Vec<Tensor>, RunnerFault> {
        let rows = ask.batch.rows();
        let step = if self.spec.batched { rows.max(1) } else { 1 };
        let mut parts = Vec::new();
        for start in (0..rows).step_by(step) {
            let range = start..(start + step).min(rows);
            let count = range.len();
            let inputs = self
                .spec
                .layout
                .feeds(&[(&*ask.batch, range)])
                .map_err(RunnerFault::Model)?;
            parts.push(self.call(runner, &inputs, &ask.outputs, count)?);
        }
        if parts.len() == 1 {
            return Ok(parts.pop().unwrap_or_default());
        }
        let joined = (0..ask.outputs.len()).map(|output| {
            let column: Option<Vec<&Tensor>> = parts.iter().map(|part| part.get(output)).collect();
            Tensor::concat(&column?)
        });
        let joined: Option<Vec<Tensor>> = joined.collect();
        joined.ok_or_else(|| RunnerFault::Model("its rows have outputs of different shapes".into()))
    }
}

fn outcome(read: Result<Score, String>) -> Outcome {
    match read {
        Ok(score) if score.is_finite() => Outcome::Scored(score),
        _ => Outcome::Failed,
    }
}
