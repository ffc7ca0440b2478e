//! `dethrone demo`: the shipped real stream against the shipped models, live.
//!
//! A real gateway process is started on free ports, fed over real HTTP in the stream's order, and watched through its
//! admin API; models appear in its directory when the stream reaches them. At the end the served scores are compared
//! with scores computed here, and with what hindsight would have served.
//! Always holds: the gateway process ends with the demonstration; any failed request, refused label, wrong score or
//! accepted bad file makes it fail.

pub mod gateway;
pub mod labels;
pub mod picture;
mod place;
pub mod replay;
pub mod report;
pub mod schedule;
pub mod score;
pub mod screen;
pub mod stream;
pub mod table;
mod terminate;
pub mod watch;

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Failure, runtime};
use crate::config::ModelConfig;
use crate::span::Span;
use gateway::Gateway;
use place::Place;
use replay::{Plan, Replayed, replay};
use report::Report;
use screen::Screen;
use stream::Stream;
use table::Table;
use watch::Watch;

/// Where the shipped directory lies below the project, or below the current directory.
const SHIPPED: &str = "models/elec2";

/// `dethrone demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// One line of JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// Only so many rows of the stream (it has 41,280)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,
    /// Work here (a new or empty directory) instead of in a fresh temporary one
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The shipped directory of the model
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Write a picture of the run
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Close the loop instead: decay, export, retraining in Python (3.11 or newer, with pip), shadow, promotion
    #[arg(long, conflicts_with_all = ["json", "svg"])]
    pub retrain: bool,
    /// Requests in flight
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub connections: u16,
}

/// Runs the demonstration.
///
/// # Errors
/// Anything that a gateway must not do, see above.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    if args.retrain {
        return close_the_loop(args);
    }
    let mut told = false;
    let done = show(args, &mut told);
    if let (Err(failure), true, false) = (&done, args.json, told) {
        println!("{}", report::failed_line(&failure.to_string()));
    }
    done
}

/// Runs the shipped script, which makes its own environment and starts this program.
fn close_the_loop(args: &DemoArgs) -> Result<(), Failure> {
    let script = shipped(args)?.join("retrain/loop.py");
    let program =
        std::env::current_exe().map_err(|e| Failure::failed(format_args!("cannot find this program: {e}")))?;
    let mut command = std::process::Command::new("python3");
    command.arg(&script).arg("--dethrone").arg(program);
    if let Some(directory) = &args.dir {
        command.arg("--dir").arg(directory);
    }
    if let Some(rows) = args.rows {
        command.arg("--rows").arg(rows.to_string());
    }
    let status = command
        .status()
        .map_err(|e| Failure::failed(format_args!("cannot run python3 {}: {e}", script.display())))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::failed(format_args!(
            "{} ended with {status}",
            script.display()
        ))),
    }
}

/// `told` is set when the line of `--json` was printed.
fn show(args: &DemoArgs, told: &mut bool) -> Result<(), Failure> {
    let stream = Stream::read(&shipped(args)?).map_err(Failure::Failed)?;
    let rows = rows(&stream, args.rows);
    let maturity = maturity(&stream, usize::from(args.connections))?;
    // Better now than after the whole replay.
    if let Some(file) = &args.svg {
        write(file, "")?;
    }
    let place = Place::prepare(&stream, args.dir.as_deref()).map_err(Failure::Failed)?;
    let runtime = runtime()?;
    // Before there is anything that would have to be ended in order.
    let mut asked = {
        let _entered = runtime.enter();
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    let mut gateway = Gateway::start(&place.models, &place.state, place.log.clone()).map_err(Failure::Failed)?;
    let mut screen = Screen::new(&rows);
    let plan = Plan {
        stream: &stream,
        rows: rows.clone(),
        data: gateway.data.clone(),
        directory: place.directory.clone(),
        connections: usize::from(args.connections),
        maturity,
    };
    let mut watch = Watch::new(&gateway.admin, &stream.manifest.stream);
    screen.say(&format!(
        "gateway on http://{}, admin on http://{}",
        gateway.data, gateway.admin
    ));
    screen.say(&format!(
        "rows are counted as the gateway counts them: its first is row {} of the stream",
        rows.start
    ));
    let replayed = runtime.block_on(async {
        let work = async {
            gateway.ready().await?;
            replay(&plan, &mut watch, &mut screen).await
        };
        tokio::select! {
            replayed = work => replayed.map_err(Failure::Failed),
            _ = asked.0.recv() => Err(Failure::failed("interrupted")),
            _ = asked.1.recv() => Err(Failure::failed("terminated")),
        }
    });
    screen.close();
    let stopped = gateway.stop().map_err(Failure::Failed);
    let replayed =
        replayed.map_err(|e| Failure::Failed(format!("{e}\nthe gateway's log is {}", place.log.display())))?;
    stopped?;
    let table = Table::compute(&stream, rows).map_err(Failure::Failed)?;
    let report = Report::new(&stream, &table, &replayed, usize::from(args.connections));
    if let Some(file) = &args.svg {
        let names: Vec<String> = stream.manifest.models.iter().map(|m| m.name.clone()).collect();
        write(file, &picture::picture(&report, &names))?;
    }
    let judged = verdict(&report, &replayed);
    let error = judged.as_ref().err().map(ToString::to_string);
    print(args, &report, &replayed, watch.rollbacks, &place, error)?;
    *told = true;
    judged
}

/// From here on such a signal waits to be received, and ends nothing by itself.
fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::failed(format_args!("cannot listen for signals: {e}")))
}

/// The shipped directory: named, or below the current directory, or where this program was built.
fn shipped(args: &DemoArgs) -> Result<PathBuf, Failure> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED);
    let places = match &args.models {
        Some(named) => vec![named.clone()],
        None => vec![PathBuf::from(SHIPPED), built],
    };
    let found = places.into_iter().find(|p| p.join("stream/manifest.json").is_file());
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "the shipped stream is not here: run from the project's directory, or say --models DIR (its {SHIPPED})"
        ))
    })
}

fn rows(stream: &Stream, limit: Option<u32>) -> Range<usize> {
    let start = stream.manifest.serve_from;
    let end = limit.map_or(usize::MAX, |n| start.saturating_add(n as usize));
    start..end.min(stream.len())
}

/// `label.maturity` of the shipped settings when it is in rows, with room for labels in flight.
fn maturity(stream: &Stream, connections: usize) -> Result<Option<usize>, Failure> {
    let path = stream.root.join("model.toml");
    let settings = ModelConfig::load(&path).map_err(|e| Failure::Config(e.to_string()))?;
    let Span::Rows(rows) = settings.label.maturity else {
        return Ok(None);
    };
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let least = stream.manifest.label_delay_rows + 2 * connections + 1;
    if rows < least {
        return Err(Failure::Config(format!(
            "{}: label.maturity leaves no room for {connections} requests in flight: make it at least \"{least} rows\"",
            path.display()
        )));
    }
    Ok(Some(rows))
}

fn print(
    args: &DemoArgs,
    report: &Report,
    replayed: &Replayed,
    rollbacks: usize,
    place: &Place,
    error: Option<String>,
) -> Result<(), Failure> {
    let (models, state) = (place.models.display().to_string(), place.state.display().to_string());
    if args.json {
        let line = report.line(replayed, rollbacks, &models, &state, error);
        println!("{}", serde_json::to_string(&line).map_err(Failure::failed)?);
        return Ok(());
    }
    println!("\n{}", report.table(replayed, rollbacks));
    println!("everything is kept; go on from there with\n  dethrone serve --models {models} --state {state}");
    Ok(())
}

/// Writes a file, making its directory where there is none.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(file, text));
    written.map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))
}

/// Fails when the gateway did anything that it must not do.
fn verdict(report: &Report, replayed: &Replayed) -> Result<(), Failure> {
    let all = [
        ("failed requests", &replayed.errors),
        ("labels not accepted", &replayed.feedback),
        ("files treated wrongly", &replayed.files),
        ("wrong scores", &report.wrong),
    ];
    let words: Vec<String> = all
        .iter()
        .filter(|(_, problems)| problems.count > 0)
        .map(|(name, problems)| format!("{}: {}\n  {}", name, problems.count, problems.first.join("\n  ")))
        .collect();
    if words.is_empty() {
        Ok(())
    } else {
        Err(Failure::Failed(words.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::tests::shipped as shipped_stream;

    #[test]
    fn the_shipped_settings_leave_room_for_labels_in_flight() {
        let stream = shipped_stream();
        assert_eq!(maturity(&stream, 8).unwrap(), Some(72));
        assert_eq!(maturity(&stream, 32).unwrap_err().code(), 78);
    }

    #[test]
    fn the_registry_sees_the_first_champion_and_passes_the_stream_by() {
        let root = shipped_stream().root;
        let seen = crate::intake::scan::scan(root.parent().unwrap(), 1 << 30).unwrap();
        let model = seen.models.iter().find(|m| m.name == "elec2").unwrap();
        let contents = model.contents.as_ref().unwrap();
        let names: Vec<&str> = contents.versions.iter().map(|v| v.name.as_str()).collect();
        assert_eq!((names, contents.refused.len()), (vec!["e01_logreg"], 0));
        let settings = ModelConfig::load(&root.join("model.toml")).unwrap();
        assert_eq!(settings.champion.as_deref(), Some("e01_logreg"));
    }

    #[test]
    fn a_limit_takes_the_first_rows_only() {
        let stream = shipped_stream();
        assert_eq!(
            (rows(&stream, Some(6000)), rows(&stream, None)),
            (4032..10_032, 4032..45_312)
        );
    }
}
