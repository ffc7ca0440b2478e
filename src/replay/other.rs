//! What if other rules had been in force? The recorded rows, judged again under another model.toml.
//!
//! Versions come and go when they did; who is champion follows from the other rules alone, without people's orders. Where
//! that champion was a challenger in truth, its outcome on a row is its recorded shadow outcome; a row on which it has
//! none makes no pair. Labels count where they counted: a longer maturity does not bring a late one back.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::past::Past;
use super::report::kind;
use crate::backtest::contest::{Contest, Outcomes};
use crate::backtest::course::{Reign, Sample};
use crate::config::ModelConfig;
use crate::control::policy;
use crate::judge::tenure::Swap;
use crate::ledger::{LedgerError, OpenRow, Position, Writer};
use crate::recorder::Event;
use crate::recorder::closed::Terms;
use crate::recorder::groups::Groups;
use crate::score::{Outcome, Shed, VersionNo};

/// Points of an evidence curve.
const POINTS: u64 = 480;

/// A change of champion, recorded or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The last row before it.
    pub row: u64,
    /// promotion, rollback, or a person's order.
    pub kind: &'static str,
    /// The outgoing version.
    pub from: String,
    /// The incoming version.
    pub to: String,
    /// One sentence, where there is one.
    pub why: Option<String>,
}

impl Changed {
    fn is_like(&self, other: &Self) -> bool {
        (self.kind, &self.from, &self.to) == (other.kind, &other.from, &other.to)
    }
}

/// A recorded change and the one that stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Aligned {
    /// As it was.
    pub recorded: Option<Changed>,
    /// As it would have been.
    pub other: Option<Changed>,
}

/// What came of it.
#[derive(Debug)]
pub struct Judged {
    /// Changes of champion, those that are alike side by side.
    pub changes: Vec<Aligned>,
    /// Rows that were judged.
    pub rows: u64,
    /// Pairs that they made.
    pub pairs: u64,
    /// The evidence over time.
    pub curve: Vec<Sample>,
    /// Who would have been champion.
    pub reigns: Vec<Reign>,
}

/// What every version made of one row.
type OfRow = Vec<(VersionNo, Outcome)>;

/// What the ledger says that each version made of each row: the champion as it answered, the others in shadow.
struct Recorded<'a> {
    reader: &'a Writer<'a>,
    rows: RefCell<Vec<(i64, VersionNo)>>,
    /// The row that was read last: all versions of a row are asked for one after the other.
    last: RefCell<Option<(usize, OfRow)>>,
    failed: RefCell<Option<LedgerError>>,
}

impl Recorded<'_> {
    fn read(&self, row: usize) -> Result<OfRow, LedgerError> {
        let Some((id, version)) = self.rows.borrow().get(row).copied() else {
            return Ok(Vec::new());
        };
        let mut all = self.reader.outcomes(id)?;
        if let Some(answered) = self.reader.answered(id)? {
            all.push((version, answered.outcome));
        }
        Ok(all)
    }
}

impl Outcomes for Recorded<'_> {
    fn outcome(&self, version: VersionNo, row: usize) -> Outcome {
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(at, _)| *at != row) {
            let read = self.read(row).unwrap_or_else(|error| {
                *self.failed.borrow_mut() = Some(error);
                Vec::new()
            });
            *last = Some((row, read));
        }
        let known = last
            .as_ref()
            .and_then(|(_, all)| all.iter().find(|(no, _)| *no == version));
        known.map_or(Outcome::Shed(Shed::Left), |(_, outcome)| outcome.clone())
    }
}

/// Judges the recorded rows of the range under `config`.
///
/// # Errors
/// The rules mean nothing for this model, or the ledger cannot be read.
pub fn replay(
    past: &Past,
    config: &ModelConfig,
    range: RangeInclusive<u64>,
    mut each: impl FnMut(),
) -> Result<Judged, String> {
    let task = past.head.as_ref().and_then(|head| head.task);
    policy::metric(config, task)?;
    let reader = past.reader();
    let mut rules = policy::policy(config, task);
    rules.mode = crate::judge::policy::Mode::Auto;
    let key = past.key(config)?;
    let closing = policy::closing(config, past.head.as_ref(), &key);
    let room = usize::try_from(config.shadow.max_challengers).unwrap_or(usize::MAX);
    let from = *range.start();
    let start = Start::at(past, from)?;
    let (told, mut groups) = (closing.clone(), Groups::default());
    let mut contest = Contest::new(rules, closing, start.champion, room);
    start.told.iter().for_each(|event| contest.tell(event));
    start.present.iter().for_each(|version| contest.arrive(*version));
    let recorded = Recorded {
        reader: &reader,
        rows: RefCell::default(),
        last: RefCell::default(),
        failed: RefCell::default(),
    };
    let last = reader
        .last_row(past.row.no)
        .map_err(|e| e.to_string())?
        .min(*range.end());
    let every = (last.saturating_sub(from) / POINTS).max(1);
    let mut events = start.later.into_iter().peekable();
    let (mut curve, mut reigns, mut count) = (Vec::new(), Vec::<Reign>::new(), 0);
    let place = Position {
        model: past.row.no,
        row: from,
    };
    let walked = reader.answered_rows(place, |row: &OpenRow, version| {
        if row.clock.row > last {
            return Ok(false);
        }
        while let Some(event) = events.next_if(|event| event.is_before(row)) {
            match event {
                Coming::Enter(version, _) => contest.arrive(version),
                Coming::Leave(version, _) => contest.leave(version),
                Coming::Told(event, _) => contest.tell(&event),
            }
        }
        let at = usize::try_from(row.clock.row - 1).unwrap_or(usize::MAX);
        let champion = contest.judge().champion();
        match reigns.last_mut() {
            Some(reign) if reign.version == champion => reign.to = at + 1,
            _ => reigns.push(Reign {
                version: champion,
                from: at,
                to: at + 1,
            }),
        }
        let index = recorded.rows.borrow().len();
        recorded.rows.borrow_mut().push((row.id, version));
        groups.follow(Some(contest.judge()));
        let mut terms = Terms {
            model: past.row.no,
            closing: &told,
            groups: &mut groups,
            has_principals: past.has_principals,
        };
        let asked = terms.asked(&reader, row, index)?;
        if contest.record(asked, &recorded) || row.clock.row.is_multiple_of(every) {
            let leads = contest.judge().verdicts().into_iter();
            curve.push(Sample {
                row: at,
                leads: leads
                    .map(|v| (v.version, v.numbers.log_wealth - v.numbers.log_bar))
                    .collect(),
            });
        }
        count += 1;
        each();
        match recorded.failed.take() {
            Some(error) => Err(error),
            None => Ok(true),
        }
    });
    walked.map_err(|e| e.to_string())?;
    let ours = contest.changes().iter().map(|change| Changed {
        row: change.at.row,
        kind: kind(change.decision.kind),
        from: past.name_of(change.from),
        to: past.name_of(change.decision.version),
        why: Some(change.decision.why.clone()),
    });
    Ok(Judged {
        changes: align(start.recorded, ours.collect(), &range),
        rows: count,
        pairs: contest.pairs(),
        curve,
        reigns,
    })
}

/// A version comes or goes.
#[derive(Debug, Clone)]
enum Coming {
    /// After this row.
    Enter(VersionNo, u64),
    /// At this time.
    Leave(VersionNo, i64),
    /// What the judge was told of a version, at this time.
    Told(Box<Event>, i64),
}

/// What the judge is told of versions whatever the rules are: what they cost, their own settings, who is a copy.
fn is_told(event: &Event) -> bool {
    matches!(
        event,
        Event::Cost { .. }
            | Event::Twin { .. }
            | Event::Threshold { .. }
            | Event::Calibration { .. }
            | Event::Bar { .. }
            | Event::Inherit { .. }
    )
}

impl Coming {
    fn is_before(&self, row: &OpenRow) -> bool {
        match self {
            Self::Enter(_, after) => *after < row.clock.row,
            Self::Leave(_, time_ms) | Self::Told(_, time_ms) => *time_ms <= row.clock.time_ms,
        }
    }
}

/// How things stood at the first row, who came and went later, and every recorded change of champion.
struct Start {
    champion: VersionNo,
    present: Vec<VersionNo>,
    /// What the judge was told before.
    told: Vec<Event>,
    later: Vec<Coming>,
    recorded: Vec<Changed>,
}

impl Start {
    fn at(past: &Past, from: u64) -> Result<Self, String> {
        let (mut judge, mut later, mut recorded) = (None, Vec::new(), Vec::new());
        let (mut begun, mut told) = (None, Vec::new());
        for happened in &past.journal {
            let clock = match &happened.event {
                Event::Start { clock, .. } | Event::Enter { clock, .. } | Event::Swap { clock, .. } => clock.row,
                _ => happened.after_row,
            };
            if let (Event::Swap { to, kind, clock }, Some(judge)) = (&happened.event, &judge) {
                let judge: &crate::judge::fold::Judge = judge;
                recorded.push(Changed {
                    row: clock.row,
                    kind: match kind {
                        Swap::Promotion => "promotion",
                        Swap::Rollback => "rollback",
                        Swap::Person => "order",
                    },
                    from: past.name_of(judge.champion()),
                    to: past.name_of(*to),
                    why: None,
                });
            }
            happened.event.apply(&mut judge);
            if clock < from || begun.is_none() && matches!(happened.event, Event::Start { .. }) {
                begun = judge
                    .as_ref()
                    .map(|judge| (judge.champion(), judge.challengers().collect()));
                told.extend(is_told(&happened.event).then(|| happened.event.clone()));
                continue;
            }
            later.extend(match &happened.event {
                Event::Enter { version, clock } => Some(Coming::Enter(*version, clock.row)),
                Event::Leave { version } => Some(Coming::Leave(*version, happened.time_ms)),
                event if is_told(event) => Some(Coming::Told(Box::new(event.clone()), happened.time_ms)),
                _ => None,
            });
        }
        let (champion, present) = begun.ok_or("the model has no champion yet")?;
        Ok(Self {
            champion,
            present,
            told,
            later,
            recorded,
        })
    }
}

/// The two courses side by side: the longest run of changes that are alike in both, in order, and the others alone.
fn align(recorded: Vec<Changed>, other: Vec<Changed>, range: &RangeInclusive<u64>) -> Vec<Aligned> {
    let recorded: Vec<Changed> = recorded
        .into_iter()
        .filter(|change| range.contains(&change.row))
        .collect();
    let (n, m) = (recorded.len(), other.len());
    let mut longest = vec![vec![0_usize; m + 1]; n + 1];
    let at = |table: &[Vec<usize>], i: usize, j: usize| table.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    for (i, a) in recorded.iter().enumerate().rev() {
        for (j, b) in other.iter().enumerate().rev() {
            let best = if a.is_like(b) {
                at(&longest, i + 1, j + 1) + 1
            } else {
                at(&longest, i + 1, j).max(at(&longest, i, j + 1))
            };
            if let Some(place) = longest.get_mut(i).and_then(|row| row.get_mut(j)) {
                *place = best;
            }
        }
    }
    let (mut i, mut j, mut aligned) = (0, 0, Vec::new());
    loop {
        let (a, b) = (recorded.get(i), other.get(j));
        let (take_a, take_b) = match (a, b) {
            (None, None) => return aligned,
            (Some(a), Some(b)) if a.is_like(b) => (true, true),
            (Some(_), Some(_)) => {
                let first = at(&longest, i + 1, j) >= at(&longest, i, j + 1);
                (first, !first)
            }
            (a, b) => (a.is_some(), b.is_some()),
        };
        aligned.push(Aligned {
            recorded: a.filter(|_| take_a).cloned(),
            other: b.filter(|_| take_b).cloned(),
        });
        (i, j) = (i + usize::from(take_a), j + usize::from(take_b));
    }
}

impl Judged {
    /// Changes that are not alike.
    #[must_use]
    pub fn different(&self) -> usize {
        let alone = |aligned: &&Aligned| aligned.recorded.is_none() || aligned.other.is_none();
        self.changes.iter().filter(alone).count()
    }

    /// For people.
    #[must_use]
    pub fn text(&self, model: &str, policy: &str) -> String {
        let mut out = format!(
            "backtest, never evidence: {} recorded rows of {model} under {policy}, {} of them pairs\n\n",
            self.rows, self.pairs
        );
        let shown = |change: &Option<Changed>| {
            change.as_ref().map_or_else(
                || "–".to_owned(),
                |c| format!("row {}: {} {} → {}", c.row, c.kind, c.from, c.to),
            )
        };
        let width = self
            .changes
            .iter()
            .map(|c| shown(&c.recorded).chars().count())
            .max()
            .unwrap_or(0)
            .max(8);
        out += &format!("    {:<width$}   under the other rules\n", "recorded");
        for change in &self.changes {
            let mark = if change.recorded.is_some() && change.other.is_some() {
                "="
            } else {
                "≠"
            };
            out += &format!(
                "  {mark} {:<width$}   {}\n",
                shown(&change.recorded),
                shown(&change.other)
            );
        }
        out += &format!("\n{} changes of champion would have been different\n", self.different());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_are_alike_stand_side_by_side_whatever_their_row() {
        let change = |row, to: &str| Changed {
            row,
            kind: "promotion",
            from: "a".into(),
            to: to.into(),
            why: None,
        };
        let recorded = vec![change(1, "b"), change(5, "c"), change(900, "d")];
        let aligned = align(
            recorded,
            vec![change(2, "b"), change(6, "x"), change(7, "d")],
            &(0..=100),
        );
        let rows: Vec<_> = aligned
            .iter()
            .map(|a| (a.recorded.as_ref().map(|c| c.row), a.other.as_ref().map(|c| c.row)))
            .collect();
        assert_eq!(rows[0], (Some(1), Some(2)));
        assert_eq!(rows.len(), 4, "{rows:?}");
    }
}
