//! Values, typed as PostgreSQL has them.

use std::fmt;

/// Dimensions that pgvector's `vector` has at most.
pub(crate) const MAX_DIMENSIONS: usize = 16_000;

/// A type that a reader can give values of. Each is one of PostgreSQL's, or pgvector's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `boolean`.
    Boolean,
    /// `smallint`.
    Smallint,
    /// `integer`.
    Integer,
    /// `bigint`.
    Bigint,
    /// `real`.
    Real,
    /// `double precision`.
    Double,
    /// `numeric`.
    Numeric,
    /// `text`, `varchar`, or `char`; lengths are the caller's to check.
    Text,
    /// `bytea`.
    Bytea,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `timestamp without time zone`.
    Timestamp,
    /// `date`.
    Date,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `uuid`.
    Uuid,
    /// `vector`, with that many dimensions if the declaration tells.
    Vector(Option<u16>),
}

impl fmt::Display for Type {
    /// As it is written in SQL, but for the schema of `vector`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Smallint => "smallint",
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Real => "real",
            Self::Double => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Timestamptz => "timestamp with time zone",
            Self::Timestamp => "timestamp without time zone",
            Self::Date => "date",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Uuid => "uuid",
            Self::Vector(None) => "vector",
            Self::Vector(Some(dimensions)) => return write!(f, "vector({dimensions})"),
        })
    }
}

/// A value of a [`Type`], borrowed from the row that is being read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// Of `boolean`.
    Boolean(bool),
    /// Of `smallint`, `integer` or `bigint`, and in its range.
    Integer(i64),
    /// Of `real` or `double precision`.
    Float(f64),
    /// Digits as `numeric_in` reads them.
    Numeric(&'a str),
    /// UTF-8 without NUL.
    Text(&'a str),
    /// Of `bytea`.
    Bytea(&'a [u8]),
    /// Microseconds since 2000-01-01 00:00 UTC, or, of `timestamp`, without a zone.
    Timestamp(i64),
    /// Days since 2000-01-01.
    Date(i32),
    /// Of `json` or `jsonb`, without NUL. Whether it is well-formed, PostgreSQL tells.
    Json(&'a str),
    /// Of `uuid`.
    Uuid([u8; 16]),
    /// Finite numbers.
    Vector(&'a [f32]),
}

/// A UUID as text: its digits, with hyphens in their places or without, and in braces or not.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = match bare.len() {
        32 => bare.bytes().all(|byte| byte.is_ascii_hexdigit()),
        36 => bare
            .bytes()
            .enumerate()
            .all(|(at, byte)| if is_hyphen(at) { byte == b'-' } else { byte.is_ascii_hexdigit() }),
        _ => false,
    };
    let number = u128::from_str_radix(&bare.replace('-', ""), 16).ok().filter(|_| fits)?;
    Some(number.to_be_bytes())
}
