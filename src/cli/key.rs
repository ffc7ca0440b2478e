//! `dethrone key new`: a secret, shown once, and the line for the file of keys, which holds its hash.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Failure;
use crate::auth::{Scope, Secret};

/// `dethrone key`.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum KeyCommand {
    /// Make a secret, and the line for the file that auth.keys names
    New(NewArgs),
}

#[derive(Debug, Clone, Args)]
struct NewArgs {
    /// Whose it is: the author of its orders
    #[arg(long)]
    name: String,
    /// What it allows; give it several times for several
    #[arg(long = "scope", required = true, value_parser = PossibleValuesParser::new(Scope::ALL.map(|(name, _)| name)))]
    scopes: Vec<String>,
    /// For this model alone; give it several times for several
    #[arg(long = "model")]
    models: Vec<String>,
    /// Write the secret into this new file, which only its owner can read, and print the line alone
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Makes a key.
///
/// # Errors
/// The system gives no random bytes, the name cannot be one, or the file cannot be written.
pub fn run(args: &KeyArgs) -> Result<(), Failure> {
    let KeyCommand::New(args) = &args.command;
    let secret = Secret::new().map_err(Failure::failed)?;
    let line = line(args, &secret);
    // What is printed is what is taken.
    crate::config::check_keys(&line).map_err(|faults| Failure::Usage(faults.to_string()))?;
    if let Some(path) = &args.secret_file {
        write(path, &secret).map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))?;
    }
    let shown = args.secret_file.is_none().then(|| secret.text());
    match (args.json, shown) {
        (true, _) => println!("{}", json!({"name": args.name, "secret": shown, "line": line})),
        (false, Some(secret)) => {
            eprintln!("The secret, which is shown this once; it is sent as 'Authorization: Bearer …':");
            println!("{secret}");
            eprintln!("The line for the file of keys (auth.keys):");
            println!("{line}");
        }
        (false, None) => println!("{line}"),
    }
    Ok(())
}

fn line(args: &NewArgs, secret: &Secret) -> String {
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default().replace(',', ", ");
    let mut line = format!(
        "{} = {{ sha256 = \"{}\", scopes = {}",
        serde_json::to_string(&args.name).unwrap_or_default(),
        secret.sha256(),
        list(&args.scopes)
    );
    if !args.models.is_empty() {
        line.push_str(&format!(", models = {}", list(&args.models)));
    }
    line.push_str(" }");
    line
}

fn write(path: &Path, secret: &Secret) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", secret.text())
}
