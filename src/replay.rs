//! `dethrone replay`: a recorded contest folded again, asked what if, or made up from a file of past rows.
//!
//! Three sources: a state directory (`--state`), a file of rows (`--rows`), a stream that is shipped with its models
//! (`--stream`). Only the first one, without a "what if", speaks of evidence: everything else is a backtest and says so.
//! Always holds: a state directory is never written to, and may have a gateway on it; model files are run in the sandboxed
//! child processes that candidates are admitted in.
//!
//! | part | does |
//! |---|---|
//! | [`past`] | reads a state directory |
//! | [`verify`] | folds the record again and compares |

pub mod past;
pub mod progress;
pub mod verify;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::Failure;
use crate::ledger::Position;
use past::Past;
use progress::Progress;

/// `dethrone replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// State directory of a gateway, running or not: fold what it recorded again, and compare
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Model; may be left out when one is recorded
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// First row: a row number, or a time (2026-11-26, 2026-11-26T09:30:00Z)
    #[arg(long, value_name = "ROW|TIME")]
    pub from: Option<String>,
    /// Last row, likewise
    #[arg(long, value_name = "ROW|TIME")]
    pub to: Option<String>,
    /// One line of JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

/// Does what the arguments ask for.
///
/// # Errors
/// Wrong usage, unreadable sources, or a record that does not come out as it was recorded.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let Some(state) = &args.state else {
        return Err(Failure::Usage("say what to replay: --state DIR".into()));
    };
    let past = Past::open(state, args.model.as_deref()).map_err(Failure::Failed)?;
    if past.held && !args.json {
        eprintln!("a gateway holds {}: this is its record as of now", state.display());
    }
    let range = range(&past, args)?;
    recorded(&past, range, args)
}

/// Without a "what if": everything must come out as it was recorded.
fn recorded(past: &Past, range: RangeInclusive<u64>, args: &ReplayArgs) -> Result<(), Failure> {
    let pairs = past.reader().count_pairs(past.row.no).map_err(Failure::failed)?;
    let bar = Progress::new("folding", pairs);
    let found = verify::verify(past, range, || bar.advance(1)).map_err(Failure::failed)?;
    drop(bar);
    let same = found.first_difference.is_none();
    if args.json {
        println!(
            "{}",
            json!({"model": past.row.name, "gateway_running": past.held, "same": same, "compared": found})
        );
    } else {
        print!("{}", found.table(&past.row.name));
    }
    match found.first_difference {
        None => Ok(()),
        Some(difference) => Err(Failure::Failed(format!(
            "the record does not come out as it was recorded: {difference}"
        ))),
    }
}

/// The rows that `--from` and `--to` mean.
fn range(past: &Past, args: &ReplayArgs) -> Result<RangeInclusive<u64>, Failure> {
    let end = |text: &Option<String>, is_first: bool| match text {
        None => Ok(if is_first { 0 } else { u64::MAX }),
        Some(text) => match (text.parse::<u64>(), crate::time::parse_rfc3339(text)) {
            (Ok(row), _) => Ok(row),
            (_, Some(ms)) => row_at(past, ms, is_first).map_err(Failure::failed),
            _ => Err(Failure::Usage(format!(
                "'{text}' is neither a row number nor a time (2026-11-26, 2026-11-26T09:30:00Z)"
            ))),
        },
    };
    let (first, last) = (end(&args.from, true)?, end(&args.to, false)?);
    if first > last {
        return Err(Failure::Usage("--from lies after --to".into()));
    }
    Ok(first..=last)
}

/// The first recorded row from this time on, or the last one before it or at it.
fn row_at(past: &Past, ms: i64, is_first: bool) -> Result<u64, crate::ledger::LedgerError> {
    let from = Position {
        model: past.row.no,
        row: 0,
    };
    let (mut first, mut last) = (u64::MAX, 0);
    past.reader().open_rows(from, |row| {
        if row.clock.time_ms >= ms {
            first = first.min(row.clock.row);
        }
        if row.clock.time_ms <= ms {
            last = row.clock.row;
        }
        // Times may go back a little; the first that is late enough decides.
        Ok(!is_first || first == u64::MAX)
    })?;
    Ok(if is_first { first } else { last })
}

impl verify::Compared {
    /// For people.
    #[must_use]
    pub fn table(&self, model: &str) -> String {
        let word = |count: u64, what: &str| format!("  {count:>9}  {what}\n");
        let mut out = format!("model {model}: the record folded again\n");
        out += &word(self.pairs, "pairs folded");
        out += &word(self.events, "events applied");
        out += &word(self.verdicts, "verdicts compared");
        out += &word(self.decisions, "decisions of the judge compared");
        out += &word(
            self.rows,
            "rows paired again from what was predicted and reported, and compared",
        );
        let apart = [
            (
                self.others,
                "changes of champion by a person or a tripwire: no evidence brings them back",
            ),
            (
                self.rows_gone,
                "pairs whose rows are no longer there: their pair stands, and cannot be made again",
            ),
            (
                self.rows_unknown,
                "rows without a label from before the label settings changed: what silence meant is not recorded",
            ),
            (self.rows_damaged, "rows with a lost outcome: cannot be paired again"),
        ];
        for (count, what) in apart {
            if count > 0 {
                out += &word(count, what);
            }
        }
        if self.first_difference.is_none() {
            out += "everything that was compared is the same, bit for bit\n";
        }
        out
    }
}
