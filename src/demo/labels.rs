//! Which labels may be sent, which are on their way and which have been acknowledged.
//!
//! Always holds: a row's label is handed out once, in row order, and only when the row `delay` rows later has been
//! answered (or the stream has ended).

use std::collections::BTreeSet;
use std::ops::Range;

/// The label queue of a replay over `rows`.
#[derive(Debug)]
pub struct Labels {
    rows: Range<usize>,
    delay: usize,
    /// Every row below it has been answered.
    answered: usize,
    /// Answered rows at or above `answered`.
    early: BTreeSet<usize>,
    /// Every label below it has been handed out.
    handed_out: usize,
    /// First rows of the batches on their way.
    on_the_way: BTreeSet<usize>,
}

impl Labels {
    /// Nothing answered yet.
    #[must_use]
    pub fn new(rows: Range<usize>, delay: usize) -> Self {
        Self {
            answered: rows.start,
            handed_out: rows.start,
            rows,
            delay,
            early: BTreeSet::new(),
            on_the_way: BTreeSet::new(),
        }
    }

    /// The row was answered, or failed for good.
    pub fn answer(&mut self, row: usize) {
        self.early.insert(row);
        while self.early.remove(&self.answered) {
            self.answered += 1;
        }
    }

    /// Every label below this row is known by now.
    fn known(&self) -> usize {
        if self.answered >= self.rows.end {
            self.rows.end
        } else {
            self.answered.saturating_sub(self.delay).max(self.handed_out)
        }
    }

    /// The next labels to send: at least `min` (fewer only at the end of the stream), at most `max`.
    pub fn take(&mut self, min: usize, max: usize) -> Option<Range<usize>> {
        let known = self.known();
        let waiting = known - self.handed_out;
        let last = known == self.rows.end;
        if waiting == 0 || (waiting < min && !last) {
            return None;
        }
        let batch = self.handed_out..known.min(self.handed_out + max);
        self.handed_out = batch.end;
        self.on_the_way.insert(batch.start);
        Some(batch)
    }

    /// The batch has been answered.
    pub fn acknowledge(&mut self, batch: &Range<usize>) {
        self.on_the_way.remove(&batch.start);
    }

    /// The first row whose label is not known to be on disk.
    #[must_use]
    pub fn oldest_open(&self) -> usize {
        self.on_the_way.first().copied().unwrap_or(self.handed_out)
    }

    /// True when every label has been acknowledged.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.handed_out == self.rows.end && self.on_the_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_leaves_before_the_row_a_delay_later_is_answered() {
        let mut labels = Labels::new(100..110, 3);
        for row in [101, 102, 103, 104] {
            labels.answer(row);
            assert_eq!(labels.take(1, 9), None, "row 100 is not answered yet");
        }
        labels.answer(100);
        assert_eq!(labels.take(3, 9), None, "two known are fewer than three");
        assert_eq!(labels.take(1, 1), Some(100..101));
        assert_eq!(labels.take(1, 9), Some(101..102));
        assert_eq!(labels.oldest_open(), 100);
        labels.acknowledge(&(100..101));
        assert_eq!(labels.oldest_open(), 101);
    }

    #[test]
    fn at_the_end_every_label_leaves_once() {
        let mut labels = Labels::new(0..10, 48);
        (0..10).for_each(|row| labels.answer(row));
        let mut sent = Vec::new();
        while let Some(batch) = labels.take(8, 4) {
            sent.extend(batch.clone());
            assert!(!labels.is_done());
            labels.acknowledge(&batch);
        }
        assert_eq!(sent, (0..10).collect::<Vec<_>>());
        assert!(labels.is_done());
    }
}
