//! Tokenizing, and texts that are computed in isolation.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use vector_embed_protocol::{Overlong, Purpose, Reply, VectorsFrame};

use super::job::{Job, Pending, Question};
use super::ready::Item;
use super::{Counter, Scheduler};
use crate::compute::{LoadedModel, Tokens};
use crate::error::Error;

/// Requests that wait to be tokenized.
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

enum Task {
    Whole(Job),
    /// The rest of a request whose texts are computed one by one.
    Isolated(Isolated),
}

struct Isolated {
    job: Job,
    model: Arc<LoadedModel>,
    vectors: VectorsFrame,
    truncated: u32,
    next: usize,
}

impl Intake {
    pub(super) fn push(&self, job: Job) {
        self.lock().tasks.push_back(Task::Whole(job));
        self.changed.notify_one();
    }

    pub(super) fn texts(&self) -> usize {
        let texts = |task: &Task| match task {
            Task::Whole(job) => job.texts.len(),
            Task::Isolated(isolated) => isolated.job.texts.len() - isolated.next,
        };
        self.lock().tasks.iter().map(texts).sum()
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
            state = self
                .changed
                .wait(state)
                .expect("no thread panics while it holds the intake");
        }
    }

    /// Puts an unfinished task behind all others, so that a large one does not hold them up.
    fn put_back(&self, task: Task) {
        self.lock().tasks.push_back(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panics while it holds the intake")
    }
}

/// A request's failure and the text at fault.
type Failed = (Error, Option<usize>);

impl Scheduler {
    /// The intake thread.
    pub(super) fn run_intake(&self) {
        loop {
            match self.intake.next() {
                Task::Whole(job) if job.caller.gone() => {
                    self.counters.add(Counter::Cancelled, job.texts.len())
                }
                Task::Whole(job) => self.begin(job),
                Task::Isolated(task) => self.continue_isolated(task),
            }
        }
    }

    fn begin(&self, job: Job) {
        let model = match self.models.get(&job.model) {
            Ok(model) => model,
            Err(error) => return self.fail(job, &(error, None)),
        };
        match job.question {
            Question::TokenCount => self.count_tokens(job, &model),
            Question::Embed { isolated: true, .. } => {
                let vectors = VectorsFrame::new(job.id, model.dimensions, job.texts.len(), 0);
                self.continue_isolated(Isolated {
                    job,
                    model,
                    vectors,
                    truncated: 0,
                    next: 0,
                });
            }
            Question::Embed {
                purpose, overlong, ..
            } => self.enqueue(job, model, purpose, overlong),
        }
    }

    fn fail(&self, job: Job, (error, position): &Failed) {
        self.counters.add(Counter::Errors, 1);
        job.fail(error, *position);
    }

    fn count_tokens(&self, job: Job, model: &LoadedModel) {
        let counts = (0..job.texts.len())
            .map(|position| {
                guarded(position, || {
                    model.tokenizer.tokenize(&job.texts[position], Purpose::Document)
                })
                .map(|tokens| tokens.total as u32)
            })
            .collect::<Result<Vec<u32>, Failed>>();
        match counts {
            Ok(counts) => {
                let mut frame = Vec::new();
                Reply::TokenCounts { id: job.id, counts }.append(&mut frame);
                job.caller.send(frame, Some(job.held));
            }
            Err(failed) => self.fail(job, &failed),
        }
    }

    fn enqueue(&self, job: Job, model: Arc<LoadedModel>, purpose: Purpose, overlong: Overlong) {
        let mut items = Vec::with_capacity(job.texts.len());
        let mut truncated = 0;
        for position in 0..job.texts.len() {
            match self.tokenize(&job, &model, position, purpose, overlong) {
                Ok(tokens) => {
                    truncated += usize::from(tokens.truncated());
                    items.push(Item {
                        position,
                        ids: tokens.ids,
                    });
                }
                Err(failed) => return self.fail(job, &failed),
            }
            if job.caller.gone() {
                return self.counters.add(Counter::Cancelled, job.texts.len());
            }
        }
        self.counters.add(Counter::Truncated, truncated);
        let pending = Arc::new(Pending::new(job, model, truncated));
        self.lock_ready().queue.push(pending, items);
        self.ready_changed.notify_all();
    }

    fn tokenize(
        &self,
        job: &Job,
        model: &LoadedModel,
        position: usize,
        purpose: Purpose,
        overlong: Overlong,
    ) -> Result<Tokens, Failed> {
        let text = &*job.texts[position];
        if self.suspects.refuses(text) {
            return Err((Error::Refused, Some(position)));
        }
        let tokens = guarded(position, || model.tokenizer.tokenize(text, purpose))?;
        if tokens.truncated() && overlong == Overlong::Refuse {
            let limit = model.tokenizer.max_tokens();
            let error = Error::TooLong {
                model: model.name.clone(),
                tokens: tokens.total,
                limit,
            };
            return Err((error, Some(position)));
        }
        Ok(tokens)
    }

    /// Computes the next text of an isolated request while nothing else is computed, and tells the caller
    /// first: if the engine dies now, the caller knows why.
    fn continue_isolated(&self, mut task: Isolated) {
        if task.job.caller.gone() {
            return self
                .counters
                .add(Counter::Cancelled, task.job.texts.len() - task.next);
        }
        if let Some(position) = (task.next < task.job.texts.len()).then_some(task.next) {
            self.wait_until_quiet();
            if let Err(failed) = self.compute_isolated(&mut task, position) {
                return self.fail(task.job, &failed);
            }
            task.next += 1;
        }
        if task.next < task.job.texts.len() {
            return self.intake.put_back(Task::Isolated(task));
        }
        task.vectors.set_truncated(task.truncated);
        task.job
            .caller
            .send(task.vectors.into_bytes(), Some(task.job.held));
    }

    fn compute_isolated(&self, task: &mut Isolated, position: usize) -> Result<(), Failed> {
        let Question::Embed {
            purpose, overlong, ..
        } = task.job.question
        else {
            return Ok(());
        };
        let mut frame = Vec::new();
        Reply::Started {
            id: task.job.id,
            position: position as u32,
        }
        .append(&mut frame);
        task.job.caller.send_now(frame);
        let _watch = self.suspects.watch(&task.job.texts[position]);
        let tokens = self.tokenize(&task.job, &task.model, position, purpose, overlong)?;
        let mut vector = Vec::with_capacity(task.model.dimensions);
        guarded(position, || {
            self.compute(&task.model, std::iter::once(&*tokens.ids), &mut vector)
        })?;
        task.truncated += u32::from(tokens.truncated());
        self.counters
            .add(Counter::Truncated, usize::from(tokens.truncated()));
        task.vectors.set(position, &vector);
        Ok(())
    }

    fn wait_until_quiet(&self) {
        let ready = self.lock_ready();
        let busy = |state: &mut super::ReadyState| state.running || state.queue.texts() > 0;
        drop(
            self.ready_changed
                .wait_while(ready, busy)
                .expect("no thread panics while it holds the ready queue"),
        );
    }
}

/// Runs `work` on the text at `position`; a panic in a library costs that text's request and nothing else.
pub(super) fn guarded<T>(position: usize, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failed> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::Compute {
            reason: "the model's code panicked".to_owned(),
        })
    });
    result.map_err(|error| (error, Some(position)))
}
