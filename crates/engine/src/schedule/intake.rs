//! Loading models, tokenizing, and texts that are computed in isolation.
//!
//! Requests are worked on in turns, see `queue`: a step tokenizes a few kilobytes or computes one isolated text. So no
//! request waits long for another's tokens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vector_embed_protocol::{Chunk, MAX_CHUNKS, Overlong, Reply, VectorsFrame};

use super::cache::{Cached, Key};
use super::job::{Job, Pending, Question};
use super::memory::Served;
use super::queue::{Queue, Task as Waits};
use super::ready::Item;
use super::{Counter, ReadyState, Scheduler};
use crate::chunk::{Cut, Rule};
use crate::compute::Tokens;
use crate::error::Error;

/// A text up to this length is tokenized in less time than another thread takes to wake up.
const SHORT_TEXT_BYTES: usize = 1024;

/// As many chunks are told at once, unless a text has fewer.
const ENOUGH_CHUNKS: usize = 1024;

/// Bytes of text that a step tokenizes, one text or one piece of a text apart: some milliseconds.
const STEP_BYTES: usize = 16 << 10;

/// Requests that wait for their model, to be tokenized, or to be cut.
pub(super) type Intake = Queue<Task>;

/// A request on its way through the intake.
pub(super) struct Task {
    pub(super) job: Job,
    /// The first text that is not done.
    next: usize,
    progress: Progress,
}

enum Progress {
    /// Its model may have to be loaded, or to be read for its hash.
    Unloaded,
    New(Arc<Served>),
    Counting {
        model: Arc<Served>,
        counts: Vec<u32>,
        offset: usize,
    },
    Chunking {
        model: Arc<Served>,
        rule: Rule,
        cut: Cut,
        chunks: Vec<Chunk>,
    },
    Tokenizing(Tokenizing),
    Isolated {
        model: Arc<Served>,
        vectors: VectorsFrame,
        truncated: usize,
        cached: usize,
    },
}

/// A request to embed on its way to the runner.
struct Tokenizing {
    model: Arc<Served>,
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

impl Waits for Task {
    fn caller(&self) -> u64 {
        self.job.caller.id()
    }

    fn texts(&self) -> usize {
        self.job.texts.len() - self.next
    }
}

impl Scheduler {
    /// Takes a request in. One short text is tokenized at once, in the caller's thread; others wait for the thread that
    /// works on them next.
    pub(super) fn take_in(&self, job: Job) {
        // The model's files may have to be read to tell its hash.
        let is_expected = |model: &Arc<Served>| {
            let known = model.revision.known_hash();
            job.expected_hash.as_ref().is_none_or(|hash| known.is_some_and(|known| known.digits == *hash))
        };
        match self.models.get_loaded(&job.model).filter(is_expected) {
            None => self.loading.push(Task { job, next: 0, progress: Progress::Unloaded }),
            Some(model) => {
                let at_once =
                    matches!(job.question, Question::Embed { isolated: false, beginning: false, .. })
                        && matches!(&*job.texts, [text] if text.len() <= SHORT_TEXT_BYTES);
                let task = Task { job, next: 0, progress: Progress::New(model) };
                let task = if at_once { self.advance(task) } else { Some(task) };
                if let Some(task) = task {
                    self.queue_of(&task).push(task);
                }
            }
        }
    }

    /// Where a request waits next.
    fn queue_of(&self, task: &Task) -> &Intake {
        match (&task.progress, task.job.question) {
            (Progress::Unloaded, _) => &self.loading,
            (_, Question::Chunk(_)) => &self.chunking,
            _ => &self.intake,
        }
    }

    /// The thread that loads models. It is the only one that waits for a model.
    pub(super) fn run_loading(&self) {
        loop {
            let (task, _) = self.loading.next().into_parts();
            if let Some(task) = self.advance(task) {
                self.queue_of(&task).push(task);
            }
        }
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
            let (task, tag) = intake.next().into_parts();
            let (caller, before) = (task.caller(), task.bytes());
            let unfinished = self.advance(task);
            // A step that finishes no text is as much work as one may be.
            let cost = match before - unfinished.as_ref().map_or(0, Task::bytes) {
                0 => STEP_BYTES,
                bytes => bytes,
            };
            intake.put_back(unfinished, caller, tag + cost as u64);
        }
    }

    /// Takes a request one step on; gives it back if it is not finished.
    fn advance(&self, mut task: Task) -> Option<Task> {
        if self.is_closed() {
            task.job.fail(&Error::Retiring, None);
            return None;
        }
        if task.job.caller.gone() {
            self.count_of(&task.job, Counter::Cancelled, task.texts());
            return None;
        }
        match self.step(&mut task) {
            Err((Error::Retiring, _)) => {
                if task.job.caller.gone() {
                    self.count_of(&task.job, Counter::Cancelled, task.texts());
                }
                task.job.fail(&Error::Retiring, None);
                None
            }
            Err((error, position)) => {
                // Whose client will send more has met no error yet.
                let errors = usize::from(!matches!(error, Error::MoreNeeded));
                self.count_of(&task.job, Counter::Errors, errors);
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
        if let Progress::New(model) = progress {
            *progress = self.begin(job, Arc::clone(model))?;
        }
        match progress {
            Progress::Unloaded => *progress = Progress::New(self.load(job)?),
            Progress::New(_) => {}
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

    fn load(&self, job: &Job) -> Result<Arc<Served>, Failed> {
        let gave_up = || self.is_closed() || job.caller.gone();
        let model = self.models.obtain(&job.model, job.expected_hash.as_deref(), &gave_up);
        model.map_err(|error| (error, None))
    }

    fn begin(&self, job: &Job, model: Arc<Served>) -> Result<Progress, Failed> {
        if matches!(job.question, Question::Embed { .. }) {
            model.record.counters.add(Counter::Requests, 1);
        }
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
            Progress::Unloaded | Progress::New(_) => {}
            // The last chunks have been sent.
            Progress::Chunking { .. } => {}
            Progress::Counting { counts, .. } => {
                let mut frame = Vec::new();
                Reply::TokenCounts { id: job.id, counts }.append(&mut frame);
                job.caller.send(frame, Some(job.held));
            }
            Progress::Tokenizing(Tokenizing { model, items, found, truncated }) => {
                self.count(&model, Counter::Truncated, truncated);
                let pending = Pending::new(job, model, truncated, found);
                if items.is_empty() {
                    return pending.send_found();
                }
                self.lock_ready().queue.push(Arc::new(pending), items);
                self.ready_changed.notify_all();
            }
            Progress::Isolated { model, vectors, truncated, cached } => {
                self.count(&model, Counter::Truncated, truncated);
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
    fn look_up(&self, job: &Job, model: &Served, position: usize) -> Result<Lookup, Failed> {
        let text = &*job.texts[position];
        if self.suspects.refuses(text) {
            return Err((Error::Refused, Some(position)));
        }
        let (purpose, overlong, other_limit) = job.question.manner();
        let key = self.cache.key(model.revision.id(), purpose, text);
        let beginning = matches!(job.question, Question::Embed { beginning: true, .. });
        // Vectors of another limit are asked for to compare them, once. A beginning is no text.
        let Some(key) = key.filter(|_| other_limit.is_none() && !beginning) else {
            return Ok(Lookup::Miss(None));
        };
        Ok(match self.cache.get(&key) {
            // One that was cut is tokenized again, to be refused with all that is said then.
            Some(cached) if !(cached.truncated && overlong == Overlong::Refuse) => {
                self.count(model, Counter::CacheHits, 1);
                Lookup::Hit(cached)
            }
            _ => Lookup::Miss(Some(key)),
        })
    }

    fn tokenize(&self, job: &Job, model: &Served, position: usize) -> Result<Tokens, Failed> {
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
        model: &Served,
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

    /// Counts for the engine, and for the model if it is known by now.
    fn count_of(&self, job: &Job, counter: Counter, amount: usize) {
        self.counters.add(counter, amount);
        if let Some(record) = self.models.record(&job.model) {
            record.counters.add(counter, amount);
        }
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

impl Task {
    /// Bytes of the texts that are not done.
    fn bytes(&self) -> usize {
        self.job.texts[self.next..].iter().map(|text| text.len().max(1)).sum()
    }
}

/// What became of an isolated text.
struct Done {
    truncated: bool,
    cached: bool,
}

impl Tokenizing {
    fn new(model: Arc<Served>) -> Self {
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
