//! Files, and reading them.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::Connection;
use vector_embed_sources::sqlite::{Copies, InvalidText, Sqlite};
use vector_embed_sources::{Error, Host, OnError, Rows, Scan, Source, Type, Value, Zone};

/// An hour east of Greenwich, all year.
struct East;

impl Zone for East {
    fn to_utc(&self, local: i64) -> i64 {
        local - 3_600_000_000
    }
}

/// A database in a directory of its own, and where copies of it go.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    /// A database that `sql` makes.
    pub(crate) fn new(sql: &str) -> Self {
        let fixture = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir(fixture.directory.path().join("source")).expect("a directory");
        fixture.connect().execute_batch(sql).expect("good SQL");
        fixture
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("source/store.db")
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.path()).expect("a database")
    }

    /// Names of the copies that there are.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        files(&self.directory.path().join("temporary"))
    }

    /// Names of the files where the database is.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files(&self.directory.path().join("source"))
    }

    pub(crate) fn source(&self) -> Sqlite {
        Sqlite { path: self.path(), invalid_text: InvalidText::Error, host: self.host(|| false) }
    }

    pub(crate) fn host(&self, interrupted: fn() -> bool) -> Host {
        Host {
            interrupted,
            wait: |_, time| std::thread::sleep(time.min(std::time::Duration::from_millis(1))),
            temporary: self.directory.path().join("temporary/copy."),
            temporary_bytes: None,
            copies: Copies::default(),
            zone: Rc::new(East),
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A scan of some columns.
pub(crate) fn scan(table: &str, columns: &[(&str, Type)]) -> Scan {
    Scan {
        table: table.to_owned(),
        columns: columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
        filters: Vec::new(),
        operands: Vec::new(),
        limit: None,
        on_error: OnError::Error,
    }
}

/// A value as text.
pub(crate) fn told(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Numeric(text) | Value::Text(text) | Value::Json(text) => text.to_owned(),
        Value::Bytea(bytes) => format!("{bytes:?}"),
        Value::Timestamp(micros) => micros.to_string(),
        Value::Date(days) => days.to_string(),
        Value::Uuid(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Vector(numbers) => format!("{numbers:?}"),
    }
}

/// The rows that are left, as text.
pub(crate) fn rest(rows: &mut dyn Rows, columns: usize) -> Result<Vec<Vec<String>>, Error> {
    let mut all = Vec::new();
    while rows.next()? {
        let row = (0..columns).map(|column| rows.value(column).map(told)).collect::<Result<_, _>>()?;
        all.push(row);
    }
    Ok(all)
}

/// All rows of a scan, as text.
pub(crate) fn read(source: &Sqlite, scan: &Scan) -> Result<Vec<Vec<String>>, Error> {
    rest(&mut *Source::open(source, scan)?, scan.columns.len())
}

/// The first column of all rows.
pub(crate) fn first(source: &Sqlite, scan: &Scan) -> Vec<String> {
    let rows = read(source, scan).expect("readable rows");
    rows.into_iter().map(|row| row.into_iter().next().expect("a column")).collect()
}
