//! The backend, as the readers see it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, PgTryBuilder};
use vector_embed_sources::sqlite::Copies;
use vector_embed_sources::{Host, Interest, Zone};

use crate::error::{Error, OrRaise};
use crate::pg::latch;

const MICROS_PER_SECOND: i64 = 1_000_000;

thread_local! {
    /// The error that a reader was interrupted for, until it has given up.
    static PENDING: RefCell<Option<CaughtError>> = const { RefCell::new(None) };
    /// Copies of files that this transaction has made.
    static COPIES: RefCell<Option<Copies>> = const { RefCell::new(None) };
    /// Where this process has made copies.
    static DIRECTORIES: RefCell<BTreeSet<PathBuf>> = const { RefCell::new(BTreeSet::new()) };
}

/// The backend, for readers whose timestamps are of a zone.
pub(super) fn host(zone: *mut pg_sys::pg_tz) -> Host {
    // SAFETY: reads a setting of the process, in kilobytes.
    let limit = unsafe { pg_sys::temp_file_limit };
    Host {
        interrupted,
        wait,
        temporary: temporary(),
        temporary_bytes: u64::try_from(limit).ok().map(|kilobytes| kilobytes * 1024),
        copies: copies(),
        zone: Rc::new(ServerZone(zone)),
    }
}

/// Serves what is pending. An error has to wait until the reader's frames, some of them C, have returned; and so has
/// the end of the process, which would leave what they hold.
fn interrupted() -> bool {
    // SAFETY: reads variables of the process.
    let (is_pending, ends) = unsafe { (pg_sys::InterruptPending != 0, pg_sys::ProcDiePending != 0) };
    // A reader may have to ask more than once before it gives up.
    if ends || PENDING.with_borrow(Option::is_some) {
        return true;
    }
    if !is_pending {
        return false;
    }
    let serve = || {
        // SAFETY: called where nothing of PostgreSQL's is locked or half done.
        unsafe { pg_sys::ProcessInterrupts() };
        None
    };
    let error = PgTryBuilder::new(AssertUnwindSafe(serve)).catch_others(Some).execute();
    let is_interrupted = error.is_some();
    if is_interrupted {
        PENDING.set(error);
    }
    is_interrupted
}

/// Waits on the process's latch, too. What is pending then is served by [`interrupted`].
fn wait(socket: Option<(BorrowedFd<'_>, Interest)>, time: Duration) {
    latch::wait_without_interrupts(socket, time);
}

/// Ends a reader's call with its value or its error. Where it was interrupted, that comes first: a reader may have
/// taken it for something else, such as a table that cannot be looked at.
pub(super) fn finish<T>(result: Result<T, Error>) -> T {
    if let Some(error) = PENDING.take() {
        drop(result);
        error.rethrow();
    }
    if let Err(Error::Source(vector_embed_sources::Error::Interrupted)) = &result {
        // SAFETY: nothing of the reader's is left to be served first.
        unsafe { pg_sys::ProcessInterrupts() };
    }
    result.or_raise()
}

/// Where this process's copies go. The name's begin makes PostgreSQL remove what a crash leaves.
fn temporary() -> PathBuf {
    let mut buffer = [0 as c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: within a transaction; the function writes at most MAXPGPATH bytes, the last of them NUL.
    let directory = unsafe {
        pg_sys::PrepareTempTablespaces();
        let mut space = pg_sys::GetNextTempTableSpace();
        if space == pg_sys::InvalidOid {
            space = pg_sys::MyDatabaseTableSpace;
        }
        pg_sys::TempTablespacePath(buffer.as_mut_ptr(), space);
        CStr::from_ptr(buffer.as_ptr())
    };
    let directory = PathBuf::from(OsStr::from_bytes(directory.to_bytes()));
    remove_at_exit(&directory);
    directory.join(prefix())
}

fn prefix() -> String {
    format!("pgsql_tmp{}.vector_embed.", std::process::id())
}

/// Copies in a directory are removed when the process exits: one that exits amid a reader's frames, because its client
/// has gone, leaves them.
fn remove_at_exit(directory: &Path) {
    DIRECTORIES.with_borrow_mut(|directories| {
        if directories.is_empty() {
            // SAFETY: the callback is a function of this library, which is never unloaded.
            unsafe { pg_sys::on_proc_exit(Some(remove_copies), pg_sys::Datum::null()) };
        }
        directories.insert(directory.to_owned());
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn remove_copies(_code: c_int, _argument: pg_sys::Datum) {
    let prefix = prefix();
    let directories = DIRECTORIES.take();
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes())) {
        fs::remove_dir_all(entry.path()).ok(); // PostgreSQL's next start removes it
    }
}

/// Forgets the transaction's copies, which removes them.
struct EndOfTransaction;

impl Drop for EndOfTransaction {
    fn drop(&mut self) {
        COPIES.take();
    }
}

fn copies() -> Copies {
    COPIES.with_borrow_mut(|copies| {
        copies
            .get_or_insert_with(|| {
                PgMemoryContexts::TopTransactionContext.leak_and_drop_on_delete(EndOfTransaction);
                Copies::default()
            })
            .clone()
    })
}

/// A zone of PostgreSQL's.
struct ServerZone(*mut pg_sys::pg_tz);

impl Zone for ServerZone {
    fn to_utc(&self, local: i64) -> i64 {
        // SAFETY: zones are kept for ever; the functions fill what they are given.
        unsafe {
            let mut parts = pg_sys::pg_tm::default();
            let mut fraction = 0;
            if pg_sys::timestamp2tm(local, null_mut(), &mut parts, &mut fraction, null_mut(), null_mut()) != 0
            {
                return local;
            }
            let west = pg_sys::DetermineTimeZoneOffset(&mut parts, self.0);
            local + i64::from(west) * MICROS_PER_SECOND
        }
    }
}
