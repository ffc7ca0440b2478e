//! From the tables of `model.toml` to [`ModelConfig`], with the checks that join keys.

use toml::de::DeValue;

use super::super::keys::is_key_name;
use super::super::reader::Section;
use super::super::value::{Value, choose, expected};
use super::super::version::feature_names;
use super::{
    EvidenceFrom, Interface, Isolation, LabelConfig, MetricSetting, Missing, Mode, ModelConfig, PolicyConfig,
    RecordConfig, ShadowConfig, Unknown,
};
use crate::judge::loss::{Bound, check_cost};
use crate::model::head::Link;
use crate::score::Task;
use crate::span::Span;

/// Their names stand in the expression of one group.
const MAX_TRUSTED: usize = 16;

pub(super) fn model(s: &mut Section<'_>) -> ModelConfig {
    let default = ModelConfig::default();
    let task = s.get("task", TaskSetting(default.task)).0;
    let loss = loss(s, task);
    let record = s.table("record", |s| RecordConfig {
        drop: s.get("drop", default.record.drop),
        hash: s.get("hash", default.record.hash),
        opt_out: s.opt_if(
            "opt_out",
            is_plain,
            "must be the name of a file in the model's directory",
        ),
    });
    let monitor = s.table("monitor", |s| super::monitor::monitor(s, default.monitor));
    ModelConfig {
        interface: s.get("interface", default.interface),
        isolation: s.get("isolation", default.isolation),
        task,
        champion: s.opt::<String>("champion").filter(|name| !name.is_empty()),
        metric: loss.metric,
        bound: loss.bound,
        clip: loss.clip,
        cost: loss.cost.clone(),
        quantile: loss.quantile,
        positive: s.opt::<Class>("positive").map(|class| class.0),
        score_output: s.opt_if("score_output", |name: &String| !name.is_empty(), "must not be empty"),
        link: s.opt("link"),
        threshold: share(s, "threshold", default.threshold),
        features: feature_names(s),
        missing: s.get("missing", default.missing),
        unknown: s.get("unknown", default.unknown),
        pins: s.get("pins", default.pins),
        label: s.table("label", |s| label(s, default.label)),
        policy: s.table("policy", |s| policy(s, default.policy, &loss)),
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
        retrain: s.table("retrain", |s| super::retrain::retrain(s, default.retrain, &monitor)),
        monitor,
    }
}

/// A file beside the model's, or in a folder of its directory.
fn is_plain(name: &String) -> bool {
    let mut parts = std::path::Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

pub(super) fn share(s: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    s.get_if(key, default, |x| (0.0..=1.0).contains(x), "must lie between 0 and 1")
}

pub(super) fn chance(s: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
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
        explore: share(s, "explore", default.explore),
        evidence: s.get("evidence", default.evidence),
        principal_share: s.get_if(
            "principal_share",
            default.principal_share,
            |share| (0.001..=1.0).contains(share),
            "must lie between 0.001 and 1 (no limit)",
        ),
        trusted: s.get_if(
            "trusted",
            default.trusted,
            |names: &Vec<String>| names.len() <= MAX_TRUSTED && names.iter().all(|name| is_key_name(name)),
            "must list at most 16 names of keys, as they stand in the file that auth.keys names",
        ),
    };
    if label.evidence == EvidenceFrom::Explore && label.explore <= 0.0 {
        s.fault(
            "evidence",
            "\"explore\" needs explore, the share of rows in the slice, for example explore = 0.01".to_owned(),
        );
    }
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

fn policy(s: &mut Section<'_>, default: PolicyConfig, loss: &Loss) -> PolicyConfig {
    let bound = loss.largest();
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
        approvals: s.get_if(
            "approvals",
            default.approvals,
            |n| *n <= 10,
            "must lie between 0 and 10",
        ),
        require: s.get_if(
            "require",
            default.require,
            |names: &Vec<String>| names.len() <= 32 && names.iter().all(|name| !name.is_empty()),
            "must list what [lineage] of a version's toml is to say, such as [\"author\", \"training_data\", \"code\"]",
        ),
    }
}

/// The metric with what belongs to it.
struct Loss {
    metric: MetricSetting,
    bound: Option<Bound>,
    clip: f64,
    cost: Option<Vec<Vec<f64>>>,
    quantile: Option<f64>,
}

impl Loss {
    /// The largest loss; infinite where it is not known yet, or missing.
    fn largest(&self) -> f64 {
        use MetricSetting::{AbsoluteError, Auc, Auto, Brier, Cost, LogLoss, Pinball, Rewards, SquaredError, ZeroOne};
        match self.metric {
            LogLoss => -libm::log(self.clip),
            SquaredError | AbsoluteError | Pinball | Rewards => match self.bound {
                Some(Bound::Declared(bound)) => bound,
                Some(Bound::Auto) | None => f64::INFINITY,
            },
            Cost => {
                let largest = self.cost.iter().flatten().flatten().copied().reduce(f64::max);
                largest.unwrap_or(f64::INFINITY)
            }
            Auto | Brier | ZeroOne | Auc => 1.0,
        }
    }
}

/// Reads the metric with what belongs to it, and nothing that belongs to another.
fn loss(s: &mut Section<'_>, task: Option<Task>) -> Loss {
    use MetricSetting::{AbsoluteError, Auc, Auto, Brier, Cost, LogLoss, Pinball, Rewards, SquaredError, ZeroOne};
    let asked = s.opt("metric");
    // A metric that was refused must not make its bound a second fault.
    let is_sound = asked.is_some() || !s.has("metric");
    let metric = asked.unwrap_or(Auto);
    let bound = s.opt_if(
        "bound",
        |bound: &Bound| matches!(bound, Bound::Auto) || bound.number() > 0.0,
        "must be greater than 0",
    );
    let clip = s.opt_if(
        "clip",
        |x: &f64| *x > 0.0 && *x < 0.5,
        "must be greater than 0 and less than 0.5",
    );
    let cost: Option<Vec<Vec<f64>>> = s.opt("cost");
    let quantile = s.opt_if(
        "quantile",
        |x: &f64| *x > 0.0 && *x < 1.0,
        "must be greater than 0 and less than 1",
    );
    if let Some(Err(why)) = cost.as_deref().map(check_cost) {
        s.fault("cost", why);
    }
    if is_sound {
        match metric {
            SquaredError | AbsoluteError | Pinball | Rewards if !s.has("bound") => s.fault(
                "bound",
                "missing: errors of values and rewards need the largest loss that counts, for example bound = 100.0, or \
                 bound = \"auto\" to have it estimated from the first labels",
            ),
            LogLoss if s.has("bound") => s.fault("bound", "log_loss is bounded by -ln clip: remove it and set clip"),
            Cost if s.has("bound") => s.fault("bound", "the metric is bounded by the largest cost: remove it"),
            Brier | ZeroOne | Auc if s.has("bound") => s.fault("bound", "the metric is bounded by 1: remove it"),
            Auto if s.has("bound") => {
                s.fault(
                    "bound",
                    "set metric = \"squared_error\", \"absolute_error\" or \"pinball\" beside it, or remove it",
                );
            }
            _ => {}
        }
        let own = [
            ("clip", LogLoss, "log_loss"),
            ("cost", Cost, "cost"),
            ("quantile", Pinball, "pinball"),
        ];
        for (key, whose, name) in own {
            if s.has(key) && metric != whose {
                s.fault(key, format!("belongs to metric = \"{name}\": set that, or remove it"));
            }
        }
        match metric {
            Cost if !s.has("cost") => s.fault(
                "cost",
                "missing: write what each label (column) costs by the true class (row), for example cost = [[0, 1], [5, 0]]",
            ),
            Pinball if !s.has("quantile") => s.fault("quantile", "missing: write which one, for example quantile = 0.9"),
            _ => {}
        }
        let is_for_values = matches!(metric, SquaredError | AbsoluteError | Pinball);
        match task {
            Some(Task::Regression) if metric != Auto && !is_for_values => {
                s.fault(
                    "metric",
                    "is for classes: a regression takes \"squared_error\", \"absolute_error\" or \"pinball\"",
                );
            }
            Some(Task::Binary | Task::Multiclass) if is_for_values => {
                s.fault(
                    "metric",
                    "is for regressions: classes take \"brier\", \"log_loss\", \"zero_one\", \"cost\", \"auc\" or \"rewards\"",
                );
            }
            Some(Task::Multiclass) if metric == Auc => {
                s.fault(
                    "metric",
                    "orders two classes: several take \"brier\", \"log_loss\" or \"zero_one\"",
                );
            }
            _ => {}
        }
    }
    Loss {
        metric,
        bound,
        clip: clip.unwrap_or(ModelConfig::default().clip),
        cost,
        quantile,
    }
}

impl Value for Bound {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(word) if word == "auto" => Ok(Self::Auto),
            DeValue::String(_) => Err("must be a number or \"auto\"".to_owned()),
            number => f64::read(number).map(Self::Declared),
        }
    }
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
        "cost" => Cost, "auc" => Auc, "squared_error" => SquaredError, "absolute_error" => AbsoluteError,
        "pinball" => Pinball, "rewards" => Rewards
    }
    Link { "identity" => Identity, "logit" => Logit, "softmax" => Softmax }
    Missing { "reject" => Reject, "nan" => Nan }
    Unknown { "ignore" => Ignore, "reject" => Reject }
    EvidenceFrom { "all" => All, "explore" => Explore }
    Mode { "auto" => Auto, "recommend" => Recommend, "off" => Off }
}
