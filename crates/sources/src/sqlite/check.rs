//! Everything in a database that PostgreSQL cannot have as it is declared.

use std::collections::VecDeque;

use super::file::Database;
use super::rows::TableRows;
use super::{InvalidText, Sqlite, schema};
use crate::error::{BadValue, Error};
use crate::scan::{OnError, Rows, Scan};

/// Something that will not be read as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Table or view.
    pub table: String,
    /// The row, if it has one and is known.
    pub rowid: Option<i64>,
    /// The column, if it is about a value.
    pub column: Option<String>,
    /// The value as one would write it, cut to a readable length.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// Reads all tables and views, and tells what does not fit. Ends after an error.
pub struct Check {
    source: Sqlite,
    database: Option<Database>,
    tables: VecDeque<String>,
    current: Option<(TableRows, usize)>,
    found: VecDeque<Finding>,
}

impl Sqlite {
    /// Begins a check of the whole file, by the types that `IMPORT FOREIGN SCHEMA` declares. Text that an option would
    /// change is found, too.
    pub fn check(&self) -> Result<Check, Error> {
        let database = self.open()?;
        let names = schema::names(database.connection()).map_err(|error| self.failed(&error))?;
        let mut source = self.clone();
        source.invalid_text = InvalidText::Error;
        Ok(Check {
            source,
            database: Some(database),
            tables: names.into(),
            current: None,
            found: VecDeque::new(),
        })
    }
}

impl Check {
    /// The next table's rows; false after the last table.
    fn open_next(&mut self) -> Result<bool, Error> {
        let (Some(name), Some(database)) = (self.tables.pop_front(), &self.database) else {
            return Ok(false);
        };
        let table = match self.source.table(database, &name) {
            Ok(table) => table,
            Err(Error::Unimportable { table, reason }) => {
                self.found.push_back(whole(table, format!("cannot be imported: {reason}")));
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let scan = Scan {
            table: table.name,
            columns: table.columns.into_iter().map(|column| (column.name, column.of)).collect(),
            filters: Vec::new(),
            operands: Vec::new(),
            limit: None,
            on_error: OnError::Error,
        };
        // Another connection, whose statement owns it. What is copied is copied once.
        let opened = self.source.open()?;
        let relation = self.source.relation(&opened, &scan.table)?;
        let columns = scan.columns.len();
        match TableRows::open(&self.source, opened, relation, &scan) {
            Ok(rows) => self.current = Some((rows.skipping_damage(), columns)),
            Err(Error::Read { table, detail }) => self.found.push_back(whole(table, detail)),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Looks at the next row.
    fn step(&mut self) -> Result<bool, Error> {
        let Some((rows, columns)) = &mut self.current else { return self.open_next() };
        let before = rows.losses().rows;
        let is_row = match rows.next() {
            Ok(is_row) => is_row,
            Err(Error::Read { table, detail }) => {
                self.found.push_back(whole(table, detail));
                false
            }
            Err(error) => return Err(error),
        };
        let lost = rows.losses().rows - before;
        if std::mem::take(&mut rows.losses_mut().incomplete) {
            let what = if lost > 0 { format!("up to {lost} rows") } else { "rows".to_owned() };
            let detail = match rows.losses_mut().first.take().map(|first| *first) {
                Some(Error::Damaged { detail, .. }) => detail,
                Some(other) => other.to_string(),
                None => String::new(),
            };
            let mut finding = whole(rows.table(), format!("{what} cannot be read: {detail}"));
            finding.rowid = rows.rowid();
            self.found.push_back(finding);
        }
        if !is_row {
            self.current = None;
            return Ok(true);
        }
        for column in 0..*columns {
            match rows.value(column) {
                Ok(_) => {}
                Err(Error::Value(bad)) => self.found.push_back(about(*bad, rows.rowid())),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn whole(table: String, problem: String) -> Finding {
    Finding {
        table,
        rowid: None,
        column: None,
        value: None,
        problem: problem.trim_end_matches('.').to_owned(),
    }
}

fn about(bad: BadValue, rowid: Option<i64>) -> Finding {
    let mut problem = format!("{}, and cannot be read as {}", bad.problem, bad.wanted);
    if rowid.is_none() {
        problem += &format!(" (in {})", bad.row);
    }
    Finding { table: bad.table, rowid, column: Some(bad.column), value: Some(bad.value), problem }
}

impl Iterator for Check {
    type Item = Result<Finding, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(finding) = self.found.pop_front() {
                return Some(Ok(finding));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.tables.clear();
                    self.current = None;
                    self.database = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
