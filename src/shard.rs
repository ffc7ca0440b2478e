//! Counters that many threads add to and few read: each thread adds in a place of its own.
//!
//! Two workers that add to one counter pass its cache line back and forth, which costs more than the addition. A request
//! is counted some twenty times.
//!
//! Always holds: nothing is lost or counted twice; a reader sees each place as of some moment during its reading.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places. Threads beyond share one; that is slower, not wrong.
const PLACES: usize = 8;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SEAT: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
}

/// A place that shares its cache lines with no other (two lines are fetched at once).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place<T>(T);

/// A `T` for each thread.
#[derive(Debug)]
pub struct Sharded<T>(Box<[Place<T>]>);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Place::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// Hands this thread's own to `work`.
    pub fn with(&self, work: impl FnOnce(&T)) {
        if let Some(Place(own)) = self.0.get(SEAT.with(Cell::get)) {
            work(own);
        }
    }

    /// All of them, to be added up.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Place(one)| one)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn what_many_threads_add_is_all_there() {
        let sharded: Sharded<AtomicU64> = Sharded::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        sharded.with(|own| {
                            own.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        let sum: u64 = sharded.iter().map(|one| one.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 2_000 * PLACES as u64);
    }
}
