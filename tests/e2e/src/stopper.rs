//! Ending threads that go round in loops.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when dropped, also when a test fails: loops that look at it end, and so does the test.
#[derive(Debug)]
pub struct Stopper<'a>(&'a AtomicBool);

impl<'a> Stopper<'a> {
    /// A stopper of the loops that look at `flag`.
    pub fn of(flag: &'a AtomicBool) -> Self {
        Self(flag)
    }
}

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
