//! SQL that this extension runs itself. Whatever is in it is named in full: the caller's `search_path` is in force.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::table::Table;
use super::text::to_server;
use crate::error::Error;

/// The table's owner is the current user while this value lives, and row security does not hold for it.
#[derive(Debug)]
pub(super) struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
}

impl AsOwner {
    pub(super) fn of(table: &Table) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        let more = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
        // SAFETY: changes what the end of this value, or else of the transaction, changes back.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            pg_sys::SetUserIdAndSecContext(table.owner(), before.context | more as i32);
        }
        before
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: as it was.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// A connection to the server's own SQL.
struct Connection;

impl Connection {
    fn open() -> Result<Self, Error> {
        // SAFETY: ended by the end of this value, or else of the transaction.
        check(unsafe { pg_sys::SPI_connect() })?;
        Ok(Self)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // After an error the end of the transaction closes it.
        if !std::thread::panicking() {
            // SAFETY: there is a connection.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// Executes a statement as the current user.
pub(crate) fn execute(sql: &str) -> Result<(), Error> {
    let _connection = Connection::open()?;
    run(sql)
}

/// Executes a query that gives one row of numbers.
pub(crate) fn numbers<const N: usize>(sql: &str) -> Result<[i64; N], Error> {
    let _connection = Connection::open()?;
    run(sql)?;
    // SAFETY: the query gave a table, whose descriptor and rows live until the connection ends.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() || pg_sys::SPI_processed != 1 {
            return Err(Error::Internal("a count gave no row"));
        }
        let row = *(*table).vals;
        Ok(std::array::from_fn(|place| {
            let mut is_null = false;
            let place = place as i32 + 1;
            let number = pg_sys::SPI_getbinval(row, (*table).tupdesc, place, &mut is_null);
            number.value() as i64
        }))
    }
}

/// Executes an UPDATE that takes its values from `rows`, by the name of `name`.
///
/// # Safety
///
/// `rows` must hold `count` rows of `descriptor`.
pub(super) unsafe fn update_from(
    name: &CStr,
    descriptor: pg_sys::TupleDesc,
    rows: *mut pg_sys::Tuplestorestate,
    count: usize,
    sql: &str,
) -> Result<(), Error> {
    let _connection = Connection::open()?;
    let mut relation = pg_sys::EphemeralNamedRelationData {
        md: pg_sys::EphemeralNamedRelationMetadataData {
            name: name.as_ptr().cast_mut(),
            reliddesc: pg_sys::InvalidOid,
            tupdesc: descriptor,
            enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
            enrtuples: count as f64,
        },
        reldata: rows.cast(),
    };
    // SAFETY: the relation outlives the connection, which forgets it when it ends.
    check(unsafe { pg_sys::SPI_register_relation(&mut relation) })?;
    run(sql)
}

fn run(sql: &str) -> Result<(), Error> {
    let sql = to_server(sql);
    // SAFETY: there is a connection; raises errors of the statement itself.
    check(unsafe { pg_sys::SPI_execute(sql.as_ptr(), false, 0) })
}

fn check(code: i32) -> Result<(), Error> {
    if code >= 0 { Ok(()) } else { Err(Error::Internal("the server refused a query of the extension")) }
}
