//! The gateway under demonstration: the same executable as a process of its own.
//!
//! Always holds: the process ends with this value, asked first and killed when it does not listen, and with the thread
//! that started it, however that ends; it runs with the default settings, whatever stands in the caller's directory or
//! environment.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::terminate::{end_with_this_thread, terminate};
use crate::client::Client;

/// How long the listeners, and then the models, may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long draining may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(20);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    child: Option<Child>,
    /// Address of the data listener.
    pub data: String,
    /// Address of the admin listener.
    pub admin: String,
    /// What it writes to standard error.
    pub log: PathBuf,
}

#[derive(Deserialize)]
struct Listener {
    listener: String,
    address: String,
}

impl Gateway {
    /// Starts `dethrone serve` on free ports and waits for its listeners. `models` and `state` are absolute, and beside
    /// `log` there is no `dethrone.toml`.
    ///
    /// # Errors
    /// It cannot be started, or ends or stays silent before its listeners are bound.
    pub fn start(models: &Path, state: &Path, log: PathBuf) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let errors = std::fs::File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--models")
            .arg(models)
            .arg("--state")
            .arg(state)
            // Years in seconds, as fast as they go: nobody waits for an answer, and evidence is what is to be seen.
            .args(["--shadow-budget", "off"]);
        for listener in ["--listen", "--grpc-listen", "--admin-listen"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        of_its_own(&mut command, log.parent());
        end_with_this_thread(&mut command);
        let mut child = command.spawn().map_err(|e| format!("cannot start the gateway: {e}"))?;
        let output = child.stdout.take();
        let mut gateway = Self {
            child: Some(child),
            data: String::new(),
            admin: String::new(),
            log,
        };
        let lines = listeners(output.ok_or("the gateway has no standard output")?);
        gateway.wait_for_listeners(&lines)?;
        Ok(gateway)
    }

    fn wait_for_listeners(&mut self, lines: &Receiver<Listener>) -> Result<(), String> {
        let end = Instant::now() + START_LIMIT;
        while self.data.is_empty() || self.admin.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                return Err(self.words("the gateway did not say where it listens"));
            };
            match line.listener.as_str() {
                "data" => self.data = line.address,
                "admin" => self.admin = line.address,
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until it is ready to predict.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub async fn ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + START_LIMIT;
        let mut client = Client::new(self.data.clone());
        while Instant::now() < end {
            if let Ok((200, _)) = client.get("/v2/health/ready").await {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Err(self.words(&format!("the gateway ended while it started ({status})")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(self.words("the gateway was not ready in time"))
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// It had to be killed, or ended with an error.
    pub fn stop(mut self) -> Result<(), String> {
        match self.end() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.words(&format!("the gateway ended badly ({status})"))),
            None => Err(self.words("the gateway did not end when it was asked to and was killed")),
        }
    }

    /// `None` when it had to be killed.
    fn end(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        // One that has ended already keeps its own status.
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        terminate(&child);
        let end = Instant::now() + STOP_LIMIT;
        while Instant::now() < end {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        // The last resort has no further one.
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// What happened, with the last lines of the gateway's own log.
    fn words(&self, what: &str) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
        format!("{what}; its log is {}\n{}", self.log.display(), last.join("\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

/// Which library of ONNX Runtime may be loaded is the machine's to say, not the demonstration's.
const KEPT: &[u8] = b"DETHRONE_ONNXRUNTIME_SHA256";

/// Keeps the caller's settings away: the file in its directory and its variables.
fn of_its_own(command: &mut Command, place: Option<&Path>) {
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"DETHRONE_") && bytes != KEPT {
            command.env_remove(name);
        }
    }
    let Some(place) = place else { return };
    command.current_dir(place);
    // What was relative to the caller's directory stays there; a bare name is looked for by the system.
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    if let Some(library) = library.filter(|path| path.components().count() > 1)
        && let Ok(library) = std::path::absolute(library)
    {
        command.env("ORT_DYLIB_PATH", library);
    }
}

/// Reads the listener lines; keeps reading afterwards, so that the gateway never blocks on a full pipe.
fn listeners(output: ChildStdout) -> Receiver<Listener> {
    let (sender, receiver) = sync_channel(8);
    std::thread::spawn(move || forward(output, &sender));
    receiver
}

fn forward(output: ChildStdout, sender: &SyncSender<Listener>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(listener) = serde_json::from_str::<Listener>(&line) {
            // Full or closed: nobody waits for listeners any more.
            let _ = sender.try_send(listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::RecvTimeoutError;

    /// A process that says where it listens, and on SIGTERM runs `last_words`.
    fn process(last_words: &str) -> (Gateway, Receiver<Listener>) {
        let script = format!(
            r#"trap '{last_words}' TERM
            echo '{{"listener":"data","address":"127.0.0.1:1"}}'
            echo 'something else'
            echo '{{"listener":"admin","address":"127.0.0.1:2"}}'
            while :; do sleep 0.01; done"#
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = listeners(child.stdout.take().unwrap());
        let gateway = Gateway {
            child: Some(child),
            data: String::new(),
            admin: String::new(),
            log: "gateway.log".into(),
        };
        (gateway, lines)
    }

    #[test]
    fn the_addresses_are_those_that_it_printed() {
        let (mut gateway, lines) = process("exit 0");
        gateway.wait_for_listeners(&lines).unwrap();
        assert_eq!(
            (gateway.data.as_str(), gateway.admin.as_str()),
            ("127.0.0.1:1", "127.0.0.1:2")
        );
        gateway.stop().unwrap();
    }

    #[test]
    fn an_end_with_an_error_is_an_error_that_names_the_log() {
        let (mut gateway, lines) = process("exit 3");
        gateway.wait_for_listeners(&lines).unwrap();
        let error = gateway.stop().unwrap_err();
        assert!(
            error.contains("exit status: 3") && error.contains("gateway.log"),
            "{error}"
        );
    }

    #[test]
    fn a_gateway_that_goes_out_of_scope_leaves_no_process() {
        let (mut gateway, lines) = process("exit 0");
        gateway.wait_for_listeners(&lines).unwrap();
        drop(gateway);
        let end = lines.recv_timeout(STOP_LIMIT);
        assert!(
            matches!(end, Err(RecvTimeoutError::Disconnected)),
            "its standard output is still open"
        );
    }
}
