//! Waiting for what another process or thread does.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; waits end as soon as there is something to see.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks until there is something, and returns it.
pub fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Looks until it is so.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    found(what, || look().then_some(()));
}

/// Where threads wait for each other, as often as they like, but not for ever for one that has failed.
#[derive(Debug)]
pub struct Together {
    count: usize,
    arrivals: Mutex<usize>,
    all_arrived: Condvar,
}

impl Together {
    /// For so many threads.
    pub fn of(count: usize) -> Self {
        Self { count, arrivals: Mutex::new(0), all_arrived: Condvar::new() }
    }

    /// Waits until all are here.
    pub fn wait(&self) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        *arrivals += 1;
        let all = arrivals.div_ceil(self.count) * self.count;
        self.all_arrived.notify_all();
        let is_early = |arrivals: &mut usize| *arrivals < all;
        let waited = self.all_arrived.wait_timeout_while(arrivals, LIMIT, is_early);
        let (arrivals, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(arrivals);
        assert!(!outcome.timed_out(), "not within {LIMIT:?}: all are here");
    }
}
