//! Memory that is let go before the call ends.

use pgrx::{PgMemoryContexts, pg_sys};

/// A memory context for what PostgreSQL's functions allocate, emptied again and again.
#[derive(Debug)]
pub(crate) struct Scratch(PgMemoryContexts);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(PgMemoryContexts::new("vector_embed"))
    }

    /// Calls `work` while its allocations go here. What it returns must not live longer than the next reset.
    pub(crate) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: switching to a context that lives, and back.
        unsafe { self.0.switch_to(|_| work()) }
    }

    pub(crate) fn reset(&mut self) {
        // SAFETY: the context lives, and has no children.
        unsafe { pg_sys::MemoryContextReset(self.0.value()) };
    }
}
