//! `embed_chunks`: the chunks of all documents that a statement has touched are made when it has stored them.
//!
//! The rows of the statement only tell which documents to look at. What their texts are is read again, because triggers
//! of the table's own may have changed them meanwhile; so whichever of several calls comes last, the chunk table is true.
//! Who else writes the same document waits for its row, and then sees these chunks.

use std::ffi::CString;

use pgrx::prelude::*;

use super::super::later;

use crate::attachment::chunks::link::Link;
use crate::attachment::chunks::options::Options;
use crate::attachment::{is_recorded, recorded_hash, recorded_queue};
use crate::error::{Error, OrRaise, TableFault, TriggerFault};
use crate::pg::exact::Exact;
use crate::pg::lookup::current_user;
use crate::pg::memory::Scratch;
use crate::pg::settings::Model;
use crate::pg::statement::{CellKind, Command, Outcome, Rows};
use crate::pg::table::{Table, relation_name};
use crate::pg::trigger::{Event, Nothing, TriggerCall};
use crate::queue::{Access, Additions, Queue};
use crate::refresh::chunks::FUNCTION;
use crate::refresh::chunks::sync::{Document, Key, Look, Statements, Sync, key, named, put_document};

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
    let queue = recorded_queue(call.comment().as_deref(), &arguments);
    let queue = queue.map(|name| Queue::open(&documents, &name, Access::Write)).transpose()?;
    let mut later = queue.as_ref().map(|queue| Later::new(queue, &link));
    let mut sync = Sync::new(&link, Model::Named(model).name()?.into_owned(), recorded_hash(call)?)?;
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
        let key = match &later {
            Some(_) => Some(scratch.within(|| later::key_of(&link.key, new))?),
            None => None,
        };
        scratch.reset();
        match (&mut later, key) {
            // Chunks move with their document, and with what they have copies of, in the same transaction.
            (Some(later), Some(key)) if !document.rewritten => later.add(&document, key)?,
            _ => sync.add(document, bytes)?,
        }
    }
    if let Some(later) = later {
        later.finish()?;
    }
    Ok((sync.finish()?, chunks.oid()))
}

/// Documents that are queued: those whose text has changed, and those that lack chunks.
struct Later<'a> {
    link: &'a Link<'a>,
    additions: Additions<'a>,
    unchanged: Vec<(Key, Vec<CString>)>,
}

impl<'a> Later<'a> {
    fn new(queue: &'a Queue<'a>, link: &'a Link<'a>) -> Self {
        Self { link, additions: Additions::new(queue), unchanged: Vec::new() }
    }

    fn add(&mut self, document: &Document, key: Vec<CString>) -> Result<(), Error> {
        if document.changed {
            self.additions.add(&key);
            return Ok(());
        }
        self.unchanged.push((document.key.clone(), key));
        if self.unchanged.len() < MOST_UNCHANGED { Ok(()) } else { self.look() }
    }

    /// Adds those of the documents that lack chunks.
    fn look(&mut self) -> Result<(), Error> {
        let unchanged = std::mem::take(&mut self.unchanged);
        if unchanged.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new(named(&self.link.document_columns()));
        for (place, (key, _)) in unchanged.iter().enumerate() {
            put_document(&mut rows, place, Look::Unchanged, key, key);
        }
        for row in rows.query(self.link.as_whom, &self.link.select_lacking()?)? {
            let place = row?.into_iter().next().flatten().and_then(|place| place.parse::<usize>().ok());
            let (_, key) = place
                .and_then(|place| unchanged.get(place))
                .ok_or(Error::Internal("a document is not as it was asked for"))?;
            self.additions.add(key);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.look()?;
        if later::append(&self.additions, self.link.documents.owner())? > 0 {
            later::wake_workers();
        }
        Ok(())
    }
}

/// Documents that are looked at together.
const MOST_UNCHANGED: usize = 4096;

const OLD: &str = "OLD TABLE AS old_rows";
const NEW: &str = "NEW TABLE AS new_rows";
