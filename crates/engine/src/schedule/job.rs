//! Requests on their way through the engine.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use vector_embed_protocol::{ChunkRule, Effort, Overlong, Purpose, Reply, VectorsFrame};

use super::memory::Served;
use super::ready::Request;
use crate::error::Error;

/// Something that is given back when a request has been answered.
pub type Held = Box<dyn Any + Send + Sync>;

/// Who asked.
pub trait Caller: Send + Sync {
    /// Tells callers apart; work is shared fairly between them.
    fn id(&self) -> u64;

    /// Whether nobody waits for the answer any more.
    fn gone(&self) -> bool;

    /// Sends a frame, and lets `held` go when it is sent.
    fn send(&self, frame: Vec<u8>, held: Option<Held>);

    /// Sends a frame and returns when it has left the process. A caller who does not take it at once is given up.
    fn send_now(&self, frame: Vec<u8>);
}

/// What is asked of the texts of a [`Job`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Their vectors.
    Embed {
        /// Which prompt to use.
        purpose: Purpose,
        /// What to do with overlong texts.
        overlong: Overlong,
        /// Another limit than the model's own, in tokens.
        max_tokens: Option<usize>,
        /// Compute text by text and apart from others.
        isolated: bool,
        /// There is more of the text, see [`vector_embed_protocol::EmbedRequest::beginning`].
        beginning: bool,
    },
    /// Their numbers of tokens.
    TokenCount,
    /// Where to cut them.
    Chunk(ChunkRule),
}

impl Question {
    /// How texts are tokenized for it.
    pub(super) fn manner(self) -> (Purpose, Overlong, Option<usize>) {
        match self {
            Self::Embed { purpose, overlong, max_tokens, .. } => (purpose, overlong, max_tokens),
            Self::TokenCount | Self::Chunk(_) => (Purpose::Document, Overlong::Truncate, None),
        }
    }
}

/// A request.
pub struct Job {
    /// Who asked.
    pub caller: Arc<dyn Caller>,
    /// The request's number.
    pub id: u32,
    /// The question.
    pub question: Question,
    /// The model's name.
    pub model: String,
    /// The hash that the model must have.
    pub expected_hash: Option<String>,
    /// The texts.
    pub texts: Vec<Box<str>>,
    /// When it came.
    pub arrived: Instant,
    /// Given back when the request has been answered.
    pub held: Held,
}

impl Job {
    /// What the answer took, which is to be sent now.
    pub(super) fn effort(&self, truncated: usize, cached: usize) -> Effort {
        effort(self.arrived, truncated, cached)
    }

    /// Answers that the request failed, for the text at `position` where one is at fault.
    pub fn fail(self, error: &Error, position: Option<usize>) {
        let mut frame = Vec::new();
        let failure = error.to_failure(self.id, position.map(|position| position as u32));
        Reply::Failure(failure).append(&mut frame);
        self.caller.send(frame, Some(self.held));
    }
}

fn effort(arrived: Instant, truncated: usize, cached: usize) -> Effort {
    let micros = u32::try_from(arrived.elapsed().as_micros()).unwrap_or(u32::MAX);
    Effort { truncated: truncated as u32, cached: cached as u32, micros }
}

/// A tokenized request that waits for its vectors.
pub(super) struct Pending {
    pub(super) caller: Arc<dyn Caller>,
    pub(super) model: Arc<Served>,
    id: u32,
    count: usize,
    truncated: usize,
    cached: usize,
    pub(super) arrived: Instant,
    state: Mutex<PendingState>,
}

struct PendingState {
    /// Made with the first vector: what only waits takes no memory for its answer.
    frame: Option<VectorsFrame>,
    /// Vectors of the cache and their positions, until there is a frame to put them into.
    found: Vec<(usize, Arc<[f32]>)>,
    /// `None` once the request has been answered.
    held: Option<Held>,
    missing: usize,
}

impl Pending {
    /// A request for which `found` was in the cache.
    pub(super) fn new(
        job: Job,
        model: Arc<Served>,
        truncated: usize,
        found: Vec<(usize, Arc<[f32]>)>,
    ) -> Self {
        let count = job.texts.len();
        let (cached, arrived) = (found.len(), job.arrived);
        let missing = count - cached;
        let state = Mutex::new(PendingState { frame: None, found, held: Some(job.held), missing });
        Self { caller: job.caller, model, id: job.id, count, truncated, cached, arrived, state }
    }

    /// Stores the vector of the text at `position`; with the last one the answer goes out.
    pub(super) fn store(&self, position: usize, vector: &[f32]) {
        let mut state = self.lock();
        if state.held.is_none() {
            return;
        }
        self.frame(&mut state).set(position, vector);
        state.missing -= 1;
        self.send_if_complete(state);
    }

    /// Sends the answer if all of its vectors were in the cache.
    pub(super) fn send_found(&self) {
        let mut state = self.lock();
        self.frame(&mut state);
        self.send_if_complete(state);
    }

    fn frame<'s>(&self, state: &'s mut PendingState) -> &'s mut VectorsFrame {
        let PendingState { frame, found, .. } = state;
        frame.get_or_insert_with(|| {
            let mut frame = VectorsFrame::new(self.id, self.model.dimensions, self.count);
            found.drain(..).for_each(|(position, vector)| frame.set(position, &vector));
            frame
        })
    }

    fn send_if_complete(&self, mut state: MutexGuard<'_, PendingState>) {
        if state.missing == 0
            && let Some(frame) = state.frame.take()
        {
            let held = state.held.take();
            drop(state);
            self.caller.send(frame.into_bytes(effort(self.arrived, self.truncated, self.cached)), held);
        }
    }

    /// Answers that the request failed at `position`. Tells whether it was the first answer.
    pub(super) fn fail(&self, error: &Error, position: usize) -> bool {
        self.end(error, Some(position as u32))
    }

    /// Whether the caller has an answer.
    pub(super) fn is_answered(&self) -> bool {
        self.lock().held.is_none()
    }

    /// Answers that the next engine is to be asked.
    pub(super) fn hand_over(&self) {
        self.end(&Error::Retiring, None);
    }

    fn end(&self, error: &Error, position: Option<u32>) -> bool {
        let Some(held) = self.lock().held.take() else { return false };
        let mut frame = Vec::new();
        Reply::Failure(error.to_failure(self.id, position)).append(&mut frame);
        self.caller.send(frame, Some(held));
        true
    }

    fn lock(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().expect("no thread panics while it holds a request")
    }
}

impl Request for Arc<Pending> {
    fn caller(&self) -> u64 {
        self.caller.id()
    }

    fn abandoned(&self) -> bool {
        self.caller.gone() || self.is_answered()
    }

    fn shares_batch_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }
}
