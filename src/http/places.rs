//! How many predictions are being answered at once, over all listeners.
//!
//! A counter, not a semaphore: nobody waits for a place, and giving one back takes no lock that other workers want.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    most: usize,
}

/// A place; it is given back when this goes.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    /// So many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        // Counted before it is known whether there is room: a count too high for a moment refuses, never admits.
        let place = Place(self);
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_held_than_there_are_and_a_refusal_takes_none() {
        let places = Places::new(2);
        let held = (places.take().unwrap(), places.take().unwrap());
        assert!((0..10).all(|_| places.take().is_none()));
        drop(held);
        assert!(places.take().is_some());
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }
}
