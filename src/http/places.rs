//! How many predictions are being answered at once, over all listeners, and whether more are let in.
//!
//! A counter, not a semaphore: nobody waits for a place, and giving one back takes no lock that other workers want.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lag::Lag;
use crate::metrics::Crowd;

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    most: usize,
    lag: Arc<Lag>,
}

/// A place; it is given back when this goes.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    /// Room for so many, as long as work does not wait for too long.
    pub(crate) fn new(most: usize, lag: Arc<Lag>) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
            lag,
        }
    }

    /// How long work waits.
    pub(crate) fn lag(&self) -> &Lag {
        &self.lag
    }

    /// For scrapes.
    pub(crate) fn crowd(&self) -> Crowd {
        Crowd {
            in_flight: self.taken.load(Ordering::Relaxed),
            wait: self.lag.waited(),
            admitted: self.lag.share(),
        }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        // Counted before it is known whether there is room: a count too high for a moment refuses, never admits.
        let place = Place(self);
        let is_room = self.taken.fetch_add(1, Ordering::Relaxed) < self.most;
        (is_room && self.lag.admits()).then_some(place)
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
        let places = Places::new(2, Arc::default());
        let held = (places.take().unwrap(), places.take().unwrap());
        assert!((0..10).all(|_| places.take().is_none()));
        drop(held);
        assert!(places.take().is_some());
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }
}
