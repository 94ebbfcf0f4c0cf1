//! The store behind a foreign table or server.

use std::ffi::CStr;
use std::path::PathBuf;

use pgrx::pg_sys;
use vector_embed_sources::chroma::{Directory, Server};
use vector_embed_sources::sqlite::Sqlite;
use vector_embed_sources::{OnError, Source};

use super::host::host;
use super::options::{DATABASE, Options, PATH, TABLE_NAME, TENANT, TOKEN_HEADER, fault};
use super::qdrant;
use super::server::http_options;
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

/// The store of a server, with the options of one of its tables, for a user whose mapping counts.
///
/// # Safety
///
/// The server must exist, and `more` be a list of options.
unsafe fn open(server: pg_sys::Oid, more: Options, user: pg_sys::Oid) -> Result<Opened, Error> {
    // SAFETY: the caller's promise.
    let (store, mapped, options) = unsafe {
        let found = pg_sys::GetForeignServer(server);
        let options = Options::from_list((*found).options).and(more);
        (Store::of((*found).fdwid)?, mapping(server, user), options)
    };
    let source: Box<dyn Source> = match store {
        Store::Sqlite => Box::new(sqlite_by(&options)?),
        Store::Chroma => chroma_by(&options, &mapped)?,
        Store::Qdrant => Box::new(qdrant::open(&options, &mapped, host(options.zone()?))?),
    };
    Ok(Opened { store, source, on_error: options.on_error()? })
}

fn sqlite_by(options: &Options) -> Result<Sqlite, Error> {
    let host = host(options.zone()?);
    Ok(Sqlite { path: path(options)?, invalid_text: options.invalid_text()?, host })
}

/// A directory or a server that runs, by the options of whoever asks it.
fn chroma_by(options: &Options, mapped: &Options) -> Result<Box<dyn Source>, Error> {
    let tenant = options.get(TENANT).unwrap_or("default_tenant").to_owned();
    let database = options.get(DATABASE).unwrap_or("default_database").to_owned();
    let (invalid_text, on_damage) = (options.invalid_text()?, options.on_damage());
    let host = host(options.zone()?);
    Ok(match http_options(options)? {
        None => Box::new(Directory { path: path(options)?, tenant, database, invalid_text, on_damage, host }),
        Some(mut http) => {
            http.credentials = mapped.credentials(options.get(TOKEN_HEADER));
            let options = http;
            Box::new(Server { options, tenant, database, invalid_text, on_damage, host })
        }
    })
}

fn path(options: &Options) -> Result<PathBuf, Error> {
    options.get(PATH).map(PathBuf::from).ok_or_else(|| fault(PATH, OptionFault::Missing))
}

/// The database file of a server.
///
/// # Safety
///
/// The server must exist.
pub(super) unsafe fn sqlite(server: pg_sys::Oid) -> Result<Sqlite, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let server = pg_sys::GetForeignServer(server);
        match Store::of((*server).fdwid)? {
            Store::Sqlite => sqlite_by(&Options::from_list((*server).options)),
            _ => Err(Error::NoSqlite(from_server(CStr::from_ptr((*server).servername)))),
        }
    }
}

/// The options of a user's mapping, or of that of all users; none if there is neither.
///
/// # Safety
///
/// The server must exist.
unsafe fn mapping(server: pg_sys::Oid, user: pg_sys::Oid) -> Options {
    let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32;
    // SAFETY: lookups in the catalogs. Without this one, no mapping would be an error.
    unsafe {
        let exists = |user: pg_sys::Oid| {
            let none = pg_sys::Datum::null();
            pg_sys::SearchSysCacheExists(cache, user.into(), server.into(), none, none)
        };
        if exists(user) || exists(pg_sys::InvalidOid) {
            Options::from_list((*pg_sys::GetUserMapping(user, server)).options)
        } else {
            Options::default()
        }
    }
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
        Store::Qdrant => {
            return Err(Error::ForeignSchema { schema: schema.to_owned(), valid: qdrant::SCHEMA });
        }
        Store::Chroma => Options::of(DATABASE, schema),
    };
    // SAFETY: the caller's promise.
    unsafe { open(server, more, pg_sys::GetUserId()) }
}

/// The store of a foreign table, and the table's name there. `user`: whose rights count, who may be the owner of a
/// view; none for the current user.
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
        let user = if user == pg_sys::InvalidOid { pg_sys::GetUserId() } else { user };
        Ok((open((*foreign).serverid, options, user)?, name))
    }
}
