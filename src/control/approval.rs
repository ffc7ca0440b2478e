//! What has to be there before a promotion besides evidence: approvals by distinct keys, and words of the lineage.
//!
//! Always holds: an approval is in the ledger before it counts, under the digest and the tenure that it is for; with the next
//! champion all are void; only keys approve, for a name that anybody may write is nobody's word.

use serde_json::{Value, json};

use super::act::{Act, storage, unknown};
use super::basis::Parties;
use super::keeper::{Keeper, Version};
use super::{Fault, Thread};
use crate::config::Lineage;
use crate::error::{Error, Kind};
use crate::ledger::Approved;
use crate::recorder::Event;
use crate::score::VersionNo;
use crate::time::now_ms;

/// One key's word for one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Approval {
    version: VersionNo,
    key: String,
}

impl Keeper {
    /// What is lacking before the version may be promoted by evidence.
    pub(super) fn lacks(&self, version: &Version) -> Option<String> {
        self.lacks_with(version, &self.approved_by(version.row.no))
    }

    fn lacks_with(&self, version: &Version, by: &[&str]) -> Option<String> {
        let all = [self.lacks_words(version), self.lacks_approvals(by)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(", and "))
    }

    fn lacks_words(&self, version: &Version) -> Option<String> {
        let required = &self.config.policy.require;
        if required.is_empty() {
            return None;
        }
        let text = version.row.lineage.as_deref();
        let recorded: Lineage = text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        // What its toml has come to say since is good enough: it stands beside the bytes.
        let says = |key: &&String| !recorded.says(key) && !version.settings.lineage.says(key);
        let missing: Vec<&str> = required.iter().filter(says).map(String::as_str).collect();
        (!missing.is_empty()).then(|| {
            format!(
                "its lineage does not say {} (policy.require): write that under [lineage] of its toml",
                missing.join(", ")
            )
        })
    }

    fn lacks_approvals(&self, by: &[&str]) -> Option<String> {
        let needed = self.config.policy.approvals;
        (needed > by.len() as u64).then(|| {
            let by = if by.is_empty() {
                "none".to_owned()
            } else {
                by.join(", ")
            };
            format!("{needed} approvals are needed (policy.approvals), given by: {by}")
        })
    }

    fn approved_by(&self, version: VersionNo) -> Vec<&str> {
        let of = self.approvals.iter().filter(|approval| approval.version == version);
        of.map(|approval| approval.key.as_str()).collect()
    }

    /// The same for all that are loaded, once somebody else is champion and nothing has been approved of.
    pub(super) fn gates_of_a_new_tenure(&self) -> Vec<Event> {
        let of = |version: &Version| Event::Gate {
            version: version.row.no,
            lacks: self.lacks_with(version, &[]),
        };
        self.versions.iter().filter(|v| v.is_loaded()).map(of).collect()
    }

    /// Takes on what the ledger has of this tenure.
    pub(super) fn recall_approvals(&mut self, approved: &[Approved]) {
        let is_of_it = |approved: &&Approved| {
            let version = self.version(approved.version);
            approved.epoch == self.row.epoch && version.is_some_and(|v| v.row.digest == approved.digest)
        };
        let of_it = approved.iter().filter(is_of_it).map(|approved| Approval {
            version: approved.version,
            key: approved.key.clone(),
        });
        self.approvals = of_it.collect();
    }

    fn told(&self, version: VersionNo) -> Value {
        json!({"needed": self.config.policy.approvals, "by": self.approved_by(version)})
    }
}

impl Thread {
    /// One more key is for it. Nothing else follows at once: the judge crowns it when it has won and all are for it.
    pub(super) fn approve(&mut self, act: &Act) -> Result<Value, Error> {
        let keeper = self
            .keepers
            .get(&act.model)
            .ok_or_else(|| Error::new(Kind::UnknownModel, format!("no model '{}'", act.model)))?;
        let name = act
            .version
            .as_deref()
            .ok_or_else(|| Error::new(Kind::BadRequest, "say which version to approve: \"version\": \"…\""))?;
        let version = keeper.named(name).ok_or_else(|| unknown(keeper, name))?;
        let no = version.row.no;
        if !version.is("challenger") && !version.is("previous") {
            if keeper.row.champion == Some(no) {
                return Ok(
                    json!({"model": act.model, "version": name, "changed": false, "approvals": keeper.told(no)}),
                );
            }
            let text = format!(
                "version '{name}' is {}: only one that is shadowed can be approved",
                version.row.role
            );
            return Err(Error::new(Kind::WrongRole, text));
        }
        let changed = self.put_approval(act, no)?;
        let told = self.keepers.get(&act.model).map(|keeper| keeper.told(no));
        Ok(json!({"model": act.model, "version": name, "changed": changed, "approvals": told}))
    }

    /// A person's promotion is an approval too, and takes effect as the last one that is needed; gives the answer where
    /// others are.
    pub(super) fn waits_for_approval(&mut self, act: &Act, to: VersionNo) -> Result<Option<Value>, Error> {
        let Some(keeper) = self.keepers.get(&act.model) else {
            return Ok(None);
        };
        if let Some(lacks) = keeper.version(to).and_then(|version| keeper.lacks_words(version)) {
            let text = format!("version '{}' cannot be promoted: {lacks}", keeper.name_of(to));
            return Err(Error::new(Kind::WrongRole, text));
        }
        if keeper.config.policy.approvals == 0 {
            return Ok(None);
        }
        self.put_approval(act, to)?;
        let Some(keeper) = self.keepers.get(&act.model) else {
            return Ok(None);
        };
        Ok(keeper.lacks_approvals(&keeper.approved_by(to)).map(|_| {
            let champion = keeper.row.champion.map(|no| keeper.name_of(no));
            json!({"model": act.model, "champion": champion, "changed": false, "approvals": keeper.told(to)})
        }))
    }

    /// Records an approval; true where it is new.
    fn put_approval(&mut self, act: &Act, version: VersionNo) -> Result<bool, Error> {
        let Some(keeper) = self.keepers.get(&act.model) else {
            return Ok(false);
        };
        let needed = keeper.config.policy.approvals;
        if needed == 0 {
            return Ok(false);
        }
        if !act.has_key {
            let text = "policy.approvals counts distinct keys, and this gateway asks for none: set auth.keys";
            return Err(Error::new(Kind::Forbidden, text));
        }
        let by = keeper.approved_by(version);
        if by.contains(&act.author.as_str()) {
            return Ok(false);
        }
        let why = format!(
            "approval {} of {needed} for {} in tenure {}",
            by.len() + 1,
            keeper.version(version).map_or("", |v| v.row.digest.as_str()),
            keeper.row.epoch
        );
        let parties = Parties::of(keeper, keeper.row.champion, Some(version));
        let (no, epoch) = (keeper.row.no, keeper.row.epoch);
        let (author, reason) = (act.author.clone(), act.reason.clone());
        self.recorder
            .call_blocking(move |core, writer| {
                let basis = parties.approval(epoch, core.books.get(&no));
                let by = (author.as_str(), reason.as_str(), why.as_str());
                writer.insert_decision(no, now_ms(), ("approval", None, Some(version)), by, Some(&basis))
            })
            .map_err(|error| storage(Fault::from(error)))?;
        if let Some(keeper) = self.keepers.get_mut(&act.model) {
            keeper.approvals.push(Approval {
                version,
                key: act.author.clone(),
            });
        }
        // Where it cannot be told now, the next look does.
        let told = self.remark(&act.model);
        self.report(told);
        Ok(true)
    }
}
