//! Options of `vector_embed_qdrant`, and the store they tell.

use std::path::PathBuf;

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_sources::Host;
use vector_embed_sources::qdrant::{Place, Qdrant};

use super::options::{COLUMN, ON_ERROR, Options, PATH, TABLE_NAME, TIMEOUT, URL, fault, validate, value};
use super::server::{ALLOW_PLAIN_HTTP, CA_FILE, CONNECT_TIMEOUT, RETRIES, check_place, http_options};
use super::sql_function;
use crate::error::{Error, OptionFault};

/// The one schema that a store has.
pub(super) const SCHEMA: &str = "collections";

/// Option of a server or table: points to ask for at once.
const FETCH_SIZE: &str = "fetch_size";
/// Option of a user mapping.
const API_KEY: &str = "api_key";

const SERVER: &[&str] =
    &[URL, PATH, CA_FILE, CONNECT_TIMEOUT, TIMEOUT, RETRIES, ALLOW_PLAIN_HTTP, FETCH_SIZE, ON_ERROR];
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
    if catalog == pg_sys::ForeignServerRelationId { check_place(options) } else { Ok(()) }
}

fn fetch_size(options: &Options) -> Result<u32, Error> {
    let told = options.get(FETCH_SIZE).unwrap_or("256");
    let valid = "It is a number of points, from 1 to 10000.";
    told.parse().ok().filter(|size| (1..=10_000).contains(size)).ok_or_else(|| value(FETCH_SIZE, told, valid))
}

/// The store of a server, for a user with these options of a mapping.
pub(super) fn open(options: &Options, mapped: &Options, host: Host) -> Result<Qdrant, Error> {
    let place = match http_options(options)? {
        Some(mut http) => {
            http.credentials.extend(mapped.get(API_KEY).map(|key| ("api-key".to_owned(), key.to_owned())));
            Place::Server(Box::new(http))
        }
        None => Place::Directory(
            options.get(PATH).map(PathBuf::from).ok_or_else(|| fault(PATH, OptionFault::Missing))?,
        ),
    };
    Ok(Qdrant { place, fetch_size: fetch_size(options)?, host })
}
