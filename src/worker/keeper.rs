//! Keeps one engine running.

use std::time::{Duration, Instant, SystemTime};

use pgrx::prelude::*;

use super::engine_process::{Ended, EngineProcess, describe, executable};
use crate::pg::engine::Engine;
use crate::pg::runtime_dir;
use crate::pg::settings::EngineSettings;

/// An engine that ran for so long before it ended is started again without delay.
const HEALTHY: Duration = Duration::from_secs(10);
/// Delay after the second failure in a row; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// Callers wait longer than this, so that one who comes after a repair finds an engine.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// How long an engine may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(6);

/// An engine's process, while there is one, and when there is to be another.
pub(super) struct Keeper {
    engine: Engine,
    process: Option<EngineProcess>,
    /// Whether it is to run: one of them always, the other since it was first asked for.
    is_wanted: bool,
    starts: u64,
    failures: u32,
    next_start: Instant,
    /// When a process that was told to end is killed.
    kill_at: Option<Instant>,
    /// The last failure to start that was logged.
    logged: String,
}

impl Keeper {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            process: None,
            is_wanted: engine == Engine::OnnxRuntime,
            starts: 0,
            failures: 0,
            next_start: Instant::now(),
            kill_at: None,
            logged: String::new(),
        }
    }

    /// Does what is due; returns when to come again, unless a signal comes before.
    pub(super) fn turn(&mut self, settings: &EngineSettings) -> Duration {
        self.reap();
        if self.kill_at.is_some_and(|time| Instant::now() >= time) {
            // Dropping it kills it; the next turn starts another.
            self.process = None;
            self.kill_at = None;
        }
        if !self.is_wanted && !self.engine.is_left_out() {
            self.is_wanted = runtime_dir::take_want(self.engine);
        }
        if self.is_wanted && self.process.is_none() && Instant::now() >= self.next_start {
            self.start(settings);
        }
        match self.process {
            Some(_) if self.kill_at.is_some() => Duration::from_secs(1),
            None if self.is_wanted => self.next_start.saturating_duration_since(Instant::now()),
            // A child's end wakes the latch, and so does who wants the engine; the timeout is for a signal that came
            // between check and wait.
            _ => Duration::from_secs(10),
        }
    }

    fn start(&mut self, settings: &EngineSettings) {
        // Who begins to wait after this moment, perhaps after a repair, is not told of this attempt.
        let begin = SystemTime::now();
        match EngineProcess::start(self.engine, settings, self.starts) {
            Ok(process) => {
                log!("vector_embed: started engine process {} ({})", process.pid(), self.engine.name());
                self.starts += 1;
                self.process = Some(process);
            }
            Err(error) => {
                let reason = format!("Could not execute \"{}\": {error}.", executable().display());
                self.failed(&reason, begin);
            }
        }
    }

    /// Notices a process that has ended, and plans the next start.
    fn reap(&mut self) {
        let Some(process) = &mut self.process else { return };
        let ended = match process.ended() {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                warning!("vector_embed: could not wait for engine process {}: {error}", process.pid());
                return;
            }
        };
        let (pid, started_at) = (process.pid(), process.started_at);
        let healthy = process.started.elapsed() >= HEALTHY;
        self.process = None;
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
        runtime_dir::note_failure(self.engine, reason, begin);
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

    /// Ends the engine so that another is started with other settings; requests under way are finished first.
    pub(super) fn replace(&mut self) {
        self.failures = 0;
        if let Some(process) = &mut self.process {
            process.terminate();
            self.kill_at = Some(Instant::now() + GRACE);
        }
    }

    /// Tells the engine to end for good.
    pub(super) fn terminate(&mut self) {
        if let Some(process) = &mut self.process {
            process.terminate();
        }
    }

    /// Waits until the engine has ended, and kills it if it takes too long.
    pub(super) fn wait(mut self) {
        if let Some(process) = &mut self.process {
            process.wait(GRACE);
        }
    }
}
