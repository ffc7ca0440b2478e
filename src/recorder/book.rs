//! One model's book: its record, its open rows, its judge.
//!
//! Always holds: rows are numbered in the order in which they are recorded; a row folds when it is closed and, where it
//! can be evidence, every challenger that it was offered to has an outcome; rows fold in record order. Open rows wait on
//! disk, not in memory.

mod coverage;
mod display;
mod fold;
mod observe;
mod principals;
mod reports;
mod signs;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use self::coverage::Coverage;
use self::display::Display;
use self::reports::Reports;
use self::signs::Signs;
use super::core::Shadow;
use super::groups::Groups;
use super::inputs::Columns;
use super::journal::{self, Event};
use crate::id::IdKey;
use crate::judge::fold::{Decision, Judge};
use crate::judge::pair::Pairing;
use crate::judge::verdict::{Call, Verdict};
use crate::ledger::{Cursor, Kept, LedgerError, ModelRow, Snapshot, Writer};
use crate::metrics::ModelMetrics;
use crate::score::{Truth, VersionNo};
use crate::served::{Served, Shown};
use crate::shared::Log;
use crate::span::{Clock, Span};

/// Erased rows that are remembered.
const MOST_FORGOTTEN: usize = 100_000;

/// The challengers that rows are offered to.
pub(super) type Lineup = Arc<[(VersionNo, Arc<dyn Shadow>)]>;

/// When rows close and what silence means.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// A row closes this long after it was recorded.
    pub maturity: Span,
    /// A label later than this is not taken.
    pub horizon: Span,
    /// What a row without a label at maturity counts as.
    pub absent: Option<Truth>,
    /// Only rows of this slice are evidence.
    pub slice: Option<Slice>,
    /// Features that are not recorded.
    pub dropped: Vec<String>,
    /// Features of which a hash is recorded.
    pub hashed: Option<Hashed>,
    /// The labels that rewards pay, in class order; empty where rewards are not what is judged by.
    pub payees: Vec<String>,
}

/// What a version's own toml says of its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnSettings {
    /// The version.
    pub version: VersionNo,
    /// From which score on its label is positive; the model's where the version has none of its own.
    pub threshold: f64,
    /// The digest of its calibration.
    pub calibration: Option<String>,
}

/// What is recorded by a keyed hash only.
#[derive(Debug, Clone)]
pub struct Hashed {
    /// The key.
    pub key: IdKey,
    /// Features and context keys; `entities` means the entity itself.
    pub names: Vec<String>,
}

impl PartialEq for Hashed {
    fn eq(&self, other: &Self) -> bool {
        // A gateway has one key.
        self.names == other.names
    }
}

impl Hashed {
    /// What is recorded for an entity.
    pub(super) fn entity(&self, entity: String) -> String {
        match self.names.iter().any(|name| name == "entities") {
            true => self.key.pseudonym(entity.as_bytes()),
            false => entity,
        }
    }
}

/// The rows whose outcome is found out whatever was answered.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Draws the slice.
    pub key: IdKey,
    /// Share of the rows in it.
    pub share: f64,
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        // A gateway has one key.
        self.share.to_bits() == other.share.to_bits()
    }
}

impl Closing {
    /// True when what was folded under the one says nothing under the other.
    #[must_use]
    pub fn means_other_than(&self, other: &Self) -> bool {
        (self.maturity, self.absent) != (other.maturity, other.absent) || self.slice != other.slice
    }

    /// Whether a row of this id may be evidence.
    pub(super) fn takes(&self, id: i64) -> bool {
        self.slice
            .as_ref()
            .is_none_or(|slice| slice.key.is_explored(id, slice.share))
    }

    /// True when a row recorded at `clock` takes no more evidence, `last` being the last recorded row and the latest
    /// request time.
    #[must_use]
    pub fn is_over(&self, clock: Clock, last: Clock) -> bool {
        match self.maturity {
            Span::Rows(rows) => clock.row.saturating_add(rows) < last.row,
            span @ Span::Time(_) => span.has_passed(
                clock,
                Clock {
                    time_ms: last.time_ms.saturating_sub(1),
                    ..last
                },
            ),
        }
    }
}

/// Where a book shows what happens to those who do not read the ledger.
#[derive(Debug, Clone)]
pub struct Attached {
    shown: Arc<Shown>,
    metrics: ModelMetrics,
}

impl Attached {
    /// The counters and gauges of a served model.
    #[must_use]
    pub fn to(served: &Served) -> Self {
        Self {
            shown: Arc::clone(&served.shown),
            metrics: served.metrics.clone(),
        }
    }
}

/// What a book knows and the ledger does not, as of the last commit.
#[derive(Debug)]
struct Settled {
    closing: Closing,
    lineup: Lineup,
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
    /// The pairing stage's memory as it is stored.
    pairing_text: String,
    /// Decided, and not carried out yet: no snapshot is taken meanwhile, because a snapshot forgets it.
    pending: Option<Decision>,
    lineup: Lineup,
    lineup_no: i64,
    lineups: HashMap<i64, Arc<[VersionNo]>>,
    /// `None` until the transaction that made the book is on disk.
    settled: Option<Settled>,
    /// Last recorded row, and the latest request time.
    last: Clock,
    /// Last row that was folded or passed over.
    folded: u64,
    /// What was stored of the two before.
    saved: (Clock, u64),
    /// What the ledger still has of the rows.
    pub kept: Kept,
    kept_saved: Kept,
    /// Last journal entry that the judge has seen.
    entry: i64,
    /// Rows up to here were recorded by an earlier run: outcomes that they lack will never come.
    orphans: u64,
    /// Folded rows since the last snapshot.
    unsaved: u64,
    /// Rows recorded and not yet counted as offered.
    uncounted: u64,
    shown: HashMap<VersionNo, (Call, bool)>,
    columns: Columns,
    signs: Signs,
    reports: Reports,
    /// A row has named an entity: rows of one may be one observation.
    has_entities: bool,
    /// A label was reported under a key.
    pub(super) has_principals: bool,
    display: Display,
    groups: Groups,
    /// Rows that were erased since the start.
    erased: HashSet<i64>,
}

impl Book {
    /// Reads a model's book from the ledger.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn load(writer: &Writer<'_>, row: ModelRow, closing: Closing, attached: Attached) -> Result<Self, LedgerError> {
        let restored = journal::restore(writer, row.no)?;
        let cursor = writer.cursor(row.no)?.unwrap_or_else(|| Cursor {
            folded_row: 0,
            last_time_ms: 0,
            pairing: "{\"era\":0,\"counts\":[]}".into(),
        });
        let pairing = serde_json::from_str(&cursor.pairing).map_err(|source| LedgerError::Json {
            what: "label counts",
            source,
        })?;
        let last = Clock {
            row: writer.last_row(row.no)?,
            time_ms: cursor.last_time_ms,
        };
        let folded = restored.folded.max(cursor.folded_row);
        let has_entities = writer.has_entities(row.no)?;
        let has_principals = writer.has_principals()?;
        let kept = writer.kept(row.no)?;
        let mut book = Self {
            attached,
            coverage: Coverage::load(writer, row.no)?,
            row,
            closing,
            judge: restored.judge,
            pairing,
            pairing_text: cursor.pairing,
            pending: restored.pending,
            lineup: Arc::new([]),
            lineup_no: writer.insert_lineup(&[])?,
            lineups: HashMap::new(),
            settled: None,
            last,
            folded,
            saved: (last, folded),
            kept,
            kept_saved: kept,
            entry: restored.entry,
            orphans: last.row,
            unsaved: 0,
            uncounted: 0,
            shown: HashMap::new(),
            columns: Columns::default(),
            signs: Signs::default(),
            reports: Reports::default(),
            has_entities,
            has_principals,
            display: Display::default(),
            groups: Groups::default(),
            erased: HashSet::new(),
        };
        book.recall(writer)?;
        Ok(book)
    }

    /// The book as the ledger and the last commit know it; `None` for one whose making was never committed.
    pub(super) fn reload(&self, reader: &Writer<'_>) -> Result<Option<Self>, LedgerError> {
        let (Some(settled), Some(row)) = (&self.settled, reader.known_model(&self.row.name)?) else {
            return Ok(None);
        };
        let mut book = Self::load(reader, row, settled.closing.clone(), self.attached.clone())?;
        book.set_challengers(reader, Arc::clone(&settled.lineup))?;
        book.erased.clone_from(&self.erased);
        book.settle();
        Ok(Some(book))
    }

    /// What was changed is on disk.
    pub(super) fn settle(&mut self) {
        self.attached.shown.decide(self.pending.is_some());
        self.settled = Some(Settled {
            closing: self.closing.clone(),
            lineup: Arc::clone(&self.lineup),
        });
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

    /// The last row that was folded or passed over.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// What is kept has changed, and is stored.
    pub(super) fn keep(&mut self, kept: Kept) {
        (self.kept, self.kept_saved) = (kept, kept);
    }

    /// Inputs of so many bytes were erased.
    pub(super) fn let_go(&mut self, bytes: u64) {
        self.kept.inputs_bytes = self.kept.inputs_bytes.saturating_sub(bytes);
    }

    pub(super) fn metrics(&self) -> &ModelMetrics {
        &self.attached.metrics
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
        self.entry = writer.append(self.row.no, now_ms, self.folded, &text)?;
        let restarted = event.apply(&mut self.judge);
        journal::forget_answered(&mut self.pending, self.judge.as_ref());
        if let Some(version) = restarted {
            self.pairing.forget(version);
            self.keep_pairing()?;
        }
        if let (Event::Inherit { from, to }, Some(judge)) = (event, &self.judge) {
            self.pairing.inherit(judge, *from, *to);
            self.keep_pairing()?;
        }
        Ok(())
    }

    /// The pairing stage's memory is to be stored, whether rows have come or not.
    fn keep_pairing(&mut self) -> Result<(), LedgerError> {
        self.pairing_text = json("label counts", &self.pairing)?;
        self.saved.1 = u64::MAX;
        Ok(())
    }

    /// Tells the judge what a version's own settings say, where that is new.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn note(&mut self, writer: &Writer<'_>, own: &OwnSettings, now_ms: i64) -> Result<(), LedgerError> {
        let (version, clock) = (own.version, self.last);
        let Some(judge) = &self.judge else { return Ok(()) };
        let is_relabelled = own.threshold.to_bits() != judge.threshold_of(version).to_bits();
        let is_recalibrated = own.calibration.as_deref() != judge.calibration_of(version);
        if is_relabelled {
            let threshold = own.threshold;
            self.apply(writer, &Event::Threshold { version, threshold }, now_ms)?;
        }
        if is_recalibrated {
            let digest = own.calibration.clone();
            let event = Event::Calibration { version, digest, clock };
            self.apply(writer, &event, now_ms)?;
        }
        Ok(())
    }

    /// From now on rows are offered to these challengers; gives back who it was before.
    pub(super) fn set_challengers(&mut self, writer: &Writer<'_>, lineup: Lineup) -> Result<Lineup, LedgerError> {
        let numbers: Vec<VersionNo> = lineup.iter().map(|(no, _)| *no).collect();
        self.lineup_no = writer.insert_lineup(&numbers)?;
        Ok(std::mem::replace(&mut self.lineup, lineup))
    }

    /// These rows were erased.
    pub(super) fn forget(&mut self, ids: &[i64]) {
        if self.erased.len() > MOST_FORGOTTEN {
            // Whoever was offered them has answered long ago.
            self.erased.clear();
        }
        self.erased.extend(ids);
    }

    pub(super) fn into_lineup(self) -> Lineup {
        self.lineup
    }

    /// Everything that a verdict rests on.
    #[cfg(test)]
    pub(super) fn evidence(&self) -> String {
        let mut coverage: Vec<String> = self.coverage.iter().map(|(v, c)| format!("{v:?} {c:?}")).collect();
        coverage.sort();
        let (judge, pairing) = (&self.judge, &self.pairing);
        let place = (self.last, self.folded, self.entry, &self.pending);
        format!("{judge:?}\n{pairing:?}\n{coverage:?}\n{place:?}")
    }

    /// What was decided and not carried out yet.
    #[must_use]
    pub fn pending(&self) -> Option<&Decision> {
        self.pending.as_ref()
    }

    /// Verdicts of all challengers.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let Some(judge) = &self.judge else { return Vec::new() };
        let mut verdicts = judge.verdicts();
        if let (Some(enough), Some(has)) = (judge.policy().bound_from, self.pairing.estimating(judge)) {
            for verdict in &mut verdicts {
                verdict.why = format!("the loss bound is being estimated from the first {enough} labels, has {has}");
            }
        }
        verdicts
    }

    /// How labels come, and what that says of the evidence.
    #[must_use]
    pub fn reported(&self) -> serde_json::Value {
        let doubt = self.judge.as_ref().and_then(Judge::doubt);
        self.reports.show(self.closing.maturity, doubt)
    }

    /// What to add to every verdict's sentence.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.reports.too_late(self.closing.maturity)
    }

    /// What to say beside every verdict: signs that it rests on less than its numbers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.signs.warnings();
        warnings.extend(self.groups.warnings());
        warnings.extend(
            self.judge
                .as_ref()
                .and_then(|judge| principals::warning(self.pairing.shares(), judge.policy())),
        );
        warnings
    }

    /// Which API keys have reported, and how much of it is evidence.
    #[must_use]
    pub fn principals(&self) -> serde_json::Value {
        let policy = self.judge.as_ref().map(Judge::policy);
        policy.map_or(serde_json::Value::Null, |policy| {
            principals::show(self.pairing.shares(), policy)
        })
    }

    /// True when a row recorded at `clock` takes no more evidence.
    #[must_use]
    pub fn is_closed(&self, clock: Clock) -> bool {
        self.closing.is_over(clock, self.last)
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

    /// Stores what changed since it was stored last: coverage, and how far the rows have come.
    pub(super) fn save(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        Coverage::save(&mut self.coverage, writer, self.row.no)?;
        if self.kept != self.kept_saved {
            writer.put_kept(self.row.no, &self.kept)?;
            self.kept_saved = self.kept;
        }
        if self.saved == (self.last, self.folded) {
            return Ok(());
        }
        let cursor = Cursor {
            folded_row: self.folded,
            last_time_ms: self.last.time_ms,
            pairing: std::mem::take(&mut self.pairing_text),
        };
        writer.put_cursor(self.row.no, &cursor)?;
        self.pairing_text = cursor.pairing;
        self.saved = (self.last, self.folded);
        Ok(())
    }

    /// Stores the judge's state, so that the next start folds fewer pairs.
    pub(super) fn save_snapshot(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        if let (Some(judge), None) = (&self.judge, &self.pending) {
            let judge = json("a judge", judge)?;
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
}

fn json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|source| LedgerError::Json { what, source })
}
