//! PostgreSQL's nodes and lists.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::pg_sys::{self, Node, NodeTag};

pub(super) use crate::pg::nodes::{items, list, node, tag};

/// Numbers what a Var is of: an entry of the range table, or one of the constants below.
#[cfg(feature = "pg14")]
pub(super) type Relation = u32;
#[cfg(not(feature = "pg14"))]
pub(super) type Relation = i32;

pub(super) const INDEX_VAR: Relation = pg_sys::INDEX_VAR;
pub(super) const OUTER_VAR: Relation = pg_sys::OUTER_VAR;

/// A callback that gives the node that takes another's place.
pub(super) type Mutator = unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> *mut Node;

/// A callback that looks at a node and, by [`walk`], at those below. `true` ends the walk.
pub(super) type Walker = unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool;

/// How deep expressions are looked into. PostgreSQL itself goes deeper, but each level of a walk in Rust takes a
/// kilobyte of the stack, which expressions that PostgreSQL can just about evaluate would not leave.
const MAX_DEPTH: usize = 200;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A level of a walk.
struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Has `walker` look at the parts of an expression or a query, and says whether it ended the walk. So does what lies too
/// deep: callers take `true` for a reason to leave things alone.
///
/// # Safety
///
/// `node` must be NULL or a node, and `context` what `walker` expects.
pub(super) unsafe fn walk(node: *mut Node, walker: Walker, context: *mut c_void) -> bool {
    if DEPTH.get() >= MAX_DEPTH {
        return true;
    }
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    // SAFETY: the caller's promise.
    unsafe {
        if !node.is_null() && tag(node) == NodeTag::T_Query {
            return pg_sys::query_tree_walker(node.cast(), Some(walker), context, 0);
        }
        pg_sys::expression_tree_walker(node, Some(walker), context)
    }
}

/// A deep copy.
///
/// # Safety
///
/// `node` must be a node.
pub(super) unsafe fn copy<T>(node: *const T) -> *mut T {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// Puts `change` of each pointer in a list in its place.
///
/// # Safety
///
/// `list` must be NULL or a list of pointers to `T`.
pub(super) unsafe fn change_items<T>(list: *mut pg_sys::List, mut change: impl FnMut(*mut T) -> *mut T) {
    // SAFETY: a list has as many cells as it says.
    unsafe {
        for i in 0..pg_sys::list_length(list) as usize {
            let cell = (*list).elements.add(i);
            (*cell).ptr_value = change((*cell).ptr_value.cast()).cast();
        }
    }
}

/// A reference to column `number` of a plan's input, with the type of `expression`.
///
/// # Safety
///
/// `expression` must be an expression.
pub(super) unsafe fn column(of: Relation, number: usize, expression: *mut Node) -> *mut pg_sys::Var {
    // SAFETY: the caller's promise.
    unsafe {
        let (kind, modifier) = (pg_sys::exprType(expression), pg_sys::exprTypmod(expression));
        let collation = pg_sys::exprCollation(expression);
        pg_sys::makeVar(of, number as i16, kind, modifier, collation, 0)
    }
}

/// A copy of an expression whose parts have been given to `mutator`.
///
/// # Safety
///
/// `expression` must be one, and `context` what `mutator` expects.
pub(super) unsafe fn mutate(expression: *mut Node, mutator: Mutator, context: *mut c_void) -> *mut Node {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: until PostgreSQL 15 the callback is declared without its arguments, with which it is called.
    unsafe {
        type Untyped = unsafe extern "C-unwind" fn() -> *mut Node;
        let mutator = std::mem::transmute::<Mutator, Untyped>(mutator);
        pg_sys::expression_tree_mutator(expression, Some(mutator), context)
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: the caller's promise.
    unsafe {
        pg_sys::expression_tree_mutator_impl(expression, Some(mutator), context)
    }
}
