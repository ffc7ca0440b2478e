//! SQLite's log as it lies on disk, read without SQLite: which frames are whole, and which pages they hold.
//!
//! Always holds: what counts here is what SQLite would take in after a crash: frames in their order, under the salts and
//! the running checksum of the header, up to the last one that ends a commit.
//! (File format: "WAL-mode File Format" of SQLite's documentation, section 4.)

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub(super) const HEADER: usize = 32;
pub(super) const FRAME: usize = 24;
/// Of every ledger.
pub(super) const PAGE: usize = 4_096;

/// The committed part of a log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Committed frames.
    pub(super) frames: u64,
    /// Where the last committed image of each page begins in the file.
    pub(super) pages: HashMap<u32, u64>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_be_bytes)
}

/// The running checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    is_big_endian: bool,
    state: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<4>();
        let (pairs, _) = words.as_chunks::<2>();
        for [first, second] in pairs {
            let number = |word: [u8; 4]| match self.is_big_endian {
                true => u32::from_be_bytes(word),
                false => u32::from_le_bytes(word),
            };
            let (a, b) = self.state;
            let a = a.wrapping_add(number(*first)).wrapping_add(b);
            let b = b.wrapping_add(number(*second)).wrapping_add(a);
            self.state = (a, b);
        }
    }
}

/// Reads the log at `path`; an absent, empty or headless one has no frames.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(path: &Path) -> std::io::Result<Log> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Log::default()),
        Err(error) => return Err(error),
    };
    walk(BufReader::with_capacity(1 << 18, file))
}

fn walk(mut from: impl Read) -> std::io::Result<Log> {
    let mut log = Log::default();
    let mut header = [0; HEADER];
    if !fill(&mut from, &mut header)? {
        return Ok(log);
    }
    let magic = word(&header, 0);
    let mut sum = Sum {
        is_big_endian: magic & 1 == 1,
        state: (0, 0),
    };
    sum.add(header.get(..24).unwrap_or_default());
    let has_page = usize::try_from(word(&header, 8)).is_ok_and(|size| size == PAGE);
    if magic & !1 != 0x377f_0682 || !has_page || sum.state != (word(&header, 24), word(&header, 28)) {
        return Ok(log);
    }
    let (mut frame, mut seen) = ([0; FRAME + PAGE], 0_u64);
    let mut pending: Vec<(u32, u64)> = Vec::new();
    while fill(&mut from, &mut frame)? {
        let (about, page) = frame.split_at(FRAME);
        sum.add(about.get(..8).unwrap_or_default());
        sum.add(page);
        let is_of_this_log = about.get(8..16) == header.get(16..24);
        if !is_of_this_log || sum.state != (word(about, 16), word(about, 20)) || word(about, 0) == 0 {
            break;
        }
        let place = u64::try_from(HEADER + FRAME).unwrap_or(0) + seen * u64::try_from(FRAME + PAGE).unwrap_or(0);
        pending.push((word(about, 0), place));
        seen += 1;
        if word(about, 4) > 0 {
            log.frames = seen;
            log.pages.extend(pending.drain(..));
        }
    }
    Ok(log)
}

/// False when there is not as much left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn a_log_is_read_as_sqlite_reads_it_and_a_flip_ends_it_before_its_frame() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for name in ["a", "b", "c"] {
            ledger.transaction(true, |writer| writer.model(name)).unwrap();
        }
        let path = dir.path().join("ledger.sqlite-wal");
        let bytes = std::fs::read(&path).unwrap();
        let log = read(&path).unwrap();
        let pages = ledger.log_pages.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(log.frames, pages);
        assert!(log.frames > 3, "{log:?}");
        let frames = |bytes: &[u8]| walk(bytes).unwrap().frames;
        for at in (0..bytes.len()).step_by(997) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let cut = (at.saturating_sub(HEADER) / (FRAME + PAGE)) as u64;
            assert!(frames(&flipped) <= cut, "byte {at}");
            assert!(frames(&bytes[..at]) <= cut, "cut at {at}");
        }
    }
}
