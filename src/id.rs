//! Prediction ids: numbers in the order of time, made unguessable by a keyed tag.
//!
//! A number is positive and holds `(Unix ms − 2020-01-01) << 21 | sequence`; it is the key of a row in the ledger.
//! Its text is `p1_` and 26 characters of base 32 (Crockford's alphabet, lower case only): the number and a 64-bit
//! tag, SipHash-2-4 under the gateway's key. Row `k` of a request is `<id>.<k>` and has the number of the id plus `k`.
//!
//! Always holds: one text means one number; a text that this key did not issue is refused, and so is a row beyond
//! the block of numbers that the request took, so that nobody can reach the rows of other requests by counting on
//! from their own. For that a request takes a power of two of numbers, and the tag covers its exponent. Two keys are
//! live at most ([`IdGenerator::rotate`]). There is no room for the name of an instance: an id that another one issued is known
//! by its tag, which fits none of these keys. While one gateway takes over from another, both issue under the same key: each
//! has the milliseconds of its own [`Lane`].
//! Leaves to others: whether a row of that number was ever recorded.

use std::fmt;
use std::hash::Hasher;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use siphasher::sip::SipHasher24;

mod file;
mod tags;

pub use tags::{Generation, RotateError};
use tags::{TagKey, Tags};

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
    /// Shared by all that hold this key: a rotation is seen by all of them.
    tags: Arc<ArcSwap<Tags>>,
    root: SipHasher24,
    sample: SipHasher24,
    explore: SipHasher24,
    /// Two halves.
    value: [SipHasher24; 2],
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

/// Why a text that begins like an id of ours is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It is not written as ids are.
    #[error(
        "it is not written as prediction ids are (p1_ and 26 characters, and for a row .0, .1, …): send it whole, as it was given"
    )]
    Malformed,
    /// No live key has issued it.
    #[error(
        "this gateway has not issued it, or longer than two keys ago: another instance has, or it was changed; send it to the \
         gateway that answered"
    )]
    Issuer,
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
        let halves = |domain: &[u8]| {
            [0, 1].map(|part: u8| {
                let mut hasher = root;
                hasher.write(domain);
                hasher.write_u8(part);
                hasher.finish()
            })
        };
        let derive = |domain: &[u8]| {
            let [first, second] = halves(domain);
            SipHasher24::new_with_keys(first, second)
        };
        let tags = Tags::first(TagKey::new(halves(b"dethrone id tag")));
        Self {
            tags: Arc::new(ArcSwap::from_pointee(tags)),
            root,
            sample: derive(b"dethrone id sample"),
            explore: derive(b"dethrone id explore"),
            value: [derive(b"dethrone value 0"), derive(b"dethrone value 1")],
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
        Self::new(file::read_key(path)?).with_tags(path)
    }

    /// The key in the file, which is made (readable by its owner alone) where there is none.
    ///
    /// # Errors
    /// The file cannot be read or made, has another length than 16 bytes, or is open to other users.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        Self::new(file::load_or_create(path)?).with_tags(path)
    }

    /// With the keys of tags as they were rotated.
    fn with_tags(self, path: &Path) -> std::io::Result<Self> {
        if let Some(tags) = Tags::load(path, self.root)? {
            self.tags.store(Arc::new(tags));
        }
        Ok(self)
    }

    fn tag(&self, number: i64, block: u32) -> u64 {
        self.tags.load().key.tag(number, block)
    }

    /// Which key ids are issued under.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.tags.load().told()
    }

    /// A new key of tags, on the disk beside the key in `path` before it is used. Ids of the key before it are taken as
    /// before; those of the one before that no more, which is refused without `force` while labels for them may come:
    /// `open_ms` after they were issued. `last_ms`: ids may have been issued up to there.
    ///
    /// # Errors
    /// Refused, or the file cannot be written: the keys are those of before.
    pub fn rotate(
        &self,
        path: &Path,
        (now_ms, last_ms): (i64, i64),
        open_ms: i64,
        force: bool,
    ) -> Result<Generation, RotateError> {
        let now = self.tags.load_full();
        if let Some(former) = now.former.filter(|_| !force) {
            let until_ms = former.until_ms.saturating_add(open_ms);
            if until_ms > now_ms {
                return Err(RotateError::StillOpen {
                    before: crate::time::rfc3339(former.until_ms),
                    // What is counted in rows has no date.
                    until: match open_ms {
                        i64::MAX => "so many rows have come as label.horizon says".into(),
                        _ => crate::time::rfc3339(until_ms),
                    },
                });
            }
        }
        let next = now.next(now_ms, last_ms).map_err(|source| RotateError::File {
            path: path.to_path_buf(),
            source,
        })?;
        next.save(path, self.root)?;
        self.tags.store(Arc::new(next));
        Ok(next.told())
    }

    /// The id of one row, whatever request it came with: another spelling of the same number, for exports.
    #[must_use]
    pub fn id_of(&self, number: i64) -> PredictionId {
        PredictionId {
            number,
            tag: self.tag(number, 0),
        }
    }

    /// What the text says; `None` unless a live key issued it.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Parsed> {
        self.read(text).ok()
    }

    /// What the text says. Nothing is asked but the keys.
    ///
    /// # Errors
    /// Why it is no id of ours.
    pub fn read(&self, text: &str) -> Result<Parsed, Foreign> {
        let Spelt { base, tag, row } = spelt(text).ok_or(Foreign::Malformed)?;
        let number = base.checked_add(i64::from(row)).ok_or(Foreign::Malformed)?;
        let smallest = u32::BITS - row.leading_zeros();
        // The difference of whole words takes the same time wherever they differ.
        let is_by = |key: TagKey| (smallest..=MAX_BLOCK).any(|block| key.tag(base, block) ^ tag == 0);
        let tags = self.tags.load();
        let is_by_former = || {
            tags.former
                .is_some_and(|former| time_of(base) <= former.until_ms && is_by(former.key))
        };
        match is_by(tags.key) || is_by_former() {
            true => Ok(Parsed {
                number,
                time_ms: time_of(number),
            }),
            false => Err(Foreign::Issuer),
        }
    }

    /// A hash of a row's number that every part and every replica with this key agrees on.
    #[must_use]
    pub fn sample_hash(&self, number: i64) -> u64 {
        let mut hasher = self.sample;
        hasher.write(&number.to_be_bytes());
        hasher.finish()
    }

    /// What stands for a value that is not to be recorded itself: the same for the same value, and, without this key,
    /// nothing that tells which value it was.
    #[must_use]
    pub fn pseudonym(&self, value: &[u8]) -> String {
        format!("h_{:032x}", self.digest(value))
    }

    /// The number in [`IdKey::pseudonym`].
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> u128 {
        let half = |mut hasher: SipHasher24| {
            hasher.write(value);
            u128::from(hasher.finish())
        };
        let [first, second] = self.value;
        half(first) << 64 | half(second)
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

/// An id as it is written.
struct Spelt {
    base: i64,
    tag: u64,
    row: u32,
}

fn spelt(text: &str) -> Option<Spelt> {
    let (id, row) = match text.split_once('.') {
        Some((id, row)) => (id, row_number(row)?),
        None => (text, 0),
    };
    let bits = decode(id.strip_prefix(PREFIX)?)?;
    Some(Spelt {
        base: i64::try_from(bits >> 64).ok().filter(|base| *base > 0)?,
        tag: u64::try_from(bits & u128::from(u64::MAX)).ok()?,
        row,
    })
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

/// The milliseconds whose numbers a gateway issues while another one issues under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Lane {
    /// The even ones.
    Even = 1,
    /// The odd ones.
    Odd = 2,
}

/// Issues ids; one per gateway.
#[derive(Debug)]
pub struct IdGenerator {
    key: IdKey,
    next: AtomicU64,
    /// A [`Lane`]; 0: all milliseconds.
    lane: AtomicU8,
}

impl IdGenerator {
    /// Numbers from `floor` on: one above the largest number in the ledger, 0 for an empty one.
    #[must_use]
    pub fn new(key: IdKey, floor: i64) -> Self {
        Self {
            key,
            next: AtomicU64::new(u64::try_from(floor).unwrap_or(0).max(1)),
            lane: AtomicU8::new(0),
        }
    }

    /// Beside another gateway: numbers from `floor` on, of the milliseconds that it has left ([`IdGenerator::share`]).
    #[must_use]
    pub fn beside(key: IdKey, floor: i64, lane: Lane) -> Self {
        let generator = Self::new(key, floor);
        generator.lane.store(lane as u8, Ordering::Relaxed);
        generator
    }

    /// From now on another gateway may issue too: in this lane, from this number on. Whatever was issued before lies below
    /// it, whatever is issued from now on in the other lane.
    #[must_use]
    pub fn share(&self) -> (Lane, i64) {
        let (own, other) = match self.lane.load(Ordering::Relaxed) {
            2 => (Lane::Odd, Lane::Even),
            _ => (Lane::Even, Lane::Odd),
        };
        self.lane.store(own as u8, Ordering::Release);
        // Whoever has read the number without the lane fails to take it, and reads both anew.
        let next = self.next.fetch_add(1, Ordering::AcqRel) + 1;
        (other, i64::try_from(next).unwrap_or(i64::MAX))
    }

    /// Numbers from `floor` on, from now on: the other gateway has ended, and may have issued those below.
    pub fn raise(&self, floor: i64) {
        self.next.fetch_max(u64::try_from(floor).unwrap_or(0), Ordering::AcqRel);
    }

    /// The first number from `first` on that is this gateway's, with room for a block.
    fn own(&self, first: u64, block: u32) -> u64 {
        let lane = u64::from(self.lane.load(Ordering::Relaxed));
        if lane == 0 {
            return first;
        }
        let ms = first >> SEQUENCE_BITS;
        let room = (1 << SEQUENCE_BITS) - (first & ((1 << SEQUENCE_BITS) - 1));
        match (ms % 2 == lane - 1, room >= 1 << block) {
            (true, true) => first,
            (true, false) => (ms + 2) << SEQUENCE_BITS,
            (false, _) => (ms + 1) << SEQUENCE_BITS,
        }
    }

    /// The key, for parsing and sampling.
    #[must_use]
    pub fn key(&self) -> &IdKey {
        &self.key
    }

    /// A new key of tags, in the file beside `path`: see [`IdKey::rotate`].
    ///
    /// # Errors
    /// As there.
    pub fn rotate(&self, path: &Path, now_ms: i64, open_ms: i64, force: bool) -> Result<Generation, RotateError> {
        let next = i64::try_from(self.next.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.key.rotate(path, (now_ms, time_of(next)), open_ms, force)
    }

    /// An id for a request of `rows` rows (at most a million), whose numbers nobody else gets.
    #[must_use]
    pub fn issue(&self, now_ms: i64, rows: u32) -> PredictionId {
        let block = rows.clamp(1, MAX_ROWS).next_power_of_two().trailing_zeros();
        let now = u64::try_from(now_ms.saturating_sub(EPOCH_MS)).unwrap_or(0);
        // A clock beyond 2159 would make negative numbers: hold it there.
        let floor = now.min((1 << 42) - 1) << SEQUENCE_BITS;
        let mut last = self.next.load(Ordering::Acquire);
        let first = loop {
            let first = self.own(last.max(floor), block);
            let after = first + (1 << block);
            match self
                .next
                .compare_exchange_weak(last, after, Ordering::AcqRel, Ordering::Acquire)
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
