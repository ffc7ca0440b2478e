//! Which files stand still.
//!
//! A copy into the directory is seen half-written. A version is ready when its model file and every external data
//! file that it names have stood still for the settle time, or came by a rename, which is whole at once. Where files
//! lie, their inodes, sizes and times only say that the bytes may be others; what they are, the store's digest says.
//! Always holds: a change of any part makes the version ready once more, and only a change does; time is an argument.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::External;
use super::scan::VersionFile;
use super::store::{Part, Unit, open_part};

/// How deep a renamed directory is looked through: root / model / version / model.onnx.
const MAX_DEPTH: usize = 4;
/// Files of one renamed directory that are taken at once; the others wait for the settle time.
const MAX_RENAMED: usize = 10_000;
/// Settle times for which nothing is said of a file that does not stand still.
const PATIENCE: i64 = 20;
/// A file whose inode has not changed for this long stands still at first sight, so that a restart need not wait.
/// Far above the settle time, for network volumes whose clock is not ours.
const LONG_STILL_MS: i64 = 60_000;

/// What tells one state of a file from the next without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    /// When the inode last changed, Unix ms; no copying tool can set it back.
    fn changed_ms(&self) -> i64 {
        self.changed
            .0
            .saturating_mul(1_000)
            .saturating_add(self.changed.1 / 1_000_000)
    }

    /// The state of what the path resolves to.
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

/// A file and since when it has been in that state.
#[derive(Debug)]
struct Seen {
    print: Print,
    since_ms: i64,
}

/// A version as it was last handed out.
#[derive(Debug)]
struct Known {
    main: Print,
    /// Names of the external data files; read once per state of the main file.
    external: Vec<String>,
    /// The states that were handed out.
    handed_out: Option<Vec<Option<Print>>>,
}

/// What a look at a version says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// As it was when it was last ready.
    Unchanged,
    /// Not whole yet, for so long (milliseconds); the reason is fit for a status page.
    Waiting(String, i64),
    /// It names a file that is not there, for so long (milliseconds); the reason is fit for a status page.
    Lacking(String, i64),
    /// New or changed, and whole: to be put into the store.
    Ready(Unit),
}

/// Remembers what was seen when.
#[derive(Debug)]
pub struct Settler {
    settle_ms: i64,
    seen: HashMap<PathBuf, Seen>,
    known: HashMap<PathBuf, Known>,
    /// Since when files lack what they name, Unix ms.
    lacking: HashMap<PathBuf, i64>,
    /// Since when they have not been whole, Unix ms.
    waiting: HashMap<PathBuf, i64>,
}

impl Settler {
    /// A settler that waits `settle_ms` for files that are written in place.
    #[must_use]
    pub fn new(settle_ms: u64) -> Self {
        Self {
            settle_ms: i64::try_from(settle_ms).unwrap_or(i64::MAX),
            seen: HashMap::new(),
            known: HashMap::new(),
            lacking: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// Takes note that something was renamed to `path` (a file, or a directory with files): it is whole as it is.
    pub fn renamed(&mut self, path: &Path) {
        let mut files = Vec::new();
        gather(path, MAX_DEPTH, &mut files);
        for file in files {
            if let Some(print) = Print::of(&file) {
                let since_ms = i64::MIN;
                self.seen.insert(file, Seen { print, since_ms });
            }
        }
    }

    /// Looks at a version at `now_ms` (Unix milliseconds). `external` names the external data in a model file's bytes; a file that it
    /// refuses counts as one without, for the store to refuse it by name.
    pub fn look(&mut self, version: &VersionFile, now_ms: i64, external: External<'_>) -> Look {
        match self.part_by_part(version, now_ms, external) {
            Look::Waiting(why, _) => {
                let since = self.waiting.entry(version.path.clone()).or_insert(now_ms);
                Look::Waiting(why, now_ms.saturating_sub(*since))
            }
            look => {
                self.waiting.remove(&version.path);
                look
            }
        }
    }

    fn part_by_part(&mut self, version: &VersionFile, now_ms: i64, external: External<'_>) -> Look {
        let Some(main) = self.still(&version.path, now_ms) else {
            return Look::Waiting("is still being written".into(), 0);
        };
        if self.known.get(&version.path).is_none_or(|known| known.main != main) {
            let external = match read_external(version, main.size, external) {
                Ok(names) => names,
                Err(reason) => return Look::Waiting(reason, 0),
            };
            let handed_out = None;
            let known = Known {
                main: main.clone(),
                external,
                handed_out,
            };
            self.known.insert(version.path.clone(), known);
        }
        let names = self
            .known
            .get(&version.path)
            .map(|known| known.external.clone())
            .unwrap_or_default();
        let folder = version.path.parent().unwrap_or(Path::new(""));
        let mut parts = Vec::new();
        let mut prints = vec![Some(main)];
        for name in names {
            // A name that leaves the folder is not looked up: the store refuses it.
            let path = folder.join(&name);
            if super::is_external_name(&name) {
                match self.still(&path, now_ms) {
                    None if Print::of(&path).is_none() => {
                        let why = format!("waits for its external data {name}: copy that file beside it");
                        let since = *self.lacking.entry(version.path.clone()).or_insert(now_ms);
                        return Look::Lacking(why, now_ms.saturating_sub(since));
                    }
                    None => return Look::Waiting(format!("its external data {name} is still being written"), 0),
                    print => prints.push(print),
                }
            }
            parts.push(Part { name, path });
        }
        self.lacking.remove(&version.path);
        let Some(known) = self.known.get_mut(&version.path) else {
            return Look::Unchanged;
        };
        if known.handed_out.as_ref() == Some(&prints) {
            return Look::Unchanged;
        }
        known.handed_out = Some(prints);
        Look::Ready(Unit {
            name: version.name.clone(),
            root: version.root.clone(),
            path: version.path.clone(),
            external: parts,
        })
    }

    /// Makes the next look at this file hand it out again: the store could not take it.
    pub fn forget(&mut self, path: &Path) {
        self.known.remove(path);
    }

    /// The same for all files beneath a folder.
    pub fn forget_beneath(&mut self, folder: &Path) {
        self.known.retain(|path, _| !path.starts_with(folder));
    }

    /// A file that has not been whole for longer than this is worth a word: nobody copies that slowly, or the copy broke off
    /// and somebody keeps touching it.
    #[must_use]
    pub fn patience_ms(&self) -> i64 {
        self.settle_ms.saturating_mul(PATIENCE)
    }

    /// Lets go of files that are no longer there; for every full rescan.
    pub fn prune(&mut self) {
        self.seen.retain(|path, _| path.exists());
        self.known.retain(|path, _| path.exists());
        self.lacking.retain(|path, _| path.exists());
        self.waiting.retain(|path, _| path.exists());
    }

    /// The file's state, once it has been in it long enough.
    fn still(&mut self, path: &Path, now_ms: i64) -> Option<Print> {
        let print = Print::of(path)?;
        match self.seen.get_mut(path) {
            Some(seen) if seen.print == print => {
                // A clock that stepped back must not keep a file waiting for longer than the settle time.
                seen.since_ms = seen.since_ms.min(now_ms);
                (now_ms.saturating_sub(seen.since_ms) >= self.settle_ms).then_some(print)
            }
            _ => {
                let is_old = now_ms.saturating_sub(print.changed_ms()) >= LONG_STILL_MS.max(self.settle_ms);
                let seen = Seen {
                    print: print.clone(),
                    since_ms: if is_old { i64::MIN } else { now_ms },
                };
                self.seen.insert(path.to_path_buf(), seen);
                (is_old || self.settle_ms == 0).then_some(print)
            }
        }
    }
}

/// Names of external data, without repetition.
fn read_external(version: &VersionFile, size: u64, external: External<'_>) -> Result<Vec<String>, String> {
    let mut bytes = Vec::new();
    let file = open_part(&version.path, &version.root).map_err(|e| e.to_string())?;
    file.take(size)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot be read ({e})"))?;
    let mut names = external(&bytes).unwrap_or_default();
    names.sort();
    names.dedup();
    // One more than the store takes, for it to refuse.
    names.truncate(super::store::MAX_EXTERNAL + 1);
    Ok(names)
}

/// Files at or beneath the path, without following symlinks to directories.
fn gather(path: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    if files.len() >= MAX_RENAMED {
        return;
    }
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    if !about.is_dir() {
        files.push(path.to_path_buf());
    } else if depth > 0 {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            gather(&entry.path(), depth - 1, files);
        }
    }
}
