//! What was asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::Fallible;

/// Measures the gateway against the floor.
#[derive(Debug, Parser)]
#[command(name = "gateway", disable_version_flag = true)]
struct Arguments {
    /// Fewer cases and turns: about two minutes
    #[arg(long)]
    quick: bool,
    /// Folder for the table and the plot
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/gateway-bench"))]
    out: PathBuf,
    /// Only the cases whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Turns per case [default: 15; 5 with --quick]
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// Length of one server's part of a turn in milliseconds [default: 1000; 300 with --quick]
    #[arg(long, value_name = "MS")]
    slice: Option<u64>,
    /// The gateway to measure, in place of the one built with this
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Another gateway to measure beside it: an older build
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Names the cases and ends
    #[arg(long)]
    list: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The same, complete.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) out: PathBuf,
    only: Vec<String>,
    pub(crate) pairs: usize,
    pub(crate) slice: Duration,
    pub(crate) gateway: PathBuf,
    pub(crate) against: Option<PathBuf>,
    pub(crate) python: Option<PathBuf>,
    pub(crate) list: bool,
}

impl Settings {
    pub(crate) fn read() -> Fallible<Self> {
        let given = Arguments::parse();
        let built = option_env!("CARGO_BIN_EXE_dethrone").map(PathBuf::from);
        let gateway = given.gateway.or(built).ok_or("name a binary with --gateway")?;
        let (pairs, slice) = if given.quick { (5, 300) } else { (15, 1_000) };
        Ok(Self {
            quick: given.quick,
            out: given.out,
            only: given.only,
            pairs: given.pairs.unwrap_or(pairs).max(1),
            slice: Duration::from_millis(given.slice.unwrap_or(slice).max(10)),
            gateway,
            against: given.against,
            python: std::env::var_os("DETHRONE_BENCH_PYTHON").map(PathBuf::from),
            list: given.list,
        })
    }

    /// Whether a case is to be measured: what is named, or else all, or else the quick ones.
    pub(crate) fn wants(&self, case: &str, is_quick: bool) -> bool {
        match self.only.is_empty() {
            true => is_quick || !self.quick,
            false => self.only.iter().any(|name| case.contains(name.as_str())),
        }
    }
}
