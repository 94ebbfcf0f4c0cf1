//! Starting background workers.

use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime};
use pgrx::pg_sys;
use std::time::Duration;

use crate::error::Error;

/// The supervisor's entry point in this library, see `worker`.
const SUPERVISOR: &str = "vector_embed_supervisor_main";

/// The supervisor as a background worker. It works on shared memory alone, so that it also runs on a hot
/// standby and keeps no database from being dropped.
pub(crate) fn supervisor() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("vector_embed supervisor")
        .set_type("vector_embed supervisor")
        .set_library("vector_embed")
        .set_function(SUPERVISOR)
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(Duration::from_secs(1)))
}

/// Starts the supervisor and waits until it has started. It may have exited since, if there was one already.
pub(crate) fn start_supervisor() -> Result<(), Error> {
    // SAFETY: set once when the process starts.
    let pid = unsafe { pg_sys::MyProcPid };
    let worker = supervisor().set_notify_pid(pid).load_dynamic().map_err(|_| Error::NoWorkerSlot)?;
    match worker.wait_for_startup() {
        Ok(_) | Err(BackgroundWorkerStatus::Stopped) => Ok(()),
        Err(_) => Err(Error::Unavailable { detail: "The server is shutting down.".to_owned() }),
    }
}

/// Reads the configuration files again, in a background worker that was told to.
pub(crate) fn reload_settings() {
    // SAFETY: called from the worker's main loop, where no setting is in use.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}
