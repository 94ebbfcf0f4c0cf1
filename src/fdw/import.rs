//! `IMPORT FOREIGN SCHEMA`: the commands that declare a store's tables.

use std::collections::HashSet;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_sources::{Error as SourceError, OnError, Table, Type};

use super::host::finish;
use super::options::{COLUMN_NAME, Options, TABLE_NAME};
use super::source::of_schema;
use crate::error::Error;
use crate::pg::nodes::{items, list};
use crate::pg::spi;
use crate::pg::text::{from_server, to_server};

/// Columns that every table has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn import(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    server: pg_sys::Oid,
) -> *mut pg_sys::List {
    // SAFETY: called by the command, which has found the server.
    unsafe {
        let commands = finish(commands(statement, server));
        list(commands.iter().map(|command| pg_sys::pstrdup(command.as_ptr())))
    }
}

/// Which tables are wanted, by the names that they get.
enum Wanted {
    All,
    LimitTo(Vec<String>),
    Except(Vec<String>),
}

impl Wanted {
    unsafe fn of(statement: *mut pg_sys::ImportForeignSchemaStmt) -> Self {
        // SAFETY: the statement's list is one of range variables.
        unsafe {
            let names = items::<pg_sys::RangeVar>((*statement).table_list);
            let names = names.into_iter().map(|name| from_server(CStr::from_ptr((*name).relname))).collect();
            match (*statement).list_type {
                pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_LIMIT_TO => Self::LimitTo(names),
                pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_EXCEPT => Self::Except(names),
                _ => Self::All,
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::LimitTo(names) => names.iter().any(|known| known == name),
            Self::Except(names) => !names.iter().any(|known| known == name),
        }
    }
}

unsafe fn commands(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    server: pg_sys::Oid,
) -> Result<Vec<CString>, Error> {
    // SAFETY: the command's own statement.
    unsafe {
        Options::from_list((*statement).options).check_names(&[])?;
        let schema = from_server(CStr::from_ptr((*statement).remote_schema));
        let wanted = Wanted::of(statement);
        let opened = of_schema(server, &schema)?;
        let tables = opened.source.tables(&|name| wanted.has(&identifier(name))).map_err(Error::Source)?;
        if let Wanted::LimitTo(names) = &wanted {
            let is_there = |name: &&String| tables.iter().any(|table| identifier(&table.name) == **name);
            if let Some(missing) = names.iter().find(|name| !is_there(name)) {
                let place = "the source".to_owned();
                return Err(Error::Source(SourceError::NoTable { table: missing.clone(), place }));
            }
        }
        let server = from_server(CStr::from_ptr((*statement).server_name));
        let mut taken = HashSet::new();
        let has_vectors =
            |table: &Table| table.columns.iter().any(|column| matches!(column.of, Type::Vector(_)));
        let vectors = if tables.iter().any(has_vectors) { schema_of_vector()? } else { String::new() };
        let tables = tables.iter();
        Ok(tables.map(|table| declare(table, &server, &vectors, opened.on_error, &mut taken)).collect())
    }
}

/// The schema of pgvector's types, which need not be on the search path.
unsafe fn schema_of_vector() -> Result<String, Error> {
    const QUERY: &str = "SELECT extnamespace::pg_catalog.int8 FROM pg_catalog.pg_extension \
         WHERE extname OPERATOR(pg_catalog.=) 'vector'";
    let oid = spi::numbers(QUERY, 1)?[0] as u32;
    // SAFETY: the schema of an extension exists.
    Ok(unsafe { from_server(CStr::from_ptr(pg_sys::get_namespace_name(oid.into()))) })
}

/// A table's declaration.
fn declare(
    table: &Table,
    server: &str,
    vectors: &str,
    on_error: OnError,
    taken: &mut HashSet<String>,
) -> CString {
    let mut names = HashSet::new();
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let wanted = match column.name.as_str() {
            "" => format!("column{}", at + 1),
            name if SYSTEM_COLUMNS.contains(&name) => format!("{name}_"),
            name => name.to_owned(),
        };
        let name = distinct(&wanted, &mut names);
        let schema = match column.of {
            Type::Vector(_) => quote_identifier(vectors) + ".",
            _ => String::new(),
        };
        let mut declared = format!("{} {schema}{}", quote_identifier(&name), column.of);
        if name != column.name {
            declared += &format!(" OPTIONS ({COLUMN_NAME} {})", quote_literal(&column.name));
        }
        // A value that does not fit is NULL otherwise.
        if column.not_null && on_error == OnError::Error {
            declared += " NOT NULL";
        }
        declared
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let mut options = vec![format!("{TABLE_NAME} {}", quote_literal(&table.name))];
    options.extend(table.options.iter().map(|(name, value)| format!("{name} {}", quote_literal(value))));
    let name = distinct(&table.name, taken);
    to_server(&format!(
        "CREATE FOREIGN TABLE {} ({columns}) SERVER {} OPTIONS ({})",
        quote_identifier(&name),
        quote_identifier(server),
        options.join(", ")
    ))
}

/// A name that fits, and that no other has.
fn distinct(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = identifier(name);
    let mut number = 1;
    while !taken.insert(candidate.clone()) {
        number += 1;
        let ending = format!("_{number}");
        candidate = cut(&identifier(name), MAX_BYTES - ending.len()) + &ending;
    }
    candidate
}

const MAX_BYTES: usize = pg_sys::NAMEDATALEN as usize - 1;

/// A name as PostgreSQL cuts it, which has none that are empty.
fn identifier(name: &str) -> String {
    cut(if name.is_empty() { "table" } else { name }, MAX_BYTES)
}

fn cut(name: &str, bytes: usize) -> String {
    name[..name.floor_char_boundary(bytes)].to_owned()
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
