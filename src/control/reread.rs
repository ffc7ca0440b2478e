//! Loaded versions that are asked or read in another way from now on: new names of columns, new meanings of outputs.
//!
//! Always holds: what may fail is in [`Thread::prepare`], and [`Thread::put`] only stores; the versions of the slot keep
//! their sessions; requests that were decoded before are answered after.

use std::sync::Arc;

use super::Thread;
use super::keeper::{Keeper, Version};
use crate::arena::Challenger;
use crate::champion::{Champion, Loaded, VersionInfo};
use crate::config::{ModelConfig, VersionConfig};
use crate::model::head::HeadSettings;
use crate::score::VersionNo;
use crate::time::now_ms;

/// A shadowed version, and the runner that asks and reads it in the new way.
pub(super) type Shadow = (VersionNo, Arc<Challenger>);

/// What an edit of the settings changes in the reading of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// From which score on a label is positive: scores stay what they are.
    Labels,
    /// What scores mean.
    Meaning,
}

/// The loaded versions of a model as they are asked and read under the keeper's settings of a moment.
#[derive(Debug)]
pub(super) struct Prepared {
    champion: Option<Champion>,
    /// Empty where the runners stay.
    pub shadows: Vec<Shadow>,
    before: Vec<(VersionNo, Option<Arc<VersionInfo>>)>,
}

impl Thread {
    /// Champion and shadows under the keeper's interface and settings of this moment. `is_renewed`: of a shadow that is
    /// asked or read in another way, so that it needs a new runner.
    ///
    /// # Errors
    /// Which version cannot be asked or read so, and why; nothing has changed then.
    pub(super) fn prepare(&mut self, model: &str, is_renewed: impl Fn(VersionNo) -> bool) -> Result<Prepared, String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
        keeper.check_heads()?;
        let champion = match keeper.served.slot.load() {
            Some(now) => Some(Champion {
                epoch: now.epoch,
                since_ms: now.since_ms,
                version: again(keeper, &now.version)?,
                previous: now.previous.as_ref().map(|p| again(keeper, p)).transpose()?,
            }),
            None => None,
        };
        let running = keeper.versions.iter().filter(|v| v.runner.is_some());
        let before: Vec<_> = running.map(|v| (v.row.no, v.info.clone())).collect();
        let numbers: Vec<VersionNo> = before.iter().map(|(no, _)| *no).collect();
        let mut prepared = Prepared {
            champion,
            shadows: Vec::new(),
            before,
        };
        for no in numbers {
            let done = match is_renewed(no) {
                true => self
                    .new_runner(model, no)
                    .map(|runner| prepared.shadows.push((no, runner))),
                false => self.new_info(model, no),
            };
            if let Err(why) = done {
                self.undo(model, prepared);
                return Err(why);
            }
        }
        Ok(prepared)
    }

    fn new_info(&mut self, model: &str, no: VersionNo) -> Result<(), String> {
        let keeper = self.keepers.get_mut(model).ok_or("no such model")?;
        let version = keeper.version(no).ok_or("no such version")?;
        let interface = keeper.interface.as_ref().ok_or("the model has no interface yet")?;
        let info = Arc::new(keeper.info(version, interface)?);
        if let Some(version) = keeper.version_mut(no) {
            version.info = Some(info);
        }
        Ok(())
    }

    /// What was prepared is not wanted.
    pub(super) fn undo(&mut self, model: &str, prepared: Prepared) {
        prepared.shadows.iter().for_each(|(_, runner)| runner.stop());
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        for (no, info) in prepared.before {
            if let Some(version) = keeper.version_mut(no) {
                version.info = info;
            }
        }
    }

    /// Puts what was prepared in force.
    pub(super) fn put(&mut self, model: &str, prepared: Prepared) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        // The champion first: it understands what clients send now, and nobody sends more before the view tells.
        let outgoing = prepared
            .champion
            .and_then(|champion| keeper.served.slot.store(Arc::new(champion)));
        let mut leaving = Vec::new();
        for (no, runner) in prepared.shadows {
            if let Some(version) = keeper.version_mut(no) {
                leaving.extend(version.runner.replace(runner));
            }
        }
        keeper.publish_challengers();
        keeper.refresh_view(self.config.max_rows);
        leaving.iter().for_each(|runner| runner.stop());
        self.released.take(outgoing);
    }

    /// Loads champion and previous one anew, to run as the settings of this moment say; requests are answered by the
    /// sessions of before until then.
    ///
    /// # Errors
    /// What could not be loaded; the sessions of before go on then.
    pub(super) fn reload(&mut self, model: &str) -> Result<(), String> {
        let slot = self.keepers.get(model).and_then(|keeper| keeper.served.slot.load());
        let Some(now) = slot else { return Ok(()) };
        let champion = Champion {
            epoch: now.epoch,
            since_ms: now.since_ms,
            version: self.load_again(model, now.version.info.no)?,
            previous: match &now.previous {
                Some(previous) => Some(self.load_again(model, previous.info.no)?),
                None => None,
            },
        };
        if let Some(keeper) = self.keepers.get(model) {
            self.released.take(keeper.served.slot.store(Arc::new(champion)));
        }
        Ok(())
    }

    /// A version's own toml has another threshold, or another calibration. What was scored before and is not closed yet
    /// was read in the old way: the judge is told from which row on the new way counts.
    pub(super) fn relabel(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        let (relabel, renewed) = (
            std::mem::take(&mut keeper.relabel),
            std::mem::take(&mut keeper.recalibrate),
        );
        if (!relabel && renewed.is_empty()) || keeper.interface.is_none() {
            return;
        }
        let prepared = match self.prepare(model, |no| renewed.contains(&no)) {
            Ok(prepared) => prepared,
            Err(why) => {
                tracing::error!(model, "the settings of before stay in force: {why}");
                return;
            }
        };
        let Some(keeper) = self.keepers.get(model) else { return };
        let (no, own) = (keeper.row.no, keeper.all_own_settings());
        let mut lineup = keeper.lineup_without(VersionNo(0));
        for (version, runner) in &prepared.shadows {
            let places = lineup.iter_mut().filter(|(other, _)| other == version);
            places.for_each(|(_, old)| *old = Arc::clone(runner));
        }
        let has_runners = !prepared.shadows.is_empty();
        let recorded = self.recorder.call_blocking(move |core, writer| {
            if has_runners {
                core.set_challengers(writer, no, lineup)?;
            }
            for (own, settings) in &own {
                if let Some(book) = core.books.get_mut(&no) {
                    book.note(writer, own, now_ms())?;
                }
                if let Some(settings) = settings {
                    writer.put_own_settings(own.version, settings)?;
                }
            }
            Ok(())
        });
        match recorded {
            Ok(()) => self.put(model, prepared),
            Err(error) => {
                self.undo(model, prepared);
                // Tried again at the next look.
                if let Some(keeper) = self.keepers.get_mut(model) {
                    (keeper.relabel, keeper.recalibrate) = (relabel, renewed);
                }
                self.report(Err(error.into()));
            }
        }
    }
}

impl Keeper {
    /// What this edit changes in the reading of outputs.
    pub(super) fn change_since(&self, before: &ModelConfig) -> Option<Change> {
        self.interface.as_ref()?;
        let plain = VersionConfig::default();
        let (old, new) = (before.head(&plain), self.config.head(&plain));
        if old == new {
            return None;
        }
        let threshold = new.threshold;
        let is_meant_alike = HeadSettings { threshold, ..old } == new;
        Some(if is_meant_alike {
            Change::Labels
        } else {
            Change::Meaning
        })
    }

    /// Where nobody knew the model's task until now, the champion's under the settings of this moment. True when it
    /// is known from now on.
    pub(super) fn learn_task(&mut self) -> bool {
        let Some(head) = self.champion_head() else { return false };
        let Some(interface) = self.interface.as_mut().filter(|known| known.task.is_none()) else {
            return false;
        };
        (interface.task, interface.classes) = (head.task, head.classes);
        interface.task.is_some()
    }

    /// Whether `[label] absent` is a label of this version, and the metric one for its classes.
    pub(super) fn check_absent(&self, version: Option<&Version>) -> Result<(), String> {
        let Some(head) = version.and_then(|version| self.head(version).ok()) else {
            return Ok(());
        };
        super::policy::check_absent(&self.config, &head)
            .and_then(|()| super::policy::check_classes(&self.config, &head))
            .map_err(|why| format!("{}/model.toml: {why}", self.served.name))
    }

    /// Whether the judge's rules fit each other; before the first champion nobody knows.
    pub(super) fn check_rules(&self) -> Result<(), String> {
        let Some(interface) = &self.interface else {
            return Ok(());
        };
        super::policy::check_rules(&self.config, interface.task)
            .map_err(|why| format!("{}/model.toml: {why}", self.served.name))
    }

    /// Whether those that answer may run where the settings of this moment want them.
    pub(super) fn check_isolation(&self) -> Result<(), String> {
        let answers = |v: &&Version| v.is("champion") || v.is("previous");
        for version in self.versions.iter().filter(answers) {
            if let Some(why) = self.unfit_to_answer(version) {
                return Err(format!("{} '{}': {why}", version.row.role, version.row.name));
            }
        }
        Ok(())
    }

    /// For each challenger, why it may not be champion under the settings of this moment.
    pub(super) fn bars(&self) -> Vec<(VersionNo, Option<String>)> {
        let challengers = self.versions.iter().filter(|v| v.is("challenger"));
        challengers.map(|v| (v.row.no, self.unfit_to_answer(v))).collect()
    }

    /// Whether every loaded version can be read under the settings of this moment, as the model's clients expect.
    fn check_heads(&self) -> Result<(), String> {
        let Some(interface) = &self.interface else {
            return Ok(());
        };
        for version in self.versions.iter().filter(|v| v.is_loaded() && v.facts.is_some()) {
            let read = self
                .head(version)
                .and_then(|head| interface.check_answers(head.task, head.classes.as_ref()));
            read.map_err(|why| format!("{} '{}' does not fit: {why}", version.row.role, version.row.name))?;
        }
        Ok(())
    }
}

fn again(keeper: &Keeper, loaded: &Loaded) -> Result<Arc<Loaded>, String> {
    let version: &Version = keeper.version(loaded.info.no).ok_or("the ledger has lost it")?;
    let interface = keeper.interface.as_ref().ok_or("the model has no interface yet")?;
    let info = keeper.info(version, interface)?;
    Ok(Arc::new(loaded.with_info(Arc::new(info))))
}
