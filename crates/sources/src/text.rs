//! Text that PostgreSQL can have: UTF-8 without NUL.

use crate::error::Problem;

/// More make a text of more than a gigabyte.
const MAX_HEX_BYTES: usize = 1 << 29;

/// What becomes of text that PostgreSQL cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvalidText {
    /// It does not fit.
    #[default]
    Error,
    /// What is wrong with it is left out.
    Strip,
    /// Its bytes are told as hexadecimal digits after `\x`, as `bytea` has them.
    Hex,
}

/// Text as PostgreSQL can have it. `scratch` is where it is put together if it is not so already.
pub(crate) fn fitting<'a>(
    bytes: &'a [u8],
    invalid_text: InvalidText,
    scratch: &'a mut String,
) -> Result<&'a str, Problem> {
    let problem = match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => return Ok(text),
        Ok(_) => Problem::Nul,
        Err(_) => Problem::Encoding,
    };
    scratch.clear();
    match invalid_text {
        InvalidText::Error => return Err(problem),
        InvalidText::Strip => strip(bytes, scratch),
        InvalidText::Hex if bytes.len() > MAX_HEX_BYTES => return Err(Problem::Range),
        InvalidText::Hex => {
            scratch.push_str("\\x");
            let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            scratch.extend(halves.map(|half| char::from(b"0123456789abcdef"[usize::from(half)])));
        }
    }
    Ok(scratch)
}

/// Leaves out NULs and what is not UTF-8.
fn strip(bytes: &[u8], scratch: &mut String) {
    for chunk in bytes.utf8_chunks() {
        chunk.valid().split('\0').for_each(|part| scratch.push_str(part));
    }
}
