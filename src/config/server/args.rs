//! The command line's side of the server's settings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::value::{address, bytes, duration, policy};
use super::shadow::{ShadowBudget, budget};
use crate::arena::SandboxPolicy;

/// The flags of `dethrone serve`; each has its `DETHRONE_…` variable and its key in `dethrone.toml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// Those that came from the environment, by their names here
    #[arg(skip)]
    pub from_environment: BTreeSet<String>,
    /// Settings file; `dethrone.toml` when it is there
    #[arg(long, env = "DETHRONE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of models [default: models]
    #[arg(long, env = "DETHRONE_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Directory of the ledger and the content store [default: state]
    #[arg(long, env = "DETHRONE_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// HTTP data listener [default: 127.0.0.1:8080]
    #[arg(long, env = "DETHRONE_LISTEN", value_name = "ADDR", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// gRPC data listener [default: 127.0.0.1:8081]
    #[arg(long, env = "DETHRONE_GRPC_LISTEN", value_name = "ADDR", value_parser = address)]
    pub grpc_listen: Option<SocketAddr>,
    /// Admin listener; on loopback, unless there are keys [default: 127.0.0.1:8082]
    #[arg(long, env = "DETHRONE_ADMIN_LISTEN", value_name = "ADDR", value_parser = address)]
    pub admin_listen: Option<SocketAddr>,
    /// Listener for metrics alone [default: none]
    #[arg(long, env = "DETHRONE_METRICS_LISTEN", value_name = "ADDR", value_parser = address)]
    pub metrics_listen: Option<SocketAddr>,
    /// Edges of histograms of requests besides the built-in ones: the times that your objectives name [default: none]
    #[arg(long, env = "DETHRONE_METRICS_EDGES", value_name = "TIME", value_delimiter = ',', value_parser = duration)]
    pub metrics_edges: Option<Vec<Duration>>,
    /// Scrapes have the names of NVIDIA Triton (`nv_inference_…`) too [default: false]
    #[arg(long, env = "DETHRONE_METRICS_TRITON", value_name = "BOOL")]
    pub metrics_triton: Option<bool>,
    /// Collector that takes spans by OpenTelemetry's protocol over HTTP, such as http://127.0.0.1:4318/v1/traces [default: none]
    #[arg(long, env = "DETHRONE_TRACE_ENDPOINT", value_name = "URL")]
    pub trace_endpoint: Option<String>,
    /// Share of the requests without a caller's trace that are told; a caller's own flag is followed [default: 0.01]
    #[arg(long, env = "DETHRONE_TRACE_SAMPLE", value_name = "SHARE")]
    pub trace_sample: Option<f64>,
    /// Requests that take longer are logged with their phases and ids, ten a second at most [default: none]
    #[arg(long, env = "DETHRONE_SLOW_REQUEST", value_name = "TIME", value_parser = duration)]
    pub slow_request: Option<Duration>,
    /// Worker threads [default: one per available CPU]
    #[arg(long, env = "DETHRONE_WORKERS", value_name = "N")]
    pub workers: Option<u64>,
    /// Largest request body [default: 64MiB]
    #[arg(long, env = "DETHRONE_MAX_BODY_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub max_body_bytes: Option<u64>,
    /// Most rows in a request [default: 10000]
    #[arg(long, env = "DETHRONE_MAX_ROWS", value_name = "N")]
    pub max_rows: Option<u64>,
    /// Body bytes held by all requests together; beyond them large bodies are shed [default: 512MiB]
    #[arg(long, env = "DETHRONE_MAX_BUFFERED_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub max_buffered_bytes: Option<u64>,
    /// Most connections per listener [default: 10000]
    #[arg(long, env = "DETHRONE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<u64>,
    /// Most predictions answered at once, and as many requests with labels; more are shed [default: 1024]
    #[arg(long, env = "DETHRONE_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<u64>,
    /// Longest time that work may wait for a thread that serves requests; where it waits longer for a second, predictions are
    /// shed until it does not [default: 500ms]
    #[arg(long, env = "DETHRONE_MAX_LAG", value_name = "TIME", value_parser = duration)]
    pub max_lag: Option<Duration>,
    /// Most streams of labels at once; more are shed [default: 8]
    #[arg(long, env = "DETHRONE_MAX_LABEL_STREAMS", value_name = "N")]
    pub max_label_streams: Option<u64>,
    /// Most streams of one HTTP/2 connection at once; more are refused [default: 256]
    #[arg(long, env = "DETHRONE_MAX_H2_STREAMS", value_name = "N")]
    pub max_h2_streams: Option<u64>,
    /// Largest head of a request [default: 32KiB]
    #[arg(long, env = "DETHRONE_MAX_HEAD_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub max_head_bytes: Option<u64>,
    /// Longest time for a request's head [default: 5s]
    #[arg(long, env = "DETHRONE_HEADER_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub header_timeout: Option<Duration>,
    /// Longest time for a request's body [default: 30s]
    #[arg(long, env = "DETHRONE_BODY_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub body_timeout: Option<Duration>,
    /// Longest time between two pieces of a request's body [default: 10s]
    #[arg(long, env = "DETHRONE_BODY_IDLE_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub body_idle_timeout: Option<Duration>,
    /// A client takes its answer, or 16 KiB of it, in this time, or is cut [default: 30s]
    #[arg(long, env = "DETHRONE_WRITE_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub write_timeout: Option<Duration>,
    /// Time for the answer to a request that brings no deadline; past it what still waits is 504 [default: 30s]
    #[arg(long, env = "DETHRONE_DEFAULT_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub default_timeout: Option<Duration>,
    /// An idle connection is closed after this time [default: 75s]
    #[arg(long, env = "DETHRONE_IDLE_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub idle_timeout: Option<Duration>,
    /// Time for requests in flight at shutdown [default: 20s]
    #[arg(long, env = "DETHRONE_SHUTDOWN_GRACE", value_name = "TIME", value_parser = duration)]
    pub shutdown_grace: Option<Duration>,
    /// At shutdown, idle connections have this long to ask once more before they are closed [default: 1s]
    #[arg(long, env = "DETHRONE_SHUTDOWN_LINGER", value_name = "TIME", value_parser = duration)]
    pub shutdown_linger: Option<Duration>,
    /// At shutdown, accept connections for so long while saying "not ready", for balancers to notice [default: 0s]
    #[arg(long, env = "DETHRONE_SHUTDOWN_DELAY", value_name = "TIME", value_parser = duration)]
    pub shutdown_delay: Option<Duration>,
    /// A file in the models directory has settled after standing still this long [default: 500]
    #[arg(long, env = "DETHRONE_SETTLE_MS", value_name = "MS")]
    pub settle_ms: Option<u64>,
    /// The models directory is read again at least this often [default: 10s]
    #[arg(long, env = "DETHRONE_POLL", value_name = "TIME", value_parser = duration)]
    pub poll: Option<Duration>,
    /// A file gone for this long, while its directory can be read, retires its version [default: 60s]
    #[arg(long, env = "DETHRONE_GONE", value_name = "TIME", value_parser = duration)]
    pub gone: Option<Duration>,
    /// Largest model with its external data [default: 2GiB]
    #[arg(long, env = "DETHRONE_MAX_MODEL_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub max_model_bytes: Option<u64>,
    /// Whether a request may name its version [default: true]
    #[arg(long, env = "DETHRONE_PINS", value_name = "BOOL")]
    pub pins: Option<bool>,
    /// Repository load and unload on a data listener that is not on loopback [default: false]
    #[arg(long, env = "DETHRONE_REPOSITORY_CONTROL", value_name = "BOOL")]
    pub repository_control: Option<bool>,
    /// Whether the command that a model.toml names under `[retrain]` is run, as this user [default: false]
    #[arg(long, env = "DETHRONE_RETRAIN_COMMANDS", value_name = "BOOL")]
    pub retrain_commands: Option<bool>,
    /// How much of all processors recording rows may take before it sheds, in percent; 100: no limit [default: 3]
    #[arg(long, env = "DETHRONE_RECORDER_PERCENT", value_name = "N")]
    pub recorder_percent: Option<u64>,
    /// The binary that runners are started from [default: this one]
    #[arg(long, env = "DETHRONE_RUNNER_PATH", value_name = "FILE")]
    pub runner_path: Option<PathBuf>,
    /// Where the system cannot confine runners: `require` refuses to start, `prefer` says so and goes on [default: prefer]
    #[arg(long, env = "DETHRONE_SANDBOX", value_name = "POLICY", value_parser = policy)]
    pub sandbox: Option<SandboxPolicy>,
    /// SHA-256 of the library of ONNX Runtime, where it is none of the pinned ones [default: none]
    #[arg(long, env = "DETHRONE_ONNXRUNTIME_SHA256", value_name = "HEX")]
    pub onnxruntime_sha256: Option<String>,
    /// File of API keys, as `dethrone key new` makes its lines; without it nobody is asked for one [default: none]
    #[arg(long, env = "DETHRONE_AUTH_KEYS", value_name = "FILE")]
    pub auth_keys: Option<PathBuf>,
    /// PEM file with the certificate of the listeners and what leads from it to an authority [default: none]
    #[arg(long, env = "DETHRONE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key [default: none]
    #[arg(long, env = "DETHRONE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of authorities: only clients with a certificate by one of them may connect [default: none]
    #[arg(long, env = "DETHRONE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Listeners that speak TLS, where there is a certificate: of data, grpc, admin, metrics [default: all]
    #[arg(long, env = "DETHRONE_TLS_LISTENERS", value_name = "LIST", value_delimiter = ',')]
    pub tls_listeners: Option<Vec<String>>,
    /// Memory of one runner [default: 4GiB]
    #[arg(long, env = "DETHRONE_RUNNER_MEMORY_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub runner_memory_bytes: Option<u64>,
    /// Memory of all runners together; what does not fit waits [default: 60 % of the container's, or the machine's]
    #[arg(long, env = "DETHRONE_RUNNER_TOTAL_MEMORY_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub runner_total_memory_bytes: Option<u64>,
    /// CPU time of a runner for one run [default: 2s]
    #[arg(long, env = "DETHRONE_RUNNER_CPU_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub runner_cpu_timeout: Option<Duration>,
    /// Wall time of a runner for one run; past it a shadow has starved [default: 30s]
    #[arg(long, env = "DETHRONE_RUNNER_WALL_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub runner_wall_timeout: Option<Duration>,
    /// Features and context are kept this long [default: 30d]
    #[arg(long, env = "DETHRONE_RETENTION_INPUTS_AGE", value_name = "TIME", value_parser = duration)]
    pub retention_inputs_age: Option<Duration>,
    /// Features and context of all models together; past it the oldest go [default: 20GiB]
    #[arg(long, env = "DETHRONE_RETENTION_INPUTS_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub retention_inputs_bytes: Option<u64>,
    /// Scores, ids and labels are kept this long, and never shorter than the model's label horizon [default: 120d]
    #[arg(long, env = "DETHRONE_RETENTION_ROWS_AGE", value_name = "TIME", value_parser = duration)]
    pub retention_rows_age: Option<Duration>,
    /// The whole ledger; past it inputs go first, and then the oldest rows even before their labels [default: 64GiB]
    #[arg(long, env = "DETHRONE_RETENTION_LEDGER_BYTES", value_name = "SIZE", value_parser = bytes)]
    pub retention_ledger_bytes: Option<u64>,
    /// How many times as long as without shadow work the 99th percentile of answers may be before it is slowed; or `off` [default: 1.05]
    #[arg(long, env = "DETHRONE_SHADOW_BUDGET", value_name = "TIMES", value_parser = budget)]
    pub shadow_budget: Option<ShadowBudget>,
}
