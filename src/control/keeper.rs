//! One model's versions and their roles.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::Fault;
use crate::arena::Challenger;
use crate::champion::{Loaded, VersionInfo};
use crate::config::{ModelConfig, VersionConfig};
use crate::ledger::{ModelRow, VersionRow};
use crate::model::facts::Facts;
use crate::model::head::Head;
use crate::model::interface::Interface;
use crate::recorder::{Event, Recorder};
use crate::score::VersionNo;
use crate::served::{Pinnable, Served, View};
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
}

impl Version {
    pub(super) fn is(&self, role: &str) -> bool {
        self.row.role == role
    }

    /// Loaded or on its way: its name and bytes are taken.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.row.role.as_str(), "candidate" | "challenger" | "champion" | "previous")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    pub served: Arc<Served>,
    pub row: ModelRow,
    pub config: Arc<ModelConfig>,
    pub config_fault: Option<String>,
    /// Text of model.toml as it was last read.
    pub config_text: Option<String>,
    /// A `config.pbtxt` stands beside the versions: never the features interface.
    pub has_pbtxt: bool,
    pub interface: Option<Interface>,
    pub versions: Vec<Version>,
    /// What was last made of each name in the directory: the stamp of its files.
    pub stamps: BTreeMap<String, crate::intake::Stamp>,
    /// Names on their way through the content store.
    pub storing: HashMap<String, crate::intake::Stamp>,
}

impl Keeper {
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
        let Some(version) = self.version_mut(no) else { return Ok(()) };
        let row = VersionRow { role: role.to_owned(), reason: reason.map(str::to_owned), ..version.row.clone() };
        let copy = row.clone();
        recorder.call_blocking(move |_, writer| writer.update_version(&copy))?;
        if let Some(version) = self.version_mut(no) {
            version.row = row;
        }
        Ok(())
    }

    /// A challenger leaves: no new rows, its waiting ones are shed, its evidence is parked.
    pub(super) fn leave(
        &mut self,
        recorder: &Recorder,
        no: VersionNo,
        role: &str,
        reason: &str,
    ) -> Result<(), Fault> {
        let Some(version) = self.version(no) else { return Ok(()) };
        if version.is("champion") || version.is("previous") && role == "retired" {
            return Ok(());
        }
        let row = VersionRow { role: role.to_owned(), reason: Some(reason.to_owned()), ..version.row.clone() };
        let (copy, lineup, model) = (row.clone(), self.lineup_without(no), self.row.no);
        recorder.call_blocking(move |core, writer| {
            writer.update_version(&copy)?;
            core.set_challengers(writer, model, lineup)?;
            match core.books.get_mut(&model) {
                Some(book) => book.apply(writer, &Event::Leave { version: no }, now_ms()),
                None => Ok(()),
            }
        })?;
        if let Some(version) = self.version_mut(no) {
            version.row = row;
            if let Some(runner) = version.runner.take() {
                runner.stop();
            }
        }
        self.publish_challengers();
        Ok(())
    }

    /// The shadowed versions, but for one.
    pub(super) fn lineup_without(&self, no: VersionNo) -> Vec<(VersionNo, Arc<Challenger>)> {
        let shadowed = self.versions.iter().filter(|v| v.row.no != no);
        shadowed.filter_map(|v| Some((v.row.no, Arc::clone(v.runner.as_ref()?)))).collect()
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
    pub(super) fn publish_view(&self, head: &Head) {
        if let Some(interface) = &self.interface {
            self.served.view.store(Some(Arc::new(View {
                schema: interface.schema(),
                interface: interface.clone(),
                head: head.clone(),
                config: Arc::clone(&self.config),
            })));
        }
    }

    /// What identifies a version and how it is asked and read, from what admission found.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub(super) fn info(&self, version: &Version, interface: &Interface) -> Result<VersionInfo, String> {
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        let head = self.head(version)?;
        let layout = interface.join(facts, |_| true).map_err(|misfit| format!("{misfit:?}"))?.1;
        Ok(VersionInfo {
            no: version.row.no,
            name: version.row.name.clone(),
            digest: version.row.digest.clone(),
            signature: facts.signature.clone(),
            layout,
            head,
            batched: facts.batched,
        })
    }

    /// How a version's outputs are read under the settings of this moment.
    ///
    /// # Errors
    /// What does not fit the settings, and the line to add.
    pub(super) fn head(&self, version: &Version) -> Result<Head, String> {
        let facts = version.facts.as_ref().ok_or("it has not been admitted")?;
        let probe = crate::model::facts::unpack(&facts.probe_outputs);
        let settings = self.config.head(&version.settings);
        Head::find(&facts.signature, &facts.scan, &probe, facts.probe_rows, &settings)
    }

    /// Loads a version into this process, warm, with a session per worker.
    ///
    /// # Errors
    /// The runtime's own words.
    pub(super) fn load(&self, info: VersionInfo, path: &PathBuf, workers: usize) -> Result<Arc<Loaded>, String> {
        let facts = self.version(info.no).and_then(|v| v.facts.as_ref()).ok_or("it has not been admitted")?;
        let probe = crate::model::facts::unpack(&facts.probe_inputs);
        let probe = (!probe.is_empty()).then_some(probe.as_slice());
        Loaded::load(info, path, workers, probe).map(Arc::new).map_err(|error| error.0)
    }
}
