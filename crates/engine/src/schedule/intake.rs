//! Tokenizing, and texts that are computed in isolation.
//!
//! Requests are worked on in turns: each gets a step, which tokenizes a few kilobytes or computes one isolated
//! text, and then stands behind the others. So no request waits long for another's tokens.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use vector_embed_protocol::{Chunk, MAX_CHUNKS, Overlong, Reply, VectorsFrame};

use super::cache::{Cached, Key};
use super::job::{Job, Pending, Question};
use super::ready::Item;
use super::{Counter, ReadyState, Scheduler};
use crate::chunk::{Cut, Rule};
use crate::compute::{LoadedModel, Tokens};
use crate::error::Error;

/// A text up to this length is tokenized in less time than another thread takes to wake up.
const SHORT_TEXT_BYTES: usize = 1024;

/// As many chunks are told at once, unless a text has fewer.
const ENOUGH_CHUNKS: usize = 1024;

/// Bytes of text that a step tokenizes, one text or one piece of a text apart: some milliseconds.
const STEP_BYTES: usize = 16 << 10;

/// Requests that wait to be tokenized, or to be cut.
#[derive(Default)]
pub(super) struct Intake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    busy: bool,
}

/// A request on its way through the intake.
struct Task {
    job: Job,
    /// The first text that is not done.
    next: usize,
    progress: Progress,
}

enum Progress {
    New,
    Counting { model: Arc<LoadedModel>, counts: Vec<u32>, offset: usize },
    Chunking { model: Arc<LoadedModel>, rule: Rule, cut: Cut, chunks: Vec<Chunk> },
    Tokenizing(Tokenizing),
    Isolated { model: Arc<LoadedModel>, vectors: VectorsFrame, truncated: usize, cached: usize },
}

/// A request to embed on its way to the runner.
struct Tokenizing {
    model: Arc<LoadedModel>,
    /// Texts that have to be computed.
    items: Vec<Item>,
    /// Vectors of the other texts, which were in the cache, and their positions.
    found: Vec<(usize, Arc<[f32]>)>,
    truncated: usize,
}

/// Whether a text's vector is in the cache.
enum Lookup {
    Hit(Cached),
    /// Not, but its vector is to be kept by this key, if by any.
    Miss(Option<Key>),
}

/// A request's failure and the text at fault.
type Failed = (Error, Option<usize>);

impl Intake {
    pub(super) fn push(&self, job: Job) {
        self.put_back(Task { job, next: 0, progress: Progress::New });
        self.changed.notify_one();
    }

    pub(super) fn texts(&self) -> usize {
        self.lock().tasks.iter().map(|task| task.job.texts.len() - task.next).sum()
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.tasks.is_empty() && !state.busy
    }

    fn next(&self) -> Task {
        let mut state = self.lock();
        state.busy = false;
        loop {
            if let Some(task) = state.tasks.pop_front() {
                state.busy = true;
                return task;
            }
            state = self.changed.wait(state).expect("no thread panics while it holds the intake");
        }
    }

    /// Takes all requests that wait.
    pub(super) fn take_all(&self) -> Vec<Job> {
        self.lock().tasks.drain(..).map(|task| task.job).collect()
    }

    fn put_back(&self, task: Task) {
        self.lock().tasks.push_back(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the intake")
    }
}

impl Scheduler {
    /// Takes a request of one short text on in the caller's thread; gives back any other.
    pub(super) fn try_at_once(&self, job: Job) -> Option<Job> {
        let Question::Embed { isolated: false, beginning: false, .. } = job.question else {
            return Some(job);
        };
        let ([text], Some(model)) = (&*job.texts, self.models.get_loaded(&job.model)) else {
            return Some(job);
        };
        // The model's files may have to be read to tell its hash.
        let unsure = |hash: &String| model.revision.known_hash().is_none_or(|known| known.digits != *hash);
        if text.len() > SHORT_TEXT_BYTES || job.expected_hash.as_ref().is_some_and(unsure) {
            return Some(job);
        }
        let progress = Progress::Tokenizing(Tokenizing::new(model));
        self.advance(Task { job, next: 0, progress });
        None
    }

    /// The intake thread.
    pub(super) fn run_intake(&self) {
        self.take_on(&self.intake)
    }

    /// The thread that cuts texts: each step takes longer than one of the intake, and nobody who embeds is to wait.
    pub(super) fn run_chunking(&self) {
        self.take_on(&self.chunking)
    }

    fn take_on(&self, intake: &Intake) {
        loop {
            if let Some(unfinished) = self.advance(intake.next()) {
                intake.put_back(unfinished);
            }
        }
    }

    /// Takes a request one step on; gives it back if it is not finished.
    fn advance(&self, mut task: Task) -> Option<Task> {
        if self.is_closed() {
            task.job.fail(&Error::Retiring, None);
            return None;
        }
        if task.job.caller.gone() {
            self.counters.add(Counter::Cancelled, task.job.texts.len() - task.next);
            return None;
        }
        match self.step(&mut task) {
            Err((error, position)) => {
                // Whose client will send more has met no error yet.
                self.counters.add(Counter::Errors, usize::from(!matches!(error, Error::MoreNeeded)));
                task.job.fail(&error, position);
                None
            }
            Ok(()) if task.next < task.job.texts.len() => Some(task),
            Ok(()) => {
                self.finish(task);
                None
            }
        }
    }

    fn step(&self, task: &mut Task) -> Result<(), Failed> {
        let Task { job, next, progress } = task;
        if let Progress::New = progress {
            *progress = self.begin(job)?;
        }
        match progress {
            Progress::New => {}
            Progress::Counting { model, counts, offset } => {
                let (count, end) =
                    guarded(*next, || model.tokenizer.count_piece(&job.texts[*next], *offset))?;
                let so_far = if *offset == 0 { 0 } else { counts.pop().unwrap_or(0) };
                counts.push(so_far + count as u32);
                *offset = if end == job.texts[*next].len() { 0 } else { end };
                *next += usize::from(*offset == 0);
            }
            Progress::Chunking { model, rule, cut, chunks } => {
                let text = &*job.texts[*next];
                let complete = guarded(*next, || cut.step(text, rule, &model.tokenizer, chunks))?;
                if complete || chunks.len() >= ENOUGH_CHUNKS {
                    send_chunks(job, *next, complete, chunks);
                }
                if complete {
                    *cut = Cut::default();
                    *next += 1;
                }
            }
            Progress::Tokenizing(tokenizing) => {
                let mut bytes = 0;
                while *next < job.texts.len() && bytes < STEP_BYTES {
                    self.find_or_tokenize(job, tokenizing, *next)?;
                    bytes += job.texts[*next].len();
                    *next += 1;
                }
            }
            Progress::Isolated { model, vectors, truncated, cached } => {
                let done = self.find_or_compute_isolated(job, model, vectors, *next)?;
                *truncated += usize::from(done.truncated);
                *cached += usize::from(done.cached);
                *next += 1;
            }
        }
        Ok(())
    }

    fn begin(&self, job: &Job) -> Result<Progress, Failed> {
        let model = match &job.expected_hash {
            None => self.models.get(&job.model),
            Some(hash) => self.models.get_expected(&job.model, hash),
        };
        let model = model.map_err(|error| (error, None))?;
        Ok(match job.question {
            Question::TokenCount => Progress::Counting { model, counts: Vec::new(), offset: 0 },
            Question::Chunk(rule) => {
                let rule = Rule::new(rule, &model.name, &model.tokenizer).map_err(|error| (error, None))?;
                Progress::Chunking { model, rule, cut: Cut::default(), chunks: Vec::new() }
            }
            Question::Embed { isolated: true, .. } => {
                let vectors = VectorsFrame::new(job.id, model.dimensions, job.texts.len());
                Progress::Isolated { model, vectors, truncated: 0, cached: 0 }
            }
            Question::Embed { .. } => Progress::Tokenizing(Tokenizing::new(model)),
        })
    }

    /// Sends a request whose texts are all done on its way: to the runner, or back to its caller.
    fn finish(&self, Task { job, progress, .. }: Task) {
        match progress {
            // A request has at least one text, so one that is finished has begun.
            Progress::New => {}
            // The last chunks have been sent.
            Progress::Chunking { .. } => {}
            Progress::Counting { counts, .. } => {
                let mut frame = Vec::new();
                Reply::TokenCounts { id: job.id, counts }.append(&mut frame);
                job.caller.send(frame, Some(job.held));
            }
            Progress::Tokenizing(Tokenizing { model, items, found, truncated }) => {
                self.counters.add(Counter::Truncated, truncated);
                let pending = Pending::new(job, model, truncated, found);
                if items.is_empty() {
                    return pending.send_found();
                }
                self.lock_ready().queue.push(Arc::new(pending), items);
                self.ready_changed.notify_all();
            }
            Progress::Isolated { vectors, truncated, cached, .. } => {
                self.counters.add(Counter::Truncated, truncated);
                let frame = vectors.into_bytes(job.effort(truncated, cached));
                job.caller.send(frame, Some(job.held));
            }
        }
    }

    fn find_or_tokenize(&self, job: &Job, to: &mut Tokenizing, position: usize) -> Result<(), Failed> {
        match self.look_up(job, &to.model, position)? {
            Lookup::Hit(Cached { vector, truncated }) => {
                to.truncated += usize::from(truncated);
                to.found.push((position, vector));
            }
            Lookup::Miss(key) => {
                let tokens = self.tokenize(job, &to.model, position)?;
                let truncated = tokens.truncated();
                to.truncated += usize::from(truncated);
                to.items.push(Item { position, ids: tokens.ids, truncated, key });
            }
        }
        Ok(())
    }

    /// Looks in the cache for a text's vector. A text that crashed the engine is refused before.
    fn look_up(&self, job: &Job, model: &LoadedModel, position: usize) -> Result<Lookup, Failed> {
        let text = &*job.texts[position];
        if self.suspects.refuses(text) {
            return Err((Error::Refused, Some(position)));
        }
        let (purpose, overlong, other_limit) = job.question.manner();
        let key = self.cache.key(model.generation, purpose, text);
        let beginning = matches!(job.question, Question::Embed { beginning: true, .. });
        // Vectors of another limit are asked for to compare them, once. A beginning is no text.
        let Some(key) = key.filter(|_| other_limit.is_none() && !beginning) else {
            return Ok(Lookup::Miss(None));
        };
        Ok(match self.cache.get(&key) {
            // One that was cut is tokenized again, to be refused with all that is said then.
            Some(cached) if !(cached.truncated && overlong == Overlong::Refuse) => {
                self.counters.add(Counter::CacheHits, 1);
                Lookup::Hit(cached)
            }
            _ => Lookup::Miss(Some(key)),
        })
    }

    fn tokenize(&self, job: &Job, model: &LoadedModel, position: usize) -> Result<Tokens, Failed> {
        let text = &*job.texts[position];
        let (purpose, overlong, other_limit) = job.question.manner();
        let limit = model.tokenizer.limit(other_limit);
        let tokens = guarded(position, || match job.question {
            Question::Embed { beginning: true, .. } => {
                model.tokenizer.tokenize_beginning(text, purpose, limit)
            }
            _ => model.tokenizer.tokenize(text, purpose, limit),
        })?;
        if tokens.truncated() && overlong == Overlong::Refuse {
            return Err((Error::TooLong { model: model.name.clone(), limit }, Some(position)));
        }
        Ok(tokens)
    }

    /// Finds the vector of a text in the cache, or computes it while nothing else is computed, and tells the caller
    /// before and after: if the engine dies in between, the caller knows why.
    fn find_or_compute_isolated(
        &self,
        job: &Job,
        model: &LoadedModel,
        vectors: &mut VectorsFrame,
        position: usize,
    ) -> Result<Done, Failed> {
        let key = match self.look_up(job, model, position)? {
            Lookup::Hit(cached) => {
                vectors.set(position, &cached.vector);
                return Ok(Done { truncated: cached.truncated, cached: true });
            }
            Lookup::Miss(key) => key,
        };
        let _quiet = self.hold_runner();
        let (id, number) = (job.id, position as u32);
        let mut frame = Vec::new();
        Reply::Started { id, position: number }.append(&mut frame);
        job.caller.send_now(frame);
        let watch = self.suspects.watch(&job.texts[position]);
        let tokens = self.tokenize(job, model, position)?;
        let mut vector = Vec::with_capacity(model.dimensions);
        guarded(position, || self.compute(model, std::iter::once(&*tokens.ids), &mut vector))?;
        drop(watch);
        if let Some(key) = key {
            self.cache.insert(key, &vector, tokens.truncated());
        }
        vectors.set(position, &vector);
        let mut frame = Vec::new();
        Reply::Finished { id, position: number }.append(&mut frame);
        job.caller.send_now(frame);
        Ok(Done { truncated: tokens.truncated(), cached: false })
    }

    /// Keeps the runner from computing until the guard is dropped. Between two holds the runner gets its turn.
    fn hold_runner(&self) -> Hold<'_> {
        let wait = |ready, condition: fn(&mut ReadyState) -> bool| {
            self.ready_changed
                .wait_while(ready, condition)
                .expect("no thread panics while it holds the ready queue")
        };
        let mut ready = wait(self.lock_ready(), |state| state.owes_turn && state.queue.texts() > 0);
        // From here on the runner begins nothing new.
        ready.held = true;
        ready.owes_turn = true;
        drop(wait(ready, |state| state.running));
        Hold(self)
    }
}

/// What became of an isolated text.
struct Done {
    truncated: bool,
    cached: bool,
}

impl Tokenizing {
    fn new(model: Arc<LoadedModel>) -> Self {
        Self { model, items: Vec::new(), found: Vec::new(), truncated: 0 }
    }
}

struct Hold<'s>(&'s Scheduler);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.lock_ready().held = false;
        self.0.ready_changed.notify_all();
    }
}

/// Sends the chunks that have been found of the text at `position`, at the latest with its last.
fn send_chunks(job: &Job, position: usize, complete: bool, chunks: &mut Vec<Chunk>) {
    let mut rest = std::mem::take(chunks);
    loop {
        let chunks: Vec<Chunk> = rest.drain(..rest.len().min(MAX_CHUNKS)).collect();
        let complete = complete && rest.is_empty();
        let mut frame = Vec::new();
        Reply::Chunks { id: job.id, position: position as u32, complete, chunks }.append(&mut frame);
        job.caller.send(frame, None);
        if rest.is_empty() {
            return;
        }
    }
}

/// Runs `work` on the text at `position`; a panic in a library costs that text's request and nothing else.
pub(super) fn guarded<T>(position: usize, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failed> {
    let result = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Compute { reason: "the model's code panicked".to_owned() }));
    result.map_err(|error| (error, Some(position)))
}
