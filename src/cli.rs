//! The command line: what can be typed, and which exit code a failure has.
//!
//! Always holds: 64 for usage, 78 for configuration, 1 for work that failed; errors go to standard error; colours go to
//! terminals only, and not where `NO_COLOR` is set.
//! Leaves to others: the work itself, one module per command.

pub mod act;
pub mod audit;
pub mod bench;
pub mod check;
mod colour;
pub mod config;
pub mod explain;
pub mod export;
pub mod key;
pub mod keys;
pub mod manual;
pub mod person;
pub mod recompute;
pub mod report;
pub mod retrain;
mod runtime_probe;
pub mod serve;
pub(crate) mod shown;
pub mod status;
pub mod upgrade;
pub mod versions;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::client::{Client, ClientError};
use crate::config::ServeArgs;
use crate::demo::DemoArgs;
use crate::protocol::Action;
use crate::replay::ReplayArgs;
use crate::simulate::SimulateArgs;
use act::ActArgs;
use explain::ExplainArgs;
use status::StatusArgs;

/// In `--help` and in the manual page.
const EXIT: &str = "Exit status:\n  0   done\n  1   the work failed, or what was asked about is not well (check, audit, replay, recompute, bench)\n  \
                    64  the command line asks for something that does not exist\n  78  the settings are wrong, or something \
                    that they require is missing\n\nColours are used on terminals, and not where NO_COLOR is set.";

/// A champion-challenger inference gateway for ONNX models.
#[derive(Debug, Parser)]
#[command(name = "dethrone", version, about, max_term_width = 100, after_help = EXIT)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a directory of models
    Serve(Box<serve::StartArgs>),
    /// Start this program in the place of the gateway that runs on a state directory, without a failed request
    Upgrade(Box<ServeArgs>),
    /// Print the settings in force, each with where it came from
    Config(Box<config::ConfigArgs>),
    /// Replay the shipped real stream against the shipped models, live
    Demo(DemoArgs),
    /// Admit one file as the gateway would; exit 1 with the reason when it is refused
    Check(CheckArgs),
    /// Show who is champion, who is ahead, and why not yet
    Status(StatusArgs),
    /// Tell all that a decision rested on
    ExplainDecision(ExplainArgs),
    /// List the versions of a model: where they come from, and when they answered
    Versions(versions::VersionsArgs),
    /// Tell how two versions differ, by what is known of them and by what they made of the same rows
    Diff(versions::DiffArgs),
    /// Write recorded rows as Parquet files, a directory per day, for training
    Export(export::ExportArgs),
    /// Say that it is time to retrain: labelled rows are exported, and the command of the settings is run
    Retrain(retrain::RetrainArgs),
    /// List the retrainings of a model: why, what was exported, and what came of it
    Retrainings(retrain::RetrainingsArgs),
    /// Run a recorded row through the stored versions again, and compare with the scores of then
    Recompute(recompute::RecomputeArgs),
    /// Write what happened to a model as one HTML page: drift, quality, calibration, groups, evidence, decisions
    Report(report::ReportArgs),
    /// Draw recorded rows at random, with scores and labels, for an audit
    Sample(report::SampleArgs),
    /// Make a version the champion, on your word
    Promote(ActArgs),
    /// Go back to the previous champion, or to a named version
    Rollback(ActArgs),
    /// Check that every decision is as it was written
    Audit(audit::AuditArgs),
    /// Print all that is held on a row, or on an entity
    Show(person::ShowArgs),
    /// Remove rows, and all that names them, for good
    Erase(person::EraseArgs),
    /// Issue prediction ids under a new key; those of the key before it are taken as before
    RotateKey(keys::RotateKeyArgs),
    /// Make an API key: its secret is shown once, the file of keys holds its hash
    Key(key::KeyArgs),
    /// Approve of a version's promotion, where the model's policy asks for approvals
    Approve(ActArgs),
    /// Stop automatic changes of champion
    Hold(ActArgs),
    /// Allow automatic changes again
    Resume(ActArgs),
    /// Stop shadowing a version
    Retire(ActArgs),
    /// Fold a recorded contest again and compare, ask what if, or backtest files on past rows
    Replay(Box<ReplayArgs>),
    /// Count on streams of chance how often a champion is displaced that nobody beats, and how soon a better one wins
    Simulate(SimulateArgs),
    /// Ask a running gateway as often as it answers, and print how often and how fast that is
    Bench(Box<bench::BenchArgs>),
    /// Print what a shell needs to complete command lines
    Completions(manual::CompletionsArgs),
    /// Write manual pages
    Man(manual::ManArgs),
    /// Load and run a file in this bare process, and tell what that did to it
    #[command(hide = true)]
    RuntimeProbe {
        /// The ONNX file
        file: PathBuf,
    },
    /// A model's own process; started by the gateway
    #[command(hide = true)]
    Runner(RunnerArgs),
}

/// `dethrone check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The ONNX file
    pub file: PathBuf,
    /// Directory of the model that it should fit
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `dethrone runner`.
#[derive(Debug, Clone, Args)]
pub struct RunnerArgs {
    /// What the gateway passes on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Where the admin listener of a running gateway is, and what it asks of whoever comes.
#[derive(Debug, Clone, Args)]
pub struct Door {
    /// Admin listener of the gateway: host:port, http://host:port or https://host:port
    #[arg(long, env = "DETHRONE_ADMIN", default_value = "127.0.0.1:8082", value_parser = address)]
    pub admin: String,
    /// File that holds an API key, where the gateway asks for one
    #[arg(long, env = "DETHRONE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// PEM file with the authorities to trust, or with the gateway's own certificate, for https
    #[arg(long, env = "DETHRONE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with a certificate and its key, where the gateway asks clients for one
    #[arg(long, env = "DETHRONE_CLIENT_PEM", value_name = "FILE")]
    pub client_pem: Option<PathBuf>,
}

impl Door {
    /// A client, which connects at its first request.
    ///
    /// # Errors
    /// The file of the key cannot be read, or holds none.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = match self.admin.strip_prefix("https://") {
            None => Client::new(self.admin.clone()),
            Some(address) => self.over_tls(address)?,
        };
        let Some(path) = &self.key_file else {
            return Ok(client);
        };
        let wrong = |why: &str| Failure::Config(format!("--key-file {}: {why}", path.display()));
        let bytes = crate::config::bytes_of(path).map_err(|why| wrong(&why))?;
        let bytes = bytes.ok_or_else(|| wrong("does not exist"))?;
        let client = client.with_key(bytes.trim_ascii());
        client.ok_or_else(|| wrong("must hold a key and nothing else: one line, as 'dethrone key new' made it"))
    }

    fn over_tls(&self, address: &str) -> Result<Client, Failure> {
        let Some(ca) = &self.ca_file else {
            let text = "https needs --ca-file or DETHRONE_CA_FILE: the gateway's certificate, its authority, or the system's list";
            return Err(Failure::Usage(text.into()));
        };
        let connector = crate::tls::connector(ca, self.client_pem.as_deref()).map_err(Failure::Config)?;
        let client = Client::new(address).with_tls(connector);
        client.ok_or_else(|| Failure::Usage(format!("'{address}' is no name that a certificate could have")))
    }
}

/// A running gateway, and which model is meant.
#[derive(Debug, Clone, Args)]
pub struct Target {
    #[command(flatten)]
    pub(crate) door: Door,
    /// Model; may be left out when one is served
    #[arg(long)]
    pub model: Option<String>,
}

/// Why a command failed, by exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something that does not exist: exit 64.
    #[error("{0}")]
    Usage(String),
    /// The settings are wrong: exit 78.
    #[error("{0}")]
    Config(String),
    /// The work failed: exit 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Config(_) => 78,
            Self::Failed(_) => 1,
        }
    }

    /// Work that failed, in somebody else's words.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::failed(error)
    }
}

/// Reads the command line, does the work, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "runner") {
        return crate::arena::runner::main(args);
    }
    let cli = match read() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing sensible is left to do when even the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dethrone: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// The command line, with what of it came from the environment.
fn read() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let args = match &mut cli.command {
        Command::Serve(args) => &mut args.settings,
        Command::Upgrade(args) => args,
        Command::Config(args) => &mut args.serve,
        _ => return Ok(cli),
    };
    if let Some((_, matches)) = matches.subcommand() {
        let is_variable = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable);
        args.from_environment = matches.ids().filter(is_variable).map(ToString::to_string).collect();
    }
    Ok(cli)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Config(args) => config::run(&args),
        Command::Demo(args) => crate::demo::run(&args),
        Command::Status(args) => status::run(&args),
        Command::ExplainDecision(args) => explain::run(&args),
        Command::Versions(args) => versions::list(&args),
        Command::Diff(args) => versions::diff(&args),
        Command::Export(args) => export::run(&args),
        Command::Retrain(args) => retrain::order(&args),
        Command::Retrainings(args) => retrain::list(&args),
        Command::Recompute(args) => recompute::run(&args),
        Command::Report(args) => report::report(&args),
        Command::Sample(args) => report::sample(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Show(args) => person::show(&args),
        Command::Erase(args) => person::erase(&args),
        Command::RotateKey(args) => keys::rotate(&args),
        Command::Key(args) => key::run(&args),
        Command::Promote(args) => act::run(Action::Promote, &args),
        Command::Rollback(args) => act::run(Action::Rollback, &args),
        Command::Approve(args) => act::run(Action::Approve, &args),
        Command::Hold(args) => act::run(Action::Hold, &args),
        Command::Resume(args) => act::run(Action::Resume, &args),
        Command::Retire(args) => act::run(Action::Retire, &args),
        Command::Serve(args) => serve::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Replay(args) => crate::replay::run(&args),
        Command::Simulate(args) => crate::simulate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => {
            manual::completions(&args);
            Ok(())
        }
        Command::Man(args) => manual::man(&args),
        Command::RuntimeProbe { file } => {
            let facts = runtime_probe::run(&file).map_err(Failure::Failed)?;
            println!("{facts}");
            Ok(())
        }
        Command::Runner(_) => Err(Failure::Usage("runners are started by the gateway".into())),
    }
}

/// Runs a client command to its end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(work)
}

/// What a client command runs on: this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format_args!("cannot start the runtime: {e}")))
}

/// `host:port`, also where a URL was given; before it `https://` where that was.
fn address(text: &str) -> Result<String, String> {
    if let Some(rest) = text.strip_prefix("https://") {
        let plain = address(&format!("http://{rest}"))?;
        // A URL without a port means port 443.
        let has_port = rest.trim_end_matches('/') == plain;
        let plain = if has_port {
            plain
        } else {
            format!("{}:443", plain.trim_end_matches(":80"))
        };
        return Ok(format!("https://{plain}"));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() || rest.contains('/') {
        return Err("give host:port, http://host:port or https://host:port".into());
    }
    // A URL without a port means port 80.
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port || rest.len() == text.len() {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

impl Target {
    /// The model meant: the one named, else the only one.
    ///
    /// # Errors
    /// Several or none are served, or the gateway does not answer.
    pub async fn model(&self, client: &mut Client) -> Result<String, Failure> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        let mut names = self.models(client).await?;
        match names.len() {
            0 => Err(Failure::failed("the gateway serves no model yet")),
            1 => Ok(names.swap_remove(0)),
            _ => Err(Failure::Usage(format!(
                "several models are served: add --model with one of {}",
                names.join(", ")
            ))),
        }
    }

    /// Names of all models.
    ///
    /// # Errors
    /// The gateway does not answer.
    pub async fn models(&self, client: &mut Client) -> Result<Vec<String>, Failure> {
        #[derive(serde::Deserialize)]
        struct List {
            models: Vec<Named>,
        }
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let list: List = parse(&answer_of(client.get("/api/models").await?)?)?;
        Ok(list.models.into_iter().map(|m| m.name).collect())
    }
}

/// The body of a good answer; of any other, the gateway's own words.
pub(crate) fn answer_of((status, body): crate::client::Answer) -> Result<bytes::Bytes, Failure> {
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let error = json.as_ref().and_then(|j| j.get("error")?.as_str());
    let mut text = error.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
    if status == 401 {
        text.push_str("; give the file that holds it with --key-file or DETHRONE_KEY_FILE");
    }
    Err(Failure::Failed(format!("{text} (status {status})")))
}

/// A JSON answer.
pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::Failed(format!("the gateway's answer is not understood: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_action_reads_its_flags() {
        let line = "dethrone promote --model elec2 --version e05 --author ada --reason tested --admin 127.0.0.1:9";
        let Command::Promote(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not promote")
        };
        assert_eq!((args.version.as_deref(), args.author.as_str()), (Some("e05"), "ada"));
        assert_eq!(
            (args.target.door.admin.as_str(), args.reason.as_str()),
            ("127.0.0.1:9", "tested")
        );
    }

    #[test]
    fn the_admin_listener_may_be_given_as_a_url() {
        for given in ["127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9/"] {
            assert_eq!(address(given).as_deref(), Ok("127.0.0.1:9"));
        }
        assert_eq!(address("http://gateway").as_deref(), Ok("gateway:80"));
        assert_eq!(address("https://gateway").as_deref(), Ok("https://gateway:443"));
        assert_eq!(address("https://gateway:80/").as_deref(), Ok("https://gateway:80"));
        assert!(address("http://gateway:9/api").unwrap_err().contains("host:port"));
        assert!(Cli::try_parse_from(["dethrone", "status", "--admin", "ftp://x"]).is_err());
    }

    #[test]
    fn an_error_status_speaks_in_the_gateways_words() {
        let body = bytes::Bytes::from_static(br#"{"error":"e09 is not loaded","code":"not_loaded"}"#);
        let failure = answer_of((409, body)).unwrap_err();
        assert_eq!(
            (failure.code(), failure.to_string().as_str()),
            (1, "e09 is not loaded (status 409)")
        );
    }
}
