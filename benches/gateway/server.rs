//! Servers as child processes: started, watched from outside, ended.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Fallible;
use super::body::{self, Form};
use super::client::{self, Connection};
use super::models;
use super::settings::Settings;

/// Longest time from start to the first answer: admission runs at idle priority, on a busy machine for long.
const START: Duration = Duration::from_secs(300);

/// Longest wait for the recorder and the challengers to be done.
const PATIENCE: Duration = Duration::from_secs(60);

/// The servers in Python, as their script knows them.
pub(crate) const PYTHON: [&str; 2] = ["fastapi", "asgi"];

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    child: Child,
    pub(crate) data: SocketAddr,
    /// Where it speaks gRPC.
    pub(crate) grpc: Option<SocketAddr>,
    /// The gateway's listener for people.
    pub(crate) admin: Option<SocketAddr>,
    /// From the start of the process to the first answer with status 200.
    pub(crate) started_in: Duration,
    /// Its state, which goes with it.
    _state: Option<tempfile::TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The library that all servers run: what `ORT_DYLIB_PATH` says, or what the build fetched.
pub(crate) fn library() -> Fallible<PathBuf> {
    let chosen = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let fetched = option_env!("DETHRONE_BUNDLED_ORT").map(PathBuf::from);
    let found = chosen.into_iter().chain(fetched).find(|path| path.is_file());
    found.ok_or_else(|| "there is no ONNX Runtime: set ORT_DYLIB_PATH".into())
}

/// A gateway on free ports. It is up when each of `models` has answered `probe`.
pub(crate) fn gateway(
    name: &'static str,
    binary: &Path,
    models: &Path,
    state: Option<&Path>,
    probes: &[Vec<u8>],
) -> Fallible<Server> {
    gateway_set(name, binary, models, state, (probes, &[]))
}

/// The same with more arguments.
fn gateway_set(
    name: &'static str,
    binary: &Path,
    models: &Path,
    state: Option<&Path>,
    (probes, arguments): (&[Vec<u8>], &[&str]),
) -> Fallible<Server> {
    let own = tempfile::tempdir()?;
    let port = "127.0.0.1:0";
    let mut command = Command::new(binary);
    command
        .args(["serve", "--listen", port, "--grpc-listen", port, "--admin-listen", port])
        .args(["--settle-ms", "20"])
        .args(arguments)
        .arg("--models")
        .arg(models)
        .arg("--state")
        .arg(state.unwrap_or(own.path()))
        .env("DETHRONE_LOG", "error")
        .current_dir(own.path());
    let mut server = start(name, command, true, probes)?;
    server._state = Some(own);
    Ok(server)
}

/// A gateway of its own for these versions of the logistic model.
pub(crate) fn fresh_gateway(
    name: &'static str,
    settings: &Settings,
    versions: u64,
) -> Fallible<(Server, tempfile::TempDir)> {
    fresh_gateway_with(name, settings, versions, "")
}

/// The same with more lines of `model.toml`.
pub(crate) fn fresh_gateway_with(
    name: &'static str,
    settings: &Settings,
    versions: u64,
    toml: &str,
) -> Fallible<(Server, tempfile::TempDir)> {
    fresh_gateway_set(name, settings, versions, toml, &[])
}

/// The same with more arguments.
pub(crate) fn fresh_gateway_set(
    name: &'static str,
    settings: &Settings,
    versions: u64,
    toml: &str,
    arguments: &[&str],
) -> Fallible<(Server, tempfile::TempDir)> {
    let models = tempfile::tempdir()?;
    models::lay_down(models.path(), &["logreg"], versions, toml)?;
    let probes = body::requests("logreg", Form::Lists, 1);
    let server = gateway_set(name, &settings.gateway, models.path(), None, (&probes[..1], arguments))?;
    Ok((server, models))
}

/// The floor: this program again.
pub(crate) fn floor(models: &Path, probes: &[Vec<u8>]) -> Fallible<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(models);
    start("floor", command, false, probes)
}

/// A server in Python, where there is a Python for it.
pub(crate) fn python(name: &'static str, python: &Path, models: &Path, probes: &[Vec<u8>]) -> Fallible<Server> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/python/serve.py");
    let mut command = Command::new(python);
    command.arg(script).arg(name).arg(models);
    start(name, command, false, probes)
}

fn start(name: &'static str, mut command: Command, is_gateway: bool, probes: &[Vec<u8>]) -> Fallible<Server> {
    let begun = Instant::now();
    let mut child = command
        .env("ORT_DYLIB_PATH", library()?)
        .env("ORT_DISABLE_TELEMETRY", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{name}: {}: {e}", command.get_program().display()))?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let mut addresses = HashMap::new();
    // Each listener has a line; the last one ends the start.
    let last = if is_gateway { "admin" } else { "data" };
    for line in BufReader::new(out).lines() {
        let line: serde_json::Value = serde_json::from_str(&line?)?;
        let which = line["listener"].as_str().unwrap_or_default().to_owned();
        let address: SocketAddr = line["address"].as_str().unwrap_or_default().parse()?;
        let is_last = which == last;
        addresses.insert(which, address);
        if is_last {
            break;
        }
    }
    let data = *addresses.get("data").ok_or_else(|| format!("{name} did not start"))?;
    let mut server = Server {
        name,
        child,
        data,
        grpc: addresses.get("grpc").copied(),
        admin: addresses.get("admin").copied(),
        started_in: Duration::ZERO,
        _state: None,
    };
    for probe in probes {
        server.wait_for(probe)?;
    }
    server.started_in = begun.elapsed();
    Ok(server)
}

impl Server {
    fn wait_for(&mut self, probe: &[u8]) -> Fallible<()> {
        let begun = Instant::now();
        loop {
            let last = Connection::open(self.data).and_then(|mut c| c.ask(probe));
            if let Ok((200, _)) = last {
                return Ok(());
            }
            if begun.elapsed() > START || self.child.try_wait()?.is_some() {
                let last = last.map(|(status, body)| format!("{status} {}", String::from_utf8_lossy(&body)));
                return Err(format!("{} does not answer: {last:?}", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn is_python(&self) -> bool {
        PYTHON.contains(&self.name)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the process's living threads.
    pub(crate) fn cpu(&self) -> Duration {
        threads(self.pid()).into_iter().map(|(_, time)| time).sum()
    }

    /// CPU time of the threads of this name.
    pub(crate) fn cpu_of(&self, thread: &str) -> Duration {
        let threads = threads(self.pid()).into_iter();
        threads.filter(|(name, _)| name == thread).map(|(_, time)| time).sum()
    }

    /// Resident bytes, of the process and of its children.
    pub(crate) fn memory(&self) -> (u64, Vec<u64>) {
        (
            resident(self.pid()),
            children(self.pid()).into_iter().map(resident).collect(),
        )
    }

    /// A number of `/metrics`, summed over the series of this name.
    pub(crate) fn metric(&self, name: &str) -> Fallible<f64> {
        Ok(sum(&self.metrics()?, name))
    }

    fn metrics(&self) -> Fallible<String> {
        client::get(self.admin.ok_or("no admin listener")?, "/metrics")
    }

    /// Rows of a model in the ledger.
    pub(crate) fn recorded(&self, model: &str) -> Fallible<u64> {
        Ok(self.model(model)?["rows"]["recorded"].as_u64().unwrap_or(0))
    }

    /// What the admin listener shows of a model.
    pub(crate) fn model(&self, model: &str) -> Fallible<serde_json::Value> {
        let begun = Instant::now();
        loop {
            match client::get(self.admin.ok_or("no admin listener")?, &format!("/api/models/{model}")) {
                Ok(text) => return Ok(serde_json::from_str(&text)?),
                // On a busy machine the ledger may not find the time.
                Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
                Err(why) => return Err(why),
            }
        }
    }

    /// Waits until nothing is left to be recorded or shadowed, so that the next measurement is not charged for it.
    pub(crate) fn settle(&self) -> Fallible<()> {
        let begun = Instant::now();
        while self.admin.is_some() && self.backlog()? > 0.0 {
            if begun.elapsed() > PATIENCE {
                return Err("the recorder or the challengers do not catch up".into());
            }
            // Each look costs the server a millisecond or two, which count as its requests'.
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn backlog(&self) -> Fallible<f64> {
        let text = self.metrics()?;
        let of = |name| sum(&text, name);
        let open = of("dethrone_shadow_offered_total")
            - of("dethrone_shadow_executed_total")
            - of("dethrone_shadow_dropped_total");
        Ok(open.max(0.0) + of("dethrone_recorder_backlog"))
    }

    /// Waits until so many versions of a model are shadowed.
    pub(crate) fn wait_for_challengers(&self, model: &str, wanted: usize) -> Fallible<()> {
        let begun = Instant::now();
        loop {
            let view = self.model(model)?;
            let versions = view["versions"].as_array().map_or(&[][..], Vec::as_slice);
            if versions
                .iter()
                .filter(|version| version["role"] == "challenger")
                .count()
                == wanted
            {
                return Ok(());
            }
            if begun.elapsed() > START {
                return Err(format!("there are no {wanted} challengers: {view}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn threads(pid: u32) -> Vec<(String, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let on_cpu = stat.split_whitespace().next()?.parse().ok()?;
            Some((name.trim().to_owned(), Duration::from_nanos(on_cpu)))
        })
        .collect()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// All series of a metric in a scrape, added up.
fn sum(text: &str, name: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
