//! Where the installation keeps its files, found relative to the running server as PostgreSQL does.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

/// The directory of the server's programs.
pub(crate) fn bin_dir() -> PathBuf {
    // SAFETY: the postmaster fills this array with its own path before it starts any process.
    let exe = unsafe { path(&raw const pg_sys::my_exec_path as *const c_char) };
    exe.parent().map(Path::to_owned).unwrap_or_default()
}

/// The directory of the server's loadable libraries.
pub(crate) fn pkglib_dir() -> PathBuf {
    // SAFETY: as above.
    unsafe { path(&raw const pg_sys::pkglib_path as *const c_char) }
}

/// The directory of the server's data files.
pub(crate) fn share_dir() -> PathBuf {
    let mut buffer = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: the function writes at most MAXPGPATH bytes, the last of them NUL.
    unsafe {
        pg_sys::get_share_path(&raw const pg_sys::my_exec_path as *const c_char, buffer.as_mut_ptr());
        path(buffer.as_ptr())
    }
}

/// # Safety
///
/// `text` must point to a string that ends with NUL.
unsafe fn path(text: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    PathBuf::from(OsStr::from_bytes(bytes))
}
