//! One model's versions and their roles.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Fault;
use crate::arena::Challenger;
use crate::champion::{Champion, Loaded, Probe, ProcessSpec, VersionInfo};
use crate::config::{ModelConfig, VersionConfig};
use crate::consent::Followed;
use crate::id::IdKey;
use crate::ledger::{ModelRow, VersionRow};
use crate::metrics::ModelMetrics;
use crate::model::facts::{Facts, Refused};
use crate::model::head::Head;
use crate::model::interface::Interface;
use crate::model::remedy::{answers_apart, unfit_to_answer};
use crate::recorder::{Event, OwnSettings, Recorder};
use crate::score::VersionNo;
use crate::served::{Pinnable, Served, View};
use crate::shared::Register;
use crate::time::now_ms;

/// A version that was seen in the directory.
#[derive(Debug)]
pub(super) struct Version {
    pub row: VersionRow,
    pub facts: Option<Facts>,
    pub settings: VersionConfig,
    pub info: Option<Arc<VersionInfo>>,
    pub runner: Option<Arc<Challenger>>,
    /// Its file is not there since.
    pub gone_since: Option<Instant>,
    /// It waits for rows that carry this feature.
    pub lacks: Option<String>,
    /// It is with the admission thread.
    pub vetting: bool,
    /// The settings changed meanwhile: once more.
    pub vet_again: bool,
    /// Its examination failed for no fault of the bytes: the next one.
    pub retry: Option<Retry>,
    /// It was rejected and may fit now: nothing of the file need be found out again.
    pub fit_again: bool,
    /// Its stored bytes are missed, which its reason says.
    pub misses_bytes: bool,
    /// It has a place and no runner, for want of memory, which its reason says.
    pub waits_for_memory: bool,
}

/// When something is tried once more, and how long it rested before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub at: Instant,
    pub rest: Duration,
}

impl Version {
    pub(super) fn is(&self, role: &str) -> bool {
        self.row.role == role
    }

    /// Loaded or on its way: its name and bytes are taken.
    pub(super) fn is_live(&self) -> bool {
        matches!(
            self.row.role.as_str(),
            "candidate" | "challenger" | "champion" | "previous"
        )
    }
}

impl Version {
    /// What is known of its bytes holds under the runtime and the rules of today.
    pub(super) fn is_examined(&self) -> bool {
        self.facts.as_ref().is_some_and(crate::model::facts::Facts::hold)
    }

    /// Its bytes were refused under the runtime of today: no settings make them better.
    pub(super) fn is_refused_for_good(&self) -> bool {
        let refused: Option<Refused> = self
            .row
            .facts
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok());
        refused.is_some_and(|refused| refused.refused_by == Refused::here().refused_by)
    }

    /// Takes the column names of the settings of this moment into what is known.
    pub(super) fn rename_columns(&mut self, config: &ModelConfig) {
        let listed = self.settings.features.as_ref().or(config.features.as_ref());
        let Some(facts) = &mut self.facts else { return };
        let names = listed.cloned().or_else(|| facts.scan.feature_names());
        if facts.names != names {
            facts.names = names;
            self.row.facts = serde_json::to_string(facts).ok();
        }
    }

    /// Answering, standing by or shadowed: what was learned of it belongs to its bytes.
    pub(super) fn is_loaded(&self) -> bool {
        self.is_live() && !self.is("candidate")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    pub served: Arc<Served>,
    pub row: ModelRow,
    pub config: Arc<ModelConfig>,
    /// Text of model.toml as it was last taken in.
    pub config_text: Option<String>,
    /// Another text that stands there since: an edit in place is seen half-written.
    pub config_edit: Option<(String, Instant)>,
    /// A `config.pbtxt` stands beside the versions: never the features interface.
    pub has_pbtxt: bool,
    pub interface: Option<Interface>,
    pub versions: Vec<Version>,
    /// Text of each `<version>.toml` as it was last read.
    pub settings_texts: BTreeMap<String, String>,
    /// Another text of one that stands there since.
    pub settings_edits: BTreeMap<String, (String, Instant)>,
    /// Files on their way through the content store.
    pub storing: usize,
    /// Column names in model.toml that do not fit the running model, so that it is said once.
    pub names_refused: Option<Vec<String>>,
    /// The threshold of a loaded version has changed.
    pub relabel: bool,
    /// Loaded versions whose calibration has changed.
    pub recalibrate: Vec<VersionNo>,
    /// What the judge was told of the versions.
    pub marked: Vec<Event>,
    /// Who approves of whom, in this tenure.
    pub approvals: Vec<super::approval::Approval>,
    /// The tenure whose latency is watched.
    pub watched: Option<super::slow::Watched>,
    /// Why its directory cannot be looked into.
    pub away: Option<String>,
    /// The entities that are kept out.
    pub opt_out: Followed,
}

impl Keeper {
    /// A model with the versions that the ledger knows, and what was last in force of their own settings; nothing runs
    /// yet.
    pub(super) fn new(
        row: ModelRow,
        versions: Vec<VersionRow>,
        own: &[(VersionNo, String)],
        metrics: ModelMetrics,
    ) -> Self {
        let config = row
            .settings
            .as_deref()
            .and_then(|text| ModelConfig::parse("model.toml", text).ok());
        let mut keeper = Self {
            served: Arc::new(Served::new(row.name.clone(), row.no, metrics)),
            interface: row
                .interface
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok()),
            row,
            config: Arc::new(config.unwrap_or_default()),
            config_text: None,
            config_edit: None,
            has_pbtxt: false,
            versions: Vec::new(),
            settings_texts: BTreeMap::new(),
            settings_edits: BTreeMap::new(),
            storing: 0,
            names_refused: None,
            relabel: false,
            recalibrate: Vec::new(),
            marked: Vec::new(),
            approvals: Vec::new(),
            watched: None,
            away: None,
            opt_out: Followed::default(),
        };
        for version in versions {
            let own = own.iter().find(|(no, _)| *no == version.no);
            let settings = own.and_then(|(_, text)| serde_json::from_str(text).ok());
            keeper.add(version, settings.unwrap_or_default());
        }
        keeper
    }

    /// Takes a version in.
    pub(super) fn add(&mut self, row: VersionRow, settings: VersionConfig) {
        let facts = row.facts.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let version = Version {
            row,
            facts,
            settings,
            info: None,
            runner: None,
            gone_since: None,
            lacks: None,
            vetting: false,
            vet_again: false,
            retry: None,
            fit_again: false,
            misses_bytes: false,
            waits_for_memory: false,
        };
        self.versions.push(version);
    }

    /// True when this new text of model.toml has stood there for so long.
    pub(super) fn has_settled(&mut self, text: &str, settle: Duration) -> bool {
        match &self.config_edit {
            Some((seen, since)) if seen == text => since.elapsed() >= settle,
            _ => {
                self.config_edit = Some((text.to_owned(), Instant::now()));
                settle.is_zero()
            }
        }
    }

    /// True when this text of a version's toml may take effect: it is what was read last, no version of it is loaded, or it
    /// has stood there for so long. Written in place, a file is empty for a moment, and would take a calibration away.
    pub(super) fn may_take_effect(&mut self, name: &str, text: Option<&str>, settle: Duration) -> bool {
        let text = text.unwrap_or_default();
        let is_of = |v: &Version| v.is_loaded() && super::roles::file_of(&v.row.name) == name;
        let known = self.settings_texts.get(name);
        if known.is_none_or(|known| known == text) || !self.versions.iter().any(is_of) {
            self.settings_edits.remove(name);
            return true;
        }
        match self.settings_edits.get(name) {
            Some((seen, since)) if seen == text => since.elapsed() >= settle,
            _ => {
                let edit = (text.to_owned(), Instant::now());
                self.settings_edits.insert(name.to_owned(), edit);
                settle.is_zero()
            }
        }
    }

    /// Takes note of a version's toml. True when it changed and the version may be looked at anew.
    pub(super) fn note_settings(&mut self, name: &str, text: Option<String>) -> bool {
        let text = text.unwrap_or_default();
        let before = self.settings_texts.insert(name.to_owned(), text.clone());
        if before.as_ref() == Some(&text) {
            return false;
        }
        let is_of = |v: &&Version| v.row.name == name || super::roles::file_of(&v.row.name) == name;
        let names: Vec<String> = self.versions.iter().filter(is_of).map(|v| v.row.name.clone()).collect();
        let fault = VersionConfig::parse(&format!("{}/{name}.toml", self.served.name), &text).err();
        self.say_settings(name, fault.map(|fault| fault.to_string()));
        for name in names {
            // A bad edit leaves the last good settings in force.
            let Some(settings) = self.settings_written(&name) else {
                continue;
            };
            if let Some(why) = self.misreads(&name, &settings) {
                self.say_settings(super::roles::file_of(&name), Some(why));
                continue;
            }
            for version in self.versions.iter_mut().filter(|v| v.row.name == name) {
                if version.is_loaded() {
                    self.relabel |= version.settings.threshold != settings.threshold;
                    let recalibrates = version.settings.calibration != settings.calibration;
                    self.recalibrate.extend(recalibrates.then_some(version.row.no));
                }
                // Recorded when it is admitted: what the toml says of later bytes says nothing of these.
                if version.is("candidate") || version.is("rejected") {
                    version.row.lineage = serde_json::to_string(&settings.lineage).ok();
                }
                version.settings = settings.clone();
            }
        }
        before.is_some() && self.named(name).is_some_and(|v| v.is("rejected"))
    }

    /// The same for one that cannot be read: it is faulty.
    pub(super) fn note_unreadable(&mut self, name: &str, why: String) -> bool {
        /// No settings read like this.
        const UNREADABLE: &str = "cannot be read";
        self.settings_texts.insert(name.to_owned(), UNREADABLE.to_owned());
        self.say_settings(name, Some(why));
        false
    }

    /// Shows what is wrong with the toml of a version's file.
    pub(super) fn say_settings(&self, file: &str, fault: Option<String>) {
        let shown = self.served.version_faults.load();
        if shown.get(file) == fault.as_ref() {
            return;
        }
        let mut all = (**shown).clone();
        match fault {
            Some(fault) => {
                tracing::error!("the last good settings of the version stay in force: {fault}");
                all.insert(file.to_owned(), fault)
            }
            None => all.remove(file),
        };
        self.served.version_faults.store(Arc::new(all));
    }

    /// The settings of a version's toml; a faulty one counts as absent.
    pub(super) fn settings_of(&self, name: &str) -> VersionConfig {
        self.settings_written(name).unwrap_or_default()
    }

    /// The settings of a version's toml; `None` where it is faulty, which `say_settings` says.
    fn settings_written(&self, name: &str) -> Option<VersionConfig> {
        let file = super::roles::file_of(name);
        let text = self.settings_texts.get(name).or_else(|| self.settings_texts.get(file));
        match text.map(|text| VersionConfig::parse(&format!("{}/{file}.toml", self.served.name), text)) {
            Some(Ok(settings)) => Some(settings),
            Some(Err(_)) => None,
            None => Some(VersionConfig::default()),
        }
    }

    /// Why a loaded version of this name cannot be read under these settings of its own.
    fn misreads(&self, name: &str, settings: &VersionConfig) -> Option<String> {
        let loaded = |v: &&Version| v.row.name == name && v.is_loaded() && v.facts.is_some();
        let head = |v| self.head_under(v, settings);
        self.versions.iter().filter(loaded).find_map(|v| head(v).err())
    }

    /// What the judge is to know of a version's own settings.
    pub(super) fn own_settings(&self, version: &Version) -> Option<OwnSettings> {
        let head = self.head(version).ok()?;
        Some(OwnSettings {
            version: version.row.no,
            threshold: head.threshold,
            calibration: head.calibration(),
        })
    }

    /// The same of all loaded versions, with what the ledger keeps of each.
    pub(super) fn all_own_settings(&self) -> Vec<(OwnSettings, Option<String>)> {
        let loaded = self.versions.iter().filter(|v| v.is_loaded());
        loaded
            .filter_map(|v| Some((self.own_settings(v)?, serde_json::to_string(&v.settings).ok())))
            .collect()
    }

    /// How the champion's outputs and everybody's labels are read.
    pub(super) fn champion_head(&self) -> Option<Head> {
        self.head(self.version(self.row.champion?)?).ok()
    }

    pub(super) fn holds(&self, no: VersionNo) -> bool {
        self.versions.iter().any(|v| v.row.no == no)
    }

    pub(super) fn version(&self, no: VersionNo) -> Option<&Version> {
        self.versions.iter().find(|v| v.row.no == no)
    }

    pub(super) fn version_mut(&mut self, no: VersionNo) -> Option<&mut Version> {
        self.versions.iter_mut().find(|v| v.row.no == no)
    }

    pub(super) fn name_of(&self, no: VersionNo) -> &str {
        self.version(no).map_or("?", |v| v.row.name.as_str())
    }

    /// The newest version of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Version> {
        self.versions.iter().rev().find(|v| v.row.name == name)
    }

    /// True while a version's own bytes are the newest of a file that is there.
    pub(super) fn is_there(&self, version: &Version) -> bool {
        let file = super::roles::file_of(&version.row.name);
        let newest = self
            .versions
            .iter()
            .rev()
            .find(|v| super::roles::file_of(&v.row.name) == file);
        version.gone_since.is_none() && newest.is_some_and(|newest| newest.row.no == version.row.no)
    }

    pub(super) fn stop_runners(&mut self) {
        self.served.challengers.store(Arc::default());
        for version in &mut self.versions {
            if let Some(runner) = version.runner.take() {
                runner.stop();
            }
        }
    }

    /// Writes a version's role, in the ledger first.
    pub(super) fn set_role(
        &mut self,
        recorder: &Recorder,
        no: VersionNo,
        role: &str,
        reason: Option<&str>,
    ) -> Result<(), Fault> {
        let Some(version) = self.version_mut(no) else {
            return Ok(());
        };
        if version.is(role) && version.row.reason.as_deref() == reason {
            return Ok(());
        }
        let row = VersionRow {
            role: role.to_owned(),
            reason: reason.map(str::to_owned),
            ..version.row.clone()
        };
        let copy = row.clone();
        recorder.call_blocking(move |_, writer| writer.update_version(&copy))?;
        if let Some(version) = self.version_mut(no) {
            version.row = row;
        }
        Ok(())
    }

    /// A challenger leaves: no new rows, its waiting ones are shed, its evidence is parked.
    /// `by` is who decided that, and their reason, where it is a decision.
    pub(super) fn leave(
        &mut self,
        recorder: &Recorder,
        no: VersionNo,
        (role, reason): (&str, &str),
        by: Option<(&str, &str)>,
    ) -> Result<(), Fault> {
        let Some(version) = self.version(no) else { return Ok(()) };
        if version.is("champion") || version.is("previous") && role == "retired" {
            return Ok(());
        }
        let row = VersionRow {
            role: role.to_owned(),
            reason: Some(reason.to_owned()),
            ..version.row.clone()
        };
        // Whoever crashes its runner is nobody to go back to.
        let model_row = ModelRow {
            previous: self.row.previous.filter(|&previous| previous != no),
            ..self.row.clone()
        }
        .proposed();
        let (copy, model, lineup) = (row.clone(), model_row.clone(), self.lineup_without(no));
        let parties = super::basis::Parties::of(self, Some(no), None);
        let decided = by.map(|(author, said)| (author.to_owned(), said.to_owned(), reason.to_owned()));
        recorder.call_blocking(move |core, writer| {
            if let Some((author, said, why)) = decided {
                let basis = parties.basis(None, core.books.get(&model.no));
                let what = ("retire", Some(no), None);
                writer.insert_decision(model.no, now_ms(), what, (&author, &said, &why), Some(&basis))?;
            }
            writer.update_version(&copy)?;
            writer.compare_and_set(&model)?;
            core.set_challengers(writer, model.no, lineup)?;
            let Some(book) = core.books.get_mut(&model.no) else {
                return Ok(());
            };
            book.row = model;
            book.apply(writer, &Event::Leave { version: no }, now_ms())
        })?;
        self.row = model_row;
        if let Some(version) = self.version_mut(no) {
            version.row = row;
            if let Some(runner) = version.runner.take() {
                runner.stop();
            }
        }
        self.publish_challengers();
        Ok(())
    }

    /// Takes a version that the register no longer names as previous out of the slot; gives what the slot held.
    pub(super) fn dismiss(&self, no: VersionNo) -> Option<Arc<Champion>> {
        let now = self.served.slot.load()?;
        let stands_by = now.previous.as_ref().is_some_and(|previous| previous.info.no == no);
        if !stands_by || self.row.previous == Some(no) {
            return None;
        }
        self.served.slot.store(Arc::new(Champion {
            epoch: now.epoch,
            since_ms: now.since_ms,
            version: Arc::clone(&now.version),
            previous: None,
        }))
    }

    /// The shadowed versions, but for one.
    pub(super) fn lineup_without(&self, no: VersionNo) -> Vec<(VersionNo, Arc<Challenger>)> {
        let shadowed = self.versions.iter().filter(|v| v.row.no != no);
        shadowed
            .filter_map(|v| Some((v.row.no, Arc::clone(v.runner.as_ref()?))))
            .collect()
    }

    /// Why a version is refused as a copy of another one.
    pub(super) fn copy_of(&self, name: &str, digest: &str) -> Option<String> {
        if let Some(quarantined) = self.quarantined(digest) {
            let why = quarantined.row.reason.as_deref().unwrap_or("it crashed");
            return Some(format!(
                "has the same bytes as '{}', which is quarantined ({why}): mend them, or retire '{}' to try them again",
                quarantined.row.name, quarantined.row.name
            ));
        }
        let is_other = |v: &&Version| v.is_live() && v.row.digest == digest && v.row.name != name;
        let other = self.versions.iter().find(is_other)?;
        let (settings, same) = (self.settings_written(name), &other.row.name);
        let toml = format!("{}.toml", super::roles::file_of(name));
        match settings {
            Some(settings) if settings.twin => None,
            Some(_) => Some(format!(
                "has the same bytes as '{same}': remove it, or set twin = true in {toml} to run a copy"
            )),
            None => Some(format!(
                "has the same bytes as '{same}', and {toml}, which could say twin = true, cannot be read: mend it"
            )),
        }
    }

    /// Versions of the same bytes that are no longer loaded, the latest last.
    pub(super) fn earlier_of(&self, version: &Version) -> Vec<VersionNo> {
        let is_earlier = |v: &&Version| {
            v.row.no != version.row.no && v.row.digest == version.row.digest && !v.is_live() && !v.is("quarantined")
        };
        self.versions.iter().filter(is_earlier).map(|v| v.row.no).collect()
    }

    /// The version that was quarantined for these bytes: they stay so under any name.
    pub(super) fn quarantined(&self, digest: &str) -> Option<&Version> {
        self.versions
            .iter()
            .find(|v| v.is("quarantined") && v.row.digest == digest)
    }

    /// Puts a row in the place of the version that had its number, or at the end.
    pub(super) fn put(&mut self, row: VersionRow, settings: VersionConfig) {
        match self.version_mut(row.no) {
            Some(version) => {
                version.row = row;
                version.settings = settings;
                version.facts = None;
                (version.lacks, version.retry) = (None, None);
                version.fit_again = false;
                version.gone_since = None;
            }
            None => self.add(row, settings),
        }
    }

    /// Exchanges what is known of some versions; gives back what was.
    pub(super) fn swap_facts(&mut self, facts: Vec<(VersionNo, Facts)>) -> Vec<(VersionNo, Facts)> {
        let exchange = |(no, facts): (VersionNo, Facts)| {
            let before = self.version_mut(no)?.facts.replace(facts)?;
            Some((no, before))
        };
        facts.into_iter().filter_map(exchange).collect()
    }

    /// Lets requests pin the challengers of this moment.
    pub(super) fn publish_challengers(&self) {
        let pinnable = self.versions.iter().filter_map(|v| {
            let (info, challenger) = (v.info.clone()?, v.runner.clone()?);
            Some((v.row.name.clone(), Pinnable { info, challenger }))
        });
        self.served.challengers.store(Arc::new(pinnable.collect()));
    }

    /// Lets requests see interface and settings of this moment.
    pub(super) fn refresh_view(&self, max_rows: usize) {
        let (Some(interface), Some(head)) = (&self.interface, self.champion_head()) else {
            return;
        };
        let remedy = head.remedy.clone();
        self.say_mode(super::policy::why_off(&self.config, interface.task).map(|why| remedy.unwrap_or(why)));
        let schema = interface.schema(&self.served.carried);
        let may_be_named = matches!(self.wants_features(), Ok(true));
        let instead = interface.instead_of_instances(&self.served.name, may_be_named);
        let mut view = View::new(interface, schema, head, Arc::clone(&self.config), max_rows, instead);
        view.opt_out = self.opt_out.list();
        self.served.view.store(Some(Arc::new(view)));
    }

    /// Looks at the list of entities that are kept out. True when it is to be looked at again soon.
    pub(super) fn follow_opt_out(&mut self, directory: &Path, key: &IdKey, settle: Duration, max_rows: usize) -> bool {
        let config = Arc::clone(&self.config);
        let name = config.record.opt_out.as_deref();
        let has_changed = self.opt_out.look(directory, name, key, settle);
        let fault = self
            .opt_out
            .fault()
            .map(|fault| format!("{}/model.toml: {fault}", self.served.name));
        if **self.served.opt_out_fault.load() != fault {
            if let Some(fault) = &fault {
                tracing::error!("{fault}");
            }
            self.served.opt_out_fault.store(Arc::new(fault));
        }
        if has_changed {
            let entities = self.opt_out.list().and_then(|list| list.len());
            tracing::info!(
                model = self.served.name,
                entities,
                "the list of entities that are kept out has changed"
            );
            self.refresh_view(max_rows);
        }
        self.opt_out.is_settling()
    }

    fn say_mode(&self, why: Option<String>) {
        let shown = &self.served.mode_reason;
        if **shown.load() != why {
            if let Some(why) = &why {
                tracing::warn!(model = self.served.name, "nothing is judged: {why}");
            }
            shown.store(Arc::new(why));
        }
    }

    /// What identifies a version and how it is asked and read, from what admission found.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub(super) fn info(&self, version: &Version, interface: &Interface) -> Result<VersionInfo, String> {
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        let head = self.head(version)?;
        let layout = interface
            .join(facts, |_| true)
            .map_err(|misfit| format!("{misfit:?}"))?
            .1;
        let (counters, faults) = self.served.counters(version.row.no);
        Ok(VersionInfo {
            no: version.row.no,
            name: version.row.name.clone(),
            digest: version.row.digest.clone(),
            signature: facts.signature.clone(),
            layout,
            head,
            batched: facts.batched,
            counters,
            faults,
            outputs: facts.signature.output_names(),
        })
    }

    /// How a version's outputs are read under the settings of this moment.
    ///
    /// # Errors
    /// What does not fit the settings, and the line to add.
    pub(super) fn head(&self, version: &Version) -> Result<Head, String> {
        self.head_under(version, &version.settings)
    }

    fn head_under(&self, version: &Version, settings: &VersionConfig) -> Result<Head, String> {
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        let probe = crate::model::facts::unpack(&facts.probe_outputs);
        let settings = self.config.head(settings);
        Head::find(&facts.signature, &facts.scan, &probe, facts.probe_rows, &settings)
    }

    /// Why a version may not answer under the settings of this moment.
    pub(super) fn unfit_to_answer(&self, version: &Version) -> Option<String> {
        unfit_to_answer(&version.facts.as_ref()?.scan, &self.config)
    }

    /// Loads a version to answer, warm, to run as the settings of this moment say: into this process, or into processes
    /// of its own, as `spec` gives them.
    ///
    /// # Errors
    /// The runtime's own words.
    pub(super) fn load(
        &self,
        info: Arc<VersionInfo>,
        spec: ProcessSpec,
        workers: usize,
    ) -> Result<Arc<Loaded>, String> {
        let version = self.version(info.no).ok_or("it has not been admitted")?;
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        if let Some(why) = self.unfit_to_answer(version) {
            return Err(why);
        }
        let inputs = crate::model::facts::unpack(&facts.probe_inputs);
        let probe = (!inputs.is_empty()).then_some(Probe {
            inputs: &inputs,
            rows: facts.probe_rows,
        });
        let execution = &self.config.execution;
        let begun = Instant::now();
        let loaded = match answers_apart(&facts.scan, &self.config).is_some() {
            true => Loaded::load_apart(info, spec, workers, execution, probe),
            false => Loaded::load(info, &spec.path, workers, execution, probe),
        };
        self.served.metrics.load.record(begun.elapsed());
        loaded.map(Arc::new).map_err(|error| error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::score::ModelNo;

    #[test]
    fn a_toml_that_is_empty_for_a_moment_while_it_is_written_takes_nothing_away_from_a_loaded_version() {
        let row = ModelRow {
            no: ModelNo(1),
            name: "m".into(),
            interface: None,
            settings: None,
            champion: None,
            previous: None,
            epoch: 0,
            champion_since: None,
            hold: None,
            revision: 0,
            nonce: None,
        };
        let version = VersionRow {
            no: VersionNo(1),
            model: ModelNo(1),
            name: "calm".into(),
            digest: "sha256:00".into(),
            stored_digest: None,
            role: "challenger".into(),
            reason: None,
            arrived_ms: 0,
            facts: None,
            lineage: None,
        };
        let mut keeper = Keeper::new(row, vec![version], &[], Metrics::default().model("m"));
        let hour = Duration::from_secs(3_600);
        let (old, new) = ("threshold = 0.4\n", "threshold = 0.6\n");
        assert!(keeper.may_take_effect("calm", Some(old), hour), "the first look");
        keeper.note_settings("calm", Some(old.into()));
        for seen in [None, Some(""), Some(new)] {
            assert!(!keeper.may_take_effect("calm", seen, hour), "{seen:?}");
        }
        assert!(
            keeper.may_take_effect("calm", Some(old), hour),
            "nothing has changed after all"
        );
        assert!(!keeper.may_take_effect("calm", Some(new), hour));
        assert!(
            keeper.may_take_effect("calm", Some(new), Duration::ZERO),
            "it has stood there long enough"
        );
        assert!(
            keeper.may_take_effect("other", Some(new), hour),
            "nobody of it is loaded"
        );
    }
}
