//! Safe wrappers over what PostgreSQL offers in C.

pub(crate) mod answer;
pub(crate) mod background;
pub(crate) mod descriptor;
pub(crate) mod engine;
pub(crate) mod exact;
pub(crate) mod identity;
pub(crate) mod latch;
pub(crate) mod lookup;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod nodes;
pub(crate) mod paths;
pub(crate) mod procedure;
pub(crate) mod queue_notes;
mod receiver;
pub(crate) mod relation;
pub(crate) mod row;
pub(crate) mod runtime_dir;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod spi;
pub(crate) mod statement;
pub(crate) mod table;
pub(crate) mod table_triggers;
pub(crate) mod text;
pub(crate) mod transaction;
pub(crate) mod transition;
pub(crate) mod trigger;
pub(crate) mod types;
pub(crate) mod unguarded;
pub(crate) mod vector;
pub(crate) mod wake;
pub(crate) mod warning;

/// Keeps Rust from taking a backtrace for every ERROR, which would go to the client as DETAIL and cost 100 ms
/// the first time. The server's environment is not ours to rely on.
pub(crate) fn no_backtraces() {
    // SAFETY: PostgreSQL processes have one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::remove_var("RUST_BACKTRACE") };
}
