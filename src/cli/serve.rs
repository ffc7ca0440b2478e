//! `dethrone serve`: configuration, start, one line per listener, wait for a signal, drain.

mod manager;
mod reload;

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::config::{ServeArgs, ServerConfig};
use crate::gateway;
use manager::Manager;
use reload::Reloader;

/// `dethrone serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub(crate) settings: ServeArgs,
    /// Take the listeners of the process that serves this state directory over, without a failed request; it ends then
    #[arg(long)]
    pub take_over: bool,
}

/// Serves until a signal comes, or another process takes over.
///
/// # Errors
/// Settings (exit 78), or whatever stood in the way of a start.
pub fn run(args: &StartArgs) -> Result<(), Failure> {
    let StartArgs {
        settings: args,
        take_over,
    } = args;
    let (config, settings) = ServerConfig::effective(args).map_err(|error| Failure::Config(error.to_string()))?;
    log();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.max(1))
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("cannot start the runtime: {error}")))?
        .block_on(serve(config, *take_over, Reloader::new(args, settings)))
}

async fn serve(config: ServerConfig, take_over: bool, mut reloader: Reloader<'_>) -> Result<(), Failure> {
    // Signals are taken before anything is announced, so that none is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    let started = match take_over {
        true => gateway::take_over(config).await,
        false => gateway::start(config).await,
    };
    let mut running = started.map_err(|error| match error {
        gateway::StartError::Runtime(error) => Failure::Config(error.to_string()),
        gateway::StartError::Settings(faults) => Failure::Config(faults.to_string()),
        gateway::StartError::Tls(_) => Failure::Config(error.to_string()),
        gateway::StartError::Sandbox(text) | gateway::StartError::Inherited(text) => Failure::Config(text),
        error => Failure::failed(error),
    })?;
    announce(&running.listeners);
    let manager = Manager::find();
    match take_over {
        true => manager.taken_over(),
        false => manager.ready(),
    }
    let mut handed = running.handed();
    loop {
        tokio::select! {
            settled = running.settle(), if running.is_settling() => if let Err(error) = settled {
                running.stop().await;
                return Err(Failure::failed(error));
            },
            true = is_handed(&mut handed) => {
                tracing::info!("another process has taken over: finishing what is in flight");
                running.leave().await;
                return Ok(());
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                manager.reloading();
                reloader.reload(&mut running);
                manager.ready();
            }
        }
    }
    manager.stopping();
    tracing::info!("stopping: finishing what is in flight; another signal stops at once");
    tokio::select! {
        () = running.stop() => Ok(()),
        _ = terminate.recv() => at_once(),
        _ = interrupt.recv() => at_once(),
    }
}

/// Ends when another process has taken over; false: none ever will.
async fn is_handed(handed: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    handed.wait_for(|is_handed| *is_handed).await.is_ok()
}

/// Nothing is waited for: what was acknowledged is on disk, and the kernel ends the children.
fn at_once() -> ! {
    eprintln!("dethrone: stopped at once by a second signal");
    std::process::exit(1)
}

/// One line of JSON per listener on standard output, which is kept for this.
fn announce(listeners: &[(&'static str, std::net::SocketAddr)]) {
    let mut out = std::io::stdout().lock();
    for (listener, address) in listeners {
        // Whoever started us may not read: that is no reason not to serve.
        let _ = writeln!(
            out,
            "{}",
            serde_json::json!({"listener": listener, "address": address.to_string()})
        );
    }
    let _ = out.flush();
}

/// Logs go to standard error: text on a terminal, JSON lines elsewhere.
fn log() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("DETHRONE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second initialisation (tests in one process) keeps the first.
    let _ = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().try_init()
    };
}
