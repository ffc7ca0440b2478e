//! A person's word: it meets no test and no cool-down, only admission.

use serde_json::{Value, json};

use super::keeper::{Keeper, Version};
use super::promote::Cause;
use super::{Fault, Thread};
use crate::error::{Error, Kind};
use crate::judge::tenure::Swap;
use crate::ledger::ModelRow;
use crate::monitor;
use crate::protocol::Action;
use crate::recorder::Event;
use crate::score::VersionNo;
use crate::shared::Register;
use crate::time::now_ms;

/// A person's word.
#[derive(Debug, Clone)]
pub struct Act {
    /// The model.
    pub model: String,
    /// What to do.
    pub action: Action,
    /// To which version.
    pub version: Option<String>,
    /// Who says so.
    pub author: String,
    /// The author is whoever has the key of this name.
    pub has_key: bool,
    /// Why.
    pub reason: String,
}

impl Thread {
    pub(super) fn act(&mut self, act: Act) -> Result<Value, Error> {
        let keeper = self.keepers.get(&act.model).ok_or_else(|| {
            let names: Vec<&str> = self.keepers.keys().map(String::as_str).collect();
            Error::new(
                Kind::UnknownModel,
                format!("no model '{}'; there are: {}", act.model, names.join(", ")),
            )
        })?;
        match act.action {
            Action::Promote => {
                let name = act.version.as_deref().ok_or_else(|| {
                    Error::new(
                        Kind::BadRequest,
                        "say which version to promote: \"version\": \"…\"".to_owned(),
                    )
                })?;
                let no = loaded(keeper, name)?;
                self.swap_by_word(&act, no)
            }
            Action::Rollback => {
                let no = match &act.version {
                    Some(name) => loaded(keeper, name)?,
                    None => self.previous(keeper)?,
                };
                self.swap_by_word(&act, no)
            }
            Action::Hold => self.hold(&act, true),
            Action::Resume => self.hold(&act, false),
            Action::Retire => self.retire(&act),
            Action::Approve => self.approve(&act),
        }
    }

    fn swap_by_word(&mut self, act: &Act, to: VersionNo) -> Result<Value, Error> {
        if self.keepers.get(&act.model).and_then(|k| k.row.champion) == Some(to) {
            return Ok(json!({"model": act.model, "champion": self.champion_name(&act.model), "changed": false}));
        }
        if act.action == Action::Promote
            && let Some(waits) = self.waits_for_approval(act, to)?
        {
            return Ok(waits);
        }
        let keeper = self.keepers.get(&act.model);
        let unfit = keeper.and_then(|k| Some((k.name_of(to), k.unfit_to_answer(k.version(to)?)?)));
        if let Some((name, why)) = unfit {
            let text = format!("version '{name}' cannot be champion: {why}");
            return Err(Error::new(Kind::WrongRole, text));
        }
        let why = format!("{} said so: {}", act.author, act.reason);
        let cause = Cause {
            kind: Swap::Person,
            author: act.author.clone(),
            reason: act.reason.clone(),
            why,
            back: act.action == Action::Rollback,
            basis: None,
        };
        self.swap(&act.model, to, &cause)
            .map_err(|why| Error::new(Kind::Storage, format!("the champion was not changed: {why}")))?;
        Ok(json!({"model": act.model, "champion": self.champion_name(&act.model), "changed": true}))
    }

    fn champion_name(&self, model: &str) -> Option<String> {
        let keeper = self.keepers.get(model)?;
        Some(keeper.name_of(keeper.row.champion?).to_owned())
    }

    fn hold(&mut self, act: &Act, on: bool) -> Result<Value, Error> {
        let held = self.keepers.get(&act.model).and_then(|k| k.row.hold.as_deref());
        // The monitor neither replaces a person's hold nor lifts it.
        let is_its_own = held.is_some_and(|held| held.starts_with(&format!("{}: ", monitor::AUTHOR)));
        if act.author == monitor::AUTHOR && (held.is_some() || !on) && !is_its_own {
            return Ok(json!({"model": act.model, "hold": held}));
        }
        let hold = on.then(|| format!("{}: {}", act.author, act.reason));
        self.record_hold(act, hold.clone()).map_err(storage)?;
        Ok(json!({"model": act.model, "hold": hold}))
    }

    fn record_hold(&mut self, act: &Act, hold: Option<String>) -> Result<(), Fault> {
        let Some(keeper) = self.keepers.get_mut(&act.model) else {
            return Ok(());
        };
        let row = ModelRow {
            hold: hold.clone(),
            ..keeper.row.clone()
        }
        .proposed();
        let parties = super::basis::Parties::of(keeper, keeper.row.champion, None);
        let (copy, author, reason) = (row.clone(), act.author.clone(), act.reason.clone());
        self.recorder.call_blocking(move |core, writer| {
            writer.compare_and_set(&copy)?;
            let on = copy.hold.is_some();
            let (kind, why) = if on {
                ("hold", "promotions wait")
            } else {
                ("resume", "the judge decides again")
            };
            let basis = parties.basis(None, core.books.get(&copy.no));
            let by = (author.as_str(), reason.as_str(), why);
            writer.insert_decision(copy.no, now_ms(), (kind, None, None), by, Some(&basis))?;
            let Some(book) = core.books.get_mut(&copy.no) else {
                return Ok(());
            };
            book.row = copy;
            book.apply(writer, &Event::Hold { on }, now_ms())
        })?;
        keeper.row = row;
        Ok(())
    }

    /// Whom a rollback crowns when it names nobody: never the one that the judge took the crown from.
    fn previous(&self, keeper: &Keeper) -> Result<VersionNo, Error> {
        let none = || Error::new(Kind::WrongRole, "there is no previous champion to go back to");
        let no = can_be_champion(keeper.row.previous.and_then(|no| keeper.version(no)).ok_or_else(none)?)?;
        let model = keeper.row.no;
        let on_call = self.recorder.call_blocking(move |core, _| {
            let judge = core.books.get(&model).and_then(|book| book.judge.as_ref());
            Ok(judge.and_then(crate::judge::fold::Judge::previous) == Some(no))
        });
        if on_call.map_err(|error| storage(error.into()))? {
            return Ok(no);
        }
        let name = keeper.name_of(no);
        let text = format!("'{name}' was rolled back: to crown it all the same, say so: \"version\": \"{name}\"");
        Err(Error::new(Kind::WrongRole, text))
    }

    fn retire(&mut self, act: &Act) -> Result<Value, Error> {
        let Some(keeper) = self.keepers.get(&act.model) else {
            return Err(Error::new(Kind::UnknownModel, format!("no model '{}'", act.model)));
        };
        let name = act.version.as_deref().ok_or_else(|| {
            Error::new(
                Kind::BadRequest,
                "say which version to retire: \"version\": \"…\"".to_owned(),
            )
        })?;
        let version = keeper.named(name).ok_or_else(|| unknown(keeper, name))?;
        let is_quarantined = version.is("quarantined");
        if !version.is("challenger") && !is_quarantined {
            let text = format!(
                "version '{name}' is {}, only a challenger or a quarantined version can be retired",
                version.row.role
            );
            return Err(Error::new(Kind::WrongRole, text));
        }
        let no = version.row.no;
        let why = format!("retired by {}: {}", act.author, act.reason);
        self.leave(&act.model, no, ("retired", &why), Some((&act.author, &act.reason)))
            .map_err(storage)?;
        if is_quarantined {
            // Its bytes are free again: under another name they may come back.
            self.heir(&act.model, no);
        }
        Ok(json!({"model": act.model, "retired": name}))
    }
}

pub(super) fn storage(fault: Fault) -> Error {
    let kind = match &fault {
        Fault::Storage(error) if error.is_full => Kind::StorageFull,
        _ => Kind::Storage,
    };
    Error::new(kind, format!("nothing was changed: {fault}; try again"))
}

pub(super) fn unknown(keeper: &Keeper, name: &str) -> Error {
    let names: Vec<&str> = keeper
        .versions
        .iter()
        .filter(|v| v.is_live())
        .map(|v| v.row.name.as_str())
        .collect();
    Error::new(
        Kind::UnknownVersion,
        format!("no version '{name}'; loaded are: {}", names.join(", ")),
    )
}

/// A version that can be champion at once.
fn loaded(keeper: &Keeper, name: &str) -> Result<VersionNo, Error> {
    can_be_champion(keeper.named(name).ok_or_else(|| unknown(keeper, name))?)
}

fn can_be_champion(version: &Version) -> Result<VersionNo, Error> {
    let name = &version.row.name;
    match version.row.role.as_str() {
        "champion" | "previous" | "challenger" => Ok(version.row.no),
        role => {
            let reason = version
                .row
                .reason
                .as_deref()
                .map(|r| format!(" ({r})"))
                .unwrap_or_default();
            Err(Error::new(
                Kind::WrongRole,
                format!("version '{name}' is {role}{reason}: only a loaded version can be champion"),
            ))
        }
    }
}
