//! Reading a file that somebody else may be changing, into a draft that nobody else sees.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::super::scan::beneath;
use super::IntakeError;
use crate::priority::offer_turn;

const CHUNK: usize = 1 << 18;

/// Opens a part of a model without blocking and without leaving `root`.
///
/// The way from `root` to where the path leads is walked folder by folder, each opened in the one before and none
/// through a symlink, so that one exchanged in between gains nothing: resolving a path twice proves nothing, since it can
/// be exchanged twice.
pub(in crate::intake) fn open_part(path: &Path, root: &Path) -> Result<File, IntakeError> {
    let gone = |e: Errno| match e {
        Errno::LOOP | Errno::NOTDIR => IntakeError::Changed("was exchanged while it was opened".into()),
        e => IntakeError::Changed(format!("cannot be opened ({e}): check its permissions")),
    };
    if !path.exists() {
        return Err(IntakeError::Changed("is not there".into()));
    }
    let real = beneath(path, root).map_err(IntakeError::Refused)?;
    let mut steps = real.strip_prefix(root).unwrap_or(&real).components().peekable();
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = always | OFlags::DIRECTORY | OFlags::PATH;
    let mut at = openat(CWD, root, folder, Mode::empty()).map_err(gone)?;
    while let Some(step) = steps.next() {
        let flags = match steps.peek() {
            Some(_) => folder,
            None => always | OFlags::RDONLY | OFlags::NONBLOCK,
        };
        at = openat(&at, step.as_os_str(), flags, Mode::empty()).map_err(gone)?;
    }
    let file = File::from(at);
    let about = file.metadata().map_err(|e| IntakeError::Changed(e.to_string()))?;
    if !about.is_file() {
        return Err(IntakeError::Refused(
            "is not a regular file: put an ONNX file in its place".into(),
        ));
    }
    Ok(file)
}

/// A half-made model; removed unless it was renamed into its place.
pub(super) struct Draft {
    pub(super) path: PathBuf,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays after a failure here is cleared at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Draft {
    /// Copies `source` to a file of the draft, within the bytes that are left; returns the SHA-256 in hexadecimal.
    pub(super) fn copy(&self, name: &str, mut source: impl Source, left: &mut u64) -> Result<String, IntakeError> {
        let before = source.state();
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(self.path.join(name))
            .map_err(IntakeError::Storage)?;
        let (mut hasher, mut length) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match source.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => chunk.get(..read).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(IntakeError::Changed(format!("cannot be read ({e})"))),
            };
            length += read.len() as u64;
            if length > *left {
                return Err(IntakeError::Refused(too_large()));
            }
            hasher.update(read);
            target.write_all(read).map_err(IntakeError::Storage)?;
            offer_turn();
        }
        target.sync_all().map_err(IntakeError::Storage)?;
        if source.state() != before || before.is_some_and(|(size, ..)| size != length) {
            return Err(IntakeError::Changed(
                "changed while it was read: it will be tried again".into(),
            ));
        }
        *left -= length;
        Ok(hex(&hasher.finalize()))
    }
}

pub(super) fn too_large() -> String {
    "is larger than max_model_bytes with all its parts: raise that or export a smaller model".into()
}

/// Something to copy from.
pub(super) trait Source: Read {
    /// Size and time stamps, where they can change under the reader.
    fn state(&self) -> Option<(u64, i64, i64)>;
}

impl Source for File {
    fn state(&self) -> Option<(u64, i64, i64)> {
        self.metadata()
            .ok()
            .map(|about| (about.size(), about.mtime(), about.mtime_nsec()))
    }
}

impl Source for &[u8] {
    fn state(&self) -> Option<(u64, i64, i64)> {
        None
    }
}

pub(super) fn pour(source: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                take(chunk.get(..read).unwrap_or_default())?;
                offer_turn();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // A String takes what is written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes whose state differs from one look to the next, or lies about their number.
    struct Moving {
        bytes: &'static [u8],
        states: Vec<(u64, i64, i64)>,
    }

    impl Read for Moving {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.states.rotate_left(1);
            self.bytes.read(into)
        }
    }

    impl Source for Moving {
        fn state(&self) -> Option<(u64, i64, i64)> {
            self.states.first().copied()
        }
    }

    fn copied(states: &[(u64, i64, i64)]) -> Result<String, IntakeError> {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft {
            path: folder.path().to_path_buf(),
        };
        let (bytes, states) = (&b"bytes"[..], states.to_vec());
        draft.copy("model.onnx", Moving { bytes, states }, &mut 100)
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_not_taken() {
        assert!(copied(&[(5, 0, 0)]).is_ok());
        for states in [
            &[(6, 0, 0)][..],
            &[(5, 0, 0), (5, 0, 1), (5, 0, 1)],
            &[(5, 0, 0), (5, 1, 0), (5, 1, 0)],
        ] {
            assert!(matches!(copied(states), Err(IntakeError::Changed(_))), "{states:?}");
        }
    }
}
