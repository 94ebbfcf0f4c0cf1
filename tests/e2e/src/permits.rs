//! How many clusters run at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// Clusters beside each other; each may keep all processors busy.
const CLUSTERS: usize = 2;

static FREE: Mutex<usize> = Mutex::new(CLUSTERS);
static CHANGED: Condvar = Condvar::new();

/// The right to run a cluster, given back when dropped. Nobody who has one may wait for another.
#[derive(Debug)]
pub struct Permit(usize);

impl Permit {
    /// Waits for the right to run a cluster beside others.
    pub fn one() -> Self {
        Self::take(1)
    }

    /// Waits until no cluster runs, for the right to be the only one.
    pub fn all() -> Self {
        Self::take(CLUSTERS)
    }

    fn take(count: usize) -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = CHANGED.wait_while(free, |free| *free < count).unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Self(count)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        CHANGED.notify_all();
    }
}
