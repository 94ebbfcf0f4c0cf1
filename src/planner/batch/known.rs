//! What is known of expressions. Each is looked at once, however many others it is part of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use pgrx::pg_sys::{self, Node, NodeTag::*};
use pgrx::prelude::*;

use crate::planner::function::{Signature, signature};
use crate::planner::nodes::{items, tag, walk};

/// What is known of the expressions of one plan.
#[derive(Default)]
pub(super) struct Known {
    signatures: RefCell<HashMap<pg_sys::Oid, Option<Signature>>>,
    holds_calls: RefCell<HashMap<*mut Node, bool>>,
    plain: RefCell<HashMap<(*mut Node, Calls), bool>>,
}

/// Whether calls may be in what is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Calls {
    Allowed,
    Odd,
}

/// Whether the parts of an expression are all evaluated, once for each row, in the expression's own context.
///
/// # Safety
///
/// `expression` must be one.
pub(super) unsafe fn is_transparent(expression: *mut Node) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        match tag(expression) {
            T_List | T_TargetEntry | T_Const | T_Var | T_Param | T_RelabelType | T_CoerceViaIO
            | T_CollateExpr | T_NullTest | T_BooleanTest | T_ArrayExpr | T_RowExpr | T_FieldSelect
            | T_ScalarArrayOpExpr | T_DistinctExpr | T_NullIfExpr | T_MinMaxExpr | T_ConvertRowtypeExpr
            | T_SQLValueFunction => true,
            T_FuncExpr => !(*expression.cast::<pg_sys::FuncExpr>()).funcretset,
            T_OpExpr => !(*expression.cast::<pg_sys::OpExpr>()).opretset,
            _ => false,
        }
    }
}

impl Known {
    /// As [`signature`].
    ///
    /// # Safety
    ///
    /// Must be called where catalogs can be read.
    pub(super) unsafe fn signature(&self, function: pg_sys::Oid) -> Option<Signature> {
        if let Some(known) = self.signatures.borrow().get(&function) {
            return *known;
        }
        // SAFETY: the caller's promise.
        let found = unsafe { signature(function) };
        self.signatures.borrow_mut().insert(function, found);
        found
    }

    /// Whether an expression is a call that can be computed in batches. Of constants alone it is computed once anyway.
    ///
    /// # Safety
    ///
    /// `expression` must be one.
    pub(super) unsafe fn is_call(&self, expression: *mut Node) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if tag(expression) != T_FuncExpr {
                return false;
            }
            let call = expression.cast::<pg_sys::FuncExpr>();
            self.signature((*call).funcid).is_some()
                && items::<Node>((*call).args).into_iter().any(|argument| tag(argument) != T_Const)
        }
    }

    /// Whether an expression holds a call that can be taken out.
    ///
    /// # Safety
    ///
    /// `expression` must be NULL or one.
    pub(super) unsafe fn holds_call(&self, expression: *mut Node) -> bool {
        // SAFETY: the walker is called with this value.
        unsafe {
            if expression.is_null() {
                return false;
            }
            if let Some(known) = self.holds_calls.borrow().get(&expression) {
                return *known;
            }
            let holds = self.is_call(expression)
                || self.guards_calls(expression)
                || (is_transparent(expression) && walk(expression, holds_call, self.as_context()));
            self.holds_calls.borrow_mut().insert(expression, holds);
            holds
        }
    }

    /// Whether an expression is a searched CASE, or a COALESCE, of plain conditions and plain arms, some of which hold
    /// calls. Plain is what may be evaluated twice, below and above, with the same result.
    ///
    /// # Safety
    ///
    /// `expression` must be one.
    pub(super) unsafe fn guards_calls(&self, expression: *mut Node) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let is_condition = |part: *mut Node| self.is_plain(part, Calls::Odd);
            let is_arm = |part: *mut Node| self.is_plain(part, Calls::Allowed);
            match tag(expression) {
                T_CaseExpr => {
                    let case = expression.cast::<pg_sys::CaseExpr>();
                    let arms = items::<pg_sys::CaseWhen>((*case).args);
                    let otherwise: *mut Node = (*case).defresult.cast();
                    (*case).arg.is_null()
                        && arms.iter().all(|arm| is_condition((**arm).expr.cast()))
                        && arms.iter().all(|arm| is_arm((**arm).result.cast()))
                        && is_arm(otherwise)
                        && (self.holds_call(otherwise)
                            || arms.iter().any(|arm| self.holds_call((**arm).result.cast())))
                }
                T_CoalesceExpr => {
                    let arguments = items::<Node>((*expression.cast::<pg_sys::CoalesceExpr>()).args);
                    let Some((last, rest)) = arguments.split_last() else { return false };
                    rest.iter().all(|argument| is_condition(*argument))
                        && is_arm(*last)
                        && self.holds_call(*last)
                }
                _ => false,
            }
        }
    }

    /// Whether an expression may be evaluated in two places: nothing in it but transparent nodes, nothing volatile, and
    /// no call that costs, unless calls are allowed.
    unsafe fn is_plain(&self, expression: *mut Node, calls: Calls) -> bool {
        if expression.is_null() {
            return true;
        }
        let key = (expression, calls);
        if let Some(known) = self.plain.borrow().get(&key) {
            return *known;
        }
        // SAFETY: the walkers are called with this value.
        unsafe {
            let is_known = match tag(expression) {
                T_BoolExpr | T_CaseWhen | T_CoalesceExpr => true,
                T_CaseExpr => (*expression.cast::<pg_sys::CaseExpr>()).arg.is_null(),
                _ => is_transparent(expression),
            };
            let walker = match calls {
                Calls::Allowed => is_odd_arm,
                Calls::Odd => is_odd_condition,
            };
            let is_odd = !is_known
                || (calls == Calls::Odd && self.is_call(expression))
                || pg_sys::check_functions_in_node(expression, Some(is_volatile), self.as_context())
                || walk(expression, walker, self.as_context());
            let is_plain = !is_odd;
            self.plain.borrow_mut().insert(key, is_plain);
            is_plain
        }
    }

    fn as_context(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// Walkers. The context is a [`Known`].
#[pg_guard]
unsafe extern "C-unwind" fn holds_call(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe { (*context.cast::<Known>()).holds_call(expression) }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_odd_arm(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: as above.
    unsafe { !(*context.cast::<Known>()).is_plain(expression, Calls::Allowed) }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_odd_condition(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: as above.
    unsafe { !(*context.cast::<Known>()).is_plain(expression, Calls::Odd) }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_volatile(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    // SAFETY: a function of an expression exists.
    unsafe { pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_VOLATILE }
}
