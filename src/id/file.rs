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
    let wrong = |what: &str| {
        let message = format!("{}: {what}", path.display());
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    };
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() != 16 {
        return Err(wrong(
            "is not a key of 16 bytes: restore it, or remove it and lose the open ids",
        ));
    }
    if about.permissions().mode() & 0o007 != 0 {
        return Err(wrong("is open to every user: chmod 600 it"));
    }
    let mut bytes = [0; 16];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Written beside and linked into place: the file is whole or absent, and of two makers one wins for both.
fn create_key(path: &Path) -> std::io::Result<[u8; 16]> {
    let key = random()?;
    let suffix = u128::from_be_bytes(random()?);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = folder.join(format!(".key-{suffix:032x}"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let made = file
        .write_all(&key)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&beside, path));
    std::fs::remove_file(&beside)?;
    match made {
        Ok(()) => std::fs::File::open(folder)?.sync_all().map(|()| key),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(error),
    }
}
