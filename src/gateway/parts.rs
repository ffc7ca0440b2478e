//! Starting and stopping: the order in which the parts come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::bounded;
use tokio::sync::watch;

use super::Gateway;
use super::followed::{Followed, Follower};
use super::hand_over::Predecessor;
use super::inherited::Inherited;
use super::late::{Late, Latecomers, Release, Waiting};
use crate::arena::confine::Sandbox;
use crate::arena::{SandboxPolicy, Spawner};
use crate::auth::Auth;
use crate::config::{ConfigError, ServerConfig};
use crate::container::{Container, Pressure};
use crate::control::{self, Control, Parts};
use crate::grpc;
use crate::http::{App, Face, Lag, Limits, Listener, Servers, bind};
use crate::id::{IdGenerator, IdKey, time_of};
use crate::intake::scan::scan_dir;
use crate::interference::{Board as InterferenceBoard, Gate, Interference};
use crate::ledger::{LedgerError, StateLock};
use crate::metrics::Metrics;
use crate::model::runtime::{self, RuntimeError};
use crate::monitor::follow::Board;
use crate::recorder::{Recorder, StorageError};
use crate::retrain;
use crate::served::Served;
use crate::time;
use crate::tls::Tls;
use crate::trace::{Exporter, Tracer};

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger after it was opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What keeps runners in is lacking, and required.
    #[error("{0}")]
    Sandbox(String),
    /// A file that the settings name.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// Certificate and key.
    #[error("tls: {0}")]
    Tls(String),
    /// Control.
    #[error(transparent)]
    Control(#[from] control::StartError),
    /// A listener.
    #[error("{listener} listener on {address}: {source}; choose another address or port 0")]
    Listen {
        /// Which.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// Listening sockets that were opened before.
    #[error("{0}")]
    Inherited(String),
    /// The running process cannot be taken over.
    #[error("{0}")]
    HandOver(String),
    /// A file or a thread.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's word.
        source: std::io::Error,
    },
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    /// Names and addresses of the bound listeners.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// What the routes ask.
    pub gateway: Arc<Gateway>,
    servers: Servers,
    control: Control,
    recorder: Recorder,
    recorder_thread: JoinHandle<()>,
    interference: Interference,
    followed: Follower,
    traces: Option<Exporter>,
    grace: Duration,
    delay: Duration,
    handed: watch::Receiver<bool>,
    /// The process before this one has not ended.
    waiting: Option<Waiting>,
    late: Option<Late>,
}

/// Starts everything: state, ledger, runtime, control, and last the listeners.
///
/// # Errors
/// The first thing that stood in the way.
pub async fn start(config: ServerConfig) -> Result<Running, StartError> {
    let lock = StateLock::take(&config.state)?;
    let (mut running, latecomers, _) = begin(config, None).await?;
    running.late = Some(latecomers.start(lock)?);
    Ok(running)
}

/// The same beside the process that serves the state directory: when the champions are loaded, its listeners are taken over,
/// and it stops. What is recorded meanwhile waits until it has ended: see [`Running::settle`].
///
/// # Errors
/// The first thing that stood in the way; the other process goes on then.
pub async fn take_over(config: ServerConfig) -> Result<Running, StartError> {
    let mut before = Predecessor::find(&config.state).map_err(StartError::HandOver)?;
    let (pid, version) = &before.about;
    tracing::info!(pid, version, "taking over from the running process");
    let (mut running, latecomers, release) = begin(config, Some(&mut before)).await?;
    if let Err(error) = before.relieve() {
        tracing::warn!(error, "the process before this one did not say goodbye");
    }
    running.waiting = release.map(|release| Waiting::start(latecomers, release));
    Ok(running)
}

async fn begin(
    config: ServerConfig,
    before: Option<&mut Predecessor>,
) -> Result<(Running, Latecomers, Option<Release>), StartError> {
    let config = Arc::new(config);
    let auth = config.auth_keys.as_deref().map(Auth::load).transpose()?.map(Arc::new);
    let tls = config.tls.as_ref().map(|tls| Tls::load(tls.files.clone()));
    let tls = tls.transpose().map_err(StartError::Tls)?.map(Arc::new);
    if let Some(sha256) = &config.onnxruntime_sha256 {
        runtime::allow(sha256);
    }
    runtime::start()?;
    let (spawner, sandbox) = confined(&config).await?;
    let (decided, decisions) = bounded(256);
    let (share, limits) = (config.recorder_share(), &config.retention);
    let (recorder, recorder_thread, held) = match before {
        Some(_) => {
            let (recorder, held, thread) = Recorder::start_held(&config.state, decided, share, limits)?;
            (recorder, thread, Some(held))
        }
        None => {
            let (recorder, thread) = Recorder::start(&config.state, decided, share, limits)?;
            (recorder, thread, None)
        }
    };
    // Before control, which asks for the time: it must not lie before what is recorded.
    let ids = ids(&config, &recorder).await?;
    let container = Container::find(Path::new("/"));
    let limits = container.limits();
    let pressure = Pressure::watch(container);
    let metrics = Arc::new(Metrics::new(&config.metrics_edges));
    let is_empty = started_empty(&config, &recorder).await?;
    let models: control::Models = Arc::new(ArcSwap::from_pointee(BTreeMap::new()));
    let restored = Arc::new(AtomicBool::new(false));
    let gate = Arc::new(Gate::default());
    let (interference, interfering) = watch_interference(&config, &metrics, &gate)?;
    let (go, waits) = bounded(1);
    let control = Control::start(Parts {
        config: Arc::clone(&config),
        models: Arc::clone(&models),
        recorder: recorder.clone(),
        decisions,
        spawner,
        limits,
        pressure: Arc::clone(&pressure),
        gate,
        metrics: Arc::clone(&metrics),
        ids: ids.key().clone(),
        restored: Arc::clone(&restored),
        waits: held.is_some().then_some(waits),
    })?;
    let (ids, sockets) = match before {
        Some(before) => {
            answering(&control, &models, &restored).await?;
            let handed = before.take().map_err(StartError::HandOver)?;
            time::not_before(time_of(handed.floor));
            let ids = IdGenerator::beside(ids.key().clone(), handed.floor, handed.lane);
            (ids, handed.listeners)
        }
        None => (ids, Vec::new()),
    };
    let (board, retraining) = (Board::default(), retrain::Shown::default());
    let (order, orders) = retrain::orders();
    let gateway = Arc::new(Gateway {
        ids,
        models: Arc::clone(&models),
        monitor: Arc::clone(&board),
        retraining: Arc::clone(&retraining),
        retrain: order,
        recorder: recorder.clone(),
        metrics: Arc::clone(&metrics),
        acts: control.requests(),
        repository: control.repository(),
        trips: control.trips(),
        pulse: control.pulse(),
        pins: config.pins,
        sandbox,
        limits,
        pressure,
        interfering,
        restored,
        state: config.state.clone(),
        is_empty,
        triton: config.metrics_triton,
        reading: Arc::new(tokio::sync::Semaphore::new(1)),
        started: Instant::now(),
        has_successor: AtomicBool::new(false),
        is_shared: AtomicBool::new(false),
    });
    let (tracer, traces) = Tracer::start(&config.trace, &metrics.trace()).map_err(|source| StartError::Io {
        what: "the traces' thread".into(),
        source,
    })?;
    let answers = {
        let metrics = Arc::clone(&metrics);
        move || metrics.answers()
    };
    let lag = Lag::watch(tokio::runtime::Handle::current(), config.max_lag, answers);
    let lag = lag.map_err(|source| StartError::Io {
        what: "the thread that sees how long work waits".into(),
        source,
    })?;
    let app = App::new(
        Arc::clone(&gateway),
        auth.clone(),
        Limits::from(&*config),
        metrics.http(),
    )
    .with_lag(lag)
    .with_tracer(tracer);
    let app = Arc::new(app);
    let servers = Servers::new();
    let (listeners, sockets) = listen(&config, &servers, tls.as_ref(), &app, &metrics, sockets).await?;
    let followed = follow(auth, tls).map_err(|source| StartError::Io {
        what: "the thread that follows files".into(),
        source,
    })?;
    let (grace, delay) = (config.shutdown_grace, config.shutdown_delay);
    let (handed, was_handed) = watch::channel(false);
    let latecomers = Latecomers {
        config,
        models,
        recorder: recorder.clone(),
        metrics,
        board,
        retraining,
        orders,
        acts: control.requests(),
        gateway: Arc::clone(&gateway),
        sockets,
        handed,
    };
    let running = Running {
        listeners,
        gateway,
        servers,
        control,
        recorder,
        recorder_thread,
        interference,
        followed,
        traces,
        grace,
        delay,
        handed: was_handed,
        waiting: None,
        late: None,
    };
    Ok((running, latecomers, held.map(|held| Release { held, control: go })))
}

/// Waits until every model that the ledger knows a champion of has one here.
async fn answering(control: &Control, models: &control::Models, restored: &AtomicBool) -> Result<(), StartError> {
    while !restored.load(Ordering::Acquire) {
        if !control.is_alive() {
            return Err(StartError::HandOver(
                "the control thread ended: the running process goes on".into(),
            ));
        }
        tokio::time::sleep(super::LOOK).await;
    }
    let models = models.load();
    let silent = |served: &&Arc<Served>| served.expected.load(Ordering::Relaxed) && served.slot.load().is_none();
    match models.values().find(silent) {
        None => Ok(()),
        Some(served) => Err(StartError::HandOver(format!(
            "model '{}' would not answer: {}; the running process goes on",
            served.name,
            served.waiting_for.load()
        ))),
    }
}

/// Measures what shadow work costs the answers, and rules when it may begin.
fn watch_interference(
    config: &ServerConfig,
    metrics: &Metrics,
    gate: &Arc<Gate>,
) -> Result<(Interference, InterferenceBoard), StartError> {
    let seed = getrandom::u64().unwrap_or_default();
    tracing::debug!(seed, "quiet stretches are drawn");
    let both = (metrics.tail(), Arc::clone(gate));
    Interference::start(config.shadow_budget.times(), both, seed).map_err(|source| StartError::Io {
        what: "the thread that watches interference".into(),
        source,
    })
}

/// What of files is read again when they change.
fn follow(auth: Option<Arc<Auth>>, tls: Option<Arc<Tls>>) -> std::io::Result<Follower> {
    let mut all = Vec::new();
    if let Some(auth) = auth {
        let files = vec![auth.path().to_owned()];
        all.push(Followed::new("keys", files, move || match auth.reload() {
            Ok(count) => Ok(format!("{count} keys")),
            Err(faults) => Err(faults.to_string()),
        }));
    }
    if let Some(tls) = tls {
        let files = tls.files().all();
        let take = move || tls.reload().map(|()| "new connections have them".into());
        all.push(Followed::new("certificates", files, take));
    }
    Follower::start(all)
}

/// True where there are models and the ledger knows none, which is said: after a first start it means that the state
/// directory was lost, and with it champions, evidence and labels.
async fn started_empty(config: &ServerConfig, recorder: &Recorder) -> Result<bool, StartError> {
    let known = recorder.look(|_, reader| reader.model_names()).await?;
    if !known.is_empty() {
        return Ok(false);
    }
    let (models, most) = (config.models.clone(), config.max_model_bytes);
    let has_models = move || {
        let folders = std::fs::read_dir(models).into_iter().flatten().flatten();
        let mut contents = folders.filter_map(|folder| scan_dir(&folder.path(), most).ok());
        contents.any(|contents| !contents.versions.is_empty())
    };
    let has_models = tokio::task::spawn_blocking(has_models).await.unwrap_or(false);
    if has_models {
        tracing::warn!(
            models = %config.models.display(),
            state = %config.state.display(),
            "there are models, and the state directory knows none of them: right on a first start; after another one it \
             is not the directory of before, and champions, evidence and labels are not here. Stop, and give the old one back"
        );
    }
    Ok(has_models)
}

/// The spawner, and what holds its runners, which is said.
async fn confined(config: &ServerConfig) -> Result<(Spawner, Option<Sandbox>), StartError> {
    let policy = config.sandbox;
    let spawner = spawner(config)?.with_policy(policy);
    let asked = spawner.clone();
    let answer = tokio::task::spawn_blocking(move || Sandbox::probe(&asked, policy)).await;
    match answer.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(sandbox) => {
            for facility in &sandbox.lacks {
                tracing::warn!(
                    "models run less confined: this system lacks {facility}; set sandbox = \"require\" to refuse that"
                );
            }
            Ok((spawner, Some(sandbox)))
        }
        Err(why) if policy == SandboxPolicy::Require => Err(StartError::Sandbox(why)),
        Err(why) => {
            tracing::error!("it is not known what keeps models in: {why}");
            Ok((spawner, None))
        }
    }
}

fn spawner(config: &ServerConfig) -> Result<Spawner, StartError> {
    match &config.runner_path {
        Some(path) => Ok(Spawner::start(path.clone())),
        None => Spawner::of_this_program().map_err(|source| StartError::Io {
            what: "the running executable".into(),
            source,
        }),
    }
}

async fn ids(config: &ServerConfig, recorder: &Recorder) -> Result<IdGenerator, StartError> {
    let path = config.state.join("ids.key");
    let is_new = !path.exists();
    let key = IdKey::load_or_create(&path).map_err(|source| StartError::Io {
        what: path.display().to_string(),
        source,
    })?;
    let last = recorder.look(|_, reader| reader.last_id()).await?;
    if last > 0 && is_new {
        tracing::warn!(
            path = %path.display(),
            "the key of the ids is missing though the ledger has rows: a new one was made, and labels for ids that were \
             given out before it are unknown; stop and restore the file if there is a copy"
        );
    }
    if last > 0 && time::not_before(time_of(last)) {
        let recorded = time::rfc3339(time_of(last));
        tracing::warn!(%recorded, "the system's clock is behind what the ledger has recorded: time goes on from there");
    }
    Ok(IdGenerator::new(key, last + 1))
}

/// What a listener is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Http(Face),
    Grpc,
}

/// Names and addresses of listeners.
type Bound = Vec<(&'static str, SocketAddr)>;
/// Their sockets, for a process that takes over.
type Copies = Vec<(&'static str, OwnedFd)>;

async fn listen(
    config: &ServerConfig,
    servers: &Servers,
    tls: Option<&Arc<Tls>>,
    app: &Arc<App<Gateway>>,
    metrics: &Metrics,
    handed: Vec<(String, std::net::TcpListener)>,
) -> Result<(Bound, Copies), StartError> {
    let mut wanted = vec![
        ("data", Purpose::Http(Face::Data), config.listen),
        ("grpc", Purpose::Grpc, config.grpc_listen),
        ("admin", Purpose::Http(Face::Admin), config.admin_listen),
    ];
    let metrics_listen = config.metrics_listen;
    wanted.extend(metrics_listen.map(|address| ("metrics", Purpose::Http(Face::Metrics), address)));
    let mut inherited = Inherited::find().map_err(StartError::Inherited)?.with(handed);
    if metrics_listen.is_none() && inherited.has("metrics") {
        wanted.push((
            "metrics",
            Purpose::Http(Face::Metrics),
            SocketAddr::from(([127, 0, 0, 1], 0)),
        ));
    }
    // Whoever connects to a socket that outlives processes would rather wait than hear that nothing is ready yet.
    let gateway = Arc::downgrade(app.backend());
    let gate = servers.gate(super::PATIENCE, move || {
        gateway.upgrade().is_none_or(|gateway| !gateway.is_restoring())
    });
    let (mut bound, mut copies) = (Vec::new(), Vec::new());
    for (name, purpose, address) in wanted {
        let fail = |source| StartError::Listen {
            listener: name,
            address,
            source,
        };
        let mut listener = match inherited.take(name).map_err(fail)? {
            Some(socket) => Listener {
                socket,
                gate: (name != "admin").then(|| gate.clone()),
                tls: None,
            },
            None => bind(address).await.map_err(fail)?,
        };
        let is_open = !listener
            .socket
            .local_addr()
            .map_err(fail)?
            .ip()
            .to_canonical()
            .is_loopback();
        if is_open && matches!(purpose, Purpose::Http(Face::Admin)) && app.auth.is_none() {
            let text = "the admin listener that was handed over is open to the network, and without keys anybody could \
                        give orders there: hand over one on a loopback address, or set auth.keys";
            return Err(StartError::Inherited(text.into()));
        }
        listener.tls = tls
            .filter(|_| config.tls.as_ref().is_some_and(|tls| tls.is_for(name)))
            .cloned();
        if is_open && app.auth.is_some() && listener.tls.is_none() && name != "metrics" {
            tracing::warn!(
                listener = name,
                "keys cross the network in the clear: set tls.cert and tls.key, or let something before the gateway speak TLS"
            );
        }
        copies.push((name, listener.socket.as_fd().try_clone_to_owned().map_err(fail)?));
        let started = match purpose {
            Purpose::Http(face) => servers.start(face, listener, app),
            Purpose::Grpc => grpc::start(servers, listener, app, metrics.grpc()),
        };
        bound.push((name, started.map_err(fail)?));
    }
    Ok((bound, copies))
}

/// Keys that take effect on new connections, or when they are needed, without a restart.
const RELOADED: [&str; 13] = [
    "max_body_bytes",
    "max_h2_streams",
    "max_head_bytes",
    "header_timeout",
    "body_timeout",
    "body_idle_timeout",
    "write_timeout",
    "default_timeout",
    "idle_timeout",
    "shutdown_grace",
    "shutdown_linger",
    "shutdown_delay",
    "repository_control",
];

/// True where a changed key takes effect by [`Running::reload`].
#[must_use]
pub fn is_reloaded(key: &str) -> bool {
    RELOADED.contains(&key)
}

impl Running {
    /// Lets other settings take effect, as far as that needs no restart ([`is_reloaded`]).
    pub fn reload(&mut self, config: &ServerConfig) {
        self.servers.reload(&Limits::from(config));
        self.followed.look();
        (self.grace, self.delay) = (config.shutdown_grace, config.shutdown_delay);
    }

    /// True while the process before this one has not ended.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits until the process before this one has ended, and what waited for it goes on.
    ///
    /// # Errors
    /// The ledger cannot be opened, or a thread not started: nothing can be recorded.
    pub async fn settle(&mut self) -> Result<(), StartError> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        let late = (&mut waiting.task).await;
        self.waiting = None;
        self.late = Some(late.map_err(|error| StartError::Io {
            what: "the wait for the process before this one".into(),
            source: std::io::Error::other(error),
        })??);
        Ok(())
    }

    /// Becomes true when another process has taken over: this one is to stop.
    #[must_use]
    pub fn handed(&self) -> watch::Receiver<bool> {
        self.handed.clone()
    }

    /// [`Running::stop`] after another process has taken over: nobody needs time to notice.
    pub async fn leave(mut self) {
        self.delay = Duration::ZERO;
        self.stop().await;
    }

    /// Stops accepting, finishes what is in flight, writes what is recorded, and ends all children.
    pub async fn stop(mut self) {
        if let Some(hand_over) = self.late.as_ref().and_then(|late| late.hand_over.as_ref()) {
            hand_over.close();
        }
        std::mem::take(&mut self.servers).shutdown(self.delay, self.grace).await;
        if self.is_settling() {
            // What waits to be written is written, if it can be soon.
            let settled = tokio::time::timeout(self.grace, self.settle()).await;
            if let Some(waiting) = self.waiting.take() {
                waiting.cancel();
                tracing::error!(
                    "the process before this one still holds the ledger: what waited for it is not recorded"
                );
                drop(waiting.task.await);
            } else if let Ok(Err(error)) = settled {
                tracing::error!(%error, "what waited for the process before this one is not recorded");
            }
        }
        let Self {
            mut control,
            recorder,
            recorder_thread,
            interference,
            late,
            traces,
            gateway,
            ..
        } = self;
        let ended = tokio::task::spawn_blocking(move || {
            drop(interference);
            // What was not told is told after the next start.
            let (watching, _directory) = late.map_or((None, None), |late| {
                let Late {
                    webhook,
                    monitor,
                    retrain,
                    hand_over,
                    lock,
                } = late;
                drop((webhook, hand_over));
                (Some((retrain, monitor)), Some(lock))
            });
            if let Some(traces) = traces {
                traces.stop();
            }
            control.stop();
            if let Some((mut retrain, mut monitor)) = watching {
                // A command ends with the gateway, and that is written.
                retrain.stop();
                // It has baselines and alarms for the recorder to write.
                monitor.stop();
            }
            recorder.stop();
            recorder_thread.join()
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the recorder ended by a panic");
        }
        drop(gateway);
    }
}
