//! Triggers that keep a chunk table true to a table of documents, and attaching them.

pub(in crate::api) mod attach;
pub(super) mod status;
pub(in crate::api) mod sync;
