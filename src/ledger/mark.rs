//! What was acknowledged, told a second time beside the ledger: `ledger.mark`, 40 bytes.
//!
//! SQLite takes a broken frame for the end of its log and goes on with what lies before it, without a word: a bit that
//! changes there, a log that somebody deletes, or an old copy put in place would take acknowledged labels along. So every
//! durable commit counts itself in the ledger (`commits`), and the count is written here once the commit is on disk.
//!
//! Always holds: the mark never runs ahead of what was synced, because it is written after; it is never synced itself, so
//! that it costs nothing, and may be behind. A ledger that is behind its mark has lost what was acknowledged, and says so.

use std::fs::File;
use std::hash::Hasher;
use std::os::unix::fs::FileExt;
use std::path::Path;

use siphasher::sip::SipHasher13;

pub(super) const NAME: &str = "ledger.mark";
const MAGIC: [u8; 8] = *b"dethmark";
const LEN: usize = 40;

/// How far an earlier process had come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Durable commits.
    pub(super) commits: u64,
    /// Recorded rows of all models, synced or not.
    pub(super) rows: u64,
}

/// The mark, open to be written.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    reached: Reached,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// There is none, as before the first commit.
    Nothing,
    /// It is no mark any more.
    Damaged,
    Reached(Reached),
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
}

fn encode(reached: Reached) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let parts = [reached.commits, reached.rows, 0].map(u64::to_le_bytes);
    let told = MAGIC.iter().chain(parts.iter().flatten());
    bytes.iter_mut().zip(told).for_each(|(to, from)| *to = *from);
    let (told, place) = bytes.split_at_mut(LEN - 8);
    let sum = sum(told).to_le_bytes();
    place.copy_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Reached> {
    let (words, []) = bytes.as_chunks::<8>() else {
        return None;
    };
    let &[magic, commits, rows, spare, _] = words else {
        return None;
    };
    let reached = Reached {
        commits: u64::from_le_bytes(commits),
        rows: u64::from_le_bytes(rows),
    };
    (magic == MAGIC && spare == [0; 8] && encode(reached).as_slice() == bytes).then_some(reached)
}

impl Mark {
    /// Reads what an earlier process has left, and opens the mark to go on from `now`.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub(super) fn open(state: &Path, now: Reached) -> std::io::Result<(Self, Told)> {
        let path = state.join(NAME);
        let told = read(&path)?;
        let file = super::lock::create(&path)?;
        let mut mark = Self {
            file,
            reached: Reached::default(),
        };
        // On a full disk the old one stays, and says no more than is true.
        mark.put(now);
        Ok((mark, told))
    }

    /// Takes in that a commit is done. Whether it can be written matters to nobody but the next start.
    pub(super) fn put(&mut self, reached: Reached) {
        if self.reached != reached {
            self.reached = reached;
            if let Err(error) = self.file.write_all_at(&encode(reached), 0) {
                tracing::debug!(%error, "the ledger's mark was not written");
            }
        }
    }

    pub(super) fn reached(&self) -> Reached {
        self.reached
    }
}

fn read(path: &Path) -> std::io::Result<Told> {
    match std::fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(Told::Nothing),
        Ok(bytes) => Ok(decode(&bytes).map_or(Told::Damaged, Told::Reached)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Told::Nothing),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_flip_and_every_cut_of_a_mark_is_seen() {
        let reached = Reached {
            commits: 77,
            rows: 1_234_567,
        };
        let whole = encode(reached);
        assert_eq!(decode(&whole), Some(reached));
        for bit in 0..LEN * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for len in 0..LEN {
            assert_eq!(decode(&whole[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_mark_tells_the_next_process_how_far_the_last_one_came() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |commits, rows| Reached { commits, rows };
        let (mut mark, told) = Mark::open(dir.path(), at(0, 0)).unwrap();
        assert_eq!(told, Told::Nothing);
        mark.put(at(3, 9));
        drop(mark);
        let (_, told) = Mark::open(dir.path(), at(2, 9)).unwrap();
        assert_eq!(told, Told::Reached(at(3, 9)));
        std::fs::write(dir.path().join(NAME), "nonsense").unwrap();
        assert_eq!(Mark::open(dir.path(), at(2, 9)).unwrap().1, Told::Damaged);
    }
}
