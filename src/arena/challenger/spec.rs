//! What a challenger is given and what it tells.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::arena::sandbox::RunnerLimits;
use crate::batch::Batch;
use crate::container::Pressure;
use crate::interference::Gate;
use crate::model::head::Head;
use crate::model::layout::Layout;
use crate::score::{Outcome, VersionNo};

/// What to shadow-run, and within which bounds.
#[derive(Debug, Clone)]
pub struct ChallengerSpec {
    /// Goes on every report.
    pub version: VersionNo,
    /// Names the thread.
    pub name: String,
    /// The stored file; external data lies beside it.
    pub path: PathBuf,
    /// What its bytes must be at each load; `None`: whatever they are.
    pub digest: Option<String>,
    /// How its inputs are filled.
    pub layout: Layout,
    /// How its outputs are read.
    pub head: Head,
    /// Rows may be merged into one run.
    pub batched: bool,
    /// Most rows in one run.
    pub max_batch: usize,
    /// Most rows that wait. Lower it where rows are large: a waiting row keeps its whole request in memory.
    pub queue_rows: usize,
    /// CPU time for one run.
    pub cpu_limit: Duration,
    /// CPU time that each row of a run adds.
    pub cpu_limit_per_row: Duration,
    /// Time after which a run that got too little CPU time is given up.
    pub wall_limit: Duration,
    /// CPU time for loading; wall time is ten times as much, and no less than the runs'.
    pub load_cpu_limit: Duration,
    /// Crashes and CPU overruns after which the version is quarantined.
    pub crashes_allowed: u32,
    /// Memory and scheduling of the runner.
    pub limits: RunnerLimits,
    /// Whether the container is being slowed: shadows rest then.
    pub pressure: Arc<Pressure>,
    /// Whether shadow work may begin, and how much of it.
    pub gate: Arc<Gate>,
}

impl ChallengerSpec {
    /// A version with the usual bounds: nothing merged, 65,536 rows waiting, 2 s + 10 ms per row, three crashes.
    #[must_use]
    pub fn new(version: VersionNo, name: String, path: PathBuf, layout: Layout, head: Head) -> Self {
        Self {
            version,
            name,
            path,
            digest: None,
            layout,
            head,
            batched: false,
            max_batch: 64,
            queue_rows: 65_536,
            cpu_limit: Duration::from_secs(2),
            cpu_limit_per_row: Duration::from_millis(10),
            wall_limit: Duration::from_secs(30),
            load_cpu_limit: Duration::from_secs(60),
            crashes_allowed: 3,
            limits: RunnerLimits::default(),
            pressure: Arc::default(),
            gate: Arc::default(),
        }
    }
}

/// Rows of one request, on offer.
#[derive(Debug, Clone)]
pub struct ShadowWork {
    /// Id of the first row; the k-th one has `first_id + k`.
    pub first_id: i64,
    /// The request's rows.
    pub batch: Arc<Batch>,
    /// Which of them.
    pub rows: Range<usize>,
}

/// What became of some rows: one run's, or those that were shed together.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowReport {
    /// Of the spec.
    pub version: VersionNo,
    /// Row id and outcome.
    pub outcomes: Vec<(i64, Outcome)>,
    /// From filling the inputs to reading the scores; zero where nothing ran.
    pub compute: Duration,
}

/// What the registry must know of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerEvent {
    /// Its model is loaded for the first time.
    Ready {
        /// Of the spec.
        version: VersionNo,
    },
    /// It was replaced, and the model is loaded again.
    Restarted {
        /// Of the spec.
        version: VersionNo,
        /// Why the last one ended.
        reason: String,
    },
    /// Its stored bytes are not there, or not what their digest says; it is not to blame, and tries again.
    NoBytes {
        /// Of the spec.
        version: VersionNo,
        /// What is wrong with them.
        reason: String,
    },
    /// It will not be started again.
    Quarantine {
        /// Of the spec.
        version: VersionNo,
        /// The last crash.
        reason: String,
    },
}
