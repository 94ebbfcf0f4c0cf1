//! Whose turn it is: start-time fair queueing.
//!
//! Each caller has a tag that grows by the work done for it, and the smallest tag is next. A caller who comes back
//! after a pause starts at the tag of who is being served, so that a pause saves nothing up; one who comes back at once
//! starts where it has stopped, so that many small requests have no advantage over a large one.

use std::collections::HashMap;

/// The clock by which callers take turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    now: u64,
    /// Tags of callers who have nothing to do and are ahead of the clock.
    ahead: HashMap<u64, u64>,
}

impl Turns {
    /// The tag of a caller who had nothing to do until now.
    pub(super) fn enter(&mut self, caller: u64) -> u64 {
        self.ahead.remove(&caller).unwrap_or(0).max(self.now)
    }

    /// The caller with this tag is served.
    pub(super) fn serve(&mut self, tag: u64) {
        if tag > self.now {
            self.now = tag;
            self.ahead.retain(|_, ahead| *ahead > tag);
        }
    }

    /// A caller with this tag has nothing more to do.
    pub(super) fn leave(&mut self, caller: u64, tag: u64) {
        if tag > self.now {
            self.ahead.insert(caller, tag);
        }
    }

    /// Nobody has anything to do.
    pub(super) fn rest(&mut self) {
        self.ahead.clear();
    }
}
