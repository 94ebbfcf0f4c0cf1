//! Noticing that a newer engine was installed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The file this process was started from.
pub(super) struct Executable {
    path: PathBuf,
    identity: (u64, u64),
}

impl Executable {
    pub(super) fn current() -> io::Result<Self> {
        let path = std::env::current_exe()?;
        let identity = identity(&fs::metadata(&path)?);
        Ok(Self { path, identity })
    }

    /// Whether another file has taken its place. An installation replaces a file that is in use, it cannot
    /// write into it.
    pub(super) fn replaced(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| identity(&meta) != self.identity)
    }
}

fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}
