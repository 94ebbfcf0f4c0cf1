//! Background workers: the supervisor, which keeps one engine running for the whole server, and the queue workers that it
//! starts.

mod dispatch;
mod engine_process;
mod queue;
mod serve;
mod supervisor;

use pgrx::pg_sys;

use crate::pg::background;

/// Registers the supervisor to start with the server, where the library is in `shared_preload_libraries`.
pub(crate) fn register_if_preloading() {
    // SAFETY: both are set before any library is loaded.
    let (preloading, upgrading) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::IsBinaryUpgrade) };
    // pg_upgrade's servers run no triggers and answer no queries that need vectors.
    if preloading && !upgrading {
        background::supervisor().load();
    }
}
