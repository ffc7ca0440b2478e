//! A version's own threads, each with a session of its own, and the queue that they share.
//!
//! Always holds: a request whose deadline has passed, or whose client has left, is not run; what waits when a thread
//! becomes free shares its run where the version is batched and rows that share one take less time than apart, and no
//! thread waits for more to come; of a shared run that fails only the guilty request fails, because it is taken apart; as
//! many wait as are likely to be answered in time, by how long requests have taken lately and how many were late all the
//! same ([`Service`]), and whoever would wait longer is refused at once.

mod service;

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answer::Begun;
use super::answer::outputs::Outputs;
use super::answer::rows::{self, Run};
use super::boxed::Resume;
use super::pace::Pace;
use super::queue::{Queue, Waiting};
use super::{VersionInfo, Which};
use crate::batch::Batch;
use crate::error::{Error, Kind};
use service::Service;

/// As many requests may wait for a thread as it runs in this time: a client that would wait longer does better elsewhere.
const LONGEST: Duration = Duration::from_secs(1);
/// Of the slowest version so many may wait all the same, of the quickest no more than so many: a waiting request keeps
/// its body in memory.
const WAITING: RangeInclusive<u128> = 4..=256;
/// Longest time after which a refused client is told to come again, in seconds.
const COME_AGAIN: u64 = 30;

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
    /// Kept or not once this goes.
    _promise: Option<Promise>,
    reply: oneshot::Sender<Begun>,
}

/// That a request, when it came, was likely to be answered by its deadline.
#[derive(Debug)]
struct Promise {
    service: Arc<Service>,
    end: tokio::time::Instant,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.end <= tokio::time::Instant::now() {
            self.service.was_late();
        }
    }
}

impl Waiting for Job {
    fn rows(&self) -> usize {
        self.task.rows()
    }

    fn is_over(&self) -> bool {
        self.reply.is_closed() || self.task.is_late()
    }

    fn left(&self) -> Option<Duration> {
        self.task.left()
    }

    fn joins(&self, first: &Self) -> bool {
        self.shares
            && first.shares
            && Arc::ptr_eq(&self.task.info, &first.task.info)
            && self.task.outputs.run == first.task.outputs.run
    }
}

impl Task {
    fn rows(&self) -> usize {
        // An empty tensor has no rows, and takes a place all the same.
        self.which.rows(&self.batch).max(1)
    }

    fn is_late(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    fn left(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.deadline.map(|end| end.saturating_duration_since(now))
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
    service: Arc<Service>,
    threads: usize,
    /// Most rows that share a run.
    shared_rows: usize,
}

impl Crew {
    /// A thread for each of these, sharing runs of up to `max_batch` rows (1: no run is shared) as far as that saves time;
    /// runs took as long as `pace` tells when the version was loaded.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn start<R: Run + Send + 'static>(
        name: &str,
        runs: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator>,
        max_batch: usize,
        pace: Pace,
    ) -> std::io::Result<Self> {
        let runs = runs.into_iter();
        let crew = Self {
            queue: Arc::new(Queue::new()),
            service: Arc::new(Service::new(pace)),
            threads: runs.len(),
            shared_rows: pace.worth(max_batch),
        };
        for mut run in runs {
            let (queue, service, most) = (Arc::clone(&crew.queue), Arc::clone(&crew.service), crew.shared_rows);
            let thread = std::thread::Builder::new().name(format!("run {name}"));
            thread.spawn(move || {
                while let Some(jobs) = queue.take(most, |rows| service.run(rows)) {
                    let (start, requests) = (Instant::now(), jobs.len());
                    let rows = jobs.iter().map(Job::rows).sum();
                    // The clients of a run that panics are told by their closed channels; the thread goes on.
                    let _ = catch_unwind(AssertUnwindSafe(|| serve(&mut run, jobs)));
                    service.took(start.elapsed(), requests, rows);
                }
            })?;
        }
        Ok(crew)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Has it run.
    ///
    /// # Errors
    /// 429 when too many wait already, 504 when its time has come while it waited.
    pub(super) async fn ask(&self, task: Task) -> Result<Begun, Error> {
        let (reply, answer) = oneshot::channel();
        let (info, deadline, asked) = (Arc::clone(&task.info), task.deadline, Instant::now());
        let left = deadline.map(|end| end.into_std().saturating_duration_since(asked));
        let places = self.places(left);
        let is_enough = left.is_some_and(|left| self.service.plan(left) >= self.service.run(task.rows()));
        let promise = |end| Promise {
            service: Arc::clone(&self.service),
            end,
        };
        let job = Job {
            shares: matches!(task.which, Which::All) && task.resume.is_none() && rows::may_share(&info, &task.batch),
            asked,
            _promise: deadline.filter(|_| is_enough).map(promise),
            task,
            reply,
        };
        let waiting = self.queue.push(job, places).map_err(|_| {
            let text = format!(
                "too many requests wait for version '{}' to answer in time: send fewer at once, or allow more time",
                info.name
            );
            let wait = self.service.each() * u32::try_from(self.queue.waiting()).unwrap_or(u32::MAX);
            let seconds = wait.as_secs().div_ceil(self.threads.max(1) as u64);
            Error::new(Kind::Overloaded, text).retry_after(seconds.clamp(1, COME_AGAIN))
        })?;
        let mut begun = answer.await.map_err(|_| {
            if deadline.is_some_and(|end| end <= tokio::time::Instant::now()) {
                let text = "the deadline passed before the answer was there: allow more time or send fewer rows";
                return Error::new(Kind::Deadline, text);
            }
            Error::new(Kind::NoAnswer, "the run was ended by a fault of the program")
        })?;
        begun.crowded = waiting.saturating_mul(2) > places.0;
        Ok(begun)
    }

    /// So many requests may wait, or so many rows, of which the last has `left` until its deadline.
    fn places(&self, left: Option<Duration>) -> (usize, usize) {
        let (each, threads) = (self.service.each(), self.threads as u128);
        let within = |time: Duration| time.as_nanos() / each.as_nanos().max(1);
        let most = within(LONGEST).clamp(*WAITING.start(), *WAITING.end());
        // Its own run takes time too, and the one that is under way. Whether the first of all is late is seen when its
        // turn comes.
        let full = self.service.run(self.shared_rows);
        let (requests, may_wait_for_a_full_run) = left.map_or((most, true), |left| {
            let plan = self.service.plan(left);
            let own = full.min(plan / 2).max(self.service.run(1));
            (most.min(within(plan.saturating_sub(own))), plan >= full * 2)
        });
        // A thread that becomes free finds a full run, however slow it is.
        let rows = match self.shared_rows > 1 && may_wait_for_a_full_run {
            true => self.shared_rows * self.threads,
            false => 0,
        };
        (usize::try_from(requests * threads).unwrap_or(usize::MAX).max(1), rows)
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
