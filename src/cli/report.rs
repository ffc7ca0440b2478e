//! `dethrone report` and `dethrone sample`: what happened to a model, as one page for people; and rows for an audit.
//!
//! Both ask a running gateway, or read a state directory, whether or not a gateway runs on it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::person::encoded;
use super::shown::{as_json, plain};
use super::{Failure, Target, answer_of, block_on, parse};
use crate::report::{self, MOST_ROWS, Report, ReportError, SampleOrder, Since};

/// Many rows take their time to be read.
const PATIENCE: Duration = Duration::from_secs(120);

/// `dethrone report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read this state directory instead of asking a gateway
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where it begins: a span (7d, 24h, "336 rows"), a time (2026-11-26, 2026-11-26T09:30:00Z) or the number of a row
    #[arg(long, value_name = "SPAN|TIME|ROW", default_value = "7d")]
    pub since: Since,
    /// The file; standard output where none is named
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The same data as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One line of JSON.
    Json,
    /// Comma-separated values.
    Csv,
}

/// `dethrone sample`.
#[derive(Debug, Clone, Args)]
pub struct SampleArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read this state directory instead of asking a gateway
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How many rows
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub n: u16,
    /// Where the stretch begins that they are drawn from: a span (7d, 24h, "336 rows"), a time or the number of a row
    #[arg(long, value_name = "SPAN|TIME|ROW", default_value = "7d")]
    pub since: Since,
    /// Draw the same rows as with this seed before; it is printed with every sample
    #[arg(long)]
    pub seed: Option<u64>,
    /// How they are written
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::failed(error)
    }
}

/// Makes the page.
///
/// # Errors
/// There is no such model, no row in the stretch, nobody to ask, or the file cannot be written.
pub fn report(args: &ReportArgs) -> Result<(), Failure> {
    let made: Report = match &args.state {
        Some(state) => report::read(state, args.target.model.as_deref(), &args.since, None)?,
        None => ask(&args.target, |model| {
            format!(
                "/api/models/{}/report?since={}",
                encoded(model),
                encoded(&args.since.to_string())
            )
        })?,
    };
    let text = match args.json {
        true => format!("{}\n", as_json(&serde_json::to_string(&made).map_err(Failure::failed)?)),
        false => report::html(&made)?,
    };
    let Some(out) = &args.out else {
        return std::io::stdout().write_all(text.as_bytes()).map_err(Failure::failed);
    };
    std::fs::write(out, &text).map_err(|e| Failure::Failed(format!("{}: {e}", out.display())))?;
    eprintln!(
        "{}: {} bytes, rows {} to {}",
        out.display(),
        text.len(),
        made.since.first_row,
        made.since.last_row
    );
    Ok(())
}

/// Draws the rows and prints them.
///
/// # Errors
/// There is no such model, no row in the stretch, or nobody to ask.
pub fn sample(args: &SampleArgs) -> Result<(), Failure> {
    let n = usize::from(args.n).min(MOST_ROWS);
    let drawn: Value = match &args.state {
        Some(state) => {
            let order = SampleOrder {
                n,
                since: args.since.clone(),
                seed: args.seed,
            };
            report::sample(state, args.target.model.as_deref(), &order)?
        }
        None => ask(&args.target, |model| {
            let seed = args.seed.map_or_else(String::new, |seed| format!("&seed={seed}"));
            let (model, since) = (encoded(model), encoded(&args.since.to_string()));
            format!("/api/models/{model}/sample?n={n}&since={since}{seed}")
        })?,
    };
    match args.format {
        Format::Json => println!("{}", as_json(&drawn.to_string())),
        Format::Table => print!("{}", plain(&report::sample_text(&drawn))),
        Format::Csv => {
            let table = report::csv(&drawn).map_err(Failure::Failed)?;
            std::io::stdout().write_all(table.as_bytes()).map_err(Failure::failed)?;
            // A table has no place for it but its last column.
            eprintln!("seed {}", drawn.get("seed").unwrap_or(&Value::Null));
        }
    }
    Ok(())
}

fn ask<T: serde::de::DeserializeOwned>(target: &Target, path: impl FnOnce(&str) -> String) -> Result<T, Failure> {
    block_on(async {
        let mut client = target.door.client()?.with_timeout(PATIENCE);
        let model = target.model(&mut client).await?;
        parse(&answer_of(client.get(&path(&model)).await?)?)
    })
}
