//! Relations whose rows are read as they are: tables of every kind, and views.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::table::{Kind, Table};
use super::text::from_server;
use super::types::Type;
use crate::error::{Error, TableFault};

/// A column as its values are read.
#[derive(Debug, Clone)]
pub(crate) struct TypedColumn {
    pub(crate) name: String,
    /// The type below domains.
    pub(crate) of: Type,
}

impl Table {
    /// Opens a relation to read its definition, which does not change until the transaction ends. What the caller may
    /// do with its rows is asked when he does it.
    pub(crate) fn open_to_describe(oid: pg_sys::Oid) -> Result<Self, Error> {
        let table = Self::open(oid, pg_sys::AccessShareLock, true)?;
        let is_view = matches!(table.form().relkind as u8, pg_sys::RELKIND_VIEW | pg_sys::RELKIND_MATVIEW);
        if table.kind() == Kind::Other && !is_view {
            return Err(table.unfit(TableFault::NoRows));
        }
        Ok(table)
    }

    /// The relation's columns, in their order.
    pub(crate) fn typed_columns(&self) -> Vec<TypedColumn> {
        let columns = self.attributes().into_iter().filter(|attribute| !attribute.attisdropped);
        columns
            .map(|attribute| {
                // SAFETY: a name ends with NUL; the type of a column exists.
                let (name, base) = unsafe {
                    (CStr::from_ptr(attribute.attname.data.as_ptr()), pg_sys::getBaseType(attribute.atttypid))
                };
                TypedColumn { name: from_server(name), of: Type(base) }
            })
            .collect()
    }

    /// Whether it is a partition.
    pub(crate) fn is_partition(&self) -> bool {
        self.form().relispartition
    }

    /// Whether row security hides rows from the current user, or may.
    pub(crate) fn hides_rows(&self) -> bool {
        // SAFETY: the relation is open.
        let rule = unsafe { pg_sys::check_enable_rls(self.oid(), pg_sys::InvalidOid, true) };
        rule == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}
