//! Triggers that keep vectors true to their texts, and attaching them to tables.

mod attach;
mod attachment;
mod row;
mod statement;
mod target;
