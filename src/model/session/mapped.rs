//! A file in memory, to be read and no more: how a runner gets at bytes that it has no file for.
//!
//! Always holds: what was mapped stays as it is and where it is until the value is dropped; only files that nobody can
//! shorten or write to are mapped, for whoever touches a page beyond the end is killed.
//! Leaves to others: what is in it (`arena::parcel`).
#![allow(
    unsafe_code,
    reason = "mapping a file is a call to the system, and the binding takes only files that it owns"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use ort::AsPointer;
use ort::session::builder::SessionBuilder;
use rustix::fs::SealFlags;

/// The bytes of a sealed file.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nothing is written through it, and nobody else can write to the file.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

/// What must be impossible before the bytes are looked at.
const SEALED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

impl Mapped {
    /// The whole file.
    ///
    /// # Errors
    /// It is empty, not sealed against every change, or there is no room for it.
    pub fn of(file: &File) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(file)?;
        if !seals.contains(SEALED) {
            return Err(io::Error::other("it can still be changed"));
        }
        // Not the standard library's way, which would take a call that also looks at files by name.
        let length = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
        if length == 0 {
            return Err(io::Error::other("it is empty"));
        }
        // SAFETY: a new mapping of an open file, at an address that the system chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at no address"))?;
        Ok(Self { start, length })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there for as long as the value lives, and nobody can write to them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever borrowed from it is gone.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Gives ONNX Runtime the bytes of a file that the model names, in the file's stead. It takes its own copy while the
/// session is made: `bytes` must live until then, and no longer.
pub(super) fn stand_in(builder: &mut SessionBuilder, name: &std::ffi::CStr, bytes: &[u8]) -> Result<(), ort::Error> {
    let (name, start, length) = (
        name.as_ptr(),
        bytes.as_ptr().cast::<libc::c_char>().cast_mut(),
        bytes.len(),
    );
    // SAFETY: one name, one pointer and one length, each live across the call, which keeps the pointer until the
    // session is made (`Session::load_parts` borrows the bytes for so long) and only reads through it.
    let status = unsafe {
        (ort::api().AddExternalInitializersFromMemory)(
            builder.ptr_mut(),
            &raw const name,
            &raw const start,
            &raw const length,
            1,
        )
    };
    // SAFETY: the status comes from ONNX Runtime and is looked at once.
    unsafe { ort::Error::result_from_status(status) }.map(drop)
}
