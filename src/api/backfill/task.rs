//! What a backfill goes through a table for: rows without vectors, or documents without chunks.

use pgrx::pg_sys;

use crate::error::Error;
use crate::pg::table::{Table, quote_identifier};
use crate::refresh::chunks::{ChunkBatch, ChunkJob};
use crate::refresh::{Batch, Job, Key, Locking, Need, Outcome, Which};

/// What was read.
pub(in crate::api) struct Taken {
    /// Rows that were found, and keys that no row has.
    pub(super) rows: usize,
    pub(super) gone: usize,
    pub(super) last: Option<Key>,
    /// Whether there were more.
    pub(super) is_cut: bool,
}

pub(in crate::api) trait Task {
    type Batch;

    fn relation(&self) -> pg_sys::Oid;
    fn model(&self) -> &str;
    /// The vector column, as `vector_embed.attachment_status` has it.
    fn column(&self) -> String;
    /// All else that it depends on.
    fn details(&self, table: &Table) -> Result<serde_json::Value, Error>;
    /// Whether it can be told of a row that its vector has been made anew.
    fn tells_renewed(&self) -> bool;
    /// Fails if it has been detached.
    fn check(&self, table: &Table) -> Result<(), Error>;
    fn count(&self, need: Need) -> Result<i64, Error>;
    fn read(&self, which: Which<'_>) -> Result<Self::Batch, Error>;
    fn taken(batch: &Self::Batch) -> Taken;
    fn embed(&self, batch: &mut Self::Batch) -> Result<(), Error>;
    fn write(&self, batch: Self::Batch, locking: Locking) -> Result<Vec<(Key, Outcome)>, Error>;
}

impl Task for Job {
    type Batch = Batch;

    fn relation(&self) -> pg_sys::Oid {
        self.relation
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn column(&self) -> String {
        self.embedding.clone()
    }

    fn details(&self, table: &Table) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!([self.columns, self.hash, self.provenance, table.told_key()?]))
    }

    fn tells_renewed(&self) -> bool {
        self.provenance.is_some() && self.hash.is_some()
    }

    fn check(&self, table: &Table) -> Result<(), Error> {
        self.check_attached(table)
    }

    fn count(&self, need: Need) -> Result<i64, Error> {
        self.count(need)
    }

    fn read(&self, which: Which<'_>) -> Result<Batch, Error> {
        self.read(which)
    }

    fn taken(batch: &Batch) -> Taken {
        let last = batch.rows.last().map(|row| row.key.clone());
        Taken { rows: batch.rows.len(), gone: batch.gone.len(), last, is_cut: batch.is_cut }
    }

    fn embed(&self, batch: &mut Batch) -> Result<(), Error> {
        self.embed(batch)
    }

    fn write(&self, batch: Batch, locking: Locking) -> Result<Vec<(Key, Outcome)>, Error> {
        self.write(batch, locking)
    }
}

impl Task for ChunkJob {
    type Batch = ChunkBatch;

    fn relation(&self) -> pg_sys::Oid {
        self.documents
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn column(&self) -> String {
        let names = [&self.schema, &self.table, &self.options.columns.embedding];
        names.map(|name| quote_identifier(name)).join(".")
    }

    fn details(&self, table: &Table) -> Result<serde_json::Value, Error> {
        Ok(serde_json::json!([self.column, self.hash, self.options, table.told_key()?]))
    }

    fn tells_renewed(&self) -> bool {
        false
    }

    fn check(&self, table: &Table) -> Result<(), Error> {
        self.check_attached(table)
    }

    fn count(&self, _need: Need) -> Result<i64, Error> {
        self.count()
    }

    fn read(&self, which: Which<'_>) -> Result<ChunkBatch, Error> {
        self.read(which)
    }

    fn taken(batch: &ChunkBatch) -> Taken {
        let last = batch.documents.last().map(|document| document.key.clone());
        Taken { rows: batch.documents.len(), gone: batch.gone.len(), last, is_cut: batch.is_cut }
    }

    fn embed(&self, batch: &mut ChunkBatch) -> Result<(), Error> {
        self.embed(batch)
    }

    fn write(&self, batch: ChunkBatch, locking: Locking) -> Result<Vec<(Key, Outcome)>, Error> {
        self.write(batch, locking)
    }
}
