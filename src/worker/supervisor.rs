//! The supervisor's main loop.

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::prelude::*;

use super::dispatch::Dispatch;
use super::keeper::Keeper;
use crate::pg::engine::Engine;
use crate::pg::runtime_dir::{Lock, Locked};
use crate::pg::settings::{self, EngineSettings};
use crate::pg::{background, latch};

/// Entry point of the background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn vector_embed_supervisor_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGCHLD,
    );
    match take_lock() {
        Ok(Some(mut lock)) => {
            background::be_told_of_workers();
            if let Err(error) = lock.tell_process() {
                warning!("vector_embed: could not write the supervisor's process id: {error}");
            }
            Supervisor::new(lock).run();
        }
        // Another supervisor serves this server already.
        Ok(None) => {}
        Err(error) => error.message().report(PgLogLevel::ERROR),
    }
}

/// A backend that looks whether there is a supervisor holds the lock for a moment.
fn take_lock() -> Result<Option<Locked>, crate::error::Error> {
    for _ in 0..10 {
        if let Some(lock) = Lock::Supervisor.try_take()? {
            return Ok(Some(lock));
        }
        latch::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

struct Supervisor {
    settings: EngineSettings,
    keepers: [Keeper; 2],
    queues: Dispatch,
    _lock: Locked,
}

impl Supervisor {
    fn new(lock: Locked) -> Self {
        Self {
            settings: settings::engine(),
            keepers: Engine::ALL.map(Keeper::new),
            queues: Dispatch::new(),
            _lock: lock,
        }
    }

    fn run(mut self) {
        while !BackgroundWorker::sigterm_received() {
            if BackgroundWorker::sighup_received() {
                self.reload();
            }
            let turns = self.keepers.iter_mut().map(|keeper| keeper.turn(&self.settings));
            let wait = turns.min().expect("there are engines");
            latch::sleep(wait.min(self.queues.turn()));
        }
        self.stop();
    }

    /// Replaces the engines if a setting of theirs changed.
    fn reload(&mut self) {
        background::reload_settings();
        let settings = settings::engine();
        if settings != self.settings {
            self.settings = settings;
            self.keepers.iter_mut().for_each(Keeper::replace);
        }
    }

    /// The server is going down.
    fn stop(mut self) {
        self.queues.stop();
        self.keepers.iter_mut().for_each(Keeper::terminate);
        self.keepers.into_iter().for_each(Keeper::wait);
    }
}
