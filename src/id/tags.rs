//! The keys of the tags: the one that ids are issued under, and the one before it.
//!
//! Always holds: two generations are live, a third is refused; under the former key only what was issued before the change
//! is taken, so that whoever has got hold of it can make up nothing new; the file is old or new, never neither, and belongs
//! to the key beside it. The other keys (sampling, exploration, hashes) never change: rows and entities stay what they
//! were.
//! Leaves to others: when an id of the former key is too old, which is the model's label horizon.

use std::hash::Hasher;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher24;

use super::file;

const MAGIC: &[u8; 8] = b"dthrtag1";
const BYTES: usize = 68;
/// A request that had the former key at hand when it changed may issue its id a moment later.
const SLACK_MS: i64 = 10_000;

/// A key of tags.
#[derive(Clone, Copy)]
pub(super) struct TagKey {
    halves: [u64; 2],
}

impl TagKey {
    pub(super) fn new(halves: [u64; 2]) -> Self {
        Self { halves }
    }

    pub(super) fn tag(self, number: i64, block: u32) -> u64 {
        let [first, second] = self.halves;
        let mut hasher = SipHasher24::new_with_keys(first, second);
        hasher.write(&number.to_be_bytes());
        hasher.write(&block.to_be_bytes());
        hasher.finish()
    }
}

/// The key before the last.
#[derive(Clone, Copy)]
pub(super) struct Former {
    pub(super) key: TagKey,
    /// It tags nothing later than this, Unix ms.
    pub(super) until_ms: i64,
}

/// The live keys.
#[derive(Clone, Copy)]
pub(super) struct Tags {
    pub(super) generation: u32,
    /// Since when ids are issued under the present key, Unix ms; 0: since ever.
    pub(super) since_ms: i64,
    pub(super) key: TagKey,
    pub(super) former: Option<Former>,
}

/// What may be said of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Counted from 0, which is the key that the state directory was made with.
    pub number: u32,
    /// Since when ids are issued under it, Unix ms; 0: since ever.
    pub since_ms: i64,
    /// Until when ids were issued under the key before it, which are still taken.
    pub former_until_ms: Option<i64>,
}

/// Why the key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Labels may still come for ids of the key that would be dropped.
    #[error(
        "ids that were issued before {before} may still be labelled until {until}: rotate again then, or force it, and \
         labels for them are unknown"
    )]
    StillOpen {
        /// Ids up to here would be refused.
        before: String,
        /// Until then.
        until: String,
    },
    /// The file.
    #[error("{path}: {source}; the key is the one of before")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: Error,
    },
}

impl Tags {
    pub(super) fn first(key: TagKey) -> Self {
        Self {
            generation: 0,
            since_ms: 0,
            key,
            former: None,
        }
    }

    /// These keys, followed by a new one. `last_ms`: ids may have been issued up to there.
    pub(super) fn next(&self, now_ms: i64, last_ms: i64) -> std::io::Result<Self> {
        let bytes = file::random()?;
        let half = |range: std::ops::Range<usize>| {
            let part = bytes
                .get(range)
                .and_then(|part| part.try_into().ok())
                .unwrap_or_default();
            u64::from_le_bytes(part)
        };
        Ok(Self {
            generation: self.generation.saturating_add(1),
            since_ms: now_ms,
            key: TagKey::new([half(0..8), half(8..16)]),
            former: Some(Former {
                key: self.key,
                until_ms: now_ms.max(last_ms).saturating_add(SLACK_MS),
            }),
        })
    }

    pub(super) fn told(&self) -> Generation {
        Generation {
            number: self.generation,
            since_ms: self.since_ms,
            former_until_ms: self.former.map(|former| former.until_ms),
        }
    }

    fn to_bytes(self, root: SipHasher24) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.since_ms.to_be_bytes());
        let former = self.former.unwrap_or(Former {
            key: TagKey::new([0; 2]),
            until_ms: i64::MIN,
        });
        for half in self.key.halves {
            bytes.extend(half.to_be_bytes());
        }
        bytes.extend(former.until_ms.to_be_bytes());
        for half in former.key.halves {
            bytes.extend(half.to_be_bytes());
        }
        bytes.extend(check(root, &bytes).to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8], root: SipHasher24) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(BYTES - 8)?;
        let mut rest = content.strip_prefix(MAGIC)?;
        if sum != check(root, content).to_be_bytes() {
            return None;
        }
        let (generation, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        let mut word = || {
            let (word, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(*word)
        };
        let since_ms = i64::from_be_bytes(word()?);
        let key = TagKey::new([u64::from_be_bytes(word()?), u64::from_be_bytes(word()?)]);
        let until_ms = i64::from_be_bytes(word()?);
        let former = TagKey::new([u64::from_be_bytes(word()?), u64::from_be_bytes(word()?)]);
        Some(Self {
            generation: u32::from_be_bytes(*generation),
            since_ms,
            key,
            former: (until_ms != i64::MIN).then_some(Former { key: former, until_ms }),
        })
    }

    /// The keys beside the key in `path`; `None` where they were never rotated.
    pub(super) fn load(path: &Path, root: SipHasher24) -> std::io::Result<Option<Self>> {
        let path = beside(path);
        let bytes = match file::read_secret(
            &path,
            BYTES,
            "is not a file of keys: restore it, or remove it and lose the open ids",
        ) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = Self::from_bytes(&bytes, root).ok_or_else(|| {
            let text = format!(
                "{}: is damaged, or belongs to another ids.key: restore both from one copy, or remove it and lose the ids \
                 that were issued since the first rotation",
                path.display()
            );
            Error::new(ErrorKind::InvalidData, text)
        });
        read.map(Some)
    }

    /// Puts the keys on the disk.
    pub(super) fn save(self, path: &Path, root: SipHasher24) -> Result<(), RotateError> {
        let path = beside(path);
        file::replace(&path, &self.to_bytes(root)).map_err(|source| RotateError::File { path, source })
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name("ids.tags")
}

fn check(mut root: SipHasher24, bytes: &[u8]) -> u64 {
    root.write(b"dethrone tags");
    root.write(bytes);
    root.finish()
}
