//! From a reader's values to datums.

use std::ffi::{CString, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use vector_embed_sources::{Problem, Value};

use super::columns::Column;
use crate::pg::text::encode;
use crate::pg::vector::Vector;

/// Makes datums of a column's values.
pub(super) struct Converter {
    column: Column,
    /// The type's input function, for types whose datums it makes.
    input: Option<Box<pg_sys::FmgrInfo>>,
    parameter: pg_sys::Oid,
}

impl Converter {
    /// # Safety
    ///
    /// The current memory context must live as long as this.
    pub(super) unsafe fn new(column: Column) -> Self {
        let by_input = match column.oid {
            pg_sys::NUMERICOID | pg_sys::JSONOID | pg_sys::JSONBOID | pg_sys::BPCHAROID => true,
            pg_sys::VARCHAROID => column.modifier >= 0,
            _ => false,
        };
        let mut parameter = pg_sys::InvalidOid;
        // SAFETY: the type exists.
        let input = by_input.then(|| unsafe {
            let mut function = pg_sys::InvalidOid;
            let mut info = Box::<pg_sys::FmgrInfo>::default();
            pg_sys::getTypeInputInfo(column.oid, &mut function, &mut parameter);
            pg_sys::fmgr_info(function, &mut *info);
            info
        });
        Self { column, input, parameter }
    }

    pub(super) fn column(&self) -> &Column {
        &self.column
    }

    /// The datum, in the current memory context; `None` for NULL.
    pub(super) fn datum(&mut self, value: Value<'_>) -> Result<Option<pg_sys::Datum>, Problem> {
        let column = &self.column;
        Ok(Some(match value {
            Value::Null => return Ok(None),
            Value::Boolean(truth) => truth.into(),
            Value::Integer(number) => match column.oid {
                pg_sys::INT2OID => (number as i16).into(),
                pg_sys::INT4OID => (number as i32).into(),
                _ => number.into(),
            },
            Value::Float(number) => match column.oid {
                pg_sys::FLOAT4OID => pg_sys::Datum::from((number as f32).to_bits()),
                _ => pg_sys::Datum::from(number.to_bits()),
            },
            Value::Date(days) => days.into(),
            Value::Timestamp(micros) => self.timestamp(micros),
            Value::Uuid(bytes) => {
                // SAFETY: sixteen bytes are what a uuid has.
                unsafe {
                    let uuid = pg_sys::palloc(bytes.len()).cast::<u8>();
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), uuid, bytes.len());
                    pg_sys::Datum::from(uuid)
                }
            }
            Value::Bytea(bytes) => varlena(bytes)?,
            Value::Vector(numbers) => Vector::from_numbers(numbers).datum(),
            Value::Text(text) | Value::Json(text) | Value::Numeric(text) => return self.text(text).map(Some),
        }))
    }

    /// The precision that the column's declaration tells is applied as a cast does.
    fn timestamp(&self, micros: i64) -> pg_sys::Datum {
        let datum = pg_sys::Datum::from(micros);
        if self.column.modifier < 0 {
            return datum;
        }
        let scale = match self.column.oid {
            pg_sys::TIMESTAMPOID => pg_sys::F_TIMESTAMP_TIMESTAMP_INT4,
            _ => pg_sys::F_TIMESTAMPTZ_TIMESTAMPTZ_INT4,
        };
        // SAFETY: functions of these two arguments.
        unsafe {
            pg_sys::OidFunctionCall2Coll(
                scale.into(),
                pg_sys::InvalidOid,
                datum,
                pg_sys::Datum::from(self.column.modifier),
            )
        }
    }

    fn text(&mut self, text: &str) -> Result<pg_sys::Datum, Problem> {
        let encoded = refused(|| encode(text))?;
        let Some(input) = &mut self.input else { return varlena(&encoded) };
        let text = CString::new(encoded.as_ref()).map_err(|_| Problem::Nul)?;
        let (parameter, modifier) = (self.parameter, self.column.modifier);
        // SAFETY: an input function reads a string that ends with NUL.
        refused(|| unsafe {
            pg_sys::InputFunctionCall(&mut **input, text.as_ptr() as *mut c_char, parameter, modifier)
        })
    }
}

fn varlena(bytes: &[u8]) -> Result<pg_sys::Datum, Problem> {
    const MAX_BYTES: usize = 0x3fff_ffff - pg_sys::VARHDRSZ;
    if bytes.len() > MAX_BYTES {
        return Err(Problem::Range);
    }
    // SAFETY: the allocation holds the header and all bytes.
    unsafe {
        let size = pg_sys::VARHDRSZ + bytes.len();
        let value = pg_sys::palloc(size).cast::<u8>();
        pgrx::varlena::set_varsize_4b(value.cast(), size as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.add(pg_sys::VARHDRSZ), bytes.len());
        Ok(pg_sys::Datum::from(value))
    }
}

/// Calls a function of PostgreSQL's that reads text, and has no effect but its result. Its error is what is wrong
/// with the text; errors of other kinds go on.
fn refused<T>(call: impl FnOnce() -> T) -> Result<T, Problem> {
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(call())))
        .catch_others(|error| match &error {
            CaughtError::PostgresError(report) if is_about_data(report.sql_error_code()) => {
                Err(Problem::Refused(report.message().to_owned()))
            }
            _ => error.rethrow(),
        })
        .execute()
}

/// Whether an error is one of class 22, "data exception", or 54, "program limit exceeded": JSON that is nested too
/// deeply, for one.
fn is_about_data(code: pgrx::PgSqlErrorCode) -> bool {
    let class = |class: [u8; 2]| u32::from(class[0] - b'0') | u32::from(class[1] - b'0') << 6;
    let first_two = code as u32 & 0xfff;
    first_two == class(*b"22") || first_two == class(*b"54")
}
