//! Waiting as PostgreSQL waits: cancel, termination and statement_timeout take effect at once.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use pgrx::pg_sys;
use vector_embed_sources::Interest;

/// What to wait for on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Readable,
    ReadableOrWritable,
}

/// Waits until the engine's socket is ready or the process's latch is set.
///
/// Raises what is pending (a cancel, a timeout, a termination) and ends the process when the postmaster dies.
pub(crate) fn wait_for_engine(socket: BorrowedFd<'_>, direction: Direction) {
    let events = match direction {
        Direction::Readable => pg_sys::WL_SOCKET_READABLE,
        Direction::ReadableOrWritable => pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE,
    };
    wait(events, socket.as_raw_fd(), -1, engine_event());
}

/// Waits for an engine to come up, for at most `time`, or until the process's latch is set. Raises what is pending.
pub(crate) fn sleep_for_engine(time: Duration) {
    wait(pg_sys::WL_TIMEOUT, pg_sys::PGINVALID_SOCKET, milliseconds(time), engine_event());
}

/// Waits for at most `time`, or until the process's latch is set. Raises what is pending.
pub(crate) fn sleep(time: Duration) {
    wait(pg_sys::WL_TIMEOUT, pg_sys::PGINVALID_SOCKET, milliseconds(time), pg_sys::PG_WAIT_EXTENSION);
}

/// The same; true if the latch was set.
pub(crate) fn sleep_or_wake(time: Duration) -> bool {
    let woken = wait_events(
        pg_sys::WL_TIMEOUT,
        pg_sys::PGINVALID_SOCKET,
        milliseconds(time),
        pg_sys::PG_WAIT_EXTENSION,
    );
    pgrx::check_for_interrupts!();
    woken
}

fn milliseconds(time: Duration) -> i64 {
    time.as_millis().max(1) as i64
}

/// What `pg_stat_activity` shows as `wait_event` of a backend that waits for the engine.
#[cfg(any(feature = "pg17", feature = "pg18"))]
fn engine_event() -> u32 {
    thread_local! {
        static EVENT: std::cell::OnceCell<u32> = const { std::cell::OnceCell::new() };
    }
    // SAFETY: the name ends with NUL. The event is known to all processes by its name, so that each may ask for it; a
    // process that waits has shared memory.
    EVENT.with(|event| {
        *event.get_or_init(|| unsafe { pg_sys::WaitEventExtensionNew(c"VectorEmbedEngine".as_ptr()) })
    })
}

/// Earlier versions have one event for all extensions, "Extension".
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
fn engine_event() -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}

/// Waits until the socket is ready, if there is one, or for at most `time`, or until the process's latch is set. What is
/// pending is left to the caller.
pub(crate) fn wait_without_interrupts(socket: Option<(BorrowedFd<'_>, Interest)>, time: Duration) {
    let (events, socket) = match socket {
        None => (0, pg_sys::PGINVALID_SOCKET),
        Some((socket, Interest::Readable)) => (pg_sys::WL_SOCKET_READABLE, socket.as_raw_fd()),
        Some((socket, Interest::Writable)) => (pg_sys::WL_SOCKET_WRITEABLE, socket.as_raw_fd()),
    };
    let milliseconds = time.as_millis().clamp(1, i32::MAX as u128);
    wait_events(events | pg_sys::WL_TIMEOUT, socket, milliseconds as i64, pg_sys::PG_WAIT_EXTENSION);
}

fn wait(events: u32, socket: i32, milliseconds: i64, event: u32) {
    wait_events(events, socket, milliseconds, event);
    pgrx::check_for_interrupts!();
}

/// True if the latch was set.
fn wait_events(events: u32, socket: i32, milliseconds: i64, event: u32) -> bool {
    let events = events | pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: MyLatch is valid for the life of the process, and an open socket or none is passed.
    unsafe {
        let woken =
            pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as i32, socket, milliseconds as _, event);
        let is_set = woken as u32 & pg_sys::WL_LATCH_SET != 0;
        if is_set {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        is_set
    }
}
