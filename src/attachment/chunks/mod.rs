//! Chunk tables: what keeps one true to a table of documents.

pub(crate) mod link;
pub(crate) mod options;
pub(crate) mod passages;
