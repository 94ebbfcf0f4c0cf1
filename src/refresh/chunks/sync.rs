//! What has to be written so that chunk tables are true to their documents: chunks with the same content keep their
//! vectors, ids and all else.

use std::collections::{HashMap, HashSet, VecDeque};

use vector_embed_protocol::Purpose;

use crate::attachment::chunks::link::{Link, Sequence};
use crate::attachment::chunks::passages::{Passage, Passages};
use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{Error, Place};
use crate::pg::lookup::next_value;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::statement::{Cell, CellKind, Command, Rows, Statement};
use crate::pg::vector::Vector;

/// Documents that are looked at together, and bytes of their texts, a single longer one apart.
const BATCH_DOCUMENTS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;
/// Chunks that are embedded together.
const BATCH_CHUNKS: usize = 4096;

/// Statements in the order in which they are to be run. There is nothing to drop.
pub(crate) type Statements = [Option<Statement>; 4];

/// The values of a document's primary key.
pub(crate) type Key = Vec<Option<String>>;

pub(crate) fn key(link: &Link<'_>, row: Row<'_>) -> Result<Key, Error> {
    link.key.iter().map(|column| row.written(column.number)).collect()
}

pub(crate) fn named(columns: &[(String, CellKind)]) -> impl Iterator<Item = (&str, CellKind)> {
    columns.iter().map(|(name, kind)| (name.as_str(), *kind))
}

fn cell(value: &Option<String>) -> Cell<'_> {
    value.as_deref().map_or(Cell::Null, Cell::Text)
}

/// What is wanted of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Its text, if it has no chunks.
    Unchanged,
    /// Its text and its chunks.
    Changed,
    /// Chunks that it has by another key, too.
    More,
}

pub(crate) fn put_document(rows: &mut Rows, place: usize, look: Look, key: &Key, chunk_key: &Key) {
    let (changed, more) = (look != Look::Unchanged, look == Look::More);
    let cells: Vec<Cell<'_>> = [Cell::Int(place as i32), Cell::Bool(changed), Cell::Bool(more)]
        .into_iter()
        .chain(key.iter().chain(chunk_key).map(cell))
        .collect();
    rows.put(&cells);
}

/// A document that the statement has touched.
pub(crate) struct Document {
    pub(crate) key: Key,
    old_key: Option<Key>,
    /// Whether its text may have changed, or what its chunks have copies of.
    pub(crate) changed: bool,
    /// Whether its chunks are to be written even if they are as they were.
    pub(crate) rewritten: bool,
}

impl Document {
    /// The document, and the bytes of its text if it has changed.
    pub(crate) fn new(link: &Link<'_>, old: Option<Row<'_>>, new: Row<'_>) -> Result<(Self, usize), Error> {
        let key = key(link, new)?;
        let Some(old) = old else {
            let document = Self { key, old_key: None, changed: true, rewritten: false };
            return Ok((document, new.bytes(link.text)));
        };
        let old_key = Some(self::key(link, old)?).filter(|old_key| *old_key != key);
        let mut is_copied_anew = false;
        for column in &link.copied {
            is_copied_anew |=
                column.is_virtual() || old.written(column.number)? != new.written(column.number)?;
        }
        let rewritten = old_key.is_some() || is_copied_anew;
        let changed = rewritten || !new.is_stored_alike(old, link.text);
        let bytes = if changed { new.bytes(link.text) } else { 0 };
        Ok((Self { key, old_key, changed, rewritten }, bytes))
    }
}

/// A chunk that is in the table.
struct Existing {
    row: String,
    /// Its index, and the numbers of the columns that there are.
    numbers: [Option<i64>; 4],
}

/// What is to be written.
pub(crate) struct Sync<'a> {
    link: &'a Link<'a>,
    model: String,
    hash: Option<String>,
    documents: Vec<Document>,
    bytes: usize,
    /// Keys that documents had and have no more.
    pub(crate) left: HashSet<Key>,
    /// A place behind all chunks of the documents so far.
    behind: i64,
    gone: Rows,
    moved: Rows,
    new: Option<New>,
}

/// New chunks.
struct New {
    rows: Rows,
    /// What numbers them.
    sequences: Vec<Sequence>,
    scratch: Scratch,
}

impl New {
    fn put(&mut self, key: &Key, index: i32, passage: &Passage, numbers: &[u8]) {
        let Self { rows, sequences, scratch } = self;
        let number = (rows.count() + 1) as i32;
        let ids: Vec<Option<String>> =
            sequences.iter().map(|sequence| Some(next_value(sequence.oid.into()).to_string())).collect();
        scratch.within(|| {
            let cells: Vec<Cell<'_>> = key
                .iter()
                .map(cell)
                .chain([number, index, passage.start, passage.characters, passage.tokens].map(Cell::Int))
                .chain(ids.iter().map(cell))
                .chain([Cell::Text(&passage.content), Cell::Vector(Vector::from_le_bytes(numbers))])
                .collect();
            rows.put(&cells);
        });
        scratch.reset();
    }
}

/// A document whose chunks are known.
pub(super) struct Cut<'a> {
    pub(super) key: Key,
    pub(super) passages: &'a [Passage],
    /// The vectors of contents that it had no chunks of.
    pub(super) vectors: &'a HashMap<String, Vec<u8>>,
}

impl<'a> Sync<'a> {
    pub(crate) fn new(link: &'a Link<'a>, model: String, hash: Option<String>) -> Result<Self, Error> {
        Ok(Self {
            model,
            hash,
            documents: Vec::new(),
            bytes: 0,
            left: HashSet::new(),
            behind: 0,
            gone: Rows::new([("row", CellKind::Text)]),
            moved: Rows::new(named(&link.moved_columns())),
            new: None,
            link,
        })
    }

    pub(crate) fn add(&mut self, document: Document, bytes: usize) -> Result<(), Error> {
        self.documents.push(document);
        self.bytes += bytes;
        if self.documents.len() < BATCH_DOCUMENTS && self.bytes < BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    /// Finds out what becomes of the chunks of the documents so far.
    fn flush(&mut self) -> Result<(), Error> {
        let documents = std::mem::take(&mut self.documents);
        self.bytes = 0;
        if documents.is_empty() {
            return Ok(());
        }
        let link = self.link;
        let mut rows = Rows::new(named(&link.document_columns()));
        // Where a foreign key has moved the chunks they have the new key already.
        let has_moved = documents.iter().any(|document| document.old_key.is_some()) && link.follows_key()?;
        for (place, document) in documents.iter().enumerate() {
            let Document { key, old_key, changed, .. } = document;
            let old_key = old_key.as_ref().filter(|_| !has_moved);
            let look = if *changed { Look::Changed } else { Look::Unchanged };
            put_document(&mut rows, place, look, key, old_key.unwrap_or(key));
            // Chunks that another document has left there by this statement move on; others are of one that is gone, or
            // made by a statement of the table's own triggers.
            if old_key.is_some() && !self.left.contains(key) {
                put_document(&mut rows, place, Look::More, key, key);
            }
        }
        let owner = link.as_whom;
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for row in rows.query(owner, &link.select_texts()?)? {
            if let [Some(place), Some(text)] = row?.as_slice() {
                places.push(number(place)? as usize);
                texts.push(text.clone());
            }
        }
        let any_changed = documents.iter().any(|document| document.changed);
        let mut existing = if any_changed { self.existing(&rows)? } else { HashMap::new() };
        let cut = client::chunk(&self.model, link.options.rule()?, &texts);
        let cut =
            cut.map_err(|error| error.map_place(|position| self.place(&documents[places[position]])))?;
        let mut fresh = Vec::new();
        for ((place, text), chunks) in places.into_iter().zip(texts).zip(cut) {
            let mut of_document = existing.remove(&place).unwrap_or_default();
            self.behind = self.behind.max(chunks.len() as i64);
            for (passage, index) in Passages::new(text, chunks).zip(0..) {
                let known = of_document.get_mut(&passage.content).and_then(VecDeque::pop_front);
                match known {
                    Some(known) => self.keep(&documents[place], &known, index, &passage),
                    None => fresh.push((place, index, passage)),
                }
            }
            self.drop_chunks(of_document);
        }
        // What is left belongs to documents without text.
        existing.into_values().for_each(|of_document| self.drop_chunks(of_document));
        fresh.chunks(BATCH_CHUNKS).try_for_each(|fresh| self.embed(&documents, fresh))
    }

    /// The chunks that there are of documents that have changed, by document and content. Those without a vector are
    /// made anew.
    fn existing(
        &mut self,
        rows: &Rows,
    ) -> Result<HashMap<usize, HashMap<String, VecDeque<Existing>>>, Error> {
        let mut existing: HashMap<usize, HashMap<String, VecDeque<Existing>>> = HashMap::new();
        for row in rows.query(self.link.as_whom, &self.link.select_chunks()?)? {
            let row = row?;
            let [Some(place), Some(id), content, Some(lacks_vector), numbers @ ..] = row.as_slice() else {
                return Err(Error::Internal("a chunk is not as it was asked for"));
            };
            let mut read = [None; 4];
            for (to, from) in read.iter_mut().zip(numbers) {
                *to = from.as_deref().map(number).transpose()?;
            }
            self.behind = self.behind.max(read[0].map_or(0, |index| index.saturating_add(1)));
            match content {
                Some(content) if lacks_vector == "f" => existing
                    .entry(number(place)? as usize)
                    .or_default()
                    .entry(content.clone())
                    .or_default()
                    .push_back(Existing { row: id.clone(), numbers: read }),
                _ => self.gone.put(&[Cell::Text(id)]),
            }
        }
        Ok(existing)
    }

    fn keep(&mut self, document: &Document, known: &Existing, index: i32, passage: &Passage) {
        let numbers = [index, passage.start, passage.characters, passage.tokens];
        let names = self.link.options.columns.numbers();
        let has_place = known.numbers[0] == Some(index.into())
            && (1..).zip(names).all(|(place, (_, column))| {
                column.is_none() || known.numbers[place] == Some(numbers[place].into())
            });
        if has_place && !document.rewritten {
            return;
        }
        let cells: Vec<Cell<'_>> = [Cell::Text(&known.row)]
            .into_iter()
            .chain(document.key.iter().map(cell))
            .chain(numbers.map(Cell::Int))
            .collect();
        self.moved.put(&cells);
    }

    fn drop_chunks(&mut self, of_document: HashMap<String, VecDeque<Existing>>) {
        for chunk in of_document.into_values().flatten() {
            self.gone.put(&[Cell::Text(&chunk.row)]);
        }
    }

    /// Rows for new chunks.
    fn new_rows(&mut self) -> Result<&mut New, Error> {
        let Self { link, new, .. } = self;
        match new {
            Some(new) => Ok(new),
            None => {
                let sequences = link.sequences()?;
                let vector = CellKind::Vector(link.embedding.vector_type());
                let rows = Rows::new(named(&link.new_columns(sequences.len(), vector)));
                Ok(new.insert(New { rows, sequences, scratch: Scratch::new() }))
            }
        }
    }

    /// Embeds chunks that are new.
    fn embed(&mut self, documents: &[Document], fresh: &[(usize, i32, Passage)]) -> Result<(), Error> {
        let (link, model, hash) = (self.link, self.model.clone(), self.hash.clone());
        let new = self.new_rows()?;
        let texts: Vec<&str> = fresh.iter().map(|(_, _, passage)| passage.content.as_str()).collect();
        let wanted = Wanted { model: &model, purpose: Purpose::Document, expected_hash: hash.as_deref() };
        let mut checked = Ok(());
        let sent = vectors::embed(&texts, &wanted, &mut |position, numbers| {
            if checked.is_err() {
                return;
            }
            checked = link.check_dimensions(&model, numbers.len() / size_of::<f32>());
            let (place, index, passage) = &fresh[position];
            new.put(&documents[*place].key, *index, passage, numbers);
        });
        sent.map_err(|error| error.map_place(|position| self.place(&documents[fresh[position].0])))?;
        checked
    }

    /// The same for documents whose texts have been cut, and embedded where need be, before. Returns for each whether it
    /// is done: chunks that it had then may be gone, so that their vectors lack.
    pub(super) fn settle(&mut self, documents: &[Cut<'_>]) -> Result<Vec<bool>, Error> {
        let mut rows = Rows::new(named(&self.link.document_columns()));
        for (place, document) in documents.iter().enumerate() {
            put_document(&mut rows, place, Look::Changed, &document.key, &document.key);
        }
        let mut existing = self.existing(&rows)?;
        let mut done = Vec::with_capacity(documents.len());
        for (place, cut) in documents.iter().enumerate() {
            let mut of_document = existing.remove(&place).unwrap_or_default();
            let mut wanted: HashMap<&str, usize> = HashMap::new();
            for passage in cut.passages {
                *wanted.entry(&passage.content).or_default() += 1;
            }
            let is_known = |(content, count): (&&str, &usize)| {
                cut.vectors.contains_key(*content)
                    || of_document.get(*content).map_or(0, VecDeque::len) >= *count
            };
            if !wanted.iter().all(is_known) {
                done.push(false);
                continue;
            }
            done.push(true);
            self.behind = self.behind.max(cut.passages.len() as i64);
            let document = Document { key: cut.key.clone(), old_key: None, changed: true, rewritten: true };
            for (passage, index) in cut.passages.iter().zip(0..) {
                match of_document.get_mut(&passage.content).and_then(VecDeque::pop_front) {
                    Some(known) => self.keep(&document, &known, index, passage),
                    None => self.new_rows()?.put(&cut.key, index, passage, &cut.vectors[&passage.content]),
                }
            }
            self.drop_chunks(of_document);
        }
        Ok(done)
    }

    /// A document as errors tell of it.
    fn place(&self, document: &Document) -> Place {
        if !self.link.documents.may_be_read() {
            return Place::Row(None);
        }
        let names: Vec<String> =
            self.link.key.iter().map(|column| self.link.documents.column_name(column.number)).collect();
        let values: Vec<&str> = document.key.iter().map(|value| value.as_deref().unwrap_or("")).collect();
        Place::Row(Some(format!("({})=({})", names.join(", "), values.join(", "))))
    }

    pub(crate) fn finish(mut self) -> Result<Statements, Error> {
        self.flush()?;
        let Self { link, behind, gone, moved, new, .. } = self;
        let owner = link.as_whom;
        let mut statements = [None; 4];
        if gone.count() > 0 {
            let count = gone.count();
            statements[0] = Some(gone.into_statement(owner, &link.delete(), Command::Delete, Some(count)));
        }
        if moved.count() > 0 {
            let count = moved.count();
            let last = if link.places_are_unique()? {
                let aside = link.update(behind);
                statements[1] = Some(moved.share(owner, &aside, Command::Update, Some(count)));
                link.bring_back(behind)?
            } else {
                link.update(0)
            };
            statements[2] = Some(moved.into_statement(owner, &last, Command::Update, Some(count)));
        }
        if let Some(New { rows, sequences, .. }) = new {
            let (count, insert) = (rows.count(), link.insert(&sequences));
            statements[3] = Some(rows.into_statement(owner, &insert, Command::Insert, Some(count)));
        }
        Ok(statements)
    }
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::Internal("a number is none"))
}
