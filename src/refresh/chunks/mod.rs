//! The chunks of documents that are stored, in the same three phases as vectors: a transaction reads documents, which are
//! cut and embedded when it has ended, and another writes the chunks of those whose text is what it was.

pub(crate) mod sync;

use std::collections::HashMap;
use std::ffi::CString;

use pgrx::pg_sys;
use vector_embed_protocol::Purpose;

use super::keyed::Keyed;
use super::read::{LookedFor, MOST_BYTES, ROW_BYTES};
use super::write::{fire_at_once, in_pieces};
use super::{Job, Key, Locking, Outcome, Which, text_hash};
use crate::attachment::chunks::link::Link;
use crate::attachment::chunks::options::Options;
use crate::attachment::chunks::passages::{Passage, Passages};
use crate::attachment::{Noted, Recorded, is_recorded};
use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{ColumnFault, Error, Failure, Place, TableFault};
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::statement::{self, Rows};
use crate::pg::table::Table;
use crate::pg::table_triggers::{TriggerEntry, trigger_comment, trigger_function};
use crate::pg::text::Text;
use sync::{Cut, Look, Sync, named, put_document};

/// The trigger function.
pub(crate) const FUNCTION: &str = "embed_chunks";

/// Texts that are sent together once one of them was at fault.
const FEW: usize = 32;
/// Chunks that are embedded together.
const MOST_CHUNKS: usize = 4096;

/// What keeps a chunk table, by names: it outlives transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkJob {
    pub(crate) documents: pg_sys::Oid,
    pub(crate) column: String,
    pub(crate) model: String,
    /// The chunk table's.
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) options: Options,
    /// The hash that the model must have.
    pub(crate) hash: Option<String>,
    /// Whether there are vectors of another model yet.
    pub(crate) is_being_renewed: bool,
}

/// Documents on their way.
#[derive(Debug)]
pub(crate) struct ChunkBatch {
    pub(crate) documents: Vec<PendingDocument>,
    /// Keys that no document has.
    pub(crate) gone: Vec<Key>,
    /// Whether there were more than were taken.
    pub(crate) is_cut: bool,
}

#[derive(Debug)]
pub(crate) struct PendingDocument {
    pub(crate) key: Key,
    /// The same as whoever asked for it has written it.
    asked: Key,
    fingerprint: CString,
    text: String,
    /// Contents of chunks that have vectors, and how often.
    known: HashMap<String, usize>,
    passages: Vec<Passage>,
    vectors: HashMap<String, Vec<u8>>,
    failure: Option<Failure>,
}

impl ChunkJob {
    /// What a trigger does; `None` if it is none that `attach_chunks` has made.
    pub(crate) fn of(documents: &Table, trigger: &TriggerEntry) -> Result<Option<Self>, Error> {
        let comment = trigger_comment(trigger.oid);
        let [column, model, schema, table, options] = trigger.arguments.as_slice() else { return Ok(None) };
        if trigger.function != trigger_function(FUNCTION)
            || !is_recorded(comment.as_deref(), &trigger.arguments)
        {
            return Ok(None);
        }
        let Ok(options) = serde_json::from_str(options) else { return Ok(None) };
        let next = Noted::from_comment(comment.as_deref()).next;
        let is_being_renewed = next.is_some();
        let hash = match Recorded::from_comment(comment.as_deref()) {
            Recorded::Nothing => None,
            Recorded::Hash(hash) => Some(next.unwrap_or(hash)),
            Recorded::Unreadable => return Err(Error::TriggerComment(trigger.name.clone())),
        };
        let [column, model, schema, table] = [column, model, schema, table].map(String::clone);
        let documents = documents.oid();
        Ok(Some(Self { documents, column, model, schema, table, options, hash, is_being_renewed }))
    }

    /// Every one of a table's, once.
    pub(crate) fn all(documents: &Table) -> Result<Vec<Self>, Error> {
        let mut jobs = Vec::new();
        for trigger in documents.triggers() {
            if let Some(job) = Self::of(documents, &trigger)?
                && !jobs.contains(&job)
            {
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    /// Fails unless triggers of the table still do what this is.
    pub(crate) fn check_attached(&self, documents: &Table) -> Result<(), Error> {
        if Self::all(documents)?.contains(self) {
            Ok(())
        } else {
            Err(documents.fault(&self.column, ColumnFault::NotAttached))
        }
    }

    /// Making vectors of the chunks that there are.
    pub(crate) fn of_vectors(&self) -> Result<Job, Error> {
        let chunks = self.chunk_table(Table::open_briefly)?;
        Ok(Job {
            relation: chunks.oid(),
            embedding: self.options.columns.embedding.clone(),
            columns: vec![self.options.columns.content.clone()],
            model: self.model.clone(),
            hash: self.hash.clone(),
            provenance: None,
            documents: Some(self.documents),
            is_being_renewed: self.is_being_renewed,
        })
    }

    fn chunk_table(&self, open: fn(pg_sys::Oid) -> Result<Table, Error>) -> Result<Table, Error> {
        open(Table::find(&self.schema, &self.table).ok_or(Error::NoRelation(0))?)
    }

    /// Reads documents. Needs a transaction. Of those in order only such are read as have text and no chunks.
    pub(crate) fn read(&self, which: Which<'_>) -> Result<ChunkBatch, Error> {
        let documents = Table::open_briefly(self.documents)?;
        let chunks = self.chunk_table(Table::open_briefly)?;
        let link = Link::new(&documents, &chunks, &self.column, &self.options)?;
        let _exact = which.exact();
        let keyed = Keyed::new(&documents)?;
        let (place, need, keys, limit) = which.place();
        let condition = match need {
            Some(_) => lacks(&link)?,
            None => "true".to_owned(),
        };
        let text = format!("t.{}", documents.quoted_column(link.text.number));
        let columns = format!("{}, {text}::pg_catalog.text", fingerprint(&text));
        let mut answer = keyed.select(place, &columns, &condition)?;
        let mut batch = ChunkBatch { documents: Vec::new(), gone: Vec::new(), is_cut: false };
        let mut scratch = Scratch::new();
        let (mut bytes, mut looked) = (0, LookedFor::new(keys));
        while let Some(row) = answer.next_row() {
            if bytes >= MOST_BYTES {
                batch.is_cut = true;
                break;
            }
            let (place, document) = scratch.within(|| pending(row, &keyed))?;
            scratch.reset();
            let own = document.key.clone();
            let Some(asked) = looked.find(place, own, &mut batch.gone)? else { continue };
            bytes += document.text.len() + ROW_BYTES;
            batch.documents.push(PendingDocument { asked, ..document });
        }
        if !batch.is_cut {
            batch.gone.extend_from_slice(looked.rest());
            batch.is_cut = batch.documents.len() >= limit;
        }
        if need.is_none() {
            batch.read_known(&link)?;
        }
        Ok(batch)
    }

    /// How many documents have text and no chunks.
    pub(crate) fn count(&self) -> Result<i64, Error> {
        let documents = Table::open_briefly(self.documents)?;
        let chunks = self.chunk_table(Table::open_briefly)?;
        let link = Link::new(&documents, &chunks, &self.column, &self.options)?;
        Keyed::new(&documents)?.count(&lacks(&link)?)
    }

    /// Cuts and embeds what was read. Needs no transaction's snapshot or lock. A document at fault fails alone.
    pub(crate) fn embed(&self, batch: &mut ChunkBatch) -> Result<(), Error> {
        let rule = self.options.rule()?;
        let mut left: Vec<usize> = (0..batch.documents.len()).collect();
        left.retain(|place| batch.documents[*place].failure.is_none());
        let mut most = usize::MAX;
        while !left.is_empty() {
            let some: Vec<usize> = left.iter().copied().take(most).collect();
            let texts: Vec<&str> = some.iter().map(|place| batch.documents[*place].text.as_str()).collect();
            match client::chunk(&self.model, rule, &texts) {
                Ok(cut) => {
                    for (place, chunks) in some.iter().zip(cut) {
                        let document = &mut batch.documents[*place];
                        let text = std::mem::take(&mut document.text);
                        document.passages = Passages::new(text, chunks).collect();
                    }
                    left.drain(..some.len());
                }
                Err(Error::At { place: Place::Element(position), error }) => {
                    batch.documents[some[position]].failure = Some(error.failure());
                    left.remove(position);
                    most = FEW;
                }
                Err(error) => return Err(error),
            }
        }
        self.embed_passages(batch)
    }

    fn embed_passages(&self, batch: &mut ChunkBatch) -> Result<(), Error> {
        let mut wanted: Vec<(usize, String)> = Vec::new();
        for (place, document) in batch.documents.iter().enumerate() {
            let mut known = document.known.clone();
            let mut chosen: Vec<&str> = Vec::new();
            for Passage { content, .. } in &document.passages {
                match known.get_mut(content) {
                    Some(count) if *count > 0 => *count -= 1,
                    _ if !chosen.contains(&content.as_str()) => chosen.push(content),
                    _ => {}
                }
            }
            wanted.extend(chosen.into_iter().map(|content| (place, content.to_owned())));
        }
        let terms =
            Wanted { model: &self.model, purpose: Purpose::Document, expected_hash: self.hash.as_deref() };
        let mut most = MOST_CHUNKS;
        while !wanted.is_empty() {
            let some = &wanted[..most.min(wanted.len())];
            let texts: Vec<&str> = some.iter().map(|(_, content)| content.as_str()).collect();
            let documents = &mut batch.documents;
            let sent = vectors::embed(&texts, &terms, &mut |position, numbers| {
                let (place, content) = &some[position];
                documents[*place].vectors.insert(content.clone(), numbers.to_vec());
            });
            match sent {
                Ok(()) => {
                    let count = some.len();
                    wanted.drain(..count);
                }
                Err(Error::At { place: Place::Element(position), error }) => {
                    let place = some[position].0;
                    documents[place].failure = Some(error.failure());
                    wanted.retain(|(of, content)| {
                        *of != place && !documents[*of].vectors.contains_key(content)
                    });
                    most = FEW;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes chunks. Needs a transaction; what is written is there when it has been committed.
    pub(crate) fn write(&self, batch: ChunkBatch, locking: Locking) -> Result<Vec<(Key, Outcome)>, Error> {
        let documents = Table::open_to_write_rows(self.documents)?;
        let chunks = self.chunk_table(Table::open_to_write_rows)?;
        let link = Link::new(&documents, &chunks, &self.column, &self.options)?;
        let keyed = Keyed::new(&documents)?;
        let _exact = Exact::new();
        fire_at_once()?;
        let ChunkBatch { documents: rows, gone, .. } = batch;
        let (mut ready, mut outcomes) = (Vec::new(), Vec::new());
        for row in rows {
            match row.failure {
                Some(failure) => outcomes.push((row.asked, Outcome::Failed(failure))),
                None => ready.push(row),
            }
        }
        let written = in_pieces(&ready, &mut |rows| self.write_together(&link, &keyed, rows, locking));
        outcomes.extend(ready.into_iter().map(|row| row.asked).zip(written));
        outcomes.extend(gone.into_iter().map(|key| (key, Outcome::Gone)));
        Ok(outcomes)
    }

    fn write_together(
        &self,
        link: &Link<'_>,
        keyed: &Keyed<'_>,
        rows: &[PendingDocument],
        locking: Locking,
    ) -> Result<Vec<Outcome>, Error> {
        let text = format!("t.{}", link.documents.quoted_column(link.text.number));
        let known = rows.iter().map(|row| (&row.key, row.fingerprint.as_c_str()));
        let mut outcomes = keyed.lock(known, &fingerprint(&text), locking)?;
        let places: Vec<usize> =
            (0..rows.len()).filter(|place| outcomes[*place] == Outcome::Written).collect();
        let cut = |place: &usize| {
            let PendingDocument { key, passages, vectors, .. } = &rows[*place];
            Ok(Cut { key: written_key(key)?, passages, vectors })
        };
        let cut = places.iter().map(cut).collect::<Result<Vec<_>, Error>>()?;
        let mut sync = Sync::new(link, self.model.clone(), self.hash.clone())?;
        for (place, is_done) in places.into_iter().zip(sync.settle(&cut)?) {
            if !is_done {
                outcomes[place] = Outcome::Changed;
            }
        }
        for statement in sync.finish()?.into_iter().flatten() {
            match statement.execute() {
                statement::Outcome::Done => {}
                statement::Outcome::Left(rows) => {
                    return Err(link.chunks.unfit(TableFault::ChunksLeft { rows }));
                }
                statement::Outcome::Ruled => return Err(link.chunks.unfit(TableFault::ChunkRules)),
            }
        }
        Ok(outcomes)
    }
}

impl ChunkBatch {
    /// Reads which contents have vectors already.
    fn read_known(&mut self, link: &Link<'_>) -> Result<(), Error> {
        let mut rows = Rows::new(named(&link.document_columns()));
        for (place, document) in self.documents.iter().enumerate() {
            let key = written_key(&document.key)?;
            put_document(&mut rows, place, Look::Changed, &key, &key);
        }
        for row in rows.query(link.as_whom, &link.select_contents()?)? {
            if let [Some(place), Some(content)] = row?.as_slice() {
                let place: usize = place.parse().map_err(|_| Error::Internal("a place is no number"))?;
                *self.documents[place].known.entry(content.clone()).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// That a document `t` lacks chunks.
fn lacks(link: &Link<'_>) -> Result<String, Error> {
    Ok(format!("{} AND NOT {}", link.has_text("t"), link.has_chunks("t")?))
}

/// What tells a text from others.
fn fingerprint(text: &str) -> String {
    format!("pg_catalog.concat({})", text_hash(text))
}

fn pending(row: Row<'_>, keyed: &Keyed<'_>) -> Result<(usize, PendingDocument), Error> {
    let (place, key) = keyed.place_and_key(row)?;
    let keys = keyed.key.len() as i16;
    let fingerprint = row.raw(keys + 2).ok_or(Error::Internal("a document is not as it was asked for"))?;
    let (text, failure) = match row.written(keys + 3) {
        Ok(text) => (text.unwrap_or_default(), None),
        Err(error) => (String::new(), Some(error.failure())),
    };
    let document = PendingDocument {
        asked: key.clone(),
        key,
        fingerprint,
        text,
        known: HashMap::new(),
        passages: Vec::new(),
        vectors: HashMap::new(),
        failure,
    };
    Ok((place, document))
}

/// A key as statements about chunks have it.
fn written_key(key: &Key) -> Result<sync::Key, Error> {
    let text =
        |value: &CString| Text::from_server(value.to_bytes().into()).map(|text| Some(text.into_string()));
    key.0.iter().map(text).collect()
}
