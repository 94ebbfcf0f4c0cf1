//! What SQL sees, one file a topic. The SQL declarations are in `sql/schema`.

mod chunk;
mod embed;
mod queue;
mod moving;
mod status;
mod trigger;
