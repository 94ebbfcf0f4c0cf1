//! Reading and writing the primitive values that payloads are made of.

use thiserror::Error;

/// Why a payload could not be read. The connection that sent it is closed; nothing else is affected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The payload ended inside a value.
    #[error("payload ends inside {0}")]
    Truncated(&'static str),
    /// Bytes were left over after the last value.
    #[error("{0} bytes follow the last value")]
    Trailing(usize),
    /// A length exceeds its limit.
    #[error("{what} of {length} exceeds the limit of {limit}")]
    TooLong {
        /// The value whose length it is.
        what: &'static str,
        /// The length found.
        length: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// A string is not UTF-8.
    #[error("{0} is not valid UTF-8")]
    NotUtf8(&'static str),
    /// A string is not a model's hash.
    #[error("{0} is not 64 hexadecimal digits")]
    NotHash(&'static str),
    /// A code names nothing that this side knows.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What the code should have named.
        what: &'static str,
        /// The code found.
        value: u64,
    },
}

/// Takes values off the front of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(crate) fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::Unknown { what, value: value.into() }),
        }
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A `u32` that counts something of which at most `limit` are allowed.
    pub(crate) fn count(&mut self, limit: usize, what: &'static str) -> Result<usize, Malformed> {
        let length = self.u32(what)? as usize;
        if length > limit {
            return Err(Malformed::TooLong { what, length, limit });
        }
        Ok(length)
    }

    pub(crate) fn string(&mut self, limit: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let length = self.count(limit, what)?;
        std::str::from_utf8(self.bytes(length, what)?).map_err(|_| Malformed::NotUtf8(what))
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.rest.len())) }
    }
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_string(out: &mut Vec<u8>, value: &str) {
    put_u32(out, value.len() as u32);
    out.extend_from_slice(value.as_bytes());
}

/// The longest prefix of `text` within `limit` bytes that ends at a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
