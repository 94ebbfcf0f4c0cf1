//! Triggers that keep vectors true to their texts, and attaching them to tables.

mod attach;
mod chunks;
mod later;
mod row;
mod statement;
