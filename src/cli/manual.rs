//! `dethrone completions` and `dethrone man`: what shells and `man` want to know, from the command line's own words.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure};

/// `dethrone completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: Shell,
}

/// `dethrone man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Directory for the pages, which is made where it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Prints the completions.
pub fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "dethrone", &mut std::io::stdout());
}

/// Writes a page for the program and one for each command.
///
/// # Errors
/// The directory cannot be written.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", args.out.display()));
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.out).map_err(failed)
}
