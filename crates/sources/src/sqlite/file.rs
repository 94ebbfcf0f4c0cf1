//! Opening a database file that is not ours: without changing it, without trusting it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::WHAT;
use super::copy::{FileCopy, InPlace, beside, cannot_open};
use crate::error::Error;
use crate::host::Host;

/// How long to wait for a writer that has the file locked.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Steps of SQLite's machine between two looks at whether to give up; some 10 microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 1000;
/// Longest value. PostgreSQL has none of a gigabyte.
const MAX_VALUE_BYTES: i32 = (1 << 30) - (1 << 13);
/// Longest pattern of LIKE and GLOB, which compare in one step of SQLite's machine, amid which nobody looks.
const MAX_PATTERN_BYTES: i32 = 1000;
/// Most memory that SQLite takes, whatever a view asks for.
const MAX_HEAP_BYTES: i64 = 2 << 30;

/// A database that is open, in a transaction that reads.
pub struct Database {
    // Closed before what it is read from is given up.
    connection: Connection,
    _place: Place,
}

enum Place {
    InPlace(#[expect(dead_code, reason = "held for its Drop")] InPlace),
    Copy(#[expect(dead_code, reason = "held for its Drop")] Rc<FileCopy>),
}

impl Database {
    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// Opens a database: in place where it can be locked against writers, otherwise a copy of it.
pub fn open(path: &Path, host: &Host) -> Result<Database, Error> {
    let meta = fs::metadata(path).map_err(|error| cannot_open(path, &error))?;
    let refuse = |detail: &str| {
        let path = path.display().to_string();
        Err(Error::Open { what: WHAT, path, detail: detail.to_owned(), hint: None })
    };
    if meta.is_dir() {
        return refuse("It is a directory.");
    }
    if !meta.is_file() {
        let is_pipe = meta.file_type().is_fifo() || meta.file_type().is_socket();
        return refuse(if is_pipe { "It is a pipe or socket." } else { "It is not a regular file." });
    }
    // Opening a pipe would wait for ever.
    let is_odd = |ending| fs::metadata(beside(path, ending)).is_ok_and(|meta| !meta.is_file());
    if ["-wal", "-shm", "-journal"].into_iter().any(is_odd) {
        return refuse("Its log or journal is not a regular file.");
    }
    if meta.len() == 0 {
        return refuse("The file is empty.");
    }
    // Never `immutable`: that would ignore locks, and a log or journal beside the file. A shared-memory file is not
    // made, since the database's owner could not use it.
    let guard = InPlace::new(&meta);
    let address = address(path, "mode=ro&readonly_shm=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    match begin(&address, flags, host).map_err(|error| classify(&error)) {
        Ok(connection) => Ok(Database { connection, _place: Place::InPlace(guard) }),
        Err(Failure::NoLocks) => {
            drop(guard);
            let copy = host.copies.of(path, host)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
            let address = self::address(&copy.path(), "mode=rw");
            let connection = begin(&address, flags, host).map_err(|error| failed(path, &error))?;
            Ok(Database { connection, _place: Place::Copy(copy) })
        }
        Err(failure) => Err(failure.tell(path)),
    }
}

/// A file's address for SQLite.
fn address(path: &Path, query: &str) -> String {
    let mut address = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => address.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => address.push(char::from(*byte)),
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address + "?" + query
}

/// Opens a database and takes its lock.
fn begin(address: &str, flags: OpenFlags, host: &Host) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(address, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    let interrupted = host.interrupted;
    connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(interrupted))?;
    let patience = Instant::now() + BUSY_PATIENCE;
    loop {
        // The first read takes the lock, and rolls back what a crash has left. Some pragmas read, too.
        let begun = distrust(&mut connection, host)
            .and_then(|()| connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema"));
        match begun {
            Err(error) if classify(&error) == Failure::Busy && Instant::now() < patience => {
                connection.execute_batch("ROLLBACK").ok(); // there may be none
                if interrupted() {
                    return Err(interruption());
                }
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    connection.authorizer(Some(authorize))?;
    Ok(connection)
}

fn interruption() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
    rusqlite::Error::SqliteFailure(code, None)
}

/// The file's schema is somebody else's program.
fn distrust(connection: &mut Connection, host: &Host) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)?;
    // What views sort goes to files that nobody counts; memory has its limit.
    let sorted = if host.temporary_bytes.is_some() { "MEMORY" } else { "DEFAULT" };
    // Pragmas answer with the value they have taken.
    connection.execute_batch(&format!(
        "PRAGMA temp_store = {sorted}; PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA query_only = ON; PRAGMA cache_size = -8000; \
         PRAGMA hard_heap_limit = {MAX_HEAP_BYTES}"
    ))
}

/// Statements may read, and nothing else. Asked when they are prepared, for what views do, too.
fn authorize(context: AuthContext<'_>) -> Authorization {
    const PRAGMAS: [&str; 3] = ["table_xinfo", "index_list", "encoding"];
    const FUNCTIONS: [&str; 2] = ["load_extension", "fts3_tokenizer"];
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => {
            !FUNCTIONS.iter().any(|name| name.eq_ignore_ascii_case(function_name))
        }
        AuthAction::Pragma { pragma_name, .. } => PRAGMAS.contains(&pragma_name),
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// What an error of SQLite means to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Interrupted,
    /// A writer has it locked.
    Busy,
    /// It cannot be read in place.
    NoLocks,
    NotADatabase,
    Damaged(String),
    Other(String),
}

pub(super) fn classify(error: &rusqlite::Error) -> Failure {
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return Failure::Other(error.to_string());
    };
    match code.code {
        ErrorCode::OperationInterrupted => Failure::Interrupted,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Failure::Busy,
        ErrorCode::ReadOnly
        | ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed => Failure::NoLocks,
        ErrorCode::NotADatabase => Failure::NotADatabase,
        ErrorCode::DatabaseCorrupt => Failure::Damaged(error.to_string()),
        ErrorCode::SystemIoFailure => match code.extended_code {
            rusqlite::ffi::SQLITE_IOERR_SHORT_READ => Failure::Damaged(error.to_string()),
            rusqlite::ffi::SQLITE_IOERR_READ => Failure::Other(error.to_string()),
            _ => Failure::NoLocks,
        },
        _ => Failure::Other(error.to_string()),
    }
}

impl Failure {
    fn tell(self, path: &Path) -> Error {
        let path = path.display().to_string();
        let (detail, hint) = match self {
            Self::Interrupted => return Error::Interrupted,
            Self::Damaged(detail) => return Error::Damaged { what: WHAT, path, detail: says(&detail) },
            Self::Busy => ("A writer has it locked.".to_owned(), None),
            Self::NoLocks => ("It could neither be locked nor copied.".to_owned(), None),
            Self::NotADatabase => (
                "The file is not a database of SQLite.".to_owned(),
                Some("If it is encrypted, decrypt it first.".to_owned()),
            ),
            Self::Other(detail) => (says(&detail), None),
        };
        Error::Open { what: WHAT, path, detail, hint }
    }
}

/// What SQLite says, as a sentence.
pub(super) fn says(detail: &str) -> String {
    format!("SQLite says: {detail}.")
}

/// An error that has to do with the file as a whole.
pub(crate) fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    classify(error).tell(path)
}
