//! The runtime directory, where backends, supervisor and engine meet.
//!
//! PostgreSQL processes work in the data directory, so the path is relative. Base backups, checksums and
//! pg_rewind leave directories of this prefix alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;

/// The directory.
pub(crate) const PATH: &str = "base/pgsql_tmp_vector_embed";
/// The engine's socket in it.
pub(crate) const SOCKET: &str = "base/pgsql_tmp_vector_embed/engine.sock";
/// Why the engine could not be started the last time, for those who wait for it.
const FAILURE: &str = "base/pgsql_tmp_vector_embed/start_failure";

/// Held by the supervisor, and tells its process id.
const SUPERVISOR: &str = "supervisor.lock";

/// A lock file in the directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock {
    /// Held by the supervisor as long as it lives.
    Supervisor,
    /// Held by the backend that starts one.
    Starting,
    /// Held by the worker that serves the queues of this database.
    Worker(u32),
}

/// A lock that ends with this value, or with the process.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Writes the id of this process to the lock file.
    pub(crate) fn tell_process(&mut self) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all(std::process::id().to_string().as_bytes())
    }
}

impl Lock {
    /// Takes the lock if nobody has it.
    pub(crate) fn try_take(self) -> Result<Option<Locked>, Error> {
        let name = match self {
            Self::Supervisor => SUPERVISOR.to_owned(),
            Self::Starting => "starting.lock".to_owned(),
            Self::Worker(database) => format!("worker.{database}.lock"),
        };
        let path = Path::new(PATH).join(name);
        let open = || {
            create_directory()?;
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)
        };
        let failed = |error: io::Error| Error::RuntimeDirectory { path: path.display().to_string(), error };
        let file = open().map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Locked(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

pub(super) fn create_directory() -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(PATH) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The process id that the last supervisor has told. It need not live any more.
pub(crate) fn supervisor() -> Option<i32> {
    fs::read_to_string(Path::new(PATH).join(SUPERVISOR)).ok()?.parse().ok()
}

/// Notes why the engine could not be started by an attempt that began at `begin`, which becomes the note's time:
/// who comes later, perhaps after a repair, is not told of it.
pub(crate) fn note_failure(reason: &str, begin: SystemTime) {
    // Appears whole, for readers who look at the wrong moment. Nobody to tell if it fails: the log has it too.
    let partial = PathBuf::from(format!("{FAILURE}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(reason.as_bytes())?;
        file.set_modified(begin)?;
        fs::rename(&partial, FAILURE)
    };
    let _ = write();
}

/// Why the last attempt failed, if it began after `time`.
pub(crate) fn failure_since(time: SystemTime) -> Option<String> {
    let modified = fs::metadata(FAILURE).and_then(|meta| meta.modified()).ok()?;
    if modified < time {
        return None;
    }
    fs::read_to_string(FAILURE).ok()
}
