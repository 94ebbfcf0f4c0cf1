//! Reading files of a model directory, with errors that name the file and never the directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{ModelProblem, reason};

/// A model directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir {
    path: PathBuf,
}

impl ModelDir {
    /// The directory at `path`, which need not be a model yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it has such a file.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).is_file()
    }

    /// The contents of a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ModelProblem> {
        fs::read(self.file(name)).map_err(|error| problem(name, &error))
    }

    /// A JSON file, or `None` where it does not exist.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ModelProblem> {
        match fs::read(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(problem(name, &error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| ModelProblem::Invalid { file: name.to_owned(), reason: error.to_string() }),
        }
    }

    /// What tells without reading them whether any of `names` was replaced.
    pub fn fingerprint(&self, names: &[String]) -> Fingerprint {
        let stamp = |name: &String| {
            let meta = fs::metadata(self.file(name)).ok()?;
            // The time of change, too: who replaces contents in place can set that of modification back.
            let times =
                [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(|time| time as u64);
            Some([meta.dev(), meta.ino(), meta.len(), times[0], times[1], times[2], times[3]])
        };
        Fingerprint(names.iter().map(stamp).collect())
    }
}

/// Device, inode, size, and times of modification and change of files, `None` for missing ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<[u64; 7]>>);

pub(super) fn problem(name: &str, error: &io::Error) -> ModelProblem {
    if error.kind() == io::ErrorKind::NotFound {
        ModelProblem::Missing(name.to_owned())
    } else {
        ModelProblem::Unreadable { file: name.to_owned(), reason: reason(error) }
    }
}
