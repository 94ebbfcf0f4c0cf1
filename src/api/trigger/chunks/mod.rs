//! Triggers that keep a chunk table true to a table of documents, and attaching them.

mod attach;
mod link;
mod options;
pub(super) mod status;
mod sync;
