//! The library's full version. The binding tells only the minor number, and the patch number says which fixes are in.

use std::path::Path;

/// The version string of the library that is loaded from `path`, e.g. `1.32.0`.
#[cfg(unix)]
#[allow(unsafe_code, reason = "asking a loaded library is a call through a C pointer")]
pub(super) fn full(path: &Path) -> Option<String> {
    use std::ffi::{CStr, CString};
    use std::os::unix::ffi::OsStrExt as _;

    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path is a C string. RTLD_NOLOAD runs no code: it finds the library that is loaded already, or nothing.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    // SAFETY: `library` is a handle from `dlopen`, the name is a C string.
    let symbol = unsafe { libc::dlsym(library, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: this symbol of this library is a function without parameters that returns the table; the library stays
    // loaded for ever, as the handle is never closed, and so does the table and the string that it returns.
    let version = unsafe {
        let base: unsafe extern "C" fn() -> *const ort::sys::OrtApiBase = std::mem::transmute(symbol);
        let base = base().as_ref()?;
        CStr::from_ptr((base.GetVersionString)())
    };
    version.to_str().ok().map(str::to_owned)
}

/// Elsewhere the minor number has to do.
#[cfg(not(unix))]
pub(super) fn full(_path: &Path) -> Option<String> {
    None
}
