//! Rows on their way through a run: cut from offers, put together by runs of neighbours.
//!
//! Always holds: a group's rows keep their order, and the k-th score belongs to the k-th row.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::ShadowWork;
use crate::batch::Batch;

/// One row and its id.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: i64,
    batch: Arc<Batch>,
    row: usize,
}

impl Row {
    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(super) fn number(&self) -> usize {
        self.row
    }
}

/// What was taken from the queue and not run yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    work: VecDeque<ShadowWork>,
    rows: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, work: ShadowWork) {
        self.rows += work.rows.len();
        self.work.push_back(work);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The oldest rows, `count` at most.
    pub(super) fn take(&mut self, count: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < count
            && let Some(work) = self.work.front_mut()
        {
            let Some(row) = work.rows.next() else {
                self.work.pop_front();
                continue;
            };
            rows.push(Row {
                id: work.first_id,
                batch: Arc::clone(&work.batch),
                row,
            });
            work.first_id = work.first_id.wrapping_add(1);
        }
        self.rows -= rows.len();
        rows
    }
}

/// The same rows as stretches of their batches, which is how a layout copies them.
pub(super) fn stretches(rows: &[Row]) -> Vec<(&Batch, Range<usize>)> {
    let mut parts: Vec<(&Batch, Range<usize>)> = Vec::new();
    for row in rows {
        match parts.last_mut() {
            Some((batch, range)) if std::ptr::eq(*batch, row.batch()) && range.end == row.row => range.end += 1,
            _ => parts.push((row.batch(), row.row..row.row + 1)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(first_id: i64, rows: Range<usize>) -> ShadowWork {
        let batch = Batch::Tensors {
            inputs: Vec::new(),
            rows: 9,
        };
        ShadowWork {
            first_id,
            batch: Arc::new(batch),
            rows,
        }
    }

    #[test]
    fn every_row_comes_out_once_with_its_own_id() {
        let mut backlog = Backlog::default();
        backlog.push(work(100, 2..5));
        backlog.push(work(7, 0..1));
        backlog.push(work(50, 0..4));
        let mut seen = Vec::new();
        while backlog.rows() > 0 {
            seen.extend(backlog.take(3).into_iter().map(|row| (row.id, row.row)));
        }
        assert_eq!(
            seen,
            [(100, 2), (101, 3), (102, 4), (7, 0), (50, 0), (51, 1), (52, 2), (53, 3)]
        );
    }

    #[test]
    fn neighbours_of_one_request_make_one_stretch() {
        let mut backlog = Backlog::default();
        backlog.push(work(0, 2..5));
        backlog.push(work(9, 5..7));
        let mut rows = backlog.take(9);
        rows.remove(1);
        let ranges: Vec<_> = stretches(&rows).into_iter().map(|(_, range)| range).collect();
        assert_eq!(ranges, [2..3, 4..5, 5..7]);
    }
}
