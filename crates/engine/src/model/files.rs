//! Reading files of a model directory, with errors that name the file and never the directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{ModelProblem, reason};

/// The largest tokenizers of multilingual models have a quarter of this.
const MOST_TOKENIZER_BYTES: u64 = 128 << 20;
/// Other JSON files have some kilobytes.
const MOST_JSON_BYTES: u64 = 4 << 20;

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

    /// Makes sure that a file can be read: that it is a regular one, that it lies in the directory, and that it is no
    /// larger than such a file can be. Returns its size.
    pub fn check(&self, name: &str) -> Result<u64, ModelProblem> {
        let most = match name {
            "tokenizer.json" => MOST_TOKENIZER_BYTES,
            name if name.ends_with(".json") => MOST_JSON_BYTES,
            // Weights that cannot be in memory are not worth hashing.
            _ => memory("MemTotal:"),
        };
        self.check_up_to(name, most)
    }

    fn check_up_to(&self, name: &str, most: u64) -> Result<u64, ModelProblem> {
        let path = self.file(name);
        let meta = fs::metadata(&path).map_err(|error| problem(name, &error))?;
        let unreadable =
            |reason: &str| Err(ModelProblem::Unreadable { file: name.to_owned(), reason: reason.to_owned() });
        if !meta.is_file() {
            // Opening a pipe would wait for a writer.
            return unreadable("it is not a regular file");
        }
        if !self.holds(&path).map_err(|error| problem(name, &error))? {
            return unreadable("it is a symbolic link that leads out of the directory");
        }
        match meta.len() {
            bytes if bytes > most => Err(ModelProblem::TooLarge { file: name.to_owned(), bytes, most }),
            bytes => Ok(bytes),
        }
    }

    /// Whether a file's contents lie in the directory, wherever that is itself, or where the Hugging Face hub's cache
    /// keeps the files of a snapshot.
    fn holds(&self, file: &Path) -> io::Result<bool> {
        let (home, file) = (self.path.canonicalize()?, file.canonicalize()?);
        let snapshots = home.parent().filter(|parent| parent.file_name().is_some_and(|it| it == "snapshots"));
        let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
        Ok(file.starts_with(&home) || blobs.is_some_and(|blobs| file.parent() == Some(&blobs)))
    }

    /// Opens a file that [`Self::check`] finds nothing wrong with.
    pub fn open(&self, name: &str) -> Result<File, ModelProblem> {
        self.check(name)?;
        self.open_up_to(name, u64::MAX)
    }

    /// Opens a file of at most so many bytes.
    pub fn open_up_to(&self, name: &str, most: u64) -> Result<File, ModelProblem> {
        self.check_up_to(name, most)?;
        File::open(self.file(name)).map_err(|error| problem(name, &error))
    }

    /// The contents of a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ModelProblem> {
        let bytes = self.check(name)?;
        self.read_up_to(name, bytes)
    }

    /// The contents of a file of at most so many bytes.
    pub fn read_up_to(&self, name: &str, most: u64) -> Result<Vec<u8>, ModelProblem> {
        let size = self.check_up_to(name, most)?;
        let mut bytes = Vec::new();
        let too_large = || ModelProblem::TooLarge { file: name.to_owned(), bytes: size, most };
        usize::try_from(size)
            .ok()
            .and_then(|size| bytes.try_reserve_exact(size).ok())
            .ok_or_else(too_large)?;
        let file = File::open(self.file(name)).map_err(|error| problem(name, &error))?;
        // No more than it had, should it grow meanwhile.
        file.take(size).read_to_end(&mut bytes).map_err(|error| problem(name, &error))?;
        Ok(bytes)
    }

    /// The contents of a file of weights, if there is memory for them and for the model that is made of them.
    pub fn read_weights(&self, name: &str) -> Result<Vec<u8>, ModelProblem> {
        let bytes = self.check_up_to(name, memory("MemAvailable:") / 2)?;
        self.read_up_to(name, bytes)
    }

    /// A JSON file, or `None` where it does not exist.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ModelProblem> {
        match self.read(name) {
            Err(ModelProblem::Missing(_)) => Ok(None),
            Err(problem) => Err(problem),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| ModelProblem::Invalid { file: name.to_owned(), reason: error.to_string() }),
        }
    }

    /// What tells without reading them whether any of `names` was replaced.
    pub fn fingerprint(&self, names: &[String]) -> Fingerprint {
        let stamp = |name: &String| {
            let meta = fs::metadata(self.file(name)).ok()?;
            // Not the time of change, which a new hard link to the file sets, too.
            Some([meta.dev(), meta.ino(), meta.len(), meta.mtime() as u64, meta.mtime_nsec() as u64])
        };
        Fingerprint(names.iter().map(stamp).collect())
    }
}

/// Device, inode, size and modification time of files, `None` for missing ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<[u64; 5]>>);

pub(super) fn problem(name: &str, error: &io::Error) -> ModelProblem {
    if error.kind() == io::ErrorKind::NotFound {
        ModelProblem::Missing(name.to_owned())
    } else {
        ModelProblem::Unreadable { file: name.to_owned(), reason: reason(error) }
    }
}

/// Bytes of the machine's memory, by the label that the kernel gives them; no limit where it tells nothing.
fn memory(label: &str) -> u64 {
    let kilobytes = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes.saturating_mul(1024))
}
