//! Options of servers, foreign tables and columns.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_sources::OnError;
use vector_embed_sources::http::{self, Address};
use vector_embed_sources::sqlite::InvalidText;

use super::server::{ALLOW_PLAIN_HTTP, CA_FILE, CONNECT_TIMEOUT, RETRIES, check_place};
use super::sql_function;
use crate::error::{Error, OptionFault, OrRaise};
use crate::pg::nodes::items;
use crate::pg::text::{from_server, to_server};

/// Option of a server: where the database file is.
pub(super) const PATH: &str = "path";
/// Option of a server or table: the zone of timestamps that name none.
pub(super) const TIMEZONE: &str = "timezone";
/// Option of a server or table: what becomes of values that do not fit.
pub(super) const ON_ERROR: &str = "on_error";
/// Option of a server or table: what becomes of text that PostgreSQL cannot have.
pub(super) const INVALID_TEXT: &str = "invalid_text";
/// Option of a table: its name in the store.
pub(super) const TABLE_NAME: &str = "table_name";
/// Option of a column: its name in the store.
pub(super) const COLUMN_NAME: &str = "column_name";

const SQLITE_SERVER: &[&str] = &[PATH, TIMEZONE, ON_ERROR, INVALID_TEXT];
const SQLITE_TABLE: &[&str] = &[TABLE_NAME, TIMEZONE, ON_ERROR, INVALID_TEXT];
/// Option of a Chroma or Qdrant server: where it is, if it is one that runs.
pub(super) const URL: &str = "url";
/// Option of a Chroma server: whose databases these are.
pub(super) const TENANT: &str = "tenant";
/// Option of a Chroma server or table: the database.
pub(super) const DATABASE: &str = "database";
/// Option of a server that is asked by HTTP: seconds that an answer may take.
pub(super) const TIMEOUT: &str = "timeout";
/// Option of a Chroma server: the header that the token goes to, if that is not `Authorization`.
pub(super) const TOKEN_HEADER: &str = "token_header";
/// Options of a user mapping.
pub(super) const TOKEN: &str = "token";
pub(super) const USER: &str = "user";
pub(super) const PASSWORD: &str = "password";

const CHROMA_SERVER: &[&str] = &[
    PATH,
    URL,
    TENANT,
    DATABASE,
    ON_ERROR,
    INVALID_TEXT,
    CA_FILE,
    CONNECT_TIMEOUT,
    TIMEOUT,
    RETRIES,
    ALLOW_PLAIN_HTTP,
    TOKEN_HEADER,
];
const CHROMA_TABLE: &[&str] = &[TABLE_NAME, DATABASE, ON_ERROR, INVALID_TEXT];
const CHROMA_USER: &[&str] = &[TOKEN, USER, PASSWORD];
pub(super) const COLUMN: &[&str] = &[COLUMN_NAME];

sql_function!(vector_embed_sqlite_validator, pg_finfo_vector_embed_sqlite_validator, validate_sqlite);

sql_function!(vector_embed_chroma_validator, pg_finfo_vector_embed_chroma_validator, validate_chroma);

/// Checks options as they are set. Whoever names a file must have the right to read the server's files, since its
/// server lets others read it.
unsafe fn validate_sqlite(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called as a validator.
    unsafe { validate(call, check_sqlite) }
}

/// The same, and whoever names a server that runs must be a superuser: PostgreSQL would send requests for him.
unsafe fn validate_chroma(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called as a validator.
    unsafe { validate(call, check_chroma) }
}

/// # Safety
///
/// The call must be one of a validator.
pub(super) unsafe fn validate(
    call: pg_sys::FunctionCallInfo,
    check: fn(&Options, pg_sys::Oid) -> Result<(), Error>,
) -> pg_sys::Datum {
    // SAFETY: declared with (text[], oid), and called by the commands that set options.
    unsafe {
        let arguments = (*call).args.as_slice(2);
        let catalog = pg_sys::Oid::from_datum(arguments[1].value, arguments[1].isnull).unwrap_or_default();
        let options = Options::from_list(pg_sys::untransformRelOptions(arguments[0].value));
        check(&options, catalog).or_raise();
    }
    pg_sys::Datum::null()
}

fn check_sqlite(options: &Options, catalog: pg_sys::Oid) -> Result<(), Error> {
    let valid = match catalog {
        pg_sys::ForeignServerRelationId => SQLITE_SERVER,
        pg_sys::ForeignTableRelationId => SQLITE_TABLE,
        pg_sys::AttributeRelationId => COLUMN,
        _ => &[],
    };
    options.check_names(valid)?;
    options.on_error()?;
    options.invalid_text()?;
    options.zone()?;
    if catalog == pg_sys::ForeignServerRelationId {
        check_path(options, "It is the absolute path of a file on the server.")?;
    }
    Ok(())
}

fn check_chroma(options: &Options, catalog: pg_sys::Oid) -> Result<(), Error> {
    let valid = match catalog {
        pg_sys::ForeignServerRelationId => CHROMA_SERVER,
        pg_sys::ForeignTableRelationId => CHROMA_TABLE,
        pg_sys::UserMappingRelationId => CHROMA_USER,
        pg_sys::AttributeRelationId => COLUMN,
        _ => &[],
    };
    options.check_names(valid)?;
    options.on_error()?;
    options.invalid_text()?;
    options.timeout()?;
    options.check_headers()?;
    if catalog == pg_sys::ForeignServerRelationId { check_place(options) } else { Ok(()) }
}

/// Whether there is a path, and whoever sets it may.
pub(super) fn check_path(options: &Options, valid: &'static str) -> Result<(), Error> {
    let path = options.get(PATH).ok_or_else(|| fault(PATH, OptionFault::Missing))?;
    if !path.starts_with('/') {
        return Err(value(PATH, path, valid));
    }
    // SAFETY: looks the current user up.
    let may_read =
        unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::ROLE_PG_READ_SERVER_FILES.into()) };
    if may_read { Ok(()) } else { Err(fault(PATH, OptionFault::Denied)) }
}

pub(super) fn fault(option: &str, fault: OptionFault) -> Error {
    Error::ForeignOption { option: option.to_owned(), fault }
}

/// Options by their names; the last of a name counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// # Safety
    ///
    /// `list` must be one of options.
    pub(super) unsafe fn from_list(list: *mut pg_sys::List) -> Self {
        // SAFETY: an option is a name with a string, both of which end with NUL.
        unsafe {
            let text = |text| from_server(CStr::from_ptr(text));
            let options = items::<pg_sys::DefElem>(list).into_iter();
            Self(
                options.map(|option| (text((*option).defname), text(pg_sys::defGetString(option)))).collect(),
            )
        }
    }

    pub(super) fn of(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    /// These, and before them those of `self`.
    pub(super) fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn check_names(&self, valid: &'static [&'static str]) -> Result<(), Error> {
        match self.0.iter().find(|(name, _)| !valid.contains(&name.as_str())) {
            Some((name, _)) => Err(fault(name, OptionFault::Unknown { valid })),
            None => Ok(()),
        }
    }

    /// What becomes of values that do not fit.
    pub(super) fn on_error(&self) -> Result<OnError, Error> {
        match self.get(ON_ERROR) {
            None | Some("error") => Ok(OnError::Error),
            Some("null") => Ok(OnError::Null),
            Some(other) => Err(value(ON_ERROR, other, "Valid values are: error, null.")),
        }
    }

    /// What becomes of text that PostgreSQL cannot have.
    pub(super) fn invalid_text(&self) -> Result<InvalidText, Error> {
        match self.get(INVALID_TEXT) {
            None | Some("error") => Ok(InvalidText::Error),
            Some("strip") => Ok(InvalidText::Strip),
            Some("hex") => Ok(InvalidText::Hex),
            Some(other) => Err(value(INVALID_TEXT, other, "Valid values are: error, strip, hex.")),
        }
    }

    /// What becomes of what is lost because a store is damaged: unlike a value that does not fit, nobody can do
    /// anything about it.
    pub(super) fn on_damage(&self) -> OnError {
        if self.get(ON_ERROR) == Some("error") { OnError::Error } else { OnError::Null }
    }

    /// The address of a server that runs.
    pub(super) fn url(&self) -> Result<Option<Address>, Error> {
        let Some(url) = self.get(URL) else { return Ok(None) };
        // Not told: it may hold what authenticates.
        Address::parse(url).map(Some).map_err(|valid| fault(URL, OptionFault::Secret { valid }))
    }

    /// How long an answer of a server may take.
    pub(super) fn timeout(&self) -> Result<Duration, Error> {
        let seconds = self.get(TIMEOUT).unwrap_or("60");
        match seconds.parse() {
            Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
            _ => Err(value(TIMEOUT, seconds, "It is a number of seconds, from 1 to 86400.")),
        }
    }

    /// Whether what goes to headers can: a line's end in it would begin another header.
    fn check_headers(&self) -> Result<(), Error> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if let Some(name) =
            self.get(TOKEN_HEADER).filter(|name| name.is_empty() || !name.bytes().all(is_token))
        {
            return Err(value(TOKEN_HEADER, name, "It is the name of a header, such as X-Chroma-Token."));
        }
        for name in [TOKEN, USER, PASSWORD] {
            if self.get(name).is_some_and(|value| value.bytes().any(|byte| !(b' '..=b'~').contains(&byte))) {
                return Err(fault(
                    name,
                    OptionFault::Secret { valid: "It has printable ASCII characters only." },
                ));
            }
        }
        Ok(())
    }

    /// Headers that authenticate, of the options of a user mapping. `header`: where a token goes that is no bearer's.
    pub(super) fn credentials(&self, header: Option<&str>) -> Vec<(String, String)> {
        const AUTHORIZATION: &str = "Authorization";
        let of_token = |token: &str| match header {
            Some(header) => (header.to_owned(), token.to_owned()),
            None => (AUTHORIZATION.to_owned(), format!("Bearer {token}")),
        };
        let of_user = |user: &str| {
            let pair = format!("{user}:{}", self.get(PASSWORD).unwrap_or_default());
            (AUTHORIZATION.to_owned(), format!("Basic {}", http::base64(pair.as_bytes())))
        };
        [self.get(TOKEN).map(of_token), self.get(USER).map(of_user)].into_iter().flatten().collect()
    }

    /// The zone of timestamps that name none; UTC unless told otherwise, as SQLite's own functions have it.
    pub(super) fn zone(&self) -> Result<*mut pg_sys::pg_tz, Error> {
        let name = self.get(TIMEZONE).unwrap_or("UTC");
        let server_name: CString = to_server(name);
        // SAFETY: looks a zone up by its name; the zones that are found are kept for ever.
        let zone = unsafe { pg_sys::pg_tzset(server_name.as_ptr()) };
        if zone.is_null() {
            return Err(value(TIMEZONE, name, "The view pg_timezone_names shows valid values."));
        }
        Ok(zone)
    }
}

pub(super) fn value(option: &str, value: &str, valid: &'static str) -> Error {
    fault(option, OptionFault::Value { value: value.to_owned(), valid })
}
