//! The versions of a model as the ledger knows them: what they are made of and from, when they answered, and how two of
//! them differ.
//!
//! Always holds: everything is read from the ledger, so that it can be told beside a gateway, by it, and after it; what a
//! file or a person wrote is bounded before it is shown. Leaves to others: judging.

mod diff;
mod lineage;

use serde_json::{Value, json};

use crate::config::{ModelConfig, VersionConfig};
use crate::ledger::{LedgerError, ModelRow, Tenure, VersionRow, Writer};
use crate::model::facts::{Facts, unpack};
use crate::model::head::Head;
use crate::score::VersionNo;
use crate::time::rfc3339;

pub use diff::diff;
pub use lineage::{Detail, lineage};

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no such model or version.
    #[error("{0}")]
    Unknown(String),
}

/// Versions that a list tells of at most, the latest ones and those that ever answered.
const LISTED: usize = 256;

/// One model.
#[derive(Debug)]
pub struct History<'a> {
    reader: &'a Writer<'a>,
    /// Its row.
    pub model: ModelRow,
    /// Its versions, oldest first, without what admission found of them: see [`History::facts`].
    pub versions: Vec<VersionRow>,
    /// Its settings.
    pub config: ModelConfig,
    own: Vec<(VersionNo, VersionConfig)>,
    tenures: Vec<Tenure>,
}

impl<'a> History<'a> {
    /// Reads a model: the one named, else the only one.
    ///
    /// # Errors
    /// There is none, or what the ledger says.
    pub fn read(reader: &'a Writer<'a>, model: Option<&str>) -> Result<Self, HistoryError> {
        let names = reader.model_names()?;
        let name = match (model, names.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, _) => {
                let text = format!("name a model with --model; the ledger knows: {}", listed(&names));
                return Err(HistoryError::Unknown(text));
            }
        };
        let unknown = || HistoryError::Unknown(format!("no model '{name}'; the ledger knows: {}", listed(&names)));
        let model = reader.known_model(name)?.ok_or_else(unknown)?;
        let config = model.settings.as_deref();
        let own = reader.own_settings(model.no)?.into_iter();
        Ok(Self {
            versions: reader.version_names(model.no)?,
            // What was in force was checked when it came into force.
            config: config
                .and_then(|text| ModelConfig::parse("model.toml", text).ok())
                .unwrap_or_default(),
            own: own
                .filter_map(|(no, text)| Some((no, serde_json::from_str(&text).ok()?)))
                .collect(),
            tenures: reader.tenures(model.no, model.epoch)?,
            reader,
            model,
        })
    }

    /// What admission found, where it accepted the file. Read each time: a list of versions is not to hold them all.
    #[must_use]
    pub fn facts(&self, version: &VersionRow) -> Option<Facts> {
        let read = self.reader.facts(version.no);
        let text = read
            .inspect_err(|error| tracing::warn!(version = version.name, %error, "what admission found cannot be read"))
            .ok()??;
        serde_json::from_str(&text).ok()
    }

    /// The version that is meant: the newest of this name, or the one whose digest begins so.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn find(&self, text: &str) -> Result<&VersionRow, HistoryError> {
        if let Some(named) = self.versions.iter().rev().find(|v| v.name == text) {
            return Ok(named);
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_digest = digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let begins = |v: &&VersionRow| {
            let own = v.digest.strip_prefix("sha256:");
            is_digest && own.is_some_and(|own| own.starts_with(digits))
        };
        let mut found = self.versions.iter().rev().filter(begins);
        match (found.next(), found.next()) {
            (Some(version), None) => Ok(version),
            (Some(version), Some(other)) if version.digest == other.digest => Ok(version),
            (Some(_), Some(_)) => {
                let text = format!("several digests begin with '{digits}': give more of it");
                Err(HistoryError::Unknown(text))
            }
            (None, _) => {
                let mut names: Vec<String> = self.versions.iter().map(|v| v.name.clone()).collect();
                names.dedup();
                let names = listed(names.get(names.len().saturating_sub(20)..).unwrap_or_default());
                let text = format!(
                    "'{}' has no version '{}'; it has: {names}",
                    self.model.name,
                    crate::decode::clip(text)
                );
                Err(HistoryError::Unknown(text))
            }
        }
    }

    /// Versions that were ever champion.
    #[must_use]
    pub fn crowned(&self) -> std::collections::HashSet<VersionNo> {
        self.tenures.iter().map(|tenure| tenure.version).collect()
    }

    /// What a version's own toml said when it was last in force.
    #[must_use]
    pub fn own(&self, version: VersionNo) -> VersionConfig {
        let known = self.own.iter().find(|(no, _)| *no == version);
        known.map(|(_, settings)| settings.clone()).unwrap_or_default()
    }

    /// How a version's outputs are read, under the settings that were last in force.
    ///
    /// # Errors
    /// It was not admitted, or its outputs cannot be read.
    pub fn head(&self, version: &VersionRow) -> Result<Head, String> {
        let facts = self
            .facts(version)
            .ok_or_else(|| format!("'{}' was never admitted", version.name))?;
        let probe = unpack(&facts.probe_outputs);
        let settings = self.config.head(&self.own(version.no));
        Head::find(&facts.signature, &facts.scan, &probe, facts.probe_rows, &settings)
    }

    /// The versions, oldest first: the latest, and all that ever answered.
    #[must_use]
    pub fn list(&self) -> Value {
        let (crowned, first) = (self.crowned(), self.versions.len().saturating_sub(LISTED));
        let shown = self.versions.iter().enumerate();
        let shown = shown.filter(|(at, v)| *at >= first || crowned.contains(&v.no));
        let versions: Vec<Value> = shown.map(|(_, v)| self.entry(v, Detail::Brief)).collect();
        let left_out = self.versions.len() - versions.len();
        json!({"model": self.model.name, "versions": versions, "versions_left_out": left_out})
    }

    /// Everything on one version.
    #[must_use]
    pub fn whole(&self, version: &VersionRow) -> Value {
        let mut entry = self.entry(version, Detail::Whole);
        let (Some(entry_map), Some(facts)) = (entry.as_object_mut(), self.facts(version)) else {
            return entry;
        };
        let own = self.own(version.no);
        entry_map.insert("model".into(), json!(self.model.name));
        entry_map.insert("signature".into(), json!(facts.signature));
        entry_map.insert("features".into(), json!(facts.names));
        entry_map.insert("operators".into(), json!(facts.scan.operators));
        entry_map.insert("isolation".into(), json!(facts.scan.safety()));
        entry_map.insert("hazards".into(), json!(facts.scan.hazards));
        entry_map.insert(
            "threshold".into(),
            json!(own.threshold.unwrap_or(self.config.threshold)),
        );
        entry_map.insert("calibration".into(), json!(own.calibration));
        entry_map.insert(
            "measured".into(),
            json!({
                "latency_us_p50": facts.latency_us_p50, "latency_us_p99": facts.latency_us_p99, "cpu_ns": facts.cpu_ns,
                "memory_bytes": facts.memory_bytes, "batched": facts.batched, "runtime": facts.runtime,
            }),
        );
        entry
    }

    fn entry(&self, version: &VersionRow, detail: Detail) -> Value {
        let tenures = self.tenures.iter().filter(|t| t.version == version.no).map(tenure);
        json!({
            "version": version.name,
            "number": version.no,
            "role": version.role,
            "reason": version.reason,
            "digest": version.digest,
            "stored_digest": version.stored_digest,
            "arrived": rfc3339(version.arrived_ms),
            "tenures": tenures.collect::<Vec<_>>(),
            "lineage": lineage(version, self.facts(version).as_ref(), detail),
        })
    }
}

fn tenure(tenure: &Tenure) -> Value {
    let (first, last) = tenure.rows.unzip();
    json!({
        "epoch": tenure.epoch,
        "kind": tenure.kind,
        "from": rfc3339(tenure.from_ms),
        "to": tenure.to_ms.map(rfc3339),
        "first_row": first,
        "last_row": last,
        "rows": tenure.rows.map_or(0, |(first, last)| last + 1 - first),
        "labels": tenure.labels,
    })
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
    }
}
