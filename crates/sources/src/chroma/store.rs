//! A directory that is open.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::Error;
use crate::host::Host;
use crate::sqlite::{self, Database};

/// The database of a Chroma directory, in one transaction that reads, and where the directory is.
pub(crate) struct Store {
    database: Database,
    pub(crate) directory: PathBuf,
    pub(crate) interrupted: fn() -> bool,
}

impl Store {
    pub(crate) fn open(directory: &Path, host: &Host) -> Result<Self, Error> {
        let database = sqlite::open(&file(directory), host)?;
        Ok(Self { database, directory: directory.to_owned(), interrupted: host.interrupted })
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.database.connection()
    }

    /// What SQLite says, as an error of the database as a whole.
    pub(crate) fn failed(&self, error: &rusqlite::Error) -> Error {
        sqlite::failed(&file(&self.directory), error)
    }

    /// Whether there is such a table.
    pub(crate) fn has_table(&self, name: &str) -> rusqlite::Result<bool> {
        let select = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)";
        self.connection().query_row(select, [name], |row| row.get(0))
    }

    /// Whether a table has such a column.
    pub(crate) fn has_column(&self, table: &str, column: &str) -> rusqlite::Result<bool> {
        let select = "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2)";
        self.connection().query_row(select, (table, column), |row| row.get(0))
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("chroma.sqlite3")
}
