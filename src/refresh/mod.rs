//! Making the vectors of rows that are stored, outside of the transaction that stored them.
//!
//! Three phases, so that nobody waits for the engine: a transaction reads rows ([`Job::read`]); when it has ended, their
//! texts are embedded without any lock or snapshot ([`Job::embed`]); another transaction writes the vectors of those rows
//! that are still as they were read ([`Job::write`]). Whoever calls begins and ends the transactions, and says as whom
//! they run. A row at fault fails alone.

pub(crate) mod chunks;
mod embed;
mod keyed;
mod read;
mod write;

use std::ffi::CString;

use pgrx::pg_sys;

use crate::attachment::target::Target;
use crate::attachment::{Filler, Recorded, fillers};
use crate::error::{ColumnFault, Error, Failure};
use crate::pg::table::{Moment, Table};
use crate::pg::types::Type;

use chunks::ChunkJob;
use keyed::Keyed;
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
    /// Whose chunks the rows are, if they are: triggers of that table keep them.
    pub(crate) documents: Option<pg_sys::Oid>,
    /// Whether there are vectors of another model yet.
    pub(crate) is_being_renewed: bool,
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
            Recorded::Hash(hash) => Some(filler.noted.next.as_ref().unwrap_or(hash).clone()),
            Recorded::Unreadable => return Err(Error::TriggerComment(filler.trigger.name.clone())),
        };
        Ok(Self {
            relation: table.oid(),
            embedding: filler.embedding().to_owned(),
            columns: filler.columns().to_vec(),
            model: filler.model().to_owned(),
            hash,
            provenance: filler.noted.provenance.clone(),
            documents: None,
            is_being_renewed: filler.noted.next.is_some(),
        })
    }

    /// Fails unless a trigger of the table still does what this is.
    pub(crate) fn check_attached(&self, table: &Table) -> Result<(), Error> {
        if let Some(documents) = self.documents {
            let (schema, name) = (table.schema(), table.name());
            let jobs = ChunkJob::all(&Table::open_briefly(documents)?)?;
            let is_this = |job: &ChunkJob| (&job.schema, &job.table) == (&schema, &name);
            return match jobs.iter().any(is_this) {
                true => Ok(()),
                false => Err(table.fault(&self.embedding, ColumnFault::NotAttached)),
            };
        }
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

    /// Fails unless a table's rows can be gone through.
    pub(crate) fn check_key(table: &Table) -> Result<(), Error> {
        Keyed::new(table).map(|_| ())
    }

    /// The columns in the table as it is now.
    fn target(&self, table: &Table) -> Result<Target, Error> {
        Target::new(table, &self.embedding, &self.model, &self.columns, Moment::After)
    }
}

/// SQL about the rows `t` of a table and their vectors.
struct Statements<'t> {
    keyed: Keyed<'t>,
    job: &'t Job,
    target: Target,
}

impl<'t> Statements<'t> {
    fn new(table: &'t Table, job: &'t Job) -> Result<Self, Error> {
        Ok(Self { target: job.target(table)?, keyed: Keyed::new(table)?, job })
    }

    fn table(&self) -> &'t Table {
        self.keyed.table
    }

    fn sources(&self) -> Vec<String> {
        let number = |number: i16| format!("t.{}", self.table().quoted_column(number));
        self.target.sources.iter().map(|source| number(source.number)).collect()
    }

    fn embedding(&self) -> String {
        format!("t.{}", self.table().quoted_column(self.target.embedding.number))
    }

    /// What tells texts and vector of `t` from others.
    fn fingerprint(&self) -> String {
        let vector = hash(&Type(self.target.embedding.base_type).binary(&self.embedding()));
        let parts: Vec<String> =
            self.sources().iter().map(|source| text_hash(source)).chain([vector]).collect();
        format!("pg_catalog.concat({})", parts.join(", ',', "))
    }
}

/// The hash of a text: nothing long has to be kept to know it again. No conversion, but the bytes as they are.
fn text_hash(value: &str) -> String {
    hash(&format!("pg_catalog.convert_to({value}::pg_catalog.text, 'SQL_ASCII')"))
}

fn hash(bytes: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex')")
}
