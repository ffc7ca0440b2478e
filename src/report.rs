//! What happened to a model over a stretch of its record, for people: one HTML file, the same as JSON, and rows drawn at
//! random for an audit.
//!
//! Always holds: it reads the ledger of one moment and writes nothing, so that it works beside a gateway, by it, and after
//! it; memory and the time it takes do not grow with the traffic (of many rows every so many-th is looked at, which is
//! said); what people or files wrote is shown as text and as nothing else. Nothing of it is evidence. Leaves to others: the
//! statistics (`monitor`), the judging (`judge`).
//!
//! | part | does |
//! |---|---|
//! | `since` | where the stretch begins |
//! | `drift`, `shape` | the rows of it against the baseline: over time, and how they are distributed |
//! | `evidence` | how the challengers' bets went |
//! | `sample` | rows for an audit |
//! | `fragment` | one part of the page each, from templates that know nothing of where they stand |
//! | `chart`, `table`, `page` | what fragments are made of, and all of them in one file |

mod chart;
mod drift;
mod evidence;
mod fragment;
mod page;
mod sample;
mod shape;
mod since;
mod table;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::history::{History, HistoryError};
use crate::ledger::{Ledger, LedgerError, is_held};
use crate::monitor::beside;
use crate::score::VersionNo;
use crate::time::{now_ms, rfc3339};

pub use drift::{Bucket, Drift, Series};
pub use evidence::{Curve, Evidence};
pub use page::{MOST_BYTES, html};
pub use sample::{MOST_ROWS, Order as SampleOrder, csv, sample, text as sample_text};
pub use shape::{Bar, Distribution};
pub use since::{Since, Stretch};

/// Tenures and decisions that are shown, the latest ones.
const MOST_TENURES: usize = 200;
const MOST_DECISIONS: usize = 500;
/// Versions whose costs are shown.
const MOST_COSTS: usize = 32;
/// Decisions that are looked at.
const LOOKED_AT: u32 = 10_000;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no such model.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// No row lies in the stretch.
    #[error("{0}")]
    Empty(String),
    /// The page could not be made.
    #[error("the page cannot be made: {0}")]
    Page(String),
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Champion {
    /// Its name.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// Since when.
    pub since: Option<String>,
    /// Number of its tenure.
    pub epoch: u64,
    /// Who answered before, and stands by.
    pub previous: Option<String>,
    /// Who holds promotions, and why.
    pub hold: Option<String>,
}

/// The reign of a champion that reaches into the stretch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reign {
    /// Its number.
    pub epoch: u64,
    /// Who answered.
    pub version: String,
    /// How it began.
    pub kind: String,
    /// Since when.
    pub from: String,
    /// Until when; `None` for the present one.
    pub to: Option<String>,
    /// First and last row of it in the stretch.
    pub rows: Option<(u64, u64)>,
    /// Rows of all of it that became evidence.
    pub labels: u64,
}

/// What a version costs, as its admission measured it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its name.
    pub version: String,
    /// Its role.
    pub role: String,
    /// Microseconds of a run of one row, at the median.
    pub latency_us_p50: u64,
    /// The same, of the slowest in a hundred.
    pub latency_us_p99: u64,
    /// CPU time of a row, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory that it took, in bytes.
    pub memory_bytes: u64,
}

/// See the module: what the page shows, and what `GET /api/models/{m}/report` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// When it was made.
    pub made: String,
    /// The stretch.
    pub since: Stretch,
    /// Who answers.
    pub champion: Option<Champion>,
    /// Who answered, oldest first.
    pub tenures: Vec<Reign>,
    /// Older ones in the stretch that are not shown.
    pub tenures_left_out: usize,
    /// What the monitor shows, as `GET /api/models/{m}/monitor` has it.
    pub monitor: Json,
    /// Values against the baseline: what is furthest from it first.
    pub distributions: Vec<Distribution>,
    /// Why there are none.
    pub why_no_distributions: Option<String>,
    /// Distances from the baseline over time.
    pub drift: Drift,
    /// How the bets went.
    pub evidence: Evidence,
    /// Decisions in the stretch, oldest first, as `GET /api/models/{m}/decisions` has them.
    pub decisions: Vec<Json>,
    /// Older ones in the stretch that are not shown.
    pub decisions_left_out: usize,
    /// What the versions cost.
    pub costs: Vec<Cost>,
}

/// Reads a state directory. `monitor` is what a running gateway shows; without it the same is made of what was kept.
///
/// # Errors
/// There is no such model, no row in the stretch, or what the ledger says.
pub fn read(state: &Path, model: Option<&str>, since: &Since, monitor: Option<Json>) -> Result<Report, ReportError> {
    let ledger = Ledger::open_to_read(state)?;
    let reader = ledger.reader();
    let history = History::read(&reader, model)?;
    let stretch = since.of(&reader, &history.model, now_ms(), is_held(state))?;
    let champion = history.model.champion;
    let (monitor, compared) = match monitor {
        Some(shown) => (shown, beside::compared(state, &reader, history.model.no, champion)),
        None => match beside::look(&ledger, state, &history, stretch.moment_ms)? {
            Some((mut shown, compared)) => {
                if let Some(shown) = shown.as_object_mut() {
                    shown.insert("model".into(), json!(history.model.name));
                }
                (shown, compared)
            }
            None => {
                let off = json!({"on": false, "why": "monitor.mode = \"off\"", "model": history.model.name});
                (off, beside::compared(state, &reader, history.model.no, champion))
            }
        },
    };
    let (drift, profiles) = drift::follow(&reader, &history, &stretch, &compared)?;
    let (distributions, why_no_distributions) = shape::distributions(&compared, profiles);
    let (tenures, tenures_left_out) = tenures(&reader, &history, &stretch)?;
    let (decisions, decisions_left_out) = decisions(&reader, &history, &stretch)?;
    Ok(Report {
        model: history.model.name.clone(),
        made: rfc3339(now_ms()),
        champion: who(&history),
        tenures,
        tenures_left_out,
        monitor,
        distributions,
        why_no_distributions,
        drift,
        evidence: evidence::curves(&reader, &history, &stretch)?,
        decisions,
        decisions_left_out,
        costs: costs(&history),
        since: stretch,
    })
}

fn name_of(history: &History<'_>, version: VersionNo) -> String {
    let known = history.versions.iter().find(|v| v.no == version);
    known.map_or_else(|| format!("number {}", version.0), |v| v.name.clone())
}

fn who(history: &History<'_>) -> Option<Champion> {
    let row = &history.model;
    let champion = row.champion?;
    let version = history.versions.iter().find(|v| v.no == champion)?;
    Some(Champion {
        version: version.name.clone(),
        digest: version.digest.clone(),
        since: row.champion_since.map(rfc3339),
        epoch: row.epoch,
        previous: row.previous.map(|no| name_of(history, no)),
        hold: row.hold.clone(),
    })
}

fn tenures(
    reader: &crate::ledger::Writer<'_>,
    history: &History<'_>,
    stretch: &Stretch,
) -> Result<(Vec<Reign>, usize), ReportError> {
    let all = reader.tenures(history.model.no, history.model.epoch)?;
    let ended_before = |to: Option<i64>| to.is_some_and(|to| to < stretch.from_ms);
    let reigns: Vec<Reign> = all
        .into_iter()
        .filter(|tenure| !ended_before(tenure.to_ms))
        .map(|tenure| Reign {
            epoch: tenure.epoch,
            version: name_of(history, tenure.version),
            kind: tenure.kind,
            from: rfc3339(tenure.from_ms),
            to: tenure.to_ms.map(rfc3339),
            rows: tenure
                .rows
                .map(|(first, last)| (first.max(stretch.first_row), last.min(stretch.last_row)))
                .filter(|(first, last)| first <= last),
            labels: tenure.labels,
        })
        .collect();
    Ok(latest(reigns, MOST_TENURES))
}

fn decisions(
    reader: &crate::ledger::Writer<'_>,
    history: &History<'_>,
    stretch: &Stretch,
) -> Result<(Vec<Json>, usize), ReportError> {
    let all = reader.decisions(history.model.no, LOOKED_AT)?;
    let made = all.into_iter().filter(|decision| decision.time_ms >= stretch.from_ms);
    Ok(latest(made.map(|decision| json!(decision)).collect(), MOST_DECISIONS))
}

/// The last `most`, and how many are left out.
fn latest<T>(mut all: Vec<T>, most: usize) -> (Vec<T>, usize) {
    let left_out = all.len().saturating_sub(most);
    (all.split_off(left_out), left_out)
}

fn costs(history: &History<'_>) -> Vec<Cost> {
    let runs = |role: &str| matches!(role, "champion" | "previous" | "challenger");
    let running = history.versions.iter().rev().filter(|v| runs(&v.role));
    let cost = |v: &crate::ledger::VersionRow| {
        let facts = history.facts(v)?;
        Some(Cost {
            version: v.name.clone(),
            role: v.role.clone(),
            latency_us_p50: facts.latency_us_p50,
            latency_us_p99: facts.latency_us_p99,
            cpu_ns: facts.cpu_ns,
            memory_bytes: facts.memory_bytes,
        })
    };
    let mut costs: Vec<Cost> = running.filter_map(cost).take(MOST_COSTS).collect();
    let rank = |role: &str| {
        ["champion", "previous"]
            .iter()
            .position(|known| *known == role)
            .unwrap_or(2)
    };
    costs.sort_by(|a, b| (rank(&a.role), &a.version).cmp(&(rank(&b.role), &b.version)));
    costs
}

#[cfg(test)]
mod tests;
