//! Rows that ended processes twice: they are refused for a while, without being run.
//!
//! Always holds: their number is bounded, the oldest goes first; nothing is computed while there are none. They are known
//! by SHA-256 of what the model would be given, so that nobody can make a row that is taken for another's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::arena::wire;
use crate::model::tensor::Tensor;

/// So many are remembered.
const MOST: usize = 1_024;
/// For so long: a row that was in two processes which somebody else ended is innocent, and may come again.
const FORGET: Duration = Duration::from_secs(600);

type Hash = [u8; 32];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Killers {
    count: AtomicUsize,
    known: Mutex<VecDeque<(Hash, Instant)>>,
}

impl Killers {
    /// True while there are any.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether the one row of these inputs is among them.
    pub(super) fn know(&self, row: &[Tensor]) -> bool {
        self.any() && {
            let hash = hash(row);
            let mut known = self.known();
            let now = Instant::now();
            while known
                .front()
                .is_some_and(|(_, since)| now.duration_since(*since) > FORGET)
            {
                known.pop_front();
            }
            self.count.store(known.len(), Ordering::Relaxed);
            known.iter().any(|(killer, _)| *killer == hash)
        }
    }

    pub(super) fn remember(&self, row: &[Tensor]) {
        let hash = hash(row);
        let mut known = self.known();
        known.retain(|(killer, _)| *killer != hash);
        if known.len() >= MOST {
            known.pop_front();
        }
        known.push_back((hash, Instant::now()));
        self.count.store(known.len(), Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<(Hash, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(row: &[Tensor]) -> Hash {
    let mut bytes = Vec::new();
    wire::encode_tensors(&mut bytes, row);
    Sha256::digest(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::Data;

    fn row(value: i64) -> [Tensor; 1] {
        [Tensor::new(vec![1, 1], Data::Int64(vec![value])).unwrap()]
    }

    #[test]
    fn the_newest_are_remembered_each_once_and_no_others() {
        let killers = Killers::default();
        assert!(!killers.any() && !killers.know(&row(0)));
        let most = i64::try_from(MOST).unwrap();
        for value in 0..most {
            killers.remember(&row(value));
        }
        killers.remember(&row(0));
        assert_eq!(killers.count(), MOST);
        killers.remember(&row(most));
        assert!(killers.know(&row(most)) && killers.know(&row(0)) && !killers.know(&row(1)));
        assert_eq!(killers.count(), MOST);
    }
}
