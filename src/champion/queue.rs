//! What waits for a version's threads.
//!
//! Always holds: what waits is bounded in requests and in rows; whoever nobody waits for any more is never handed out,
//! and leaves its place to others; nothing is held back for more to come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something that waits.
pub(super) trait Waiting {
    /// Its rows; at least one, for what has none would wait in any number.
    fn rows(&self) -> usize;
    /// Nobody waits for it any more.
    fn is_over(&self) -> bool;
    /// It may share a run with this one.
    fn joins(&self, first: &Self) -> bool;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<J> {
    line: Mutex<Line<J>>,
    arrived: Condvar,
    places_rows: usize,
}

#[derive(Debug)]
struct Line<J> {
    waiting: VecDeque<J>,
    rows: usize,
    closed: bool,
}

impl<J: Waiting> Queue<J> {
    /// Beyond the places that are given, as many may wait as have no more rows than this together.
    pub(super) fn new(places_rows: usize) -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: VecDeque::new(),
                rows: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
            places_rows,
        }
    }

    /// Puts a request at the end, where it is one of at most so many that wait, or gives it back; tells how many wait.
    pub(super) fn push(&self, job: J, places: usize) -> Result<usize, J> {
        let mut gone = Vec::new();
        let mut line = self.line();
        if self.is_full(&line, &job, places) {
            line.give_up(&mut gone);
        }
        if line.closed || self.is_full(&line, &job, places) {
            return Err(job);
        }
        line.rows += job.rows();
        line.waiting.push_back(job);
        let waiting = line.waiting.len();
        drop(line);
        self.arrived.notify_one();
        Ok(waiting)
    }

    /// The first that waits and those that may share its run, up to so many rows. Waits for one where there is none;
    /// `None` once the queue is closed.
    pub(super) fn take(&self, most_rows: usize) -> Option<Vec<J>> {
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
            if let Some(taken) = line.share(most_rows) {
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

    fn is_full(&self, line: &Line<J>, job: &J, places: usize) -> bool {
        line.waiting.len() >= places && line.rows.saturating_add(job.rows()) > self.places_rows
    }

    fn line(&self) -> MutexGuard<'_, Line<J>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Waiting> Line<J> {
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

    fn share(&mut self, most_rows: usize) -> Option<Vec<J>> {
        let first = self.waiting.pop_front()?;
        let mut rows = first.rows();
        let mut taken = vec![first];
        for job in std::mem::take(&mut self.waiting) {
            let joins = taken.first().is_some_and(|first| job.joins(first));
            if joins && rows.saturating_add(job.rows()) <= most_rows {
                rows += job.rows();
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
    struct One(u32, usize, Arc<AtomicBool>);

    impl Waiting for One {
        fn rows(&self) -> usize {
            self.1
        }
        fn is_over(&self) -> bool {
            self.2.load(Ordering::Relaxed)
        }
        fn joins(&self, first: &Self) -> bool {
            self.0 % 2 == first.0 % 2
        }
    }

    fn one(number: u32, rows: usize) -> One {
        One(number, rows, Arc::default())
    }

    fn taken(queue: &Queue<One>, most: usize) -> Vec<u32> {
        queue.take(most).unwrap().iter().map(|one| one.0).collect()
    }

    #[test]
    fn a_run_is_shared_by_those_that_wait_and_fit_in_the_order_they_came() {
        let queue = Queue::new(0);
        for (number, rows) in [(1, 2), (2, 1), (3, 3), (5, 9), (7, 1), (4, 1)] {
            queue.push(one(number, rows), 10).unwrap();
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
    fn whoever_finds_no_place_is_given_back_at_once() {
        let queue = Queue::new(5);
        for number in 0..2 {
            queue.push(one(number, 1), 2).unwrap();
        }
        assert_eq!(queue.push(one(2, 3), 2).unwrap(), 3);
        assert_eq!(queue.push(one(3, 1), 2).unwrap_err().0, 3, "the rows are taken");
        queue.close();
        assert!(queue.push(one(4, 1), 2).is_err() && queue.take(1).is_none());
    }

    #[test]
    fn whoever_gives_up_leaves_its_place_and_is_never_handed_out() {
        let queue = Queue::new(0);
        let (first, second) = (one(1, 1), one(2, 1));
        let gives_up = Arc::clone(&first.2);
        queue.push(first, 2).unwrap();
        queue.push(second, 2).unwrap();
        assert!(queue.push(one(3, 1), 2).is_err());
        gives_up.store(true, Ordering::Relaxed);
        queue.push(one(4, 1), 2).unwrap();
        assert_eq!(taken(&queue, 9), [2, 4]);
    }
}
