//! Examination: what is found out about bytes, once per digest, program and runtime.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::keeper::Retry;
use super::super::{Fault, Thread};
use crate::admission::probe::is_passing;
use crate::ledger::VersionRow;
use crate::model::facts::{Facts, Refused};
use crate::score::VersionNo;

/// What no file is to blame for (a busy machine, a runner that somebody killed) is tried again after so long, then after
/// longer and longer. An examination may last minutes, and others wait for it.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(3_600);

impl Thread {
    /// Sends a candidate to the admission thread.
    pub(super) fn vet(&mut self, model: &str, no: VersionNo) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        let config = Arc::clone(&keeper.config);
        let Some(version) = keeper.version_mut(no) else { return };
        if version.vetting {
            return;
        }
        version.vetting = true;
        tracing::info!(model, version = version.row.name, "examining");
        let names = version.settings.features.clone().or_else(|| config.features.clone());
        self.admission.vet(model, no, &version.row.digest, names);
    }

    /// Rejected before, under other settings or before rows carried what it needs.
    pub(in crate::control) fn try_again(&mut self, model: &str, no: VersionNo) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        let Some(version) = keeper.version_mut(no) else { return };
        if version.row.digest.is_empty() || version.vetting {
            version.vet_again = version.vetting;
            return;
        }
        let Some(version) = keeper.version(no) else { return };
        if let Some(copy) = keeper.copy_of(&version.row.name, &version.row.digest) {
            let done = self.reject(model, no, &copy);
            return self.report(done);
        }
        if version.is_refused_for_good() {
            return;
        }
        if !version.is_examined() {
            if let Some(version) = keeper.version_mut(no) {
                version.facts = None;
            }
            return self.vet(model, no);
        }
        let (config, is_first) = (Arc::clone(&keeper.config), keeper.interface.is_none());
        if let Some(version) = keeper.version_mut(no) {
            version.rename_columns(&config);
            version.fit_again = !is_first;
        }
        if is_first {
            let done = self.set_role(model, no, "candidate", None);
            self.report(done);
        }
    }

    pub(super) fn vetted(
        &mut self,
        model: &str,
        no: VersionNo,
        digest: &str,
        result: Result<(Option<String>, Box<Facts>), String>,
    ) -> Result<(), Fault> {
        let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) else {
            return Ok(());
        };
        version.vetting = false;
        if std::mem::take(&mut version.vet_again) {
            self.vet(model, no);
            return Ok(());
        }
        // Of bytes that have been replaced meanwhile nothing need be known.
        if !(version.is("candidate") || version.is("rejected")) || version.row.digest != digest {
            return Ok(());
        }
        let (stored_digest, facts) = match result {
            Ok(found) => found,
            Err(reason) => return self.refuse_bytes(model, no, &reason),
        };
        let row = VersionRow {
            role: "candidate".into(),
            reason: None,
            stored_digest,
            facts: serde_json::to_string(&facts).ok(),
            ..version.row.clone()
        };
        let copy = row.clone();
        self.recorder
            .call_blocking(move |_, writer| writer.update_version(&copy))?;
        if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) {
            version.row = row;
            version.facts = Some(*facts);
            (version.lacks, version.retry) = (None, None);
        }
        Ok(())
    }

    /// Rejects a version for its bytes, and keeps by whom they were examined: once is enough.
    pub(super) fn refuse_bytes(&mut self, model: &str, no: VersionNo, reason: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let refusals = keeper.served.metrics.refusals.clone();
        let Some(version) = keeper.version_mut(no) else {
            return Ok(());
        };
        let lasts = !is_passing(reason);
        let row = VersionRow {
            role: "rejected".into(),
            reason: Some(reason.to_owned()),
            facts: lasts.then(|| serde_json::to_string(&Refused::here()).ok()).flatten(),
            ..version.row.clone()
        };
        let copy = row.clone();
        self.recorder
            .call_blocking(move |_, writer| writer.update_version(&copy))?;
        if version.row.reason != row.reason {
            refusals.increment(1);
            tracing::warn!(model, version = row.name, reason, "rejected");
        }
        version.row = row;
        version.facts = None;
        version.retry = (!lasts).then(|| {
            let rest = version
                .retry
                .map_or(FIRST_REST, |retry| LONGEST_REST.min(4 * retry.rest));
            let at = Instant::now() + rest;
            // Also where nobody looks for longer.
            self.look_at = self.look_at.min(at);
            Retry { at, rest }
        });
        Ok(())
    }

    /// Examinations that failed for no fault of the bytes, once more.
    pub(in crate::control) fn vet_refused(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (model, keeper) in &self.keepers {
            let of_model = keeper.versions.iter().filter(|v| {
                let is_due = v.retry.is_some_and(|retry| retry.at <= now);
                is_due && v.is("rejected") && !v.vetting && !v.is_examined() && keeper.is_there(v)
            });
            due.extend(of_model.map(|v| (model.clone(), v.row.no)));
        }
        for (model, no) in due {
            self.try_again(&model, no);
        }
    }

    /// Candidates that nobody has examined: known from before a restart, or their examination could not be recorded.
    pub(super) fn vet_waiting(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let waiting = keeper
            .versions
            .iter()
            .filter(|v| v.is("candidate") && v.facts.is_none() && !v.vetting && !v.row.digest.is_empty());
        let waiting: Vec<VersionNo> = waiting.map(|v| v.row.no).collect();
        for no in waiting {
            self.vet(model, no);
        }
    }
}
