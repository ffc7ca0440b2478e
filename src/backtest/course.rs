//! A whole stream through a contest: who arrives when, who was champion when, and how the evidence went.
//!
//! Always holds: a version is asked about no row before its arrival. Leaves to others: where outcomes come from, and what
//! the answers were worth.

use super::contest::{Asked, Change, Contest, Outcomes};
use crate::judge::policy::Policy;
use crate::judge::verdict::Verdict;
use crate::recorder::Closing;
use crate::score::VersionNo;

/// Points of an evidence curve: more than there are pixels would only make a picture long.
const POINTS: usize = 480;

/// A version and the row before which it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The version.
    pub version: VersionNo,
    /// The first row that it is offered, counted from 0.
    pub row: usize,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The rules.
    pub policy: Policy,
    /// When rows close.
    pub closing: Closing,
    /// The first champion.
    pub champion: VersionNo,
    /// Most challengers at a time.
    pub room: usize,
    /// Who comes, in any order.
    pub arrivals: Vec<Arrival>,
}

/// Rows answered by one version, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reign {
    /// The champion.
    pub version: VersionNo,
    /// First row.
    pub from: usize,
    /// Row after the last.
    pub to: usize,
}

/// How the challengers stood after a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The row, counted from 0.
    pub row: usize,
    /// ln wealth − ln bar of each challenger.
    pub leads: Vec<(VersionNo, f64)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Rows.
    pub rows: usize,
    /// Rows that became evidence.
    pub pairs: u64,
    /// Champions one after the other.
    pub reigns: Vec<Reign>,
    /// What was decided; row numbers count from 1.
    pub changes: Vec<Change>,
    /// The evidence over time.
    pub curve: Vec<Sample>,
    /// The verdicts after the last row.
    pub verdicts: Vec<Verdict>,
}

impl Course {
    /// Runs the rows through a contest; `each` hears of every row.
    pub fn run(plan: &Plan, rows: &[Asked], outcomes: &impl Outcomes, mut each: impl FnMut(usize)) -> Self {
        let mut contest = Contest::new(plan.policy.clone(), plan.closing.clone(), plan.champion, plan.room);
        let mut arrivals = plan.arrivals.clone();
        arrivals.sort_by_key(|arrival| arrival.row);
        let mut coming = arrivals.into_iter().peekable();
        let every = rows.len().div_ceil(POINTS).max(1);
        let (mut curve, mut reigns) = (Vec::new(), Vec::<Reign>::new());
        for (at, asked) in rows.iter().enumerate() {
            while let Some(arrival) = coming.next_if(|arrival| arrival.row <= at) {
                contest.arrive(arrival.version);
            }
            let version = contest.judge().champion();
            match reigns.last_mut() {
                Some(reign) if reign.version == version => reign.to = at + 1,
                _ => reigns.push(Reign {
                    version,
                    from: at,
                    to: at + 1,
                }),
            }
            let changed = contest.record(asked.clone(), outcomes);
            if changed || at.is_multiple_of(every) || at + 1 == rows.len() {
                let leads = contest.judge().verdicts().into_iter();
                let leads = leads.map(|v| (v.version, v.numbers.log_wealth - v.numbers.log_bar));
                curve.push(Sample {
                    row: at,
                    leads: leads.collect(),
                });
            }
            each(at);
        }
        Self {
            rows: rows.len(),
            pairs: contest.pairs(),
            reigns,
            changes: contest.changes().to_vec(),
            curve,
            verdicts: contest.judge().verdicts(),
        }
    }

    /// The champion of each row.
    pub fn champions(&self) -> impl Iterator<Item = VersionNo> {
        self.reigns
            .iter()
            .flat_map(|reign| std::iter::repeat_n(reign.version, reign.to - reign.from))
    }
}

#[cfg(test)]
mod tests;
