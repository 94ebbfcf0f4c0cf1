//! Rows that triggers see: reading their texts and vectors, and giving one another vector.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::statement::{output, raw_output};
use super::table::{Table, TextColumn, TextKind, VectorColumn};
use super::text::to_server;
use super::types::VectorKind;
use super::unguarded;
use super::vector::Vector;
use crate::error::Error;

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        // Of utils/datum.h, which pgrx does not bind.
        pub(super) fn datum_image_eq(
            one: pg_sys::Datum,
            two: pg_sys::Datum,
            by_value: bool,
            length: i32,
        ) -> bool;
    }
}

/// A row of a table. Columns are those of the same table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    slot: *mut pg_sys::TupleTableSlot,
    row: PhantomData<&'a ()>,
}

impl<'a> Row<'a> {
    /// # Safety
    ///
    /// `slot` must hold a row for `'a`.
    pub(super) unsafe fn from_slot(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Self { slot, row: PhantomData }
    }

    /// The bytes of a column's text, in the server's encoding; `None` for NULL.
    pub(crate) fn text(self, column: TextColumn) -> Option<Cow<'a, [u8]>> {
        let datum = self.datum(column.number)?;
        // SAFETY: the column's type is of the given kind. What is detoasted lives in the memory context of the
        // trigger's call, and all else as long as the row.
        unsafe {
            if column.kind == TextKind::Jsonb {
                let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), datum);
                return Some(Cow::Borrowed(CStr::from_ptr(text).to_bytes()));
            }
            let bytes = bytes(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr()));
            Some(Cow::Borrowed(match column.kind {
                TextKind::Padded => bytes.trim_suffix_blanks(),
                _ => bytes,
            }))
        }
    }

    /// Whether a column is stored alike in both rows, which is quicker to tell than whether its text is equal.
    pub(crate) fn is_stored_alike(self, other: Self, column: TextColumn) -> bool {
        match (self.datum(column.number), other.datum(column.number)) {
            (None, None) => true,
            // SAFETY: the types of text columns are all varlenas.
            (Some(one), Some(two)) => unsafe { raw(one) == raw(two) },
            _ => false,
        }
    }

    /// Whether the row has a vector.
    pub(crate) fn has_vector(self, column: VectorColumn) -> bool {
        self.datum(column.number).is_some()
    }

    /// Whether the vectors of both rows are equal by value, as they are when a client writes back what it has read.
    pub(crate) fn has_vector_of(self, other: Self, column: VectorColumn) -> bool {
        match (self.datum(column.number), other.datum(column.number)) {
            (None, None) => true,
            // SAFETY: the column's type is of its kind.
            (Some(one), Some(two)) => unsafe {
                raw(one) == raw(two) || numbers_are_equal(numbers(one), numbers(two), column.kind)
            },
            _ => false,
        }
    }

    /// A column's value as the server writes it.
    pub(crate) fn written(self, number: i16) -> Result<Option<String>, Error> {
        // SAFETY: the slot holds a row of its own descriptor.
        unsafe { output(self.slot, (*self.slot).tts_tupleDescriptor, number.into()) }
    }

    /// The same, in the server's encoding.
    pub(crate) fn raw(self, number: i16) -> Option<CString> {
        // SAFETY: as above.
        unsafe { raw_output(self.slot, (*self.slot).tts_tupleDescriptor, number.into()) }
    }

    /// Whether a column, of any type, is stored alike in both rows of one table.
    pub(crate) fn has_image_of(self, other: Self, number: i16) -> bool {
        match (self.datum(number), other.datum(number)) {
            (None, None) => true,
            // SAFETY: both values are of the column's type, which the slot's descriptor tells.
            (Some(one), Some(two)) => unsafe {
                let descriptor = pgrx::PgTupleDesc::from_pg_unchecked((*self.slot).tts_tupleDescriptor);
                descriptor.get(number as usize - 1).is_some_and(|attribute| {
                    let (by_value, length) = (attribute.attbyval, attribute.attlen.into());
                    pg_sys::ffi::pg_guard_ffi_boundary(|| c::datum_image_eq(one, two, by_value, length))
                })
            },
            _ => false,
        }
    }

    /// Bytes of a value of variable length, as it is when it is neither compressed nor stored elsewhere.
    pub(crate) fn bytes(self, column: TextColumn) -> usize {
        // SAFETY: the types of text columns are all varlenas.
        self.datum(column.number).map_or(0, |datum| unsafe { pg_sys::toast_raw_datum_size(datum) })
    }

    pub(super) fn datum(self, number: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the slot holds a row of the table that the column belongs to.
        let datum = unsafe { pg_sys::slot_getattr(self.slot, number.into(), &mut is_null) };
        (!is_null).then_some(datum)
    }
}

/// A row to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredRow(pub(super) pg_sys::HeapTuple);

impl StoredRow {
    /// The row with another vector, of the column's dimensions, or with none; and in a column of text the hash of the model
    /// that it is of, where one keeps it. Checks a domain's constraints, whose errors jump over the caller: it must have
    /// nothing to drop, nor must its callers.
    pub(crate) fn with_vector(
        self,
        table: &Table,
        column: VectorColumn,
        vector: Option<Vector>,
        hash: Option<(i16, Option<Written>)>,
    ) -> Self {
        let value = vector.map(|vector| cast(vector, column));
        let datum = value.unwrap_or(pg_sys::Datum::null());
        let is_null = value.is_none();
        let (hash_number, hash) = hash.unwrap_or_default();
        let count = if hash_number > 0 { 2 } else { 1 };
        let mut numbers = [i32::from(column.number), i32::from(hash_number)];
        let mut values = [datum, hash.map_or(pg_sys::Datum::null(), |Written(text)| text)];
        let mut nulls = [is_null, hash.is_none()];
        // SAFETY: the value is of the column's type, and the tuple is one of the table's.
        unsafe {
            if column.is_domain {
                unguarded::domain_check(datum, is_null, column.type_oid);
            }
            Self(pg_sys::heap_modify_tuple_by_cols(
                self.0,
                table.descriptor(),
                count,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            ))
        }
    }
}

/// A text in the current memory context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written(pg_sys::Datum);

impl Written {
    pub(crate) fn new(text: &str) -> Self {
        // SAFETY: copies a string that ends with NUL.
        Self(unsafe { pg_sys::cstring_to_text(to_server(text).as_ptr()) }.into())
    }
}

/// The vector as a value of the column's type below domains, by pgvector's own cast.
fn cast(vector: Vector, column: VectorColumn) -> pg_sys::Datum {
    if column.kind == VectorKind::Vector {
        return vector.datum();
    }
    // SAFETY: pgvector's types are in one schema, and its cast takes the value, a type modifier, and whether the
    // cast is explicit. The modifier -1 asks for no dimensions: they have been checked.
    unsafe {
        let source = vector_type_beside(column.base_type);
        let mut function = pg_sys::InvalidOid;
        pg_sys::find_coercion_pathway(
            column.base_type,
            source,
            pg_sys::CoercionContext::COERCION_ASSIGNMENT,
            &mut function,
        );
        pg_sys::OidFunctionCall3Coll(
            function,
            pg_sys::InvalidOid,
            vector.datum(),
            pg_sys::Datum::from(-1_i32),
            pg_sys::Datum::from(false),
        )
    }
}

/// The type `vector` of the schema that another of pgvector's types is in.
///
/// # Safety
///
/// `other` must be a type that exists.
pub(super) unsafe fn vector_type_beside(other: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: lookups in the catalogs; a type's tuple holds its form until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, other.into());
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
        let schema = (*form).typnamespace;
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as i16,
            pg_sys::Datum::from(c"vector".as_ptr()),
            schema.into(),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    }
}

trait TrimBlanks {
    fn trim_suffix_blanks(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    /// Without trailing blanks. In no server encoding is the byte of a blank part of another character.
    fn trim_suffix_blanks(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        &self[..end]
    }
}

/// A varlena as it is stored, which may be compressed or kept elsewhere.
///
/// # Safety
///
/// `datum` must be a varlena that lives as long as `'a`.
unsafe fn raw<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: a varlena is as long as it says.
    unsafe {
        let varlena = datum.cast_mut_ptr::<pg_sys::varlena>();
        std::slice::from_raw_parts(varlena.cast(), pgrx::varlena::varsize_any(varlena))
    }
}

/// A vector's dimensions and numbers.
///
/// # Safety
///
/// `datum` must be a `vector` or `halfvec`.
unsafe fn numbers<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: detoasting gives a varlena of the length it says.
    unsafe { bytes(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())) }
}

/// # Safety
///
/// `varlena` must be a detoasted one that lives as long as `'a`.
unsafe fn bytes<'a>(varlena: *mut pg_sys::varlena) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe {
        let data = pgrx::varlena::vardata_any(varlena).cast::<u8>();
        std::slice::from_raw_parts(data, pgrx::varlena::varsize_any_exhdr(varlena))
    }
}

/// Compares numbers, not bytes: there are two zeros. pgvector has no values that are not numbers.
fn numbers_are_equal(one: &[u8], two: &[u8], kind: VectorKind) -> bool {
    const SIGN: u8 = 0x80;
    let width = match kind {
        VectorKind::Vector => 4,
        VectorKind::Halfvec => 2,
    };
    let is_zero = |number: &[u8]| {
        let (last, rest) = number.split_last().expect("a number has bytes");
        last & !SIGN == 0 && rest.iter().all(|byte| *byte == 0)
    };
    // The first four bytes are the number of dimensions and an unused field.
    one.len() == two.len()
        && one[..4] == two[..4]
        && one[4..]
            .chunks_exact(width)
            .zip(two[4..].chunks_exact(width))
            .all(|(one, two)| one == two || (is_zero(one) && is_zero(two)))
}
