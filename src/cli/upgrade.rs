//! `dethrone upgrade`: starts this program as `serve --take-over`, and tells what came of it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Failure;
use crate::config::{ServeArgs, ServerConfig};
use crate::gateway::who;

/// How often it is looked who serves.
const LOOK: Duration = Duration::from_millis(100);

/// Ends when the new process has the state directory to itself. It goes on in a group of its own, with the output of this
/// command.
///
/// # Errors
/// Settings (exit 78), nobody to take over from, or the new process ended: the running one goes on then.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let config = ServerConfig::load(args).map_err(|error| Failure::Config(error.to_string()))?;
    let (before, version) = who(&config.state).ok_or_else(|| {
        Failure::failed(format_args!(
            "no gateway that can be taken over runs on {}: start one by `dethrone serve`; one of an older version is to be \
             stopped first",
            config.state.display()
        ))
    })?;
    let mut new = Command::new(std::env::current_exe().map_err(Failure::failed)?)
        .args(["serve", "--take-over"])
        .args(std::env::args_os().skip(2))
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Failure::failed)?;
    loop {
        if let Some(status) = new.try_wait().map_err(Failure::failed)? {
            let text =
                format!("the new process ended ({status}), process {before} goes on if it had not been relieved");
            return Err(Failure::Failed(text));
        }
        if who(&config.state).is_some_and(|(pid, _)| pid == new.id()) {
            let (pid, now) = (new.id(), env!("CARGO_PKG_VERSION"));
            eprintln!("process {pid} (version {now}) serves; process {before} (version {version}) has ended");
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}
