//! A model's files in one sealed memory file: what a runner gets instead of paths.
//!
//! Always holds: what was packed cannot change any more, neither by the gateway nor by a runner (who could otherwise cut
//! it off under whoever reads it); a slip lies inside the file, whatever it claims.
//! Leaves to others: sending it (`channel`), loading it (`model::session`), whether the bytes are the right ones
//! (`intake::store`, whose folder nobody else writes to).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::model::onnx;
use crate::model::session::{LoadError, Mapped, Memory, Session, SessionOptions};

/// Each file begins at a multiple of this: a weight may then be read where it lies.
const ALIGNMENT: u64 = 4_096;

/// Where one of the files lies in the parcel, and its name in the model; the model itself comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// The name; of no use for the model itself.
    pub name: String,
    /// Where it begins.
    pub at: u64,
    /// Its length.
    pub length: u64,
}

/// A packed model.
#[derive(Debug)]
pub struct Parcel {
    file: OwnedFd,
    slips: Vec<Slip>,
}

/// Why a model could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file, or what lies beside it.
    #[error("{0}")]
    Model(String),
    /// No descriptors, or no memory.
    #[error("its bytes could not be put into memory: {0}")]
    System(#[from] io::Error),
}

impl Parcel {
    /// Packs the model at `path` with the external data that it names, which lies beside it.
    ///
    /// # Errors
    /// A file that cannot be read, or no room for it.
    pub fn pack(path: &Path) -> Result<Self, PackError> {
        let memory = rustix::fs::memfd_create("dethrone-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
        let mut memory = File::from(memory.map_err(io::Error::from)?);
        let mut slips = vec![add(&mut memory, path, String::new())?];
        let folder = path.parent().unwrap_or(Path::new("."));
        for name in named(path)? {
            slips.push(add(&mut memory, &folder.join(&name), name)?);
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals).map_err(io::Error::from)?;
        let file = memory.into();
        Ok(Self { file, slips })
    }

    /// What the runner is told of it.
    #[must_use]
    pub fn slips(&self) -> &[Slip] {
        &self.slips
    }

    /// What the runner is handed.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }
}

/// Appends a file.
fn add(memory: &mut File, path: &Path, name: String) -> Result<Slip, PackError> {
    let unreadable = |error: io::Error| PackError::Model(format!("{}: {error}", path.display()));
    let mut source = File::open(path).map_err(unreadable)?;
    let at = memory.seek(SeekFrom::End(0))?.next_multiple_of(ALIGNMENT);
    // A gap reads as zeros.
    memory.set_len(at)?;
    memory.seek(SeekFrom::Start(at))?;
    let length = io::copy(&mut source, memory).map_err(unreadable)?;
    Ok(Slip { name, at, length })
}

/// The external data that a model names. Whatever is no model names none: ONNX Runtime finds the words for it.
fn named(path: &Path) -> Result<Vec<String>, PackError> {
    let bytes = std::fs::read(path).map_err(|error| PackError::Model(format!("{}: {error}", path.display())))?;
    let mut names = onnx::external(&bytes).unwrap_or_default();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Loads what a parcel holds.
///
/// # Errors
/// The runtime's own words, or a parcel that is none.
pub(super) fn load(
    file: Option<OwnedFd>,
    slips: &[Slip],
    options: &SessionOptions,
    memory: Memory,
) -> Result<Session, LoadError> {
    let file = File::from(file.ok_or_else(|| LoadError("its bytes did not come with it".into()))?);
    let mapped = Mapped::of(&file).map_err(|error| LoadError(format!("its bytes cannot be read: {error}")))?;
    let part = |slip: &Slip| -> Option<&[u8]> {
        let start = usize::try_from(slip.at).ok()?;
        let end = start.checked_add(usize::try_from(slip.length).ok()?)?;
        mapped.bytes().get(start..end)
    };
    let outside = || LoadError("one of its files lies outside its bytes".into());
    let (model, beside) = slips.split_first().ok_or_else(outside)?;
    let mut external = Vec::with_capacity(beside.len());
    for slip in beside {
        let name = CString::new(slip.name.as_str()).map_err(|_| outside())?;
        external.push((name, part(slip).ok_or_else(outside)?));
    }
    Session::load_parts(part(model).ok_or_else(outside)?, &external, options, memory)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_packed_model_can_neither_be_written_to_nor_cut_off_nor_opened_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, b"not a model").unwrap();
        let parcel = Parcel::pack(&path).unwrap();
        let mut file = File::from(parcel.file().try_clone().unwrap());
        assert!(file.write_all(b"x").is_err());
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err());
        assert_eq!(Mapped::of(&file).unwrap().bytes(), b"not a model");
        assert_eq!(parcel.slips().first().map(|slip| (slip.at, slip.length)), Some((0, 11)));
    }

    #[test]
    fn what_can_still_be_changed_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        assert!(Mapped::of(&File::open(&path).unwrap()).is_err());
        let open = rustix::fs::memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(Mapped::of(&File::from(open)).is_err());
    }

    #[test]
    fn a_slip_that_points_outside_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, b"not a model").unwrap();
        let parcel = Parcel::pack(&path).unwrap();
        let slip = |at, length| Slip {
            name: String::new(),
            at,
            length,
        };
        for slips in [vec![], vec![slip(0, 12)], vec![slip(u64::MAX, 2)], vec![slip(12, 0)]] {
            let file = parcel.file().try_clone().unwrap();
            assert!(
                load(Some(file), &slips, &SessionOptions::default(), Memory::Kept).is_err(),
                "{slips:?}"
            );
        }
        assert!(load(None, parcel.slips(), &SessionOptions::default(), Memory::Kept).is_err());
    }
}
