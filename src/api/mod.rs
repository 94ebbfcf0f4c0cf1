//! What SQL sees, one file a topic. The SQL declarations are in `sql/schema`.

mod backfill;
mod chunk;
mod embed;
mod moving;
mod queue;
mod reembed;
mod status;
mod trigger;
