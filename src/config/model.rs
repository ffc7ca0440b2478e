//! `models/<model>/model.toml`: what a model's owner says about it. Every key is optional.

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::fault::ConfigError;
use super::reader::{Section, read};
use super::value::{Value, choose, expected};
use super::version::{VersionConfig, feature_names};
use crate::model::head::{HeadSettings, Link};
use crate::score::Task;
use crate::span::Span;

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
    /// Inside the gateway when its operators are harmless.
    #[default]
    Auto,
    /// Inside the gateway whatever its operators are.
    Inline,
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
    /// Absolute error of the value.
    AbsoluteError,
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

/// What a verdict may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Promote.
    #[default]
    Auto,
    /// Say so, and leave it to a person.
    Recommend,
    /// Nothing.
    Off,
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
    /// Loss bound of an error of values; present whenever the metric is one.
    pub bound: Option<f64>,
    /// Least probability that log-loss sees.
    pub clip: f64,
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
    /// `[shadow]`.
    pub shadow: ShadowConfig,
    /// `[record]`.
    pub record: RecordConfig,
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
            },
            shadow: ShadowConfig {
                sample: 1.0,
                max_challengers: 16,
            },
            record: RecordConfig::default(),
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
        read(file, text, model)
    }

    /// How to read the outputs of a version: the version's own threshold before the model's.
    #[must_use]
    pub fn head(&self, version: &VersionConfig) -> HeadSettings {
        HeadSettings {
            task: self.task,
            positive: self.positive.clone(),
            score_output: self.score_output.clone(),
            link: self.link,
            threshold: version.threshold.unwrap_or(self.threshold),
        }
    }
}

fn days(days: u64) -> Span {
    Span::Time(std::time::Duration::from_secs(days * DAY))
}

fn model(s: &mut Section<'_>) -> ModelConfig {
    let default = ModelConfig::default();
    let task = s.get("task", TaskSetting(default.task)).0;
    let (metric, bound, clip) = metric(s, task);
    ModelConfig {
        interface: s.get("interface", default.interface),
        isolation: s.get("isolation", default.isolation),
        task,
        champion: s.opt::<String>("champion").filter(|name| !name.is_empty()),
        metric,
        bound,
        clip,
        positive: s.opt::<Class>("positive").map(|class| class.0),
        score_output: s.opt_if("score_output", |name: &String| !name.is_empty(), "must not be empty"),
        link: s.opt("link"),
        threshold: share(s, "threshold", default.threshold),
        features: feature_names(s),
        missing: s.get("missing", default.missing),
        unknown: s.get("unknown", default.unknown),
        pins: s.get("pins", default.pins),
        label: s.table("label", |s| label(s, default.label)),
        policy: s.table("policy", |s| policy(s, default.policy, metric, bound, clip)),
        shadow: s.table("shadow", |s| ShadowConfig {
            sample: share(s, "sample", default.shadow.sample),
            max_challengers: s.get_if(
                "max_challengers",
                default.shadow.max_challengers,
                |n| *n <= 1_000,
                "must lie between 0 and 1000",
            ),
        }),
        record: s.table("record", |s| RecordConfig {
            drop: s.get("drop", default.record.drop),
        }),
    }
}

fn share(s: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    s.get_if(key, default, |x| (0.0..=1.0).contains(x), "must lie between 0 and 1")
}

fn chance(s: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    s.get_if(
        key,
        default,
        |x| *x > 0.0 && *x < 1.0,
        "must be greater than 0 and less than 1",
    )
}

fn label(s: &mut Section<'_>, default: LabelConfig) -> LabelConfig {
    let label = LabelConfig {
        maturity: s.get("maturity", default.maturity),
        horizon: s.get("horizon", default.horizon),
        absent: s.opt::<Scalar>("absent").map(|scalar| scalar.0),
    };
    let backwards = match (label.maturity, label.horizon) {
        (Span::Rows(maturity), Span::Rows(horizon)) => horizon < maturity,
        (Span::Time(maturity), Span::Time(horizon)) => horizon < maturity,
        _ => false,
    };
    if backwards {
        let key = if s.has("horizon") { "horizon" } else { "maturity" };
        let (maturity, horizon) = (label.maturity, label.horizon);
        s.fault(
            key,
            format!("the horizon ({horizon}) must not be shorter than the maturity ({maturity})"),
        );
    }
    label
}

fn policy(
    s: &mut Section<'_>,
    default: PolicyConfig,
    metric: MetricSetting,
    bound: Option<f64>,
    clip: f64,
) -> PolicyConfig {
    let bound = match metric {
        MetricSetting::LogLoss => -libm::log(clip),
        MetricSetting::SquaredError | MetricSetting::AbsoluteError => bound.unwrap_or(f64::INFINITY),
        MetricSetting::Auto | MetricSetting::Brier | MetricSetting::ZeroOne => 1.0,
    };
    PolicyConfig {
        mode: s.get("mode", default.mode),
        alpha: chance(s, "alpha", default.alpha),
        margin: s.get_if(
            "margin",
            default.margin,
            |margin| margin.abs() < bound,
            &format!("must be smaller than the loss bound ({bound:.4}) either way"),
        ),
        min_labels: s.get_if(
            "min_labels",
            default.min_labels,
            |n| (1..=1_000_000_000).contains(n),
            "must lie between 1 and 1000000000",
        ),
        dwell: s.get("dwell", default.dwell),
        cooldown: s.get("cooldown", default.cooldown),
        probation: s.get("probation", default.probation),
        rollback_alpha: chance(s, "rollback_alpha", default.rollback_alpha),
        rollback_wait: s.get("rollback_wait", default.rollback_wait),
        min_coverage: share(s, "min_coverage", default.min_coverage),
    }
}

/// The metric with what belongs to it, and nothing that belongs to another.
fn metric(s: &mut Section<'_>, task: Option<Task>) -> (MetricSetting, Option<f64>, f64) {
    use MetricSetting::{AbsoluteError, Auto, Brier, LogLoss, SquaredError, ZeroOne};
    let asked = s.opt("metric");
    // A metric that was refused must not make its bound a second fault.
    let is_sound = asked.is_some() || !s.has("metric");
    let metric = asked.unwrap_or(Auto);
    let bound = s.opt_if("bound", |bound: &f64| *bound > 0.0, "must be greater than 0");
    let clip = s.opt_if(
        "clip",
        |x: &f64| *x > 0.0 && *x < 0.5,
        "must be greater than 0 and less than 0.5",
    );
    if is_sound {
        match metric {
            SquaredError | AbsoluteError if !s.has("bound") => s.fault(
                "bound",
                "missing: errors of values need the largest loss that counts, for example bound = 100.0",
            ),
            LogLoss if s.has("bound") => s.fault("bound", "log_loss is bounded by -ln clip: remove it and set clip"),
            Brier | ZeroOne if s.has("bound") => s.fault("bound", "the metric is bounded by 1: remove it"),
            Auto if s.has("bound") => {
                s.fault(
                    "bound",
                    "set metric = \"squared_error\" or \"absolute_error\" beside it, or remove it",
                );
            }
            _ => {}
        }
        if clip.is_some() && metric != LogLoss {
            s.fault("clip", "belongs to metric = \"log_loss\": set that, or remove it");
        }
        let is_for_values = matches!(metric, SquaredError | AbsoluteError);
        match task {
            Some(Task::Regression) if metric != Auto && !is_for_values => {
                s.fault(
                    "metric",
                    "is for classes: a regression takes \"squared_error\" or \"absolute_error\"",
                );
            }
            Some(Task::Binary | Task::Multiclass) if is_for_values => {
                s.fault(
                    "metric",
                    "is for regressions: classes take \"brier\", \"log_loss\" or \"zero_one\"",
                );
            }
            _ => {}
        }
    }
    (metric, bound, clip.unwrap_or(ModelConfig::default().clip))
}

/// `task`, where `auto` means none.
#[derive(Clone, Copy)]
struct TaskSetting(Option<Task>);

impl Value for TaskSetting {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        const TASKS: [(&str, Option<Task>); 4] = [
            ("auto", None),
            ("binary", Some(Task::Binary)),
            ("multiclass", Some(Task::Multiclass)),
            ("regression", Some(Task::Regression)),
        ];
        choose(value, &TASKS).map(Self)
    }
}

/// A class, spelled as text, number or boolean.
struct Class(String);

impl Value for Class {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(_) => String::read(value).map(Self),
            DeValue::Integer(n) if n.radix() == 10 => Ok(Self(n.to_string())),
            DeValue::Boolean(b) => Ok(Self(b.to_string())),
            other => Err(expected("a class, such as \"yes\" or 1", other)),
        }
    }
}

/// A label, as a client would report it.
struct Scalar(serde_json::Value);

impl Value for Scalar {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => Err(expected("a label", value)),
            _ => serde_json::Value::read(value).map(Self),
        }
    }
}

macro_rules! choices {
    ($($kind:ident { $($word:literal => $choice:ident),+ })+) => {$(
        impl Value for $kind {
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                choose(value, &[$(($word, Self::$choice)),+])
            }
        }
    )+};
}

choices! {
    Interface { "auto" => Auto, "features" => Features, "tensors" => Tensors }
    Isolation { "auto" => Auto, "inline" => Inline }
    MetricSetting {
        "auto" => Auto, "log_loss" => LogLoss, "brier" => Brier, "zero_one" => ZeroOne,
        "squared_error" => SquaredError, "absolute_error" => AbsoluteError
    }
    Link { "identity" => Identity, "logit" => Logit, "softmax" => Softmax }
    Missing { "reject" => Reject, "nan" => Nan }
    Unknown { "ignore" => Ignore, "reject" => Reject }
    Mode { "auto" => Auto, "recommend" => Recommend, "off" => Off }
}
