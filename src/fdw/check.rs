//! `vector_embed.sqlite_check`: what in a file will not fit, before anything is moved.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::host::finish;
use super::source::sqlite;
use crate::error::Error;
use crate::pg::message::Watch;
use crate::pg::text::{ServerText, Text, escaped, to_server};

type Findings = TableIterator<
    'static,
    (
        name!(table_name, ServerText),
        name!(rowid, Option<i64>),
        name!(column_name, Option<ServerText>),
        name!(value, Option<String>),
        name!(problem, String),
    ),
>;

#[pg_extern(sql = false)]
fn sqlite_check(server: Text<'_>) -> Findings {
    let check = finish(begin(server.as_str()));
    TableIterator::new(check.map(|finding| {
        let finding = finish(finding.map_err(Error::Source));
        (
            ServerText(finding.table),
            finding.rowid,
            finding.column.map(ServerText),
            finding.value.as_deref().map(escaped),
            escaped(&finding.problem),
        )
    }))
}

/// Whoever may use the server could declare foreign tables of it, and read these.
fn begin(server: &str) -> Result<vector_embed_sources::sqlite::Check, Error> {
    let name = to_server(server);
    // SAFETY: raises an error if there is no such server, or the user may not use it.
    let source = unsafe {
        let server = pg_sys::get_foreign_server_oid(name.as_ptr(), false);
        check_usage(server, &name);
        sqlite(server)?
    };
    source.check().map_err(Error::Source)
}

unsafe fn check_usage(server: pg_sys::Oid, name: &std::ffi::CStr) {
    // SAFETY: the server exists.
    unsafe {
        let (user, mode) = (pg_sys::GetUserId(), pg_sys::ACL_USAGE as pg_sys::AclMode);
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_foreign_server_aclcheck(server, user, mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, server, user, mode);
        if result != pg_sys::AclResult::ACLCHECK_OK {
            let _watch = Watch::new();
            pg_sys::aclcheck_error(result, pg_sys::ObjectType::OBJECT_FOREIGN_SERVER, name.as_ptr());
        }
    }
}
