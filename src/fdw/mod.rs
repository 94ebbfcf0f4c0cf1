//! Foreign data wrappers over the readers of `crates/sources`.
//!
//! One set of callbacks serves all kinds of store. Which kind a foreign table is of, its wrapper's handler tells.

mod check;
mod columns;
mod filter;
mod host;
mod import;
mod options;
mod plan;
mod qdrant;
mod scan;
mod server;
mod source;
mod values;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::nodes::node;

/// Declares a function that SQL knows.
macro_rules! sql_function {
    ($name:ident, $info:ident, $body:expr) => {
        #[pg_guard]
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C-unwind" fn $name(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            let body: unsafe fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum = $body;
            // SAFETY: called as it is declared in SQL.
            unsafe { body(call) }
        }

        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    };
}
use sql_function;

sql_function!(vector_embed_sqlite_handler, pg_finfo_vector_embed_sqlite_handler, handler);
sql_function!(vector_embed_chroma_handler, pg_finfo_vector_embed_chroma_handler, handler);
sql_function!(vector_embed_qdrant_handler, pg_finfo_vector_embed_qdrant_handler, handler);

/// The callbacks. What is not here, such as writing, PostgreSQL refuses by itself.
unsafe fn handler(_: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: a new node.
    unsafe {
        let routine: *mut pg_sys::FdwRoutine = node(pg_sys::NodeTag::T_FdwRoutine);
        (*routine).GetForeignRelSize = Some(plan::rel_size);
        (*routine).GetForeignPaths = Some(plan::paths);
        (*routine).GetForeignPlan = Some(plan::plan);
        (*routine).BeginForeignScan = Some(scan::begin);
        (*routine).IterateForeignScan = Some(scan::iterate);
        (*routine).ReScanForeignScan = Some(scan::rescan);
        (*routine).EndForeignScan = Some(scan::end);
        (*routine).ExplainForeignScan = Some(scan::explain);
        (*routine).ImportForeignSchema = Some(import::import);
        pg_sys::Datum::from(routine)
    }
}
