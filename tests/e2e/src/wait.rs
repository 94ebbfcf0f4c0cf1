//! Waiting for what another process does.

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
