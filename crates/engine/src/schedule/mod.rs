//! From requests of many callers to batches, and back.
//!
//! ```text
//! connections ─ submit ─▶ intake thread ─ tokens ─▶ ready queue ─ batches ─▶ runner thread ─ frames ─▶ connections
//!            │             (tokenizes)           ▲   (fair order)            (computes)
//!            └───── one short text ──────────────┘
//! ```
//!
//! One short text is tokenized by the connection's own thread: that takes less time than waking another, and it
//! does not wait behind the tokenizing of bulk work.
//!
//! No lock is held while a text is tokenized or a batch is computed.

mod counters;
mod intake;
mod job;
mod models;
mod ready;
mod runner;
mod suspects;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use counters::{Counter, Counters};
pub use job::{Caller, Held, Job, Question};
pub use models::ModelStore;

use intake::Intake;
use job::Pending;
use ready::Ready;
use suspects::Suspects;

/// Tokens whose computation takes about as long as the fixed part of a run: 0.85 ms of 15,000 tokens a second
/// (all-MiniLM-L6-v2, two cores). A text joins a batch if the padding it causes is no more than that.
const RUN_COST_TOKENS: usize = 12;

/// Accepts requests and has them computed.
pub struct Scheduler {
    intake: Intake,
    ready: Mutex<ReadyState>,
    ready_changed: Condvar,
    models: ModelStore,
    counters: Counters,
    suspects: Suspects,
}

struct ReadyState {
    queue: Ready<Arc<Pending>>,
    /// Whether the runner is computing a batch.
    running: bool,
}

impl Scheduler {
    /// Starts the two threads. `batch_tokens` bounds a batch's padded size, a single text apart; `directory` is
    /// where the engine remembers texts that crashed it.
    pub fn start(models: ModelStore, batch_tokens: usize, directory: &Path) -> std::io::Result<Arc<Self>> {
        let scheduler = Arc::new(Self {
            intake: Intake::default(),
            ready: Mutex::new(ReadyState {
                queue: Ready::new(batch_tokens, RUN_COST_TOKENS),
                running: false,
            }),
            ready_changed: Condvar::new(),
            models,
            counters: Counters::default(),
            suspects: Suspects::open(directory),
        });
        for (name, run) in
            [("intake", Self::run_intake as fn(&Self)), ("runner", Self::run_batches as fn(&Self))]
        {
            let scheduler = Arc::clone(&scheduler);
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                // A request that kills one of the two threads would leave all others waiting: a crash is better,
                // the supervisor knows what to do about it.
                if catch_unwind(AssertUnwindSafe(|| run(&scheduler))).is_err() {
                    std::process::abort();
                }
            })?;
        }
        Ok(scheduler)
    }

    /// Queues a request. Its answer goes to its caller.
    pub fn submit(&self, job: Job) {
        if matches!(job.question, Question::Embed { .. }) {
            self.counters.add(Counter::Requests, 1);
        }
        if let Some(job) = self.try_at_once(job) {
            self.intake.push(job);
        }
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The models.
    pub fn models(&self) -> &ModelStore {
        &self.models
    }

    /// Texts that wait to be computed.
    pub fn queued(&self) -> usize {
        self.intake.texts() + self.lock_ready().queue.texts()
    }

    /// Waits until nothing is left to do, for at most `limit`.
    pub fn drain(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let ready = self.lock_ready();
            if self.intake.is_idle() && ready.queue.texts() == 0 && !ready.running {
                return;
            }
            drop(ready);
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn lock_ready(&self) -> std::sync::MutexGuard<'_, ReadyState> {
        self.ready.lock().expect("no thread panics while it holds the ready queue")
    }
}
