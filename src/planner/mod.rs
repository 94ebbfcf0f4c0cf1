//! Planning of calls to `embed`.

mod once;
