//! Functions that answer with the rows of a query.

use std::ffi::{CStr, CString};
use std::ptr::null_mut;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;

use super::receiver::into_store;
use super::spi::{Connection, check};
use super::text::to_server;
use crate::error::{Error, OrRaise};

/// The rows of a query that only reads, for a function declared to return such rows. They go to where the executor
/// takes them from one by one, and from memory to disk where they are many.
#[derive(Debug)]
pub(crate) struct Answer {
    sql: CString,
}

impl Answer {
    /// Names and operators in `sql` must be qualified: the caller's `search_path` is in force.
    pub(crate) fn of(sql: &str) -> Self {
        Self { sql: to_server(sql) }
    }

    /// # Safety
    ///
    /// `call` must be that of a function whose declared result has the types of the query's columns.
    unsafe fn give(&self, call: pg_sys::FunctionCallInfo) -> Result<(), Error> {
        const MESSAGE: &CStr = c"rows are not of the declared type";
        // SAFETY: what the executor is given lives in its own memory context. The query sees what the statement sees
        // that calls the function.
        unsafe {
            let result = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if result.is_null() || (*result).type_ != pg_sys::NodeTag::T_ReturnSetInfo {
                return Err(Error::NoSetWanted);
            }
            let modes = (*result).allowedModes as u32;
            if modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize == 0 {
                return Err(Error::NoSetWanted);
            }
            let memory = (*(*result).econtext).ecxt_per_query_memory;
            let random = modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random != 0;
            let before = pg_sys::MemoryContextSwitchTo(memory);
            let mut descriptor = null_mut();
            pg_sys::get_call_result_type(call, null_mut(), &mut descriptor);
            let descriptor = pg_sys::CreateTupleDescCopy(descriptor);
            let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*result).setResult = store;
            (*result).setDesc = descriptor;

            let _connection = Connection::open()?;
            let receiver = into_store(store, memory, Some((descriptor, MESSAGE)));
            let options = pg_sys::SPIExecuteOptions { read_only: true, dest: receiver, ..Default::default() };
            check(pg_sys::SPI_execute_extended(self.sql.as_ptr(), &options))
        }
    }
}

// SAFETY: rows are given as the SQL declaration says, by way of the call's `ReturnSetInfo`.
unsafe impl BoxRet for Answer {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: the declarations in sql/schema and the queries are made for each other.
        unsafe {
            self.give(fcinfo.as_mut_ptr()).or_raise();
            fcinfo.return_raw_datum(pg_sys::Datum::null())
        }
    }
}
