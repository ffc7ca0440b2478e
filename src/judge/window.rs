//! How many rows of the last dwell a version had the features for.
//!
//! Always holds: what is counted lies within the dwell before the last pair, or at most a sixteenth of it before; the
//! memory is the same whatever the dwell. Only whole numbers: the same pairs give the same counts.

use serde::{Deserialize, Serialize};

use crate::span::{Clock, Span};

/// Parts of a dwell that are counted apart.
const PARTS: u64 = 16;
/// One more: the oldest and the newest are not whole.
const SLOTS: usize = 17;

/// A part: its number on the judge's clock, pairs, those that were covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Slot(u64, u64, u64);

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
    /// Counts a pair. Another dwell than before starts the counting anew.
    pub(super) fn push(&mut self, is_covered: bool, clock: Clock, dwell: Span) {
        if self.dwell != dwell {
            *self = Self {
                dwell,
                ..Self::default()
            };
        }
        let Some((_, width)) = measure(dwell) else { return };
        let place = match dwell {
            Span::Rows(_) => clock.row,
            Span::Time(_) => u64::try_from(clock.time_ms).unwrap_or(0),
        };
        let part = place / width;
        let at = usize::try_from(part % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.0 < part {
            *slot = Slot(part, 0, 0);
        }
        // A request time may lie before that of the row before; one from before the dwell no longer counts.
        if slot.0 == part {
            slot.1 += 1;
            slot.2 += u64::from(is_covered);
            self.last = self.last.max(part);
        }
    }

    /// Covered pairs and all pairs of the last dwell.
    pub(super) fn counts(&self) -> (u64, u64) {
        let Some((length, width)) = measure(self.dwell) else {
            return (0, 0);
        };
        let first = self.last.saturating_sub(length.div_ceil(width));
        let counted = self.slots.iter().filter(|slot| slot.0 >= first);
        counted.fold((0, 0), |(covered, of), slot| (covered + slot.2, of + slot.1))
    }
}

/// Length of the dwell and of its parts, in rows or milliseconds; `None` for no dwell.
fn measure(dwell: Span) -> Option<(u64, u64)> {
    let length = match dwell {
        Span::Rows(rows) => rows,
        Span::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    (length > 0).then(|| (length, length.div_ceil(PARTS)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
                    window.push(row.is_multiple_of(2), at(row), span);
                    let (covered, of) = window.counts();
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
            window.push(true, at(row), span);
        }
        assert_eq!(window.counts().0, 3, "what lies before the dwell is not counted");
        window.push(false, at(1_000_000), span);
        assert_eq!(window.counts(), (0, 1));
        window.push(false, at(5), Span::Rows(0));
        assert_eq!(window.counts(), (0, 0));
    }
}
