//! What `embed_later` has to know of the workers that write vectors.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::pg_sys;

use crate::error::{Error, TableFault};
use crate::pg::table::Table;
use crate::refresh::Key;

/// How often a row is queued again because a trigger of the table's own changes its text when its vector is written.
const MOST_REPEATS: u32 = 3;

thread_local! {
    static TABLE: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
    static REPEATS: RefCell<HashMap<(pg_sys::Oid, Key), Repeats>> = RefCell::default();
}

/// How many times running a row's text has changed when its vector was written.
#[derive(Debug, Default)]
struct Repeats {
    count: u32,
    /// Whether it has with this write.
    is_new: bool,
}

/// As long as it lives, vectors of a table are written by a queue worker: they are not supplied by somebody.
pub(crate) struct WriteBack(());

impl WriteBack {
    pub(crate) fn to(table: pg_sys::Oid) -> Self {
        TABLE.set(Some(table));
        REPEATS.with_borrow_mut(|repeats| repeats.values_mut().for_each(|repeat| repeat.is_new = false));
        Self(())
    }

    /// Forgets about rows that were written and have kept their texts, and about those that are gone.
    pub(crate) fn settled<'k>(&self, table: pg_sys::Oid, keys: impl Iterator<Item = &'k Key>) {
        REPEATS.with_borrow_mut(|repeats| {
            if repeats.is_empty() {
                return;
            }
            for key in keys {
                let place = (table, key.clone());
                if repeats.get(&place).is_some_and(|repeat| !repeat.is_new) {
                    repeats.remove(&place);
                }
            }
        });
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
        let repeat = repeats.entry((table.oid(), Key(key.to_vec()))).or_default();
        // Once a write: what was undone because of another row is done again.
        repeat.count += u32::from(!repeat.is_new);
        repeat.is_new = true;
        if repeat.count <= MOST_REPEATS { Ok(()) } else { Err(table.unfit(TableFault::TextChanges)) }
    })
}
