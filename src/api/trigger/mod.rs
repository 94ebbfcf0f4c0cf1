//! Triggers that keep vectors true to their texts, and attaching them to tables.

pub(super) mod attach;
mod changes;
pub(super) mod chunks;
mod later;
mod row;
mod statement;
