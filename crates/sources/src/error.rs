//! What can go wrong with a store.

use std::path::Path;
use std::rc::Rc;
use std::{fmt, io};

use thiserror::Error;

use crate::chroma::IndexDamage;

/// Why a store cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Host::interrupted`](crate::Host::interrupted) said so.
    #[error("interrupted")]
    Interrupted,
    /// It is not there, or not what it should be.
    #[error("could not open {what} \"{path}\"")]
    Open {
        /// Kind of store.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What is wrong, as a sentence.
        detail: String,
        /// What to do, as a sentence.
        hint: Option<String>,
    },
    /// It changed whenever it was copied.
    #[error("{what} \"{path}\" keeps changing while it is copied")]
    Changing {
        /// Kind of store.
        what: &'static str,
        /// Where it is.
        path: String,
    },
    /// A copy would exceed what it may take.
    #[error("a copy of {what} \"{path}\" would bring copies to {bytes} bytes of temporary space")]
    TooLarge {
        /// Kind of store.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Its size, with that of copies that are used still.
        bytes: u64,
    },
    /// Its structure is damaged.
    #[error("{what} \"{path}\" is damaged")]
    Damaged {
        /// Kind of store.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What is wrong, as a sentence.
        detail: String,
    },
    /// It could not be read for another reason.
    #[error("could not read table \"{table}\": {detail}")]
    Read {
        /// Name of the table.
        table: String,
        /// What is wrong, as a sentence.
        detail: String,
    },
    /// There is no such table.
    #[error("table \"{table}\" does not exist in {place}")]
    NoTable {
        /// Name of the table.
        table: String,
        /// What has none such.
        place: String,
    },
    /// There is no such column.
    #[error("column \"{column}\" does not exist in table \"{table}\" of {place}")]
    NoColumn {
        /// Name of the column.
        column: String,
        /// Name of the table.
        table: String,
        /// What has none such.
        place: String,
    },
    /// A table cannot be declared in PostgreSQL.
    #[error("table \"{table}\" cannot be imported: {reason}")]
    Unimportable {
        /// Name of the table.
        table: String,
        /// Why, as the rest of the sentence.
        reason: String,
    },
    /// Values of the column cannot be given as this type.
    #[error("column \"{column}\" of table \"{table}\" cannot be read as {wanted}")]
    Type {
        /// Name of the column.
        column: String,
        /// Name of the table.
        table: String,
        /// The type.
        wanted: String,
        /// What to do, as a sentence.
        hint: Option<String>,
    },
    /// A value does not fit.
    #[error(transparent)]
    Value(Box<BadValue>),
    /// There is no such database in the store.
    #[error("database \"{schema}\" does not exist in {place}")]
    NoSchema {
        /// Name of the database.
        schema: String,
        /// What has none such.
        place: String,
    },
    /// The vector of a row is gone, with the damage that explains it, if one is known.
    #[error("vector of id \"{id}\" in collection \"{collection}\" cannot be recovered")]
    NoVector {
        /// Name of the collection.
        collection: String,
        /// Whose vector it is.
        id: String,
        /// What explains it.
        damage: Option<Rc<IndexDamage>>,
    },
    /// The vector of a row has lost its length.
    #[error("length of the vector of id \"{id}\" in collection \"{collection}\" cannot be recovered")]
    NoLength {
        /// Name of the collection.
        collection: String,
        /// Whose vector it is.
        id: String,
        /// What explains it.
        damage: Box<IndexDamage>,
    },
    /// A server gave no answer that can be used.
    #[error("could not get an answer of the server at {address}")]
    Server {
        /// Where it is.
        address: String,
        /// What is wrong, as a sentence.
        detail: String,
    },
    /// A server's answer is not what was asked for.
    #[error("the answer of the server at {address} makes no sense")]
    Answer {
        /// Where it is.
        address: String,
        /// What is wrong, as a sentence.
        detail: String,
    },
    /// A server's answer is beyond what is read.
    #[error("the answer of the server at {address} exceeds {limit} bytes")]
    LongAnswer {
        /// Where it is.
        address: String,
        /// Most bytes that are read.
        limit: u64,
    },
    /// What authenticates would be readable on its way.
    #[error("what authenticates would be sent to {address} in plain text")]
    PlainCredentials {
        /// Where it is.
        address: String,
    },
    /// A server refused a request.
    #[error("the server at {address} refused a request")]
    Refused {
        /// Where it is.
        address: String,
        /// HTTP's number for the reason.
        status: u16,
        /// What it was asked and what it said, as a sentence.
        detail: String,
    },
    /// Chroma writes the files that are read.
    #[error("index of collection \"{collection}\" is being written")]
    IndexChanging {
        /// Name of the collection.
        collection: String,
    },
}

impl Error {
    /// What the system says of a file.
    pub(crate) fn open(what: &'static str, path: &Path, error: &io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::NotFound => "The file does not exist.".to_owned(),
            io::ErrorKind::PermissionDenied => "The server's user may not read it.".to_owned(),
            _ => format!("The system says: {error}."),
        };
        Self::Open { what, path: path.display().to_string(), detail, hint: None }
    }
}

/// A value that does not fit its column's type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("value in column \"{column}\" of table \"{table}\" cannot be read as {wanted}")]
pub struct BadValue {
    /// Table or view.
    pub table: String,
    /// What names the row, such as `rowid 7`.
    pub row: String,
    /// Its column.
    pub column: String,
    /// Type that was asked for.
    pub wanted: String,
    /// The value as one would write it, cut to a readable length.
    pub value: String,
    /// Why it does not.
    pub problem: Problem,
}

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Another kind of value than the type takes, such as text for a number.
    Kind(&'static str),
    /// It is text that does not tell such a value.
    Syntax,
    /// It is beyond the type's range.
    Range,
    /// The type would round it.
    Inexact,
    /// It is empty text.
    Empty,
    /// It is text with a NUL byte.
    Nul,
    /// It is text that is not valid in its encoding.
    Encoding,
    /// It is a vector of another number of dimensions.
    Dimensions {
        /// As declared.
        expected: u16,
        /// As there are.
        found: usize,
    },
    /// PostgreSQL does not take it, for the reason told.
    Refused(String),
    /// It is a vector with a number that is infinite or not a number.
    NotFinite,
}

impl fmt::Display for Problem {
    /// What goes on after "the value".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "is {kind}"),
            Self::Syntax => f.write_str("is malformed"),
            Self::Range => f.write_str("is out of range"),
            Self::Inexact => f.write_str("cannot be represented exactly"),
            Self::Empty => f.write_str("is empty"),
            Self::Nul => f.write_str("contains a NUL byte"),
            Self::Encoding => f.write_str("is not valid in its encoding"),
            Self::Dimensions { expected, found } => {
                write!(f, "has {found} dimensions instead of {expected}")
            }
            Self::Refused(reason) => write!(f, "is refused: {reason}"),
            Self::NotFinite => f.write_str("has a number that is not finite"),
        }
    }
}
