//! How the challengers' bets went: ln wealth and ln bar over the rows of a stretch, by folding the stored pairs again.
//!
//! Always holds: the judge is driven as it was in service, so that the last point is what the gateway shows; at most
//! [`MOST_PAIRS`] pairs are folded. A longer contest shows only the moments at which a verdict changed, which are stored,
//! and says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{ReportError, Stretch, name_of};
use crate::history::History;
use crate::judge::fold::Judge;
use crate::ledger::Writer;
use crate::recorder::Event;
use crate::score::VersionNo;

/// Pairs that are folded at most.
const MOST_PAIRS: u64 = 1_000_000;
/// Points of a curve, about.
const POINTS: u64 = 160;
/// Curves that are shown, the highest.
const MOST: usize = 12;

/// One challenger's bet, or the bet of one that was champion before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Its name.
    pub version: String,
    /// Stretches in which it stood against the same champion: row, ln wealth, ln bar.
    pub parts: Vec<Vec<(u64, f64, f64)>>,
    /// Labels that the last point rests on.
    pub labels: u64,
    /// Mean loss difference to the champion; above 0 it is better.
    pub mean_difference: Option<f64>,
    /// 95 % interval of that, valid at every look.
    pub interval: Option<[f64; 2]>,
    /// `wins`, `loses` or `not yet`, as of the last point.
    pub verdict: String,
    /// One sentence.
    pub why: String,
    /// It is a challenger at the end of the stretch.
    pub is_present: bool,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The curves: present challengers first, the highest first.
    pub curves: Vec<Curve>,
    /// Versions whose curves are not shown.
    pub left_out: usize,
    /// The metric that is fought over.
    pub metric: Option<String>,
    /// What is to be said of it.
    pub note: Option<String>,
}

/// Everybody's curve, on the way.
#[derive(Default)]
struct Curves {
    all: BTreeMap<VersionNo, Curve>,
    /// The tenure that the open parts are of.
    epoch: u64,
}

impl Curves {
    fn point(&mut self, judge: &Judge, row: u64) {
        if judge.epoch() != self.epoch {
            self.epoch = judge.epoch();
            self.all.values_mut().for_each(|curve| curve.parts.push(Vec::new()));
        }
        self.all.values_mut().for_each(|curve| curve.is_present = false);
        for verdict in judge.verdicts() {
            let curve = self.all.entry(verdict.version).or_default();
            let numbers = &verdict.numbers;
            if curve.parts.is_empty() {
                curve.parts.push(Vec::new());
            }
            if let Some(part) = curve.parts.last_mut()
                && numbers.log_wealth.is_finite()
                && numbers.log_bar.is_finite()
            {
                part.push((row, numbers.log_wealth, numbers.log_bar));
            }
            curve.labels = numbers.labels;
            curve.mean_difference = Some(numbers.mean_difference).filter(|mean| mean.is_finite());
            curve.interval = Some(numbers.interval).filter(|ends| ends.iter().all(|end| end.is_finite()));
            curve.verdict = serde_json::to_value(verdict.verdict)
                .ok()
                .and_then(|word| word.as_str().map(str::to_owned))
                .unwrap_or_default();
            curve.why.clone_from(&verdict.why);
            curve.is_present = true;
        }
    }
}

/// The curves of a stretch.
///
/// # Errors
/// What the ledger says.
pub(super) fn curves(reader: &Writer<'_>, history: &History<'_>, stretch: &Stretch) -> Result<Evidence, ReportError> {
    let model = history.model.no;
    let pairs = reader.count_pairs(model)?;
    if pairs == 0 {
        return Ok(Evidence {
            note: Some("no labelled row has become evidence yet".into()),
            ..Evidence::default()
        });
    }
    let (mut curves, metric, note) = if pairs > MOST_PAIRS {
        let note =
            format!("{pairs} pairs are too many to fold for a picture: only stored changes of verdicts are shown");
        (stored(reader, history, stretch)?, None, Some(note))
    } else {
        let (curves, metric) = folded(reader, history, stretch)?;
        (curves, metric, None)
    };
    for (version, curve) in &mut curves.all {
        curve.version = name_of(history, *version);
        curve.parts.retain(|part| !part.is_empty());
    }
    let mut all: Vec<Curve> = curves
        .all
        .into_values()
        .filter(|curve| !curve.parts.is_empty())
        .collect();
    let lead = |curve: &Curve| {
        let last = curve.parts.last().and_then(|part| part.last());
        last.map_or(f64::NEG_INFINITY, |(_, wealth, bar)| wealth - bar)
    };
    all.sort_by(|a, b| {
        let order = b.is_present.cmp(&a.is_present).then(lead(b).total_cmp(&lead(a)));
        order.then_with(|| a.version.cmp(&b.version))
    });
    let left_out = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    Ok(Evidence {
        curves: all,
        left_out,
        metric,
        note,
    })
}

/// Events and pairs in the order in which they happened.
fn folded(
    reader: &Writer<'_>,
    history: &History<'_>,
    stretch: &Stretch,
) -> Result<(Curves, Option<String>), ReportError> {
    let model = history.model.no;
    // An entry that does not read back would end a gateway's start, too: nothing is made up for it here.
    let events: Vec<(u64, Event)> = reader
        .dated_journal(model)?
        .into_iter()
        .filter_map(|dated| Some((dated.entry.after_row, serde_json::from_str(&dated.entry.event).ok()?)))
        .collect();
    let mut events = events.iter().peekable();
    let (mut judge, mut curves, mut at, mut last) = (None::<Judge>, Curves::default(), None, 0);
    let every = (stretch.rows / POINTS).max(1);
    reader.pairs(model, 0, |pair| {
        let row = pair.clock.row;
        while let Some((_, event)) = events.next_if(|(after, _)| *after < row) {
            event.apply(&mut judge);
        }
        let Some(judge) = &mut judge else { return };
        judge.fold(&pair);
        last = row;
        let is_due = at.is_none_or(|at: u64| row >= at + every);
        if row >= stretch.first_row && row <= stretch.last_row && is_due {
            curves.point(judge, row);
            at = Some(row);
        }
    })?;
    for (_, event) in events {
        event.apply(&mut judge);
    }
    let metric = judge.as_ref().map(|judge| judge.policy().metric.name().to_owned());
    if let Some(judge) = &judge {
        curves.point(judge, last.clamp(stretch.first_row, stretch.last_row));
    }
    Ok((curves, metric))
}

/// The verdicts that were stored when they changed.
fn stored(reader: &Writer<'_>, history: &History<'_>, stretch: &Stretch) -> Result<Curves, ReportError> {
    let mut curves = Curves::default();
    for recorded in reader.recorded_verdicts(history.model.no)? {
        let verdict: Json = serde_json::from_str(&recorded.verdict).unwrap_or_default();
        let number = |key: &str| verdict.get(key).and_then(Json::as_f64);
        let word = |key: &str| verdict.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let curve = curves.all.entry(recorded.version).or_default();
        curve.labels = verdict.get("labels").and_then(Json::as_u64).unwrap_or(0);
        curve.mean_difference = number("mean_difference");
        curve.verdict = word("verdict");
        curve.why = word("why");
        if recorded.row < stretch.first_row || recorded.row > stretch.last_row {
            continue;
        }
        if curve.parts.is_empty() {
            curve.parts.push(Vec::new());
        }
        if let (Some(part), Some(wealth), Some(bar)) = (curve.parts.last_mut(), number("log_wealth"), number("log_bar"))
        {
            part.push((recorded.row, wealth, bar));
        }
    }
    for version in &history.versions {
        if let Some(curve) = curves.all.get_mut(&version.no) {
            curve.is_present = version.role == "challenger";
        }
    }
    Ok(curves)
}
