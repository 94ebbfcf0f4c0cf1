//! Copies of database files that cannot be read where they are.
//!
//! A database is its file and what lies beside it: a write-ahead log, or the journal of a transaction under way. They
//! are copied together, and the copy counts only if none of them changed meanwhile.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::Error;
use crate::host::Host;

const WHAT: &str = super::WHAT;
const TRIES: u32 = 3;
const CHUNK_BYTES: usize = 1 << 20;
/// Where the two salts are in a write-ahead log. They change whenever it is begun anew.
const SALTS: std::ops::Range<usize> = 16..24;

/// Copies that are kept for further use. A copy is removed when nobody uses it and this is dropped.
#[derive(Debug, Clone, Default)]
pub struct Copies(Rc<RefCell<Vec<Rc<FileCopy>>>>);

/// A copy of a database in a directory of its own, which is removed with it.
#[derive(Debug)]
pub(super) struct FileCopy {
    directory: tempfile::TempDir,
    source: PathBuf,
    identity: Identity,
}

/// What tells whether a database has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    main: Stamp,
    log: Option<(Stamp, Vec<u8>)>,
    journal: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileCopy {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("db")
    }
}

impl Copies {
    /// A copy of the database as it is now.
    pub(super) fn of(&self, path: &Path, host: &Host) -> Result<Rc<FileCopy>, Error> {
        for _ in 0..TRIES {
            let identity = Identity::of(path).map_err(|error| cannot_open(path, &error))?;
            let mut copies = self.0.borrow_mut();
            if let Some(copy) = copies.iter().find(|copy| copy.source == path && copy.identity == identity) {
                return Ok(copy.clone());
            }
            // One that the file has left behind goes with its last reader.
            copies.retain(|copy| copy.source != path || Rc::strong_count(copy) > 1);
            let bytes = copies.iter().map(|copy| copy.identity.bytes()).sum::<u64>() + identity.bytes();
            if host.temporary_bytes.is_some_and(|limit| bytes > limit) {
                return Err(Error::TooLarge { what: WHAT, path: path.display().to_string(), bytes });
            }
            let directory = make_directory(&host.temporary).map_err(|error| cannot_copy(path, &error))?;
            let copied = copy_all(path, directory.path(), host.interrupted);
            let unchanged = Identity::of(path).is_ok_and(|now| now == identity);
            match copied {
                Err(Failure::Interrupted) => return Err(Error::Interrupted),
                // A file may have gone away in the meantime.
                Err(Failure::Io(error)) if unchanged => return Err(cannot_copy(path, &error)),
                Ok(()) if unchanged => {
                    let copy = Rc::new(FileCopy { directory, source: path.to_owned(), identity });
                    copies.push(copy.clone());
                    return Ok(copy);
                }
                _ => {}
            }
        }
        Err(Error::Changing { what: WHAT, path: path.display().to_string() })
    }
}

/// The name of a file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let log = optional(log_stamp(&beside(path, "-wal")))?;
        let journal = optional(stamp(&beside(path, "-journal")))?;
        Ok(Self { main: stamp(path)?, log, journal })
    }

    fn bytes(&self) -> u64 {
        let log = self.log.as_ref().map_or(0, |(stamp, _)| stamp.bytes);
        self.main.bytes + log + self.journal.as_ref().map_or(0, |stamp| stamp.bytes)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn log_stamp(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let stamp = stamp(path)?;
    let mut header = Vec::new();
    File::open(path)?.take(SALTS.end as u64).read_to_end(&mut header)?;
    Ok((stamp, header.get(SALTS).unwrap_or_default().to_vec()))
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_directory(parent: &Path) -> io::Result<tempfile::TempDir> {
    let (within, name) = (parent.parent().unwrap_or(Path::new(".")), parent.file_name().unwrap_or_default());
    fs::create_dir_all(within)?;
    tempfile::Builder::new().prefix(name).tempdir_in(within) // for its owner only
}

enum Failure {
    Interrupted,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn copy_all(path: &Path, directory: &Path, interrupted: fn() -> bool) -> Result<(), Failure> {
    let source = File::open(path)?;
    let copied = copy(&source, &directory.join("db"), interrupted);
    close(source);
    copied?;
    for ending in ["-wal", "-journal"] {
        if let Some(source) = optional(File::open(beside(path, ending)))? {
            copy(&source, &directory.join(format!("db{ending}")), interrupted)?;
        }
    }
    Ok(())
}

/// Copies what the file holds now. One that grows has changed, and is not followed.
fn copy(source: &File, to: &Path, interrupted: fn() -> bool) -> Result<(), Failure> {
    let mut source = source.take(source.metadata()?.len());
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        if interrupted() {
            return Err(Failure::Interrupted);
        }
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            count => target.write_all(&buffer[..count])?,
        }
    }
}

pub(super) fn cannot_open(path: &Path, error: &io::Error) -> Error {
    Error::open(WHAT, path, error)
}

fn cannot_copy(path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::open(WHAT, path, error);
    }
    let detail = format!("It cannot be locked where it is, and not be copied: {error}.");
    Error::Open { what: WHAT, path: path.display().to_string(), detail, hint: None }
}

/// A file's device and inode.
type FileId = (u64, u64);

thread_local! {
    /// Databases that this process reads in place: how many readers each has, and descriptors to be closed after them.
    static IN_PLACE: RefCell<HashMap<FileId, (usize, Vec<File>)>> = RefCell::default();
}

/// A database that is read in place. SQLite's locks are those of POSIX, which all end when the process closes any
/// descriptor of the file; so nobody here closes one meanwhile.
#[derive(Debug)]
pub(super) struct InPlace(FileId);

impl InPlace {
    pub(super) fn new(meta: &fs::Metadata) -> Self {
        let key = (meta.dev(), meta.ino());
        IN_PLACE.with_borrow_mut(|files| files.entry(key).or_default().0 += 1);
        Self(key)
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        IN_PLACE.with_borrow_mut(|files| {
            if let Some((readers, _)) = files.get_mut(&self.0) {
                *readers -= 1;
                if *readers == 0 {
                    files.remove(&self.0);
                }
            }
        });
    }
}

/// Closes a database file, at once or when its last reader has gone.
fn close(file: File) {
    let Ok(meta) = file.metadata() else { return };
    IN_PLACE.with_borrow_mut(|files| {
        if let Some((_, waiting)) = files.get_mut(&(meta.dev(), meta.ino())) {
            waiting.push(file);
        }
    });
}
