//! From bytes in the store to challenger, or to a reason why not.
//!
//! The way: `stored` (which version the bytes are), `vetted` (what is found out about them), `first` (nobody answers
//! yet) or `admit` (they are shadowed).

mod admit;
mod first;
mod stored;
mod vetted;

use std::time::{Duration, Instant};

use super::{Fault, Thread};
use crate::admission::Finding;
use crate::intake::store::IntakeError;
use crate::score::VersionNo;

impl Thread {
    /// Something has come back from the admission thread.
    pub(super) fn found(&mut self, finding: Finding) {
        let (model, done) = match finding {
            Finding::Stored { model, unit, result } => {
                self.upkeep.has_stored = true;
                if let Some(keeper) = self.keepers.get_mut(&model) {
                    keeper.storing = keeper.storing.saturating_sub(1);
                }
                let done = match result {
                    Ok(stored) => self
                        .stored(&model, &unit.name, &stored.digest)
                        // What was not recorded is handed out once more.
                        .inspect_err(|_| self.settler.forget(&unit.path)),
                    Err(IntakeError::Refused(reason)) => self.reject_unstored(&model, &unit.name, &reason),
                    Err(error) => {
                        tracing::warn!(model, version = unit.name, %error, "not taken yet; looked at again soon");
                        self.settler.forget(&unit.path);
                        self.look_at = self.look_at.min(Instant::now() + Duration::from_secs(1));
                        Ok(())
                    }
                };
                (model, done)
            }
            Finding::Vetted {
                model,
                version,
                digest,
                result,
            } => {
                let done = self.vetted(&model, version, &digest, result);
                (model, done)
            }
        };
        self.report(done);
        self.advance(&model);
    }

    pub(super) fn reject(&mut self, model: &str, no: VersionNo, reason: &str) -> Result<(), Fault> {
        let known = self.keepers.get(model).and_then(|k| k.version(no));
        if known.is_some_and(|v| v.is("rejected") && v.row.reason.as_deref() == Some(reason)) {
            return Ok(());
        }
        let name = known.map(|v| v.row.name.clone()).unwrap_or_default();
        if let Some(keeper) = self.keepers.get(model) {
            keeper.served.metrics.refusals.increment(1);
        }
        tracing::warn!(model, version = name, reason, "rejected");
        self.set_role(model, no, "rejected", Some(reason))
    }

    /// Moves a model's candidates on as far as they can go.
    pub(super) fn advance(&mut self, model: &str) {
        self.vet_waiting(model);
        let Some(keeper) = self.keepers.get(model) else { return };
        if keeper.row.champion.is_none() {
            let done = self.first_champion(model);
            self.report(done);
        }
        let Some(keeper) = self.keepers.get(model) else { return };
        if keeper.interface.is_none() {
            return;
        }
        // Before those that were never shadowed.
        let done = self.shadow_waiting(model);
        self.report(done);
        let Some(keeper) = self.keepers.get(model) else { return };
        let carried = &keeper.served.carried;
        let again: Vec<VersionNo> = keeper
            .versions
            .iter()
            .filter(|v| v.is("rejected") && v.lacks.as_deref().is_some_and(|feature| carried.carries(feature)))
            .map(|v| v.row.no)
            .collect();
        for no in again {
            self.try_again(model, no);
        }
        let Some(keeper) = self.keepers.get(model) else { return };
        let ready: Vec<VersionNo> = keeper
            .versions
            .iter()
            .filter(|v| v.facts.is_some() && (v.is("candidate") || v.is("rejected") && v.fit_again))
            .map(|v| v.row.no)
            .collect();
        let mut full = false;
        for no in ready {
            let done = self.admit(model, no, &mut full);
            self.report(done);
        }
    }

    /// A challenger leaves: no new rows, its waiting ones are shed, its evidence is parked.
    /// `by` is who decided that, and their reason, where it is a decision.
    pub(super) fn leave(
        &mut self,
        model: &str,
        no: VersionNo,
        role: (&str, &str),
        by: Option<(&str, &str)>,
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        // There may be room for somebody who waits.
        self.look_at = Instant::now();
        keeper.leave(&self.recorder, no, role, by)?;
        let outgoing = keeper.dismiss(no);
        self.released.take(outgoing);
        Ok(())
    }

    pub(super) fn set_role(
        &mut self,
        model: &str,
        no: VersionNo,
        role: &str,
        reason: Option<&str>,
    ) -> Result<(), Fault> {
        match self.keepers.get_mut(model) {
            Some(keeper) => keeper.set_role(&self.recorder, no, role, reason),
            None => Ok(()),
        }
    }
}
