//! `dethrone export`: recorded rows as Parquet, for training.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::export::{Order, export};
use crate::replay::progress::Progress;
use crate::time::parse_rfc3339;

/// `dethrone export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// State directory of a gateway, running or not
    #[arg(long, value_name = "DIR", default_value = "state")]
    pub state: PathBuf,
    /// Model; may be left out when one is recorded
    #[arg(long)]
    pub model: Option<String>,
    /// Directory of the files, made where there is none; several exports may share it
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The first row, as a number, or a time (2026-11-26, 2026-11-26T09:30:00Z)
    #[arg(long, value_name = "ROW|TIME")]
    pub from: Option<String>,
    /// The last row, as a number; or a time, before which rows are taken
    #[arg(long, value_name = "ROW|TIME")]
    pub to: Option<String>,
    /// Rows that this version answered
    #[arg(long, value_name = "NAME")]
    pub version: Option<String>,
    /// Share of the rows, the same ones each time
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub sample: f64,
    /// Rows with a label only; that is so without it, too
    #[arg(long, conflicts_with = "all")]
    pub labelled: bool,
    /// Rows without a label, too
    #[arg(long)]
    pub all: bool,
    /// Who takes them; kept with the export, which an erasure names
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub author: String,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "give a share above 0 and at most 1".into())
}

/// A row number or a time.
enum End {
    Row(u64),
    Time(i64),
}

fn end(text: Option<&String>) -> Result<Option<End>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match (text.parse(), parse_rfc3339(text)) {
        (Ok(row), _) => Ok(Some(End::Row(row))),
        (_, Some(ms)) => Ok(Some(End::Time(ms))),
        _ => Err(Failure::Usage(format!(
            "'{text}' is neither a row number nor a time (2026-11-26, 2026-11-26T09:30:00Z)"
        ))),
    }
}

/// Writes the files and says where they are.
///
/// # Errors
/// Nothing is recorded there, or the files cannot be written.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let (from, to) = (end(args.from.as_ref())?, end(args.to.as_ref())?);
    let (mut rows, mut times) = ((0, u64::MAX), (None, None));
    match from {
        Some(End::Row(row)) => rows.0 = row,
        Some(End::Time(ms)) => times.0 = Some(ms),
        None => {}
    }
    match to {
        Some(End::Row(row)) => rows.1 = row,
        Some(End::Time(ms)) => times.1 = Some(ms),
        None => {}
    }
    if rows.0 > rows.1 || times.0.zip(times.1).is_some_and(|(from, to)| from >= to) {
        return Err(Failure::Usage("--from lies after --to".into()));
    }
    let order = Order {
        state: args.state.clone(),
        model: args.model.clone(),
        out: args.out.clone(),
        rows,
        from_ms: times.0,
        to_ms: times.1,
        version: args.version.clone(),
        sample: args.sample,
        labelled: !args.all,
        author: args.author.clone(),
    };
    let bar = Progress::counting("exporting");
    let exported = export(&order, || bar.advance(1)).map_err(Failure::failed)?;
    drop(bar);
    if args.json {
        println!("{}", exported.json());
    } else {
        print!("{}", exported.text());
    }
    Ok(())
}
