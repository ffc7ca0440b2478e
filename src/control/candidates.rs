//! From bytes in the store to challenger, or to a reason why not.

use std::sync::Arc;
use std::time::Duration;

use super::roles::{FILE_GONE, REPLACED, file_of};
use super::{Fault, Thread};
use crate::admission::Finding;
use crate::admission::probe::is_passing;
use crate::intake::store::IntakeError;
use crate::ledger::{ModelRow, VersionRow};
use crate::model::facts::{Facts, Refused};
use crate::model::interface::Misfit;
use crate::recorder::Event;
use crate::score::VersionNo;
use crate::served::Served;
use crate::time::now_ms;

impl Thread {
    /// Something has come back from the admission thread.
    pub(super) fn found(&mut self, finding: Finding) {
        let (model, done) = match finding {
            Finding::Stored { model, unit, result } => {
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
                        self.look_at = self.look_at.min(std::time::Instant::now() + Duration::from_secs(1));
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

    /// The bytes under `name` are known now. Identity is the digest: the same bytes again are nothing new.
    fn stored(&mut self, model: &str, name: &str, digest: &str) -> Result<(), Fault> {
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
                "champion" | "previous" | "challenger" => return self.bytes_are_there(model, no),
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
    fn replace_waiting(&mut self, model: &str, newest: VersionNo) -> Result<(), Fault> {
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
    pub(super) fn reject_unstored(&mut self, model: &str, name: &str, reason: &str) -> Result<(), Fault> {
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
    fn insert(&mut self, model: &str, name: &str, digest: &str, refusal: Option<&str>) -> Result<VersionNo, Fault> {
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
            tracing::warn!(model, version = name, reason, "rejected");
        } else {
            tracing::info!(model, version = name, digest, "candidate");
        }
        let no = row.no;
        keeper.put(row, settings);
        Ok(no)
    }

    /// Sends a candidate to the admission thread.
    fn vet(&mut self, model: &str, no: VersionNo) {
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
    pub(super) fn try_again(&mut self, model: &str, no: VersionNo) {
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

    fn vetted(
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
            version.lacks = None;
        }
        Ok(())
    }

    /// Rejects a version for its bytes, and keeps by whom they were examined: once is enough.
    fn refuse_bytes(&mut self, model: &str, no: VersionNo, reason: &str) -> Result<(), Fault> {
        let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) else {
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
            tracing::warn!(model, version = row.name, reason, "rejected");
        }
        version.row = row;
        version.facts = None;
        Ok(())
    }

    pub(super) fn reject(&mut self, model: &str, no: VersionNo, reason: &str) -> Result<(), Fault> {
        let known = self.keepers.get(model).and_then(|k| k.version(no));
        if known.is_some_and(|v| v.is("rejected") && v.row.reason.as_deref() == Some(reason)) {
            return Ok(());
        }
        let name = known.map(|v| v.row.name.clone()).unwrap_or_default();
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

    /// Candidates that nobody has examined: known from before a restart, or their examination could not be recorded.
    fn vet_waiting(&mut self, model: &str) {
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

    /// The first champion is the one that model.toml names, else the only one.
    fn first_champion(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let served = Arc::clone(&keeper.served);
        if let Some(fault) = keeper.settings_unknown() {
            say_waiting(&served, &fault);
            return Ok(());
        }
        let candidates: Vec<_> = keeper.versions.iter().filter(|v| v.is("candidate")).collect();
        let vetted: Vec<_> = candidates.iter().filter(|v| v.facts.is_some()).collect();
        let names = || {
            vetted
                .iter()
                .map(|v| format!("\"{}\"", v.row.name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let choice = match &keeper.config.champion {
            Some(named) => match keeper.named(named) {
                Some(version) if version.facts.is_some() && version.is("candidate") => Ok(version.row.no),
                Some(version) if version.is("candidate") => {
                    Err(format!("its first champion '{named}' is being examined"))
                }
                Some(version) => Err(format!(
                    "its first champion '{named}' is {}{}",
                    version.row.role,
                    version
                        .row
                        .reason
                        .as_ref()
                        .map(|r| format!(": {r}"))
                        .unwrap_or_default()
                )),
                None => Err(format!(
                    "model.toml names '{named}' as first champion, and there is no such file"
                )),
            },
            None if candidates.len() > vetted.len() || keeper.storing > 0 => {
                Err("its versions are being examined".to_owned())
            }
            None => match vetted.as_slice() {
                [] => Err("it has no accepted version: see the reasons in /api/models".to_owned()),
                [only] => Ok(only.row.no),
                [first, ..] => Err(format!(
                    "several versions and none named ({}): add the line champion = \"{}\" to {model}/model.toml",
                    names(),
                    first.row.name
                )),
            },
        };
        match choice {
            Ok(no) => {
                if let Err(reason) = self.crown_first(model, no)? {
                    served
                        .waiting_for
                        .store(Arc::new(format!("its first champion does not fit: {reason}")));
                    self.reject(model, no, &reason)?;
                }
            }
            Err(why) => say_waiting(&served, &why),
        }
        Ok(())
    }

    /// A vetted candidate becomes a challenger where it fits and there is room; `full` once there was none.
    fn admit(&mut self, model: &str, no: VersionNo, full: &mut bool) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        if let Some(version) = keeper.version_mut(no) {
            (version.fit_again, version.lacks) = (false, None);
        }
        let (Some(version), Some(interface)) = (keeper.version(no), &keeper.interface) else {
            return Ok(());
        };
        let Some(facts) = &version.facts else { return Ok(()) };
        let head = match keeper.head(version) {
            Ok(head) => head,
            Err(reason) => return self.reject(model, no, &reason),
        };
        if let Err(reason) = interface.check_answers(head.task, head.classes.as_ref()) {
            return self.reject(model, no, &reason);
        }
        let carried = &keeper.served.carried;
        let joined = match interface.join(facts, |feature| carried.carries(feature)) {
            Ok((joined, _)) => joined,
            Err(Misfit::Never(reason)) => return self.reject(model, no, &reason),
            Err(Misfit::NotCarried { feature }) => {
                let reason = format!(
                    "no accepted version takes feature '{feature}', and none of the last 10,000 rows carried it: \
                     send it with the rows, or drop the file again under the name of a feature that exists"
                );
                if let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) {
                    version.lacks = Some(feature);
                }
                return self.reject(model, no, &reason);
            }
        };
        *full = *full || !self.make_room(model)?;
        if *full {
            return self.set_role(
                model,
                no,
                "candidate",
                Some("waits for room: max_challengers are shadowed"),
            );
        }
        self.enter(model, no, joined)
    }

    /// True when another challenger may be shadowed.
    fn make_room(&mut self, model: &str) -> Result<bool, Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(false);
        };
        let most = usize::try_from(keeper.config.shadow.max_challengers).unwrap_or(usize::MAX);
        if keeper.versions.iter().filter(|v| v.is("challenger")).count() < most {
            return Ok(true);
        }
        let no = keeper.row.no;
        let goes = self.recorder.call_blocking(move |core, _| {
            let book = core.books.get(&no);
            Ok(book.and_then(|b| b.judge.as_ref()?.room(most.saturating_sub(1), b.clock())))
        })?;
        match goes {
            Some(goes) => self
                .leave(model, goes, "retired", "made room for a newer challenger")
                .map(|()| true),
            None => Ok(false),
        }
    }

    /// Starts the runner, then records that rows are offered to it.
    fn enter(
        &mut self,
        model: &str,
        no: VersionNo,
        interface: crate::model::interface::Interface,
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let before = keeper.interface.replace(interface.clone());
        let runner = match self.start_runner(model, no) {
            Ok(runner) => runner,
            Err(reason) => {
                if let Some(keeper) = self.keepers.get_mut(model) {
                    keeper.interface = before;
                }
                return self.reject(model, no, &reason);
            }
        };
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let model_row = ModelRow {
            interface: serde_json::to_string(&interface).ok(),
            ..keeper.row.clone()
        };
        let Some(version) = keeper.version(no) else {
            return Ok(());
        };
        let version_row = VersionRow {
            role: "challenger".into(),
            reason: None,
            ..version.row.clone()
        };
        let mut lineup = keeper.lineup_without(no);
        lineup.push((no, Arc::clone(&runner)));
        let (m, v) = (model_row.clone(), version_row.clone());
        let recorded = self.recorder.call_blocking(move |core, writer| {
            writer.update_model(&m)?;
            writer.update_version(&v)?;
            core.set_challengers(writer, m.no, lineup)?;
            let Some(book) = core.books.get_mut(&m.no) else {
                return Ok(());
            };
            book.row = m;
            let clock = book.clock();
            book.apply(writer, &Event::Enter { version: no, clock }, now_ms())
        });
        if let Err(error) = recorded {
            keeper.interface = before;
            runner.stop();
            return Err(error.into());
        }
        keeper.row = model_row;
        if let Some(version) = keeper.version_mut(no) {
            version.row = version_row;
            version.runner = Some(runner);
        }
        keeper.refresh_view(self.config.max_rows);
        keeper.publish_challengers();
        tracing::info!(model, version = keeper.name_of(no), "challenger");
        Ok(())
    }

    /// A version whose file came back resumes its evidence.
    fn revive(&mut self, model: &str, no: VersionNo) -> Result<(), Fault> {
        self.set_role(model, no, "candidate", None)?;
        let known = self.keepers.get(model).and_then(|k| k.version(no));
        if known.is_some_and(|version| version.facts.is_none()) {
            self.vet(model, no);
        }
        Ok(())
    }

    /// A challenger leaves: no new rows, its waiting ones are shed, its evidence is parked.
    pub(super) fn leave(&mut self, model: &str, no: VersionNo, role: &str, reason: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        // There may be room for somebody who waits.
        self.look_at = std::time::Instant::now();
        keeper.leave(&self.recorder, no, role, reason)?;
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

/// Says why there is no champion yet; once, until it is something else.
fn say_waiting(served: &Served, why: &str) {
    if **served.waiting_for.load() != why {
        tracing::info!(model = served.name, "not ready: {why}");
        served.waiting_for.store(Arc::new(why.to_owned()));
    }
}

impl super::keeper::Keeper {
    /// The fault of model.toml, where no good settings were ever known: a first champion fixes the interface for ever,
    /// and must not do so under settings that nobody wrote.
    pub(super) fn settings_unknown(&self) -> Option<String> {
        let known = self.row.settings.as_deref().is_some_and(|text| !text.trim().is_empty());
        let fault = self.served.settings_fault.load();
        fault.as_ref().clone().filter(|_| !known)
    }

    /// Whether column names may become the interface.
    ///
    /// # Errors
    /// The settings contradict the directory.
    pub(super) fn wants_features(&self) -> Result<bool, String> {
        crate::model::interface::wants_features(self.config.interface, self.has_pbtxt)
    }
}
