//! The server's settings: flags before `DETHRONE_…` variables before `dethrone.toml` before the defaults.
//!
//! Unknown `DETHRONE_…` variables are no fault: Kubernetes sets some of its own (`DETHRONE_PORT`) beside a service of
//! this name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::effective::{Effective, Shown, Source};
use super::fault::ConfigError;
use super::reader::{Section, read_noting};
use super::value::{Bytes, Value};
use crate::arena::SandboxPolicy;
use crate::metrics::MOST_EDGES;
use crate::model::runtime::is_sha256;
use crate::trace::TraceConfig;
use crate::webhook::Hook;

mod args;
mod retention;
mod shadow;
mod tls;
mod trace;
mod webhook;

pub use args::ServeArgs;
pub use retention::RetentionConfig;
pub use shadow::ShadowBudget;
pub use tls::TlsConfig;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `[runner]`: the limits of each child process that runs a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerConfig {
    /// Memory of its own: data and private mappings.
    pub memory_bytes: u64,
    /// Memory of all runners together; `None`: by the container's limit, or the machine's memory.
    pub total_memory_bytes: Option<u64>,
    /// CPU time for one run.
    pub cpu_timeout: Duration,
    /// Wall time for one run.
    pub wall_timeout: Duration,
}

/// The server's settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// Directory of models.
    pub models: PathBuf,
    /// Directory of the ledger and the content store.
    pub state: PathBuf,
    /// HTTP data listener.
    pub listen: SocketAddr,
    /// gRPC data listener.
    pub grpc_listen: SocketAddr,
    /// Admin listener; on loopback, unless there are keys.
    pub admin_listen: SocketAddr,
    /// Listener for metrics alone.
    pub metrics_listen: Option<SocketAddr>,
    /// Edges of times of requests besides the built-in ones.
    pub metrics_edges: Vec<Duration>,
    /// Scrapes have the names of NVIDIA Triton too.
    pub metrics_triton: bool,
    /// What single requests are told of.
    pub trace: TraceConfig,
    /// Worker threads.
    pub workers: usize,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Most rows in a request.
    pub max_rows: usize,
    /// Body bytes held by all requests together.
    pub max_buffered_bytes: usize,
    /// Most connections per listener.
    pub max_connections: usize,
    /// Most predictions answered at once, and as many requests with labels.
    pub max_in_flight: usize,
    /// Longest time that work may wait for a thread that serves requests.
    pub max_lag: Duration,
    /// Most streams of labels at once.
    pub max_label_streams: usize,
    /// Most streams of one HTTP/2 connection at once.
    pub max_h2_streams: u32,
    /// Largest head of a request.
    pub max_head_bytes: usize,
    /// Longest time for a request's head.
    pub header_timeout: Duration,
    /// Longest time for a request's body.
    pub body_timeout: Duration,
    /// Longest time between two pieces of a body.
    pub body_idle_timeout: Duration,
    /// A client takes its answer, or 16 KiB of it, in this time.
    pub write_timeout: Duration,
    /// A request that brings no deadline has this long to be answered.
    pub default_timeout: Duration,
    /// An idle connection is closed after this time.
    pub idle_timeout: Duration,
    /// Time for requests in flight at shutdown.
    pub shutdown_grace: Duration,
    /// At shutdown, connections without a request in flight have this long to ask once more.
    pub shutdown_linger: Duration,
    /// At shutdown, connections are accepted for so long although the gateway says that it is not ready.
    pub shutdown_delay: Duration,
    /// A file has settled after standing still this long.
    pub settle_ms: u64,
    /// The models directory is read again at least this often.
    pub poll: Duration,
    /// A file gone for this long, while its directory can be read, retires its version.
    pub gone: Duration,
    /// Largest model with its external data.
    pub max_model_bytes: u64,
    /// Whether a request may name its version.
    pub pins: bool,
    /// Repository load and unload on a data listener that is not on loopback.
    pub repository_control: bool,
    /// Whether the command that a `model.toml` names is run.
    pub retrain_commands: bool,
    /// How much of all processors recording rows may take, in hundredths; at 100 it sheds only when it cannot keep up.
    pub recorder_percent: u64,
    /// The binary that runners are started from; `None`: this one.
    pub runner_path: Option<PathBuf>,
    /// What is done where the system cannot confine runners.
    pub sandbox: SandboxPolicy,
    /// SHA-256 of a library of ONNX Runtime that is none of the pinned ones.
    pub onnxruntime_sha256: Option<String>,
    /// File of API keys; `None`: nobody is asked for one.
    pub auth_keys: Option<PathBuf>,
    /// `[tls]`; `None`: all listeners are bare.
    pub tls: Option<TlsConfig>,
    /// `[runner]`.
    pub runner: RunnerConfig,
    /// `[webhook]`; `None`: nobody is told.
    pub webhook: Option<Hook>,
    /// `[retention]`.
    pub retention: RetentionConfig,
    /// `[shadow]`: what shadow work may cost the answers.
    pub shadow_budget: ShadowBudget,
}

impl ServerConfig {
    /// Joins flags, variables (both in `args`), the settings file and the defaults.
    ///
    /// # Errors
    /// All faults of the settings.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        Self::effective(args).map(|(config, _)| config)
    }

    /// The same, with each value and where it came from.
    ///
    /// # Errors
    /// All faults of the settings.
    pub fn effective(args: &ServeArgs) -> Result<(Self, Vec<Effective>), ConfigError> {
        let path = args.config.as_deref().unwrap_or(Path::new("dethrone.toml"));
        let file = path.display().to_string();
        match super::text_of(path)? {
            Some(text) => Self::noted(args, &file, &text),
            None if args.config.is_some() => Err(ConfigError::one(
                &file,
                "does not exist: write it, or leave --config and DETHRONE_CONFIG out".into(),
            )),
            None => Self::noted(args, &file, ""),
        }
    }

    /// As [`ServerConfig::load`], with the text of the settings file; `file` is its name in faults.
    ///
    /// # Errors
    /// All faults of the settings.
    pub fn parse(args: &ServeArgs, file: &str, text: &str) -> Result<Self, ConfigError> {
        Self::noted(args, file, text).map(|(config, _)| config)
    }

    fn noted(args: &ServeArgs, file: &str, text: &str) -> Result<(Self, Vec<Effective>), ConfigError> {
        let (config, mut noted) = read_noting(file, text, |s| {
            let config = server(s, args);
            s.table("record", |_| ());
            cross_check(s, &config);
            config
        })?;
        for setting in &mut noted {
            let name = setting.key.replace('.', "_");
            if matches!(setting.source, Source::Flag(_)) && args.from_environment.contains(&name) {
                setting.source = Source::Variable(format!("DETHRONE_{}", name.to_uppercase()));
            }
        }
        Ok((config, noted))
    }
}

impl ServerConfig {
    /// How much of one processor recording rows may take.
    #[must_use]
    pub fn recorder_share(&self) -> f64 {
        if self.recorder_percent >= 100 {
            return f64::INFINITY;
        }
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[expect(clippy::cast_precision_loss, reason = "processors are few")]
        let (percent, cpus) = (self.recorder_percent as f64, cpus as f64);
        percent / 100.0 * cpus
    }
}

fn server(s: &mut Section<'_>, args: &ServeArgs) -> ServerConfig {
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let ms = Duration::from_millis;
    let time = ms(1)..=ms(3_600_000);
    ServerConfig {
        models: plain(s, args.models.clone(), "models", "models".into()),
        state: plain(s, args.state.clone(), "state", "state".into()),
        listen: plain(s, args.listen, "listen", local(8080)),
        grpc_listen: plain(s, args.grpc_listen, "grpc_listen", local(8081)),
        admin_listen: plain(s, args.admin_listen, "admin_listen", local(8082)),
        metrics_listen: optional(s, args.metrics_listen, "metrics_listen"),
        metrics_edges: edges(s, args),
        metrics_triton: plain(s, args.metrics_triton, "metrics_triton", false),
        trace: trace::read(s, args),
        workers: count(s, args.workers, "workers", cpus, 1..=1_024),
        max_body_bytes: to_usize(size(
            s,
            args.max_body_bytes,
            "max_body_bytes",
            64 * MIB,
            1_024..=4 * GIB,
        )),
        max_rows: count(s, args.max_rows, "max_rows", 10_000, 1..=1_000_000),
        max_buffered_bytes: to_usize(size(
            s,
            args.max_buffered_bytes,
            "max_buffered_bytes",
            512 * MIB,
            64 * KIB..=1_024 * GIB,
        )),
        max_connections: count(s, args.max_connections, "max_connections", 10_000, 1..=1_000_000),
        max_in_flight: count(s, args.max_in_flight, "max_in_flight", 1_024, 1..=1_000_000),
        max_lag: ranged(s, args.max_lag, "max_lag", ms(500), ms(1)..=ms(60_000)),
        max_label_streams: count(s, args.max_label_streams, "max_label_streams", 8, 1..=1_024),
        max_h2_streams: {
            let streams = number(s, args.max_h2_streams, "max_h2_streams", 256, 1..=65_536);
            u32::try_from(streams).unwrap_or(u32::MAX)
        },
        max_head_bytes: to_usize(size(s, args.max_head_bytes, "max_head_bytes", 32 * KIB, 1_024..=MIB)),
        header_timeout: ranged(s, args.header_timeout, "header_timeout", ms(5_000), time.clone()),
        body_timeout: ranged(s, args.body_timeout, "body_timeout", ms(30_000), time.clone()),
        body_idle_timeout: ranged(s, args.body_idle_timeout, "body_idle_timeout", ms(10_000), time.clone()),
        write_timeout: ranged(s, args.write_timeout, "write_timeout", ms(30_000), time.clone()),
        default_timeout: ranged(s, args.default_timeout, "default_timeout", ms(30_000), time.clone()),
        idle_timeout: ranged(s, args.idle_timeout, "idle_timeout", ms(75_000), time.clone()),
        shutdown_grace: ranged(
            s,
            args.shutdown_grace,
            "shutdown_grace",
            ms(20_000),
            ms(0)..=ms(3_600_000),
        ),
        shutdown_linger: ranged(
            s,
            args.shutdown_linger,
            "shutdown_linger",
            ms(1_000),
            ms(0)..=ms(3_600_000),
        ),
        shutdown_delay: ranged(s, args.shutdown_delay, "shutdown_delay", ms(0), ms(0)..=ms(3_600_000)),
        settle_ms: number(s, args.settle_ms, "settle_ms", 500, 1..=600_000),
        poll: ranged(s, args.poll, "poll", ms(10_000), ms(10)..=ms(3_600_000)),
        gone: ranged(s, args.gone, "gone", ms(60_000), ms(10)..=ms(86_400_000)),
        max_model_bytes: size(s, args.max_model_bytes, "max_model_bytes", 2 * GIB, 1_024..=1_024 * GIB),
        pins: plain(s, args.pins, "pins", true),
        repository_control: plain(s, args.repository_control, "repository_control", false),
        retrain_commands: plain(s, args.retrain_commands, "retrain_commands", false),
        recorder_percent: number(s, args.recorder_percent, "recorder_percent", 3, 1..=100),
        runner_path: optional(s, args.runner_path.clone(), "runner_path"),
        sandbox: plain(s, args.sandbox, "sandbox", SandboxPolicy::Prefer),
        onnxruntime_sha256: sha256(s, args.onnxruntime_sha256.clone()),
        auth_keys: s.table("auth", |s| optional(s, args.auth_keys.clone(), "keys")),
        tls: s.table("tls", |s| tls::read(s, args)),
        runner: s.table("runner", |s| runner(s, args)),
        webhook: s.has_table("webhook", webhook::read),
        retention: s.table("retention", |s| retention::retention(s, args)),
        shadow_budget: s.table("shadow", |s| shadow::shadow(s, args)),
    }
}

fn sha256(s: &mut Section<'_>, flag: Option<String>) -> Option<String> {
    let rule = "must be a SHA-256: 64 hexadecimal digits";
    let file = s.opt_if("onnxruntime_sha256", |hash: &String| is_sha256(hash), rule);
    if flag.as_ref().is_some_and(|hash| !is_sha256(hash)) {
        s.fault(
            "onnxruntime_sha256",
            format!("flag or variable --onnxruntime-sha256 {rule}"),
        );
    }
    let (given, value) = (flag.is_some(), flag.or(file));
    s.note("onnxruntime_sha256", &value, given);
    value
}

/// Edges of histograms, in ascending order.
fn edges(s: &mut Section<'_>, args: &ServeArgs) -> Vec<Duration> {
    let range = Duration::from_millis(1)..=Duration::from_secs(900);
    let is_sound = |edges: &Vec<Duration>| edges.len() <= MOST_EDGES && edges.iter().all(|edge| range.contains(edge));
    let rule = format!("must be at most {MOST_EDGES} times between 1ms and 15m");
    let file = s.opt_if("metrics_edges", is_sound, &rule);
    let flag = args.metrics_edges.clone();
    if flag.as_ref().is_some_and(|edges| !is_sound(edges)) {
        s.fault("metrics_edges", format!("flag or variable --metrics-edges {rule}"));
    }
    let given = flag.is_some();
    let mut edges = flag.or(file).unwrap_or_default();
    edges.sort_unstable();
    s.note("metrics_edges", &edges, given);
    edges
}

fn runner(s: &mut Section<'_>, args: &ServeArgs) -> RunnerConfig {
    let ms = Duration::from_millis;
    let config = RunnerConfig {
        // What it may map, not what it holds: ONNX Runtime and its threads reserve more than they touch.
        memory_bytes: size(
            s,
            args.runner_memory_bytes,
            "memory_bytes",
            4 * GIB,
            256 * MIB..=1_024 * GIB,
        ),
        total_memory_bytes: total_memory(s, args),
        cpu_timeout: ranged(
            s,
            args.runner_cpu_timeout,
            "cpu_timeout",
            ms(2_000),
            ms(1)..=ms(3_600_000),
        ),
        wall_timeout: ranged(
            s,
            args.runner_wall_timeout,
            "wall_timeout",
            ms(30_000),
            ms(1)..=ms(3_600_000),
        ),
    };
    if config.wall_timeout < config.cpu_timeout {
        s.fault(
            "wall_timeout",
            "is shorter than cpu_timeout: a run's wall time includes its CPU time, so raise it",
        );
    }
    config
}

fn total_memory(s: &mut Section<'_>, args: &ServeArgs) -> Option<u64> {
    let smallest = 64 * MIB;
    let rule = format!("must be at least {smallest}: a single runner takes about as much");
    let file = s.opt_if("total_memory_bytes", |bytes: &Bytes| bytes.0 >= smallest, &rule);
    let flag = args.runner_total_memory_bytes;
    if flag.is_some_and(|bytes| bytes < smallest) {
        s.fault(
            "total_memory_bytes",
            format!("flag or variable --runner-total-memory-bytes {rule}"),
        );
    }
    let value = flag.or(file.map(|bytes| bytes.0));
    s.note("total_memory_bytes", &value, flag.is_some());
    value
}

/// What no single key can get wrong.
fn cross_check(s: &Section<'_>, config: &ServerConfig) {
    if config.auth_keys.is_none() && !config.admin_listen.ip().to_canonical().is_loopback() {
        s.fault(
            "admin_listen",
            format!(
                "{} is open to the network, and without keys anybody could give orders there: set admin_listen to a \
                 loopback address, such as 127.0.0.1:{}, or auth.keys to a file of keys",
                config.admin_listen,
                config.admin_listen.port()
            ),
        );
    }
    let mut taken = Vec::new();
    let listeners = [
        ("listen", Some(config.listen)),
        ("grpc_listen", Some(config.grpc_listen)),
        ("admin_listen", Some(config.admin_listen)),
        ("metrics_listen", config.metrics_listen),
    ];
    for (key, address) in listeners {
        let Some(address) = address.filter(|a| a.port() != 0) else {
            continue;
        };
        if let Some((other, _)) = taken.iter().find(|(_, known)| *known == address) {
            s.fault(
                key,
                format!("{address} is taken by {other}: give each listener a port of its own"),
            );
        }
        taken.push((key, address));
    }
    if config.state.starts_with(&config.models) {
        s.fault(
            "state",
            format!(
                "{} lies in the models directory, where it would be taken for a model: move it out",
                config.state.display()
            ),
        );
    }
}

/// A setting of which any sound value is good.
fn plain<T: Value + Shown>(s: &mut Section<'_>, flag: Option<T>, key: &'static str, default: T) -> T {
    let file = s.opt(key);
    let (given, value) = (flag.is_some(), flag.or(file).unwrap_or(default));
    s.note(key, &value, given);
    value
}

/// The same of one that may be absent.
fn optional<T: Value + Shown>(s: &mut Section<'_>, flag: Option<T>, key: &'static str) -> Option<T> {
    let file = s.opt(key);
    let (given, value) = (flag.is_some(), flag.or(file));
    s.note(key, &value, given);
    value
}

/// A setting with limits. The file's value is checked even where a flag overrules it.
fn limited<T: Value, N: Copy + PartialOrd + Shown>(
    s: &mut Section<'_>,
    flag: Option<N>,
    key: &'static str,
    default: N,
    range: &RangeInclusive<N>,
    unwrap: impl Fn(&T) -> N,
    show: impl Fn(N) -> String,
) -> N {
    let rule = format!("must lie between {} and {}", show(*range.start()), show(*range.end()));
    let file = s.opt_if(key, |value| range.contains(&unwrap(value)), &rule);
    let value = match flag {
        Some(value) if range.contains(&value) => value,
        Some(value) => {
            let flag = key.replace('_', "-");
            s.fault(key, format!("flag or variable --{flag} {}: {rule}", show(value)));
            default
        }
        None => file.as_ref().map_or(default, unwrap),
    };
    s.note(key, &value, flag.is_some());
    value
}

fn shown<N: fmt::Display>(number: N) -> String {
    number.to_string()
}

fn number(s: &mut Section<'_>, flag: Option<u64>, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
    limited::<u64, u64>(s, flag, key, default, &range, |n| *n, shown)
}

fn count(s: &mut Section<'_>, flag: Option<u64>, key: &'static str, default: u64, range: RangeInclusive<u64>) -> usize {
    to_usize(number(s, flag, key, default, range))
}

fn size(s: &mut Section<'_>, flag: Option<u64>, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
    limited::<Bytes, u64>(s, flag, key, default, &range, |b| b.0, shown)
}

fn ranged(
    s: &mut Section<'_>,
    flag: Option<Duration>,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let show = |time| crate::span::Span::Time(time).to_string();
    limited::<Duration, Duration>(s, flag, key, default, &range, |t| *t, show)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
