//! Options of `vector_embed_qdrant`, and the store they tell.

use std::path::PathBuf;
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_sources::Host;
use vector_embed_sources::http;
use vector_embed_sources::qdrant::{Place, Qdrant};

use super::options::{COLUMN, ON_ERROR, Options, PATH, TABLE_NAME, TIMEOUT, URL, check_path, fault, validate, value};
use super::sql_function;
use super::user;
use crate::error::{Error, OptionFault};

/// The one schema that a store has.
pub(super) const SCHEMA: &str = "collections";

/// Option of a server: certificates that its own must come from.
const CA_FILE: &str = "ca_file";
/// Option of a server: seconds that connecting may take.
const CONNECT_TIMEOUT: &str = "connect_timeout";
/// Option of a server: how often a request is tried again.
const RETRIES: &str = "retries";
/// Option of a server: whether a key may go to another machine unencrypted.
const ALLOW_PLAIN_HTTP: &str = "allow_plain_http";
/// Option of a server or table: points to ask for at once.
const FETCH_SIZE: &str = "fetch_size";
/// Option of a user mapping.
const API_KEY: &str = "api_key";

const SERVER: &[&str] =
    &[URL, PATH, CA_FILE, CONNECT_TIMEOUT, TIMEOUT, RETRIES, ALLOW_PLAIN_HTTP, FETCH_SIZE, ON_ERROR];
/// Those that say how to talk to a server that runs.
const OF_URL: &[&str] = &[CA_FILE, CONNECT_TIMEOUT, TIMEOUT, RETRIES, ALLOW_PLAIN_HTTP, FETCH_SIZE];
const TABLE: &[&str] = &[TABLE_NAME, FETCH_SIZE, ON_ERROR];
const USER_MAPPING: &[&str] = &[API_KEY];

sql_function!(vector_embed_qdrant_validator, pg_finfo_vector_embed_qdrant_validator, validate_qdrant);

/// Checks options as they are set. Whoever names a server that runs must be a superuser, since PostgreSQL sends requests
/// for him; and whoever names a file must have the right to read the server's files.
unsafe fn validate_qdrant(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called as a validator.
    unsafe { validate(call, check) }
}

fn check(options: &Options, catalog: pg_sys::Oid) -> Result<(), Error> {
    let valid = match catalog {
        pg_sys::ForeignServerRelationId => SERVER,
        pg_sys::ForeignTableRelationId => TABLE,
        pg_sys::UserMappingRelationId => USER_MAPPING,
        pg_sys::AttributeRelationId => COLUMN,
        _ => &[],
    };
    options.check_names(valid)?;
    options.on_error()?;
    fetch_size(options)?;
    if let Some(key) = options.get(API_KEY)
        && (key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let valid = "It has printable ASCII characters only, and no spaces.";
        return Err(fault(API_KEY, OptionFault::Secret { valid }));
    }
    if catalog != pg_sys::ForeignServerRelationId {
        return Ok(());
    }
    if options.get(URL).is_none() {
        if let Some(name) = OF_URL.iter().find(|name| options.get(name).is_some()) {
            return Err(fault(name, OptionFault::Needs { other: URL }));
        }
        return check_path(options, "It is the absolute path of a directory on the server.");
    }
    if options.get(PATH).is_some() {
        return Err(fault(URL, OptionFault::Both { other: PATH }));
    }
    // SAFETY: looks the current user up.
    if !unsafe { pg_sys::superuser() } {
        return Err(fault(URL, OptionFault::NoSuperuser));
    }
    if let Some(path) = options.get(CA_FILE).filter(|path| !path.starts_with('/')) {
        return Err(value(CA_FILE, path, "It is the absolute path of a file on the server."));
    }
    http_options(options)?;
    Ok(())
}

fn fetch_size(options: &Options) -> Result<u32, Error> {
    let told = options.get(FETCH_SIZE).unwrap_or("256");
    let valid = "It is a number of points, from 1 to 10000.";
    told.parse().ok().filter(|size| (1..=10_000).contains(size)).ok_or_else(|| value(FETCH_SIZE, told, valid))
}

fn http_options(options: &Options) -> Result<Option<http::Options>, Error> {
    let Some(address) = options.url()? else { return Ok(None) };
    let mut http = http::Options::new(address);
    http.timeout = options.timeout()?;
    if let Some(told) = options.get(CONNECT_TIMEOUT) {
        let valid = "It is a number of seconds, from 1 to 3600.";
        let seconds = told.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
        http.connect_timeout = Duration::from_secs(seconds.ok_or_else(|| value(CONNECT_TIMEOUT, told, valid))?);
    }
    if let Some(told) = options.get(RETRIES) {
        let retries = told.parse().ok().filter(|retries| *retries <= 10);
        http.retries = retries.ok_or_else(|| value(RETRIES, told, "It is a number from 0 to 10."))?;
    }
    http.allow_plain = match options.get(ALLOW_PLAIN_HTTP) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(value(ALLOW_PLAIN_HTTP, other, "Valid values are: true, false.")),
    };
    http.ca_file = options.get(CA_FILE).map(PathBuf::from);
    Ok(Some(http))
}

/// The store of a server, as a user reads it.
///
/// # Safety
///
/// The server must exist.
pub(super) unsafe fn open(
    options: &Options,
    server: pg_sys::Oid,
    user: pg_sys::Oid,
    host: Host,
) -> Result<Qdrant, Error> {
    let place = match http_options(options)? {
        Some(mut http) => {
            // SAFETY: the caller's promise.
            let mapped = unsafe { user::mapping(server, user) };
            http.credentials.extend(mapped.get(API_KEY).map(|key| ("api-key".to_owned(), key.to_owned())));
            Place::Server(Box::new(http))
        }
        None => {
            Place::Directory(options.get(PATH).map(PathBuf::from).ok_or_else(|| fault(PATH, OptionFault::Missing))?)
        }
    };
    Ok(Qdrant { place, fetch_size: fetch_size(options)?, host })
}
