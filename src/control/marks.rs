//! What the judge should know of the versions that run: what a row costs, who is an A/A copy of whom, and who has to be let
//! through before a promotion.
//!
//! Always holds: it reaches the judge by the journal, once per change.

use super::keeper::{Keeper, Version};
use super::{Fault, Thread};
use crate::ledger::{LedgerError, Writer};
use crate::recorder::{Book, Event};
use crate::score::VersionNo;
use crate::time::now_ms;

impl Keeper {
    /// What there is to know of the loaded versions, and of the one that is about to be.
    pub(super) fn marks(&self, entering: Option<VersionNo>) -> Vec<Event> {
        let is_here = |v: &&Version| v.is_loaded() || Some(v.row.no) == entering;
        let here = || self.versions.iter().filter(is_here);
        let original = |twin: &Version| {
            let same = here().filter(|v| v.row.digest == twin.row.digest && v.row.no != twin.row.no);
            same.filter(|v| !v.settings.twin).map(|v| v.row.no).next()
        };
        let of = |v: &Version| {
            let (version, twin) = (v.row.no, v.settings.twin);
            let ns = v.facts.as_ref().map_or(0, |facts| facts.cpu_ns);
            let of = if twin { original(v) } else { None };
            let lacks = self.lacks(v);
            [
                Event::Cost { version, ns },
                Event::Twin { version, twin, of },
                Event::Gate { version, lacks },
            ]
        };
        here().flat_map(of).collect()
    }
}

/// Tells the judge what it does not know yet.
pub(super) fn tell(book: &mut Book, writer: &Writer<'_>, marks: &[Event]) -> Result<(), LedgerError> {
    for mark in marks {
        let Some(judge) = &book.judge else { return Ok(()) };
        let is_new = match mark {
            Event::Cost { version, ns } => judge.cost_of(*version).unwrap_or(0) != *ns,
            Event::Twin { version, twin, of } => judge.is_twin(*version) != *twin || judge.original_of(*version) != *of,
            Event::Gate { version, lacks } => judge.gate_of(*version) != lacks.as_deref(),
            _ => false,
        };
        if is_new {
            book.apply(writer, mark, now_ms())?;
        }
    }
    Ok(())
}

impl Thread {
    /// Settings of versions may have changed.
    pub(super) fn remark(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model).filter(|k| k.row.champion.is_some()) else {
            return Ok(());
        };
        let marks = keeper.marks(None);
        if keeper.marked == marks {
            return Ok(());
        }
        let (no, told) = (keeper.row.no, marks.clone());
        self.recorder
            .call_blocking(move |core, writer| match core.books.get_mut(&no) {
                Some(book) => tell(book, writer, &told),
                None => Ok(()),
            })?;
        if let Some(keeper) = self.keepers.get_mut(model) {
            keeper.marked = marks;
        }
        Ok(())
    }
}
