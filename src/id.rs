//! Prediction ids: numbers in the order of time, made unguessable by a keyed tag.
//!
//! A number is positive and holds `(Unix ms − 2020-01-01) << 21 | sequence`; it is the key of a row in the ledger.
//! Its text is `p1_` and 26 characters of base 32 (Crockford's alphabet, lower case only): the number and a 64-bit
//! tag, SipHash-2-4 under the gateway's key. Row `k` of a request is `<id>.<k>` and has the number of the id plus `k`.
//!
//! Always holds: one text means one number; a text that this key did not issue is refused, and so is a row beyond
//! the block of numbers that the request took, so that nobody can reach the rows of other requests by counting on
//! from their own. For that a request takes a power of two of numbers, and the tag covers its exponent.
//! Leaves to others: whether a row of that number was ever recorded.

use std::fmt;
use std::hash::Hasher;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher24;

mod file;

/// 2020-01-01T00:00:00Z in Unix milliseconds.
const EPOCH_MS: i64 = 1_577_836_800_000;
/// Two million numbers a millisecond; leaves 42 bits of milliseconds, which last until 2159.
const SEQUENCE_BITS: u32 = 21;
/// Largest block of one request: 2^20 rows.
const MAX_BLOCK: u32 = 20;
/// Rows of one request are numbered below this.
const MAX_ROWS: u32 = 1_000_000;
const PREFIX: &str = "p1_";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 26;

/// The key of the tags; as secret as the labels are trusted.
#[derive(Clone)]
pub struct IdKey {
    tag: SipHasher24,
    sample: SipHasher24,
    explore: SipHasher24,
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

/// The id of a request's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictionId {
    /// Number of row 0.
    pub number: i64,
    tag: u64,
}

/// What the text of an id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Number of the row.
    pub number: i64,
    /// When the id was issued, Unix milliseconds.
    pub time_ms: i64,
}

/// When the number was issued, Unix milliseconds.
#[must_use]
pub fn time_of(number: i64) -> i64 {
    (number >> SEQUENCE_BITS) + EPOCH_MS
}

impl IdKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        let root = SipHasher24::new_with_key(&bytes);
        // Keys of their own, so that a sampling decision, which anyone can observe, tells nothing about a tag.
        let derive = |domain: &[u8]| {
            let half = |part: u8| {
                let mut hasher = root;
                hasher.write(domain);
                hasher.write_u8(part);
                hasher.finish()
            };
            SipHasher24::new_with_keys(half(0), half(1))
        };
        Self {
            tag: derive(b"dethrone id tag"),
            sample: derive(b"dethrone id sample"),
            explore: derive(b"dethrone id explore"),
        }
    }

    /// A new random key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> std::io::Result<Self> {
        file::random().map(Self::new)
    }

    /// The key in the file.
    ///
    /// # Errors
    /// As [`IdKey::load_or_create`], or there is no file.
    pub fn load(path: &Path) -> std::io::Result<Self> {
        file::read_key(path).map(Self::new)
    }

    /// The key in the file, which is made (readable by its owner alone) where there is none.
    ///
    /// # Errors
    /// The file cannot be read or made, has another length than 16 bytes, or is open to other users.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        file::load_or_create(path).map(Self::new)
    }

    fn tag(&self, number: i64, block: u32) -> u64 {
        let mut hasher = self.tag;
        hasher.write(&number.to_be_bytes());
        hasher.write(&block.to_be_bytes());
        hasher.finish()
    }

    /// The id of one row, whatever request it came with: another spelling of the same number, for exports.
    #[must_use]
    pub fn id_of(&self, number: i64) -> PredictionId {
        PredictionId {
            number,
            tag: self.tag(number, 0),
        }
    }

    /// What the text says; `None` unless this key issued it.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Parsed> {
        let (id, row) = match text.split_once('.') {
            Some((id, row)) => (id, row_number(row)?),
            None => (text, 0),
        };
        let bits = decode(id.strip_prefix(PREFIX)?)?;
        let base = i64::try_from(bits >> 64).ok().filter(|base| *base > 0)?;
        let tag = u64::try_from(bits & u128::from(u64::MAX)).ok()?;
        let smallest = u32::BITS - row.leading_zeros();
        // The difference of whole words takes the same time wherever they differ.
        let is_ours = (smallest..=MAX_BLOCK).any(|block| self.tag(base, block) ^ tag == 0);
        let number = base.checked_add(i64::from(row))?;
        is_ours.then(|| Parsed {
            number,
            time_ms: time_of(number),
        })
    }

    /// A hash of a row's number that every part and every replica with this key agrees on.
    #[must_use]
    pub fn sample_hash(&self, number: i64) -> u64 {
        let mut hasher = self.sample;
        hasher.write(&number.to_be_bytes());
        hasher.finish()
    }

    /// Whether the row belongs to a sample of this share; a row in a sample is in every larger one.
    #[must_use]
    pub fn is_sampled(&self, number: i64, share: f64) -> bool {
        share >= 1.0 || uniform(self.sample_hash(number)) < share
    }

    /// Whether the row belongs to the exploration slice of this share; drawn apart from the samples, so that both are
    /// independent.
    #[must_use]
    pub fn is_explored(&self, number: i64, share: f64) -> bool {
        if share <= 0.0 {
            return false;
        }
        let mut hasher = self.explore;
        hasher.write(&number.to_be_bytes());
        share >= 1.0 || uniform(hasher.finish()) < share
    }
}

/// A hash as a number in [0, 1).
fn uniform(hash: u64) -> f64 {
    // 53 bits are what a double holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let share = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    share
}

/// Digits without a sign or leading zeros, below [`MAX_ROWS`].
fn row_number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    let row: u32 = if is_plain { text.parse().ok()? } else { return None };
    (row < MAX_ROWS).then_some(row)
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != DIGITS {
        return None;
    }
    let mut bits: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        // 26 digits are 130 bits: the first two must be zero.
        if bits >> 123 != 0 {
            return None;
        }
        bits = bits << 5 | digit as u128;
    }
    Some(bits)
}

impl PredictionId {
    /// Appends the text of the id, or of one of its rows.
    pub fn write(&self, row: Option<u32>, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX.as_bytes());
        let bits = u128::from(self.number.cast_unsigned()) << 64 | u128::from(self.tag);
        for place in (0..DIGITS).rev() {
            let digit = (bits >> (place * 5)) & 31;
            let letter = usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit));
            out.extend(letter);
        }
        if let Some(row) = row {
            // A Vec takes what is written.
            let _ = write!(out, ".{row}");
        }
    }
}

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(PREFIX.len() + DIGITS);
        self.write(None, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Issues ids; one per gateway.
#[derive(Debug)]
pub struct IdGenerator {
    key: IdKey,
    next: AtomicU64,
}

impl IdGenerator {
    /// Numbers from `floor` on: one above the largest number in the ledger, 0 for an empty one.
    #[must_use]
    pub fn new(key: IdKey, floor: i64) -> Self {
        Self {
            key,
            next: AtomicU64::new(u64::try_from(floor).unwrap_or(0).max(1)),
        }
    }

    /// The key, for parsing and sampling.
    #[must_use]
    pub fn key(&self) -> &IdKey {
        &self.key
    }

    /// An id for a request of `rows` rows (at most a million), whose numbers nobody else gets.
    #[must_use]
    pub fn issue(&self, now_ms: i64, rows: u32) -> PredictionId {
        let block = rows.clamp(1, MAX_ROWS).next_power_of_two().trailing_zeros();
        let now = u64::try_from(now_ms.saturating_sub(EPOCH_MS)).unwrap_or(0);
        // A clock beyond 2159 would make negative numbers: hold it there.
        let floor = now.min((1 << 42) - 1) << SEQUENCE_BITS;
        let mut last = self.next.load(Ordering::Relaxed);
        let first = loop {
            let first = last.max(floor);
            let after = first + (1 << block);
            match self
                .next
                .compare_exchange_weak(last, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break first,
                Err(seen) => last = seen,
            }
        };
        let number = i64::try_from(first).unwrap_or(i64::MAX);
        PredictionId {
            number,
            tag: self.key.tag(number, block),
        }
    }
}

#[cfg(test)]
mod tests;
