//! Moving with confidence: what was copied is compared with what it was copied from, and sequences follow copied ids.

mod checksum;
mod diff;
mod sequences;
mod verify;

use crate::error::{ColumnFault, Error};
use crate::pg::relation::TypedColumn;
use crate::pg::table::Table;
use crate::pg::vector::TextArray;

/// The names in an array of columns; none of them NULL.
fn names(array: &TextArray<'_>) -> Result<Vec<String>, Error> {
    let names = array.elements().iter().map(|name| name.as_ref().map(|name| name.as_str().to_owned()));
    names.collect::<Option<_>>().ok_or(Error::Null("a column"))
}

/// The column of a name among those of its table.
fn find<'a>(table: &Table, columns: &'a [TypedColumn], name: &str) -> Result<&'a TypedColumn, Error> {
    columns.iter().find(|column| column.name == name).ok_or_else(|| table.fault(name, ColumnFault::Missing))
}

/// Makes sure that no name occurs twice.
fn check_repeated<'a>(table: &Table, names: impl IntoIterator<Item = &'a String>) -> Result<(), Error> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(table.fault(name, ColumnFault::Repeated));
        }
        seen.push(name);
    }
    Ok(())
}
