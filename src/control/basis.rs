//! All that a decision rested on, as it is kept with the decision: told again years later, it needs nothing else.
//!
//! Always holds: kept in the same transaction as the decision, from the state just before it.

use serde_json::{Map, Value, json};

use super::keeper::{Keeper, Version};
use crate::history::{Detail, lineage};
use crate::model::facts::Facts;
use crate::recorder::Book;
use crate::score::VersionNo;
use crate::time::rfc3339;

/// What of a decision's versions is known outside the recorder.
#[derive(Debug, Clone)]
pub(super) struct Parties {
    /// The versions that the decision names, by `from` and `to`.
    versions: Map<String, Value>,
    /// Names of all that are loaded.
    names: Vec<(VersionNo, String)>,
    to: Option<VersionNo>,
}

impl Parties {
    pub(super) fn of(keeper: &Keeper, from: Option<VersionNo>, to: Option<VersionNo>) -> Self {
        let parties = [("from", from), ("to", to)];
        let known = parties
            .into_iter()
            .filter_map(|(part, no)| Some((part, keeper.version(no?)?)));
        let loaded = keeper.versions.iter().filter(|v| v.is_loaded());
        Self {
            versions: known.map(|(part, v)| (part.to_owned(), view(v))).collect(),
            names: loaded.map(|v| (v.row.no, v.row.name.clone())).collect(),
            to,
        }
    }

    /// What was approved of: the version's digest, in the tenure of this number.
    pub(super) fn approval(&self, epoch: u64, book: Option<&Book>) -> String {
        let own = json!({"tenure": epoch}).to_string();
        self.basis(Some(&own), book)
    }

    /// What was decided from, with what it was decided among. `basis` is the decider's own.
    pub(super) fn basis(&self, basis: Option<&str>, book: Option<&Book>) -> String {
        let own = basis.and_then(|text| serde_json::from_str(text).ok());
        let mut basis = match own {
            Some(Value::Object(own)) => own,
            _ => Map::new(),
        };
        if !self.versions.is_empty() {
            basis.insert("versions".into(), json!(self.versions));
        }
        let Some((book, judge)) = book.and_then(|book| Some((book, book.judge.as_ref()?))) else {
            return Value::Object(basis).to_string();
        };
        let name = |no: VersionNo| self.names.iter().find(|(known, _)| *known == no).map(|(_, name)| name);
        let standings = book.verdicts().into_iter().map(|verdict| {
            let mut shown = serde_json::to_value(&verdict).unwrap_or_default();
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("version".into(), json!(name(verdict.version)));
            }
            shown
        });
        basis.insert("standings".into(), standings.collect());
        basis.insert("alarm".into(), json!(judge.alarm().map(|(_, text)| text)));
        basis.insert("on_probation".into(), json!(judge.on_probation()));
        basis.insert("held".into(), json!(judge.is_held()));
        basis.insert("warnings".into(), json!(book.warnings()));
        if let Some(coverage) = self.to.and_then(|to| book.coverage.get(&to)) {
            basis.insert("rows".into(), json!(coverage));
        }
        for (key, value) in [
            ("policy", json!(judge.policy())),
            ("epoch", json!(judge.epoch())),
            ("clock", json!(book.clock())),
        ] {
            basis.entry(key).or_insert(value);
        }
        Value::Object(basis).to_string()
    }
}

fn view(version: &Version) -> Value {
    let facts: Option<&Facts> = version.facts.as_ref();
    json!({
        "version": version.row.name,
        "digest": version.row.digest,
        "stored_digest": version.row.stored_digest,
        "role": version.row.role,
        "arrived": rfc3339(version.row.arrived_ms),
        "lineage": lineage(&version.row, facts, Detail::Brief),
        "threshold": version.settings.threshold,
        "measured": facts.map(|f| json!({
            "latency_us_p50": f.latency_us_p50,
            "latency_us_p99": f.latency_us_p99,
            "cpu_ns": f.cpu_ns,
            "memory_bytes": f.memory_bytes,
            "runtime": f.runtime,
        })),
    })
}
