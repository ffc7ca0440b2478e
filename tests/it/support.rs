//! What the integration tests share: a running gateway — the real binary in a process of its own, on free ports and in
//! temporary directories — and a client that sends exactly the bytes it is given.

pub(crate) mod client;
pub(crate) mod grpc;
pub(crate) mod h2;
pub(crate) mod onnx;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for anything that must come: generous, because two cores run many tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the shipped stream and its models lie.
pub(crate) fn elec2() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/elec2")
}

/// The file of one of the shipped models.
pub(crate) fn shipped(name: &str) -> PathBuf {
    let first = elec2().join(format!("{name}.onnx"));
    if first.exists() {
        first
    } else {
        elec2().join(format!("stream/later/{name}.onnx"))
    }
}

/// Asks again and again until `what` gives something; the test fails with `says` when it never does.
pub(crate) fn until<T>(says: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let (end, mut pause) = (Instant::now() + PATIENCE, Pause::default());
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "never came: {says}");
        pause.wait();
    }
}

/// Between two looks: longer and longer, so that who waits for long takes little from what is waited for.
#[derive(Default)]
struct Pause(u64);

impl Pause {
    fn wait(&mut self) {
        self.0 = (self.0 + 5).min(60);
        std::thread::park_timeout(Duration::from_millis(self.0));
    }
}

/// Whether any file of this directory, or of one in it, has these bytes: in the state directory, the log of the ledger is
/// among them.
pub(crate) fn holds(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => holds(&path, text),
            // A socket holds nothing.
            false if !path.is_file() => false,
            false => match std::fs::read(&path) {
                Ok(bytes) => bytes.windows(text.len()).any(|window| window == text.as_bytes()),
                // Files of the ledger come and go.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => panic!("{}: {error}", path.display()),
            },
        }
    })
}

/// The directories of a gateway that is yet to start; start it as often as you like.
pub(crate) struct Site {
    dir: TempDir,
    settings: String,
}

impl Site {
    /// An empty models directory and `dethrone.toml` with these settings.
    pub(crate) fn new(settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        Self {
            dir,
            settings: settings.to_owned(),
        }
    }

    /// Writes other settings under a running gateway.
    pub(crate) fn write_settings(&self, settings: &str) {
        std::fs::write(self.dir.path().join("dethrone.toml"), settings).unwrap();
    }

    /// Other settings, from the next start on.
    pub(crate) fn set(&mut self, settings: &str) {
        settings.clone_into(&mut self.settings);
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Writes `models/<model>/model.toml`.
    pub(crate) fn model_toml(&self, model: &str, text: &str) -> &Self {
        let directory = self.models().join(model);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("model.toml"), text).unwrap();
        self
    }

    /// Drops a file into a model's directory the way a careful tool does: a temporary name, then a rename.
    pub(crate) fn drop_file(&self, model: &str, version: &str, from: &Path) -> &Self {
        self.drop_bytes(model, version, &std::fs::read(from).unwrap())
    }

    /// As [`Site::drop_file`], from bytes.
    pub(crate) fn drop_bytes(&self, model: &str, version: &str, bytes: &[u8]) -> &Self {
        let directory = self.models().join(model);
        std::fs::create_dir_all(&directory).unwrap();
        let temporary = directory.join(format!(".{version}.part"));
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(temporary, directory.join(format!("{version}.onnx"))).unwrap();
        self
    }

    /// Starts the gateway; it is up (listening), not necessarily ready.
    pub(crate) fn start(&self) -> Gateway {
        self.start_program(Path::new(env!("CARGO_BIN_EXE_dethrone")))
    }

    /// As [`Site::start`], from another copy of the program.
    pub(crate) fn start_program(&self, program: &Path) -> Gateway {
        self.start_as(program, "127.0.0.1:0")
    }

    /// As [`Site::start`], with the data listener on this address.
    pub(crate) fn start_on(&self, listen: &str) -> Gateway {
        self.start_as(Path::new(env!("CARGO_BIN_EXE_dethrone")), listen)
    }

    fn start_as(&self, program: &Path, listen: &str) -> Gateway {
        self.launch(Command::new(program), listen)
    }

    /// As [`Site::start`], with a variable of the environment.
    pub(crate) fn start_env(&self, name: &str, value: &str) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
        command.env(name, value);
        self.launch(command, "127.0.0.1:0")
    }

    /// As [`Site::start`], as a service manager does that keeps the data listener's socket open between processes.
    pub(crate) fn start_on_socket(&self, listener: &std::net::TcpListener) -> Gateway {
        // Nobody could listen on this address: the socket's own is taken.
        self.launch(handed_over(listener, "data"), "127.0.0.1:1")
    }

    /// As [`Site::start`], with an admin listener that was opened before, to whoever comes.
    pub(crate) fn start_open(&self, admin: &std::net::TcpListener) -> Gateway {
        let mut gateway = self.launch(handed_over(admin, "admin"), "127.0.0.1:0");
        gateway.admin.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        gateway
    }

    /// Starts a gateway that takes over from the one that runs here; it answers when this returns.
    pub(crate) fn take_over(&self) -> Gateway {
        // Nobody could listen on this address: the running one's is taken.
        self.launch_with(
            Command::new(env!("CARGO_BIN_EXE_dethrone")),
            "127.0.0.1:1",
            &["--take-over"],
        )
    }

    /// The same where it cannot: its exit code, and what it said.
    pub(crate) fn refused_take_over(&self, command: &mut Command) -> (Option<i32>, String) {
        let output = command
            .args(["serve", "--take-over", "--models"])
            .arg(self.models())
            .arg("--state")
            .arg(self.state())
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    fn launch(&self, command: Command, listen: &str) -> Gateway {
        self.launch_with(command, listen, &[])
    }

    fn launch_with(&self, mut command: Command, listen: &str, flags: &[&str]) -> Gateway {
        let config = self.dir.path().join("dethrone.toml");
        std::fs::write(&config, &self.settings).unwrap();
        if !self.settings.contains("wall_timeout") {
            // Challengers run at idle priority: on a machine that is full of tests they wait for longer than they should
            // in service, and rows that they lost to that are not what is tested.
            command.env("DETHRONE_RUNNER_WALL_TIMEOUT", "100s");
        }
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--models")
            .arg(self.models())
            .arg("--state")
            .arg(self.state())
            .args([
                "--listen",
                listen,
                "--grpc-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(flags)
            .current_dir(self.dir.path())
            .stdout(Stdio::piped())
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(self.log_path())
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut data, mut grpc, mut admin) = (None, None, None);
        while data.is_none() || grpc.is_none() || admin.is_none() {
            let Some(Ok(line)) = lines.next() else {
                let ended = child.try_wait();
                let _ = child.kill();
                panic!(
                    "the gateway did not start: {ended:?}, {:?}: {}",
                    child.wait(),
                    self.log()
                );
            };
            let line: Value = serde_json::from_str(&line).unwrap();
            let address: Option<SocketAddr> = line["address"].as_str().and_then(|a| a.parse().ok());
            match line["listener"].as_str() {
                Some("data") => data = address,
                Some("grpc") => grpc = address,
                Some("admin") => admin = address,
                _ => {}
            }
        }
        Gateway {
            data: data.unwrap(),
            grpc: grpc.unwrap(),
            admin: admin.unwrap(),
            child,
            ledger_fails: false,
            _site: None,
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What the gateway has logged so far, over all starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

/// The gateway's program with a listening socket, handed over under this name.
fn handed_over(listener: &std::net::TcpListener, name: &str) -> Command {
    let hand_over = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", hand_over, env!("CARGO_BIN_EXE_dethrone")])
        .env("LISTEN_FDNAMES", name)
        .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
    command
}

/// A running gateway; it is killed when this goes.
pub(crate) struct Gateway {
    /// Data listener.
    pub(crate) data: SocketAddr,
    /// gRPC listener.
    pub(crate) grpc: SocketAddr,
    /// Admin listener.
    pub(crate) admin: SocketAddr,
    child: Child,
    /// The test makes transactions fail.
    pub(crate) ledger_fails: bool,
    _site: Option<Site>,
}

impl Gateway {
    /// Waits until `/v2/health/ready` says so.
    pub(crate) fn ready(self) -> Self {
        until("readiness", || {
            (client::get(self.data, "/v2/health/ready").status == 200).then_some(())
        });
        self
    }

    /// The directories of a gateway that was started with them.
    pub(crate) fn site(&self) -> &Site {
        self._site.as_ref().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        until("its end", || self.child.try_wait().unwrap()).code()
    }

    /// `POST /predict`: status and JSON.
    pub(crate) fn predict(&self, body: &Value) -> (u16, Value) {
        let answer = client::post(self.data, "/predict", body);
        (answer.status, answer.json())
    }

    /// Reports labels `[(id, label)]` of a model; gives the statuses in order.
    pub(crate) fn label(&self, model: &str, labels: &[(&str, Value)]) -> Vec<String> {
        let labels: Vec<Value> = labels
            .iter()
            .map(|(id, label)| json!({"id": id, "label": label}))
            .collect();
        let answer = client::post(self.data, "/feedback", &json!({"model": model, "labels": labels}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let results = answer.json()["results"].as_array().cloned().unwrap_or_default();
        results
            .iter()
            .map(|r| r["status"].as_str().unwrap_or("?").to_owned())
            .collect()
    }

    /// `GET` on the admin listener.
    pub(crate) fn admin(&self, path: &str) -> Value {
        client::get(self.admin, path).json()
    }

    /// `GET /api/models/{model}`.
    pub(crate) fn view(&self, model: &str) -> Value {
        client::get(self.admin, &format!("/api/models/{model}")).json()
    }

    /// `GET /api/models/{model}/decisions`.
    pub(crate) fn decisions(&self, model: &str) -> Vec<Value> {
        let answer = client::get(self.admin, &format!("/api/models/{model}/decisions")).json();
        answer["decisions"].as_array().cloned().unwrap_or_default()
    }

    /// One version's entry in the view; `null` where there is none.
    pub(crate) fn version(&self, model: &str, version: &str) -> Value {
        let view = self.view(model);
        let versions = view["versions"].as_array().cloned().unwrap_or_default();
        versions
            .into_iter()
            .find(|v| v["version"] == version)
            .unwrap_or(Value::Null)
    }

    /// Waits until a version has this role; gives its entry.
    pub(crate) fn until_role(&self, model: &str, version: &str, role: &str) -> Value {
        let (end, mut pause) = (Instant::now() + PATIENCE, Pause::default());
        loop {
            let entry = self.version(model, version);
            if entry["role"] == role {
                return entry;
            }
            assert!(Instant::now() < end, "{model}/{version} never became {role}: {entry}");
            pause.wait();
        }
    }

    /// A person's word: status and JSON.
    pub(crate) fn act(&self, model: &str, action: &str, version: Option<&str>) -> (u16, Value) {
        let body = json!({"version": version, "author": "test", "reason": "because the test says so"});
        let answer = client::post(self.admin, &format!("/api/models/{model}/{action}"), &body);
        (answer.status, answer.json())
    }

    /// The value of one series in `/metrics`, by its full name with labels.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = client::get(self.admin, "/metrics").text();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// [`gateway_with`] `max_rows = 100` and `max_body_bytes = "1MiB"`.
pub(crate) fn gateway() -> Gateway {
    gateway_with("max_rows = 100\nmax_body_bytes = \"1MiB\"\n")
}

/// Starts a gateway with this `dethrone.toml`, and waits until it is ready. It serves two models:
/// - `elec2`: `e01_logreg.onnx` (features `period`, `nswprice`, `nswdemand`, `vicprice`, `vicdemand`, `transfer` FP32
///   and `day` BYTES), with `unknown = "reject"`;
/// - `plain`: `e02_tree.onnx` with `interface = "tensors"` (input `features`, FP32, `[-1, 3]`).
pub(crate) fn gateway_with(settings: &str) -> Gateway {
    let site = Site::new(settings);
    site.model_toml("elec2", "unknown = \"reject\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site.model_toml("plain", "interface = \"tensors\"\n")
        .drop_file("plain", "e02_tree", &shipped("e02_tree"));
    let mut gateway = site.start().ready();
    for model in ["elec2", "plain"] {
        until(model, || {
            (client::get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    gateway._site = Some(site);
    gateway
}

/// Beside the shipped models: the small ones that the tests run.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.onnx"))
}

/// The shipped rows with the probability that each shipped model gives.
pub(crate) fn probes() -> Vec<Value> {
    let text = std::fs::read_to_string(elec2().join("stream/probes.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A row that every shipped model but the one that needs `date` can answer.
pub(crate) fn elec2_row() -> Value {
    json!({"period": 0.5, "nswprice": 0.06, "nswdemand": 0.4, "vicprice": 0.003, "vicdemand": 0.42,
           "transfer": 0.41, "day": "2"})
}

/// One number from the ledger's file, read beside the running gateway as anybody may.
pub(crate) fn ask_ledger<T: rusqlite::types::FromSql>(site: &Site, query: &str) -> Option<T> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = rusqlite::Connection::open_with_flags(site.state().join("ledger.sqlite"), flags).unwrap();
    ledger.query_row(query, [], |row| row.get(0)).ok()
}

/// The ids of an answer's rows.
pub(crate) fn ids(answer: &Value) -> Vec<String> {
    let rows = answer["predictions"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .map(|row| row["id"].as_str().unwrap_or("?").to_owned())
        .collect()
}

impl Site {
    /// Starts the gateway where it must refuse to start: exit code, and what it said.
    pub(crate) fn refused(&self) -> (Option<i32>, String) {
        self.refuses(Command::new(env!("CARGO_BIN_EXE_dethrone")))
    }

    /// As [`Site::refused`], with a listening socket that is handed over under this name.
    pub(crate) fn refused_on_socket(&self, listener: &std::net::TcpListener, name: &str) -> (Option<i32>, String) {
        self.refuses(handed_over(listener, name))
    }

    fn refuses(&self, mut command: Command) -> (Option<i32>, String) {
        std::fs::write(self.dir.path().join("dethrone.toml"), &self.settings).unwrap();
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--grpc-listen", "127.0.0.1:0", "--models"])
            .arg(self.models())
            .arg("--state")
            .arg(self.state())
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let code = until("a refusal", || child.try_wait().unwrap()).code();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        (code, said)
    }
}

/// Rows `from..from + count` of the shipped stream: features as clients send them, and the label.
pub(crate) fn stream(from: usize, count: usize) -> Vec<(Value, u8)> {
    let text = std::fs::read_to_string(elec2().join("stream/stream.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let mut row = serde_json::Map::new();
        let mut label = 0;
        for (name, cell) in names.iter().zip(line.split(',')) {
            match *name {
                "date" => {}
                "label" => label = cell.parse().unwrap(),
                "day" => drop(row.insert("day".into(), cell.into())),
                _ => drop(row.insert((*name).into(), cell.parse::<f64>().unwrap().into())),
            }
        }
        (Value::Object(row), label)
    };
    lines.skip(from).take(count).map(row).collect()
}

/// The shipped probes without `date`: features, and what each version must answer.
pub(crate) fn right_answers() -> Vec<(Value, Value)> {
    let text = std::fs::read_to_string(elec2().join("stream/probes.json")).unwrap();
    let probes: Vec<Value> = serde_json::from_str(&text).unwrap();
    let probe = |p: Value| {
        let mut inputs = p["inputs"].clone();
        inputs.as_object_mut().unwrap().remove("date");
        (inputs, p["probability_of_class_1"].clone())
    };
    probes.into_iter().map(probe).collect()
}

impl Gateway {
    /// Sends rows in requests of 40 and their labels right after; gives the ids, in order.
    pub(crate) fn feed(&self, model: &str, rows: &[(Value, u8)]) -> Vec<String> {
        let mut all = Vec::new();
        for rows in rows.chunks(40) {
            let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
            let (status, answer) = self.predict(&json!({"model": model, "instances": instances}));
            assert_eq!(status, 200, "{answer}");
            let ids: Vec<String> = answer["predictions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["id"].as_str().unwrap().to_owned())
                .collect();
            let labels: Vec<(&str, Value)> = ids
                .iter()
                .zip(rows)
                .map(|(id, (_, l))| (id.as_str(), json!(l)))
                .collect();
            let items: Vec<Value> = labels.iter().map(|(id, l)| json!({"id": id, "label": l})).collect();
            let body = json!({"model": model, "labels": items});
            // 503: nothing of it was stored, send it again.
            let answer = until("labels are taken", || {
                let answer = client::post(self.data, "/feedback", &body);
                (answer.status != 503).then_some(answer)
            });
            let results = answer.json()["results"].clone();
            for result in results.as_array().unwrap() {
                // A row that shared a failing transaction is lost, and said to be.
                let lost = self.ledger_fails && result["status"] == "unrecorded";
                assert!(lost || result["status"] == "accepted", "{result}");
            }
            all.extend(ids);
        }
        all
    }

    /// Stands where a gateway was: a process that has ended.
    pub(crate) fn nobody() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data: nowhere,
            grpc: nowhere,
            admin: nowhere,
            child: Command::new("true").spawn().unwrap(),
            ledger_fails: false,
            _site: None,
        }
    }

    /// The processes whose parent is the gateway.
    pub(crate) fn children(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}", self.pid());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
        let ours = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line == parent)
        };
        processes.filter_map(number).filter(ours).collect()
    }
}

/// Makes every transaction with this event of the judge's journal fail in its middle, or lets them pass again.
pub(crate) fn cannot_be_recorded(site: &Site, event: &str, cannot: bool) {
    let ledger = rusqlite::Connection::open(site.state().join("ledger.sqlite")).unwrap();
    ledger.busy_timeout(PATIENCE).unwrap();
    let sql = if cannot {
        format!(
            "CREATE TRIGGER full BEFORE INSERT ON journal WHEN json_extract(new.event, '$.event') = '{event}'
             BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    } else {
        "DROP TRIGGER full".to_owned()
    };
    ledger.execute_batch(&sql).unwrap();
}

/// Requests without a pause from a thread of their own; none of them may fail.
pub(crate) struct Traffic {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    answered: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// Sends the bodies in turn.
    pub(crate) fn of(to: SocketAddr, bodies: Vec<Value>) -> Self {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
        let (stop, answered) = (
            std::sync::Arc::new(AtomicBool::new(false)),
            std::sync::Arc::new(AtomicUsize::new(0)),
        );
        let (until, count) = (std::sync::Arc::clone(&stop), std::sync::Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let mut failed = Vec::new();
            for body in bodies.iter().cycle() {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let answer = client::raw(
                    to,
                    &client::request(
                        "POST",
                        "/predict",
                        "content-type: application/json\r\n",
                        body.to_string().as_bytes(),
                    ),
                );
                match answer {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(answer.text()),
                    Err(error) => failed.push(error.to_string()),
                }
                count.fetch_add(1, Ordering::Relaxed);
                // Hundreds a second, and the processors are left to what is tested.
                std::thread::park_timeout(Duration::from_millis(1));
            }
            failed
        });
        Self {
            stop,
            answered,
            thread: Some(thread),
        }
    }

    /// Waits for so many more answers.
    pub(crate) fn more(&self, answers: usize) {
        let answered = || self.answered.load(std::sync::atomic::Ordering::Relaxed);
        let goal = answered() + answers;
        until("more answers", || (answered() >= goal).then_some(()));
    }

    /// Ends; the test fails when a request has.
    pub(crate) fn end(mut self) {
        self.more(1);
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let failed = self.thread.take().unwrap().join().unwrap();
        assert!(failed.is_empty(), "{} requests failed: {}", failed.len(), failed[0]);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The same model in other bytes: `mark` goes into a field that says nothing to the runtime (`doc_string`).
pub(crate) fn marked(bytes: &[u8], mark: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.extend([0x32, u8::try_from(mark.len()).unwrap()]);
    bytes.extend(mark.as_bytes());
    bytes
}
