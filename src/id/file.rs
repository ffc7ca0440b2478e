//! The file of the id key: 16 random bytes, readable by their owner alone.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// 16 random bytes.
pub(super) fn random() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// The key in the file, which is made where there is none.
pub(super) fn load_or_create(path: &Path) -> std::io::Result<[u8; 16]> {
    match read_key(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_key(path),
        read => read,
    }
}

pub(super) fn read_key(path: &Path) -> std::io::Result<[u8; 16]> {
    let bytes = read_secret(
        path,
        16,
        "is not a key of 16 bytes: restore it, or remove it and lose the open ids",
    )?;
    bytes.try_into().map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// A secret of so many bytes; `otherwise` says what to do where it is none.
pub(super) fn read_secret(path: &Path, bytes: usize, otherwise: &str) -> std::io::Result<Vec<u8>> {
    let wrong = |what: &str| {
        let message = format!("{}: {what}", path.display());
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() != bytes as u64 {
        return Err(wrong(otherwise));
    }
    if about.permissions().mode() & 0o007 != 0 {
        return Err(wrong("is open to every user: chmod 600 it"));
    }
    let mut secret = vec![0; bytes];
    file.read_exact(&mut secret)?;
    Ok(secret)
}

/// Written beside and renamed into place: the file is the old one or the new one, whole and on the disk.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let (beside, mut file) = create_beside(path)?;
    let made = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if made.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    made.and_then(|()| std::fs::File::open(folder(path))?.sync_all())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new file in the same directory, readable by its owner alone.
fn create_beside(path: &Path) -> std::io::Result<(std::path::PathBuf, std::fs::File)> {
    let suffix = u128::from_be_bytes(random()?);
    let beside = folder(path).join(format!(".key-{suffix:032x}"));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    Ok((beside, file))
}

/// Written beside and linked into place: the file is whole or absent, and of two makers one wins for both.
fn create_key(path: &Path) -> std::io::Result<[u8; 16]> {
    let key = random()?;
    let (beside, mut file) = create_beside(path)?;
    let made = file
        .write_all(&key)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&beside, path));
    std::fs::remove_file(&beside)?;
    match made {
        Ok(()) => std::fs::File::open(folder(path))?.sync_all().map(|()| key),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(error),
    }
}
