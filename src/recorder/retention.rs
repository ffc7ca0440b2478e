//! What the ledger lets go, and when: by age and by bytes, oldest first, in small steps between the commits.
//!
//! Always holds: a step takes a few milliseconds (as many rows as the last one could in that time), and after it as long
//! a pause as leaves the recorder to its work; a row that may still be folded, or be labelled, goes only when bytes force
//! it, and is counted then; inputs go before rows.
//! Leaves to others: the statements (`ledger::retention`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Core;
use super::book::Book;
use crate::config::RetentionConfig;
use crate::ledger::{Kept, LedgerError, Position, Writer};
use crate::score::ModelNo;
use crate::span::{Clock, Span};
use crate::time::rfc3339;

mod rate;
mod view;

pub use view::{Keeping, KeptModel};

/// Between two looks while nothing is to go.
const IDLE: Duration = Duration::from_secs(1);
/// What a step may take; labels wait behind it.
const STEP: Duration = Duration::from_millis(3);
/// Rows of a step, at least and at most.
const ROWS: std::ops::RangeInclusive<u32> = 8..=4_096;
/// The latest rows of a model, which no want of bytes takes: challengers are still at them.
const LATEST: u64 = 1_000;
/// Free pages, at least, before any are given back: new rows will want them.
const SPARE_BYTES: u64 = 1 << 20;
/// Pages that are given back in one step.
const PAGES: u32 = 128;
/// Between two estimates whether the limits hold what they must.
const ESTIMATE: Duration = Duration::from_secs(60);

/// Why rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// They are old enough.
    Age,
    /// There are too many bytes.
    Bytes,
    /// There are too many bytes, and nothing is left that could go without harm.
    Forced,
}

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Inputs that nobody has counted yet: an older program recorded them.
    Count,
    /// Inputs go, up to this row, and up to this time.
    Inputs(Why, u64, i64),
    /// Rows go, up to this row, and up to this time.
    Rows(Why, u64, i64),
    /// Free pages go back to the disk.
    Shrink,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Retention {
    limits: RetentionConfig,
    due: Instant,
    rows: u32,
    estimate_at: Instant,
    short: Option<String>,
    models: Vec<KeptModel>,
    longest: Duration,
    steps: u64,
    keeping: Arc<Keeping>,
}

impl Retention {
    pub(super) fn new(limits: RetentionConfig, keeping: Arc<Keeping>, now: Instant) -> Self {
        Self {
            limits,
            due: now,
            rows: 256,
            estimate_at: now,
            short: None,
            models: Vec::new(),
            longest: Duration::ZERO,
            steps: 0,
            keeping,
        }
    }

    /// When it is to be asked again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// One step, if one is due; false where there was nothing to do.
    ///
    /// # Errors
    /// What the ledger says: the books in memory no longer agree with it then.
    pub(super) fn step(
        &mut self,
        core: &mut Core,
        ledger: &mut crate::ledger::Ledger,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let began = Instant::now();
        let planned = self.plan(core, &ledger.reader(), now_ms)?;
        let Some((model, step)) = planned else {
            self.due = began + IDLE;
            self.look(core, &ledger.reader(), began)?;
            return Ok(false);
        };
        match step {
            Step::Shrink => ledger.shrink(PAGES)?,
            step => {
                let rows = self.rows;
                ledger.transaction(false, |writer| take(core, writer, model, step, rows))?;
            }
        }
        let took = began.elapsed();
        self.paced(step, took);
        self.look(core, &ledger.reader(), began)?;
        Ok(true)
    }

    /// Sets the size of the next step, and the pause before it.
    fn paced(&mut self, step: Step, took: Duration) {
        self.steps += 1;
        self.longest = self.longest.max(took);
        if step != Step::Shrink {
            let next = if took > STEP {
                self.rows / 2
            } else if took < STEP / 2 {
                self.rows * 2
            } else {
                self.rows
            };
            self.rows = next.clamp(*ROWS.start(), *ROWS.end());
        }
        // Where bytes are wanted, no more than half of the time goes into it; else a tenth.
        let pause = match step {
            Step::Inputs(Why::Bytes | Why::Forced, ..) | Step::Rows(Why::Bytes | Why::Forced, ..) => took,
            _ => took * 9,
        };
        self.due = Instant::now() + pause.max(Duration::from_millis(1));
    }

    fn plan(&self, core: &Core, reader: &Writer<'_>, now_ms: i64) -> Result<Option<(ModelNo, Step)>, LedgerError> {
        let limits = &self.limits;
        let mut shelves = Vec::new();
        for (model, book) in &core.books {
            if book.kept.counted_to < book.clock().row {
                return Ok(Some((*model, Step::Count)));
            }
            shelves.push(Shelf::look(reader, *model, book)?);
        }
        let (inputs_ms, rows_ms) = (before(now_ms, limits.inputs_age), before(now_ms, limits.rows_age));
        for shelf in &shelves {
            // Rows first: with them their inputs go.
            if let Some(to) = shelf.expired(now_ms).filter(|_| shelf.first_row_before(rows_ms)) {
                return Ok(Some((
                    shelf.model,
                    Step::Rows(Why::Age, to, rows_ms.min(shelf.horizon_ms(now_ms))),
                )));
            }
            if shelf.folded_inputs().is_some_and(|first| first.time_ms <= inputs_ms) {
                let step = Step::Inputs(Why::Age, shelf.folded, inputs_ms);
                return Ok(Some((shelf.model, step)));
            }
        }
        let size = reader.size()?;
        let inputs: u64 = core.books.values().map(|book| book.kept.inputs_bytes).sum();
        let is_over = size.used() > limits.ledger_bytes;
        if (is_over || inputs > limits.inputs_bytes)
            && let Some(found) = oldest(&shelves, Shelf::folded_inputs)
        {
            return Ok(Some((found.model, Step::Inputs(Why::Bytes, found.folded, i64::MAX))));
        }
        if inputs > limits.inputs_bytes
            && let Some(found) = oldest(&shelves, Shelf::open_inputs)
        {
            return Ok(Some((
                found.model,
                Step::Inputs(Why::Forced, found.settled(), i64::MAX),
            )));
        }
        if is_over {
            let may_go = |shelf: &Shelf| shelf.first_row.filter(|_| shelf.expired(now_ms).is_some());
            if let Some(found) = oldest(&shelves, may_go) {
                let to = found.expired(now_ms).unwrap_or(0);
                let step = Step::Rows(Why::Bytes, to, found.horizon_ms(now_ms));
                return Ok(Some((found.model, step)));
            }
            if let Some(found) = oldest(&shelves, Shelf::forced_row) {
                return Ok(Some((found.model, Step::Rows(Why::Forced, found.settled(), i64::MAX))));
            }
        }
        let is_loose = size.shrinks && size.free > size.file / 4 && size.free > SPARE_BYTES;
        // Of no model in particular.
        Ok(is_loose.then_some((ModelNo(0), Step::Shrink)))
    }

    /// Shows what is kept, and says when the limits cannot hold what they must.
    fn look(&mut self, core: &Core, reader: &Writer<'_>, now: Instant) -> Result<(), LedgerError> {
        let size = reader.size()?;
        if now >= self.estimate_at || self.models.len() != core.books.len() {
            self.estimate_at = now + ESTIMATE;
            let (models, short) = rate::estimate(core, reader, &self.limits, size)?;
            if short.is_some() && short != self.short {
                tracing::warn!("{}", short.as_deref().unwrap_or_default());
            }
            (self.models, self.short) = (models, short);
        }
        for shown in &mut self.models {
            if let Some(book) = core.books.get(&shown.no) {
                shown.kept = book.kept;
                shown.last = book.clock();
            }
        }
        self.keeping.publish(view::State {
            limits: self.limits.clone(),
            size,
            models: self.models.clone(),
            short: self.short.clone(),
            longest: self.longest,
            steps: self.steps,
        });
        Ok(())
    }
}

fn before(now_ms: i64, age: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// The shelf whose first row by `first` is the oldest.
fn oldest(shelves: &[Shelf], first: impl Fn(&Shelf) -> Option<Clock>) -> Option<&Shelf> {
    let with = shelves.iter().filter_map(|shelf| Some((first(shelf)?.time_ms, shelf)));
    with.min_by_key(|(time, _)| *time).map(|(_, shelf)| shelf)
}

/// What is kept of a model, as far as it decides what goes next.
#[derive(Debug)]
struct Shelf {
    model: ModelNo,
    folded: u64,
    last: Clock,
    horizon: Span,
    first_row: Option<Clock>,
    first_inputs: Option<Clock>,
}

impl Shelf {
    fn look(reader: &Writer<'_>, model: ModelNo, book: &Book) -> Result<Self, LedgerError> {
        let at = |row| Position { model, row };
        let kept = &book.kept;
        let first_row = reader.row_after(at(kept.rows_to.row))?.map(|next| next.clock);
        let first_inputs = match kept.inputs_to > kept.rows_to.row {
            true => reader.row_after(at(kept.inputs_to))?.map(|next| next.clock),
            false => first_row,
        };
        Ok(Self {
            model,
            folded: book.folded(),
            last: book.clock(),
            horizon: book.closing.horizon,
            first_row,
            first_inputs,
        })
    }

    /// The first row with inputs, where it has been folded.
    fn folded_inputs(&self) -> Option<Clock> {
        self.first_inputs.filter(|first| first.row <= self.folded)
    }

    /// The first row with inputs, but for the latest ones.
    fn open_inputs(&self) -> Option<Clock> {
        self.first_inputs.filter(|first| first.row <= self.settled())
    }

    fn forced_row(&self) -> Option<Clock> {
        self.first_row.filter(|first| first.row <= self.settled())
    }

    /// The last row that challengers are not at any more.
    fn settled(&self) -> u64 {
        self.last.row.saturating_sub(LATEST)
    }

    fn first_row_before(&self, ms: i64) -> bool {
        self.first_row.is_some_and(|first| first.time_ms <= ms)
    }

    /// Up to which row no label can come any more, where the first one is among them.
    fn expired(&self, now_ms: i64) -> Option<u64> {
        let first = self.first_row?;
        let to = match self.horizon {
            Span::Rows(rows) => self.last.row.saturating_sub(rows.saturating_add(1)),
            Span::Time(_) if first.time_ms > self.horizon_ms(now_ms) => 0,
            Span::Time(_) => u64::MAX,
        };
        let to = to.min(self.folded).min(self.last.row.saturating_sub(1));
        (first.row <= to).then_some(to)
    }

    /// Up to which time no label can come any more.
    fn horizon_ms(&self, now_ms: i64) -> i64 {
        match self.horizon {
            Span::Rows(_) => i64::MAX,
            Span::Time(horizon) => before(now_ms, horizon),
        }
    }
}

/// Carries a step out, and writes how far it came.
fn take(core: &mut Core, writer: &Writer<'_>, model: ModelNo, step: Step, most: u32) -> Result<(), LedgerError> {
    let Some(book) = core.books.get_mut(&model) else {
        return Ok(());
    };
    let at = |row| Position { model, row };
    let folded = book.folded();
    let mut kept: Kept = book.kept;
    match step {
        Step::Count => {
            let (bytes, to) = writer.count_inputs(at(kept.counted_to), most)?;
            kept.inputs_bytes = kept.inputs_bytes.saturating_add(bytes);
            kept.counted_to = to.unwrap_or_else(|| book.clock().row);
        }
        Step::Inputs(_, to, ms) => {
            let from = kept.inputs_to.max(kept.rows_to.row);
            let removed = writer.prune_inputs(at(from), to, ms, most)?;
            kept.inputs_to = kept.inputs_to.max(removed.to.row);
            kept.pruned_inputs += removed.rows;
            kept.pruned_bytes = kept.pruned_bytes.saturating_add(removed.bytes);
            kept.inputs_bytes = kept.inputs_bytes.saturating_sub(removed.bytes);
        }
        Step::Rows(why, to, ms) => {
            let removed = writer.prune_rows(at(kept.rows_to.row), to, ms, most)?;
            if removed.rows > 0 {
                kept.rows_to = removed.to;
                kept.inputs_to = kept.inputs_to.max(removed.to.row);
            }
            kept.pruned_rows += removed.rows;
            kept.pruned_bytes = kept.pruned_bytes.saturating_add(removed.bytes);
            kept.inputs_bytes = kept.inputs_bytes.saturating_sub(removed.bytes);
            if why == Why::Forced {
                kept.forced_rows += removed.rows;
                kept.forced_open += removed.to.row.saturating_sub(folded).min(removed.rows);
                kept.forced_id = kept.forced_id.max(removed.last_id);
                // What a challenger still says of them is not kept.
                book.forget(&removed.ids);
            } else {
                kept.expired_id = kept.expired_id.max(removed.last_id);
            }
        }
        Step::Shrink => {}
    }
    writer.put_kept(model, &kept)?;
    book.keep(kept);
    Ok(())
}

/// A time as it is shown, or nothing.
fn shown(ms: i64) -> Value {
    if ms == 0 { Value::Null } else { json!(rfc3339(ms)) }
}
