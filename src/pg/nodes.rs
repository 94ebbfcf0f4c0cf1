//! Nodes and lists, as PostgreSQL's planner and parser have them.

use pgrx::pg_sys::{self, Node, NodeTag};

/// # Safety
///
/// `node` must be a node.
pub(crate) unsafe fn tag(node: *const Node) -> NodeTag {
    // SAFETY: every node begins with its tag.
    unsafe { (*node).type_ }
}

/// A new node, all zero but for its tag.
///
/// # Safety
///
/// `T` must be the node that `tag` names.
pub(crate) unsafe fn node<T>(tag: NodeTag) -> *mut T {
    // SAFETY: palloc0 gives zeroed memory of the node's size, and every node begins with its tag.
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<Node>();
        (*node).type_ = tag;
        node.cast()
    }
}

/// The pointers in a list.
///
/// # Safety
///
/// `list` must be NULL or a list of pointers to `T`.
pub(crate) unsafe fn items<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    // SAFETY: list_nth is called within the list's length.
    unsafe { (0..pg_sys::list_length(list)).map(|i| pg_sys::list_nth(list, i).cast()).collect() }
}

/// A list of pointers.
///
/// # Safety
///
/// `items` must be nodes, lists, or all strings.
pub(crate) unsafe fn list<T>(items: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    // SAFETY: lappend takes NULL for the empty list.
    items.into_iter().fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend(list, item.cast()) })
}
