//! What a reader needs of the process it runs in.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::sqlite::Copies;

/// The process that reads: a PostgreSQL backend, or a test.
#[derive(Clone)]
pub struct Host {
    /// Whether to give up. Readers ask at every row and in the midst of long steps, and answer with
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub interrupted: fn() -> bool,
    /// Waits until a socket is ready, if one is given, and for at most this long. Returns early when something may be
    /// pending, which [`interrupted`](Self::interrupted) then tells.
    pub wait: fn(Option<(BorrowedFd<'_>, Interest)>, Duration),
    /// Where copies of files go; made when it is needed. Its owner removes what a process leaves that dies.
    pub temporary: PathBuf,
    /// Most bytes that all copies may take; `None`: no limit.
    pub temporary_bytes: Option<u64>,
    /// Copies that were made, and are used again as long as their source does not change.
    pub copies: Copies,
    /// The zone of timestamps that name none.
    pub zone: Rc<dyn Zone>,
}

/// What to wait for on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Readable.
    Readable,
    /// Also: that it is connected.
    Writable,
}

/// A time zone.
pub trait Zone {
    /// Microseconds since 2000-01-01 00:00 UTC of a time that is told as microseconds since 2000-01-01 00:00 there.
    fn to_utc(&self, local: i64) -> i64;
}
