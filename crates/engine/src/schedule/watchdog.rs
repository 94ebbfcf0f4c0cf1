//! Noticing a batch that does not end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A batch takes some tens of milliseconds. On a machine under heavy load it takes longer, but not that long.
const STUCK: Duration = Duration::from_secs(60);

/// Knows since when a batch has been computed.
#[derive(Default)]
pub(super) struct Watchdog(Mutex<Option<Instant>>);

impl Watchdog {
    /// A batch is computed as long as what this returns lives.
    pub(super) fn watch(&self) -> Watched<'_> {
        self.set(Some(Instant::now()));
        Watched(self)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|begin| begin.elapsed() > STUCK)
    }

    fn set(&self, value: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// A batch that is computed.
pub(super) struct Watched<'a>(&'a Watchdog);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_batch_that_panics_is_not_watched_any_more() {
        let watchdog = Watchdog::default();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _watched = watchdog.watch();
            assert!(watchdog.0.lock().expect("nobody panics with it").is_some());
            panic!("as a model might");
        }));
        assert!(panicked.is_err());
        assert!(watchdog.0.lock().expect("nobody panics with it").is_none());
    }
}
