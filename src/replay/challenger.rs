//! What if another file had been among the challengers of a recorded contest?
//!
//! The recorded rows are scored by the file, in a child process as any candidate; it joins at the first row of the range,
//! at the end of the queue, against the champions as they were, tenure by tenure. When it would have won is told, and
//! the record goes on. A file that was trained on these rows wins easily: this is a backtest, never evidence.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::past::{Past, Read};
use super::progress::Progress;
use super::report::Names;
use super::workshop::{Made, Scores, Workshop, joined, layout, schema};
use crate::arena::wire::decode_tensors;
use crate::backtest::contest::Outcomes;
use crate::backtest::course::{Reign, Sample};
use crate::batch::{Batch, Schema};
use crate::decode::{Form, Missing, Rules, Source, Unknown};
use crate::judge::fold::Judge;
use crate::judge::pair::{ClosedRow, Pair, Pairing};
use crate::judge::policy::Mode;
use crate::judge::verdict::Verdict;
use crate::ledger::{LedgerError, Position};
use crate::model::interface::Interface;
use crate::recorder::Event;
use crate::recorder::groups::Groups;
use crate::score::VersionNo;
use crate::span::Clock;

/// Rows that are read and scored together.
const TOGETHER: usize = 4_096;
/// Points of an evidence curve.
const POINTS: u64 = 480;

/// One tenure as the file would have met it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tenure {
    /// The champion.
    pub champion: String,
    /// Number of the tenure.
    pub epoch: u64,
    /// First and last row that was folded in it.
    pub rows: [u64; 2],
    /// How it stood at the end; `None` where it never collected evidence.
    #[serde(flatten)]
    pub end: Option<Verdict>,
    /// When it would have won.
    pub won: Option<Won>,
}

/// A decision for the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Won {
    /// The row whose folding decided.
    pub row: u64,
    /// Its time, Unix ms.
    pub time_ms: i64,
    /// What the judge would have said.
    pub why: String,
}

/// What became of the files.
#[derive(Debug)]
pub struct Replayed {
    /// Tenures of each file, by name.
    pub files: Vec<(String, Vec<Tenure>)>,
    /// Rows that the files scored.
    pub rows: u64,
    /// Pairs whose rows are no longer there: the files have no difference on them.
    pub rows_gone: u64,
    /// Every version's evidence over time.
    pub curve: Vec<Sample>,
    /// The recorded champions.
    pub reigns: Vec<Reign>,
    /// Names.
    pub names: Names,
}

/// Scores the recorded rows with the files and folds the record with them among the challengers.
///
/// # Errors
/// A file is refused, or the ledger cannot be read.
pub fn replay(past: &Past, files: &[PathBuf], range: RangeInclusive<u64>) -> Result<Replayed, String> {
    let text = past.row.interface.as_deref().ok_or("the model has no champion yet")?;
    let mut interface: Interface =
        serde_json::from_str(text).map_err(|e| format!("the interface does not read back: {e}"))?;
    let workshop = Workshop::new()?;
    let mut made = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let one = workshop.examine(file, &name, &past.config)?;
        // A row without a feature that only this file takes is not covered by it: that is a difference of 0.
        interface = joined(&interface, &one, |_| true)?;
        made.push(one);
    }
    let first = past.versions.iter().map(|v| v.no.0).max().unwrap_or(0) + 1;
    let numbers: Vec<VersionNo> = (first..).take(made.len()).map(VersionNo).collect();
    let (scores, places) = score(past, &workshop, &made, &interface, &numbers, &range)?;
    let mut names: Names = past.versions.iter().map(|v| (v.no, v.name.clone())).collect();
    names.extend(
        numbers
            .iter()
            .copied()
            .zip(made.iter().map(|one| format!("{} (file)", one.name))),
    );
    let mut walk = Walk {
        past,
        numbers,
        scores,
        places,
        names,
        from: *range.start(),
        judge: None,
        pairing: Pairing::new(),
        groups: Groups::default(),
        entered: false,
        met: None,
        tenures: HashMap::new(),
        won: HashMap::new(),
        every: (past.reader().count_pairs(past.row.no).map_err(|e| e.to_string())? / POINTS).max(1),
        pairs: 0,
        gone: 0,
        curve: Vec::new(),
        reigns: Vec::new(),
    };
    walk.run(*range.end()).map_err(|e| e.to_string())?;
    let rows = walk.places.len() as u64;
    let files = walk.numbers.iter().zip(&made).map(|(no, one)| {
        let own = walk.tenures.remove(no).unwrap_or_default();
        (one.name.clone(), own)
    });
    Ok(Replayed {
        files: files.collect(),
        rows,
        rows_gone: walk.gone,
        curve: walk.curve,
        reigns: walk.reigns,
        names: walk.names,
    })
}

/// What the files make of the recorded rows of the range, and where each row stands among them.
fn score(
    past: &Past,
    workshop: &Workshop,
    made: &[Made],
    interface: &Interface,
    numbers: &[VersionNo],
    range: &RangeInclusive<u64>,
) -> Result<(Scores, HashMap<u64, usize>), String> {
    let schema = schema(interface);
    let is_features = interface.is_features();
    let (mut places, mut batches, mut waiting) = (HashMap::new(), Vec::new(), Vec::new());
    let from = Position {
        model: past.row.no,
        row: *range.start(),
    };
    let mut fault = None;
    let read = past.reader().recorded_inputs(from, |row| {
        if row.row > *range.end() {
            return Ok(false);
        }
        if let Some(inputs) = row.inputs {
            places.insert(row.row, places.len());
            waiting.push(inputs);
        }
        if waiting.len() >= TOGETHER {
            match batch(&mut waiting, is_features, &schema) {
                Ok(made) => batches.extend(made),
                Err(why) => fault = Some(format!("row {}: {why}", row.row)),
            }
        }
        Ok(fault.is_none())
    });
    read.map_err(|e| e.to_string())?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    batches.extend(batch(&mut waiting, is_features, &schema)?);
    let bar = Progress::new("scoring", (places.len() * made.len()) as u64);
    let mut scores = Scores::default();
    for (no, one) in numbers.iter().zip(made) {
        scores.insert(*no, workshop.score(one, &layout(interface, one)?, &batches, &bar)?);
    }
    Ok((scores, places))
}

/// Recorded inputs as a request would bring them.
pub(super) fn batch(
    waiting: &mut Vec<Vec<u8>>,
    is_features: bool,
    schema: &Arc<Schema>,
) -> Result<Vec<Arc<Batch>>, String> {
    let rows = std::mem::take(waiting);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    if !is_features {
        let tensors = rows.into_iter().map(|bytes| {
            let inputs = decode_tensors(&bytes).map_err(|e| e.to_string())?;
            Ok(Arc::new(Batch::Tensors { inputs, rows: 1 }))
        });
        return tensors.collect();
    }
    let rules = Rules {
        unknown: Unknown::Ignore,
        missing: Missing::Nan,
        max_rows: rows.len(),
    };
    let texts: Result<Vec<String>, _> = rows.into_iter().map(String::from_utf8).collect();
    let source = format!("[{}]", texts.map_err(|e| e.to_string())?.join(","));
    let form = Form::Features {
        schema: Arc::clone(schema),
        columns: Vec::new(),
        native: None,
    };
    let read = form
        .read(Source::Instances(&source), rules)
        .map_err(|e| e.to_string())?;
    Ok(vec![Arc::new(read)])
}

struct Walk<'a> {
    past: &'a Past,
    numbers: Vec<VersionNo>,
    scores: Scores,
    places: HashMap<u64, usize>,
    names: Names,
    from: u64,
    judge: Option<Judge>,
    pairing: Pairing,
    groups: Groups,
    entered: bool,
    /// First and last folded row of the present tenure, within the range.
    met: Option<[u64; 2]>,
    tenures: HashMap<VersionNo, Vec<Tenure>>,
    /// Who has won in the present tenure.
    won: HashMap<VersionNo, Won>,
    every: u64,
    pairs: u64,
    gone: u64,
    curve: Vec<Sample>,
    reigns: Vec<Reign>,
}

impl Walk<'_> {
    fn run(&mut self, to: u64) -> Result<(), LedgerError> {
        let reader = self.past.reader();
        let mut events = self.past.journal.iter().peekable();
        let mut failed = None;
        reader.pairs(self.past.row.no, 0, |pair| {
            let row = pair.clock.row;
            if row > to || failed.is_some() {
                return;
            }
            while let Some(happened) = events.next_if(|happened| happened.after_row < row) {
                self.event(&happened.event);
            }
            if row >= self.from {
                self.enter(pair.clock);
            }
            failed = self.pair(&reader, pair).err();
        })?;
        self.close();
        failed.map_or(Ok(()), Err)
    }

    /// What happened, but for whatever keeps the judge from deciding: the question is what it would have said.
    fn event(&mut self, event: &Event) {
        let own = match event {
            Event::Hold { .. } => return,
            Event::Swap { .. } => {
                self.close();
                event.clone()
            }
            Event::Start {
                policy,
                champion,
                clock,
            } => Event::Start {
                policy: crate::judge::policy::Policy {
                    mode: Mode::Auto,
                    ..policy.clone()
                },
                champion: *champion,
                clock: *clock,
            },
            Event::Policy { policy } => Event::Policy {
                policy: crate::judge::policy::Policy {
                    mode: Mode::Auto,
                    ..policy.clone()
                },
            },
            other => other.clone(),
        };
        own.apply(&mut self.judge);
        if let Some(judge) = &mut self.judge {
            // A person's swap puts the judge on hold.
            judge.hold(false);
        }
    }

    fn enter(&mut self, clock: Clock) {
        if let (false, Some(judge)) = (self.entered, &mut self.judge) {
            self.entered = true;
            for version in &self.numbers {
                judge.enter(*version, clock);
            }
        }
    }

    fn pair(&mut self, reader: &crate::ledger::Writer<'_>, mut pair: Pair) -> Result<(), LedgerError> {
        let row = pair.clock.row;
        if self.entered {
            self.groups.follow(self.judge.as_ref());
            let closed = self.closed(reader, &pair)?;
            let Some(judge) = &self.judge else { return Ok(()) };
            match self.pairing.observation(judge, &closed) {
                Some(own) => pair.entries.extend(own.entries),
                None => self.gone += 1,
            }
        }
        let Some(judge) = &mut self.judge else { return Ok(()) };
        if let Some(decision) = judge.fold(&pair) {
            if self.numbers.contains(&decision.version) {
                self.won.entry(decision.version).or_insert(Won {
                    row,
                    time_ms: pair.clock.time_ms,
                    why: decision.why,
                });
            }
            // The champions are the recorded ones: whatever is decided here changes nothing.
            judge.decline(decision.version);
        }
        let champion = judge.champion();
        if self.entered {
            self.met = Some(self.met.map_or([row, row], |[first, _]| [first, row]));
            let from = usize::try_from(row - 1).unwrap_or(usize::MAX);
            match self.reigns.last_mut() {
                Some(reign) if reign.version == champion => reign.to = from + 1,
                _ => self.reigns.push(Reign {
                    version: champion,
                    from,
                    to: from + 1,
                }),
            }
            if self.pairs.is_multiple_of(self.every) {
                let leads = judge.verdicts().into_iter();
                self.curve.push(Sample {
                    row: from,
                    leads: leads
                        .map(|v| (v.version, v.numbers.log_wealth - v.numbers.log_bar))
                        .collect(),
                });
            }
            self.pairs += 1;
        }
        Ok(())
    }

    /// The rows of an observation as they closed, with the files' scores in place of everybody else's; none where a row
    /// is gone.
    fn closed(&mut self, reader: &crate::ledger::Writer<'_>, pair: &Pair) -> Result<Vec<ClosedRow>, LedgerError> {
        let at = Position {
            model: self.past.row.no,
            row: pair.clock.row,
        };
        let (mut read, past, groups) = (Read::Gone, self.past, &mut self.groups);
        reader.open_rows(at, |open| {
            if open.clock.row == pair.clock.row {
                read = past.closed(reader, open, past.closing.absent, groups)?;
            }
            Ok(false)
        })?;
        let Read::Rows(rows) = read else { return Ok(Vec::new()) };
        let with_own = |closed: ClosedRow| {
            let place = *self.places.get(&closed.clock.row)?;
            let of = |version: &VersionNo| (*version, self.scores.outcome(*version, place));
            let others = self.numbers.iter().map(of).collect();
            Some(ClosedRow { others, ..closed })
        };
        Ok(rows.into_iter().filter_map(with_own).collect())
    }

    /// The present tenure is over.
    fn close(&mut self) {
        let (Some(judge), Some(rows)) = (&self.judge, self.met.take()) else {
            return;
        };
        for version in &self.numbers {
            let tenure = Tenure {
                champion: self.past.name_of(judge.champion()),
                epoch: judge.epoch(),
                rows,
                end: judge.verdict(*version),
                won: self.won.remove(version),
            };
            self.tenures.entry(*version).or_default().push(tenure);
        }
    }
}

impl Replayed {
    /// For people.
    #[must_use]
    pub fn text(&self, model: &str) -> String {
        let mut out = format!("backtest, never evidence: {} recorded rows of {model}\n", self.rows);
        if self.rows_gone > 0 {
            out += &format!(
                "{} pairs without a row that could be scored are left out\n",
                self.rows_gone
            );
        }
        for (name, tenures) in &self.files {
            out += &format!("\n{name} against the champions as they were\n");
            if tenures.is_empty() {
                out += "  no row of the range became evidence\n";
            }
            for tenure in tenures {
                let [first, last] = tenure.rows;
                out += &format!("  rows {first}–{last}, champion {}: ", tenure.champion);
                out += &match (&tenure.won, &tenure.end) {
                    (Some(won), _) => {
                        let at = crate::time::rfc3339(won.time_ms);
                        format!("would have won at row {} ({at}): {}\n", won.row, won.why)
                    }
                    (None, Some(verdict)) => format!(
                        "would not have won: ln wealth {:.2} of {:.2} after {} labels, mean difference {:+.4}; {}\n",
                        verdict.numbers.log_wealth,
                        verdict.numbers.log_bar,
                        verdict.numbers.labels,
                        verdict.numbers.mean_difference,
                        verdict.why
                    ),
                    (None, None) => "no evidence\n".into(),
                };
            }
        }
        out
    }
}
