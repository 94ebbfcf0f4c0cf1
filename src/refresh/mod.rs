//! Making the vectors of rows that are stored, outside of the transaction that stored them.
//!
//! Three phases, so that nobody waits for the engine: a transaction reads rows ([`Job::read`]); when it has ended, their
//! texts are embedded without any lock or snapshot ([`Job::embed`]); another transaction writes the vectors of those rows
//! that are still as they were read ([`Job::write`]). Whoever calls begins and ends the transactions, and says as whom
//! they run. A row at fault fails alone.

mod embed;
mod read;
mod write;

use std::ffi::CString;

use pgrx::pg_sys;

use crate::attachment::target::Target;
use crate::attachment::{Filler, Recorded, fillers};
use crate::error::{ColumnFault, Error, Failure};
use crate::pg::statement::{Cell, CellKind, Rows};
use crate::pg::table::{KeyColumn, Moment, Table};
use crate::pg::text::from_server;
use crate::pg::types::Type;

pub(crate) use read::{Need, Which};

/// What is attached, by names: it outlives transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) relation: pg_sys::Oid,
    pub(crate) embedding: String,
    pub(crate) columns: Vec<String>,
    pub(crate) model: String,
    /// The hash that the model must have; any, if none was recorded.
    pub(crate) hash: Option<String>,
    /// The column that keeps the hash with each row.
    pub(crate) provenance: Option<String>,
}

/// The values of a row's primary key, as PostgreSQL writes them while [`crate::pg::exact::Exact`] is in force, in the
/// server's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) Vec<CString>);

/// Rows on their way. Nothing in it belongs to a transaction.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Pending>,
    /// Keys that no row has.
    pub(crate) gone: Vec<Key>,
    /// Whether there were more rows than were taken: those with the keys that are in neither list, or the next in order.
    pub(crate) is_cut: bool,
    target: Target,
    table: String,
}

/// A row that is to get its vector.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) key: Key,
    /// Tells its text and vector from others.
    fingerprint: CString,
    state: State,
}

#[derive(Debug)]
enum State {
    Text(String),
    /// The vector as it comes from the engine.
    Vector(Vec<u8>),
    /// All columns are NULL, and so is the vector to be.
    Null,
    Failed(Failure),
}

/// What has become of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// Its text or its vector is not what was read.
    Changed,
    /// Others hold it, or were in the way.
    Locked,
    /// It is not there any more.
    Gone,
    Failed(Failure),
}

/// Whether to wait for rows that others have locked. Only who writes a single row may: nobody can wait for him then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    Skip,
    Wait,
}

impl Job {
    /// What one of a table's triggers has attached.
    pub(crate) fn of(table: &Table, filler: &Filler) -> Result<Self, Error> {
        let hash = match &filler.recorded {
            Recorded::Nothing => None,
            Recorded::Hash(hash) => Some(hash.clone()),
            Recorded::Unreadable => return Err(Error::TriggerComment(filler.trigger.name.clone())),
        };
        Ok(Self {
            relation: table.oid(),
            embedding: filler.embedding().to_owned(),
            columns: filler.columns().to_vec(),
            model: filler.model().to_owned(),
            hash,
            provenance: filler.noted.provenance.clone(),
        })
    }

    /// Fails unless a trigger of the table still does what this is.
    pub(crate) fn check_attached(&self, table: &Table) -> Result<(), Error> {
        let is_this = |filler: &Filler| {
            (filler.embedding(), filler.model(), filler.columns())
                == (self.embedding.as_str(), self.model.as_str(), self.columns.as_slice())
        };
        if fillers(table).iter().any(is_this) {
            Ok(())
        } else {
            Err(table.fault(&self.embedding, ColumnFault::NotAttached))
        }
    }

    /// The columns in the table as it is now.
    fn target(&self, table: &Table) -> Result<Target, Error> {
        Target::new(table, &self.embedding, &self.model, &self.columns, Moment::After)
    }
}

/// SQL about the rows `t` of a table.
struct Statements<'t> {
    table: &'t Table,
    job: &'t Job,
    target: Target,
    key: Vec<KeyColumn>,
}

impl<'t> Statements<'t> {
    fn new(table: &'t Table, job: &'t Job) -> Result<Self, Error> {
        let (target, key) = (job.target(table)?, table.primary_key()?);
        Ok(Self { table, job, target, key })
    }

    /// The columns of rows that name others by their keys: `place`, `k0`, …, and `more`.
    fn rows(&self, more: &[(&str, CellKind)]) -> Rows {
        let keys: Vec<String> = (0..self.key.len()).map(|place| format!("k{place}")).collect();
        let columns = [("place", CellKind::Int)]
            .into_iter()
            .chain(keys.iter().map(|name| (name.as_str(), CellKind::Text)))
            .chain(more.iter().copied());
        Rows::new(columns)
    }

    /// The values of a key of `v`, of the key's types.
    fn key_values(&self) -> Vec<String> {
        let value = |(place, column): (usize, &KeyColumn)| {
            format!("v.k{place}::{}", self.table.type_of(column.number))
        };
        self.key.iter().enumerate().map(value).collect()
    }

    /// That `t` is the row that `v` names.
    fn is_named(&self) -> String {
        let clauses = self.key.iter().zip(self.key_values()).map(|(column, value)| {
            let of_table = format!("t.{}", self.table.quoted_column(column.number));
            self.table.key_equality(*column, &of_table, &value)
        });
        clauses.collect::<Vec<_>>().join(" AND ")
    }

    /// The columns of the key of `t`.
    fn key_columns(&self) -> String {
        let columns = self.key.iter().map(|column| format!("t.{}", self.table.quoted_column(column.number)));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn sources(&self) -> Vec<String> {
        let number = |number: i16| format!("t.{}", self.table.quoted_column(number));
        self.target.sources.iter().map(|source| number(source.number)).collect()
    }

    fn embedding(&self) -> String {
        format!("t.{}", self.table.quoted_column(self.target.embedding.number))
    }

    /// What tells texts and vector of `t` from others: their hashes, so that nothing long has to be kept.
    fn fingerprint(&self) -> String {
        let hash = |bytes: String| format!("pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex')");
        // No conversion: the bytes as they are.
        let text =
            |column: &String| hash(format!("pg_catalog.convert_to({column}::pg_catalog.text, 'SQL_ASCII')"));
        let vector = hash(Type(self.target.embedding.base_type).binary(&self.embedding()));
        let parts: Vec<String> = self.sources().iter().map(text).chain([vector]).collect();
        format!("pg_catalog.concat({})", parts.join(", ',', "))
    }

    fn from(&self) -> String {
        format!("{}{} AS t", self.table.only(), self.table.quoted_name())
    }
}

impl Key {
    /// The key as PostgreSQL's own errors tell it, `(id)=(5)`.
    pub(crate) fn tell(&self, table: &Table) -> Result<String, Error> {
        let names: Vec<String> =
            table.primary_key()?.iter().map(|column| table.column_name(column.number)).collect();
        let values: Vec<String> = self.0.iter().map(|value| from_server(value)).collect();
        Ok(format!("({})=({})", names.join(", "), values.join(", ")))
    }

    /// Cells of a row that names this one, behind its place.
    fn cells(&self, place: usize) -> impl Iterator<Item = Cell<'_>> {
        [Cell::Int(place as i32)].into_iter().chain(self.0.iter().map(|value| Cell::Raw(value)))
    }
}
