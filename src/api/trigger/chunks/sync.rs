//! `embed_chunks`: the chunks of all documents that a statement has touched are made when it has stored them.
//!
//! The rows of the statement only tell which documents to look at. What their texts are is read again, because triggers
//! of the table's own may have changed them meanwhile; so whichever of several calls comes last, the chunk table is true.
//! Who else writes the same document waits for its row, and then sees these chunks.

use std::collections::{HashMap, HashSet, VecDeque};

use pgrx::prelude::*;

use crate::attachment::chunks::link::{Link, Sequence};
use crate::attachment::chunks::options::Options;
use crate::attachment::chunks::passages::{Passage, Passages};
use crate::attachment::{is_recorded, recorded_hash};
use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{Error, OrRaise, Place, TableFault, TriggerFault};
use crate::pg::exact::Exact;
use crate::pg::lookup::{current_user, next_value};
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::settings::Model;
use crate::pg::statement::{Cell, CellKind, Command, Outcome, Rows, Statement};
use crate::pg::table::{Table, relation_name};
use crate::pg::trigger::{Event, Nothing, TriggerCall};
use crate::pg::vector::Vector;
use vector_embed_protocol::Purpose;

pub(in crate::api) const FUNCTION: &str = "embed_chunks";

/// Documents that are looked at together, and bytes of their texts, a single longer one apart.
const BATCH_DOCUMENTS: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;
/// Chunks that are embedded together.
const BATCH_CHUNKS: usize = 4096;

/// Statements in the order in which they are to be run. There is nothing to drop.
type Statements = [Option<Statement>; 4];

#[pg_extern(sql = false)]
fn embed_chunks(call: TriggerCall<'_>) -> Nothing {
    let (statements, table) = compute(&call).or_raise();
    // Nothing is left to be dropped when the chunks are written.
    for statement in statements.into_iter().flatten() {
        let fault = match call.run(statement) {
            Outcome::Done => continue,
            Outcome::Left(rows) => TableFault::ChunksLeft { rows },
            Outcome::Ruled => TableFault::ChunkRules,
        };
        Err(Error::Table { table: relation_name(table), fault }).or_raise()
    }
    Nothing
}

/// Computes what has to be written to the chunk table, whose oid is returned, too.
fn compute(call: &TriggerCall<'_>) -> Result<(Statements, pgrx::pg_sys::Oid), Error> {
    let fault = |fault| Error::Trigger { function: FUNCTION, trigger: call.name(), fault };
    let documents = call.table();
    let arguments = call.arguments();
    let [column, model, schema, table, options] = arguments.as_slice() else {
        return Err(fault(TriggerFault::ChunkArguments));
    };
    let options: Options = serde_json::from_str(options).map_err(|_| fault(TriggerFault::ChunkArguments))?;
    let missing = || fault(TriggerFault::NoChunkTable { table: format!("{schema}.{table}") });
    let chunks = Table::open_to_write(Table::find(schema, table).ok_or_else(missing)?, documents.owner())?;
    let mut link = Link::new(&documents, &chunks, column, &options)?;
    if !is_recorded(call.comment().as_deref(), &arguments) {
        link.as_whom = current_user();
    }
    let mut statements = [None; 4];
    let (old_rows, new_rows) = match call.event() {
        Event::AfterInsertStatement => (None, call.new_rows()),
        Event::AfterUpdateStatement => (call.old_rows(), call.new_rows()),
        Event::AfterDeleteStatement => (call.old_rows(), None),
        Event::AfterTruncateStatement => {
            let rows = Rows::new([("nothing", CellKind::Int)]);
            statements[0] =
                Some(rows.into_statement(link.as_whom, &link.delete_all(), Command::Delete, None));
            return Ok((statements, chunks.oid()));
        }
        _ => return Err(fault(TriggerFault::Event { expected: "after a statement" })),
    };
    // Keys are written, and read again by statements.
    let _exact = Exact::new();
    let mut scratch = Scratch::new();
    let mut old_rows = match (call.event(), old_rows) {
        (Event::AfterInsertStatement, _) => None,
        (_, None) => return Err(fault(TriggerFault::TransitionTables { referencing: OLD })),
        (_, rows) => rows,
    };
    if call.event() == Event::AfterDeleteStatement {
        let mut gone = Rows::new(named(&link.document_columns()));
        while let Some(old) = old_rows.as_mut().and_then(|rows| rows.next()) {
            let key = scratch.within(|| key(&link, old))?;
            scratch.reset();
            put_document(&mut gone, 0, Look::Changed, &key, &key);
        }
        if gone.count() > 0 {
            let sql = link.delete_orphans()?;
            statements[0] = Some(gone.into_statement(link.as_whom, &sql, Command::Delete, None));
        }
        return Ok((statements, chunks.oid()));
    }
    let mut new_rows = new_rows.ok_or_else(|| fault(TriggerFault::TransitionTables { referencing: NEW }))?;
    if old_rows.as_ref().is_some_and(|old_rows| old_rows.len() != new_rows.len()) {
        return Err(Error::Internal("the transition tables of an UPDATE have different lengths"));
    }
    let mut sync = Sync::new(call, &link, Model::Named(model).name()?.into_owned())?;
    if let Some(old_rows) = old_rows.as_mut() {
        while let (Some(old), Some(new)) = (old_rows.next(), new_rows.next()) {
            let (old, new) = scratch.within(|| Ok::<_, Error>((key(&link, old)?, key(&link, new)?)))?;
            scratch.reset();
            if old != new {
                sync.left.insert(old);
            }
        }
        old_rows.rewind();
        new_rows.rewind();
    }
    while let Some(new) = new_rows.next() {
        let old = old_rows.as_mut().and_then(|rows| rows.next());
        let (document, bytes) = scratch.within(|| Document::new(&link, old, new))?;
        scratch.reset();
        sync.add(document, bytes)?;
    }
    Ok((sync.finish()?, chunks.oid()))
}

const OLD: &str = "OLD TABLE AS old_rows";
const NEW: &str = "NEW TABLE AS new_rows";

type Key = Vec<Option<String>>;

fn key(link: &Link<'_>, row: Row<'_>) -> Result<Key, Error> {
    link.key.iter().map(|column| row.written(column.number)).collect()
}

fn named(columns: &[(String, CellKind)]) -> impl Iterator<Item = (&str, CellKind)> {
    columns.iter().map(|(name, kind)| (name.as_str(), *kind))
}

fn cell(value: &Option<String>) -> Cell<'_> {
    value.as_deref().map_or(Cell::Null, Cell::Text)
}

/// What is wanted of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Its text, if it has no chunks.
    Unchanged,
    /// Its text and its chunks.
    Changed,
    /// Chunks that it has by another key, too.
    More,
}

fn put_document(rows: &mut Rows, place: usize, look: Look, key: &Key, chunk_key: &Key) {
    let (changed, more) = (look != Look::Unchanged, look == Look::More);
    let cells: Vec<Cell<'_>> = [Cell::Int(place as i32), Cell::Bool(changed), Cell::Bool(more)]
        .into_iter()
        .chain(key.iter().chain(chunk_key).map(cell))
        .collect();
    rows.put(&cells);
}

/// A document that the statement has touched.
struct Document {
    key: Key,
    old_key: Option<Key>,
    /// Whether its text may have changed, or what its chunks have copies of.
    changed: bool,
    /// Whether its chunks are to be written even if they are as they were.
    rewritten: bool,
}

impl Document {
    /// The document, and the bytes of its text if it has changed.
    fn new(link: &Link<'_>, old: Option<Row<'_>>, new: Row<'_>) -> Result<(Self, usize), Error> {
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
struct Sync<'a> {
    link: &'a Link<'a>,
    model: String,
    hash: Option<String>,
    documents: Vec<Document>,
    bytes: usize,
    /// Keys that documents had and have no more.
    left: HashSet<Key>,
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
}

impl<'a> Sync<'a> {
    fn new(call: &TriggerCall<'_>, link: &'a Link<'a>, model: String) -> Result<Self, Error> {
        Ok(Self {
            model,
            hash: recorded_hash(call)?,
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

    fn add(&mut self, document: Document, bytes: usize) -> Result<(), Error> {
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

    /// Embeds chunks that are new.
    fn embed(&mut self, documents: &[Document], fresh: &[(usize, i32, Passage)]) -> Result<(), Error> {
        let Self { link, new, model, hash, .. } = self;
        let New { rows, sequences } = match new {
            Some(new) => new,
            None => {
                let sequences = link.sequences()?;
                let vector = CellKind::Vector(link.embedding.vector_type());
                let rows = Rows::new(named(&link.new_columns(sequences.len(), vector)));
                new.insert(New { rows, sequences })
            }
        };
        let texts: Vec<&str> = fresh.iter().map(|(_, _, passage)| passage.content.as_str()).collect();
        let wanted = Wanted { model, purpose: Purpose::Document, expected_hash: hash.as_deref() };
        let mut scratch = Scratch::new();
        let mut checked = Ok(());
        let sent = vectors::embed(&texts, &wanted, &mut |position, numbers| {
            if checked.is_err() {
                return;
            }
            checked = link.check_dimensions(model, numbers.len() / size_of::<f32>());
            let (place, index, passage) = &fresh[position];
            let number = (rows.count() + 1) as i32;
            let ids: Vec<Option<String>> =
                sequences.iter().map(|sequence| Some(next_value(sequence.oid.into()).to_string())).collect();
            scratch.within(|| {
                let cells: Vec<Cell<'_>> = documents[*place]
                    .key
                    .iter()
                    .map(cell)
                    .chain([number, *index, passage.start, passage.characters, passage.tokens].map(Cell::Int))
                    .chain(ids.iter().map(cell))
                    .chain([Cell::Text(&passage.content), Cell::Vector(Vector::from_le_bytes(numbers))])
                    .collect();
                rows.put(&cells);
            });
            scratch.reset();
        });
        sent.map_err(|error| error.map_place(|position| self.place(&documents[fresh[position].0])))?;
        checked
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

    fn finish(mut self) -> Result<Statements, Error> {
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
        if let Some(New { rows, sequences }) = new {
            let (count, insert) = (rows.count(), link.insert(&sequences));
            statements[3] = Some(rows.into_statement(owner, &insert, Command::Insert, Some(count)));
        }
        Ok(statements)
    }
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::Internal("a number is none"))
}
