//! Arms of CASE and COALESCE, of which one is evaluated.
//!
//! `coalesce(embedding, embed(body))` embeds only rows without an embedding. Taken out, the call's argument becomes
//! `CASE WHEN embedding IS NOT NULL THEN NULL ELSE body END`: the call is STRICT, and a NULL costs nothing.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, Node, NodeTag::*};
use pgrx::prelude::*;

use super::lift::{has_call, is_call, is_transparent};
use crate::planner::nodes::{copy, items, list, node, tag};

/// One arm of a searched CASE or a COALESCE.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arm {
    of: *mut Node,
    /// Which of the conditions leads here; `None` if none of them holds.
    place: Option<usize>,
}

impl Arm {
    pub(super) fn new(of: *mut Node, place: usize) -> Self {
        Self { of, place: Some(place) }
    }

    /// The arm that is left: ELSE, or the last argument of COALESCE.
    pub(super) fn otherwise(of: *mut Node) -> Self {
        Self { of, place: None }
    }

    /// Whether an expression is a searched CASE, or a COALESCE, of plain conditions and plain arms, some of which hold
    /// calls. Plain is what may be evaluated twice, below and above, with the same result.
    ///
    /// # Safety
    ///
    /// `expression` must be one.
    pub(super) unsafe fn guards_calls(expression: *mut Node) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let calls = |arm: *mut Node| !arm.is_null() && has_call(arm, null_mut());
            match tag(expression) {
                T_CaseExpr => {
                    let case = expression.cast::<pg_sys::CaseExpr>();
                    let arms = items::<pg_sys::CaseWhen>((*case).args);
                    let otherwise: *mut Node = (*case).defresult.cast();
                    (*case).arg.is_null()
                        && arms.iter().all(|arm| is_plain((**arm).expr.cast()))
                        && arms.iter().all(|arm| is_plain_but_for_calls((**arm).result.cast()))
                        && is_plain_but_for_calls(otherwise)
                        && (calls(otherwise) || arms.iter().any(|arm| calls((**arm).result.cast())))
                }
                T_CoalesceExpr => {
                    let arguments = items::<Node>((*expression.cast::<pg_sys::CoalesceExpr>()).args);
                    let Some((last, rest)) = arguments.split_last() else { return false };
                    rest.iter().all(|argument| is_plain(*argument))
                        && is_plain_but_for_calls(*last)
                        && calls(*last)
                }
                _ => false,
            }
        }
    }

    /// The conditions that are looked at, in order.
    unsafe fn conditions(&self) -> Vec<*mut pg_sys::Expr> {
        // SAFETY: the arm is of a CASE or a COALESCE.
        unsafe {
            if tag(self.of) == T_CaseExpr {
                let arms = items::<pg_sys::CaseWhen>((*self.of.cast::<pg_sys::CaseExpr>()).args);
                return arms.into_iter().map(|arm| copy((*arm).expr)).collect();
            }
            let mut arguments = items::<pg_sys::Expr>((*self.of.cast::<pg_sys::CoalesceExpr>()).args);
            arguments.pop();
            let is_not_null = |argument: *mut pg_sys::Expr| {
                let test = node::<pg_sys::NullTest>(T_NullTest);
                (*test).arg = copy(argument);
                (*test).nulltesttype = pg_sys::NullTestType::IS_NOT_NULL;
                (*test).location = -1;
                test.cast()
            };
            arguments.into_iter().map(is_not_null).collect()
        }
    }
}

/// The argument of a call in an arm, NULL unless the arm is the one that is evaluated.
///
/// # Safety
///
/// `argument` must be an expression.
pub(super) unsafe fn guarded(arm: &Arm, argument: *mut Node) -> *mut Node {
    // SAFETY: makes a CASE of the argument's type out of copies.
    unsafe {
        let (kind, modifier) = (pg_sys::exprType(argument), pg_sys::exprTypmod(argument));
        let collation = pg_sys::exprCollation(argument);
        let null = || pg_sys::makeNullConst(kind, modifier, collation).cast();
        let case = node::<pg_sys::CaseExpr>(T_CaseExpr);
        (*case).casetype = kind;
        (*case).casecollid = collation;
        (*case).location = -1;
        (*case).args = list(arm.conditions().into_iter().enumerate().map(|(place, condition)| {
            let when = node::<pg_sys::CaseWhen>(T_CaseWhen);
            (*when).expr = condition;
            (*when).result = if arm.place == Some(place) { argument.cast() } else { null() };
            (*when).location = -1;
            when
        }));
        (*case).defresult = if arm.place.is_none() { argument.cast() } else { null() };
        case.cast()
    }
}

/// Whether an expression may be evaluated in two places: nothing in it but transparent nodes, no call that costs, and
/// nothing volatile.
unsafe fn is_plain(expression: *mut Node) -> bool {
    // SAFETY: the caller's promise.
    unsafe { is_plain_but_for(Calls::Odd, expression) }
}

/// The same for an arm, which may hold calls.
unsafe fn is_plain_but_for_calls(expression: *mut Node) -> bool {
    // SAFETY: the caller's promise.
    unsafe { expression.is_null() || is_plain_but_for(Calls::Allowed, expression) }
}

unsafe fn is_plain_but_for(mut calls: Calls, expression: *mut Node) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !is_odd(expression, (&raw mut calls).cast()) && !pg_sys::contain_volatile_functions(expression) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    Allowed,
    Odd,
}

/// Walks an expression for what is not plain. The context says whether calls are.
#[pg_guard]
unsafe extern "C-unwind" fn is_odd(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return false;
        }
        let calls = *context.cast::<Calls>();
        if is_call(expression) && calls == Calls::Odd {
            return true;
        }
        let is_known = match tag(expression) {
            T_BoolExpr | T_CaseWhen => true,
            T_CaseExpr => (*expression.cast::<pg_sys::CaseExpr>()).arg.is_null(),
            T_CoalesceExpr => true,
            _ => is_transparent(expression),
        };
        !is_known || pg_sys::expression_tree_walker(expression, Some(is_odd), context)
    }
}
