//! The transaction that is under way.

use pgrx::pg_sys;

/// A subtransaction, or the transaction itself, told from all others of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subtransaction {
    /// Start of the transaction; subtransactions are numbered within it.
    start: pg_sys::TimestampTz,
    number: pg_sys::SubTransactionId,
}

impl Subtransaction {
    pub(crate) fn current() -> Self {
        // SAFETY: reads variables of the process.
        let number = unsafe { pg_sys::GetCurrentSubTransactionId() };
        Self { start: start(), number }
    }

    /// Whether it has not ended.
    pub(crate) fn is_active(self) -> bool {
        // SAFETY: looks through the transactions under way.
        self.start == start() && unsafe { pg_sys::SubTransactionIsActive(self.number) }
    }
}

fn start() -> pg_sys::TimestampTz {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}
