//! The first champion: who it is, or why there is none yet.

use std::sync::Arc;

use super::super::keeper::Keeper;
use super::super::{Fault, Thread};
use crate::served::Served;

impl Thread {
    /// The first champion is the one that model.toml names, else the only one.
    pub(super) fn first_champion(&mut self, model: &str) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let served = Arc::clone(&keeper.served);
        if let Some(why) = &keeper.away {
            say_waiting(&served, why);
            return Ok(());
        }
        if let Some(fault) = keeper.settings_unknown() {
            say_waiting(&served, &fault);
            return Ok(());
        }
        let mut candidates: Vec<_> = keeper.versions.iter().filter(|v| v.is("candidate")).collect();
        if candidates.iter().any(|v| !v.settings.twin) {
            // A copy never becomes champion where its original may.
            candidates.retain(|v| !v.settings.twin);
        }
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
                if let Err(why) = keeper.check_absent(keeper.version(no)) {
                    served.settings_fault.store(Arc::new(Some(why.clone())));
                    say_waiting(&served, &why);
                    return Ok(());
                }
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
}

/// Says why there is no champion yet; once, until it is something else.
fn say_waiting(served: &Served, why: &str) {
    if **served.waiting_for.load() != why {
        tracing::info!(model = served.name, "not ready: {why}");
        served.waiting_for.store(Arc::new(why.to_owned()));
    }
}

impl Keeper {
    /// The fault of model.toml, where no good settings were ever known: a first champion fixes the interface for ever,
    /// and must not do so under settings that nobody wrote.
    fn settings_unknown(&self) -> Option<String> {
        let known = self.row.settings.as_deref().is_some_and(|text| !text.trim().is_empty());
        let fault = self.served.settings_fault.load();
        fault.as_ref().clone().filter(|_| !known)
    }

    /// Whether column names may become the interface.
    ///
    /// # Errors
    /// The settings contradict the directory.
    pub(in crate::control) fn wants_features(&self) -> Result<bool, String> {
        crate::model::interface::wants_features(self.config.interface, self.has_pbtxt)
    }
}
