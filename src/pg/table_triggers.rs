//! The triggers of a table, as the catalogs have them.

use std::ffi::CStr;
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::table::Table;
use super::text::{from_server, to_server};

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of catalog/partition.h, which pgrx does not bind.
        pub(super) fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
    }
}

/// A trigger of a table.
#[derive(Debug, Clone)]
pub(crate) struct TriggerEntry {
    pub(crate) oid: pg_sys::Oid,
    pub(crate) name: String,
    pub(crate) function: pg_sys::Oid,
    pub(crate) arguments: Vec<String>,
    /// The bits of `tgtype`: when it fires.
    pub(crate) kind: u32,
    enabled: u8,
    /// Whether it has neither a condition nor a list of columns.
    always: bool,
    internal: bool,
}

impl TriggerEntry {
    /// Whether it fires for every such event of ordinary sessions.
    pub(crate) fn fires(&self) -> bool {
        const ORIGIN: u8 = pg_sys::TRIGGER_FIRES_ON_ORIGIN;
        const ALWAYS: u8 = pg_sys::TRIGGER_FIRES_ALWAYS;
        self.always && matches!(self.enabled, ORIGIN | ALWAYS)
    }

    /// Whether it may change rows before they are stored.
    pub(crate) fn changes_rows(&self) -> bool {
        const BEFORE_ROW: u32 = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE;
        const WRITES: u32 = pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE;
        !self.internal && self.kind & BEFORE_ROW == BEFORE_ROW && self.kind & WRITES != 0
    }
}

impl Table {
    /// The table's triggers, internal ones included.
    pub(crate) fn triggers(&self) -> Vec<TriggerEntry> {
        // SAFETY: the description, if there is one, holds `numtriggers` triggers as long as the relation is open.
        unsafe {
            let Some(description) = (*self.relation).trigdesc.as_ref() else { return Vec::new() };
            let triggers = std::slice::from_raw_parts(description.triggers, description.numtriggers as usize);
            triggers
                .iter()
                .map(|trigger| TriggerEntry {
                    oid: trigger.tgoid,
                    name: from_server(CStr::from_ptr(trigger.tgname)),
                    function: trigger.tgfoid,
                    arguments: arguments(trigger),
                    kind: trigger.tgtype as u32,
                    enabled: trigger.tgenabled as u8,
                    always: trigger.tgqual.is_null() && trigger.tgnattr == 0,
                    internal: trigger.tgisinternal,
                })
                .collect()
        }
    }

    /// The comment on a trigger of this table. A partition's trigger takes that of the table it is part of, from
    /// where it was cloned, without the comment.
    pub(crate) fn trigger_comment(&self, oid: pg_sys::Oid, name: &str) -> Option<String> {
        trigger_comment(oid).or_else(|| {
            if !self.form().relispartition {
                return None;
            }
            let name = to_server(name);
            // SAFETY: the relation is a partition, so it has ancestors, whose oids the list holds.
            let ancestors = unsafe {
                let list = pg_sys::ffi::pg_guard_ffi_boundary(|| c::get_partition_ancestors(self.oid()));
                (0..pg_sys::list_length(list)).map(|i| pg_sys::list_nth_oid(list, i)).collect::<Vec<_>>()
            };
            ancestors.into_iter().find_map(|ancestor| {
                // SAFETY: looks a name up.
                let oid = unsafe { pg_sys::get_trigger_oid(ancestor, name.as_ptr(), true) };
                (oid != pg_sys::InvalidOid).then(|| trigger_comment(oid)).flatten()
            })
        })
    }
}

/// A trigger's arguments.
///
/// # Safety
///
/// The trigger must be one of an open relation.
pub(super) unsafe fn arguments(trigger: &pg_sys::Trigger) -> Vec<String> {
    // SAFETY: `tgargs` holds `tgnargs` strings that end with NUL.
    unsafe {
        (0..trigger.tgnargs as usize).map(|i| from_server(CStr::from_ptr(*trigger.tgargs.add(i)))).collect()
    }
}

/// The oid of a trigger function of this extension.
pub(crate) fn trigger_function(name: &str) -> pg_sys::Oid {
    let name = to_server(name);
    // SAFETY: makes a list of two strings for a lookup in our own schema, which only its owner can add to.
    unsafe {
        let list = [c"vector_embed".as_ptr(), name.as_ptr()].into_iter().fold(null_mut(), |list, part| {
            pg_sys::lappend(list, pg_sys::makeString(pg_sys::pstrdup(part)).cast())
        });
        pg_sys::LookupFuncName(list, 0, std::ptr::null(), true)
    }
}

/// A trigger's own comment.
pub(crate) fn trigger_comment(trigger: pg_sys::Oid) -> Option<String> {
    // SAFETY: returns NULL or a palloc'd string that ends with NUL.
    unsafe {
        let comment = pg_sys::GetComment(trigger, pg_sys::TriggerRelationId, 0);
        (!comment.is_null()).then(|| from_server(CStr::from_ptr(comment)))
    }
}
