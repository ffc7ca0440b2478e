//! What became of the rows of the last dwell at a version: covered, failed, what it said of them beside the champion.
//!
//! Always holds: what is counted lies within the dwell before the last pair, or at most a sixteenth of it before; the
//! memory is the same whatever the dwell. Only whole numbers: the same pairs give the same counts.

use serde::{Deserialize, Serialize};

use super::pair::{Entry, Kind, Seen};
use crate::span::{Clock, Span};

/// Parts of a dwell that are counted apart.
const PARTS: u64 = 16;
/// One more: the oldest and the newest are not whole.
const SLOTS: usize = 17;

/// What is counted of a part, or of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// All pairs.
    pub(super) rows: u64,
    /// Those that it had the features for.
    pub(super) covered: u64,
    /// Those that it failed on.
    pub(super) failed: u64,
    /// Those that it and the champion both gave a label of two classes.
    pub(super) labelled: u64,
    /// Positive ones of these, of the version, of the champion, and of both.
    pub(super) positive: u64,
    pub(super) champion_positive: u64,
    pub(super) both_positive: u64,
    /// Scores by tenth, of the version and of the champion, on rows that both scored.
    pub(super) tenths: [u32; TENTHS],
    pub(super) champion_tenths: [u32; TENTHS],
}

const TENTHS: usize = 10;

impl Counts {
    fn count(&mut self, entry: &Entry, champion: Seen) {
        self.rows += 1;
        self.covered += u64::from(entry.kind != Kind::Uncovered);
        self.failed += u64::from(entry.kind == Kind::Failed);
        if let (Some(own), Some(other)) = (entry.seen.positive, champion.positive) {
            self.labelled += 1;
            self.positive += u64::from(own);
            self.champion_positive += u64::from(other);
            self.both_positive += u64::from(own && other);
        }
        if let (Some(own), Some(other)) = (entry.seen.tenth, champion.tenth) {
            let places = [(&mut self.tenths, own), (&mut self.champion_tenths, other)];
            for (tenths, at) in places {
                if let Some(count) = tenths.get_mut(usize::from(at)) {
                    *count = count.saturating_add(1);
                }
            }
        }
    }

    fn add(mut self, other: &Self) -> Self {
        self.rows += other.rows;
        self.covered += other.covered;
        self.failed += other.failed;
        self.labelled += other.labelled;
        self.positive += other.positive;
        self.champion_positive += other.champion_positive;
        self.both_positive += other.both_positive;
        let tenths = self.tenths.iter_mut().zip(other.tenths);
        let champion = self.champion_tenths.iter_mut().zip(other.champion_tenths);
        for (sum, count) in tenths.chain(champion) {
            *sum = sum.saturating_add(count);
        }
        self
    }
}

/// A part of a dwell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Slot {
    /// Its number on the judge's clock.
    part: u64,
    counts: Counts,
}

/// The last dwell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    dwell: Span,
    /// The newest part.
    last: u64,
    /// Part `n` at place `n % SLOTS`.
    slots: [Slot; SLOTS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            dwell: Span::Rows(0),
            last: 0,
            slots: [Slot::default(); SLOTS],
        }
    }
}

impl Window {
    /// Counts a pair. Another dwell than before starts the counting anew. Where there is no dwell, all rows count.
    pub(super) fn push(&mut self, entry: &Entry, champion: Seen, clock: Clock, dwell: Span) {
        if self.dwell != dwell {
            *self = Self {
                dwell,
                ..Self::default()
            };
        }
        let (_, width) = measure(dwell);
        let place = match dwell {
            Span::Rows(_) => clock.row,
            Span::Time(_) => u64::try_from(clock.time_ms).unwrap_or(0),
        };
        let part = place / width;
        let at = usize::try_from(part % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.part < part {
            *slot = Slot {
                part,
                ..Slot::default()
            };
        }
        // A request time may lie before that of the row before; one from before the dwell no longer counts.
        if slot.part == part {
            slot.counts.count(entry, champion);
            self.last = self.last.max(part);
        }
    }

    /// What was counted in the last dwell.
    pub(super) fn counts(&self) -> Counts {
        let (length, width) = measure(self.dwell);
        let first = self.last.saturating_sub(length.div_ceil(width));
        let counted = self.slots.iter().filter(|slot| slot.part >= first);
        counted.fold(Counts::default(), |sum, slot| sum.add(&slot.counts))
    }
}

/// Length of the dwell and of its parts, in rows or milliseconds; without a dwell, one part that never ends.
fn measure(dwell: Span) -> (u64, u64) {
    let length = match dwell {
        Span::Rows(rows) => rows,
        Span::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    match length {
        0 => (u64::MAX, u64::MAX),
        length => (length, length.div_ceil(PARTS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(window: &mut Window, is_covered: bool, clock: Clock, dwell: Span) {
        let entry = Entry {
            version: crate::score::VersionNo(1),
            difference: 0.0,
            kind: if is_covered { Kind::Scored } else { Kind::Uncovered },
            classes: super::super::pair::Classes::Enough,
            seen: Seen {
                positive: Some(is_covered),
                tenth: Some(9),
            },
        };
        window.push(&entry, entry.seen, clock, dwell);
    }

    fn at(row: u64) -> Clock {
        Clock {
            row,
            time_ms: i64::try_from(row).unwrap() * 1_000,
        }
    }

    #[test]
    fn the_last_dwell_and_at_most_a_sixteenth_more_is_counted() {
        for dwell in [1u64, 2, 16, 17, 20, 336, 1_000] {
            for span in [Span::Rows(dwell), Span::Time(std::time::Duration::from_secs(dwell))] {
                let mut window = Window::default();
                for row in 1..=5 * dwell + 40 {
                    push(&mut window, row.is_multiple_of(2), at(row), span);
                    let Counts {
                        covered,
                        rows: of,
                        tenths,
                        ..
                    } = window.counts();
                    assert_eq!(u64::from(tenths[9]), of);
                    assert!(of >= row.min(dwell), "{span} at {row}: {of}");
                    assert!(of <= dwell + 2 * dwell.div_ceil(PARTS), "{span} at {row}: {of}");
                    assert!(covered.abs_diff(of - covered) <= 1, "{span} at {row}");
                }
            }
        }
    }

    #[test]
    fn times_that_go_back_and_leaps_are_taken() {
        let mut window = Window::default();
        let span = Span::Time(std::time::Duration::from_secs(160));
        for row in [1_000, 990, 995, 500, 0] {
            push(&mut window, true, at(row), span);
        }
        assert_eq!(window.counts().covered, 3, "what lies before the dwell is not counted");
        push(&mut window, false, at(1_000_000), span);
        assert_eq!((window.counts().covered, window.counts().rows), (0, 1));
        for row in [5, 1_000_000_000, 7] {
            push(&mut window, false, at(row), Span::Rows(0));
        }
        assert_eq!(window.counts().rows, 3, "without a dwell all rows count");
    }
}
