//! What the control thread does beside its work: stored bytes that nobody needs go, and receipts of exports come in.
//!
//! Always holds: bytes go only while none are on their way, so that whatever is stored and not needed is known to be so; the
//! bytes of a version that ever answered or was shadowed stay.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::Thread;
use crate::ledger::receipts::Receipts;

/// Between two looks for bytes that nobody needs.
const REST: Duration = Duration::from_secs(60);

/// When bytes were looked for last, and whether some may have come since.
#[derive(Debug)]
pub(super) struct Upkeep {
    swept: Option<Instant>,
    pub(super) has_stored: bool,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            swept: None,
            // An earlier process may have left some.
            has_stored: true,
        }
    }
}

impl Thread {
    pub(super) fn upkeep(&mut self) {
        self.take_receipts();
        let is_busy = self.admission.waiting() > 0
            || self
                .keepers
                .values()
                .any(|keeper| keeper.storing > 0 || keeper.versions.iter().any(|version| version.vetting));
        let is_early = self.upkeep.swept.is_some_and(|at| at.elapsed() < REST);
        if self.upkeep.has_stored && !is_busy && !is_early {
            self.upkeep = Upkeep {
                swept: Some(Instant::now()),
                has_stored: false,
            };
            self.sweep_store();
        }
    }

    fn sweep_store(&self) {
        let kept = match self.recorder.call_blocking(|_, writer| writer.kept_bytes()) {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            // While the ledger cannot be asked nothing goes.
            Err(error) => return tracing::debug!(%error, "stored bytes are not looked at"),
        };
        let (kept, first_ms) = kept;
        let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(first_ms).unwrap_or(0));
        match self.admission.sweep(|digest| kept.contains(digest), since) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "stored files that never ran went from the content store"),
            Err(error) => tracing::warn!(%error, "stored files that never ran could not be removed"),
        }
    }

    /// Exports that were made beside this gateway.
    fn take_receipts(&self) {
        if !self.recorder.is_healthy() {
            return;
        }
        let receipts = Receipts::take(&self.config.state);
        if receipts.is_empty() {
            return;
        }
        let exports = receipts.exports();
        match self
            .recorder
            .call_blocking(move |_, writer| writer.put_exports(&exports))
        {
            Ok(()) => receipts.done(),
            // They stay, and are taken next time.
            Err(error) => tracing::warn!(%error, "an export is not in the ledger yet"),
        }
    }
}
