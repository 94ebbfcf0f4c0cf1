//! PostgreSQL's functions that run other people's code, called without a guard.
//!
//! pgrx turns an error that such a call raises into a panic, and that into an error again, which keeps message, detail
//! and hint and loses the rest: context, constraint, schema, table and column names. Here the error jumps over our
//! frames to whoever catches it in PostgreSQL. It must not find values to drop there.

use pgrx::pg_sys;

mod c {
    use std::ffi::{c_char, c_int, c_void};

    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        #[cfg(not(feature = "pg18"))]
        pub(super) fn ExecutorRun(query: *mut pg_sys::QueryDesc, direction: i32, count: u64, once: bool);
        #[cfg(feature = "pg18")]
        pub(super) fn ExecutorRun(query: *mut pg_sys::QueryDesc, direction: i32, count: u64);
        pub(super) fn ExecutorFinish(query: *mut pg_sys::QueryDesc);
        pub(super) fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
        pub(super) fn standard_planner(
            query: *mut pg_sys::Query,
            source: *const c_char,
            options: c_int,
            parameters: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
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

/// Plans a statement.
///
/// # Safety
///
/// As a planner is called; no frame up to the server's call has anything to drop.
pub(crate) unsafe fn standard_planner(
    query: *mut pg_sys::Query,
    source: *const std::ffi::c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the caller's promise.
    unsafe { c::standard_planner(query, source, options, parameters) }
}

/// Starts a query.
///
/// # Safety
///
/// As the executor's start is called; no frame up to the server's call has anything to drop.
pub(crate) unsafe fn standard_executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the caller's promise.
    unsafe { c::standard_ExecutorStart(query, flags) };
}

/// The next row of a plan.
///
/// # Safety
///
/// The plan's state has been made ready, and no frame up to the server's call has anything to drop.
pub(crate) unsafe fn next_row(plan_state: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: as `ExecProcNode` in executor.h.
    unsafe {
        if !(*plan_state).chgParam.is_null() {
            pg_sys::ExecReScan(plan_state);
        }
        match (*plan_state).ExecProcNode {
            Some(next) => next(plan_state),
            None => std::ptr::null_mut(),
        }
    }
}

/// Evaluates a plan's output for the row that is in the expression context.
///
/// # Safety
///
/// The projection has been made ready, and no frame up to the server's call has anything to drop.
pub(crate) unsafe fn project(projection: *mut pg_sys::ProjectionInfo) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: as `ExecProject` in executor.h.
    unsafe {
        let state = &raw mut (*projection).pi_state;
        let (slot, context) = ((*state).resultslot, (*projection).pi_exprContext);
        pg_sys::ExecClearTuple(slot);
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        let mut is_null = false;
        if let Some(evaluate) = (*state).evalfunc {
            evaluate(state, context, &mut is_null);
        }
        pg_sys::MemoryContextSwitchTo(before);
        (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
        (*slot).tts_nvalid = (*(*slot).tts_tupleDescriptor).natts as i16;
        slot
    }
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
