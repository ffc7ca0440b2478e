//! The rules of one model's contest, as model.toml gives them.
//!
//! Always holds after [`Policy::check`]: bars are finite and above 1, bets are bounded. Which rows close, and
//! when, is decided elsewhere.

use serde::{Deserialize, Serialize};

use super::loss::{Metric, UNKNOWN_BOUND};
use crate::span::Span;

/// Who carries out what the judge finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The gateway swaps by itself.
    #[default]
    Auto,
    /// Verdicts are shown, a person swaps.
    Recommend,
    /// Evidence is kept, nothing follows from it.
    Off,
}

/// Rows that are watched by themselves: nobody named may be hurt for the average's sake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Which rows belong to it, see [`crate::expr`].
    pub expr: String,
    /// So much worse, in loss units, is still good enough.
    pub margin: f64,
    /// A challenger must have shown that it is no worse by more than the margin; otherwise it is only stopped where it
    /// has been shown to be.
    pub strict: bool,
}

impl Group {
    /// True when wealth folded for `other` says nothing of this one: a new name is no new question.
    fn asks_another_question(&self, other: &Self) -> bool {
        self.expr != other.expr || self.strict != other.strict || self.margin.to_bits() != other.margin.to_bits()
    }
}

/// What a challenger must keep to besides being better. `None`: shown, without a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guardrails {
    /// CPU time of a row, as admission measured it, at most so many times the champion's.
    pub latency: Option<f64>,
    /// Largest share of rows of the last dwell that it failed on.
    pub errors: Option<f64>,
    /// Its share of positive labels over the last dwell: at most so many times the champion's, and at least that part of it.
    pub decision_rate: Option<f64>,
    /// Largest distance of its scores' distribution from the champion's over the last dwell, as a population stability
    /// index of tenths. No limit by itself: a better model often scores otherwise, and the labels tell whether that is
    /// better.
    pub score_shift: Option<f64>,
}

impl Guardrails {
    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self {
            latency: None,
            errors: None,
            decision_rate: None,
            score_shift: None,
        }
    }

    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let all = [
            &mut self.latency,
            &mut self.errors,
            &mut self.decision_rate,
            &mut self.score_shift,
        ];
        all.into_iter().filter_map(Option::as_mut)
    }
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            latency: Some(1.5),
            errors: Some(0.001),
            decision_rate: Some(1.25),
            score_shift: None,
        }
    }
}

/// Most groups: a bit each in a pair.
pub const MAX_GROUPS: usize = 64;
/// The margin of a group that names none, as a share of the loss bound.
pub const GROUP_MARGIN: f64 = 0.02;
/// Wealth that a group's test needs: an error in twenty, as in `JUDGE.md`'s simulations. Every strict group must pass, so
/// that several need no correction.
pub const GROUP_BAR: f64 = 20.0;

/// Settings of the judge. The defaults are those of a binary or multi-class model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The loss that is compared.
    pub metric: Metric,
    /// Who swaps.
    pub mode: Mode,
    /// Chance, per tenure, that a champion which no challenger beats by more than `margin` is ever displaced.
    pub alpha: f64,
    /// Improvement to beat, in loss units; below 0: how much worse is still good enough.
    pub margin: f64,
    /// Folded labels before a promotion or a rollback.
    pub min_labels: u64,
    /// How long a challenger must stay armed: one cycle of the traffic, so that winning by day only is not enough.
    pub dwell: Span,
    /// Least span between a swap and the next promotion.
    pub cooldown: Span,
    /// How long a new champion is watched, and at least `probation_labels`.
    pub probation: Span,
    /// Folded labels before probation can end.
    pub probation_labels: u64,
    /// Chance that a champion which is never worse than its predecessor is rolled back.
    pub rollback_alpha: f64,
    /// How long a version that was rolled back collects no evidence, times the number of its rollbacks.
    pub rollback_wait: Span,
    /// Least share of the last dwell's rows for which a challenger had its features.
    pub min_coverage: f64,
    /// Labels of each class before a promotion.
    pub min_class_labels: u64,
    /// What a challenger must keep to; nothing under rules that were stored before there were guardrails.
    #[serde(default = "Guardrails::none")]
    pub guardrail: Guardrails,
    /// The named groups; a pair has a bit for each, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// The dwell starts anew when wealth falls below the bar divided by it. No setting: stored only where it is not 10.
    #[serde(skip_serializing_if = "is_ten")]
    pub drop_factor: f64,
    /// The loss bound is estimated from so many labels before evidence starts; `None`: it is declared, or the metric's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_from: Option<u64>,
    /// Largest share of the evidence that the labels of one API key make up, once so many report that none need have more
    /// (see `pair::share`); 1: no limit. Stored only where it is not the usual one, so that it is what rules from before it
    /// have.
    #[serde(skip_serializing_if = "is_usual_share")]
    pub principal_share: f64,
    /// Keys whose labels are never limited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<String>,
}

/// The largest share of one key, where nobody says otherwise.
pub const PRINCIPAL_SHARE: f64 = 0.05;

fn is_usual_share(share: &f64) -> bool {
    share.to_bits() == PRINCIPAL_SHARE.to_bits()
}

const DROP_FACTOR: f64 = 10.0;

fn is_ten(factor: &f64) -> bool {
    factor.to_bits() == DROP_FACTOR.to_bits()
}

const DAY: Span = Span::Time(std::time::Duration::from_secs(86_400));
const WEEK: Span = Span::Time(std::time::Duration::from_secs(7 * 86_400));

impl Default for Policy {
    fn default() -> Self {
        Self {
            metric: Metric::Brier,
            mode: Mode::Auto,
            alpha: 0.01,
            margin: 0.0,
            min_labels: 200,
            dwell: DAY,
            cooldown: DAY,
            probation: WEEK,
            probation_labels: 2_000,
            rollback_alpha: 0.01,
            rollback_wait: WEEK,
            min_coverage: 0.99,
            min_class_labels: 30,
            guardrail: Guardrails::default(),
            groups: Vec::new(),
            drop_factor: DROP_FACTOR,
            bound_from: None,
            principal_share: PRINCIPAL_SHARE,
            trusted: Vec::new(),
        }
    }
}

impl Policy {
    /// Whether every number is in range.
    ///
    /// # Errors
    /// A sentence per fault, joined by "; ".
    pub fn check(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        let metric = match self.needs_bound() {
            true => self.metric.check_shape(),
            false => self.metric.check_numbers(),
        };
        faults.extend(metric.err());
        for (name, value) in [("alpha", self.alpha), ("rollback_alpha", self.rollback_alpha)] {
            if !(value > 0.0 && value <= 0.5) {
                faults.push(format!("{name} = {value}: must be above 0 and at most 0.5"));
            }
        }
        let bound = self.metric.bound();
        if !(self.needs_bound() || self.margin > -bound && self.margin < bound) {
            faults.push(format!(
                "margin = {}: must lie within the loss bound, {bound}",
                self.margin
            ));
        }
        if !(self.principal_share > 0.0 && self.principal_share <= 1.0) {
            faults.push(format!(
                "principal_share = {}: must be above 0 and at most 1",
                self.principal_share
            ));
        }
        if !(0.0..=1.0).contains(&self.min_coverage) {
            faults.push(format!(
                "min_coverage = {}: must lie between 0 and 1",
                self.min_coverage
            ));
        }
        for group in &self.groups {
            if !(group.margin >= 0.0 && group.margin < bound) {
                let (name, margin) = (&group.name, group.margin);
                faults.push(format!(
                    "group {name}: margin = {margin}: must be at least 0 and less than the loss bound, {bound}"
                ));
            }
        }
        if self.groups.len() > MAX_GROUPS {
            faults.push(format!("{} groups: at most {MAX_GROUPS}", self.groups.len()));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("; "))
        }
    }

    /// True when evidence gathered under `other` says nothing under this policy: another metric (with its bound,
    /// clip or threshold), margin or alpha, or other rules of whose labels count.
    #[must_use]
    pub fn asks_another_question(&self, other: &Self) -> bool {
        self.metric != other.metric
            || self.margin.to_bits() != other.margin.to_bits()
            || self.alpha.to_bits() != other.alpha.to_bits()
            || self.principal_share.to_bits() != other.principal_share.to_bits()
            || self.trusted != other.trusted
    }

    /// True until the loss bound is estimated: before, no row is evidence.
    #[must_use]
    pub fn needs_bound(&self) -> bool {
        self.bound_from.is_some() && self.metric.bound() <= UNKNOWN_BOUND
    }

    /// The policy as it was declared: without a bound that was estimated.
    #[must_use]
    pub fn declared(&self) -> Self {
        let mut declared = self.clone();
        declared.forget_bound();
        declared
    }

    /// An estimated bound is to be estimated again.
    pub(super) fn forget_bound(&mut self) {
        if self.bound_from.is_some()
            && let Some(bound) = self.metric.bound_mut()
        {
            *bound = UNKNOWN_BOUND;
        }
    }

    /// Takes over what was estimated under `before`, if it was estimated of the same loss.
    pub(super) fn keep_bound(&mut self, before: &Self) {
        let is_same = self.bound_from == before.bound_from && self.declared().metric == before.declared().metric;
        if is_same && self.needs_bound() {
            self.metric = before.metric.clone();
        }
    }

    /// True when wealth of the groups under `other` says nothing of these.
    #[must_use]
    pub fn asks_of_other_groups(&self, other: &Self) -> bool {
        let pairs = self.groups.iter().zip(&other.groups);
        self.groups.len() != other.groups.len() || pairs.into_iter().any(|(a, b)| a.asks_another_question(b))
    }

    /// Wealth at which a strict group takes the crown back: all of them together err no more often than the mirrored test.
    #[must_use]
    pub fn group_rollback_bar(&self) -> f64 {
        let strict = self.groups.iter().filter(|group| group.strict).count().max(1);
        self.rollback_bar() * strict as f64
    }

    /// Every float in it, in a fixed order.
    pub(super) fn numbers_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let own = [
            &mut self.alpha,
            &mut self.margin,
            &mut self.rollback_alpha,
            &mut self.min_coverage,
        ];
        // What was added later comes last: older snapshots have fewer numbers.
        own.into_iter()
            .chain(self.metric.numbers_mut())
            .chain([&mut self.drop_factor])
            .chain(self.guardrail.numbers_mut())
            .chain(self.groups.iter_mut().map(|group| &mut group.margin))
            .chain([&mut self.principal_share])
    }

    /// The wealth that challenger number `order` of a tenure needs. `1/(j(j+1))` sums to 1, so all bars
    /// together spend no more than alpha, however many challengers come.
    #[must_use]
    pub fn bar(&self, order: u32) -> f64 {
        let j = f64::from(order);
        j * (j + 1.0) / self.alpha
    }

    /// The wealth that takes the crown back.
    #[must_use]
    pub fn rollback_bar(&self) -> f64 {
        1.0 / self.rollback_alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bars_are_200_600_1200() {
        let policy = Policy::default();
        for (order, bar) in [(1, 200.0), (2, 600.0), (3, 1200.0)] {
            assert!((policy.bar(order) - bar).abs() < 1e-9);
        }
    }

    #[test]
    fn all_bars_together_spend_no_more_than_alpha() {
        let policy = Policy::default();
        let spent: f64 = (1..10_000).map(|j| 1.0 / policy.bar(j)).sum();
        assert!(spent < policy.alpha && spent > 0.999 * policy.alpha);
    }

    #[test]
    fn a_policy_reads_back_and_keys_may_be_left_out() {
        let policy = Policy {
            dwell: Span::Rows(48),
            guardrail: Guardrails {
                latency: None,
                score_shift: Some(0.25),
                ..Guardrails::default()
            },
            groups: vec![Group {
                name: "senior".into(),
                expr: "age >= 60".into(),
                margin: 0.02,
                strict: true,
            }],
            metric: Metric::LogLoss { clip: 0.05 },
            ..Policy::default()
        };
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        let before_guardrails = Policy {
            guardrail: Guardrails::none(),
            ..Policy::default()
        };
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), before_guardrails);
        assert!(serde_json::from_str::<Policy>("{\"alpa\": 0.1}").is_err());
    }

    #[test]
    fn numbers_out_of_range_are_all_named() {
        let wrong = Policy {
            alpha: 0.0,
            rollback_alpha: f64::NAN,
            margin: 1.0,
            min_coverage: 1.1,
            ..Policy::default()
        };
        let fault = wrong.check().unwrap_err();
        for name in ["alpha = 0", "rollback_alpha", "margin", "min_coverage"] {
            assert!(fault.contains(name), "{fault}");
        }
        assert_eq!(Policy::default().check(), Ok(()));
    }
}
