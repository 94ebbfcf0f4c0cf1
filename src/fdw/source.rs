//! The store behind a foreign table or server.

use std::ffi::CStr;
use std::path::PathBuf;

use pgrx::pg_sys;
use vector_embed_sources::chroma::Directory;
use vector_embed_sources::sqlite::Sqlite;
use vector_embed_sources::{OnError, Source};

use super::host::host;
use super::qdrant;
use super::options::{DATABASE, Options, PATH, TABLE_NAME, TENANT, fault};
use crate::error::{Error, OptionFault};
use crate::pg::text::from_server;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Sqlite,
    Chroma,
    Qdrant,
}

impl Store {
    /// The kind that a wrapper is for.
    unsafe fn of(wrapper: pg_sys::Oid) -> Result<Self, Error> {
        // SAFETY: the wrapper exists, and its handler is a function.
        let name = unsafe {
            let wrapper = pg_sys::GetForeignDataWrapper(wrapper);
            let name = pg_sys::get_func_name((*wrapper).fdwhandler);
            if name.is_null() { c"" } else { CStr::from_ptr(name) }
        };
        match name.to_bytes() {
            b"sqlite_handler" => Ok(Self::Sqlite),
            b"chroma_handler" => Ok(Self::Chroma),
            b"qdrant_handler" => Ok(Self::Qdrant),
            _ => Err(Error::Internal("the foreign data wrapper is not one of vector_embed")),
        }
    }

    /// What EXPLAIN calls a query to it.
    pub(super) fn query_label(self) -> &'static CStr {
        match self {
            Self::Sqlite => c"SQLite Query",
            Self::Chroma => c"Chroma Query",
            Self::Qdrant => c"Qdrant Query",
        }
    }
}

/// A server's store, or that of one of its tables.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) source: Box<dyn Source>,
    pub(super) on_error: OnError,
}

/// The store of a server, with the options of one of its tables, as a user reads it.
///
/// # Safety
///
/// The server must exist, and `more` be a list of options.
unsafe fn open(id: pg_sys::Oid, user: pg_sys::Oid, more: Options) -> Result<Opened, Error> {
    // SAFETY: the caller's promise.
    let (store, options) = unsafe {
        let server = pg_sys::GetForeignServer(id);
        (Store::of((*server).fdwid)?, Options::from_list((*server).options).and(more))
    };
    let host = host(options.zone()?);
    let path = || options.get(PATH).map(PathBuf::from).ok_or_else(|| fault(PATH, OptionFault::Missing));
    let source: Box<dyn Source> = match store {
        Store::Sqlite => Box::new(Sqlite { path: path()?, invalid_text: options.invalid_text()?, host }),
        Store::Chroma => Box::new(Directory {
            path: path()?,
            tenant: options.get(TENANT).unwrap_or("default_tenant").to_owned(),
            database: options.get(DATABASE).unwrap_or("default_database").to_owned(),
            invalid_text: options.invalid_text()?,
            on_damage: options.on_damage(),
            host,
        }),
        // SAFETY: the caller's promise.
        Store::Qdrant => Box::new(unsafe { qdrant::open(&options, id, user, host)? }),
    };
    Ok(Opened { store, source, on_error: options.on_error()? })
}

/// The store of a server, of which a schema is to be imported.
///
/// # Safety
///
/// The server must exist.
pub(super) unsafe fn of_schema(server: pg_sys::Oid, schema: &str) -> Result<Opened, Error> {
    // SAFETY: the caller's promise.
    let store = unsafe { Store::of((*pg_sys::GetForeignServer(server)).fdwid)? };
    let more = match store {
        // The one schema that it has.
        Store::Sqlite if schema == "main" => Options::default(),
        Store::Qdrant if schema == qdrant::SCHEMA => Options::default(),
        Store::Sqlite => return Err(Error::ForeignSchema { schema: schema.to_owned(), valid: "main" }),
        Store::Qdrant => return Err(Error::ForeignSchema { schema: schema.to_owned(), valid: qdrant::SCHEMA }),
        Store::Chroma => Options::of(DATABASE, schema),
    };
    // SAFETY: the caller's promise.
    unsafe { open(server, pg_sys::GetUserId(), more) }
}

/// The store of a foreign table, as a user reads it, and the table's name there.
///
/// # Safety
///
/// The foreign table must exist.
pub(super) unsafe fn of_table(table: pg_sys::Oid, user: pg_sys::Oid) -> Result<(Opened, String), Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let foreign = pg_sys::GetForeignTable(table);
        let options = Options::from_list((*foreign).options);
        let name = match options.get(TABLE_NAME) {
            Some(name) => name.to_owned(),
            None => from_server(CStr::from_ptr(pg_sys::get_rel_name(table))),
        };
        Ok((open((*foreign).serverid, user, options)?, name))
    }
}
