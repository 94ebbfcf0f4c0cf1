//! Where finished plans are seen.
//!
//! The planner's hook sees every plan once the library is loaded. The first statement of a session that has not loaded
//! it is being planned when it does, by the call of the support function; that plan goes past the hook, and with it
//! perhaps others that are kept for later executions. They are rewritten when they are executed, in a copy, because a
//! plan that is kept belongs to the plan cache.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::batch;
use super::nodes::{copy, items, list, node};
use crate::pg::{settings, unguarded};

static mut NEXT_PLANNER: pg_sys::planner_hook_type = None;
static mut NEXT_EXECUTOR_START: pg_sys::ExecutorStart_hook_type = None;

thread_local! {
    /// Whether the library was loaded by this very process, when a session needed it.
    static LATE: Cell<bool> = const { Cell::new(false) };
    /// Whether the hook has seen a statement. It sees all that begin to be planned after the library was loaded.
    static HOOKED: Cell<bool> = const { Cell::new(false) };
    /// Whether a statement that calls `embed` was planned past the hook.
    static MISSED: Cell<bool> = const { Cell::new(false) };
    /// Calls that have been planned.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Puts the hooks in. Called once, when the library is loaded.
pub(crate) fn install() {
    // SAFETY: hooks are variables of the process, which has one thread.
    unsafe {
        batch::register();
        NEXT_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        // With the library preloaded no plan is missed.
        if !pg_sys::process_shared_preload_libraries_in_progress {
            LATE.set(true);
            NEXT_EXECUTOR_START = pg_sys::ExecutorStart_hook;
            pg_sys::ExecutorStart_hook = Some(executor_start);
        }
    }
}

/// Notes that a call is being planned.
pub(super) fn note_call() {
    CALLS.set(CALLS.get() + 1);
    if !HOOKED.get() {
        MISSED.set(true);
    }
}

/// Not guarded, and without anything to drop: errors of whoever plans jump over it, with all that they say.
unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    source: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    HOOKED.set(true);
    let calls = CALLS.get();
    // SAFETY: called as a planner, and hands on what it was called with.
    unsafe {
        let statement = match NEXT_PLANNER {
            Some(next) => next(query, source, options, parameters),
            None => unguarded::standard_planner(query, source, options, parameters),
        };
        // Every call is noted by its support function while it is planned, so that plans without one are not looked at. A
        // cursor may go backwards, or be where an UPDATE happens, which a node that reads ahead cannot serve.
        if CALLS.get() != calls && options as u32 & CURSOR == 0 && settings::batch_planning() {
            see_plan(statement);
        }
        statement
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn see_plan(statement: *mut pg_sys::PlannedStmt) {
    // SAFETY: called with a finished plan that nobody else has yet.
    unsafe { rewrite(statement) }
}

/// Not guarded, as above.
unsafe extern "C-unwind" fn executor_start(description: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: called as an executor's start, and hands on what it was called with.
    unsafe {
        let copy = if MISSED.get() && settings::batch_planning() {
            see_missed(description, flags)
        } else {
            null_mut()
        };
        match NEXT_EXECUTOR_START {
            Some(next) => next(description, flags),
            None => unguarded::standard_executor_start(description, flags),
        }
        let state = (*description).estate;
        if !copy.is_null() && !state.is_null() {
            pg_sys::MemoryContextSetParent(copy, (*state).es_query_cxt);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn see_missed(
    description: *mut pg_sys::QueryDesc,
    flags: c_int,
) -> pg_sys::MemoryContext {
    // SAFETY: called with a query that has not been started. The copy lives in memory of its own, which is let go with
    // the query's.
    unsafe {
        let statement = (*description).plannedstmt;
        if flags as u32 & (pg_sys::EXEC_FLAG_BACKWARD | pg_sys::EXEC_FLAG_REWIND) == 0
            && depends_on_functions(statement)
            && !is_rewritten(statement)
            && !is_of_cursor(statement)
            && batch::has_calls(statement)
        {
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"vector_embed plan".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(memory);
            let statement = copy(statement);
            rewrite(statement);
            pg_sys::MemoryContextSwitchTo(before);
            (*description).plannedstmt = statement;
            return memory;
        }
        null_mut()
    }
}

/// Options of statements whose reader may go backwards, or write where it is.
const CURSOR: u32 = pg_sys::CURSOR_OPT_SCROLL | pg_sys::CURSOR_OPT_FAST_PLAN;

/// Whether a statement that is about to be executed is that of a cursor.
///
/// # Safety
///
/// Must be called while queries are executed.
unsafe fn is_of_cursor(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: the active portal, if there is one, holds its statements.
    unsafe {
        let Some(portal) = pg_sys::ActivePortal.as_ref() else { return false };
        portal.cursorOptions as u32 & CURSOR != 0 && items(portal.stmts).contains(&statement)
    }
}

/// Whether the plan depends on any function that is not built in; without one there is nothing to look for.
///
/// # Safety
///
/// `statement` must be a finished plan.
unsafe fn depends_on_functions(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: the list holds such items.
    unsafe {
        items::<pg_sys::PlanInvalItem>((*statement).invalItems)
            .into_iter()
            .any(|item| (*item).cacheId == pg_sys::SysCacheIdentifier::PROCOID as c_int)
    }
}

/// # Safety
///
/// `statement` must be a finished plan that may be changed.
unsafe fn rewrite(statement: *mut pg_sys::PlannedStmt) {
    // SAFETY: the caller's promise. The mark makes the plan depend on our support function, which it does.
    unsafe {
        batch::rewrite(statement);
        if LATE.get() {
            let mark = node::<pg_sys::PlanInvalItem>(pg_sys::NodeTag::T_PlanInvalItem);
            (*mark).cacheId = MARK.0;
            (*mark).hashValue = MARK.1;
            (*statement).invalItems = pg_sys::list_concat((*statement).invalItems, list([mark]));
        }
    }
}

/// What a rewritten plan says it depends on, for nothing else does: a hash value that no catalog row has sent an
/// invalidation for would do no harm either.
const MARK: (c_int, u32) = (pg_sys::SysCacheIdentifier::PROCOID as c_int, 0x7665_6362);

/// # Safety
///
/// `statement` must be a finished plan.
unsafe fn is_rewritten(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: the list holds such items.
    unsafe {
        items::<pg_sys::PlanInvalItem>((*statement).invalItems)
            .into_iter()
            .any(|item| ((*item).cacheId, (*item).hashValue) == MARK)
    }
}
