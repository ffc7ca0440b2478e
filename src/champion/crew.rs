//! A version's own threads, each with a session of its own, and the queue that they share.
//!
//! Always holds: a request whose deadline has passed, or whose client has left, is not run; what waits when a thread
//! becomes free shares its run where the version is batched, and no thread waits for more to come; of a shared run that
//! fails only the guilty request fails, because it is taken apart.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answer::Begun;
use super::answer::outputs::Outputs;
use super::answer::rows::{self, Run};
use super::boxed::Resume;
use super::queue::{Queue, Waiting};
use super::{VersionInfo, Which};
use crate::batch::Batch;
use crate::error::{Error, Kind};

/// As many requests may wait for a thread as it runs in this time: a client that would wait longer does better elsewhere.
const LONGEST: Duration = Duration::from_secs(1);
/// Of the slowest version so many may wait all the same, of the quickest no more than so many: a waiting request keeps
/// its body in memory.
const WAITING: RangeInclusive<u128> = 4..=256;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Task {
    /// How the version is asked and read, as of the request.
    pub(super) info: Arc<VersionInfo>,
    pub(super) batch: Arc<Batch>,
    pub(super) which: Which,
    pub(super) outputs: Outputs,
    /// After this nobody waits for the answer.
    pub(super) deadline: Option<tokio::time::Instant>,
    /// How long it waits for a process to run in, once others have ended; `None`: as long as anybody waits for it.
    pub(super) patience: Option<Duration>,
    /// A run for it was begun elsewhere.
    pub(super) resume: Option<Box<Resume>>,
}

#[derive(Debug)]
struct Job {
    task: Task,
    /// Its rows may share a run.
    shares: bool,
    asked: Instant,
    reply: oneshot::Sender<Begun>,
}

impl Waiting for Job {
    fn rows(&self) -> usize {
        // An empty tensor has no rows, and takes a place all the same.
        self.task.which.rows(&self.task.batch).max(1)
    }

    fn is_over(&self) -> bool {
        self.reply.is_closed() || self.task.is_late()
    }

    fn joins(&self, first: &Self) -> bool {
        self.shares
            && first.shares
            && Arc::ptr_eq(&self.task.info, &first.task.info)
            && self.task.outputs.run == first.task.outputs.run
    }
}

impl Task {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|end| end <= tokio::time::Instant::now())
    }

    /// When it no longer waits for a process.
    fn until(&self, asked: Instant) -> Option<Instant> {
        let patience = self.patience.map(|patience| asked + patience);
        let deadline = self.deadline.map(tokio::time::Instant::into_std);
        patience.into_iter().chain(deadline).min()
    }

    fn answer(&self, run: &mut impl Run) -> Begun {
        rows::answer(&self.info, run, &self.batch, &self.which, &self.outputs)
    }
}

/// See the module. Its threads end, and free their sessions, once it is dropped.
#[derive(Debug)]
pub(super) struct Crew {
    queue: Arc<Queue<Job>>,
}

impl Crew {
    /// A thread for each of these, sharing runs of up to `max_batch` rows (1: no run is shared); one run takes `pace`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn start<R: Run + Send + 'static>(
        name: &str,
        runs: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator>,
        max_batch: usize,
        pace: Duration,
    ) -> std::io::Result<Self> {
        let runs = runs.into_iter();
        let places = LONGEST.as_nanos().checked_div(pace.as_nanos()).unwrap_or(u128::MAX);
        let places = usize::try_from(places.clamp(*WAITING.start(), *WAITING.end())).unwrap_or(1);
        // A thread that becomes free finds a full run, however slow it is.
        let rows = if max_batch > 1 { max_batch * runs.len() } else { 0 };
        let crew = Self {
            queue: Arc::new(Queue::new(places * runs.len(), rows)),
        };
        for mut run in runs {
            let queue = Arc::clone(&crew.queue);
            let thread = std::thread::Builder::new().name(format!("run {name}"));
            thread.spawn(move || {
                while let Some(jobs) = queue.take(max_batch) {
                    // The clients of a run that panics are told by their closed channels; the thread goes on.
                    let _ = catch_unwind(AssertUnwindSafe(|| serve(&mut run, jobs)));
                }
            })?;
        }
        Ok(crew)
    }

    /// Has it run.
    ///
    /// # Errors
    /// 429 when too many wait already, 504 when its time has come while it waited.
    pub(super) async fn ask(&self, task: Task) -> Result<Begun, Error> {
        let (reply, answer) = oneshot::channel();
        let (info, deadline) = (Arc::clone(&task.info), task.deadline);
        let job = Job {
            shares: matches!(task.which, Which::All) && task.resume.is_none() && rows::may_share(&info, &task.batch),
            asked: Instant::now(),
            task,
            reply,
        };
        self.queue.push(job).map_err(|_| {
            let text = format!("too many requests wait for version '{}': send fewer at once", info.name);
            Error::new(Kind::Overloaded, text).retry_after(1)
        })?;
        answer.await.map_err(|_| {
            if deadline.is_some_and(|end| end <= tokio::time::Instant::now()) {
                let text = "the deadline passed before the answer was there: allow more time or send fewer rows";
                return Error::new(Kind::Deadline, text);
            }
            Error::new(Kind::NoAnswer, "the run was ended by a fault of the program")
        })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn serve(run: &mut impl Run, jobs: Vec<Job>) {
    let start = Instant::now();
    let shared = if jobs.len() > 1 { together(run, &jobs) } else { None };
    // Who ended a process must not end another one together with the rows beside it.
    let are_suspect = jobs.len() > 1 && run.ended_one();
    let (spent, mut shared) = (start.elapsed(), shared.unwrap_or_default().into_iter());
    for mut job in jobs {
        let mut compute = spent;
        let mut begun = shared.next().filter(|begun| begun.missing() == 0).unwrap_or_else(|| {
            let start = Instant::now();
            run.begin(job.task.until(job.asked), job.task.resume.take());
            if are_suspect && matches!(job.task.which, Which::All) {
                job.task.which = Which::These((0..job.task.batch.rows()).collect());
            }
            let alone = job.task.answer(run);
            compute += start.elapsed();
            alone
        });
        begun.queue = start.duration_since(job.asked);
        begun.compute = compute;
        // Whoever has left meanwhile does not want it.
        let _ = job.reply.send(begun);
    }
}

/// One run for all of them; nothing where it fails or cannot be told apart by rows.
fn together(run: &mut impl Run, jobs: &[Job]) -> Option<Vec<Begun>> {
    let refuses = |job: &Job| rows::refuses_any(&job.task.info, run, &job.task.batch, job.rows());
    if run.is_wary() && jobs.iter().any(refuses) {
        return None;
    }
    let first = &jobs.first()?.task;
    let parts: Vec<_> = jobs.iter().map(|job| (&*job.task.batch, 0..job.rows())).collect();
    let rows: usize = jobs.iter().map(Job::rows).sum();
    let feeds = first.info.layout.feeds(&parts).ok()?;
    let start = Instant::now();
    run.begin(jobs.iter().filter_map(|job| job.task.until(job.asked)).min(), None);
    let results = run.run(&feeds, &first.outputs.run, rows).ok()?;
    first.info.counters.ran(rows, start.elapsed());
    if results
        .iter()
        .any(|tensor| tensor.shape().is_empty() || tensor.rows() != rows)
    {
        return None;
    }
    let mut from = 0;
    let mut begun = Vec::with_capacity(jobs.len());
    for job in jobs {
        let to = from + job.rows();
        let own = results.iter().map(|tensor| tensor.slice_rows(from, to));
        begun.push(rows::split(
            &job.task.info,
            own.collect::<Option<_>>()?,
            to - from,
            &job.task.outputs,
        ));
        from = to;
    }
    Some(begun)
}

#[cfg(test)]
mod tests;
