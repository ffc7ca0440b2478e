//! `dethrone audit`: is every decision as it was written?

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::ledger::Ledger;

/// `dethrone audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// State directory of a gateway, running or not
    #[arg(long, value_name = "DIR", default_value = "state")]
    pub state: PathBuf,
    /// A last hash that was noted before: it must be in the chain
    #[arg(long, value_name = "HASH")]
    pub expect: Option<String>,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Walks the chain and says what is wrong.
///
/// # Errors
/// The ledger cannot be read, or something is not as it was written.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let ledger = Ledger::open_to_read(&args.state).map_err(Failure::failed)?;
    let reader = ledger.reader();
    let mut audit = reader.audit().map_err(Failure::failed)?;
    if let Err(error) = ledger.check() {
        audit.faults.push(error.to_string());
    }
    let (damaged, first) = ledger.damage().found();
    audit
        .faults
        .extend(first.iter().map(|what| format!("{what} is damaged")));
    if damaged > u64::try_from(first.len()).unwrap_or(0) {
        audit.faults.push(format!("{damaged} rows are damaged in all"));
    }
    if let Some(hash) = &args.expect
        && !reader.is_chained(hash).map_err(Failure::failed)?
    {
        audit.faults.push(format!(
            "the chain does not have the hash {hash}: it was made anew since"
        ));
    }
    if args.json {
        println!("{}", serde_json::to_string(&audit).unwrap_or_default());
    } else {
        println!(
            "{} entries, last hash {}",
            audit.entries,
            audit.head.as_deref().unwrap_or("-")
        );
        if audit.before > 0 {
            println!("{} decisions are older than the chain", audit.before);
        }
        audit.faults.iter().for_each(|fault| println!("{fault}"));
    }
    match audit.faults.as_slice() {
        [] => Ok(()),
        faults => Err(Failure::Failed(format!(
            "{} faults: the record is not as it was written",
            faults.len()
        ))),
    }
}
