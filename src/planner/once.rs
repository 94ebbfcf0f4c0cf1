//! Calls without variables are computed once per execution.
//!
//! PostgreSQL evaluates a STABLE function for every row, also where its arguments are constants, as in
//! `ORDER BY embedding <=> embed('…')`. Here the planner support function of `embed` turns such a call into the
//! scalar subquery `(SELECT embed('…'))` while expressions are simplified. The planner then makes it an InitPlan:
//! computed once, when first needed, also for all workers of a parallel plan; an index scan takes it as its key.
//!
//! An array call is treated alike. Left alone it would even be computed while a statement is planned, to estimate
//! how many rows `unnest(embed(ARRAY[…]))` has.
//!
//! Why here: the support function is called for every call that is planned, which also loads the library in a
//! session that has not used it. The subquery is processed by the planner step that follows the simplification
//! (`preprocess_expression` in planner.c). Simplifications outside of that step come without a `PlannerInfo` and
//! are left alone; for the one that does not, see `exists_calls`.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::hook;
use super::nodes::{items, node, walk};

/// Support function of `embed` and `embed_query`; answers `SupportRequestSimplify`.
#[pg_guard]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn vector_embed_support(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: declared as support function, so the planner calls it, with a pointer to a request node.
    unsafe {
        let request: *mut pg_sys::Node = (*(*fcinfo).args.as_ptr()).value.cast_mut_ptr();
        let answer = match (*request).type_ {
            pg_sys::NodeTag::T_SupportRequestSimplify => {
                hook::note_call();
                let request = request.cast::<pg_sys::SupportRequestSimplify>();
                simplify((*request).root, (*request).fcall)
            }
            _ => std::ptr::null_mut(),
        };
        pg_sys::Datum::from(answer)
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn pg_finfo_vector_embed_support() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// The subquery that takes the call's place, or NULL where the call stays.
///
/// # Safety
///
/// `root` is the planner's state or NULL, `call` the call under simplification.
unsafe fn simplify(root: *mut pg_sys::PlannerInfo, call: *mut pg_sys::FuncExpr) -> *mut pg_sys::Node {
    // SAFETY: the nodes come from the planner, whose query is its own copy to change.
    unsafe {
        if root.is_null()
            || is_computed_once(root, call)
            || lists_calls_in_values((*root).parse, (*call).funcid)
            || varies((*call).args.cast(), null_mut())
            || pg_sys::contain_volatile_functions((*call).args.cast())
            || exists_calls((*root).parse.cast(), (&raw mut (*call).funcid).cast())
            || exists_calls((*root).append_rel_list.cast(), (&raw mut (*call).funcid).cast())
        {
            return null_mut();
        }
        // Tells the planner's next step that there are subqueries to process.
        (*(*root).parse).hasSubLinks = true;
        scalar_subquery(call).cast()
    }
}

/// Whether the call is computed once as it stands: in `SELECT f(embed('…'))`, without a table and without a
/// function that returns a set. In a subquery of that form, which may be computed for each row of the outer query,
/// the call has to be all there is. The subqueries made here are of that kind, which ends the recursion.
///
/// # Safety
///
/// `root` must be the planner's state and `call` a call in its query.
unsafe fn is_computed_once(root: *mut pg_sys::PlannerInfo, call: *mut pg_sys::FuncExpr) -> bool {
    // SAFETY: the join tree of a query is never NULL, and target lists hold target entries.
    unsafe {
        let query = (*root).parse;
        if (*query).hasTargetSRFs || !is_without_table(query) {
            return false;
        }
        if (*root).query_level == 1 {
            return true;
        }
        let targets = items::<pg_sys::TargetEntry>((*query).targetList);
        let [target] = targets.as_slice() else { return false };
        let expression: *mut pg_sys::Node = (**target).expr.cast();
        (*(*query).jointree).quals.is_null()
            && (*expression).type_ == pg_sys::NodeTag::T_FuncExpr
            && (*expression.cast::<pg_sys::FuncExpr>()).funcid == (*call).funcid
    }
}

/// Whether the query has no FROM clause.
///
/// # Safety
///
/// `query` must be a query.
unsafe fn is_without_table(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a range table reference names an entry that exists.
    unsafe {
        let from = (*(*query).jointree).fromlist;
        match items::<pg_sys::Node>(from).as_slice() {
            [] => true,
            [item] if (**item).type_ == pg_sys::NodeTag::T_RangeTblRef => {
                let index = (*item.cast::<pg_sys::RangeTblRef>()).rtindex;
                let entry: *mut pg_sys::RangeTblEntry = pg_sys::list_nth((*query).rtable, index - 1).cast();
                (*entry).rtekind == pg_sys::RTEKind::RTE_RESULT
            }
            _ => false,
        }
    }
}

/// Walks a query for an EXISTS whose subquery calls the function whose OID `context` points to.
///
/// To see whether such an EXISTS can be turned into something cheaper, the planner simplifies the subquery's
/// conditions as if they were the outer query's (`convert_EXISTS_to_ANY` in subselect.c). A subquery made then
/// would never be planned.
#[pg_guard]
unsafe extern "C-unwind" fn exists_calls(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: called with nodes of one query and the context given above.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            pg_sys::NodeTag::T_SubLink
                if (*node.cast::<pg_sys::SubLink>()).subLinkType == pg_sys::SubLinkType::EXISTS_SUBLINK =>
            {
                calls((*node.cast::<pg_sys::SubLink>()).subselect, context)
            }
            _ => walk(node, exists_calls, context),
        }
    }
}

/// Whether the query is of the form `INSERT … VALUES (…, embed('…')), (…, embed('…')), …`, where each call is
/// computed once anyway, and a subquery for each would make the plan large.
///
/// # Safety
///
/// `query` must be a query.
unsafe fn lists_calls_in_values(query: *mut pg_sys::Query, mut function: pg_sys::Oid) -> bool {
    // SAFETY: the range table holds entries, and VALUES entries hold lists of expressions.
    unsafe {
        items::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().any(|entry| {
            (*query).commandType == pg_sys::CmdType::CMD_INSERT
                && (*entry).rtekind == pg_sys::RTEKind::RTE_VALUES
                && pg_sys::list_length((*entry).values_lists) > 0
                && calls(pg_sys::list_nth((*entry).values_lists, 0).cast(), (&raw mut function).cast())
        })
    }
}

/// Walks an expression or a query for a call of the function whose OID `context` points to.
#[pg_guard]
unsafe extern "C-unwind" fn calls(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: called with nodes of one expression and the context given above.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_FuncExpr
            && (*node.cast::<pg_sys::FuncExpr>()).funcid == *context.cast::<pg_sys::Oid>()
        {
            return true;
        }
        walk(node, calls, context)
    }
}

/// Walks an expression for anything whose value may differ between rows. What is not known not to is taken
/// to, so that new kinds of nodes in later versions leave calls alone.
#[pg_guard]
unsafe extern "C-unwind" fn varies(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: called with nodes of one expression.
    unsafe {
        if node.is_null() {
            return false;
        }
        let constant = match (*node).type_ {
            T_Const | T_List | T_RelabelType | T_CoerceViaIO | T_CoalesceExpr | T_NullIfExpr
            | T_ArrayExpr | T_SQLValueFunction => true,
            T_Param => (*node.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN,
            T_FuncExpr => !(*node.cast::<pg_sys::FuncExpr>()).funcretset,
            T_OpExpr => !(*node.cast::<pg_sys::OpExpr>()).opretset,
            _ => false,
        };
        !constant || walk(node, varies, context)
    }
}

/// `(SELECT call)` as an expression.
///
/// # Safety
///
/// `call` must be a call.
unsafe fn scalar_subquery(call: *mut pg_sys::FuncExpr) -> *mut pg_sys::SubLink {
    // SAFETY: every node is allocated with its own size, zeroed, which is the default of all other fields.
    unsafe {
        let call = pg_sys::copyObjectImpl(call.cast()).cast();
        let target = pg_sys::makeTargetEntry(call, 1, pg_sys::pstrdup(c"embed".as_ptr()), false);
        let query = node::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).canSetTag = true;
        (*query).targetList = pg_sys::lappend(null_mut(), target.cast());
        (*query).jointree = pg_sys::makeFromExpr(null_mut(), null_mut());
        let subquery = node::<pg_sys::SubLink>(pg_sys::NodeTag::T_SubLink);
        (*subquery).subLinkType = pg_sys::SubLinkType::EXPR_SUBLINK;
        (*subquery).subselect = query.cast();
        (*subquery).location = -1;
        subquery
    }
}
