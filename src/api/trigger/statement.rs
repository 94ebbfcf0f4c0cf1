//! `embed_statement`: the vectors of all rows of a statement are made in batches when it has stored them.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::attachment::recorded_hash;
use super::target::Target;
use crate::api::vectors;
use crate::error::{Error, OrRaise, Place, TableFault, TriggerFault};
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::table::{Kind, Moment, Table};
use crate::pg::transition::{Waiting, WriteBack};
use crate::pg::trigger::{Event, Nothing, TriggerCall};
use crate::pg::vector::Vector;

const FUNCTION: &str = "embed_statement";

/// How often vectors are written back when a trigger of the table's own changes the text each time.
const MOST_WRITE_BACKS: usize = 3;

thread_local! {
    /// Tables that vectors are being written back to.
    static WRITING: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
}

/// Texts that are sent together. The engine is idle while their rows are noted and their vectors stored, which takes
/// a hundredth of the time that it computes.
const BATCH_TEXTS: usize = 4096;
/// The same in bytes, a single longer text apart.
const BATCH_BYTES: usize = 8 << 20;

#[pg_extern(sql = false)]
fn embed_statement(call: TriggerCall<'_>) -> Nothing {
    fill(&call).or_raise();
    Nothing
}

fn fill(call: &TriggerCall<'_>) -> Result<(), Error> {
    let fault = |fault| Error::Trigger { function: FUNCTION, trigger: call.name(), fault };
    let missing = |referencing| fault(TriggerFault::TransitionTables { referencing });
    let (mut old_rows, new_rows) = match call.event() {
        Event::AfterInsertStatement => {
            (None, call.new_rows().ok_or_else(|| missing("NEW TABLE AS new_rows"))?)
        }
        Event::AfterUpdateStatement => match (call.old_rows(), call.new_rows()) {
            (Some(old_rows), Some(new_rows)) => (Some(old_rows), new_rows),
            _ => return Err(missing("OLD TABLE AS old_rows NEW TABLE AS new_rows")),
        },
        _ => {
            return Err(fault(TriggerFault::Event { expected: "after INSERT or UPDATE for each statement" }));
        }
    };
    let table = call.table();
    check_kind(&table)?;
    let target = Target::of_trigger(call, FUNCTION, Moment::After)?;
    // An UPDATE fills both tables row by row, so that a row is at the same place in each, also if its key changed.
    if old_rows.as_ref().is_some_and(|old_rows| old_rows.len() != new_rows.len()) {
        return Err(Error::Internal("the transition tables of an UPDATE have different lengths"));
    }
    let write_backs = WRITING.with_borrow(|tables| tables.iter().filter(|oid| **oid == table.oid()).count());
    let mut new_rows = new_rows;
    let mut batch = Batch::new(call, &table, &target)?;
    let mut scratch = Scratch::new();
    while let Some(new) = new_rows.next() {
        let old = old_rows.as_mut().and_then(|rows| rows.next());
        let text = scratch.within(|| {
            let is_wanted = match old {
                None => !new.has_vector(target.embedding),
                // The vector is ours, of the text before a trigger of the table's own changed it.
                Some(old) if write_backs > 0 => target.text_differs(old, new),
                Some(old) => target.is_stale(old, new),
            };
            let text = is_wanted.then(|| target.text(new)).transpose()?;
            Ok(text.map(|text| text.map(|text| text.as_str().to_owned())))
        })?;
        scratch.reset();
        if let Some(text) = text {
            batch.add(new, text)?;
        }
    }
    let write_back = batch.finish()?;
    if write_back.is_empty() {
        return Ok(());
    }
    if write_backs == MOST_WRITE_BACKS {
        return Err(table.unfit(TableFault::TextChanges));
    }
    let _writing = Writing::begin(&table);
    write_back.run()
}

/// Notes that vectors are written back to a table, for the trigger that fires again.
struct Writing;

impl Writing {
    fn begin(table: &Table) -> Self {
        WRITING.with_borrow_mut(|tables| tables.push(table.oid()));
        Self
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.with_borrow_mut(Vec::pop);
    }
}

/// Fails unless rows can be written back to a table of this kind.
pub(super) fn check_kind(table: &Table) -> Result<(), Error> {
    match table.kind() {
        Kind::Ordinary => Ok(()),
        Kind::Partitioned => Err(table.unfit(TableFault::NoStatements { kind: "partitioned" })),
        Kind::Foreign => Err(table.unfit(TableFault::NoStatements { kind: "a foreign table" })),
        Kind::Other => Err(table.unfit(TableFault::Kind)),
    }
}

/// Rows whose texts are sent together.
struct Batch<'a> {
    table: &'a Table,
    target: &'a Target,
    hash: Option<String>,
    texts: Vec<String>,
    bytes: usize,
    rows: Vec<Waiting>,
    /// Holds the rows.
    memory: Scratch,
    write_back: WriteBack<'a>,
}

impl<'a> Batch<'a> {
    fn new(call: &TriggerCall<'_>, table: &'a Table, target: &'a Target) -> Result<Self, Error> {
        Ok(Self {
            table,
            target,
            hash: recorded_hash(call),
            texts: Vec::new(),
            bytes: 0,
            rows: Vec::new(),
            memory: Scratch::new(),
            write_back: WriteBack::new(table, target.embedding, &target.sources)?,
        })
    }

    fn add(&mut self, row: Row<'_>, text: Option<String>) -> Result<(), Error> {
        let Self { memory, write_back, .. } = self;
        match text {
            Some(text) => {
                self.rows.push(memory.within(|| write_back.note(row)));
                self.bytes += text.len();
                self.texts.push(text);
            }
            None if row.has_vector(self.target.embedding) => memory.within(|| {
                let row = write_back.note(row);
                write_back.put(row, None);
            }),
            None => {}
        }
        if self.texts.len() < BATCH_TEXTS && self.bytes < BATCH_BYTES { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), Error> {
        if !self.texts.is_empty() {
            let Self { table, target, hash, texts, rows, memory, write_back, .. } = self;
            let mut checked = Ok(());
            let sent = memory.within(|| {
                vectors::embed(texts, &target.wanted(hash.as_deref()), &mut |position, numbers| {
                    if checked.is_ok() {
                        checked = target.check_dimensions(table, numbers);
                        write_back.put(rows[position], Some(Vector::from_le_bytes(numbers)));
                    }
                })
            });
            sent.map_err(|error| error.map_place(|position| Place::Row(write_back.tell(rows[position]))))?;
            checked?;
        }
        self.texts.clear();
        self.bytes = 0;
        self.rows.clear();
        self.memory.reset();
        Ok(())
    }

    fn finish(mut self) -> Result<WriteBack<'a>, Error> {
        self.send()?;
        Ok(self.write_back)
    }
}
