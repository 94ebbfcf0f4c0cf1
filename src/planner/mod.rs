//! Planning of calls to `embed`: those without variables once per execution, all others in batches.

mod batch;
mod function;
mod hook;
mod nodes;
mod once;

pub(crate) use hook::install;
