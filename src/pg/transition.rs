//! The rows of a statement, and writing their vectors back.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::row::{Row, vector_type_beside};
use super::spi::{Bound, UpdateFrom, Updated};
use super::statement::ROWS;
use super::table::{KeyColumn, Table, TextColumn, VectorColumn, quote_literal};
use super::text::{from_server, to_server};
use super::vector::Vector;
use crate::error::{Error, TableFault};

/// The rows that a statement has touched, in the order in which it touched them.
#[derive(Debug)]
pub(crate) struct TransitionTable<'a> {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    rows: PhantomData<&'a ()>,
}

impl TransitionTable<'_> {
    /// # Safety
    ///
    /// `store` must be NULL or hold rows of `descriptor` for as long as the value is used.
    pub(super) unsafe fn open(
        store: *mut pg_sys::Tuplestorestate,
        descriptor: pg_sys::TupleDesc,
    ) -> Option<Self> {
        if store.is_null() {
            return None;
        }
        // SAFETY: reads the rows from the first with a pointer of its own, as the executor does for a query that
        // names the table.
        unsafe {
            let flags = pg_sys::EXEC_FLAG_REWIND as i32;
            let pointer = pg_sys::tuplestore_alloc_read_pointer(store, flags);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple);
            Some(Self { store, slot, rows: PhantomData })
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> i64 {
        // SAFETY: the store lives as long as the trigger runs.
        unsafe { pg_sys::tuplestore_tuple_count(self.store) }
    }

    /// Begins with the first row again.
    pub(crate) fn rewind(&mut self) {
        // SAFETY: the pointer of this value is the one in use.
        unsafe { pg_sys::tuplestore_rescan(self.store) };
    }

    /// The next row, which lives until the one after it is asked for.
    pub(crate) fn next(&mut self) -> Option<Row<'_>> {
        // SAFETY: the slot is of the rows' descriptor.
        unsafe {
            pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot)
                .then(|| Row::from_slot(self.slot))
        }
    }
}

impl Drop for TransitionTable<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this value.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }
}

/// What identifies a row, and what its vector was made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting(pg_sys::HeapTuple);

impl Waiting {
    /// Bytes that the row takes.
    pub(crate) fn bytes(self) -> usize {
        // SAFETY: made by `WriteBack::note`, in memory that lives.
        unsafe { (*self.0).t_len as usize }
    }
}

/// Rows whose vectors are written back by one UPDATE.
///
/// Each has the values of the primary key, the vector that the statement left, the texts, and the new vector. The
/// UPDATE leaves a row alone whose vector or texts have become others meanwhile: a trigger of the table's own has
/// changed it, and that UPDATE has had its vector made.
#[derive(Debug)]
pub(crate) struct WriteBack<'t> {
    table: &'t Table,
    key: Vec<KeyColumn>,
    embedding: VectorColumn,
    sources: Vec<TextColumn>,
    /// The column that keeps the hash of the vector's model, and this.
    hash: Option<(i16, String)>,
    descriptor: pg_sys::TupleDesc,
    store: *mut pg_sys::Tuplestorestate,
    count: usize,
}

const WAS: &CStr = c"was";
const COMPUTED: &CStr = c"computed";

impl<'t> WriteBack<'t> {
    pub(crate) fn new(
        table: &'t Table,
        embedding: VectorColumn,
        sources: &[TextColumn],
        hash: Option<(i16, String)>,
    ) -> Result<Self, Error> {
        let key = table.primary_key()?;
        let copied: Vec<(i16, CString)> = key
            .iter()
            .enumerate()
            .map(|(place, column)| (column.number, key_name(place)))
            .chain([(embedding.number, WAS.to_owned())])
            .chain(sources.iter().enumerate().map(|(place, column)| (column.number, source_name(place))))
            .collect();
        let number = copied.len() as i16 + 1;
        // SAFETY: every column of the descriptor is filled in, those of the table with their types and collations.
        let (descriptor, store) = unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(number.into());
            for (place, (column, name)) in (1..).zip(&copied) {
                let of = table.attribute(*column);
                pg_sys::TupleDescInitEntry(descriptor, place, name.as_ptr(), of.atttypid, of.atttypmod, 0);
                pg_sys::TupleDescInitEntryCollation(descriptor, place, of.attcollation);
            }
            let vector = vector_type_beside(embedding.base_type);
            pg_sys::TupleDescInitEntry(descriptor, number, COMPUTED.as_ptr(), vector, -1, 0);
            (descriptor, pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem))
        };
        Ok(Self { table, key, embedding, sources: sources.to_vec(), hash, descriptor, store, count: 0 })
    }

    /// Notes a row in the current memory context until its vector is there.
    pub(crate) fn note(&self, row: Row<'_>) -> Waiting {
        let numbers = self.key.iter().map(|column| column.number).chain([self.embedding.number]);
        let numbers = numbers.chain(self.sources.iter().map(|column| column.number));
        let values: Vec<Option<pg_sys::Datum>> =
            numbers.map(|number| row.datum(number)).chain([None]).collect();
        let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
        let mut values: Vec<pg_sys::Datum> =
            values.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
        // SAFETY: there is a value and a flag for each column of the descriptor.
        Waiting(unsafe { pg_sys::heap_form_tuple(self.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) })
    }

    /// Adds a row with its vector.
    pub(crate) fn put(&mut self, row: Waiting, vector: Option<Vector>) {
        let columns = self.key.len() + self.sources.len() + 2;
        let mut values = vec![pg_sys::Datum::null(); columns];
        let mut nulls = vec![true; columns];
        // SAFETY: the tuple was made with this descriptor; the store copies what it is given.
        unsafe {
            pg_sys::heap_deform_tuple(row.0, self.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            if let Some(vector) = vector {
                values[columns - 1] = vector.datum();
                nulls[columns - 1] = false;
            }
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        self.count += 1;
    }

    /// A row's primary key as PostgreSQL's own errors tell it, `(id)=(5)`; `None` if the user may not read it.
    pub(crate) fn tell(&self, row: Waiting) -> Option<String> {
        if !self.table.may_be_read() {
            return None;
        }
        let names: Vec<String> =
            self.key.iter().map(|column| self.table.column_name(column.number)).collect();
        let values: Vec<String> = (1..=self.key.len() as i32)
            // SAFETY: the tuple was made with this descriptor; a value is a palloc'd string that ends with NUL.
            .map(|place| unsafe {
                let value = pg_sys::SPI_getvalue(row.0, self.descriptor, place);
                if value.is_null() { String::new() } else { from_server(CStr::from_ptr(value)) }
            })
            .collect();
        Some(format!("({})=({})", names.join(", "), values.join(", ")))
    }

    /// The rows, ready to be written; `None` if there are none.
    pub(crate) fn finish(mut self) -> Option<Written> {
        if self.count == 0 {
            return None;
        }
        let of_type = self.table.attribute(self.embedding.number);
        let bound = Bound {
            owner: self.table.owner(),
            name: ROWS,
            descriptor: self.descriptor,
            rows: std::mem::replace(&mut self.store, null_mut()),
            count: self.count as u64,
            sql: in_memory_context(&self.update()),
            command: pg_sys::CmdType::CMD_UPDATE,
        };
        let update = UpdateFrom {
            bound,
            left: in_memory_context(&self.left(&quoted_type(of_type.atttypid, of_type.atttypmod))),
        };
        Some(Written(update))
    }

    fn update(&self) -> String {
        let hash = self.hash.as_ref().map_or(String::new(), |(column, hash)| {
            let column = self.table.quoted_column(*column);
            format!(", {column} = CASE WHEN v.computed IS NULL THEN NULL ELSE {} END", quote_literal(hash))
        });
        format!(
            "UPDATE {} AS t SET {} = v.computed{hash} FROM vector_embed_rows AS v WHERE {}",
            self.table.quoted_name(),
            self.table.quoted_column(self.embedding.number),
            self.unchanged()
        )
    }

    /// Rows that are as they were although their vectors are others.
    fn left(&self, kind: &str) -> String {
        format!(
            "SELECT pg_catalog.count(*) FROM {} AS t, vector_embed_rows AS v WHERE {} \
             AND NOT pg_catalog.record_image_eq(ROW(t.{}), ROW(v.computed::{kind}))",
            self.table.quoted_name(),
            self.unchanged(),
            self.table.quoted_column(self.embedding.number),
        )
    }

    /// That a row `t` of the table is the noted row `v`, and has its vector and texts.
    fn unchanged(&self) -> String {
        let clauses = self.key.iter().enumerate().map(|(place, column)| {
            let of_table = format!("t.{}", self.table.quoted_column(column.number));
            let of_rows = format!("v.{}", key_name(place).to_string_lossy());
            equality(&of_table, &of_rows, self.descriptor, place, column.operator)
        });
        let columns =
            [self.embedding.number].into_iter().chain(self.sources.iter().map(|column| column.number));
        let columns: Vec<String> =
            columns.map(|number| format!("t.{}", self.table.quoted_column(number))).collect();
        let noted = [WAS.to_owned()].into_iter().chain((0..self.sources.len()).map(source_name));
        let noted: Vec<String> = noted.map(|name| format!("v.{}", name.to_string_lossy())).collect();
        // Compares stored bytes, so that nobody's operators are called, and types without equality will do. As an
        // operator between rows it would be a comparison column by column.
        let image =
            format!("pg_catalog.record_image_eq(ROW({}), ROW({}))", columns.join(", "), noted.join(", "));
        clauses.chain([image]).collect::<Vec<_>>().join(" AND ")
    }
}

/// Rows that are ready to be written back. Has nothing to drop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written(UpdateFrom);

impl Written {
    /// Writes the vectors.
    ///
    /// The table's owner is who is allowed to: who may insert need not be allowed to update. The table's triggers run
    /// as the current user, as for any other statement.
    ///
    /// # Safety
    ///
    /// No frame up to the server's call may have anything to drop, see [`UpdateFrom::run`].
    pub(crate) unsafe fn write(self) -> Result<(), TableFault> {
        // SAFETY: the caller's promise; the rows are not used afterwards.
        unsafe {
            let updated = self.0.run();
            pg_sys::tuplestore_end(self.0.bound.rows);
            match updated {
                Updated::All => Ok(()),
                Updated::Not(rows) => Err(TableFault::Suppressed { rows }),
                Updated::Ruled => Err(TableFault::Rules),
            }
        }
    }
}

/// A type as SQL has it, with its modifier and schema.
pub(super) fn quoted_type(oid: pg_sys::Oid, modifier: i32) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: the type exists; returns a palloc'd string that ends with NUL.
    from_server(unsafe { CStr::from_ptr(pg_sys::format_type_extended(oid, modifier, flags as _)) })
}

/// SQL in the server's encoding and the current memory context.
fn in_memory_context(sql: &str) -> *const std::ffi::c_char {
    // SAFETY: copies a string that ends with NUL.
    unsafe { pg_sys::pstrdup(to_server(sql).as_ptr()) }
}

impl Drop for WriteBack<'_> {
    fn drop(&mut self) {
        if !self.store.is_null() {
            // SAFETY: made by this value, and not handed on.
            unsafe { pg_sys::tuplestore_end(self.store) };
        }
    }
}

fn key_name(place: usize) -> CString {
    to_server(&format!("k{place}"))
}

fn source_name(place: usize) -> CString {
    to_server(&format!("s{place}"))
}

/// `one = two`, with the operator named in full and operands cast to what it takes.
fn equality(
    one: &str,
    two: &str,
    descriptor: pg_sys::TupleDesc,
    place: usize,
    operator: pg_sys::Oid,
) -> String {
    let (one, two) = (to_server(one), to_server(two));
    // SAFETY: the buffer is ours, the type that of the descriptor's column, and the operands end with NUL.
    unsafe {
        let mut buffer = pg_sys::StringInfoData::default();
        pg_sys::initStringInfo(&mut buffer);
        let of = pg_sys::SPI_gettypeid(descriptor, place as i32 + 1);
        pg_sys::generate_operator_clause(&mut buffer, one.as_ptr(), of, operator, two.as_ptr(), of);
        from_server(CStr::from_ptr(buffer.data))
    }
}
