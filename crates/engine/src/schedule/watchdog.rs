//! Noticing a batch that does not end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A batch takes some tens of milliseconds. On a machine under heavy load it takes longer, but not that long.
const STUCK: Duration = Duration::from_secs(60);

/// Knows since when a batch has been computed.
#[derive(Default)]
pub(super) struct Watchdog(Mutex<Option<Instant>>);

impl Watchdog {
    pub(super) fn begin(&self) {
        self.set(Some(Instant::now()));
    }

    pub(super) fn end(&self) {
        self.set(None);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|begin| begin.elapsed() > STUCK)
    }

    fn set(&self, value: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
