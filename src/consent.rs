//! Entities that want to leave no trace: a list beside a model's files, one on a line.
//!
//! Always holds: whoever is put on the list is out as soon as the file is seen; whoever is taken off it, or is missing from
//! a file that is being written, is out until the file has stood still; while a list that the settings name cannot be
//! read, everybody is out who is named. A row whose entity is out is answered, and neither recorded, nor shadowed, nor
//! evidence; its label is `unrecorded`.
//! Leaves to others: what was recorded before (`dethrone erase`).

use std::collections::HashSet;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::IdKey;

/// Four million names of 16 bytes.
const MOST_BYTES: u64 = 64 << 20;

/// Who is out.
#[derive(Debug, Clone)]
pub struct OptOut {
    key: IdKey,
    /// Keyed hashes; `None`: everybody.
    entries: Option<HashSet<u128>>,
}

impl OptOut {
    /// Everybody who is named.
    fn everybody(key: &IdKey) -> Self {
        Self {
            key: key.clone(),
            entries: None,
        }
    }

    /// The entities of a text: one on a line, as they are sent, or as they stand in the record where they are hashed there
    /// (`h_…`). Empty lines, and lines that begin with `#`, say nothing.
    fn of(text: &str, key: &IdKey) -> Self {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entry = |line: &str| hashed(line).unwrap_or_else(|| key.digest(line.as_bytes()));
        Self {
            key: key.clone(),
            entries: Some(lines.map(entry).collect()),
        }
    }

    /// Both.
    fn with(&self, other: &Self) -> Self {
        let both = self.entries.as_ref().zip(other.entries.as_ref());
        Self {
            key: self.key.clone(),
            entries: both.map(|(a, b)| a.union(b).copied().collect()),
        }
    }

    /// How many are listed; `None`: everybody is out.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        self.entries.as_ref().map(HashSet::len)
    }

    /// Whether nobody is out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Whether the entity is out.
    #[must_use]
    pub fn has(&self, entity: &str) -> bool {
        let Some(entries) = &self.entries else { return true };
        let is_listed = |number: u128| entries.contains(&number);
        // Whoever sends what looks like a hash is listed by it.
        is_listed(self.key.digest(entity.as_bytes())) || hashed(entity).is_some_and(is_listed)
    }

    /// Which rows are out; `None`: none is.
    #[must_use]
    pub fn rows(&self, entities: Option<&[String]>) -> Option<Box<[bool]>> {
        let entities = entities.filter(|_| !self.is_empty())?;
        let rows: Box<[bool]> = entities.iter().map(|entity| self.has(entity)).collect();
        rows.contains(&true).then_some(rows)
    }
}

/// The number in a hash as the record has it.
fn hashed(line: &str) -> Option<u128> {
    let digits = line.strip_prefix("h_").filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok()
}

/// A model's list as it is followed.
#[derive(Debug, Default)]
pub struct Followed {
    /// Its name in the settings.
    name: Option<String>,
    in_force: Option<Arc<OptOut>>,
    /// The text as it was last seen, by its digest, and since when; `None` once it is in force alone.
    pending: Option<(u128, Instant)>,
    seen: Option<u128>,
    fault: Option<String>,
}

impl Followed {
    /// Who is out; `None` where the settings name no list.
    #[must_use]
    pub fn list(&self) -> Option<Arc<OptOut>> {
        self.in_force.clone()
    }

    /// Why the list cannot be read, and what follows.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// True while the file has not stood still for long enough: look again soon.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.pending.is_some()
    }

    /// Looks at the file `name` in `directory`. True when who is out has changed.
    pub fn look(&mut self, directory: &Path, name: Option<&str>, key: &IdKey, settle: Duration) -> bool {
        let Some(name) = name else {
            let had = self.in_force.is_some();
            *self = Self::default();
            return had;
        };
        if self.name.as_deref() != Some(name) {
            *self = Self {
                name: Some(name.to_owned()),
                // Whoever was out stays so until the other list is read.
                in_force: self.in_force.take(),
                ..Self::default()
            };
        }
        let text = match read(&directory.join(name)) {
            Ok(text) => text,
            Err(why) => {
                let before = match &self.in_force {
                    Some(list) if list.len().is_some() => "the last list that could be read stays in force",
                    _ => "rows that name an entity are not recorded until it can be",
                };
                self.fault = Some(format!("[record] opt_out = \"{name}\": {why}: {before}"));
                if self.in_force.is_some() {
                    return false;
                }
                self.in_force = Some(Arc::new(OptOut::everybody(key)));
                return true;
            }
        };
        self.fault = None;
        let digest = key.digest(text.as_bytes());
        if self.seen == Some(digest) && self.pending.is_none() {
            return false;
        }
        let now = Instant::now();
        let since = match self.pending {
            Some((seen, since)) if seen == digest => since,
            _ => now,
        };
        let known = self.in_force.as_ref().filter(|known| known.len().is_some());
        let is_new = self.pending.is_none_or(|(seen, _)| seen != digest);
        let list = OptOut::of(&text, key);
        if let Some(known) = known.filter(|_| now.saturating_duration_since(since) < settle) {
            self.pending = Some((digest, since));
            if is_new {
                self.in_force = Some(Arc::new(known.with(&list)));
            }
            return is_new;
        }
        (self.seen, self.pending) = (Some(digest), None);
        self.in_force = Some(Arc::new(list));
        true
    }
}

/// The text of a regular file, and not without end.
fn read(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("cannot be read ({error})");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(unread)?;
    let about = file.metadata().map_err(unread)?;
    if !about.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("is larger than {MOST_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_out(followed: &Followed, entity: &str) -> bool {
        followed.list().is_some_and(|list| list.has(entity))
    }

    #[test]
    fn who_is_listed_by_name_or_by_hash_is_out_and_nobody_else() {
        let key = IdKey::new([3; 16]);
        let text = format!(
            "# who asked\n\n customer-9 \n{}\nh_short\r\n",
            key.pseudonym(b"customer-8")
        );
        let list = OptOut::of(&text, &key);
        assert_eq!(list.len(), Some(3));
        for (entity, out) in [
            ("customer-9", true),
            ("customer-8", true),
            ("h_short", true),
            ("customer-7", false),
            ("", false),
        ] {
            assert_eq!(list.has(entity), out, "{entity}");
        }
        let names = ["a", "customer-9", "b"].map(str::to_owned);
        assert_eq!(list.rows(Some(&names)).as_deref(), Some(&[false, true, false][..]));
        assert_eq!(list.rows(Some(&names[..1])), None);
        assert_eq!(list.rows(None), None);
    }

    #[test]
    fn a_list_that_cannot_be_read_keeps_everybody_out_and_a_later_one_keeps_who_was() {
        let dir = tempfile::TempDir::new().unwrap();
        let (key, mut followed) = (IdKey::new([3; 16]), Followed::default());
        let look = |followed: &mut Followed, name| followed.look(dir.path(), name, &key, Duration::ZERO);
        assert!(!look(&mut followed, None) && followed.list().is_none());
        assert!(look(&mut followed, Some("out.txt")) && is_out(&followed, "anybody"));
        assert!(followed.fault().unwrap().contains("not recorded until"));
        std::fs::write(dir.path().join("out.txt"), "ada\n").unwrap();
        assert!(look(&mut followed, Some("out.txt")) && is_out(&followed, "ada") && !is_out(&followed, "bob"));
        assert!(followed.fault().is_none() && !look(&mut followed, Some("out.txt")));
        std::fs::write(dir.path().join("out.txt"), b"\xff").unwrap();
        assert!(!look(&mut followed, Some("out.txt")) && is_out(&followed, "ada") && !is_out(&followed, "bob"));
        assert!(followed.fault().unwrap().contains("stays in force"));
        assert!(look(&mut followed, None) && !is_out(&followed, "ada"));
    }

    #[test]
    fn who_is_added_is_out_at_once_and_who_is_missing_only_after_the_file_has_stood_still() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("out.txt");
        let (key, mut followed) = (IdKey::new([3; 16]), Followed::default());
        let long = Duration::from_secs(3_600);
        let look = |followed: &mut Followed, settle| followed.look(dir.path(), Some("out.txt"), &key, settle);
        std::fs::write(&path, "ada\n").unwrap();
        assert!(look(&mut followed, long), "the first list is in force at once");
        // Half-written: ada is not there yet.
        std::fs::write(&path, "bob\n").unwrap();
        assert!(look(&mut followed, long) && is_out(&followed, "ada") && is_out(&followed, "bob"));
        assert!(followed.is_settling() && !look(&mut followed, long), "seen before");
        assert!(look(&mut followed, Duration::ZERO) && !is_out(&followed, "ada") && is_out(&followed, "bob"));
        assert!(!followed.is_settling() && !look(&mut followed, long));
    }
}
