//! From what lies in the directory to what the versions are.
//!
//! Any event means: look again. A name that changed goes through the content store; what the bytes are called there
//! decides. A file gone for a minute retires its version, but never one that answers or stands by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::reread::Change;
use super::{Fault, SETTLING, Thread};
use crate::config::{ExecutionConfig, Isolation, ModelConfig, text_of};
use crate::intake::scan::{Contents, ModelDir, Refused, scan};
use crate::intake::settle::Look;
use crate::ledger::{LedgerError, ModelRow, VersionRow, Writer};
use crate::recorder::Event;
use crate::score::VersionNo;
use crate::shared::Register;
use crate::time::now_ms;

/// Why a version is retired whose file went; a file that comes back with the same bytes brings it back.
pub(super) const FILE_GONE: &str = "its file is gone";
/// A file that waits for its external data for longer than this is shown as waiting for it.
const LACKING_MS: i64 = 1_000;

/// Why a version is retired that was never shadowed and whose file holds other bytes now.
pub(super) const REPLACED: &str = "newer bytes took its name before it was shadowed";

/// A model's row with its versions and what their own settings were.
type About = (ModelRow, Vec<VersionRow>, Vec<(VersionNo, String)>);

fn about(reader: &Writer<'_>, row: ModelRow) -> Result<About, LedgerError> {
    let versions = reader.versions(row.no)?;
    let own = reader.own_settings(row.no)?;
    Ok((row, versions, own))
}

impl Thread {
    /// Looks at everything.
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        self.look_at = self.looked + self.config.poll;
        let found = match scan(&self.config.models, self.config.max_model_bytes) {
            Ok(found) => found,
            Err(unreadable) => {
                // Nothing is known to be gone: what is loaded goes on.
                self.say_once(&unreadable.path, &unreadable.to_string());
                return;
            }
        };
        for refused in &found.refused {
            self.say_once(
                &refused.name,
                &format!("'{}' is refused: {}", refused.name, refused.reason),
            );
        }
        let mut there = BTreeSet::new();
        for directory in found.models {
            there.insert(directory.name.clone());
            if let Err(fault) = self.look_at_model(directory) {
                self.report(Err(fault));
            }
        }
        let absent: Vec<String> = self
            .keepers
            .keys()
            .filter(|name| !there.contains(*name))
            .cloned()
            .collect();
        for name in absent {
            let path = self.config.models.join(&name);
            self.is_away(
                &name,
                &format!("{} is not there: what was loaded from it stays", path.display()),
            );
        }
        self.settler.prune();
        let names: Vec<String> = self.keepers.keys().cloned().collect();
        for name in names {
            self.advance(&name);
            self.look_for_slow(&name);
        }
    }

    /// A model's directory cannot be looked into: nothing of it is known to be gone.
    fn is_away(&mut self, model: &str, why: &str) {
        self.say_once(&format!("{model}/"), why);
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        keeper.away = Some(why.to_owned());
        keeper.versions.iter_mut().for_each(|version| version.gone_since = None);
    }

    /// Says something about a place in the directory once, until it is something else.
    fn say_once(&mut self, place: &str, text: &str) {
        if self.said.get(place).map(String::as_str) != Some(text) {
            tracing::warn!("{text}");
            if self.said.len() > 1_000 {
                self.said.clear();
            }
            self.said.insert(place.to_owned(), text.to_owned());
        }
    }

    fn look_at_model(&mut self, directory: ModelDir) -> Result<(), Fault> {
        let contents = match directory.contents {
            Ok(contents) => contents,
            Err(unreadable) => {
                self.is_away(&directory.name, &unreadable.to_string());
                return Ok(());
            }
        };
        self.said.remove(&format!("{}/", directory.name));
        if let Some(keeper) = self.keepers.get_mut(&directory.name) {
            keeper.away = None;
        }
        if !self.keepers.contains_key(&directory.name) {
            if contents.versions.is_empty() && contents.refused.is_empty() {
                return Ok(());
            }
            self.open(&directory.name)?;
        }
        self.read_settings(&directory.name, &contents)?;
        self.follow_opt_out(&directory.name);
        self.give_names(&directory.name);
        for refused in &contents.refused {
            self.refuse_name(&directory.name, refused)?;
        }
        let now = now_ms();
        for file in &contents.versions {
            let settings = file.settings.as_deref().map(text_of).transpose();
            if let Some(keeper) = self.keepers.get_mut(&directory.name)
                && match settings {
                    Ok(text) => {
                        let (text, settle) = (text.flatten(), Duration::from_millis(self.config.settle_ms));
                        if keeper.may_take_effect(&file.name, text.as_deref(), settle) {
                            keeper.note_settings(&file.name, text)
                        } else {
                            self.look_at = self.look_at.min(Instant::now() + SETTLING);
                            false
                        }
                    }
                    Err(error) => keeper.note_unreadable(&file.name, error.to_string()),
                }
            {
                self.settler.forget(&file.path);
            }
            match self.settler.look(file, now, &crate::model::onnx::external) {
                Look::Unchanged => {}
                Look::Waiting(why, for_ms) => {
                    self.look_at = self.look_at.min(Instant::now() + SETTLING);
                    if for_ms >= self.settler.patience_ms() {
                        let reason = format!("{why}: copy it under another name, and rename it when it is whole");
                        let name = file.name.clone();
                        self.refuse_name(&directory.name, &Refused { name, reason })?;
                    }
                }
                Look::Lacking(why, for_ms) => {
                    self.look_at = self.look_at.min(Instant::now() + SETTLING);
                    if for_ms >= LACKING_MS {
                        let (name, reason) = (file.name.clone(), why);
                        self.refuse_name(&directory.name, &Refused { name, reason })?;
                    }
                }
                Look::Ready(unit) => {
                    if self.admission.store(&directory.name, unit)
                        && let Some(keeper) = self.keepers.get_mut(&directory.name)
                    {
                        keeper.storing += 1;
                    }
                }
            }
        }
        self.relabel(&directory.name);
        self.remark(&directory.name)?;
        let names: BTreeSet<String> = contents
            .versions
            .iter()
            .map(|file| file.name.clone())
            .chain(contents.refused.iter().map(|refused| refused.name.clone()))
            .collect();
        self.note_gone(&directory.name, &names)
    }

    /// Looks who is kept out by now.
    pub(super) fn follow_opt_out(&mut self, model: &str) {
        let directory = self.config.models.join(model);
        let settle = Duration::from_millis(self.config.settle_ms);
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        if keeper.follow_opt_out(&directory, &self.ids, settle, self.config.max_rows) {
            self.look_at = self.look_at.min(Instant::now() + SETTLING);
        }
    }

    /// A model that was not served until now.
    pub(super) fn open(&mut self, name: &str) -> Result<(), Fault> {
        let (wanted, metrics) = (name.to_owned(), self.metrics.model(name));
        // A model with a past is read, and so served, also where nothing can be written.
        let known = self.recorder.look_blocking(move |_, reader| {
            let row = reader.known_model(&wanted)?;
            row.map(|row| about(reader, row)).transpose()
        })?;
        let (row, versions, own) = match known {
            Some(known) => known,
            None => {
                let wanted = name.to_owned();
                self.recorder
                    .call_blocking(move |_, writer| about(writer, writer.model(&wanted)?))?
            }
        };
        let mut keeper = Keeper::new(row, versions, &own, metrics);
        if let Some(before) = self.keepers.get(name) {
            // Requests have its place already.
            keeper.served = Arc::clone(&before.served);
        }
        let mut models: BTreeMap<_, _> = (**self.models.load()).clone();
        models.insert(name.to_owned(), Arc::clone(&keeper.served));
        self.models.store(Arc::new(models));
        self.keepers.insert(name.to_owned(), keeper);
        Ok(())
    }

    /// Reads model.toml where it changed. A bad edit leaves the last good settings in force and says so.
    fn read_settings(&mut self, model: &str, contents: &Contents) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        keeper.has_pbtxt = contents.has_config_pbtxt;
        let text = match &contents.settings {
            Some(path) => match text_of(path) {
                Ok(text) => text.unwrap_or_default(),
                Err(error) => {
                    // Read anew when it can be read, also with the text that it had.
                    keeper.config_text = None;
                    keeper.served.settings_fault.store(Arc::new(Some(error.to_string())));
                    let text = format!("the last good settings stay in force: {error}");
                    self.say_once(&format!("{model}/model.toml"), &text);
                    return Ok(());
                }
            },
            None => String::new(),
        };
        if keeper.config_text.as_ref() == Some(&text) {
            keeper.config_edit = None;
            return Ok(());
        }
        let first_look = keeper.config_text.is_none();
        if !first_look && !keeper.has_settled(&text, Duration::from_millis(self.config.settle_ms)) {
            self.look_at = self.look_at.min(Instant::now() + SETTLING);
            return Ok(());
        }
        keeper.config_text = Some(text.clone());
        match ModelConfig::parse(&format!("{model}/model.toml"), &text) {
            Ok(config) => {
                if let Err(lacking) = config.execution.options.check() {
                    // A version's file is not to blame: the settings name what this library does not have.
                    tracing::error!(model, "the last good settings stay in force: {lacking}");
                    keeper.served.settings_fault.store(Arc::new(Some(lacking.0)));
                    return Ok(());
                }
                keeper.served.settings_fault.store(Arc::default());
                self.apply_settings(model, config, text, first_look)
            }
            Err(error) => {
                tracing::error!(model, "the last good settings stay in force: {error}");
                keeper.served.settings_fault.store(Arc::new(Some(error.to_string())));
                Ok(())
            }
        }
    }

    fn apply_settings(
        &mut self,
        model: &str,
        config: ModelConfig,
        text: String,
        first_look: bool,
    ) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut keeper.config, Arc::new(config));
        keeper.names_refused = None;
        if keeper.row.champion.is_some() {
            if before.interface != keeper.config.interface {
                tracing::warn!(model, "`interface` cannot change after the first champion: ignored");
            }
            if before.champion != keeper.config.champion {
                tracing::warn!(model, "`champion` names the first champion only: ignored; use promote");
            }
        }
        let champion = keeper.row.champion.and_then(|no| keeper.version(no));
        let sound = keeper.check_isolation().and_then(|()| keeper.check_absent(champion));
        if let Err(why) = sound.and_then(|()| keeper.check_rules()) {
            self.refuse_settings(model, before, &why);
            return Ok(());
        }
        let interface = keeper.interface.clone();
        let learned = keeper.learn_task();
        let change = keeper.change_since(&before);
        let prepared = match change
            .map(|change| self.prepare(model, |_| change == Change::Meaning))
            .transpose()
        {
            Ok(prepared) => prepared,
            Err(why) => {
                if let Some(keeper) = self.keepers.get_mut(model) {
                    keeper.interface = interface;
                }
                self.refuse_settings(model, before, &why);
                return Ok(());
            }
        };
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        let row = ModelRow {
            settings: Some(text),
            interface: if learned {
                serde_json::to_string(&keeper.interface).ok()
            } else {
                keeper.row.interface.clone()
            },
            ..keeper.row.clone()
        }
        .proposed();
        let rules = keeper.interface.as_ref().map(|interface| {
            (
                super::policy::policy(&keeper.config, interface.task),
                super::policy::closing(&keeper.config, keeper.champion_head().as_ref(), &self.ids),
            )
        });
        let bars = match runs_as(&before) == runs_as(&keeper.config) {
            true => Vec::new(),
            false => keeper.bars(),
        };
        let is_read_anew = change == Some(Change::Meaning);
        let own = keeper.all_own_settings();
        let lineup = prepared.as_ref().map(|prepared| prepared.shadows.clone());
        let copy = row.clone();
        let recorded = self.recorder.call_blocking(move |core, writer| {
            writer.compare_and_set(&copy)?;
            if let Some(lineup) = lineup.filter(|_| is_read_anew) {
                core.set_challengers(writer, copy.no, lineup)?;
            }
            let (Some(book), Some((policy, closing))) = (core.books.get_mut(&copy.no), rules) else {
                return Ok(());
            };
            book.row = copy;
            if book
                .judge
                .as_ref()
                .is_some_and(|judge| judge.policy().declared() != policy)
            {
                book.apply(writer, &Event::Policy { policy }, now_ms())?;
            }
            // What a label means has changed: what was folded under the old meaning says nothing.
            if is_read_anew || book.closing.means_other_than(&closing) {
                book.apply(writer, &Event::Restart, now_ms())?;
            }
            book.closing = closing;
            for (own, _) in &own {
                book.note(writer, own, now_ms())?;
            }
            for (version, why) in bars {
                book.apply(writer, &Event::Bar { version, why }, now_ms())?;
            }
            Ok(())
        });
        if let Err(error) = recorded {
            // Neither in force nor forgotten: the next look tries again.
            keeper.config = before;
            keeper.interface = interface;
            keeper.config_text = None;
            if let Some(prepared) = prepared {
                self.undo(model, prepared);
            }
            return Err(error.into());
        }
        keeper.row = row;
        match prepared {
            Some(prepared) => self.put(model, prepared),
            None => keeper.refresh_view(self.config.max_rows),
        }
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        let reloads = runs_as(&before) != runs_as(&keeper.config);
        if reloads && let Err(why) = self.reload(model) {
            tracing::error!(model, "[execution] and isolation take effect at the next load: {why}");
        }
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        // A version that was rejected under the old settings may fit the new ones.
        if !first_look {
            let rejected: Vec<VersionNo> = keeper
                .versions
                .iter()
                .filter(|v| v.is("rejected"))
                .map(|v| v.row.no)
                .collect();
            for no in rejected {
                self.try_again(model, no);
            }
        }
        Ok(())
    }

    /// Settings that can be read and that the loaded versions do not fit.
    fn refuse_settings(&mut self, model: &str, before: Arc<ModelConfig>, why: &str) {
        let Some(keeper) = self.keepers.get_mut(model) else {
            return;
        };
        keeper.config = before;
        let place = format!("{model}/model.toml: ");
        let text = format!("{place}{}", why.strip_prefix(&place).unwrap_or(why));
        tracing::error!(model, "the last good settings stay in force: {text}");
        keeper.served.settings_fault.store(Arc::new(Some(text)));
    }

    /// Names that were there and are not: their versions are retired after a while (`gone`).
    fn note_gone(&mut self, model: &str, there: &BTreeSet<String>) -> Result<(), Fault> {
        let (now, span) = (Instant::now(), self.config.gone);
        let mut gone: Vec<VersionNo> = Vec::new();
        let Some(keeper) = self.keepers.get_mut(model) else {
            return Ok(());
        };
        for version in &mut keeper.versions {
            let file = file_of(&version.row.name);
            if there.contains(&version.row.name)
                || there.contains(file)
                || version.is("retired")
                || version.is("quarantined")
            {
                version.gone_since = None;
                continue;
            }
            let since = *version.gone_since.get_or_insert(now);
            if now.duration_since(since) >= span {
                gone.push(version.row.no);
            } else {
                self.look_at = self.look_at.min(since + span + Duration::from_millis(10));
            }
        }
        for no in gone {
            let Some(keeper) = self.keepers.get_mut(model) else {
                break;
            };
            let (name, role) = match keeper.version(no) {
                Some(version) => (version.row.name.clone(), version.row.role.clone()),
                None => continue,
            };
            match role.as_str() {
                "champion" | "previous" => {
                    let text = format!("the file of {role} '{name}' of '{model}' is gone: it is served from the store");
                    self.say_once(&format!("{model}/{name}"), &text);
                }
                role => {
                    tracing::info!(model, version = name, "retired: {FILE_GONE}");
                    if role == "challenger" {
                        self.leave(model, no, ("retired", FILE_GONE), Some(("registry", FILE_GONE)))?;
                    } else {
                        self.set_role(model, no, "retired", Some(FILE_GONE))?;
                    }
                    self.heir(model, no);
                }
            }
        }
        Ok(())
    }

    /// The same bytes may lie under another name, rejected as a copy: the file was renamed.
    pub(super) fn heir(&mut self, model: &str, gone: VersionNo) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let Some(digest) = keeper.version(gone).map(|v| v.row.digest.as_str()) else {
            return;
        };
        let copies = keeper
            .versions
            .iter()
            .filter(|v| v.is("rejected") && !digest.is_empty() && v.row.digest == digest && v.gone_since.is_none());
        let copies: Vec<VersionNo> = copies.map(|v| v.row.no).collect();
        for no in copies {
            self.try_again(model, no);
        }
    }

    /// A name that cannot be a version shows as rejected, with the remedy.
    fn refuse_name(&mut self, model: &str, refused: &Refused) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get(model) else {
            return Ok(());
        };
        match keeper.named(&refused.name) {
            Some(version) if version.is_live() || version.row.reason.as_ref() == Some(&refused.reason) => Ok(()),
            _ => self.reject_unstored(model, &refused.name, &refused.reason),
        }
    }
}

/// What of the settings decides where and how a version that answers runs.
fn runs_as(config: &ModelConfig) -> (&ExecutionConfig, Isolation) {
    (&config.execution, config.isolation)
}

/// `name@digest` came from the file `name`.
pub(crate) fn file_of(version: &str) -> &str {
    match version.rsplit_once('@') {
        Some((file, digest)) if digest.len() == 8 && digest.bytes().all(|b| b.is_ascii_hexdigit()) => file,
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_was_made_here_leads_to_another_file() {
        assert_eq!(file_of("e02@0123abcd"), "e02");
        assert_eq!(file_of("e02@prod@0123abcd"), "e02@prod");
        assert_eq!(file_of("e02@prod"), "e02@prod");
        assert_eq!(file_of("e02"), "e02");
    }
}
