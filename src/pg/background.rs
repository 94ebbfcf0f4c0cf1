//! Starting background workers.

use pgrx::bgworkers::{
    BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
};
use pgrx::pg_sys;
use std::time::Duration;

use crate::error::Error;

mod c {
    unsafe extern "C-unwind" {
        // Of tcop/tcopprot.h and postmaster/interrupt.h. pgrx has functions around them, which are none for signals.
        pub(super) fn die(signal: i32);
        pub(super) fn SignalHandlerForConfigReload(signal: i32);
    }
}

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

/// The entry point of queue workers in this library, see `worker`.
const QUEUE_WORKER: &str = "vector_embed_queue_worker_main";

/// A worker that the supervisor has started.
pub(crate) struct QueueWorker(DynamicBackgroundWorker);

impl QueueWorker {
    /// Starts a worker that serves the queues of a database, or, without one, lists the databases. `None` if no slot is
    /// free. It is never started again by itself: what it leaves is for the supervisor to see to.
    pub(crate) fn start(database: Option<u32>) -> Option<Self> {
        // SAFETY: set once when the process starts.
        let pid = unsafe { pg_sys::MyProcPid };
        BackgroundWorkerBuilder::new("vector_embed queue worker")
            .set_type("vector_embed queue worker")
            .set_library("vector_embed")
            .set_function(QUEUE_WORKER)
            .enable_spi_access()
            .set_argument(Some(pg_sys::Datum::from(database.unwrap_or(0))))
            .set_notify_pid(pid)
            .load_dynamic()
            .ok()
            .map(Self)
    }

    /// Its process id, if it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.0.pid().ok()
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.0.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
    }

    /// Has the postmaster end it.
    pub(crate) fn terminate(self) {
        self.0.terminate();
    }
}

/// In the supervisor: has the end of a worker wake it. PostgreSQL leaves the signal ignored where a worker is not
/// connected to a database.
pub(crate) fn be_told_of_workers() {
    signal(pg_sys::SIGUSR1 as i32, set_latch);
}

/// In a queue worker: serves signals as ordinary sessions do, so that waits and statements are interrupted.
pub(crate) fn serve_signals() {
    signal(pg_sys::SIGTERM as i32, c::die);
    signal(pg_sys::SIGHUP as i32, c::SignalHandlerForConfigReload);
    // SAFETY: the handlers are in place.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
}

fn signal(number: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: the handlers are PostgreSQL's own, and the one below, which does what theirs do.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(number, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(number, Some(handler));
    }
}

unsafe extern "C-unwind" fn set_latch(_signal: i32) {
    // SAFETY: the latch of this process; may be set from a signal handler.
    unsafe { pg_sys::SetLatch(pg_sys::MyLatch) };
}

/// Connects a queue worker to a database, or, without one, to what all databases share. As the superuser that the cluster
/// was made by, whatever its name, who must never run what belongs to others.
pub(crate) fn connect(database: Option<u32>) {
    let database = database.map_or(pg_sys::InvalidOid, Into::into);
    // SAFETY: called once, in a worker that was registered to have a connection.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0) };
}

/// Reads the configuration files again, in a queue worker that was told to.
pub(crate) fn reload_if_told() {
    // SAFETY: as `ProcessMainLoopInterrupts`; the handler of `serve_signals` sets the flag.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            reload_settings();
        }
    }
}

/// Whether the server is a standby, where nothing can be written.
pub(crate) fn is_standby() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Reads the configuration files again, in a background worker that was told to.
pub(crate) fn reload_settings() {
    // SAFETY: called from the worker's main loop, where no setting is in use.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}
