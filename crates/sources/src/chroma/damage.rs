//! What can be wrong with the files of an index. None of it costs a document: its vectors are taken from the queue
//! where that has them, and are NULL elsewhere.

use std::io;

use thiserror::Error;

use crate::pickle::PickleFault;

/// What is wrong with a collection's index.
#[derive(Debug, Error)]
pub enum IndexDamage {
    /// Its folder is gone, though the database says that vectors were written to it.
    #[error("the index's folder \"{folder}\" is missing")]
    NoFolder {
        /// Its name, the id of the segment.
        folder: String,
    },
    /// A file is missing, or cut off.
    #[error("file \"{file}\" of the index cannot be read: {error}")]
    Unreadable {
        /// Folder and name.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// The file of labels is damaged.
    #[error("file \"{file}\" of the index is damaged: {fault}")]
    Pickle {
        /// Folder and name.
        file: String,
        /// How.
        fault: PickleFault,
    },
    /// The file of labels holds something else.
    #[error("file \"{file}\" of the index is damaged: it holds no labels of ids")]
    NoLabels {
        /// Folder and name.
        file: String,
    },
    /// The file of labels is larger than any that is read.
    #[error("file \"{file}\" of the index has {bytes} bytes, which is more than is read")]
    TooLarge {
        /// Folder and name.
        file: String,
        /// Its size.
        bytes: u64,
    },
    /// The header is damaged.
    #[error("file \"{file}\" of the index is damaged: {why}")]
    Header {
        /// Folder and name.
        file: String,
        /// How.
        why: String,
    },
    /// There are fewer vectors than the header says.
    #[error("file \"{file}\" of the index is cut off: it holds {held} of {said} vectors")]
    Data {
        /// Folder and name.
        file: String,
        /// Whole ones that it holds.
        held: u64,
        /// How many there were.
        said: u64,
    },
    /// A vector's stored numbers are no numbers.
    #[error("file \"{file}\" of the index is damaged: a vector in it is not finite")]
    NotFinite {
        /// Folder and name.
        file: String,
    },
    /// A vector's length is none that it can have had.
    #[error("file \"{file}\" of the index is damaged: a length in it is none of a vector")]
    Length {
        /// Folder and name.
        file: String,
    },
    /// A vector in the queue cannot be read.
    #[error("the vector of write {number} in the queue is damaged")]
    Queue {
        /// The write's number.
        number: i64,
    },
}
