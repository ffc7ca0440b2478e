//! Which features recent rows carried though no version takes them: a challenger that needs one fits then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// A feature that rows carry but no version takes counts as carried for this many rows.
const CARRIED_ROWS: u64 = 10_000;
/// So many rows must have been seen before a feature that none carried speaks against a version.
const FIRST_ROWS: u64 = 100;
/// More names than this are not remembered at once: clients decide what they send.
const CARRIED_NAMES: usize = 1_024;
/// So many rows pass between two attempts to forget names.
const SWEEP_ROWS: u64 = 100;

/// Which unknown features recent rows carried.
#[derive(Debug, Default)]
pub struct Carried {
    rows: AtomicU64,
    names: ArcSwap<HashMap<String, AtomicU64>>,
    adding: Mutex<()>,
    /// Rows at the last attempt to add a name.
    swept: AtomicU64,
}

impl Carried {
    /// Counts answered rows.
    pub fn count(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows answered so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Notes that a row carried this feature.
    pub fn note(&self, name: &str) {
        let now = self.rows.load(Ordering::Relaxed);
        if let Some(last) = self.names.load().get(name) {
            last.store(now, Ordering::Relaxed);
            return;
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.names.load_full();
        let is_full = known.len() >= CARRIED_NAMES;
        // When it is full, every row with one more name would look through all of them: not more often than every
        // hundredth row.
        if is_full && now.saturating_sub(self.swept.load(Ordering::Relaxed)) < SWEEP_ROWS {
            return;
        }
        self.swept.store(now, Ordering::Relaxed);
        let recent = |last: &u64| !is_full || now.saturating_sub(*last) <= CARRIED_ROWS;
        let copy = known
            .iter()
            .map(|(name, last)| (name, last.load(Ordering::Relaxed)))
            .filter(|(_, last)| recent(last))
            .map(|(name, last)| (name.clone(), AtomicU64::new(last)));
        let mut names: HashMap<String, AtomicU64> = copy.collect();
        if names.len() >= CARRIED_NAMES {
            return;
        }
        names.insert(name.to_owned(), AtomicU64::new(now));
        self.names.store(Arc::new(names));
    }

    /// True when a recent row carried it, or too few rows were seen to say.
    #[must_use]
    pub fn carries(&self, name: &str) -> bool {
        let now = self.rows.load(Ordering::Relaxed);
        let seen = |last: &AtomicU64| now.saturating_sub(last.load(Ordering::Relaxed)) <= CARRIED_ROWS;
        now < FIRST_ROWS || self.names.load().get(name).is_some_and(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_carried_while_recent_rows_carry_it() {
        let carried = Carried::default();
        assert!(carried.carries("date"), "nothing is known of the first rows");
        carried.count(200);
        assert!(!carried.carries("date"));
        carried.note("date");
        carried.count(9_999);
        assert!(carried.carries("date") && !carried.carries("dat"));
        carried.count(2);
        assert!(!carried.carries("date"));
        carried.note("date");
        assert!(carried.carries("date"));
    }

    #[test]
    fn clients_cannot_grow_the_memory_of_names() {
        let carried = Carried::default();
        for i in 0..2 * CARRIED_NAMES {
            carried.note(&i.to_string());
        }
        assert_eq!(carried.names.load().len(), CARRIED_NAMES);
    }

    #[test]
    fn names_that_nobody_sends_any_more_make_room_for_others() {
        let carried = Carried::default();
        (0..CARRIED_NAMES).for_each(|i| carried.note(&i.to_string()));
        carried.count(9_000);
        carried.note("0");
        carried.note("date");
        assert!(!carried.carries("date"), "there is no room yet");
        carried.count(1_001);
        carried.note("date");
        assert!(carried.carries("date") && carried.carries("0") && !carried.carries("1"));
        assert_eq!(carried.names.load().len(), 2);
    }
}
