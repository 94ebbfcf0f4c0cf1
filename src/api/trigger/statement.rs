//! `embed_statement`: the vectors of all rows of a statement are made in batches when it has stored them.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::changes::Changes;
use crate::attachment::Terms;
use crate::attachment::target::Target;
use crate::client::vectors;
use crate::error::{Error, OrRaise, Place, TableFault};
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::table::Table;
use crate::pg::transaction::Subtransaction;
use crate::pg::transition::{Waiting, WriteBack, Written};
use crate::pg::trigger::{Nothing, TriggerCall};
use crate::pg::vector::Vector;

const FUNCTION: &str = "embed_statement";

/// How often vectors are written back when a trigger of the table's own changes the text each time.
const MOST_ATTEMPTS: usize = 3;

/// A write-back that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WriteBackOf {
    table: pg_sys::Oid,
    column: i16,
    /// How many triggers are around it. Its own triggers have one more; those of statements that these run have more.
    depth: i32,
    attempt: usize,
    /// An error that ends it ends this, too.
    within: Subtransaction,
}

thread_local! {
    static UNDER_WAY: RefCell<Vec<WriteBackOf>> = const { RefCell::new(Vec::new()) };
}

/// Texts that are sent together. The engine is idle while their rows are noted and their vectors stored, which takes
/// a hundredth of the time that it computes.
const BATCH_TEXTS: usize = 4096;
/// The same in bytes, a single longer text apart.
const BATCH_BYTES: usize = 8 << 20;

#[pg_extern(sql = false)]
fn embed_statement(call: TriggerCall<'_>) -> Nothing {
    // Nothing is left to be dropped when the vectors are written: see `Written::write`.
    let Some((written, of)) = compute(&call).or_raise() else { return Nothing };
    UNDER_WAY.with_borrow_mut(|stack| stack.push(of));
    let outcome = call.write(written);
    UNDER_WAY.with_borrow_mut(Vec::pop);
    if let Err(fault) = outcome {
        Err(call.table().unfit(fault)).or_raise()
    }
    Nothing
}

/// Computes what the statement's rows lack.
fn compute(call: &TriggerCall<'_>) -> Result<Option<(Written, WriteBackOf)>, Error> {
    let mut changes = Changes::of(call, FUNCTION)?;
    let (table, target) = (call.table(), changes.target.clone());
    let attempt = attempt(&table, &target, call.depth());
    let mut batch = Batch::new(call, &table, &target)?;
    let mut scratch = Scratch::new();
    while let Some((old, new)) = changes.next_row() {
        let text = scratch.within(|| {
            let is_wanted = match old {
                None => !new.has_vector(target.embedding),
                // The changed vector is ours, of the text before a trigger of the table's own changed it.
                Some(old) if attempt > 0 => {
                    !new.has_vector(target.embedding) || target.text_differs(old, new)
                }
                Some(old) => target.is_stale(old, new),
            };
            let text =
                is_wanted.then(|| target.text(new)).transpose().map_err(|error| batch.at(new, error))?;
            Ok(text.map(|text| text.map(|text| text.as_str().to_owned())))
        })?;
        scratch.reset();
        if let Some(text) = text {
            batch.add(new, text)?;
        }
    }
    let Some(written) = batch.finish()? else { return Ok(None) };
    if attempt == MOST_ATTEMPTS {
        return Err(table.unfit(TableFault::TextChanges));
    }
    let column = target.embedding.number;
    let of = WriteBackOf {
        table: table.oid(),
        column,
        depth: call.depth(),
        attempt: attempt + 1,
        within: Subtransaction::current(),
    };
    Ok(Some((written, of)))
}

/// How many write-backs have led to this call, each by firing the trigger again. None for statements of others, also
/// where these are run by triggers of a write-back.
fn attempt(table: &Table, target: &Target, depth: i32) -> usize {
    UNDER_WAY.with_borrow_mut(|stack| {
        // What an error has left behind is not around this call.
        stack.retain(|of| of.depth < depth && of.within.is_active());
        let last = stack.last().filter(|of| {
            (of.table, of.column, of.depth) == (table.oid(), target.embedding.number, depth - 1)
        });
        last.map_or(0, |of| of.attempt)
    })
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
    /// Holds what is put to the others at once.
    scratch: Scratch,
    write_back: WriteBack<'a>,
}

impl<'a> Batch<'a> {
    fn new(call: &TriggerCall<'_>, table: &'a Table, target: &'a Target) -> Result<Self, Error> {
        let Terms { hash, provenance } = Terms::of(call)?;
        let kept = provenance.zip(hash.clone());
        Ok(Self {
            table,
            target,
            hash,
            texts: Vec::new(),
            bytes: 0,
            rows: Vec::new(),
            memory: Scratch::new(),
            scratch: Scratch::new(),
            write_back: WriteBack::new(table, target.embedding, &target.sources, kept)?,
        })
    }

    fn add(&mut self, row: Row<'_>, text: Option<String>) -> Result<(), Error> {
        let Self { memory, scratch, write_back, .. } = self;
        match text {
            Some(text) => {
                let row = memory.within(|| write_back.note(row));
                self.bytes += text.len() + row.bytes();
                self.rows.push(row);
                self.texts.push(text);
            }
            None if row.has_vector(self.target.embedding) => {
                scratch.within(|| {
                    let row = write_back.note(row);
                    write_back.put(row, None);
                });
                scratch.reset();
            }
            None => {}
        }
        if self.texts.len() < BATCH_TEXTS && self.bytes < BATCH_BYTES { Ok(()) } else { self.send() }
    }

    /// An error about the text of a row.
    fn at(&self, row: Row<'_>, error: Error) -> Error {
        error.at(Place::Row(self.write_back.tell(self.write_back.note(row))))
    }

    fn send(&mut self) -> Result<(), Error> {
        if !self.texts.is_empty() {
            let Self { table, target, hash, texts, rows, scratch, write_back, .. } = self;
            let mut checked = Ok(());
            let wanted = target.wanted(hash.as_deref());
            let sent = vectors::embed(texts, &wanted, &mut |position, numbers| {
                if checked.is_ok() {
                    checked = target.check_dimensions(table, numbers);
                    scratch.within(|| write_back.put(rows[position], Some(Vector::from_le_bytes(numbers))));
                    scratch.reset();
                }
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

    fn finish(mut self) -> Result<Option<Written>, Error> {
        self.send()?;
        Ok(self.write_back.finish())
    }
}
