//! From requests of many callers to batches, and back.
//!
//! ```text
//! connections ─ submit ─▶ intake thread ─ tokens ─▶ ready queue ─ batches ─▶ runner thread ─ frames ─▶ connections
//!            │             (tokenizes)           ▲   (fair order)            (computes)
//!            └───── one short text ──────────────┘
//! ```
//!
//! A request whose model is not in memory goes to the loading thread first, so that nobody else waits for it.
//!
//! Before a text is tokenized its vector is looked for in the cache, which the runner thread fills. A request whose
//! vectors are all there is answered at once.
//!
//! Texts that are to be cut into chunks go to a thread of their own, and from there back.
//!
//! One short text is tokenized by the connection's own thread: that takes less time than waking another, and it
//! does not wait behind the tokenizing of bulk work.
//!
//! No lock is held while a text is tokenized or a batch is computed.

mod cache;
mod counters;
mod intake;
mod job;
mod memory;
mod models;
mod queue;
mod ready;
mod records;
mod runner;
mod suspects;
mod turns;
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use counters::{Counter, Counters, Histogram};
pub use job::{Caller, Held, Job, Question};
pub use memory::{Limits, Served};
pub use models::ModelStore;

use cache::VectorCache;
use intake::Intake;
use job::Pending;
use ready::Ready;
use suspects::Suspects;
use watchdog::Watchdog;

use crate::error::Error;

/// Tokens whose computation takes about as long as the fixed part of a run: 0.85 ms of 15,000 tokens a second
/// (all-MiniLM-L6-v2, two cores). A text joins a batch if the padding it causes is no more than that.
const RUN_COST_TOKENS: usize = 12;

/// Accepts requests and has them computed.
pub struct Scheduler {
    /// Requests whose model is not in memory.
    loading: Intake,
    intake: Intake,
    /// Texts to cut.
    chunking: Intake,
    ready: Mutex<ReadyState>,
    ready_changed: Condvar,
    models: ModelStore,
    cache: VectorCache,
    counters: Counters,
    /// How long computed texts waited for their batch.
    waits: Histogram,
    /// How long the batches of computed texts took.
    runs: Histogram,
    suspects: Suspects,
    watchdog: Watchdog,
    closed: AtomicBool,
}

struct ReadyState {
    queue: Ready<Arc<Pending>>,
    /// Whether the runner is computing a batch.
    running: bool,
    /// Whether the runner must not begin a batch, because a text is computed in isolation.
    held: bool,
    /// Whether the runner has not had a turn since it was held the last time.
    owes_turn: bool,
}

impl Scheduler {
    /// Starts the threads. `batch_tokens` bounds a batch's padded size, a single text apart; `cache_bytes` the
    /// vectors that are kept for texts that come again; `directory` is where the engine remembers texts that
    /// crashed it.
    pub fn start(
        models: ModelStore,
        batch_tokens: usize,
        cache_bytes: usize,
        directory: &Path,
    ) -> std::io::Result<Arc<Self>> {
        let scheduler = Arc::new(Self {
            loading: Intake::default(),
            intake: Intake::default(),
            chunking: Intake::default(),
            ready: Mutex::new(ReadyState {
                queue: Ready::new(batch_tokens, RUN_COST_TOKENS),
                running: false,
                held: false,
                owes_turn: false,
            }),
            ready_changed: Condvar::new(),
            models,
            cache: VectorCache::new(cache_bytes),
            counters: Counters::default(),
            waits: Histogram::default(),
            runs: Histogram::default(),
            suspects: Suspects::open(directory),
            watchdog: Watchdog::default(),
            closed: AtomicBool::new(false),
        });
        for (name, run) in [
            ("loading", Self::run_loading as fn(&Self)),
            ("intake", Self::run_intake),
            ("chunking", Self::run_chunking),
            ("runner", Self::run_batches),
        ] {
            let scheduler = Arc::clone(&scheduler);
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                // A request that kills one of the threads would leave all others waiting: a crash is better,
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
        if self.is_closed() {
            return job.fail(&Error::Retiring, None);
        }
        if matches!(job.question, Question::Embed { .. }) {
            self.counters.add(Counter::Requests, 1);
        }
        self.take_in(job);
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long computed texts waited for their batch.
    pub fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// How long the batches of computed texts took.
    pub fn runs(&self) -> &Histogram {
        &self.runs
    }

    /// Padded tokens that a batch may have.
    pub fn batch_tokens(&self) -> usize {
        self.lock_ready().queue.batch_tokens()
    }

    /// Counts for the engine and for the model.
    fn count(&self, model: &Served, counter: Counter, amount: usize) {
        self.counters.add(counter, amount);
        model.record.counters.add(counter, amount);
    }

    /// The models.
    pub fn models(&self) -> &ModelStore {
        &self.models
    }

    /// Bytes that the cache of vectors takes.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Texts that wait to be computed.
    pub fn queued(&self) -> usize {
        self.loading.texts() + self.intake.texts() + self.lock_ready().queue.texts()
    }

    /// Ends the process if a batch has been computed for longer than any takes. Its texts are then computed again,
    /// one caller at a time, by the next engine.
    pub fn abort_if_stuck(&self) {
        if self.watchdog.is_stuck() {
            eprintln!("vector_embed_engine: a batch has not ended within a minute");
            std::process::abort();
        }
    }

    /// Gives back all requests that are not answered, for their callers to send to the next engine, and waits for
    /// at most `limit` until the batch under way has ended.
    pub fn hand_over(&self, limit: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let queues = [&self.loading, &self.intake, &self.chunking];
            for task in queues.into_iter().flat_map(Intake::take_all) {
                task.job.fail(&Error::Retiring, None);
            }
            let mut ready = self.lock_ready();
            for pending in ready.queue.take_all() {
                pending.hand_over();
            }
            // In the order in which requests go through them.
            if queues.into_iter().all(Intake::is_idle) && !ready.running {
                return;
            }
            drop(ready);
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn lock_ready(&self) -> std::sync::MutexGuard<'_, ReadyState> {
        self.ready.lock().expect("no thread panics while it holds the ready queue")
    }
}
