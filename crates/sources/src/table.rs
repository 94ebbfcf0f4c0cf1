//! What a store has to offer.

use crate::value::Type;

/// A table, as `IMPORT FOREIGN SCHEMA` declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, which becomes the foreign table's.
    pub name: String,
    pub kind: Kind,
    pub columns: Vec<Column>,
    /// Further options of the foreign table. Its name in the store goes there without being asked for.
    pub options: Vec<(&'static str, String)>,
    pub comment: Option<String>,
}

/// What a table is in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    View,
    /// What a store tells of itself, such as its collections.
    Catalog,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub of: Type,
    pub not_null: bool,
    pub comment: Option<String>,
}
