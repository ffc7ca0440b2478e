//! `<version>.toml`: what goes with one version. Every key is optional.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault::ConfigError;
use super::reader::{Section, read};
use super::value::{Value, choose};
use crate::model::head::Calibration;
use toml::de::DeValue;

/// More columns than any table has, and few enough to hold.
const MAX_FEATURES: usize = 100_000;

/// Where a version comes from; stored and shown, never interpreted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The training data.
    pub data: Option<String>,
    /// The training pipeline.
    pub pipeline: Option<String>,
    /// The code, for example a commit.
    pub code: Option<String>,
    /// The application it is for.
    pub application: Option<String>,
    /// What it was built with.
    pub dependencies: Option<serde_json::Value>,
    /// Who made it.
    pub author: Option<String>,
    /// The version it descends from.
    pub parent: Option<String>,
    /// Offline metrics.
    pub metrics: BTreeMap<String, f64>,
    /// Free keys.
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Lineage {
    /// Whether it says this, by the name of its key.
    #[must_use]
    pub fn says(&self, key: &str) -> bool {
        let text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        match key {
            "data" | "training_data" => text(&self.data),
            "pipeline" => text(&self.pipeline),
            "code" => text(&self.code),
            "application" => text(&self.application),
            "author" => text(&self.author),
            "parent" => text(&self.parent),
            "dependencies" => self.dependencies.is_some(),
            "metrics" => !self.metrics.is_empty(),
            other => self.other.contains_key(other),
        }
    }
}

/// The settings of one version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionConfig {
    /// Column order of a single-tensor version without names.
    pub features: Option<Vec<String>>,
    /// Score from which a binary label is positive.
    pub threshold: Option<f64>,
    /// From its scores to probabilities.
    pub calibration: Option<Calibration>,
    /// `[lineage]`.
    pub lineage: Lineage,
    /// An A/A copy: the bytes of another version on purpose.
    pub twin: bool,
}

impl VersionConfig {
    /// Reads the file; its absence means nothing is said.
    ///
    /// # Errors
    /// All faults of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match super::text_of(path)? {
            Some(text) => Self::parse(&path.display().to_string(), &text),
            None => Ok(Self::default()),
        }
    }

    /// Reads the text of a file; `file` is its name in faults.
    ///
    /// # Errors
    /// All faults of the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        read(file, text, |s| Self {
            features: feature_names(s),
            threshold: s.opt_if("threshold", |x| (0.0..=1.0).contains(x), "must lie between 0 and 1"),
            calibration: s.has_table("calibration", calibration).flatten(),
            lineage: s.table("lineage", lineage),
            twin: s.get("twin", false),
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Platt,
    Temperature,
    Isotonic,
}

impl Value for Kind {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        const KINDS: [(&str, Kind); 3] = [
            ("platt", Kind::Platt),
            ("temperature", Kind::Temperature),
            ("isotonic", Kind::Isotonic),
        ];
        choose(value, &KINDS)
    }
}

/// `{ kind = "platt", a = …, b = … }`, `{ kind = "temperature", t = … }`, `{ kind = "isotonic", x = […], y = […] }`.
fn calibration(s: &mut Section<'_>) -> Option<Calibration> {
    let kind: Option<Kind> = s.opt("kind");
    if !s.has("kind") {
        s.fault(
            "kind",
            "missing: write kind = \"platt\", \"temperature\" or \"isotonic\"",
        );
    }
    let number = |s: &mut Section<'_>, key| s.opt::<f64>(key);
    let (a, b, t) = (number(s, "a"), number(s, "b"), number(s, "t"));
    let (x, y) = (s.opt::<Vec<f64>>("x"), s.opt::<Vec<f64>>("y"));
    let (keys, built): (&[&str], _) = match kind? {
        Kind::Platt => (&["a", "b"], a.zip(b).map(|(a, b)| Calibration::Platt { a, b })),
        Kind::Temperature => (&["t"], t.map(|t| Calibration::Temperature { t })),
        Kind::Isotonic => (&["x", "y"], x.zip(y).map(|(x, y)| Calibration::Isotonic { x, y })),
    };
    for key in ["a", "b", "t", "x", "y"] {
        match (keys.contains(&key), s.has(key)) {
            (true, false) => s.fault(key, "missing: this kind of calibration needs it"),
            (false, true) => s.fault(key, "belongs to another kind of calibration: remove it"),
            _ => {}
        }
    }
    let built = built?;
    match built.check() {
        Ok(()) => Some(built),
        Err(why) => {
            s.fault("kind", why);
            None
        }
    }
}

fn lineage(s: &mut Section<'_>) -> Lineage {
    Lineage {
        data: s.opt("data"),
        pipeline: s.opt("pipeline"),
        code: s.opt("code"),
        application: s.opt("application"),
        dependencies: s.opt("dependencies"),
        author: s.opt("author"),
        parent: s.opt("parent"),
        metrics: s.table("metrics", |s| s.rest().into_iter().collect()),
        other: s.rest().into_iter().collect(),
    }
}

/// `features`: names without repetition.
pub(super) fn feature_names(s: &mut Section<'_>) -> Option<Vec<String>> {
    s.opt_if(
        "features",
        |names: &Vec<String>| {
            let distinct: BTreeSet<&String> = names.iter().collect();
            !names.is_empty()
                && names.len() <= MAX_FEATURES
                && distinct.len() == names.len()
                && names.iter().all(|name| !name.is_empty())
        },
        "must list the column names in order, each once and none empty",
    )
}
