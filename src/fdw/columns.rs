//! Columns of a foreign table.

use std::ffi::CStr;

use pgrx::pg_sys;
use vector_embed_sources::Type;

use super::options::{COLUMN_NAME, Options};
use crate::error::Error;
use crate::pg::text::from_server;
use crate::pg::types::{self, is_vector};

/// A column that is read.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its number, from 1.
    pub(super) number: i16,
    /// Its name in the store.
    pub(super) name: String,
    pub(super) of: Type,
    pub(super) oid: pg_sys::Oid,
    pub(super) modifier: i32,
    pub(super) not_null: bool,
}

/// Columns of a foreign table by their numbers.
///
/// # Safety
///
/// `descriptor` must be the table's own, and have these columns.
pub(super) unsafe fn columns(
    table: pg_sys::Oid,
    descriptor: pg_sys::TupleDesc,
    numbers: impl Iterator<Item = i16>,
) -> Result<Vec<Column>, Error> {
    // SAFETY: the caller's promise.
    numbers.map(|number| unsafe { column(table, descriptor, number) }).collect()
}

unsafe fn column(table: pg_sys::Oid, descriptor: pg_sys::TupleDesc, number: i16) -> Result<Column, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let attribute = &*attribute(descriptor, number);
        let name = from_server(CStr::from_ptr(attribute.attname.data.as_ptr()));
        let (oid, modifier) = (attribute.atttypid, attribute.atttypmod);
        let Some(of) = type_of(oid, modifier) else {
            return Err(Error::ForeignType {
                column: name,
                table: from_server(CStr::from_ptr(pg_sys::get_rel_name(table))),
                of: types::Type(oid).name(),
            });
        };
        let options = Options::from_list(pg_sys::GetForeignColumnOptions(table, number));
        let name = options.get(COLUMN_NAME).map_or(name, str::to_owned);
        Ok(Column { number, name, of, oid, modifier, not_null: attribute.attnotnull })
    }
}

/// # Safety
///
/// `descriptor` must have a column of that number.
pub(super) unsafe fn attribute(
    descriptor: pg_sys::TupleDesc,
    number: i16,
) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            (*descriptor).attrs.as_ptr().add(number as usize - 1)
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::TupleDescAttr(descriptor, i32::from(number) - 1)
        }
    }
}

/// What readers give values of a type as; `None` for other types than theirs.
fn type_of(oid: pg_sys::Oid, modifier: i32) -> Option<Type> {
    Some(match oid {
        pg_sys::BOOLOID => Type::Boolean,
        pg_sys::INT2OID => Type::Smallint,
        pg_sys::INT4OID => Type::Integer,
        pg_sys::INT8OID => Type::Bigint,
        pg_sys::FLOAT4OID => Type::Real,
        pg_sys::FLOAT8OID => Type::Double,
        pg_sys::NUMERICOID => Type::Numeric,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Type::Text,
        pg_sys::BYTEAOID => Type::Bytea,
        pg_sys::TIMESTAMPTZOID => Type::Timestamptz,
        pg_sys::TIMESTAMPOID => Type::Timestamp,
        pg_sys::DATEOID => Type::Date,
        pg_sys::JSONOID => Type::Json,
        pg_sys::JSONBOID => Type::Jsonb,
        pg_sys::UUIDOID => Type::Uuid,
        _ if is_vector(oid) => Type::Vector(u16::try_from(modifier).ok()),
        _ => return None,
    })
}
