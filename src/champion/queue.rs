//! What waits for a version's threads.
//!
//! Always holds: what waits is bounded in requests and in rows; whoever nobody waits for any more is never handed out,
//! and leaves its place to others; nothing is held back for more to come; nobody is joined by others for whose sake the
//! answer would come too late.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Something that waits.
pub(super) trait Waiting {
    /// Its rows; at least one, for what has none would wait in any number.
    fn rows(&self) -> usize;
    /// Nobody waits for it any more.
    fn is_over(&self) -> bool;
    /// How long it is waited for still, if there is an end to that.
    fn left(&self) -> Option<Duration>;
    /// It may share a run with this one.
    fn joins(&self, first: &Self) -> bool;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<J> {
    line: Mutex<Line<J>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Line<J> {
    waiting: VecDeque<J>,
    rows: usize,
    closed: bool,
}

impl<J: Waiting> Queue<J> {
    /// With nobody in it.
    pub(super) fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: VecDeque::new(),
                rows: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
        }
    }

    /// Puts a request at the end, where it is one of at most so many that wait, or they have no more than so many rows
    /// together; or gives it back. Tells how many wait.
    pub(super) fn push(&self, job: J, places: (usize, usize)) -> Result<usize, J> {
        let mut gone = Vec::new();
        let mut line = self.line();
        if line.is_full(&job, places) {
            line.give_up(&mut gone);
        }
        if line.closed || line.is_full(&job, places) {
            return Err(job);
        }
        line.rows += job.rows();
        line.waiting.push_back(job);
        let waiting = line.waiting.len();
        drop(line);
        self.arrived.notify_one();
        Ok(waiting)
    }

    /// The first that waits and those that may share its run, up to so many rows and as long as a run of so many rows takes
    /// no longer than any of them waits. Waits for one where there is none; `None` once the queue is closed.
    pub(super) fn take(&self, most_rows: usize, run: impl Fn(usize) -> Duration) -> Option<Vec<J>> {
        let mut line = self.line();
        loop {
            if line.closed {
                return None;
            }
            let mut gone = Vec::new();
            line.give_up(&mut gone);
            if !gone.is_empty() {
                // Told at once, and not while others wait for the line.
                drop(line);
                drop(gone);
                line = self.line();
                continue;
            }
            if let Some(taken) = line.share(most_rows, &run) {
                return Some(taken);
            }
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets nobody in any more, and whoever waits go.
    pub(super) fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        let waiting = std::mem::take(&mut line.waiting);
        drop(line);
        drop(waiting);
        self.arrived.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    fn line(&self) -> MutexGuard<'_, Line<J>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Waiting> Line<J> {
    fn is_full(&self, job: &J, (requests, rows): (usize, usize)) -> bool {
        self.waiting.len() >= requests && self.rows.saturating_add(job.rows()) > rows
    }

    /// Moves whoever nobody waits for into `gone`, to be dropped once the line is free again.
    fn give_up(&mut self, gone: &mut Vec<J>) {
        if !self.waiting.iter().any(J::is_over) {
            return;
        }
        let (over, live): (VecDeque<J>, VecDeque<J>) =
            std::mem::take(&mut self.waiting).into_iter().partition(J::is_over);
        self.waiting = live;
        self.rows = self.waiting.iter().map(J::rows).sum();
        gone.extend(over);
    }

    fn share(&mut self, most_rows: usize, run: &impl Fn(usize) -> Duration) -> Option<Vec<J>> {
        let first = self.waiting.pop_front()?;
        let (mut rows, mut left) = (first.rows(), first.left());
        let mut taken = vec![first];
        if rows >= most_rows || self.waiting.is_empty() {
            self.rows = self.rows.saturating_sub(rows);
            return Some(taken);
        }
        for job in std::mem::take(&mut self.waiting) {
            let more = rows.saturating_add(job.rows());
            let joins = more <= most_rows && taken.first().is_some_and(|first| job.joins(first));
            // Reading the clock for those only that might join.
            let least = if joins {
                [left, job.left()].into_iter().flatten().min()
            } else {
                left
            };
            if joins && least.is_none_or(|left| run(more) <= left) {
                (rows, left) = (more, least);
                taken.push(job);
            } else {
                self.waiting.push_back(job);
            }
        }
        self.rows = self.rows.saturating_sub(rows);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug)]
    struct One(u32, usize, Arc<AtomicBool>, Option<Duration>);

    impl Waiting for One {
        fn rows(&self) -> usize {
            self.1
        }
        fn is_over(&self) -> bool {
            self.2.load(Ordering::Relaxed)
        }
        fn left(&self) -> Option<Duration> {
            self.3
        }
        fn joins(&self, first: &Self) -> bool {
            self.0 % 2 == first.0 % 2
        }
    }

    fn one(number: u32, rows: usize) -> One {
        One(number, rows, Arc::default(), None)
    }

    fn a_second_each(rows: usize) -> Duration {
        Duration::from_secs(rows as u64)
    }

    fn taken(queue: &Queue<One>, most: usize) -> Vec<u32> {
        queue
            .take(most, a_second_each)
            .unwrap()
            .iter()
            .map(|one| one.0)
            .collect()
    }

    #[test]
    fn a_run_is_shared_by_those_that_wait_and_fit_in_the_order_they_came() {
        let queue = Queue::new();
        for (number, rows) in [(1, 2), (2, 1), (3, 3), (5, 9), (7, 1), (4, 1)] {
            queue.push(one(number, rows), (10, 0)).unwrap();
        }
        assert_eq!(taken(&queue, 6), [1, 3, 7]);
        assert_eq!(taken(&queue, 6), [2, 4]);
        assert_eq!(
            taken(&queue, 6),
            [5],
            "one that is larger than a shared run has its own"
        );
    }

    #[test]
    fn nobody_waits_too_long_for_the_sake_of_others_in_the_run() {
        let queue = Queue::new();
        for (number, left) in [(1, None), (3, Some(9)), (5, Some(2)), (7, Some(3)), (9, None)] {
            let job = One(number, 1, Arc::default(), left.map(Duration::from_secs));
            queue.push(job, (10, 0)).unwrap();
        }
        // The third would be there after three seconds, the fourth at its last moment.
        assert_eq!(taken(&queue, 99), [1, 3, 7]);
        // Beside the first, whoever comes next would come too late for it.
        let job = One(11, 1, Arc::default(), Some(Duration::from_secs(1)));
        queue.push(job, (10, 0)).unwrap();
        assert_eq!(taken(&queue, 99), [5, 9]);
        assert_eq!(taken(&queue, 99), [11], "the first runs, in time or not");
    }

    #[test]
    fn whoever_finds_no_place_is_given_back_at_once() {
        let queue = Queue::new();
        for number in 0..2 {
            queue.push(one(number, 1), (2, 5)).unwrap();
        }
        assert_eq!(queue.push(one(2, 3), (2, 5)).unwrap(), 3);
        assert_eq!(queue.push(one(3, 1), (2, 5)).unwrap_err().0, 3, "the rows are taken");
        queue.close();
        assert!(queue.push(one(4, 1), (2, 5)).is_err() && queue.take(1, a_second_each).is_none());
    }

    #[test]
    fn whoever_gives_up_leaves_its_place_and_is_never_handed_out() {
        let queue = Queue::new();
        let (first, second) = (one(1, 1), one(2, 1));
        let gives_up = Arc::clone(&first.2);
        queue.push(first, (2, 0)).unwrap();
        queue.push(second, (2, 0)).unwrap();
        assert!(queue.push(one(3, 1), (2, 0)).is_err());
        gives_up.store(true, Ordering::Relaxed);
        queue.push(one(4, 1), (2, 0)).unwrap();
        assert_eq!(taken(&queue, 9), [2, 4]);
    }
}
