//! Text arguments as UTF-8, whatever the server's encoding.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{IntoDatum, pg_sys};

use crate::error::{Error, OrRaise};

/// A `text` argument, detoasted and in UTF-8. Borrows from the argument where nothing had to be converted.
#[derive(Debug)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'a> Text<'a> {
    /// # Safety
    ///
    /// `datum` must be a `text` that is not NULL and lives as long as `'a`, as must the current memory context.
    pub(crate) unsafe fn from_datum(datum: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: a text datum points to a varlena, and the detoasted one is valid for its stated length.
        let bytes: &'a [u8] = unsafe {
            let varlena = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            let data = pgrx::varlena::vardata_any(varlena).cast::<u8>();
            std::slice::from_raw_parts(data, pgrx::varlena::varsize_any_exhdr(varlena))
        };
        Self::from_server(Cow::Borrowed(bytes))
    }

    /// Text of the server's encoding.
    pub(crate) fn from_server(bytes: Cow<'a, [u8]>) -> Result<Self, Error> {
        match encoding() {
            // SQL_ASCII promises nothing of its bytes; for UTF8 the server has checked them already, and this
            // check costs next to nothing.
            pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII => match bytes {
                Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed),
                Cow::Owned(bytes) => {
                    String::from_utf8(bytes).map(Cow::Owned).map_err(|error| error.utf8_error())
                }
            }
            .map(Self)
            .map_err(|error| Error::NotUtf8 { byte: error.valid_up_to() + 1 }),
            encoding => Ok(Self(Cow::Owned(convert(&bytes, encoding, pg_sys::pg_enc::PG_UTF8)))),
        }
    }
}

fn encoding() -> u32 {
    // SAFETY: reads a setting of the process.
    unsafe { pg_sys::GetDatabaseEncoding() as u32 }
}

/// A name or comment of the server's. What is not UTF-8 in a database with encoding SQL_ASCII is replaced.
pub(crate) fn from_server(text: &CStr) -> String {
    match encoding() {
        pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII => text.to_string_lossy().into_owned(),
        _ if text.to_bytes().is_ascii() => text.to_string_lossy().into_owned(),
        encoding => convert(text.to_bytes(), encoding, pg_sys::pg_enc::PG_UTF8),
    }
}

/// SQL or a name for the server, in its encoding. Ends at the first NUL, which neither can have.
pub(crate) fn to_server(text: &str) -> CString {
    let bytes = match encoding() {
        pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII => text.as_bytes().to_vec(),
        _ if text.is_ascii() => text.as_bytes().to_vec(),
        encoding => convert_bytes(text.as_bytes(), pg_sys::pg_enc::PG_UTF8, encoding),
    };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).expect("no NUL is left")
}

/// Text for the server, in its encoding; raises PostgreSQL's own error for characters that it does not have.
pub(crate) fn encode(text: &str) -> Cow<'_, [u8]> {
    match encoding() {
        pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII => Cow::Borrowed(text.as_bytes()),
        _ if text.is_ascii() => Cow::Borrowed(text.as_bytes()),
        encoding => Cow::Owned(convert_bytes(text.as_bytes(), pg_sys::pg_enc::PG_UTF8, encoding)),
    }
}

/// Whether the server has UTF-8 as it is, or does not look.
pub(super) fn is_utf8() -> bool {
    matches!(encoding(), pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII)
}

/// Text of ours with escapes for characters beyond ASCII, where the server does not have UTF-8.
pub(crate) fn escaped(text: &str) -> String {
    if is_utf8() || text.is_ascii() {
        return text.to_owned();
    }
    text.chars().map(escape).collect()
}

/// An SQLSTATE as it is written.
pub(crate) fn sqlstate(code: pgrx::PgSqlErrorCode) -> String {
    // SAFETY: returns a buffer of the server's that ends with NUL.
    unsafe { CStr::from_ptr(pg_sys::unpack_sql_state(code as i32)) }.to_string_lossy().into_owned()
}

fn escape(c: char) -> String {
    if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
}

/// Text for the server, in its encoding, with escapes for what that does not have.
pub(super) fn to_server_or_escaped(text: &str) -> CString {
    let mut bytes = Vec::new();
    let mut rest = text.replace('\0', "");
    // SAFETY: reads a state of the process, and the catalogs in a transaction only.
    let conversion = unsafe {
        let (from, to) = (pg_sys::pg_enc::PG_UTF8 as i32, encoding() as i32);
        match pg_sys::IsTransactionState() {
            true => pg_sys::FindDefaultConversionProc(from, to),
            false => pg_sys::InvalidOid,
        }
    };
    while !rest.is_empty() && conversion != pg_sys::InvalidOid {
        // A character of UTF-8 has at most so many bytes in any other encoding.
        let mut converted = vec![0_u8; rest.len() * 4 + 1];
        // SAFETY: reads as many bytes as there are, writes no more than there is room for, and a NUL.
        let read = unsafe {
            pg_sys::pg_do_encoding_conversion_buf(
                conversion,
                pg_sys::pg_enc::PG_UTF8 as i32,
                encoding() as i32,
                rest.as_mut_ptr(),
                rest.len() as i32,
                converted.as_mut_ptr(),
                converted.len() as i32,
                true,
            )
        };
        bytes.extend(converted.iter().take_while(|byte| **byte != 0));
        rest.drain(..read as usize);
        // Where it stopped is a character that is not there.
        if !rest.is_empty() {
            bytes.extend(escape(rest.remove(0)).bytes());
        }
    }
    bytes.extend(escaped(&rest).bytes());
    CString::new(bytes).unwrap_or_default()
}

/// How many characters the server counts in a text, as by `char_length`; not more than a value can have.
pub(crate) fn characters(text: &str) -> i32 {
    let count = match encoding() {
        pg_sys::pg_enc::PG_UTF8 => text.chars().count(),
        // Every byte is a character there.
        pg_sys::pg_enc::PG_SQL_ASCII => text.len(),
        _ if text.is_ascii() => text.len(),
        encoding => {
            let bytes = convert_bytes(text.as_bytes(), pg_sys::pg_enc::PG_UTF8, encoding);
            // SAFETY: reads as many bytes as there are, all of characters of the server's encoding.
            return unsafe { pg_sys::pg_mbstrlen_with_len(bytes.as_ptr().cast(), bytes.len() as i32) };
        }
    };
    count as i32
}

/// Converts to UTF-8; raises PostgreSQL's own error for characters that it does not have.
fn convert(bytes: &[u8], from: u32, to: u32) -> String {
    let bytes = convert_bytes(bytes, from, to);
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Converts between encodings; raises PostgreSQL's own error for characters that the target does not have.
fn convert_bytes(bytes: &[u8], from: u32, to: u32) -> Vec<u8> {
    // SAFETY: the function reads `len` bytes, and returns either its argument or a palloc'd string with NUL.
    unsafe {
        let source = bytes.as_ptr().cast_mut();
        let result = pg_sys::pg_do_encoding_conversion(source, bytes.len() as i32, from as i32, to as i32);
        if result == source {
            return bytes.to_vec();
        }
        let converted = CStr::from_ptr(result.cast()).to_bytes().to_vec();
        pg_sys::pfree(result.cast());
        converted
    }
}

/// A `text` result with a name in it, in the server's encoding.
#[derive(Debug, Clone)]
pub(crate) struct ServerText(pub(crate) String);

impl IntoDatum for ServerText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: copies a string that ends with NUL.
        Some(unsafe { pg_sys::cstring_to_text(to_server(&self.0).as_ptr()) }.into())
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

// SAFETY: the datum is what the SQL declaration says, `text`.
unsafe impl BoxRet for ServerText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        let datum = self.into_datum().unwrap_or(pg_sys::Datum::null());
        // SAFETY: made in the memory context of this call.
        unsafe { fcinfo.return_raw_datum(datum) }
    }
}

// SAFETY: the argument's datum is read as what the SQL declaration says, `text`.
unsafe impl<'fcx> ArgAbi<'fcx> for Text<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions are STRICT, so the argument is not NULL; it lives as long as the call.
        let text = unsafe { arg.unbox_arg_using_from_datum::<pg_sys::Datum>() }
            .map(|datum| unsafe { Self::from_datum(datum) });
        text.expect("a STRICT function is not called with NULL").or_raise()
    }
}
