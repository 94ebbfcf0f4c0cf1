//! SQLite database files.

mod check;
mod convert;
mod copy;
mod estimate;
mod file;
mod query;
mod rows;
mod schema;
mod shadow;

use std::path::PathBuf;

pub use check::{Check, Finding};
pub use copy::Copies;
pub(crate) use file::failed;
pub use file::{Database, open};

pub use crate::text::InvalidText;

use crate::error::Error;
use crate::host::Host;
use crate::scan::{Filter, Plan, Rows, Scan, Source};
use crate::table::{Column, Table};
use schema::Relation;

const WHAT: &str = "SQLite database";
/// PostgreSQL's tables have no more columns.
const MAX_COLUMNS: usize = 1600;

/// A database file.
#[derive(Clone)]
pub struct Sqlite {
    /// Where it is.
    pub path: PathBuf,
    /// What becomes of text with NUL bytes, and of text that is not valid in its encoding.
    pub invalid_text: InvalidText,
    /// Where it is read.
    pub host: Host,
}

impl Sqlite {
    fn open(&self) -> Result<Database, Error> {
        open(&self.path, &self.host)
    }

    fn place(&self) -> String {
        format!("{WHAT} \"{}\"", self.path.display())
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        file::failed(&self.path, error)
    }

    fn no_column(&self, column: &str, relation: &Relation) -> Error {
        let (column, table) = (column.to_owned(), relation.name.clone());
        Error::NoColumn { column, table, place: self.place() }
    }

    fn relation(&self, database: &Database, name: &str) -> Result<Relation, Error> {
        let relation = schema::relation(database.connection(), name).map_err(|error| self.failed(&error))?;
        relation.ok_or_else(|| Error::NoTable { table: name.to_owned(), place: self.place() })
    }
}

impl Source for Sqlite {
    fn tables(&self, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Table>, Error> {
        let database = self.open()?;
        let names = schema::names(database.connection()).map_err(|error| self.failed(&error))?;
        let wanted = names.into_iter().filter(|name| wants(name));
        wanted.map(|name| self.table(&database, &name)).collect()
    }

    fn plan(&self, scan: &Scan, filters: &[Filter]) -> Result<Plan, Error> {
        let database = self.open()?;
        let relation = self.relation(&database, &scan.table)?;
        let accepted = filters
            .iter()
            .map(|filter| query::accepted(&relation, filter, scan, self.invalid_text))
            .collect();
        let estimate = match estimate::estimate(&database, &relation) {
            Err(error) if matches!(file::classify(&error), file::Failure::Damaged(_)) => estimate::UNKNOWN,
            estimate => estimate.map_err(|error| self.failed(&error))?,
        };
        let invalid_text = self.invalid_text;
        let describe = Box::new(move |scan: &Scan| Ok(query::build(&relation, scan, invalid_text, None).sql));
        Ok(Plan { accepted, estimate, describe })
    }

    fn open(&self, scan: &Scan) -> Result<Box<dyn Rows>, Error> {
        let database = self.open()?;
        let relation = self.relation(&database, &scan.table)?;
        Ok(Box::new(rows::TableRows::open(self, database, relation, scan)?))
    }
}

impl Sqlite {
    fn table(&self, database: &Database, name: &str) -> Result<Table, Error> {
        let refuse = |reason: String| Error::Unimportable { table: name.to_owned(), reason };
        let relation = schema::relation(database.connection(), name)
            .map_err(|error| refuse(file::says(&error.to_string())))?
            .ok_or_else(|| refuse("its name is not valid UTF-8".to_owned()))?;
        if let Some(column) = relation.nameless {
            return Err(refuse(format!("the name of its column \"{column}\" is not valid UTF-8")));
        }
        if relation.columns.len() > MAX_COLUMNS {
            return Err(refuse(format!(
                "it has {} columns, and tables of PostgreSQL have at most {MAX_COLUMNS}",
                relation.columns.len()
            )));
        }
        let columns = relation.columns.iter().map(|column| Column {
            name: column.name.clone(),
            of: schema::imported(&column.declared),
            not_null: column.not_null || column.is_rowid,
        });
        let columns = columns.collect();
        Ok(Table { name: relation.name, columns, options: Vec::new() })
    }
}
