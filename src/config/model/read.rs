//! From the tables of `model.toml` to [`ModelConfig`], with the checks that join keys.

use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, choose, expected};
use super::super::version::feature_names;
use super::{
    Interface, Isolation, LabelConfig, MetricSetting, Missing, Mode, ModelConfig, PolicyConfig, RecordConfig,
    ShadowConfig, Unknown,
};
use crate::model::head::Link;
use crate::score::Task;
use crate::span::Span;

pub(super) fn model(s: &mut Section<'_>) -> ModelConfig {
    let default = ModelConfig::default();
    let task = s.get("task", TaskSetting(default.task)).0;
    let (metric, bound, clip) = metric(s, task);
    let record = s.table("record", |s| RecordConfig {
        drop: s.get("drop", default.record.drop),
    });
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
        guardrail: s.table("guardrail", |s| super::guard::guardrails(s, default.guardrail)),
        groups: s.table("groups", |s| super::guard::groups(s, &record.drop)),
        record,
        execution: s.table("execution", |s| super::execution::execution(s, default.execution)),
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
    Isolation { "auto" => Auto, "inline" => Inline, "process" => Process }
    MetricSetting {
        "auto" => Auto, "log_loss" => LogLoss, "brier" => Brier, "zero_one" => ZeroOne,
        "squared_error" => SquaredError, "absolute_error" => AbsoluteError
    }
    Link { "identity" => Identity, "logit" => Logit, "softmax" => Softmax }
    Missing { "reject" => Reject, "nan" => Nan }
    Unknown { "ignore" => Ignore, "reject" => Reject }
    Mode { "auto" => Auto, "recommend" => Recommend, "off" => Off }
}
