//! From a model's settings to the judge's rules.

use crate::config::{EvidenceFrom, GroupConfig, MetricSetting, ModelConfig};
use crate::id::IdKey;
use crate::judge::loss::{Bound, Metric, Options};
use crate::judge::pair::BOUND_LABELS;
use crate::judge::policy::{GROUP_MARGIN, Group, Mode, Policy};
use crate::model::head::Head;
use crate::recorder::{Closing, Hashed, Slice};
use crate::score::Task;

/// The metric that the settings mean for a task.
///
/// # Errors
/// A sentence: what is missing or does not fit.
pub(crate) fn metric(config: &ModelConfig, task: Option<Task>) -> Result<Metric, String> {
    let Some(task) = task else {
        return Err(
            "the task is unknown: set task, or link and score_output; until then answers are raw outputs".into(),
        );
    };
    let name = match config.metric {
        MetricSetting::Auto => "auto",
        MetricSetting::LogLoss => "log_loss",
        MetricSetting::Brier => "brier",
        MetricSetting::ZeroOne => "zero_one",
        MetricSetting::SquaredError => "squared_error",
        MetricSetting::Cost => "cost",
        MetricSetting::Auc => "auc",
        MetricSetting::AbsoluteError => "absolute_error",
        MetricSetting::Pinball => "pinball",
        MetricSetting::Rewards => "rewards",
    };
    let clip = matches!(config.metric, MetricSetting::LogLoss).then_some(config.clip);
    let threshold = matches!(config.metric, MetricSetting::ZeroOne).then_some(config.threshold);
    Metric::for_task(
        task,
        name,
        Options {
            bound: config.bound,
            clip,
            threshold,
            cost: config.cost.clone(),
            quantile: config.quantile,
        },
    )
}

/// The judge's rules. Where no metric fits the mode is off, and [`metric`] says why.
pub(crate) fn policy(config: &ModelConfig, task: Option<Task>) -> Policy {
    let metric = metric(config, task);
    let bound = metric.as_ref().map_or(1.0, Metric::bound);
    let p = &config.policy;
    let is_estimated = metric.is_ok() && config.bound == Some(Bound::Auto);
    Policy {
        bound_from: is_estimated.then_some(BOUND_LABELS),
        mode: if metric.is_ok() { p.mode } else { Mode::Off },
        metric: metric.unwrap_or(Metric::Brier),
        alpha: p.alpha,
        margin: p.margin,
        min_labels: p.min_labels,
        dwell: p.dwell,
        cooldown: p.cooldown,
        probation: p.probation,
        rollback_alpha: p.rollback_alpha,
        rollback_wait: p.rollback_wait,
        min_coverage: p.min_coverage,
        guardrail: config.guardrail,
        groups: groups(config, bound),
        principal_share: config.label.principal_share,
        trusted: config.label.trusted.clone(),
        ..Policy::default()
    }
}

fn groups(config: &ModelConfig, bound: f64) -> Vec<Group> {
    let group = |group: &GroupConfig| Group {
        name: group.name.clone(),
        expr: group.expr.clone(),
        margin: group.margin(bound),
        strict: group.strict,
    };
    config.groups.iter().map(group).chain(trusted(config, bound)).collect()
}

/// The trusted lane is a strict group of its own: nobody is promoted before the trusted labels have shown that it is not
/// worse, whatever the labels of others say.
fn trusted(config: &ModelConfig, bound: f64) -> Option<Group> {
    let names: Vec<String> = config.label.trusted.iter().map(|name| format!("\"{name}\"")).collect();
    (!names.is_empty()).then(|| Group {
        name: "trusted labels".into(),
        expr: format!("label.key in [{}]", names.join(", ")),
        margin: GROUP_MARGIN * bound,
        strict: true,
    })
}

/// Whether the rules fit each other under the metric of the task.
///
/// # Errors
/// What does not.
pub(super) fn check_rules(config: &ModelConfig, task: Option<Task>) -> Result<(), String> {
    if metric(config, task).is_err() {
        return Ok(());
    }
    policy(config, task).check()
}

/// Why the mode is off where the settings do not ask for it.
pub(super) fn why_off(config: &ModelConfig, task: Option<Task>) -> Option<String> {
    metric(config, task).err().filter(|_| config.policy.mode != Mode::Off)
}

/// What a row without a label counts as must be a label that the champion's outputs can be compared with.
///
/// # Errors
/// Why it is none.
pub(super) fn check_absent(config: &ModelConfig, head: &Head) -> Result<(), String> {
    let (Some(label), Some(_)) = (&config.label.absent, head.task) else {
        return Ok(());
    };
    let said = head.truth(label).map(|_| ());
    said.map_err(|why| format!("[label] absent = {label} means nothing: {why}"))
}

/// Whether the metric speaks of as many classes as the champion has.
///
/// # Errors
/// What to change.
pub(super) fn check_classes(config: &ModelConfig, head: &Head) -> Result<(), String> {
    match metric(config, head.task) {
        Ok(metric) if head.task.is_some() => metric.check_classes(head.class_names().len()),
        _ => Ok(()),
    }
}

/// When rows close and what silence means.
pub(crate) fn closing(config: &ModelConfig, head: Option<&Head>, key: &IdKey) -> Closing {
    let absent = config.label.absent.as_ref().and_then(|label| head?.truth(label).ok());
    Closing {
        maturity: config.label.maturity,
        horizon: config.label.horizon,
        absent,
        slice: (config.label.evidence == EvidenceFrom::Explore).then(|| Slice {
            key: key.clone(),
            share: config.label.explore,
        }),
        dropped: config.record.drop.clone(),
        hashed: (!config.record.hash.is_empty()).then(|| Hashed {
            key: key.clone(),
            names: config.record.hash.clone(),
        }),
        payees: match config.metric {
            MetricSetting::Rewards => head.map(Head::class_names).unwrap_or_default(),
            _ => Vec::new(),
        },
    }
}
