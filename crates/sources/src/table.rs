//! What a store has to offer.

use crate::value::Type;

/// A table, as `IMPORT FOREIGN SCHEMA` declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, which becomes the foreign table's.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Further options of the foreign table. Its name in the store goes there without being asked for.
    pub options: Vec<(&'static str, String)>,
    /// What COMMENT ON tells of it.
    pub comment: Option<String>,
}

/// What a table is in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table.
    Table,
    /// A view, whose rows are computed.
    View,
    /// What a store tells of itself, such as its collections.
    Catalog,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type it is declared as.
    pub of: Type,
    /// Whether it never has NULL.
    pub not_null: bool,
    /// What COMMENT ON tells of it.
    pub comment: Option<String>,
}
