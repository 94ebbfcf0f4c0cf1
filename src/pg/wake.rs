//! Telling the supervisor of rows that were queued, when they can be seen.
//!
//! A commit leaves a note with the number of its database in the runtime directory and sets the supervisor's latch. That
//! is all: neither a listener nor a message, and a note that gets lost is made up for by the supervisor's slow check.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::{queue_notes, runtime_dir};

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// Whether the transaction that is under way has queued something.
    static QUEUED: Cell<bool> = const { Cell::new(false) };
}

/// Has the supervisor woken when the transaction commits. True for the first time in a transaction.
pub(crate) fn after_commit() -> bool {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the process, since libraries are never unloaded.
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), null_mut()) };
    }
    !QUEUED.replace(true)
}

/// Called by PostgreSQL at the end of each transaction. Must not raise an error: the transaction has been committed.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if QUEUED.replace(false) => wake_for_this_database(),
        // What was prepared is found by the slow check: whoever commits it need not have this library.
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => QUEUED.set(false),
        _ => {}
    }
}

/// Has a worker look at the queues of this session's database.
pub(crate) fn wake_for_this_database() {
    // SAFETY: reads a variable of the process.
    queue_notes::tell_queued(unsafe { pg_sys::MyDatabaseId }.to_u32());
    wake_supervisor();
}

/// Sets the supervisor's latch, if there is a supervisor.
pub(crate) fn wake_supervisor() {
    if let Some(pid) = runtime_dir::supervisor() {
        wake(pid);
    }
}

/// Sets the latch of one of the server's processes; does nothing if there is none of this id. Whatever process it is by
/// now, it takes no harm: all have to expect that their latch is set for nothing.
pub(crate) fn wake(pid: i32) {
    if pid <= 0 {
        return;
    }
    // SAFETY: the array is in shared memory, exists as long as the server does, and is as long as it says. A process that
    // is just starting or ending has a slot whose latch may be set.
    unsafe {
        let all = &*pg_sys::ProcGlobal;
        for place in 0..all.allProcCount as usize {
            let process = all.allProcs.add(place);
            if (&raw const (*process).pid).read_volatile() == pid {
                pg_sys::SetLatch(&raw mut (*process).procLatch);
                return;
            }
        }
    }
}
