//! Options of servers, foreign tables and columns.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_sources::OnError;
use vector_embed_sources::sqlite::InvalidText;

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
const COLUMN: &[&str] = &[COLUMN_NAME];

sql_function!(vector_embed_sqlite_validator, pg_finfo_vector_embed_sqlite_validator, validate_sqlite);

/// Checks options as they are set. Whoever names a file must have the right to read the server's files, since its
/// server lets others read it.
unsafe fn validate_sqlite(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: declared with (text[], oid), and called by the commands that set options.
    unsafe {
        let arguments = (*call).args.as_slice(2);
        let catalog = pg_sys::Oid::from_datum(arguments[1].value, arguments[1].isnull).unwrap_or_default();
        let options = Options::from_list(pg_sys::untransformRelOptions(arguments[0].value));
        check_sqlite(&options, catalog).or_raise();
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
        let path = options.get(PATH).ok_or_else(|| fault(PATH, OptionFault::Missing))?;
        if !path.starts_with('/') {
            let valid = "It is the absolute path of a file on the server.";
            return Err(fault(PATH, OptionFault::Value { value: path.to_owned(), valid }));
        }
        // SAFETY: looks the current user up.
        let may_read = unsafe {
            pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::ROLE_PG_READ_SERVER_FILES.into())
        };
        if !may_read {
            return Err(fault(PATH, OptionFault::Denied));
        }
    }
    Ok(())
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
        // SAFETY: an option is a name with a string.
        let text = |text| unsafe { from_server(CStr::from_ptr(text)) };
        let options = unsafe { items::<pg_sys::DefElem>(list) };
        Self(
            options
                .into_iter()
                .map(|option| unsafe { (text((*option).defname), text(pg_sys::defGetString(option))) })
                .collect(),
        )
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

fn value(option: &str, value: &str, valid: &'static str) -> Error {
    fault(option, OptionFault::Value { value: value.to_owned(), valid })
}
