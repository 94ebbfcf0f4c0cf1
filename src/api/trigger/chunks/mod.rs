//! Triggers that keep a chunk table true to a table of documents, and attaching them.

mod attach;
pub(super) mod status;
mod sync;
