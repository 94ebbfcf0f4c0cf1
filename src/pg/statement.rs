//! Statements that triggers run on rows of their own making.
//!
//! The rows are known to a statement as `vector_embed_rows`. It is planned, and its privileges are checked, as a table's
//! owner without row security; what then runs, above all the triggers of the table it writes to, runs as the current
//! user, as for any statement of his.

use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::memory::Scratch;
use super::receiver::into_store;
use super::row::Row;
use super::spi::{Bound, run_bound};
use super::text::{Text, to_server};
use super::vector::Vector;
use crate::error::Error;

/// The name by which statements know their rows.
pub(super) const ROWS: &CStr = c"vector_embed_rows";

/// What a column of [`Rows`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellKind {
    Int,
    Bool,
    Text,
    /// pgvector's type, of this oid.
    Vector(pg_sys::Oid),
}

/// A value of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i32),
    Bool(bool),
    Text(&'a str),
    /// Text in the server's encoding.
    Raw(&'a CStr),
    Vector(Vector),
}

impl Cell<'_> {
    fn is_of(self, kind: CellKind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Int(_), CellKind::Int)
                | (Self::Bool(_), CellKind::Bool)
                | (Self::Text(_) | Self::Raw(_), CellKind::Text)
                | (Self::Vector(_), CellKind::Vector(_))
        )
    }

    /// The value, in the current memory context.
    fn datum(self) -> Option<pg_sys::Datum> {
        match self {
            Self::Null => None,
            Self::Int(value) => Some(value.into()),
            Self::Bool(value) => Some(value.into()),
            // SAFETY: copies a string that ends with NUL.
            Self::Text(text) => Some(unsafe { pg_sys::cstring_to_text(to_server(text).as_ptr()) }.into()),
            // SAFETY: as above.
            Self::Raw(text) => Some(unsafe { pg_sys::cstring_to_text(text.as_ptr()) }.into()),
            Self::Vector(vector) => Some(vector.datum()),
        }
    }
}

/// Rows for a statement. They spill to disk when there are many.
#[derive(Debug)]
pub(crate) struct Rows {
    kinds: Vec<CellKind>,
    descriptor: pg_sys::TupleDesc,
    store: *mut pg_sys::Tuplestorestate,
    count: u64,
    scratch: Scratch,
}

impl Rows {
    /// No rows yet, of these columns.
    pub(crate) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, CellKind)>) -> Self {
        let (names, kinds): (Vec<&str>, Vec<CellKind>) = columns.into_iter().unzip();
        // SAFETY: every column of the descriptor is filled in; names end with NUL.
        let (descriptor, store) = unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(kinds.len() as i32);
            for (place, (name, kind)) in (1..).zip(names.iter().zip(&kinds)) {
                let of = match kind {
                    CellKind::Int => pg_sys::INT4OID,
                    CellKind::Bool => pg_sys::BOOLOID,
                    CellKind::Text => pg_sys::TEXTOID,
                    CellKind::Vector(oid) => *oid,
                };
                pg_sys::TupleDescInitEntry(descriptor, place, to_server(name).as_ptr(), of, -1, 0);
            }
            (descriptor, pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem))
        };
        Self { kinds, descriptor, store, count: 0, scratch: Scratch::new() }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a row with a value for each column, of its kind or NULL.
    pub(crate) fn put(&mut self, cells: &[Cell<'_>]) {
        assert!(
            cells.len() == self.kinds.len()
                && cells.iter().zip(&self.kinds).all(|(cell, kind)| cell.is_of(*kind)),
            "a value for each column"
        );
        let Self { scratch, store, descriptor, .. } = self;
        scratch.within(|| {
            let values: Vec<Option<pg_sys::Datum>> = cells.iter().map(|cell| cell.datum()).collect();
            let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
            let mut values: Vec<pg_sys::Datum> =
                values.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
            // SAFETY: values and flags are as many as the descriptor has columns, and of their types; the store copies
            // them.
            unsafe {
                pg_sys::tuplestore_putvalues(*store, *descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            }
        });
        scratch.reset();
        self.count += 1;
    }

    /// The answer of a query over the rows.
    pub(crate) fn query(&self, owner: pg_sys::Oid, sql: &str) -> Result<Answer, Error> {
        let sql = to_server(sql);
        let bound = self.bound(owner, sql.as_ptr(), pg_sys::CmdType::CMD_SELECT);
        let refused = || Err(Error::Internal("the server refused a query of the extension"));
        // SAFETY: the receiver fills the store, which lives in the current memory context; the closure has nothing to
        // drop when an error leaves it.
        unsafe {
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            let receiver = into_store(store, pg_sys::CurrentMemoryContext, None);
            let mut descriptor = null_mut();
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                run_bound(bound, receiver, Some(&mut descriptor));
            });
            if descriptor.is_null() {
                return refused();
            }
            Ok(Answer { slot: None, store, descriptor })
        }
    }

    /// Runs a statement over the rows now; returns how many it has touched, or `None` if rules have made something else
    /// of it. Of its errors only code, message, detail and hint are left.
    pub(crate) fn execute(&self, owner: pg_sys::Oid, sql: &str, command: Command) -> Option<u64> {
        let sql = to_server(sql);
        let bound = self.bound(owner, sql.as_ptr(), command.kind());
        // SAFETY: the rows live; the closure has nothing to drop when an error leaves it.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| run_bound(bound, pg_sys::None_Receiver, None)) }
    }

    /// A statement over the rows, to be run when nothing is left to drop. It is to touch `expected` rows, if that is
    /// known.
    pub(crate) fn into_statement(
        mut self,
        owner: pg_sys::Oid,
        sql: &str,
        command: Command,
        expected: Option<u64>,
    ) -> Statement {
        let statement = Statement { is_last: true, ..self.share(owner, sql, command, expected) };
        self.store = null_mut();
        statement
    }

    /// The same, where another statement over the rows comes later.
    pub(crate) fn share(
        &self,
        owner: pg_sys::Oid,
        sql: &str,
        command: Command,
        expected: Option<u64>,
    ) -> Statement {
        // SAFETY: copies a string that ends with NUL.
        let sql = unsafe { pg_sys::pstrdup(to_server(sql).as_ptr()) };
        Statement { bound: self.bound(owner, sql, command.kind()), expected, is_last: false }
    }

    fn bound(&self, owner: pg_sys::Oid, sql: *const c_char, command: pg_sys::CmdType::Type) -> Bound {
        Bound {
            owner,
            name: ROWS,
            descriptor: self.descriptor,
            rows: self.store,
            count: self.count,
            sql,
            command,
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if !self.store.is_null() {
            // SAFETY: made by this value, and not handed on.
            unsafe { pg_sys::tuplestore_end(self.store) };
        }
    }
}

/// What a [`Statement`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Insert,
    Update,
    Delete,
}

impl Command {
    fn kind(self) -> pg_sys::CmdType::Type {
        match self {
            Self::Insert => pg_sys::CmdType::CMD_INSERT,
            Self::Update => pg_sys::CmdType::CMD_UPDATE,
            Self::Delete => pg_sys::CmdType::CMD_DELETE,
        }
    }
}

/// A statement that is ready to be run. Has nothing to drop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    bound: Bound,
    expected: Option<u64>,
    /// Whether no other has the same rows.
    is_last: bool,
}

/// What became of a [`Statement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// So many rows were left as they were, by a trigger of the table's own.
    Left(u64),
    /// Rules have made something else of it.
    Ruled,
}

impl Statement {
    /// Runs it now. Of its errors only code, message, detail and hint are left.
    pub(crate) fn execute(self) -> Outcome {
        // SAFETY: the closure has nothing to drop when an error leaves it.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| self.run()) }
    }

    /// Runs it.
    ///
    /// # Safety
    ///
    /// No frame up to the server's call may have anything to drop: errors of the statement jump over them, since
    /// otherwise they would lose most of what they say.
    pub(super) unsafe fn run(self) -> Outcome {
        // SAFETY: the caller's promise; the rows are not used afterwards.
        unsafe {
            let done = run_bound(self.bound, pg_sys::None_Receiver, None);
            if self.is_last {
                pg_sys::tuplestore_end(self.bound.rows);
            }
            match (done, self.expected) {
                (None, _) => Outcome::Ruled,
                (Some(done), Some(expected)) if done < expected => Outcome::Left(expected - done),
                _ => Outcome::Done,
            }
        }
    }
}

/// The rows that a query gave.
#[derive(Debug)]
pub(crate) struct Answer {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    slot: Option<*mut pg_sys::TupleTableSlot>,
}

impl Answer {
    /// The next row, which lives until the one after it is asked for.
    pub(crate) fn next_row(&mut self) -> Option<Row<'_>> {
        // SAFETY: the slot is of the rows' descriptor.
        unsafe {
            let slot = *self.slot.get_or_insert_with(|| {
                pg_sys::MakeSingleTupleTableSlot(self.descriptor, &raw const pg_sys::TTSOpsMinimalTuple)
            });
            pg_sys::tuplestore_gettupleslot(self.store, true, false, slot).then(|| Row::from_slot(slot))
        }
    }
}

impl Iterator for Answer {
    type Item = Result<Vec<Option<String>>, Error>;

    /// The next row, its values as the server writes them.
    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the descriptor lives as long as this value.
        let count = unsafe { (*self.descriptor).natts as i16 };
        self.next_row().map(|row| (1..=count).map(|number| row.written(number)).collect())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: made by this value.
        unsafe {
            if let Some(slot) = self.slot {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::tuplestore_end(self.store);
        }
    }
}

/// A column's value as the server writes it.
///
/// # Safety
///
/// The slot must hold a row of this descriptor.
pub(super) unsafe fn output(
    slot: *mut pg_sys::TupleTableSlot,
    descriptor: pg_sys::TupleDesc,
    number: i32,
) -> Result<Option<String>, Error> {
    // SAFETY: the caller's promise.
    let written = unsafe { raw_output(slot, descriptor, number) };
    written.map(|text| Text::from_server(text.to_bytes().into()).map(Text::into_string)).transpose()
}

/// The same, in the server's encoding.
///
/// # Safety
///
/// The slot must hold a row of this descriptor.
pub(super) unsafe fn raw_output(
    slot: *mut pg_sys::TupleTableSlot,
    descriptor: pg_sys::TupleDesc,
    number: i32,
) -> Option<CString> {
    // SAFETY: the caller's promise; the output function is that of the column's type, and returns a palloc'd string that
    // ends with NUL.
    unsafe {
        let mut is_null = false;
        let value = pg_sys::slot_getattr(slot, number, &mut is_null);
        if is_null {
            return None;
        }
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        let of = pg_sys::SPI_gettypeid(descriptor, number);
        pg_sys::getTypeOutputInfo(of, &mut function, &mut is_varlena);
        let text = pg_sys::OidOutputFunctionCall(function, value);
        let written = CStr::from_ptr(text).to_owned();
        pg_sys::pfree(text.cast());
        Some(written)
    }
}
