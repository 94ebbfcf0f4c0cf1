//! Counting a file descriptor that PostgreSQL does not know of.

use pgrx::pg_sys;

/// One descriptor kept open beside those that PostgreSQL manages, so that it does not count on more than the
/// system allows.
#[derive(Debug)]
pub(crate) struct ReservedDescriptor {
    granted: bool,
}

impl ReservedDescriptor {
    pub(crate) fn new() -> Self {
        // SAFETY: only counts. Without a free place the descriptor is used all the same, it is open already.
        let granted = unsafe { pg_sys::AcquireExternalFD() };
        Self { granted }
    }
}

impl Drop for ReservedDescriptor {
    fn drop(&mut self) {
        if self.granted {
            // SAFETY: gives back what was acquired.
            unsafe { pg_sys::ReleaseExternalFD() };
        }
    }
}
