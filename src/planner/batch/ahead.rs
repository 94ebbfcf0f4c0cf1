//! Statements that run volatile functions of users.
//!
//! Such a function may look at what the statement has written so far. A node that reads ahead would have it look too
//! early, wherever in the plan it is.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, List, Node, NodeTag::*, Plan, PlannedStmt};
use pgrx::prelude::*;

use super::children;
use crate::planner::nodes::{self, items, tag};

/// Whether a plan calls volatile functions that are not built in, or has expressions too deep to tell.
///
/// # Safety
///
/// `statement` must be a finished plan.
pub(super) unsafe fn may_run_user_code(statement: *mut PlannedStmt) -> bool {
    // SAFETY: the statement's plans are its own.
    unsafe {
        let mut plans = items::<Plan>((*statement).subplans);
        plans.push((*statement).planTree);
        while let Some(plan) = plans.pop() {
            if plan.is_null() {
                continue;
            }
            let own = [(*plan).targetlist, (*plan).qual];
            if own.into_iter().any(|list| looks_odd(list.cast(), null_mut())) {
                return true;
            }
            if expressions(plan).into_iter().any(|expression| looks_odd(expression, null_mut())) {
                return true;
            }
            plans.extend(children(plan));
        }
        false
    }
}

/// A plan's expressions beside its output and its condition.
unsafe fn expressions(plan: *mut Plan) -> Vec<*mut Node> {
    // SAFETY: plans of a kind are what their tag says. Lists are nodes.
    unsafe {
        let lists = |lists: &[*mut List]| lists.iter().map(|list| list.cast()).collect();
        match tag(plan.cast()) {
            T_Result => vec![(*plan.cast::<pg_sys::Result>()).resconstantqual],
            T_ModifyTable => {
                let modify = &*plan.cast::<pg_sys::ModifyTable>();
                let mut all: Vec<*mut Node> =
                    lists(&[modify.returningLists, modify.onConflictSet, modify.withCheckOptionLists]);
                all.push(modify.onConflictWhere);
                #[cfg(not(feature = "pg14"))]
                for actions in items::<List>(modify.mergeActionLists) {
                    all.extend(
                        items::<pg_sys::MergeAction>(actions)
                            .into_iter()
                            .flat_map(|action| [(*action).qual, (*action).targetList.cast()]),
                    );
                }
                all
            }
            T_SampleScan => vec![(*plan.cast::<pg_sys::SampleScan>()).tablesample.cast()],
            T_IndexScan => {
                let scan = &*plan.cast::<pg_sys::IndexScan>();
                lists(&[scan.indexqualorig, scan.indexorderbyorig])
            }
            T_IndexOnlyScan => {
                let scan = &*plan.cast::<pg_sys::IndexOnlyScan>();
                lists(&[scan.indexqual, scan.indexorderby])
            }
            T_BitmapIndexScan => lists(&[(*plan.cast::<pg_sys::BitmapIndexScan>()).indexqualorig]),
            T_BitmapHeapScan => lists(&[(*plan.cast::<pg_sys::BitmapHeapScan>()).bitmapqualorig]),
            T_TidScan => lists(&[(*plan.cast::<pg_sys::TidScan>()).tidquals]),
            T_TidRangeScan => lists(&[(*plan.cast::<pg_sys::TidRangeScan>()).tidrangequals]),
            T_FunctionScan => {
                let functions =
                    items::<pg_sys::RangeTblFunction>((*plan.cast::<pg_sys::FunctionScan>()).functions);
                functions.into_iter().map(|function| (*function).funcexpr).collect()
            }
            T_TableFuncScan => vec![(*plan.cast::<pg_sys::TableFuncScan>()).tablefunc.cast()],
            T_ValuesScan => lists(&[(*plan.cast::<pg_sys::ValuesScan>()).values_lists]),
            T_ForeignScan => lists(&[(*plan.cast::<pg_sys::ForeignScan>()).fdw_exprs]),
            T_CustomScan => lists(&[(*plan.cast::<pg_sys::CustomScan>()).custom_exprs]),
            T_NestLoop => lists(&[(*plan.cast::<pg_sys::NestLoop>()).join.joinqual]),
            T_MergeJoin => {
                let join = &*plan.cast::<pg_sys::MergeJoin>();
                lists(&[join.join.joinqual, join.mergeclauses])
            }
            T_HashJoin => {
                let join = &*plan.cast::<pg_sys::HashJoin>();
                lists(&[join.join.joinqual, join.hashclauses, join.hashkeys])
            }
            T_Hash => lists(&[(*plan.cast::<pg_sys::Hash>()).hashkeys]),
            T_Memoize => lists(&[(*plan.cast::<pg_sys::Memoize>()).param_exprs]),
            T_WindowAgg => {
                let window = &*plan.cast::<pg_sys::WindowAgg>();
                vec![window.startOffset, window.endOffset]
            }
            T_Limit => {
                let limit = &*plan.cast::<pg_sys::Limit>();
                vec![limit.limitOffset, limit.limitCount]
            }
            _ => Vec::new(),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_user_code(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    // SAFETY: a function of an expression exists.
    unsafe {
        function.to_u32() >= pg_sys::FirstNormalObjectId
            && pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_VOLATILE
    }
}

/// Walks an expression for volatile functions that are not built in. The checks of domains are taken to be immutable, as
/// PostgreSQL takes them.
#[pg_guard]
unsafe extern "C-unwind" fn looks_odd(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL.
    unsafe {
        !expression.is_null()
            && (pg_sys::check_functions_in_node(expression, Some(is_user_code), context)
                || nodes::walk(expression, looks_odd, context))
    }
}
