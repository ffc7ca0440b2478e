//! Bytes that have come into the content store under a name: what version that makes of them.
//!
//! Always holds: identity is the digest; a row that was offered to somebody, or that remembers a quarantine, is never
//! written over.

use super::super::roles::{FILE_GONE, REPLACED, file_of};
use super::super::{Fault, Thread};
use crate::ledger::VersionRow;
use crate::score::VersionNo;
use crate::time::now_ms;

impl Thread {
    /// The bytes under `name` are known now. Identity is the digest: the same bytes again are nothing new.
    pub(super) fn stored(&mut self, model: &str, name: &str, digest: &str) -> Result<(), Fault> {
        self.bytes_came(model, digest)?;
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let short: String = digest.trim_start_matches("sha256:").chars().take(8).collect();
        let mut name = name.to_owned();
        if let Some(version) = keeper.named(&name)
            && version.is_loaded()
            && version.row.digest != digest
        {
            // New bytes under a live name are another version; both may be needed to tell which is better.
            name = format!("{name}@{short}");
        }
        let same = keeper
            .versions
            .iter()
            .rev()
            .find(|v| v.row.name == name && v.row.digest == digest);
        if let Some(version) = same {
            let no = version.row.no;
            match version.row.role.as_str() {
                "retired" if matches!(version.row.reason.as_deref(), Some(FILE_GONE | REPLACED)) => {
                    return self.revive(model, no);
                }
                "rejected" => self.try_again(model, no),
                _ => {}
            }
            return Ok(());
        }
        let refusal = keeper.copy_of(&name, digest);
        let no = self.insert(model, &name, digest, refusal.as_deref())?;
        self.replace_waiting(model, no)?;
        if refusal.is_none() {
            self.vet(model, no);
        }
        Ok(())
    }

    /// Older bytes of the same file that only waited are not looked at any more.
    pub(super) fn replace_waiting(&mut self, model: &str, newest: VersionNo) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let file = file_of(keeper.name_of(newest));
        let waiting = keeper
            .versions
            .iter()
            .filter(|v| v.row.no != newest && v.is("candidate") && file_of(&v.row.name) == file);
        let waiting: Vec<VersionNo> = waiting.map(|v| v.row.no).collect();
        waiting
            .into_iter()
            .try_for_each(|no| self.set_role(model, no, "retired", Some(REPLACED)))
    }

    /// A version that was never stored is shown as rejected, too.
    pub(in crate::control) fn reject_unstored(&mut self, model: &str, name: &str, reason: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        match keeper.named(name) {
            Some(version) if version.is_loaded() => {
                tracing::warn!(model, version = name, reason, "a file under a live name is refused");
                Ok(())
            }
            _ => self.insert(model, name, "", Some(reason)).map(|_| ()),
        }
    }

    /// A row for a new version: a candidate, or rejected at once. A version of that name that was never offered a row
    /// leaves it its own, so that a file that keeps changing does not fill the ledger.
    pub(super) fn insert(
        &mut self,
        model: &str,
        name: &str,
        digest: &str,
        refusal: Option<&str>,
    ) -> Result<VersionNo, Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(VersionNo(0));
        };
        let settings = keeper.settings_of(name);
        let mut row = VersionRow {
            no: VersionNo(0),
            model: keeper.row.no,
            name: name.to_owned(),
            digest: digest.to_owned(),
            stored_digest: None,
            role: if refusal.is_some() { "rejected" } else { "candidate" }.to_owned(),
            reason: refusal.map(str::to_owned),
            arrived_ms: now_ms(),
            facts: None,
            lineage: serde_json::to_string(&settings.lineage).ok(),
        };
        // The row of a quarantined version is the memory of its bytes.
        let newest = keeper.named(name).filter(|v| !v.is_loaded() && !v.is("quarantined"));
        let newest = newest.map(|v| v.row.no);
        let mut copy = row.clone();
        row.no = self.recorder.call_blocking(move |_, writer| match newest {
            Some(no) if !writer.was_offered(no)? => {
                copy.no = no;
                writer.update_version(&copy).map(|()| no)
            }
            _ => writer.insert_version(&copy),
        })?;
        if let Some(reason) = refusal {
            keeper.served.metrics.refusals.increment(1);
            tracing::warn!(model, version = name, reason, "rejected");
        } else {
            tracing::info!(model, version = name, digest, "candidate");
        }
        let no = row.no;
        keeper.put(row, settings);
        Ok(no)
    }

    /// A version whose file came back resumes its evidence.
    pub(super) fn revive(&mut self, model: &str, no: VersionNo) -> Result<(), Fault> {
        let keeper = self.keepers.get(model);
        let version = keeper.and_then(|k| k.version(no));
        // Under another name these bytes may be live, or may have crashed too often meanwhile.
        if let Some(why) = keeper
            .zip(version)
            .and_then(|(k, v)| k.copy_of(&v.row.name, &v.row.digest))
        {
            return self.reject(model, no, &why);
        }
        self.set_role(model, no, "candidate", None)?;
        let known = self.keepers.get(model).and_then(|k| k.version(no));
        if known.is_some_and(|version| version.facts.is_none()) {
            self.vet(model, no);
        }
        Ok(())
    }
}
