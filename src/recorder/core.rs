//! All books, and what happens across them: offers after the commit, outcomes, healing.

use std::collections::HashMap;
use std::sync::Arc;

use super::Verdicted;
use super::book::{Book, Lineup};
use super::retention::Keeping;
use crate::arena::{Challenger, ShadowReport, ShadowWork};
use crate::id::IdKey;
use crate::ledger::{Erased, Ledger, LedgerError, Writer};
use crate::mirror::Observation;
use crate::priority::offer_turn;
use crate::score::{ModelNo, Outcome, Shed, VersionNo};

/// So many requests take some tens of microseconds: between them the processor is offered to those that answer others.
const REQUESTS_OF_A_TURN: usize = 8;
/// Where as much waits in a transaction, the recorder has fallen behind, and keeps what it gets of the processor.
const HURRY: usize = 256;

/// Whoever rows are offered to: a challenger, as the recorder sees it.
pub trait Shadow: std::fmt::Debug + Send + Sync {
    /// Takes rows, or says why not; never waits. Every row that is taken is reported once.
    ///
    /// # Errors
    /// Why the rows were not taken.
    fn offer(&self, work: ShadowWork) -> Result<(), Shed>;
}

impl Shadow for Challenger {
    fn offer(&self, work: ShadowWork) -> Result<(), Shed> {
        Challenger::offer(self, work)
    }
}

/// Recorded rows that are to be offered when they are on disk.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) model: ModelNo,
    pub(super) lineup: Lineup,
    pub(super) work: ShadowWork,
}

/// Everything that the recorder's thread owns but the file.
#[derive(Debug, Default)]
pub struct Core {
    /// One book per model.
    pub books: HashMap<ModelNo, Book>,
    /// The model of every version that was ever offered a row.
    models: HashMap<VersionNo, ModelNo>,
    /// Decisions that no one has taken yet.
    pub(super) outbox: Vec<Verdicted>,
    offers: Vec<Offer>,
    /// Something was erased, and the ledger's log may still have it.
    pub(super) scrub: bool,
    /// Rows that a challenger refused: outcomes for the next transaction.
    owed: Vec<ShadowReport>,
    /// Lineups that are no longer in force.
    released: Vec<Lineup>,
    /// What is kept, for those who do not read the ledger.
    pub(super) keeping: Arc<Keeping>,
}

impl Core {
    /// From now on rows of `model` are offered to these challengers.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn set_challengers<S: Shadow + 'static>(
        &mut self,
        writer: &Writer<'_>,
        model: ModelNo,
        challengers: Vec<(VersionNo, Arc<S>)>,
    ) -> Result<(), LedgerError> {
        self.models
            .extend(challengers.iter().map(|(version, _)| (*version, model)));
        let lineup: Lineup = challengers
            .into_iter()
            .map(|(no, challenger)| (no, challenger as Arc<dyn Shadow>))
            .collect();
        if let Some(book) = self.books.get_mut(&model) {
            self.released.push(book.set_challengers(writer, lineup)?);
        }
        Ok(())
    }

    /// Takes a model's book in; what its judge had decided before a restart is sent out again.
    pub fn add(&mut self, book: Book) {
        self.send_again(&book);
        self.books.insert(book.row.no, book);
    }

    fn send_again(&mut self, book: &Book) {
        let model = book.row.no;
        if let Some(decision) = book.pending()
            && !self.outbox.iter().any(|waiting| waiting.model == model)
        {
            self.outbox.push(Verdicted {
                model,
                decision: decision.clone(),
            });
        }
    }

    pub(super) fn observe(&mut self, writer: &Writer<'_>, observations: &[Observation]) -> Result<(), LedgerError> {
        if observations.is_empty() {
            return Ok(());
        }
        let mut recording = writer.recording()?;
        let is_unhurried = observations.len() < HURRY;
        for group in observations.chunk_by(|one, next| one.model == next.model) {
            let Some(book) = group.first().and_then(|seen| self.books.get_mut(&seen.model)) else {
                continue;
            };
            for (n, seen) in group.iter().enumerate() {
                if is_unhurried && n.is_multiple_of(REQUESTS_OF_A_TURN) {
                    offer_turn();
                }
                book.observe(&mut recording, seen, &mut self.offers)?;
            }
        }
        recording.finish()?;
        self.books.values_mut().for_each(Book::count_offered);
        writer.sort_names()
    }

    pub(super) fn report(&mut self, writer: &Writer<'_>, reports: &[ShadowReport]) -> Result<(), LedgerError> {
        let owed = std::mem::take(&mut self.owed);
        if owed.is_empty() && reports.is_empty() {
            return Ok(());
        }
        let mut outcomes = writer.outcomes_in()?;
        let is_unhurried = reports.len() < HURRY;
        for report in owed.iter().chain(reports) {
            if is_unhurried {
                offer_turn();
            }
            let model = self.models.get(&report.version);
            if let Some(book) = model.and_then(|model| self.books.get_mut(model)) {
                book.report(&mut outcomes, report.version, &report.outcomes, report.compute)?;
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

    /// Rows that all models have recorded.
    pub(super) fn recorded_rows(&self) -> u64 {
        self.books.values().map(|book| book.clock().row).sum()
    }

    pub(super) fn save(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        self.books.values_mut().try_for_each(|book| book.save(writer))
    }

    pub(super) fn save_snapshots(&mut self, writer: &Writer<'_>) -> Result<(), LedgerError> {
        self.books.values_mut().try_for_each(|book| book.save_snapshot(writer))
    }

    /// What commands changed is on disk.
    pub(super) fn settle(&mut self) {
        self.books.values_mut().for_each(Book::settle);
    }

    /// Offers the rows that are on disk now. True when some were refused, which the next transaction writes.
    pub(super) fn offer(&mut self) -> bool {
        let mut refused: HashMap<VersionNo, Vec<(i64, Outcome)>> = HashMap::new();
        for Offer { model, lineup, work } in self.offers.drain(..) {
            let count = u64::try_from(work.rows.len()).unwrap_or(0);
            for (version, challenger) in lineup.iter() {
                if let Some(book) = self.books.get(&model) {
                    book.metrics().shadow_offered.increment(count);
                }
                if let Err(why) = challenger.offer(work.clone()) {
                    let first = work.first_id;
                    let ids = work
                        .rows
                        .clone()
                        .map(|row| first + i64::try_from(row - work.rows.start).unwrap_or(0));
                    let outcomes = refused.entry(*version).or_default();
                    outcomes.extend(ids.map(|id| (id, Outcome::Shed(why))));
                }
            }
        }
        self.owed
            .extend(refused.into_iter().map(|(version, outcomes)| ShadowReport {
                version,
                outcomes,
                compute: std::time::Duration::ZERO,
            }));
        !self.owed.is_empty()
    }

    /// Erases rows of a model; what a challenger still says of them is not kept either.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn erase(
        &mut self,
        writer: &Writer<'_>,
        model: ModelNo,
        ids: &[i64],
        now_ms: i64,
        by: (&str, &str),
        key: &IdKey,
    ) -> Result<Erased, LedgerError> {
        let erased = writer.erase(model, ids, now_ms, by, key)?;
        if let Some(book) = self.books.get_mut(&model) {
            book.forget(&erased.ids);
            book.let_go(erased.inputs_bytes);
        }
        self.scrub |= !erased.ids.is_empty();
        Ok(erased)
    }

    /// Lets challengers go that are no longer offered rows. Elsewhere: the last handle of one waits for its end, and
    /// that may wait for this thread to read a report.
    pub(super) fn let_go(&mut self) {
        if self.released.is_empty() {
            return;
        }
        let released = std::mem::take(&mut self.released);
        let thread = std::thread::Builder::new().name("release".into());
        if let Err(error) = thread.spawn(move || {
            crate::priority::give_way();
            drop(released);
        }) {
            tracing::error!(%error, "no thread to end a challenger in");
        }
    }

    /// Counts rows that were answered and will not be recorded.
    pub(super) fn count_dropped(&self, observations: &[Observation]) -> u64 {
        let mut dropped = 0;
        for seen in observations {
            let rows = u64::try_from(seen.rows.len()).unwrap_or(0);
            dropped += rows;
            if let Some(book) = self.books.get(&seen.model) {
                let why = crate::metrics::RecorderDrop::LedgerFailed;
                book.metrics().recorder_dropped(why, rows);
            }
        }
        dropped
    }

    /// Reads all books again, with the settings and challengers of the last commit. What the challengers still owe
    /// counts as lost unless it comes before the row closes; what was decided and not carried out is sent again.
    pub(super) fn reload(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        let reader = ledger.reader();
        let mut books = HashMap::new();
        for (&model, old) in &self.books {
            if let Some(book) = old.reload(&reader)? {
                books.insert(model, book);
            }
        }
        self.offers.clear();
        self.owed.clear();
        let old = std::mem::replace(&mut self.books, books);
        self.released.extend(old.into_values().map(Book::into_lineup));
        let books = std::mem::take(&mut self.books);
        books.values().for_each(|book| self.send_again(book));
        self.books = books;
        Ok(())
    }
}
