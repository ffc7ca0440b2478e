//! Closed rows become pairs, in record order.
//!
//! A row is looked at once: those without a truth are passed over without a look at what was predicted or scored,
//! because they make no pair whatever that was; but for one in a few, from which it is learned whether labels come for
//! some answers rather than for others. Rows of one entity that overlap fold as one observation when the last closes.

use std::sync::Arc;
use std::time::Duration;

use super::{Book, json};
use crate::judge::fold::Judge;
use crate::judge::guard::Guardrail;
use crate::judge::pair::{ClosedRow, Pair};
use crate::judge::verdict::Verdict;
use crate::ledger::{AnsweredRow, LedgerError, OpenRow, Position, Writer};
use crate::metrics::Standing;
use crate::recorder::Verdicted;
use crate::recorder::closed::Terms;
use crate::recorder::journal::Event;
use crate::score::{Outcome, Shed, VersionNo};
use crate::span::Clock;

/// Folded rows between two snapshots of a judge.
const SNAPSHOT_EVERY: u64 = 20_000;

impl Book {
    /// Folds up to `limit` closed rows; decisions go to `outbox`. True when more are ready.
    pub(in crate::recorder) fn fold(
        &mut self,
        writer: &Writer<'_>,
        limit: usize,
        outbox: &mut Vec<Verdicted>,
    ) -> Result<bool, LedgerError> {
        if self.open_rows() == 0 {
            return Ok(false);
        }
        let (before, mut left, mut more) = (self.folded, limit, false);
        let mut evidence = false;
        let from = Position {
            model: self.row.no,
            row: self.folded + 1,
        };
        writer.open_rows(from, |row| {
            if !self.is_closed(row.clock) {
                return Ok(false);
            }
            if left == 0 {
                more = true;
                return Ok(false);
            }
            left -= 1;
            let Some(closed) = self.close(writer, row)? else {
                return Ok(false);
            };
            if let Closed::Evidence(clock, rows) = closed {
                evidence = true;
                self.fold_rows(writer, clock, &rows, outbox)?;
            }
            self.folded = row.clock.row;
            Ok(true)
        })?;
        self.note_doubt(writer)?;
        // Rows that made no pair may have changed the pairing stage's memory too.
        if evidence {
            self.pairing_text = json("label counts", &self.pairing)?;
            self.record_verdicts(writer)?;
        }
        self.unsaved += self.folded - before;
        if self.unsaved >= SNAPSHOT_EVERY {
            self.save_snapshot(writer)?;
        }
        Ok(more)
    }

    /// `None` while an outcome is still to come.
    fn close(&mut self, writer: &Writer<'_>, row: &OpenRow) -> Result<Option<Closed>, LedgerError> {
        let is_orphan = row.clock.row <= self.orphans;
        let is_looked_at = self.reports.looks_at(row.clock.row) && self.closing.absent.is_none();
        if !self.closing.may_be_evidence(row) && !self.has_entities && !is_orphan && !is_looked_at {
            return Ok(Some(Closed::PassedOver));
        }
        let Some(answered) = writer.answered(row.id)? else {
            return Ok(Some(Closed::PassedOver));
        };
        if is_looked_at && self.closing.takes(row.id) {
            self.count_reported(row, &answered);
        }
        if !self.closing.may_be_evidence(row) && answered.entity.is_none() && !is_orphan {
            return Ok(Some(Closed::PassedOver));
        }
        let Some(others) = self.outcomes(writer, row, &answered, is_orphan)? else {
            return Ok(None);
        };
        let rows = {
            self.groups.follow(self.judge.as_ref());
            let mut terms = Terms {
                model: self.row.no,
                closing: &self.closing,
                groups: &mut self.groups,
                has_principals: self.has_principals,
            };
            terms.observation(writer, row, answered, others)?
        };
        Ok(Some(if rows.is_empty() {
            Closed::PassedOver
        } else {
            Closed::Evidence(row.clock, rows)
        }))
    }

    /// The outcomes of all versions that the row was offered to, or `None` while one is to come. An orphan's never
    /// come: they were lost with the process, or the transaction, that they were on their way to.
    fn outcomes(
        &mut self,
        writer: &Writer<'_>,
        row: &OpenRow,
        answered: &AnsweredRow,
        is_orphan: bool,
    ) -> Result<Option<Vec<(VersionNo, Outcome)>>, LedgerError> {
        let offered = self.offered_to(writer, answered.lineup)?;
        if offered.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut others = writer.outcomes(row.id)?;
        for &version in offered.iter() {
            if others.iter().any(|(no, _)| *no == version) {
                continue;
            }
            if !is_orphan {
                return Ok(None);
            }
            let lost = [(row.id, Outcome::Shed(Shed::Restart))];
            self.report(&mut writer.outcomes_in()?, version, &lost, Duration::ZERO)?;
            others.push((version, Outcome::Shed(Shed::Restart)));
        }
        Ok(Some(others))
    }

    fn offered_to(&mut self, writer: &Writer<'_>, lineup: i64) -> Result<Arc<[VersionNo]>, LedgerError> {
        if let Some(known) = self.lineups.get(&lineup) {
            return Ok(Arc::clone(known));
        }
        let read: Arc<[VersionNo]> = writer.lineup(lineup)?.into();
        self.lineups.insert(lineup, Arc::clone(&read));
        Ok(read)
    }

    /// Folds an observation: one row, or those of one entity.
    fn fold_rows(
        &mut self,
        writer: &Writer<'_>,
        clock: Clock,
        rows: &[ClosedRow],
        outbox: &mut Vec<Verdicted>,
    ) -> Result<(), LedgerError> {
        let Some(judge) = &mut self.judge else {
            return Ok(());
        };
        for row in rows {
            self.display.row(judge, row);
        }
        let refused = self.pairing.shares().refused();
        let pair = self.pairing.observation(judge, rows);
        self.attached
            .metrics
            .labels_over_share
            .increment(self.pairing.shares().refused().saturating_sub(refused));
        let Some(mut pair) = pair else {
            return self.learn_bound(writer, clock);
        };
        // The last row of an entity, which has closed now, may have no label of its own.
        pair.clock = clock;
        writer.insert_pair(self.row.no, &pair)?;
        let metric = &judge.policy().metric;
        self.signs.loss(pair.champion_loss, metric);
        for row in rows {
            let others = row.others.iter().map(|(_, outcome)| outcome);
            others
                .chain([&row.champion])
                .for_each(|outcome| self.signs.score(outcome, metric));
        }
        if let Some(decision) = judge.fold(&pair) {
            self.pending = Some(decision.clone());
            outbox.push(Verdicted {
                model: self.row.no,
                decision,
            });
        }
        self.count_labelled(&pair);
        Ok(())
    }

    /// Once the loss bound is estimated it is recorded, before any row is evidence.
    fn learn_bound(&mut self, writer: &Writer<'_>, clock: Clock) -> Result<(), LedgerError> {
        let Some(judge) = &self.judge else { return Ok(()) };
        let labels = judge.policy().bound_from.unwrap_or_default();
        match self.pairing.bound(judge) {
            Some(bound) => self.apply(writer, &Event::Bound { bound, labels }, clock.time_ms),
            None => Ok(()),
        }
    }

    fn count_labelled(&mut self, pair: &Pair) {
        for entry in &pair.entries {
            let coverage = self.coverage.entry(entry.version).or_default();
            coverage.labelled += 1;
            coverage.changed = true;
        }
    }

    /// Keeps each version's verdict whenever it, or being armed, changes.
    fn record_verdicts(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        // As the judge has it: what is said beside it is not evidence, and no replay could say it again.
        let verdicts = self.judge.as_ref().map(Judge::verdicts).unwrap_or_default();
        self.attached.shown.stand(verdicts.iter().map(standing).collect());
        for verdict in verdicts {
            let now = (verdict.verdict, verdict.numbers.armed_since.is_some());
            if self.shown.get(&verdict.version) == Some(&now) {
                continue;
            }
            let text = json("a verdict", &verdict)?;
            writer.insert_verdict(
                Position {
                    model: self.row.no,
                    row: self.folded,
                },
                verdict.version,
                &text,
            )?;
            self.shown.insert(verdict.version, now);
        }
        Ok(())
    }
}

fn standing(verdict: &Verdict) -> Standing {
    let rail = |rail: &Guardrail| (rail.name.to_string(), rail.passes);
    Standing {
        version: verdict.version,
        place: verdict.place,
        labels: verdict.numbers.labels,
        log_wealth: verdict.numbers.log_wealth,
        log_bar: verdict.numbers.log_bar,
        mean_difference: verdict.numbers.mean_difference,
        guardrails: verdict.guardrails.iter().map(rail).collect(),
    }
}

enum Closed {
    PassedOver,
    /// At this clock; never empty.
    Evidence(Clock, Vec<ClosedRow>),
}
