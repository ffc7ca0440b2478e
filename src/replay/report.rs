//! A backtest for people and for programs: who was champion when and why, and what that was worth in hindsight.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::workshop::Scores;
use crate::backtest::contest::{Asked, Outcomes};
use crate::backtest::course::{Course, Plan};
use crate::judge::fold::Action;
use crate::judge::policy::Policy;
use crate::score::{Outcome, VersionNo};

/// Windows of hindsight that the rows are cut into where nobody says how long one is.
const WINDOWS: usize = 30;

/// Names of the versions.
pub type Names = BTreeMap<VersionNo, String>;

/// Mean losses under the declared metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// The first champion for ever.
    pub first: f64,
    /// Whoever was champion.
    pub served: f64,
    /// The best version of every window, in hindsight.
    pub hindsight: f64,
    /// Rows of a window.
    pub window: usize,
    /// Rows with a label and an outcome.
    pub rows: usize,
}

impl Worth {
    /// What the champions of `course` were worth.
    #[must_use]
    pub fn of(
        plan: &Plan,
        policy: &Policy,
        rows: &[Asked],
        scores: &Scores,
        course: &Course,
        window: Option<usize>,
    ) -> Self {
        let metric = &policy.metric;
        let loss = |version: VersionNo, row: &Asked| {
            let truth = row.truth.or(plan.closing.absent)?;
            match scores.outcome(version, row.index) {
                Outcome::Scored(score) => Some(metric.loss(&score, &truth)),
                Outcome::Failed => Some(metric.bound()),
                _ => None,
            }
        };
        let window = window.unwrap_or(rows.len().div_ceil(WINDOWS)).max(1);
        let everybody = plan
            .arrivals
            .iter()
            .map(|a| (a.version, a.row))
            .chain([(plan.champion, 0)]);
        let everybody: Vec<(VersionNo, usize)> = everybody.collect();
        let (mut first, mut served, mut hindsight, mut counted) = (0.0, 0.0, 0.0, 0);
        let mut champions = course.champions();
        for (start, part) in (0..).step_by(window).zip(rows.chunks(window)) {
            let sum = |version: VersionNo| {
                let losses = part.iter().map(|row| loss(version, row).unwrap_or(0.0));
                losses.sum::<f64>()
            };
            let there = everybody.iter().filter(|(_, row)| *row <= start);
            hindsight += there.map(|(version, _)| sum(*version)).fold(f64::INFINITY, f64::min);
            first += sum(plan.champion);
            for row in part {
                let champion = champions.next().unwrap_or(plan.champion);
                let own = loss(champion, row);
                served += own.unwrap_or(0.0);
                counted += usize::from(own.is_some());
            }
        }
        let mean = |sum: f64| sum / counted.max(1) as f64;
        Self {
            first: mean(first),
            served: mean(served),
            hindsight: mean(hindsight),
            window,
            rows: counted,
        }
    }

    /// Share of the way from the first champion to hindsight; `None` where there is no way to go.
    #[must_use]
    pub fn gap_closed(&self) -> Option<f64> {
        crate::demo::score::gap_closed(self.served, self.first, self.hindsight)
    }
}

/// A finished backtest.
#[derive(Debug)]
pub struct Backtest {
    /// What it was made from.
    pub source: String,
    /// Names of the versions.
    pub names: Names,
    /// What came of it.
    pub course: Course,
    /// What it was worth.
    pub worth: Worth,
    /// Name of the metric.
    pub metric: String,
}

impl Backtest {
    fn name(&self, version: VersionNo) -> &str {
        self.names.get(&version).map_or("?", String::as_str)
    }

    /// Why each champion got the crown; the first one has no reason.
    fn reigns(
        &self,
    ) -> impl Iterator<
        Item = (
            &crate::backtest::course::Reign,
            Option<&crate::backtest::contest::Change>,
        ),
    > {
        let changes = [None].into_iter().chain(self.course.changes.iter().map(Some));
        self.course.reigns.iter().zip(changes.chain(std::iter::repeat(None)))
    }

    /// Rollbacks among the changes.
    #[must_use]
    pub fn rollbacks(&self) -> usize {
        let back = |kind| kind == Action::Rollback;
        self.course
            .changes
            .iter()
            .filter(|change| back(change.decision.kind))
            .count()
    }

    /// The tables.
    #[must_use]
    pub fn text(&self) -> String {
        let course = &self.course;
        let mut out = format!(
            "backtest, never evidence: {} rows of {}, of them {} with a label and a score\n\n",
            course.rows, self.source, self.worth.rows
        );
        let width = self.names.values().map(|name| name.chars().count()).max().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:>9} – {:<9} {:<width$}  by", "from row", "to row", "champion");
        for (reign, change) in self.reigns() {
            let why = change.map_or_else(
                || "first champion".into(),
                |change| format!("{}: {}", kind(change.decision.kind), change.decision.why),
            );
            let _ = writeln!(
                out,
                "{:>9} – {:<9} {:<width$}  {why}",
                reign.from + 1,
                reign.to,
                self.name(reign.version)
            );
        }
        let _ = writeln!(
            out,
            "\n{:<width$}  ln wealth of bar    labels  verdict at the end",
            "challenger"
        );
        for verdict in &course.verdicts {
            let numbers = &verdict.numbers;
            let call = json!(verdict.verdict);
            let _ = writeln!(
                out,
                "{:<width$} {:>10.2} of {:<5.2} {:>7}  {}: {}",
                self.name(verdict.version),
                numbers.log_wealth,
                numbers.log_bar,
                numbers.labels,
                call.as_str().unwrap_or_default(),
                verdict.why
            );
        }
        let worth = &self.worth;
        let windows = format!("best version of every {} rows (in hindsight)", worth.window);
        let _ = writeln!(out, "\nmean {}", self.metric);
        for (name, loss) in [
            ("first champion for ever", worth.first),
            (windows.as_str(), worth.hindsight),
            ("whoever was champion", worth.served),
        ] {
            let _ = writeln!(out, "  {name:<54}{loss:>9.4}");
        }
        let gap = worth.gap_closed();
        let gap = gap.map_or("there was no gap to close".into(), |gap| {
            format!("gap closed {:.1} %", gap * 100.0)
        });
        let _ = writeln!(
            out,
            "{gap}; changes of champion: {}, of them rollbacks: {}",
            course.changes.len(),
            self.rollbacks()
        );
        out
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let champions = self.reigns().map(|(reign, change)| {
            json!({
                "version": self.name(reign.version), "from": reign.from + 1, "to": reign.to,
                "kind": change.map_or("first", |change| kind(change.decision.kind)),
                "decided": change.map(|change| &change.decision),
            })
        });
        let challengers = self.course.verdicts.iter().map(|verdict| {
            let mut line = json!(verdict);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("version".into(), self.name(verdict.version).into());
            }
            line
        });
        json!({
            "backtest": true, "source": self.source, "rows": self.course.rows, "pairs": self.course.pairs,
            "champions": champions.collect::<Vec<_>>(), "challengers": challengers.collect::<Vec<_>>(),
            "changes": self.course.changes.len(), "rollbacks": self.rollbacks(),
            "mean_loss": {
                "metric": self.metric, "rows": self.worth.rows, "first": self.worth.first, "served": self.worth.served,
                "hindsight": self.worth.hindsight, "window": self.worth.window,
            },
            "gap_closed": self.worth.gap_closed(),
        })
    }
}

/// A change's name.
#[must_use]
pub fn kind(action: Action) -> &'static str {
    match action {
        Action::Promote => "promotion",
        Action::Rollback => "rollback",
    }
}
