//! Rows that are read together, and the vectors of their texts.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;
use vector_embed_protocol::{Effort, Purpose};

use crate::client::{self, EmbedOptions, Flight};
use crate::error::{Error, Place};
use crate::pg::settings::{Model, overlong};
use crate::pg::text::Text;
use crate::pg::vector::Vector;
use crate::pg::warning;

/// Texts that make a batch: as many as the client sends in one request.
pub(super) const BATCH_TEXTS: usize = 1024;
/// Bytes of text that make one: what a socket takes at once, since nobody sends the rest while rows are given on.
const BATCH_TEXT_BYTES: usize = 128 << 10;
/// Rows that are read for one at most, also where few of them need a vector.
const BATCH_ROWS: usize = 8 * BATCH_TEXTS;
/// Bytes of rows that are read for one at most, a single larger row apart.
const BATCH_ROW_BYTES: usize = 8 << 20;
/// Batches of such sizes that a process may hold at once. With more, as where the partitions of a table are merged, each
/// is smaller.
const FULL_BATCHES: usize = 8;
/// Texts that make the smallest.
const FEWEST_TEXTS: usize = 32;

thread_local! {
    /// Batches that this process holds.
    static BATCHES: Cell<usize> = const { Cell::new(0) };
}

/// Where the vector of a call for a row is.
#[derive(Debug, Clone, Copy)]
struct Found {
    group: usize,
    text: usize,
}

/// Rows that are read together. Their memory is the executor's, who lets it go with the query.
pub(super) struct Batch {
    memory: pg_sys::MemoryContext,
    rows: Vec<pg_sys::MinimalTuple>,
    /// One for each call of each row; `None` where an argument is NULL.
    found: Vec<Option<Found>>,
    groups: Vec<Group>,
    row_bytes: usize,
    text_bytes: usize,
    texts: usize,
    /// The next row to be given on.
    next: usize,
    /// The number of the first row in its scan, from 1.
    first_row: u64,
    default_model: Option<Rc<str>>,
}

/// Texts for one model and purpose, no two alike.
struct Group {
    model: Rc<str>,
    purpose: Purpose,
    texts: Vec<Rc<str>>,
    numbers: HashMap<Rc<str>, usize>,
    /// The row that a text was met in first.
    rows: Vec<u64>,
    flight: Option<Flight<Rc<str>>>,
    vectors: Vec<Option<Vector>>,
}

/// What a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    pub(super) rows: u64,
    pub(super) texts: u64,
    pub(super) cached: u64,
    pub(super) micros: u64,
}

impl Batch {
    /// An empty batch, whose rows are kept in `memory`.
    pub(super) fn new(memory: pg_sys::MemoryContext, first_row: u64) -> Self {
        BATCHES.set(BATCHES.get() + 1);
        Self {
            memory,
            rows: Vec::new(),
            found: Vec::new(),
            groups: Vec::new(),
            row_bytes: 0,
            text_bytes: 0,
            texts: 0,
            next: 0,
            first_row,
            default_model: None,
        }
    }

    pub(super) fn memory(&self) -> pg_sys::MemoryContext {
        self.memory
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether no more should be read.
    pub(super) fn is_full(&self) -> bool {
        let share = (BATCHES.get() / FULL_BATCHES).clamp(1, BATCH_TEXTS / FEWEST_TEXTS);
        self.texts >= BATCH_TEXTS / share
            || self.text_bytes >= BATCH_TEXT_BYTES / share
            || self.rows.len() >= BATCH_ROWS / share
            || self.row_bytes >= BATCH_ROW_BYTES / share
    }

    /// Adds a row whose calls follow.
    ///
    /// # Safety
    ///
    /// `row` must be in the batch's memory.
    pub(super) unsafe fn add_row(&mut self, row: pg_sys::MinimalTuple) {
        // SAFETY: the caller's promise.
        self.row_bytes += unsafe { (*row).t_len } as usize;
        self.rows.push(row);
    }

    /// The number of the row that was added last, among those of the scan.
    pub(super) fn last_row(&self) -> u64 {
        self.first_row + self.rows.len() as u64 - 1
    }

    /// Adds a call for the last row. `None` for a NULL among the arguments.
    pub(super) fn add_call(&mut self, call: Option<(&Text<'_>, Rc<str>, Purpose)>) {
        let row = self.last_row();
        let found = call.map(|(text, model, purpose)| {
            let known = |group: &Group| group.purpose == purpose && group.model == model;
            let number = self.groups.iter().position(known).unwrap_or_else(|| {
                self.groups.push(Group::new(model, purpose));
                self.groups.len() - 1
            });
            let group = &mut self.groups[number];
            let text = group.numbers.get(text.as_str()).copied().unwrap_or_else(|| {
                self.texts += 1;
                self.text_bytes += text.as_str().len();
                group.add(text.as_str(), row)
            });
            Found { group: number, text }
        });
        self.found.push(found);
    }

    /// The name of the model that is used where none is named.
    pub(super) fn default_model(&mut self) -> Result<Rc<str>, Error> {
        if let Some(model) = &self.default_model {
            return Ok(Rc::clone(model));
        }
        let model: Rc<str> = Model::Default.name()?.as_ref().into();
        Ok(Rc::clone(self.default_model.insert(model)))
    }

    /// Sends the texts on their way, unless too many are: then they are sent when they are waited for.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        if !client::may_go_ahead() {
            return Ok(());
        }
        // Those of one model; with more the others are sent when they are waited for.
        self.groups.first_mut().map_or(Ok(()), Group::start)
    }

    /// Keeps what is on its way going, without waiting.
    pub(super) fn keep_going(&mut self) {
        if let Some(flight) = self.groups.first_mut().and_then(|group| group.flight.as_mut()) {
            flight.keep_going();
        }
    }

    /// Waits for the vectors, which are made in the current memory context.
    pub(super) fn wait(&mut self) -> Result<Took, Error> {
        let mut took = Took { rows: self.rows.len() as u64, ..Took::default() };
        for group in &mut self.groups {
            let effort = group.land()?;
            took.texts += group.texts.len() as u64;
            took.cached += u64::from(effort.cached);
            took.micros += u64::from(effort.micros);
        }
        Ok(took)
    }

    /// The next row and its number among those of the batch.
    pub(super) fn take_row(&mut self) -> Option<(pg_sys::MinimalTuple, usize)> {
        let row = *self.rows.get(self.next)?;
        self.next += 1;
        Some((row, self.next - 1))
    }

    /// The vector of a call for a row.
    pub(super) fn vector(&self, row: usize, calls: usize, call: usize) -> Option<Vector> {
        let Found { group, text } = self.found[row * calls + call]?;
        self.groups[group].vectors[text]
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        BATCHES.set(BATCHES.get() - 1);
    }
}

impl Group {
    fn new(model: Rc<str>, purpose: Purpose) -> Self {
        Self {
            model,
            purpose,
            texts: Vec::new(),
            numbers: HashMap::new(),
            rows: Vec::new(),
            flight: None,
            vectors: Vec::new(),
        }
    }

    fn add(&mut self, text: &str, row: u64) -> usize {
        let (number, text): (usize, Rc<str>) = (self.texts.len(), text.into());
        self.texts.push(Rc::clone(&text));
        self.numbers.insert(text, number);
        self.rows.push(row);
        number
    }

    fn start(&mut self) -> Result<(), Error> {
        let options = EmbedOptions {
            model: &self.model,
            purpose: self.purpose,
            overlong: overlong(),
            max_tokens: None,
            expected_hash: None,
        };
        let flight = Flight::start(&options, self.texts.clone());
        self.flight = Some(flight.map_err(|error| self.tell_row(error))?);
        Ok(())
    }

    fn land(&mut self) -> Result<Effort, Error> {
        if self.flight.is_none() {
            self.start()?;
        }
        let Some(flight) = self.flight.take() else { return Ok(Effort::default()) };
        self.vectors = vec![None; self.texts.len()];
        let vectors = &mut self.vectors;
        let landed = flight.land(&mut |text, numbers| vectors[text] = Some(Vector::from_le_bytes(numbers)));
        let effort = landed.map_err(|error| self.tell_row(error))?;
        if effort.truncated > 0 {
            warning::truncated(&self.model);
        }
        Ok(effort)
    }

    /// An error names the row of the text at fault.
    fn tell_row(&self, error: Error) -> Error {
        error.map_place(|text| Place::Input(self.rows[text]))
    }
}

/// A model's name as it stands in an argument.
pub(super) fn named_model(name: &Text<'_>) -> Result<Rc<str>, Error> {
    Model::Named(name.as_str()).name().map(|name| name.as_ref().into())
}
