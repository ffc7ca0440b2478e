//! One model's book: its record, its open rows, its judge.
//!
//! Always holds: rows are numbered in the order in which they are recorded; a row folds when it is closed and every
//! challenger that it was offered to has an outcome; rows fold in record order. Open rows wait on disk, not in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::types::Value;

use super::journal::{self, Event};
use super::{Core, Verdicted};
use crate::arena::{Challenger, ShadowReport, ShadowWork};
use crate::batch::{Batch, Cell, Rows};
use crate::judge::fold::{Decision, Judge};
use crate::judge::pair::{ClosedRow, Pair, Pairing};
use crate::judge::verdict::{Call, Verdict};
use crate::ledger::{Ledger, LedgerError, ModelRow, OpenRow, Position, PredictionRow, Snapshot, Writer};
use crate::metrics::ModelMetrics;
use crate::mirror::Observation;
use crate::score::{ModelNo, Outcome, Shed, Truth, VersionNo};
use crate::served::{Evidence, Served};
use crate::span::{Clock, Span};

/// Folded rows between two snapshots of a judge.
const SNAPSHOT_EVERY: u64 = 20_000;

/// The challengers that rows are offered to.
type Shadows = Vec<(VersionNo, Arc<Challenger>)>;

/// When rows close and what silence means.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// A row closes this long after it was recorded.
    pub maturity: Span,
    /// A label later than this is not taken.
    pub horizon: Span,
    /// What a row without a label at maturity counts as.
    pub absent: Option<Truth>,
    /// Features that are not recorded.
    pub dropped: Vec<String>,
}

/// What a version's verdict rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Rows that were to be shadowed.
    pub offered: u64,
    /// Rows with a score.
    pub scored: u64,
    /// Rows without one, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Pairs folded.
    pub labelled: u64,
    /// Labels that came after maturity, on any row of the model.
    pub late: u64,
    #[serde(skip)]
    changed: bool,
}

/// Where a book shows what happens to those who do not read the ledger.
#[derive(Debug, Clone)]
pub struct Attached {
    evidence: Evidence,
    metrics: ModelMetrics,
}

impl Attached {
    /// The counters and gauges of a served model.
    #[must_use]
    pub fn to(served: &Served) -> Self {
        Self {
            evidence: Arc::clone(&served.evidence),
            metrics: served.metrics.clone(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    attached: Attached,
    /// The model as the ledger knows it.
    pub row: ModelRow,
    /// When rows close.
    pub closing: Closing,
    /// The judge, once there is a champion.
    pub judge: Option<Judge>,
    /// Coverage per version since it joined.
    pub coverage: HashMap<VersionNo, Coverage>,
    pairing: Pairing,
    /// Decided, and not carried out yet: no snapshot is taken meanwhile, because a snapshot forgets it.
    pending: Option<Decision>,
    challengers: Shadows,
    /// What the running transaction may change beside the ledger: a failed one must leave it as it was.
    kept: Option<(Shadows, Closing)>,
    lineup: i64,
    lineups: HashMap<i64, Vec<VersionNo>>,
    /// Last recorded row, and the latest request time.
    last: Clock,
    /// Last row that was folded or passed over.
    folded: u64,
    /// Last journal entry that the judge has seen.
    entry: i64,
    /// Rows up to here were recorded by an earlier run: outcomes that they lack will never come.
    orphans: u64,
    /// Folded rows since the last snapshot.
    unsaved: u64,
    shown: HashMap<VersionNo, (Call, bool)>,
    late: u64,
}

impl Book {
    /// Reads a model's book from the ledger.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn load(writer: &Writer<'_>, row: ModelRow, closing: Closing, attached: Attached) -> Result<Self, LedgerError> {
        let restored = journal::restore(writer, row.no)?;
        let (last_row, last_time) = writer.last_row(row.no)?;
        let pairing = match writer.pairing(row.no)? {
            Some(text) => serde_json::from_str(&text).map_err(|source| LedgerError::Json {
                what: "label counts",
                source,
            })?,
            None => Pairing::new(),
        };
        let mut coverage: HashMap<VersionNo, Coverage> = HashMap::new();
        for (version, counter, value) in writer.coverage(row.no)? {
            coverage.entry(version).or_default().set(&counter, value);
        }
        Ok(Self {
            attached,
            late: coverage.values().map(|c| c.late).max().unwrap_or(0),
            row,
            closing,
            judge: restored.judge,
            coverage,
            pairing,
            pending: restored.pending,
            challengers: Vec::new(),
            kept: None,
            lineup: writer.insert_lineup(&[])?,
            lineups: HashMap::new(),
            last: Clock {
                row: last_row,
                time_ms: last_time,
            },
            folded: restored.folded,
            entry: restored.entry,
            orphans: last_row,
            unsaved: 0,
            shown: HashMap::new(),
        })
    }

    /// The last recorded row and the latest request time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.last
    }

    /// Recorded rows that have not been folded or passed over.
    #[must_use]
    pub fn open_rows(&self) -> u64 {
        self.last.row.saturating_sub(self.folded)
    }

    /// Writes an event to the journal and applies it.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn apply(&mut self, writer: &Writer<'_>, event: &Event, now_ms: i64) -> Result<(), LedgerError> {
        let text = serde_json::to_string(event).map_err(|source| LedgerError::Json {
            what: "a journal entry",
            source,
        })?;
        self.entry = writer.insert_journal(self.row.no, now_ms, self.folded, &text)?;
        event.apply(&mut self.judge);
        self.pending = journal::still_pending(self.judge.as_ref(), self.pending.take());
        Ok(())
    }

    /// From now on rows are offered to these challengers.
    ///
    /// # Errors
    /// What the ledger says.
    pub(super) fn set_challengers(&mut self, writer: &Writer<'_>, challengers: Shadows) -> Result<(), LedgerError> {
        let numbers: Vec<VersionNo> = challengers.iter().map(|(no, _)| *no).collect();
        self.lineup = writer.insert_lineup(&numbers)?;
        self.challengers = challengers;
        Ok(())
    }

    /// What was decided and not carried out yet.
    #[must_use]
    pub fn pending(&self) -> Option<&Decision> {
        self.pending.as_ref()
    }

    /// Verdicts of all challengers.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.judge.as_ref().map(Judge::verdicts).unwrap_or_default()
    }

    /// True when a row recorded at `clock` takes no more evidence.
    #[must_use]
    pub fn is_closed(&self, clock: Clock) -> bool {
        match self.closing.maturity {
            Span::Rows(rows) => clock.row.saturating_add(rows) < self.last.row,
            span @ Span::Time(_) => span.has_passed(
                clock,
                Clock {
                    time_ms: self.last.time_ms.saturating_sub(1),
                    ..self.last
                },
            ),
        }
    }

    /// True when a label received now for a row at `clock` comes after the horizon.
    #[must_use]
    pub fn is_expired(&self, clock: Clock, received_ms: i64) -> bool {
        match self.closing.horizon {
            Span::Rows(rows) => clock.row.saturating_add(rows) < self.last.row,
            span @ Span::Time(_) => span.has_passed(
                clock,
                Clock {
                    time_ms: received_ms,
                    ..clock
                },
            ),
        }
    }

    /// Counts a label that came after maturity.
    pub(super) fn count_late(&mut self) {
        self.late += 1;
        for coverage in self.coverage.values_mut() {
            coverage.late += 1;
            coverage.changed = true;
        }
    }

    fn coverage(&mut self, version: VersionNo) -> &mut Coverage {
        let coverage = self.coverage.entry(version).or_default();
        coverage.changed = true;
        coverage
    }

    fn lineup(&mut self, writer: &Writer<'_>, no: i64) -> Result<Vec<VersionNo>, LedgerError> {
        if let Some(known) = self.lineups.get(&no) {
            return Ok(known.clone());
        }
        let read = writer.lineup(no)?;
        self.lineups.insert(no, read.clone());
        Ok(read)
    }

    /// Records the rows of one request and offers them to the challengers.
    fn observe(&mut self, writer: &Writer<'_>, seen: &Observation) -> Result<u64, LedgerError> {
        let mut duplicates = 0;
        let mut offered_from = None;
        for (k, observed) in seen.rows.iter().enumerate() {
            let row = PredictionRow {
                id: seen.first_id + i64::try_from(k).unwrap_or(0),
                position: Position {
                    model: self.row.no,
                    row: self.last.row + 1,
                },
                time_ms: seen.time_ms,
                epoch: seen.epoch,
                version: seen.version,
                fallback: observed.fallback,
                outcome: &observed.outcome,
                inputs: inputs(&seen.batch, k, &self.closing.dropped),
                entity: seen.entities.as_ref().and_then(|e| e.get(k)).map(String::as_str),
                context: seen.context.as_ref().and_then(|c| c.get(k)).map(String::as_str),
                lineup: self.lineup,
            };
            let caller_id = seen.ids.as_ref().and_then(|ids| ids.get(k)).map(String::as_str);
            if writer.insert_prediction(&row, caller_id)? {
                self.last.row += 1;
                self.last.time_ms = self.last.time_ms.max(seen.time_ms);
                offered_from.get_or_insert(k);
            } else {
                duplicates += 1;
                if let Some(from) = offered_from.take() {
                    self.offer(writer, seen, from, k)?;
                }
            }
        }
        if let Some(from) = offered_from {
            self.offer(writer, seen, from, seen.rows.len())?;
        }
        Ok(duplicates)
    }

    fn offer(&mut self, writer: &Writer<'_>, seen: &Observation, from: usize, to: usize) -> Result<(), LedgerError> {
        let count = u64::try_from(to - from).unwrap_or(0);
        for i in 0..self.challengers.len() {
            let Some((version, challenger)) = self.challengers.get(i) else {
                break;
            };
            let version = *version;
            let work = ShadowWork {
                first_id: seen.first_id,
                batch: Arc::clone(&seen.batch),
                rows: from..to,
            };
            let taken = challenger.offer(work);
            self.coverage(version).offered += count;
            self.attached.metrics.shadow_offered.increment(count);
            if let Err(why) = taken {
                for k in from..to {
                    let id = seen.first_id + i64::try_from(k).unwrap_or(0);
                    self.outcome(writer, id, version, &Outcome::Shed(why))?;
                }
            }
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        writer: &Writer<'_>,
        id: i64,
        version: VersionNo,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        writer.insert_outcome(id, version, outcome)?;
        let metrics = &self.attached.metrics;
        match outcome {
            Outcome::Scored(_) | Outcome::Failed => metrics.shadow_executed.increment(1),
            Outcome::Uncovered => {}
            Outcome::Shed(reason) => metrics.shadow_dropped(*reason, 1),
        }
        let coverage = self.coverage(version);
        match outcome {
            Outcome::Scored(_) => coverage.scored += 1,
            Outcome::Failed => *coverage.dropped.entry("failed").or_default() += 1,
            Outcome::Uncovered => *coverage.dropped.entry("uncovered").or_default() += 1,
            Outcome::Shed(reason) => *coverage.dropped.entry(reason.name()).or_default() += 1,
        }
        Ok(())
    }

    /// Folds up to `limit` closed rows; decisions go to `outbox`. True when more are ready.
    fn fold(&mut self, writer: &Writer<'_>, limit: usize, outbox: &mut Vec<Verdicted>) -> Result<bool, LedgerError> {
        let before = self.folded;
        let mut more = true;
        for _ in 0..limit {
            let next = Position {
                model: self.row.no,
                row: self.folded + 1,
            };
            if next.row > self.last.row {
                more = false;
                break;
            }
            let Some(row) = writer.open_row(next)? else {
                more = false;
                break;
            };
            if !self.is_closed(Clock {
                row: row.row,
                time_ms: row.time_ms,
            }) || !self.fold_row(writer, &row, outbox)?
            {
                more = false;
                break;
            }
            self.folded = row.row;
        }
        self.unsaved += self.folded - before;
        if self.folded > before {
            self.record_verdicts(writer)?;
            let pairing = serde_json::to_string(&self.pairing).map_err(|source| LedgerError::Json {
                what: "label counts",
                source,
            })?;
            writer.put_pairing(self.row.no, &pairing)?;
        }
        if self.unsaved >= SNAPSHOT_EVERY {
            self.save_snapshot(writer)?;
        }
        Ok(more)
    }

    /// Folds one closed row. False when an outcome is still to come.
    fn fold_row(
        &mut self,
        writer: &Writer<'_>,
        row: &OpenRow,
        outbox: &mut Vec<Verdicted>,
    ) -> Result<bool, LedgerError> {
        let offered = self.lineup(writer, row.lineup)?;
        let mut others = writer.outcomes(row.id)?;
        for version in offered {
            if others.iter().any(|(no, _)| *no == version) {
                continue;
            }
            if row.row > self.orphans {
                return Ok(false);
            }
            self.outcome(writer, row.id, version, &Outcome::Shed(Shed::Restart))?;
            others.push((version, Outcome::Shed(Shed::Restart)));
        }
        let label = writer.label(row.id)?.filter(|label| !label.late);
        let closed = ClosedRow {
            clock: Clock {
                row: row.row,
                time_ms: row.time_ms,
            },
            epoch: row.epoch,
            truth: label.as_ref().map(|l| l.truth).or(self.closing.absent),
            weight: label.map_or(1.0, |l| l.weight),
            champion: row.outcome.clone(),
            others,
        };
        let Some(judge) = &mut self.judge else { return Ok(true) };
        let Some(pair) = self.pairing.pair(judge, &closed) else {
            return Ok(true);
        };
        writer.insert_pair(self.row.no, &pair)?;
        if let Some(decision) = judge.fold(&pair) {
            self.pending = Some(decision.clone());
            outbox.push(Verdicted {
                model: self.row.no,
                decision,
            });
        }
        self.count_labelled(&pair);
        Ok(true)
    }

    fn count_labelled(&mut self, pair: &Pair) {
        for entry in &pair.entries {
            self.coverage(entry.version).labelled += 1;
        }
    }

    /// Keeps each version's verdict whenever it, or being armed, changes.
    fn record_verdicts(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        let verdicts = self.verdicts();
        let wealth = verdicts.iter().map(|v| (v.version, v.numbers.log_wealth)).collect();
        self.attached.evidence.store(Arc::new(wealth));
        for verdict in verdicts {
            let now = (verdict.verdict, verdict.numbers.armed_since.is_some());
            if self.shown.get(&verdict.version) == Some(&now) {
                continue;
            }
            let text = serde_json::to_string(&verdict).map_err(|source| LedgerError::Json {
                what: "a verdict",
                source,
            })?;
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

    fn save_snapshot(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        if let (Some(judge), None) = (&self.judge, &self.pending) {
            let judge = serde_json::to_string(judge).map_err(|source| LedgerError::Json {
                what: "a judge",
                source,
            })?;
            writer.put_snapshot(
                self.row.no,
                &Snapshot {
                    folded_row: self.folded,
                    entry: self.entry,
                    judge,
                },
            )?;
            self.unsaved = 0;
        }
        Ok(())
    }

    fn save_coverage(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        let model = self.row.no;
        for (&version, coverage) in self.coverage.iter_mut().filter(|(_, c)| c.changed) {
            for (counter, value) in coverage.counters() {
                writer.put_coverage(model, version, counter, value)?;
            }
            coverage.changed = false;
        }
        Ok(())
    }
}

impl Coverage {
    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let totals = [
            ("offered", self.offered),
            ("scored", self.scored),
            ("labelled", self.labelled),
            ("late", self.late),
        ];
        totals.into_iter().chain(self.dropped.iter().map(|(k, v)| (*k, *v)))
    }

    fn set(&mut self, counter: &str, value: u64) {
        match counter {
            "offered" => self.offered = value,
            "scored" => self.scored = value,
            "labelled" => self.labelled = value,
            "late" => self.late = value,
            other => {
                let reasons = Shed::ALL.map(Shed::name).into_iter().chain(["failed", "uncovered"]);
                if let Some(reason) = reasons.into_iter().find(|r| *r == other) {
                    self.dropped.insert(reason, value);
                }
            }
        }
    }
}

impl Core {
    pub(super) fn observe(&mut self, writer: &Writer<'_>, seen: &Observation) -> Result<(), LedgerError> {
        if let Some(book) = self.books.get_mut(&seen.model) {
            let duplicates = book.observe(writer, seen)?;
            self.duplicates += duplicates;
        }
        Ok(())
    }

    pub(super) fn report(&mut self, writer: &Writer<'_>, report: &ShadowReport) -> Result<(), LedgerError> {
        let model = self.models.get(&report.version);
        if let Some(book) = model.and_then(|model| self.books.get_mut(model)) {
            for (id, outcome) in &report.outcomes {
                book.outcome(writer, *id, report.version, outcome)?;
            }
        }
        Ok(())
    }

    pub(super) fn fold(&mut self, writer: &Writer<'_>, limit: usize) -> Result<bool, LedgerError> {
        let mut more = false;
        for book in self.books.values_mut() {
            more |= book.fold(writer, limit, &mut self.outbox)?;
        }
        Ok(more)
    }

    pub(super) fn save_coverage(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        self.books.values_mut().try_for_each(|book| book.save_coverage(writer))
    }

    pub(super) fn snapshot_all(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        self.books.values_mut().try_for_each(|book| book.save_snapshot(writer))
    }

    /// Reads all books again; the challengers stay, what they still owe counts as lost.
    pub(super) fn reload(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let writer = ledger.reader();
        let models: Vec<ModelNo> = self.books.keys().copied().collect();
        for model in models {
            let Some(old) = self.books.get(&model) else { continue };
            let row = writer.model(&old.row.name)?;
            let now = || (old.challengers.clone(), old.closing.clone());
            let (challengers, closing) = old.kept.clone().unwrap_or_else(now);
            let mut book = Book::load(&writer, row, closing, old.attached.clone())?;
            book.set_challengers(&writer, challengers)?;
            self.books.insert(model, book);
        }
        // What a judge decided in the failed transaction was never decided; what it had decided before stands.
        self.outbox.clear();
        let pending = self.books.values().filter_map(|book| {
            let (model, decision) = (book.row.no, book.pending()?.clone());
            Some(Verdicted { model, decision })
        });
        self.outbox.extend(pending);
        Ok(())
    }

    /// Remembers what commands may change beside the ledger, until [`Core::forget`].
    pub(super) fn keep(&mut self) {
        for book in self.books.values_mut() {
            book.kept = Some((book.challengers.clone(), book.closing.clone()));
        }
    }

    /// The transaction was committed.
    pub(super) fn forget(&mut self) {
        for book in self.books.values_mut() {
            book.kept = None;
        }
    }
}

/// One row's inputs as they are recorded: named features as JSON, tensors as the runner's wire form.
fn inputs(batch: &Batch, row: usize, dropped: &[String]) -> Value {
    match batch {
        Batch::Features(rows) => Value::Text(features(rows, row, dropped)),
        Batch::Tensors { inputs, rows } => {
            let mut bytes = Vec::new();
            for tensor in inputs {
                let part = if *rows > 1 {
                    tensor.slice_rows(row, row + 1)
                } else {
                    None
                };
                crate::arena::wire::encode_tensors(&mut bytes, std::slice::from_ref(part.as_ref().unwrap_or(tensor)));
            }
            Value::Blob(bytes)
        }
    }
}

fn features(rows: &Rows, row: usize, dropped: &[String]) -> String {
    let mut object = serde_json::Map::new();
    for (number, feature) in rows.schema().features().iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if dropped.contains(&feature.name) {
            continue;
        }
        let value = match (rows.presence(row, number), rows.get(row, number)) {
            (crate::batch::Presence::Absent, _) => continue,
            (_, Some(Cell::Float(x))) => x.into(),
            (_, Some(Cell::Int(x))) => x.into(),
            (_, Some(Cell::Text(x))) => x.into(),
            (_, None) => serde_json::Value::Null,
        };
        object.insert(feature.name.clone(), value);
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests;
