//! `dethrone config`: the settings in force as a file that would give them, or as JSON; and the table of all settings.

use clap::{Args, CommandFactory as _};
use serde_json::json;

use super::{Cli, Failure};
use crate::config::{Effective, ServeArgs, ServerConfig};

/// `dethrone config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// As `serve` would be started
    #[command(flatten)]
    pub serve: ServeArgs,
    /// One line of JSON instead of a settings file
    #[arg(long)]
    pub json: bool,
    /// The table of all settings instead of those in force
    #[arg(long, conflicts_with = "json")]
    pub reference: bool,
}

/// Prints what was asked for.
///
/// # Errors
/// All faults of the settings (exit 78).
pub fn run(args: &ConfigArgs) -> Result<(), Failure> {
    if args.reference {
        print!("{}", reference());
        return Ok(());
    }
    let (_, settings) = ServerConfig::effective(&args.serve).map_err(|error| Failure::Config(error.to_string()))?;
    match args.json {
        true => println!("{}", as_json(&settings)),
        false => print!("{}", as_file(&settings)),
    }
    Ok(())
}

fn as_json(settings: &[Effective]) -> serde_json::Value {
    let one =
        |setting: &Effective| json!({"key": setting.key, "value": setting.value, "source": setting.source.to_string()});
    json!({"settings": settings.iter().map(one).collect::<Vec<_>>()})
}

/// Keys of the root first, then those of each table.
fn as_file(settings: &[Effective]) -> String {
    let mut text = String::new();
    let mut table = "";
    let (of_tables, of_root): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| setting.key.contains('.'));
    for setting in of_root.into_iter().chain(of_tables) {
        let (of, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if of != table {
            table = of;
            text.push_str(&format!("[{table}]\n"));
        }
        match setting.value.is_null() {
            true => text.push_str(&format!("# {key} is not set\n")),
            false => text.push_str(&format!("{key} = {}  # {}\n", setting.value, setting.source)),
        }
    }
    text
}

/// All settings of the server, from the command line's own words.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Settings of the server\n\nWritten by `dethrone config --reference`. A flag wins over its variable, a variable over \
         `dethrone.toml`, the file over the default. A time is `\"250ms\"`, `\"30s\"`, `\"5m\"` or `\"24h\"`; a size is a number of \
         bytes or `\"64MiB\"`.\n\n| key in `dethrone.toml` | flag | variable | default | what it is |\n|---|---|---|---|---|\n",
    );
    let command = Cli::command();
    let serve = command.find_subcommand("serve");
    for argument in serve.into_iter().flat_map(clap::Command::get_arguments) {
        let (Some(variable), Some(long)) = (argument.get_env(), argument.get_long()) else {
            continue;
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (what, default) = match help.rsplit_once(" [default: ") {
            Some((what, default)) => (what, default.trim_end_matches(']')),
            None => (help.as_str(), ""),
        };
        // `runner_path` is no key of the table `[runner]`.
        let key = match argument.get_id().as_str() {
            "config" => "",
            "runner_path" => "runner_path",
            id => &match ["auth", "tls", "runner", "retention", "shadow"]
                .iter()
                .find_map(|table| {
                    let key = id.strip_prefix(table)?.strip_prefix('_')?;
                    Some(format!("{table}.{key}"))
                }) {
                Some(key) => key,
                None => id.to_owned(),
            },
        };
        let cell = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!("`{text}`")
            }
        };
        text.push_str(&format!(
            "| {} | `--{long}` | `{}` | {default} | {what} |\n",
            cell(key),
            variable.to_string_lossy()
        ));
    }
    text
}
