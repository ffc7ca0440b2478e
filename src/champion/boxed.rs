//! A version that runs in processes of its own: runners at normal priority, and a warm spare.
//!
//! Always holds: a process that dies takes along only the runs inside it, and those are run once more, on the spare, which
//! takes its place at once; a new spare is started by a thread of the pool's own. A row that ends two processes is refused
//! and its digest is remembered for a while, so that whoever sends it again ends none. Runs of several rows that end a
//! process are not run again as they are: they fail, and whoever asked takes them apart, so that only the guilty row is
//! blamed. A process that was stopped, or that sleeps on a run, counts as dead within some tens of milliseconds.
//! Leaves to others: queueing and merging (`crew`), taking apart (`answer::rows`), the previous champion (`answer`).

mod killers;
mod pool;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use crate::arena::{RunnerLimits, Spawner};
use crate::metrics::ModelMetrics;

pub(super) use pool::{Pool, WarmUp};
pub(super) use run::{Quick, Resume, Worker};

/// What to run in processes, and within which bounds.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The stored file; external data lies beside it.
    pub path: PathBuf,
    /// What its bytes must be at each start.
    pub digest: String,
    /// Starts the processes.
    pub spawner: Spawner,
    /// CPU time for one run.
    pub cpu_limit: Duration,
    /// Time after which a run that got too little CPU time is given up.
    pub wall_limit: Duration,
    /// Memory of each process.
    pub memory_bytes: u64,
    /// Where processes that were started again are counted.
    pub metrics: ModelMetrics,
}

impl ProcessSpec {
    /// CPU time that each row of a run adds, as in a challenger's runner.
    const PER_ROW: Duration = Duration::from_millis(10);
    /// CPU time for loading; wall time is ten times as much.
    const LOAD: Duration = Duration::from_secs(60);

    fn limits(&self) -> RunnerLimits {
        RunnerLimits {
            data_bytes: Some(self.memory_bytes),
            // Whoever answers clients does not give way to everybody else.
            idle: false,
            ..RunnerLimits::default()
        }
    }
}
