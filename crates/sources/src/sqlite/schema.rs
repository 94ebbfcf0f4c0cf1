//! Tables, views and columns of a database, and the types they become.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::shadow::virtual_tables;
use crate::value::Type;

/// A table or view of a database.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    /// What a view has is computed, and may be of any kind.
    pub(super) is_view: bool,
    pub(super) columns: Vec<Attribute>,
    /// The first column whose name is not UTF-8, with what is not replaced. No SQL can name it, and what SQLite does
    /// not know as a name in double quotes it takes for text; so it is none of the columns.
    pub(super) nameless: Option<String>,
    /// By what its rows are told apart.
    pub(super) key: Key,
}

/// By what a relation's rows are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// The name that this column goes by, which may be shadowed by others of its names.
    Rowid(String),
    /// A primary key's columns.
    Columns(Vec<String>),
    /// A view has none.
    Number,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) affinity: Affinity,
    pub(super) not_null: bool,
    /// Another name of the rowid.
    pub(super) is_rowid: bool,
}

/// What SQLite turns values into before it stores or compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// By SQLite's rules, in their order.
    pub(super) fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

/// The type that a declared one becomes.
pub(super) fn imported(declared: &str) -> Type {
    let name = declared.split('(').next().unwrap_or_default().trim().to_ascii_uppercase();
    let begins = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
    match name.as_str() {
        "BOOL" | "BOOLEAN" => return Type::Boolean,
        "DATE" => return Type::Timestamptz,
        "DEC" | "FIXED" | "MONEY" | "CURRENCY" => return Type::Numeric,
        _ => {}
    }
    match Affinity::of(&name) {
        Affinity::Integer => Type::Bigint,
        Affinity::Text => Type::Text,
        Affinity::Blob if name.is_empty() => Type::Text,
        Affinity::Blob => Type::Bytea,
        Affinity::Real => Type::Double,
        Affinity::Numeric if begins(&["DATETIME", "TIMESTAMP"]) => Type::Timestamptz,
        Affinity::Numeric if begins(&["DECIMAL", "NUMERIC", "NUMBER"]) => Type::Numeric,
        Affinity::Numeric => Type::Text, // JSON, UUID, STRING, and whatever else is written there
    }
}

/// A name as SQL has it.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names of the tables and views that belong to the file's users, in order: no virtual tables, nor those in which these
/// keep what they have.
pub(super) fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let virtual_tables = virtual_tables(connection)?;
    let mut statement = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE (type = 'view' OR type = 'table' AND rootpage <> 0) \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = statement.query_map([], |row| Ok(text(row.get_ref(0)?)))?;
    let is_users = |name: &String| !virtual_tables.iter().any(|known| known.keeps(name));
    names.filter(|name| name.as_ref().map_or(true, is_users)).collect()
}

/// A relation by its name; `None` if there is none, or it is virtual.
pub(super) fn relation(connection: &Connection, name: &str) -> rusqlite::Result<Option<Relation>> {
    let mut statement = connection.prepare(
        "SELECT name, type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE \
         AND (type = 'view' OR type = 'table' AND rootpage <> 0)",
    )?;
    let mut rows = statement.query([name])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let name = text(row.get_ref(0)?);
    let is_view = text(row.get_ref(1)?) == "view";
    let mut columns = Vec::new();
    let (mut primary, mut is_key_whole, mut nameless) = (Vec::new(), true, None);
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
    )?;
    let mut rows = statement.query([&name])?;
    while let Some(row) = rows.next()? {
        let declared = text(row.get_ref(1)?);
        let place: i64 = row.get(3)?;
        let ValueRef::Text(bytes) = row.get_ref(0)? else { continue };
        let Ok(column) = std::str::from_utf8(bytes).map(str::to_owned) else {
            nameless.get_or_insert_with(|| String::from_utf8_lossy(bytes).into_owned());
            is_key_whole &= place == 0;
            continue;
        };
        if place > 0 {
            primary.push((place, column.clone()));
        }
        columns.push(Attribute {
            name: column,
            affinity: Affinity::of(&declared),
            declared,
            not_null: row.get::<_, i64>(2)? != 0,
            is_rowid: false,
        });
    }
    let mut relation = Relation { name, is_view, columns, nameless, key: Key::Number };
    if !is_view {
        primary.sort();
        primary.retain(|_| is_key_whole);
        relation.find_key(connection, primary.into_iter().map(|(_, column)| column).collect());
    }
    Ok(Some(relation))
}

impl Relation {
    fn find_key(&mut self, connection: &Connection, primary: Vec<String>) {
        let only = if let [only] = primary.as_slice() { self.position(only) } else { None };
        let integer = only.filter(|at| self.columns[*at].declared.eq_ignore_ascii_case("INTEGER"));
        let unshadowed = ["rowid", "_rowid_", "oid"].into_iter().find(|name| self.position(name).is_none());
        let rowid = unshadowed.map(str::to_owned).filter(|name| {
            // Without a rowid there is no such column.
            connection.prepare(&format!("SELECT {name} FROM {}", quote(&self.name))).is_ok()
        });
        self.key = match (rowid, integer) {
            (Some(rowid), integer) => {
                if let Some(at) = integer {
                    self.columns[at].is_rowid = true;
                }
                Key::Rowid(rowid)
            }
            (None, _) if primary.is_empty() => Key::Number,
            (None, _) => Key::Columns(primary),
        };
    }

    /// Where a column is. SQLite's names differ by more than case.
    pub(super) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known.name.eq_ignore_ascii_case(column))
    }
}

/// Text, with what is not UTF-8 replaced: names that were made by others.
pub(super) fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    }
}
