//! One copy of a large model's weights for all its sessions.
//!
//! ONNX Runtime keeps weights in an order of its own, which sessions share only where the weights were handed in. What is
//! handed in must stay readable as long as a session lives, though it is hardly looked at again; so it lies in a file
//! without a name that is mapped into memory, and its pages are given back once the sessions are loaded: what is looked at
//! after all comes back from the disk. (On a disk that is memory itself, such as `/dev/shm`, they stay.)
//!
//! Always holds: the mapping outlives every session, because each holds the whole; it is this process's own copy, that
//! nobody else can write to.

#![allow(
    unsafe_code,
    reason = "the binding takes only weights that it owns, and mapping a file is a call to the system"
)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use ort::AsPointer;
use ort::memory::MemoryInfo;
use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::sys;
use ort::value::TensorElementType as Element;

use super::LoadError;
use super::words::readable;
use crate::model::onnx::{self, Weight};

/// Sessions share weights from this size on: below, a copy per session costs less than the trouble.
const LARGE: u64 = 32 << 20;
/// Each weight begins at a multiple of this, as ONNX Runtime's own do.
const ALIGNMENT: usize = 64;

/// How the weights of a file can be held.
#[derive(Debug)]
pub enum Holding {
    /// They are small: each session may have its own.
    Own,
    /// They are large, and sessions can share them.
    Shared(Arc<SharedWeights>),
    /// They are large and cannot be shared: they lie in other files, or have types without a fixed size.
    Large,
}

/// See the module.
#[derive(Debug)]
pub struct SharedWeights {
    /// Dropped before the memory that they point to.
    values: Vec<(CString, Handed)>,
    packed: PrepackedWeights,
    memory: Map,
}

/// A weight as ONNX Runtime knows it.
#[derive(Debug)]
struct Handed(NonNull<sys::OrtValue>);

// SAFETY: a value is only read after it was made, and ONNX Runtime lets any thread release it.
unsafe impl Send for Handed {}
// SAFETY: as above.
unsafe impl Sync for Handed {}

impl Drop for Handed {
    fn drop(&mut self) {
        // SAFETY: it was made by CreateTensorWithDataAsOrtValue and is released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}

/// True when what lies in the file's directory is so much that sessions should share it.
#[must_use]
pub fn is_large(path: &Path) -> bool {
    let beside = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let files = beside.into_iter().flatten().flatten();
    let sizes = files.filter_map(|entry| entry.metadata().ok());
    sizes.map(|file| file.len()).sum::<u64>() >= LARGE
}

/// Looks at a large model's file.
///
/// # Errors
/// It cannot be read, or ONNX Runtime refuses one of its weights.
pub fn holding(path: &Path) -> Result<Holding, LoadError> {
    let failed = |error: io::Error| LoadError(format!("its weights cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let model = Map::of(&file).map_err(failed)?;
    let found = onnx::weights(model.bytes()).map_err(|e| LoadError(e.0))?;
    if !found.external && (found.bytes as u64) < LARGE {
        return Ok(Holding::Own);
    }
    let fits = |weight: &Weight| fits(weight).is_some();
    let most = found.bytes / 10 * 9;
    if found.external || found.shared_bytes() < most || !found.shared.iter().all(fits) || cfg!(target_endian = "big") {
        return Ok(Holding::Large);
    }
    match pour(path, &model, &found.shared) {
        Ok(memory) => SharedWeights::new(memory, &found.shared).map(|shared| Holding::Shared(Arc::new(shared))),
        Err(error) => {
            tracing::warn!("{} cannot be shared between sessions: {error}", path.display());
            Ok(Holding::Large)
        }
    }
}

/// The element type, where the bytes are what the dimensions say.
fn fits(weight: &Weight) -> Option<Element> {
    let (element, size) = match weight.element {
        1 => (Element::Float32, 4),
        2 => (Element::Uint8, 1),
        3 => (Element::Int8, 1),
        6 => (Element::Int32, 4),
        7 => (Element::Int64, 8),
        10 => (Element::Float16, 2),
        11 => (Element::Float64, 8),
        _ => return None,
    };
    let count = weight
        .dims
        .iter()
        .try_fold(1_usize, |all, &dim| all.checked_mul(usize::try_from(dim).ok()?))?;
    (count.checked_mul(size)? == weight.bytes.len()).then_some(element)
}

/// The weights one after the other, in a file without a name beside the model.
fn pour(path: &Path, model: &Map, weights: &[Weight]) -> io::Result<Map> {
    let mut file = nameless(path.parent().unwrap_or(Path::new(".")))?;
    for weight in weights {
        let at = file.stream_position()?;
        let gap = at.next_multiple_of(ALIGNMENT as u64) - at;
        io::copy(&mut io::repeat(0).take(gap), &mut file)?;
        file.write_all(model.bytes().get(weight.bytes.clone()).unwrap_or_default())?;
    }
    // Pages that are not on disk yet could not be given back.
    file.sync_data()?;
    Map::of(&file)
}

fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(target_os = "linux")]
    if let Ok(file) = options.clone().custom_flags(libc::O_TMPFILE).mode(0o600).open(folder) {
        return Ok(file);
    }
    let path = std::env::temp_dir().join(format!("dethrone-weights-{}", std::process::id()));
    let file = options.create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl SharedWeights {
    fn new(memory: Map, weights: &[Weight]) -> Result<Self, LoadError> {
        super::runtime::start().map_err(|e| LoadError(e.0))?;
        let mut values = Vec::with_capacity(weights.len());
        let mut at = 0_usize;
        for weight in weights {
            at = at.next_multiple_of(ALIGNMENT);
            let part = memory.bytes().get(at..at + weight.bytes.len());
            let (Some(part), Some(element)) = (part, fits(weight)) else {
                return Err(LoadError(format!("the weight {} is not where it was put", weight.name)));
            };
            at += weight.bytes.len();
            let name = CString::new(weight.name.as_str());
            let name = name.map_err(|_| LoadError("the name of a weight holds a NUL".into()))?;
            values.push((name, hand(part, &weight.dims, element)?));
        }
        Ok(Self {
            values,
            packed: PrepackedWeights::new(),
            memory,
        })
    }

    /// Hands the weights to a session that is to be.
    pub(super) fn hand_to(self: &Arc<Self>, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let mut builder = builder.with_prepacked_weights(&self.packed)?;
        for (name, value) in &self.values {
            // SAFETY: the options, the name and the value are live; ONNX Runtime keeps the name itself, and the value
            // is kept by whoever keeps the session: see `Session`.
            let status = unsafe { (ort::api().AddInitializer)(builder.ptr_mut(), name.as_ptr(), value.0.as_ptr()) };
            // SAFETY: the status comes from ONNX Runtime and is looked at once.
            unsafe { ort::Error::result_from_status(status) }?;
        }
        Ok(builder)
    }

    /// Gives the pages back, once the sessions are loaded.
    pub fn settle(&self) {
        self.memory.give_back();
    }
}

/// Gives what loading took and left free back to the system: the allocator, which ONNX Runtime shares with the gateway,
/// would keep a large model's size of it for a while.
pub fn give_back() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn hand(bytes: &[u8], dims: &[i64], element: Element) -> Result<Handed, LoadError> {
    let memory = MemoryInfo::default();
    let mut value = std::ptr::null_mut();
    // SAFETY: the memory is as long as the dimensions say (`fits`), and outlives the value, which stands before it in
    // `SharedWeights`. ONNX Runtime does not write to an initializer; the mapping could be written to all the same.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            dims.as_ptr(),
            dims.len(),
            element.into(),
            &raw mut value,
        )
    };
    // SAFETY: the status comes from ONNX Runtime and is looked at once.
    let made = unsafe { ort::Error::result_from_status(status) };
    made.map_err(|e| LoadError(readable(e.message())))?;
    NonNull::new(value)
        .map(Handed)
        .ok_or_else(|| LoadError("a weight could not be handed in".into()))
}

/// A file in memory, private to this process.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nothing is written through it; the memory is the value's own until it is dropped.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// The whole file, which nobody may shorten.
    fn of(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new mapping of an open file, at an address that the system chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at no address"))?;
        Ok(Self { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there for as long as the value lives; the stored file and the nameless one
        // are never written to or shortened again.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    fn give_back(&self) {
        // SAFETY: pages of a private mapping that were not written to are read from the file again when they are used.
        let _ = unsafe { libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTNEED) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever pointed into it is gone.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
