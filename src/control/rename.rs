//! Giving the columns of a running model their names.
//!
//! A first champion with one unnamed input fixes an interface of tensors. A line `features = […]` in model.toml widens
//! it: features by name from now on, and the tensors still. Everything that may fail comes first; the versions keep
//! their sessions, only the way they are asked changes, and requests that were decoded before are answered after.

use std::sync::Arc;

use super::keeper::{Keeper, Version};
use super::{Fault, Thread};
use crate::arena::Challenger;
use crate::champion::{Champion, Loaded};
use crate::ledger::{ModelRow, VersionRow};
use crate::model::facts::Facts;
use crate::model::interface::{Interface, Misfit};
use crate::score::VersionNo;

/// A shadowed version, and the runner that knows the names.
type Shadow = (VersionNo, Arc<Challenger>);

impl Thread {
    /// Widens the interface where model.toml names the columns of a model of tensors. Said in the view where it cannot.
    pub(super) fn give_names(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let names = match (&keeper.interface, &keeper.config.features, keeper.wants_features()) {
            (Some(interface), Some(names), Ok(true)) if !interface.is_features() => names.clone(),
            _ => return,
        };
        if keeper.names_refused.as_ref() == Some(&names) {
            return;
        }
        let done = self.widen(model, &names);
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        match done {
            Ok(()) => tracing::info!(
                model,
                features = names.join(", "),
                "clients may send named features now"
            ),
            Err(why) => {
                let text = format!("{model}/model.toml: features: {why}");
                tracing::error!(model, "clients still send tensors: {text}");
                keeper.served.settings_fault.store(Arc::new(Some(text)));
                keeper.names_refused = Some(names);
            }
        }
    }

    fn widen(&mut self, model: &str, names: &[String]) -> Result<(), String> {
        let keeper = self.keepers.get_mut(model).ok_or("no such model")?;
        let before = keeper.interface.clone().ok_or("the model has no interface yet")?;
        let (interface, changed) = joined(keeper, &before, names)?;
        let old_facts = keeper.swap_facts(changed.clone());
        keeper.interface = Some(interface.clone());
        let done = self.prepare(model).and_then(|(champion, shadows)| {
            self.record_names(model, &interface, &changed, &shadows)
                .map_err(|fault| fault.to_string())
                .inspect_err(|_| shadows.iter().for_each(|(_, runner)| runner.stop()))?;
            Ok((champion, shadows))
        });
        let keeper = self.keepers.get_mut(model).ok_or("no such model")?;
        let (champion, shadows) = match done {
            Ok(done) => done,
            Err(why) => {
                keeper.interface = Some(before);
                keeper.swap_facts(old_facts);
                return Err(why);
            }
        };
        // The champion first: it understands both spellings, and nobody sends the new one before the view tells.
        let outgoing = champion.and_then(|champion| keeper.served.slot.store(Arc::new(champion)));
        let mut leaving = Vec::new();
        for (no, runner) in shadows {
            if let Some(version) = keeper.version_mut(no) {
                leaving.extend(version.runner.replace(runner));
            }
        }
        keeper.publish_challengers();
        keeper.refresh_view(self.config.max_rows);
        leaving.iter().for_each(|runner| runner.stop());
        self.released.take(outgoing);
        Ok(())
    }

    /// Champion and shadows as they are asked under the keeper's interface of this moment.
    fn prepare(&mut self, model: &str) -> Result<(Option<Champion>, Vec<Shadow>), String> {
        let keeper = self.keepers.get(model).ok_or("no such model")?;
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
        let numbers: Vec<VersionNo> = running.map(|v| v.row.no).collect();
        let mut shadows: Vec<Shadow> = Vec::new();
        for no in numbers {
            match self.new_runner(model, no) {
                Ok(runner) => shadows.push((no, runner)),
                Err(why) => {
                    shadows.iter().for_each(|(_, runner)| runner.stop());
                    return Err(why);
                }
            }
        }
        Ok((champion, shadows))
    }

    fn record_names(
        &mut self,
        model: &str,
        interface: &Interface,
        changed: &[(VersionNo, Facts)],
        shadows: &[Shadow],
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let row = ModelRow {
            interface: serde_json::to_string(interface).ok(),
            ..keeper.row.clone()
        };
        let facts = changed.iter().filter_map(|(no, facts)| {
            Some(VersionRow {
                facts: serde_json::to_string(facts).ok(),
                ..keeper.version(*no)?.row.clone()
            })
        });
        let versions: Vec<VersionRow> = facts.collect();
        let (copy, rows, lineup) = (row.clone(), versions.clone(), shadows.to_vec());
        self.recorder.call_blocking(move |core, writer| {
            for version in &rows {
                writer.update_version(version)?;
            }
            writer.update_model(&copy)?;
            core.set_challengers(writer, copy.no, lineup)?;
            if let Some(book) = core.books.get_mut(&copy.no) {
                book.row = copy;
            }
            Ok(())
        })?;
        keeper.row = row;
        for row in versions {
            if let Some(version) = keeper.version_mut(row.no) {
                version.row = row;
            }
        }
        Ok(())
    }
}

/// The widened interface with every loaded version in it, and the facts of those that take the model's names.
fn joined(
    keeper: &Keeper,
    before: &Interface,
    names: &[String],
) -> Result<(Interface, Vec<(VersionNo, Facts)>), String> {
    let mut interface = before.with_names(names)?;
    let mut changed = Vec::new();
    let is_loaded = |v: &&Version| v.is("champion") || v.is("previous") || v.is("challenger");
    for version in keeper.versions.iter().filter(is_loaded) {
        let Some(facts) = &version.facts else { continue };
        let mut facts = facts.clone();
        facts.names.get_or_insert_with(|| names.to_vec());
        let carried = &keeper.served.carried;
        interface = interface
            .join(&facts, |feature| carried.carries(feature))
            .map_err(|misfit| {
                let why = match misfit {
                    Misfit::Never(why) => why,
                    Misfit::NotCarried { feature } => format!("it takes feature '{feature}', which is not among them"),
                };
                format!("{} '{}' does not fit: {why}", version.row.role, version.row.name)
            })?
            .0;
        changed.push((version.row.no, facts));
    }
    Ok((interface, changed))
}

fn again(keeper: &Keeper, loaded: &Loaded) -> Result<Arc<Loaded>, String> {
    let version = keeper.version(loaded.info.no).ok_or("the ledger has lost it")?;
    let interface = keeper.interface.as_ref().ok_or("the model has no interface yet")?;
    let info = keeper.info(version, interface)?;
    Ok(Arc::new(loaded.with_info(Arc::new(info))))
}
