//! What `embed_later` has to know of the workers that write vectors.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::pg_sys;

use crate::error::{Error, TableFault};
use crate::pg::table::Table;

/// How often a row is queued again because a trigger of the table's own changes its text when its vector is written.
const MOST_REPEATS: u32 = 3;

thread_local! {
    static TABLE: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
    static REPEATS: RefCell<HashMap<(pg_sys::Oid, Vec<CString>), u32>> = RefCell::default();
}

/// As long as it lives, vectors of a table are written by a queue worker: they are not supplied by somebody.
pub(crate) struct WriteBack(());

impl WriteBack {
    pub(crate) fn to(table: pg_sys::Oid) -> Self {
        TABLE.set(Some(table));
        Self(())
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        TABLE.set(None);
    }
}

/// Whether a queue worker writes vectors to this table.
pub(crate) fn is_written_by_worker(table: pg_sys::Oid) -> bool {
    TABLE.get() == Some(table)
}

/// Counts how often a row's text has changed when its vector was written; an error when that seems to have no end.
pub(crate) fn repeat(table: &Table, key: &[CString]) -> Result<(), Error> {
    REPEATS.with_borrow_mut(|repeats| {
        let count = repeats.entry((table.oid(), key.to_vec())).or_default();
        *count += 1;
        if *count <= MOST_REPEATS { Ok(()) } else { Err(table.unfit(TableFault::TextChanges)) }
    })
}
