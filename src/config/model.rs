//! `models/<model>/model.toml`: what a model's owner says about it. Every key is optional.

use std::path::Path;

use super::fault::ConfigError;
use super::version::VersionConfig;
pub use crate::judge::loss::Bound;
use crate::judge::policy::Guardrails;
pub use crate::judge::policy::Mode;
use crate::judge::policy::PRINCIPAL_SHARE;
use crate::model::head::{HeadSettings, Link};
use crate::score::Task;
use crate::span::Span;
use serde::{Deserialize, Serialize};

mod execution;
mod guard;
mod monitor;
mod read;
mod retrain;

pub use execution::{ExecutionConfig, ExecutionMode};
pub use guard::GroupConfig;
pub use monitor::MonitorConfig;
pub use retrain::{RetrainConfig, When};

const DAY: u64 = 86_400;

/// How clients send rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// Read off the first champion.
    #[default]
    Auto,
    /// Named features.
    Features,
    /// Named tensors.
    Tensors,
}

/// Where the champion runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Inside the gateway when its operators are harmless, else in processes of its own.
    #[default]
    Auto,
    /// Inside the gateway whatever its operators are.
    Inline,
    /// In processes of its own whatever its operators are.
    Process,
}

/// The declared loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricSetting {
    /// Brier for classes; none for a regression.
    #[default]
    Auto,
    /// Clipped logarithmic loss.
    LogLoss,
    /// Squared error of the probabilities.
    Brier,
    /// Wrong label or right.
    ZeroOne,
    /// Squared error of the value.
    SquaredError,
    /// What a label costs, by the true class.
    Cost,
    /// Order of positives and negatives.
    Auc,
    /// Absolute error of the value.
    AbsoluteError,
    /// Loss of a predicted quantile.
    Pinball,
    /// What the best label would have earned more.
    Rewards,
}

/// What a null float feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// A bad request.
    #[default]
    Reject,
    /// NaN.
    Nan,
}

/// What a feature that no version takes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// Not read.
    #[default]
    Ignore,
    /// A bad request.
    Reject,
}

/// When a label counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelConfig {
    /// A row closes this long after it was recorded.
    pub maturity: Span,
    /// A label later than this is expired.
    pub horizon: Span,
    /// What a row without a label at maturity counts as; `None`: no pair.
    pub absent: Option<serde_json::Value>,
    /// Share of rows whose reply says `"explore": true`: their label should be found out whatever the answer was.
    pub explore: f64,
    /// Which rows are evidence.
    pub evidence: EvidenceFrom,
    /// Largest share of the evidence that the labels of one API key make up, from twenty keys on; 1: no limit.
    #[serde(default = "usual_share")]
    pub principal_share: f64,
    /// Keys whose labels are not limited, go before those of others, and are watched as a group.
    #[serde(default)]
    pub trusted: Vec<String>,
}

fn usual_share() -> f64 {
    PRINCIPAL_SHARE
}

/// Which rows are evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceFrom {
    /// Every row with a label.
    #[default]
    All,
    /// Those of the exploration slice.
    Explore,
}

/// The decision rule's settings, as written; the judge gives them their meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyConfig {
    /// What a verdict may do.
    pub mode: Mode,
    /// Chance of a false promotion per tenure.
    pub alpha: f64,
    /// By how much a challenger must be better; negative: may be worse.
    pub margin: f64,
    /// Fewest folded labels.
    pub min_labels: u64,
    /// How long a win must hold.
    pub dwell: Span,
    /// Shortest time between two swaps.
    pub cooldown: Span,
    /// How long a new champion is watched.
    pub probation: Span,
    /// Chance of a false rollback.
    pub rollback_alpha: f64,
    /// How long a version that was rolled back collects no evidence.
    pub rollback_wait: Span,
    /// Least share of rows a version must cover.
    pub min_coverage: f64,
    /// Distinct keys that must approve of a promotion.
    #[serde(default)]
    pub approvals: u64,
    /// What a version's lineage must say before it is promoted.
    #[serde(default)]
    pub require: Vec<String>,
}

/// What is shadowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowConfig {
    /// Share of rows mirrored and recorded.
    pub sample: f64,
    /// Most challengers at a time.
    pub max_challengers: u64,
}

/// What is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordConfig {
    /// Features and context keys that are never written.
    pub drop: Vec<String>,
    /// Features and context keys of which a keyed hash is written; `entities` means the entity itself.
    #[serde(default)]
    pub hash: Vec<String>,
    /// A file in the model's directory: entities that are not recorded at all.
    #[serde(default)]
    pub opt_out: Option<String>,
}

/// The settings of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// How clients send rows.
    pub interface: Interface,
    /// Where the champion runs.
    pub isolation: Isolation,
    /// What is predicted; `None`: read off the signature.
    pub task: Option<Task>,
    /// The first champion.
    pub champion: Option<String>,
    /// The declared loss.
    pub metric: MetricSetting,
    /// Loss bound of an error of values and of rewards; present whenever the metric is one.
    pub bound: Option<Bound>,
    /// Least probability that log-loss sees.
    pub clip: f64,
    /// What a label (column) costs, by the true class (row).
    pub cost: Option<Vec<Vec<f64>>>,
    /// Quantile of pinball loss.
    pub quantile: Option<f64>,
    /// The positive class, as text; `None`: the second.
    pub positive: Option<String>,
    /// The output with the scores.
    pub score_output: Option<String>,
    /// What turns the output into a probability.
    pub link: Option<Link>,
    /// Score from which a binary label is positive.
    pub threshold: f64,
    /// Column order of a single-tensor model without names.
    pub features: Option<Vec<String>>,
    /// What a null float feature is.
    pub missing: Missing,
    /// What a feature that no version takes is.
    pub unknown: Unknown,
    /// Whether a request may name its version.
    pub pins: bool,
    /// `[label]`.
    pub label: LabelConfig,
    /// `[policy]`.
    pub policy: PolicyConfig,
    /// `[guardrail]`.
    pub guardrail: Guardrails,
    /// `[groups]`.
    pub groups: Vec<GroupConfig>,
    /// `[shadow]`.
    pub shadow: ShadowConfig,
    /// `[record]`.
    pub record: RecordConfig,
    /// `[execution]`.
    pub execution: ExecutionConfig,
    /// `[monitor]`.
    #[serde(default)]
    pub monitor: MonitorConfig,
    /// `[retrain]`.
    #[serde(default)]
    pub retrain: RetrainConfig,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            interface: Interface::Auto,
            isolation: Isolation::Auto,
            task: None,
            champion: None,
            metric: MetricSetting::Auto,
            bound: None,
            clip: 0.05,
            cost: None,
            quantile: None,
            positive: None,
            score_output: None,
            link: None,
            threshold: 0.5,
            features: None,
            missing: Missing::Reject,
            unknown: Unknown::Ignore,
            pins: true,
            label: LabelConfig {
                maturity: days(1),
                horizon: days(120),
                absent: None,
                explore: 0.0,
                evidence: EvidenceFrom::All,
                principal_share: PRINCIPAL_SHARE,
                trusted: Vec::new(),
            },
            policy: PolicyConfig {
                mode: Mode::Auto,
                alpha: 0.01,
                margin: 0.0,
                min_labels: 200,
                dwell: days(1),
                cooldown: days(1),
                probation: days(7),
                rollback_alpha: 0.01,
                rollback_wait: days(7),
                min_coverage: 0.99,
                approvals: 0,
                require: Vec::new(),
            },
            guardrail: Guardrails::default(),
            groups: Vec::new(),
            shadow: ShadowConfig {
                sample: 1.0,
                max_challengers: 16,
            },
            record: RecordConfig::default(),
            execution: ExecutionConfig::default(),
            monitor: MonitorConfig::default(),
            retrain: RetrainConfig::default(),
        }
    }
}

impl ModelConfig {
    /// Reads the file; its absence means the defaults.
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
        super::reader::read(file, text, read::model)
    }

    /// How to read the outputs of a version: its own calibration, and its own threshold before the model's.
    #[must_use]
    pub fn head(&self, version: &VersionConfig) -> HeadSettings {
        HeadSettings {
            task: self.task,
            positive: self.positive.clone(),
            score_output: self.score_output.clone(),
            link: self.link,
            threshold: version.threshold.unwrap_or(self.threshold),
            calibration: version.calibration.clone(),
        }
    }
}

fn days(days: u64) -> Span {
    Span::Time(std::time::Duration::from_secs(days * DAY))
}
