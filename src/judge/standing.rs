//! What one named group says of a version: a bet of its own on the rows of the group.
//!
//! Strict: the bet that the version is no worse than the champion by more than the margin, which must have paid at the time
//! of promotion. Otherwise (veto), and for a new champion on probation: the bet that it is worse by more than the margin.
//! Always holds: a row outside the group changes nothing. What follows is decided elsewhere.

use serde::{Deserialize, Serialize};

use super::exact;
use super::policy::{GROUP_BAR, Group, Policy};
use super::wealth::{self, Wealth};
use crate::span::Clock;

/// Bets of one group.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    wealth: Wealth,
    #[serde(with = "exact")]
    sum: f64,
    /// Wealth has reached the bar, and has not fallen below a tenth of it since.
    since: Option<Clock>,
}

/// One row of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Champion's loss minus the version's.
    pub(super) difference: f64,
    pub(super) weight: f64,
    pub(super) clock: Clock,
}

/// A version's bets on all groups, in the policy's order. Made with the first row of a group.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Standings(Vec<Standing>);

impl Standings {
    /// Folds a challenger's row, which is in the groups whose bits are set.
    pub(super) fn fold(&mut self, groups: u64, row: Row, policy: &Policy) {
        let bound = policy.metric.bound();
        self.each(groups, policy, |standing, group| {
            let x = if group.strict {
                wealth::scaled(row.difference, row.weight, bound, -group.margin)
            } else {
                wealth::scaled(-row.difference, row.weight, bound, group.margin)
            };
            standing.step(x, row, (GROUP_BAR, policy.drop_factor));
        });
    }

    /// Folds a row of a champion on probation, `row.difference` being how much more it lost than the one before.
    pub(super) fn fold_harm(&mut self, groups: u64, row: Row, policy: &Policy) {
        let bound = policy.metric.bound();
        let strict_bar = policy.group_rollback_bar();
        self.each(groups, policy, |standing, group| {
            let bar = if group.strict { strict_bar } else { GROUP_BAR };
            let x = wealth::scaled(row.difference, row.weight, bound, group.margin);
            standing.step(x, row, (bar, policy.drop_factor));
        });
    }

    fn each(&mut self, groups: u64, policy: &Policy, mut fold: impl FnMut(&mut Standing, &Group)) {
        if self.0.len() != policy.groups.len() {
            self.0.resize(policy.groups.len(), Standing::default());
        }
        for ((k, standing), group) in (0u32..).zip(&mut self.0).zip(&policy.groups) {
            if groups.checked_shr(k).unwrap_or(0) & 1 == 1 {
                fold(standing, group);
            }
        }
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whoever must show it anew.
    pub(super) fn disarm(&mut self) {
        self.0.iter_mut().for_each(|standing| standing.since = None);
    }

    /// The groups with what is known of each.
    pub(super) fn of<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = (&'a Group, Standing)> {
        let standing = |k: usize| self.0.get(k).copied().unwrap_or_default();
        policy
            .groups
            .iter()
            .enumerate()
            .map(move |(k, group)| (group, standing(k)))
    }
}

impl Standing {
    fn step(&mut self, x: f64, row: Row, (bar, drop_factor): (f64, f64)) {
        self.wealth.step(x);
        self.sum += row.difference;
        let wealth = self.wealth.value();
        if wealth >= bar {
            self.since.get_or_insert(row.clock);
        } else if wealth < bar * (1.0 / drop_factor) {
            self.since = None;
        }
    }

    pub(super) fn labels(&self) -> u64 {
        self.wealth.labels()
    }

    pub(super) fn log_wealth(&self) -> f64 {
        self.wealth.ln()
    }

    /// Mean difference in loss units.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.labels() > 0).then(|| self.sum / self.labels() as f64)
    }

    /// When the bet had paid; it may have lost some of that since.
    pub(super) fn since(&self) -> Option<Clock> {
        self.since
    }

    /// Whether a challenger may be promoted for all that this group says.
    pub(super) fn passes(&self, group: &Group) -> bool {
        if group.strict {
            self.wealth.value() >= GROUP_BAR
        } else {
            self.since.is_none()
        }
    }
}

/// What a group says of a challenger, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// The group.
    pub name: String,
    /// Which rows belong to it.
    pub expr: String,
    /// So much worse is still good enough.
    pub margin: f64,
    /// Whether it must show that.
    pub strict: bool,
    /// Folded labels of the group.
    pub labels: u64,
    /// Mean difference on them: above 0, the challenger is better.
    pub mean_difference: Option<f64>,
    /// ln of the wealth: strict, of the bet that it is good enough; else of the bet that it is not.
    pub log_wealth: f64,
    /// ln of the wealth at which that bet has paid.
    pub log_bar: f64,
    /// Whether it may be promoted for all that this group says.
    pub passes: bool,
}

impl GroupView {
    pub(super) fn of(group: &Group, standing: &Standing) -> Self {
        Self {
            name: group.name.clone(),
            expr: group.expr.clone(),
            margin: group.margin,
            strict: group.strict,
            labels: standing.labels(),
            mean_difference: standing.mean(),
            log_wealth: standing.log_wealth(),
            log_bar: libm::log(GROUP_BAR),
            passes: standing.passes(group),
        }
    }

    pub(super) fn sentence(&self) -> String {
        let Self {
            name,
            labels,
            log_wealth,
            log_bar,
            margin,
            ..
        } = self;
        let mean = self.mean_difference.unwrap_or(0.0);
        if self.strict {
            format!(
                "group '{name}': not shown yet to lose at most {margin} more there: ln wealth {log_wealth:.2}, bar \
                 {log_bar:.2}, mean difference {mean:+.4} over {labels} labels of the group"
            )
        } else {
            format!(
                "group '{name}': shown to lose more than {margin} more there: mean difference {mean:+.4} over {labels} \
                 labels of the group"
            )
        }
    }
}
