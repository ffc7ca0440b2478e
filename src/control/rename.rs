//! Giving the columns of a running model their names.
//!
//! A first champion with one unnamed input fixes an interface of tensors. A line `features = […]` in model.toml widens
//! it: features by name from now on, and the tensors still. Everything that may fail comes first.

use std::sync::Arc;

use super::keeper::{Keeper, Version};
use super::reread::Shadow;
use super::{Fault, Thread};
use crate::ledger::{ModelRow, VersionRow};
use crate::model::facts::Facts;
use crate::model::interface::{Interface, Misfit};
use crate::score::VersionNo;
use crate::shared::Register;

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
        let done = self.prepare(model, |_| true).and_then(|prepared| {
            match self.record_names(model, &interface, &changed, &prepared.shadows) {
                Ok(()) => Ok(prepared),
                Err(fault) => {
                    self.undo(model, prepared);
                    Err(fault.to_string())
                }
            }
        });
        match done {
            Ok(prepared) => {
                self.put(model, prepared);
                Ok(())
            }
            Err(why) => {
                let keeper = self.keepers.get_mut(model).ok_or("no such model")?;
                keeper.interface = Some(before);
                keeper.swap_facts(old_facts);
                Err(why)
            }
        }
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
        }
        .proposed();
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
            writer.compare_and_set(&copy)?;
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
