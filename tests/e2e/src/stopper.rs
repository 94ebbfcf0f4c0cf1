//! Ending what other threads do: tests wait for their threads, also when they fail.

use std::sync::atomic::{AtomicBool, Ordering};

use postgres::{CancelToken, Client, NoTls};

use crate::process::{self, Pid, Signal};
use crate::sql::backend;

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

/// Ends a session when the test fails, which would otherwise wait for what the session does. Made in the scope of the
/// thread that has the session, before the thread.
pub struct Canceller {
    session: Pid,
    token: CancelToken,
}

impl Canceller {
    /// The one of a session.
    pub fn of(session: &mut Client) -> Self {
        Self { session: backend(session), token: session.cancel_token() }
    }

    /// Cancels what the session does, as a client can.
    pub fn cancel(&self) {
        self.token.cancel_query(NoTls).expect("a cancel");
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        // A cancel would be lost on a session that has not begun yet.
        if std::thread::panicking() {
            process::send(self.session, Signal::TERM);
        }
    }
}
