//! `INSERT … VALUES (1, embed('a')), (2, embed('b')), …`: the cells get the arguments, the calls go above.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, Node, NodeTag::*};
use pgrx::prelude::*;

use super::known::{Known, is_transparent};
use crate::planner::nodes::{Relation, column, copy, items, mutate, tag, walk};

/// A column of a VALUES list whose cells hold a call each.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    relation: Relation,
    column: i16,
    /// What a cell held, with a reference to the column in place of the call's first argument.
    pub(super) call: *mut Node,
    /// The cells, and what is to be in them.
    cells: Vec<(*mut pg_sys::ListCell, *mut Node)>,
}

impl Opened {
    /// Puts the arguments into the cells.
    ///
    /// # Safety
    ///
    /// The plan must still be as it was when the column was found.
    pub(super) unsafe fn open(&self) {
        for (cell, argument) in &self.cells {
            // SAFETY: the caller's promise.
            unsafe { (**cell).ptr_value = argument.cast() };
        }
    }

    /// # Safety
    ///
    /// `var` must be one.
    pub(super) unsafe fn is_column(&self, var: *mut pg_sys::Var) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (*var).varno == self.relation && (*var).varattno == self.column }
    }
}

/// A cell whose call is looked for.
struct Cell<'a> {
    known: &'a Known,
    relation: Relation,
    column: i16,
    calls: Vec<*mut pg_sys::FuncExpr>,
}

/// Whether one of the first two rows of a VALUES list holds a call, be it of constants.
///
/// # Safety
///
/// `plan` must be a plan.
pub(super) unsafe fn holds_calls(known: &Known, plan: *mut pg_sys::Plan) -> bool {
    // SAFETY: a VALUES scan holds rows of expressions.
    unsafe {
        if tag(plan.cast()) != T_ValuesScan {
            return false;
        }
        let rows = (*plan.cast::<pg_sys::ValuesScan>()).values_lists;
        pg_sys::list_length(rows) > 1
            && [0, 1]
                .into_iter()
                .any(|row| is_in(pg_sys::list_nth(rows, row).cast(), (&raw const *known).cast_mut().cast()))
    }
}

/// Walks an expression for a call. The context is a [`Known`].
#[pg_guard]
unsafe extern "C-unwind" fn is_in(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL.
    unsafe {
        if expression.is_null() {
            return false;
        }
        let is_call = tag(expression) == T_FuncExpr
            && (*context.cast::<Known>())
                .signature((*expression.cast::<pg_sys::FuncExpr>()).funcid)
                .is_some();
        is_call || walk(expression, is_in, context)
    }
}

/// Finds the columns that hold calls, alike in all rows but for the text.
///
/// # Safety
///
/// `plan` must be a plan that may be changed.
pub(super) unsafe fn find(known: &Known, plan: *mut pg_sys::Plan) -> Vec<Opened> {
    // SAFETY: a VALUES scan holds rows of equally many expressions.
    unsafe {
        if tag(plan.cast()) != T_ValuesScan || !(*plan).qual.is_null() {
            return Vec::new();
        }
        let scan = plan.cast::<pg_sys::ValuesScan>();
        let rows = items::<pg_sys::List>((*scan).values_lists);
        let Some(first) = rows.first().filter(|_| rows.len() > 1) else { return Vec::new() };
        let relation = (*scan).scan.scanrelid as Relation;
        (1..=pg_sys::list_length(*first))
            .filter(|number| is_read_plainly((*plan).targetlist, relation, *number as i16))
            .filter_map(|number| find_column(known, &rows, relation, number as i16))
            .collect()
    }
}

unsafe fn find_column(
    known: &Known,
    rows: &[*mut pg_sys::List],
    relation: Relation,
    number: i16,
) -> Option<Opened> {
    // SAFETY: every row has a cell in this column, and a call at least one argument.
    unsafe {
        let place = number as usize - 1;
        let mut common: *mut Node = null_mut();
        let mut has_null = false;
        let mut cells = Vec::with_capacity(rows.len());
        for row in rows {
            let content: *mut Node = pg_sys::list_nth(*row, place as i32).cast();
            let list_cell = (**row).elements.add(place);
            // What a call of NULL has become.
            if tag(content) == T_Const && (*content.cast::<pg_sys::Const>()).constisnull {
                has_null = true;
                let null = pg_sys::makeNullConst(pg_sys::TEXTOID, -1, pg_sys::DEFAULT_COLLATION_OID);
                cells.push((list_cell, null.cast()));
                continue;
            }
            let mut cell = Cell { known, relation, column: number, calls: Vec::new() };
            let opened = open_cell(content, (&raw mut cell).cast());
            let [call] = cell.calls.as_slice() else { return None };
            // equal() looks at neither places in the source nor how a cast was written.
            if !common.is_null() && !pg_sys::equal(common.cast(), opened.cast()) {
                return None;
            }
            common = opened;
            cells.push((list_cell, pg_sys::list_nth((**call).args, 0).cast()));
        }
        // A NULL is the call's only if NULL is what becomes of it.
        if common.is_null() || (has_null && pg_sys::contain_nonstrict_functions(common)) {
            return None;
        }
        Some(Opened { relation, column: number, call: common, cells })
    }
}

/// Gives a cell's parts with a reference in place of a call's first argument. The context is a [`Cell`].
#[pg_guard]
unsafe extern "C-unwind" fn open_cell(expression: *mut Node, context: *mut c_void) -> *mut Node {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return expression;
        }
        let cell = &mut *context.cast::<Cell<'_>>();
        if tag(expression) == T_FuncExpr
            && cell.known.signature((*expression.cast::<pg_sys::FuncExpr>()).funcid).is_some()
        {
            let call = expression.cast::<pg_sys::FuncExpr>();
            cell.calls.push(call);
            let opened = copy(call);
            (*opened).location = -1;
            let argument: *mut Node = pg_sys::list_nth((*call).args, 0).cast();
            let reference = column(cell.relation, cell.column as usize, argument);
            (*(*(*opened).args).elements).ptr_value = reference.cast();
            return opened.cast();
        }
        if !is_transparent(expression) {
            return copy(expression);
        }
        mutate(expression, open_cell, context)
    }
}

/// Whether a column is read as it is or not at all: an expression over it would be computed below the call.
unsafe fn is_read_plainly(targets: *mut pg_sys::List, relation: Relation, number: i16) -> bool {
    let mut opened = Opened { relation, column: number, call: null_mut(), cells: Vec::new() };
    // SAFETY: target lists hold target entries.
    unsafe {
        items::<pg_sys::TargetEntry>(targets).into_iter().all(|target| {
            let expression: *mut Node = (*target).expr.cast();
            let is_column = tag(expression) == T_Var && opened.is_column(expression.cast());
            is_column || !reads(expression, (&raw mut opened).cast())
        })
    }
}

/// Walks an expression for the column that the context, an [`Opened`], names.
#[pg_guard]
unsafe extern "C-unwind" fn reads(expression: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: called with an expression or NULL, and the context given above.
    unsafe {
        if expression.is_null() {
            return false;
        }
        if tag(expression) == T_Var {
            let (var, opened) = (expression.cast::<pg_sys::Var>(), &*context.cast::<Opened>());
            // The whole row, or the column.
            return opened.is_column(var) || ((*var).varno == opened.relation && (*var).varattno == 0);
        }
        walk(expression, reads, context)
    }
}
