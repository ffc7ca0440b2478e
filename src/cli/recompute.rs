//! `dethrone recompute ID`: a past answer, run again.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::shown::{as_json, plain};
use crate::replay::recompute::recompute;

/// `dethrone recompute`.
#[derive(Debug, Clone, Args)]
pub struct RecomputeArgs {
    /// A prediction id, or an id of the caller's own
    pub id: String,
    /// State directory of a gateway, running or not
    #[arg(long, value_name = "DIR", default_value = "state")]
    pub state: PathBuf,
    /// Model; may be left out for a prediction id, or when one is recorded
    #[arg(long)]
    pub model: Option<String>,
    /// The largest difference of a score that counts as none, relative from 1 on; 0: bit for bit
    #[arg(long, value_name = "X", default_value_t = 1e-5, value_parser = tolerance)]
    pub tolerance: f64,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|x| x.is_finite() && *x >= 0.0)
        .ok_or_else(|| "give a number from 0 on".into())
}

/// Runs the row again and says what came of it.
///
/// # Errors
/// An answer differs, nothing can be compared, or there is no such row.
pub fn run(args: &RecomputeArgs) -> Result<(), Failure> {
    let done = recompute(&args.state, args.model.as_deref(), &args.id, args.tolerance).map_err(Failure::Failed)?;
    if args.json {
        println!("{}", as_json(&serde_json::to_string(&done).unwrap_or_default()));
    } else {
        print!("{}", plain(&done.text()));
    }
    let differ: Vec<&str> = done.differences().map(|answer| answer.version.as_str()).collect();
    if !differ.is_empty() {
        return Err(Failure::Failed(format!(
            "not the same as recorded: {}",
            differ.join(", ")
        )));
    }
    if done.is_unknown() {
        return Err(Failure::Failed("no answer to this row can be compared".into()));
    }
    Ok(())
}
