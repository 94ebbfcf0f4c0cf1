//! What a store has to offer.

use crate::value::Type;

/// A table, as `IMPORT FOREIGN SCHEMA` declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, which becomes the foreign table's.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Further options of the foreign table. Its name in the store goes there without being asked for.
    pub options: Vec<(&'static str, String)>,
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
}
