//! Arms of CASE and COALESCE, of which one is evaluated.
//!
//! `coalesce(embedding, embed(body))` embeds only rows without an embedding. Taken out, the call's argument becomes
//! `CASE WHEN embedding IS NOT NULL THEN NULL ELSE body END`: the call is STRICT, and a NULL costs nothing.

use pgrx::pg_sys::{self, Node, NodeTag::*};

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

    /// How many conditions lead here.
    pub(super) fn count_conditions(&self) -> usize {
        // SAFETY: as below.
        unsafe {
            match self.place {
                Some(place) => place + 1,
                None if tag(self.of) == T_CaseExpr => {
                    pg_sys::list_length((*self.of.cast::<pg_sys::CaseExpr>()).args) as usize
                }
                None => pg_sys::list_length((*self.of.cast::<pg_sys::CoalesceExpr>()).args) as usize - 1,
            }
        }
    }

    /// The conditions that are looked at until this arm is reached, in order.
    unsafe fn conditions(&self) -> Vec<*mut pg_sys::Expr> {
        // SAFETY: the arm is of a CASE or a COALESCE.
        unsafe {
            if tag(self.of) == T_CaseExpr {
                let arms = items::<pg_sys::CaseWhen>((*self.of.cast::<pg_sys::CaseExpr>()).args);
                let conditions = arms.into_iter().take(self.count_conditions());
                return conditions.map(|arm| copy((*arm).expr)).collect();
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
