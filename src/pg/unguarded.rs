//! PostgreSQL's functions that run other people's code, called without a guard.
//!
//! pgrx turns an error that such a call raises into a panic, and that into an error again, which keeps message, detail
//! and hint and loses the rest: context, constraint, schema, table and column names. Here the error jumps over our
//! frames to whoever catches it in PostgreSQL. It must not find values to drop there.

use pgrx::pg_sys;

mod c {
    use std::ffi::c_void;

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        #[cfg(not(feature = "pg18"))]
        pub(super) fn ExecutorRun(query: *mut pg_sys::QueryDesc, direction: i32, count: u64, once: bool);
        #[cfg(feature = "pg18")]
        pub(super) fn ExecutorRun(query: *mut pg_sys::QueryDesc, direction: i32, count: u64);
        pub(super) fn ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub(super) fn domain_check(
            value: pg_sys::Datum,
            is_null: bool,
            domain: pg_sys::Oid,
            extra: *mut *mut c_void,
            context: pg_sys::MemoryContext,
        );
    }
}

/// Runs a query to its end.
///
/// # Safety
///
/// The query has been started, and no frame up to the server's call has anything to drop.
pub(super) unsafe fn executor_run(query: *mut pg_sys::QueryDesc) {
    const FORWARD: i32 = 1;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        c::ExecutorRun(query, FORWARD, 0, true);
        #[cfg(feature = "pg18")]
        c::ExecutorRun(query, FORWARD, 0);
    }
}

/// Fires the triggers that wait for a query's end.
///
/// # Safety
///
/// The query has been run, and no frame up to the server's call has anything to drop.
pub(super) unsafe fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the caller's promise.
    unsafe { c::ExecutorFinish(query) };
}

/// Checks a domain's constraints.
///
/// # Safety
///
/// The value must be of the type below the domain, and no frame up to the server's call has anything to drop.
pub(super) unsafe fn domain_check(value: pg_sys::Datum, is_null: bool, domain: pg_sys::Oid) {
    // SAFETY: the caller's promise.
    unsafe {
        c::domain_check(value, is_null, domain, std::ptr::null_mut(), pg_sys::CurrentMemoryContext);
    }
}
