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
//! | [`challenger`] | the record with another file among the challengers |
//! | [`other`] | the record under other rules |
//! | [`table`], [`rows`] | a backtest of files on rows of a file |
//! | [`stream`] | a stream that is shipped with its models |
//! | [`recompute`] | one recorded answer, run again |
//! | [`workshop`] | examines and runs model files |
//! | [`report`], [`mod@picture`] | shows a backtest |

pub mod challenger;
pub mod other;
pub mod past;
pub mod picture;
pub mod progress;
pub mod recompute;
pub mod report;
pub mod rows;
pub mod stream;
pub mod table;
pub mod verify;
pub mod workshop;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::backtest::course::{Reign, Sample};
use crate::cli::Failure;
use crate::config::ModelConfig;
use crate::ledger::Position;
use past::Past;
use picture::{Drawn, picture};
use progress::Progress;
use report::Names;

/// `dethrone replay`.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("source").args(["state", "rows", "stream"]).required(true)))]
pub struct ReplayArgs {
    /// State directory of a gateway, running or not: fold what it recorded again, and compare
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// File of past rows, .csv or .parquet: backtest model files on them, without a ledger
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// Directory of a stream with the models that were made along it, as models/elec2: all of it
    #[arg(long, value_name = "DIR")]
    pub stream: Option<PathBuf>,
    /// With --state: the model; may be left out when one is recorded
    #[arg(long, value_name = "NAME", requires = "state")]
    pub model: Option<String>,
    /// With --state: the first row, as a number, or a time (2026-11-26, 2026-11-26T09:30:00Z)
    #[arg(long, value_name = "ROW|TIME", requires = "state")]
    pub from: Option<String>,
    /// With --state: the last row, likewise
    #[arg(long, value_name = "ROW|TIME", requires = "state")]
    pub to: Option<String>,
    /// With --rows: the first champion's file
    #[arg(long, value_name = "FILE", requires = "rows")]
    pub champion: Option<PathBuf>,
    /// A file that joins: with --state when would it have won; with --rows, FILE@ROW is before that row (the first is 1)
    #[arg(long, value_name = "FILE[@ROW]", conflicts_with = "stream")]
    pub challenger: Vec<String>,
    /// With --rows: a model's directory as it is served, in place of single files
    #[arg(long, value_name = "DIR", requires = "rows")]
    pub models: Option<PathBuf>,
    /// A model.toml with other rules
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// With --rows: the column of the label [default: label]
    #[arg(long, value_name = "COLUMN", requires = "rows")]
    pub label: Option<String>,
    /// With --rows: the column of the request time, where spans are times
    #[arg(long, value_name = "COLUMN", requires = "rows")]
    pub time: Option<String>,
    /// With --rows: rows of a window whose best version hindsight takes [default: a thirtieth of the rows]
    #[arg(long, value_name = "ROWS", requires = "rows")]
    pub window: Option<usize>,
    /// With --stream: so many runs, each with labels 3 rows later than the one before
    #[arg(long, value_name = "N", default_value_t = 1, requires = "stream", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub shifts: u64,
    /// Draw the evidence over time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// One line of JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

/// Does what the arguments ask for.
///
/// # Errors
/// Wrong usage, unreadable sources, or a record that does not come out as it was recorded.
pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    match (&args.state, &args.rows, &args.stream) {
        (Some(state), ..) => of_state(state, args),
        (_, Some(rows), _) => rows::run(rows, args),
        (_, _, Some(root)) => stream::run(root, args),
        (None, None, None) => Err(Failure::Usage("say what to replay: --state, --rows or --stream".into())),
    }
}

fn of_state(state: &Path, args: &ReplayArgs) -> Result<(), Failure> {
    if !args.challenger.is_empty() && args.policy.is_some() {
        return Err(Failure::Usage(
            "ask one thing at a time: --challenger or --policy".into(),
        ));
    }
    let past = Past::open(state, args.model.as_deref()).map_err(Failure::Failed)?;
    if past.held && !args.json {
        eprintln!("a gateway holds {}: this is its record as of now", state.display());
    }
    let range = range(&past, args)?;
    if let Some(policy) = &args.policy {
        return with_policy(&past, policy, range, args);
    }
    if !args.challenger.is_empty() {
        return with_challengers(&past, range, args);
    }
    if args.svg.is_some() {
        return Err(Failure::Usage(
            "a picture is drawn of a backtest: add --challenger or --policy".into(),
        ));
    }
    recorded(&past, range, args)
}

fn with_challengers(past: &Past, range: RangeInclusive<u64>, args: &ReplayArgs) -> Result<(), Failure> {
    let files: Vec<PathBuf> = args.challenger.iter().map(PathBuf::from).collect();
    let done = challenger::replay(past, &files, range).map_err(Failure::Failed)?;
    draw(args, &past.row.name, (&done.curve, &done.reigns), &done.names)?;
    if args.json {
        let files = done
            .files
            .iter()
            .map(|(name, tenures)| json!({"version": name, "tenures": tenures}));
        let line = json!({
            "backtest": true, "model": past.row.name, "gateway_running": past.held, "rows": done.rows,
            "rows_gone": done.rows_gone, "challengers": files.collect::<Vec<_>>(),
        });
        println!("{line}");
    } else {
        print!("{}", done.text(&past.row.name));
    }
    Ok(())
}

fn with_policy(past: &Past, file: &Path, range: RangeInclusive<u64>, args: &ReplayArgs) -> Result<(), Failure> {
    if !file.exists() {
        return Err(Failure::Usage(format!(
            "{} does not exist: give --policy a model.toml",
            file.display()
        )));
    }
    let config = ModelConfig::load(file).map_err(|e| Failure::Config(e.to_string()))?;
    let last = past.reader().last_row(past.row.no).map_err(Failure::failed)?;
    let bar = Progress::new(
        "judging",
        last.min(*range.end()).saturating_sub(range.start().saturating_sub(1)),
    );
    let judged = other::replay(past, &config, range, || bar.advance(1)).map_err(Failure::Failed)?;
    drop(bar);
    let names: Names = past.versions.iter().map(|v| (v.no, v.name.clone())).collect();
    draw(args, &past.row.name, (&judged.curve, &judged.reigns), &names)?;
    if args.json {
        let line = json!({
            "backtest": true, "model": past.row.name, "gateway_running": past.held, "rows": judged.rows,
            "pairs": judged.pairs, "changes": judged.changes, "different": judged.different(),
        });
        println!("{line}");
    } else {
        print!("{}", judged.text(&past.row.name, &file.display().to_string()));
    }
    Ok(())
}

fn draw(args: &ReplayArgs, model: &str, (curve, reigns): (&[Sample], &[Reign]), names: &Names) -> Result<(), Failure> {
    let Some(file) = &args.svg else { return Ok(()) };
    let drawn = Drawn {
        title: &format!("Backtest on the record of {model}: evidence, and the champions"),
        rows: reigns.last().map_or(0, |reign| reign.to),
        curve,
        reigns,
        names,
    };
    write(file, &picture(&drawn))
}

/// Writes a file, making its directory where there is none.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(file, text));
    written.map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))
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
