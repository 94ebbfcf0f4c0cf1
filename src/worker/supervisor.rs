//! The supervisor's main loop.

use std::time::{Duration, Instant, SystemTime};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::prelude::*;

use super::dispatch::Dispatch;
use super::engine_process::{Ended, EngineProcess, describe, executable};
use crate::pg::runtime_dir::{self, Lock, Locked};
use crate::pg::settings::{self, EngineSettings};
use crate::pg::{background, latch};

/// An engine that ran for so long before it ended is started again without delay.
const HEALTHY: Duration = Duration::from_secs(10);
/// Delay after the second failure in a row; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// Callers wait longer than this, so that one who comes after a repair finds an engine.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// How long an engine may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(6);

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
    engine: Option<EngineProcess>,
    starts: u64,
    failures: u32,
    next_start: Instant,
    /// When an engine that was told to end is killed.
    kill_at: Option<Instant>,
    /// The last failure to start that was logged.
    logged: String,
    queues: Dispatch,
    _lock: Locked,
}

impl Supervisor {
    fn new(lock: Locked) -> Self {
        Self {
            settings: settings::engine(),
            engine: None,
            starts: 0,
            failures: 0,
            next_start: Instant::now(),
            kill_at: None,
            logged: String::new(),
            queues: Dispatch::new(),
            _lock: lock,
        }
    }

    fn run(mut self) {
        while !BackgroundWorker::sigterm_received() {
            if BackgroundWorker::sighup_received() {
                self.reload();
            }
            self.reap();
            if self.kill_at.is_some_and(|time| Instant::now() >= time) {
                // Dropping it kills it; the next turn starts another.
                self.engine = None;
                self.kill_at = None;
            }
            if self.engine.is_none() && Instant::now() >= self.next_start {
                self.start();
            }
            let wait = match self.engine {
                // A child's end wakes the latch; the timeout is for a signal that came between check and wait.
                Some(_) if self.kill_at.is_none() => Duration::from_secs(10),
                Some(_) => Duration::from_secs(1),
                None => self.next_start.saturating_duration_since(Instant::now()),
            };
            latch::sleep(wait.min(self.queues.turn()));
        }
        self.stop();
    }

    fn start(&mut self) {
        // Who begins to wait after this moment, perhaps after a repair, is not told of this attempt.
        let begin = SystemTime::now();
        match EngineProcess::start(&self.settings, self.starts) {
            Ok(engine) => {
                log!("vector_embed: started engine process {}", engine.pid());
                self.starts += 1;
                self.engine = Some(engine);
            }
            Err(error) => {
                let reason = format!("Could not execute \"{}\": {error}.", executable().display());
                self.failed(&reason, begin);
            }
        }
    }

    /// Notices an engine that has ended, and plans the next start.
    fn reap(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let ended = match engine.ended() {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                warning!("vector_embed: could not wait for engine process {}: {error}", engine.pid());
                return;
            }
        };
        let (pid, started_at) = (engine.pid(), engine.started_at);
        let healthy = engine.started.elapsed() >= HEALTHY;
        self.engine = None;
        self.kill_at = None;
        if healthy {
            self.failures = 0;
        }
        match ended {
            Ended::InOrder => {
                self.logged.clear();
                log!("vector_embed: engine process {pid} ended");
                self.next_start = Instant::now();
            }
            Ended::Refused(status) => {
                self.failed(&format!("The engine {}.", describe(status)), started_at);
            }
            Ended::Crashed(status) => {
                self.logged.clear();
                warning!("vector_embed: engine process {pid} {}", describe(status));
                self.delay();
            }
        }
    }

    /// An engine could not be started: those who wait for it are told.
    fn failed(&mut self, reason: &str, begin: SystemTime) {
        // Once, not every other second until it is repaired.
        if self.logged != reason {
            warning!("vector_embed: {reason}");
            reason.clone_into(&mut self.logged);
        }
        runtime_dir::note_failure(reason, begin);
        self.delay();
    }

    /// The first restart is immediate; failures in a row are followed by longer and longer delays.
    fn delay(&mut self) {
        let delay = match self.failures {
            0 => Duration::ZERO,
            failures => (FIRST_DELAY * 2_u32.saturating_pow(failures - 1).min(1000)).min(LONGEST_DELAY),
        };
        self.failures += 1;
        self.next_start = Instant::now() + delay;
    }

    /// Replaces the engine if a setting of its changed; requests under way are finished first.
    fn reload(&mut self) {
        background::reload_settings();
        let settings = settings::engine();
        if settings != self.settings {
            self.settings = settings;
            self.failures = 0;
            if let Some(engine) = &mut self.engine {
                engine.terminate();
                self.kill_at = Some(Instant::now() + GRACE);
            }
        }
    }

    /// The server is going down.
    fn stop(mut self) {
        self.queues.stop();
        if let Some(engine) = &mut self.engine {
            engine.terminate();
            engine.wait(GRACE);
        }
    }
}
