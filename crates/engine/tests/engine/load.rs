//! The order of work while a large call is under way.
//!
//! Time tells nothing on a busy machine. So the model's backend counts batches, and waits before each until the test
//! lets it go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use crate::support::{Copy, runtime};
use tempfile::TempDir;
use vector_embed_engine::compute::{Backend, Batch};
use vector_embed_engine::error::Error;
use vector_embed_engine::model::Catalog;
use vector_embed_engine::schedule::{Caller, Counter, Held, Job, Limits, ModelStore, Question, Scheduler};
use vector_embed_protocol::{FRAME_HEADER_BYTES, Overlong, Purpose, Reply};

const BATCH_TOKENS: usize = 512;
/// Texts of one request, as the client sends them.
const PART: usize = 1024;

/// What the backends of this program's one such test do.
static GATE: Gate =
    Gate { state: Mutex::new(State { open: 0, batches: Vec::new() }), changed: Condvar::new() };

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Batches that may be computed.
    open: usize,
    /// Texts of each batch that has begun.
    batches: Vec<usize>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, rows: usize) {
        let mut state = self.lock();
        state.batches.push(rows);
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.open < state.batches.len()).unwrap());
    }

    /// Lets all batches go that have begun, and waits until one more has. Returns how many have.
    fn step(&self) -> usize {
        let mut state = self.lock();
        state.open = state.batches.len();
        let next = state.open + 1;
        self.changed.notify_all();
        let limit = Duration::from_secs(60);
        let (state, late) =
            self.changed.wait_timeout_while(state, limit, |state| state.batches.len() < next).unwrap();
        assert!(!late.timed_out(), "no further batch");
        state.batches.len()
    }

    fn open(&self) {
        self.lock().open = usize::MAX;
        self.changed.notify_all();
    }
}

struct Gated(Box<dyn Backend>);

impl Backend for Gated {
    fn dimensions(&self) -> usize {
        self.0.dimensions()
    }

    fn pads(&self) -> bool {
        self.0.pads()
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        GATE.begin(batch.rows());
        self.0.embed(batch, out)
    }
}

/// A caller whose answers are sent on with the number of the batch that was the last to begin by then.
struct Asking {
    id: u64,
    gone: AtomicBool,
    answers: Mutex<mpsc::Sender<(u64, usize)>>,
}

impl Caller for Asking {
    fn id(&self) -> u64 {
        self.id
    }

    fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, frame: Vec<u8>, _held: Option<Held>) {
        let reply = Reply::decode(frame[FRAME_HEADER_BYTES - 1], &frame[FRAME_HEADER_BYTES..]).unwrap();
        assert!(matches!(reply, Reply::Vectors(_)), "{reply:?}");
        self.answers.lock().unwrap().send((self.id, GATE.lock().batches.len())).unwrap();
    }

    fn send_now(&self, _frame: Vec<u8>) {
        panic!("no text is isolated")
    }
}

struct Engine {
    _copy: Copy,
    _directory: TempDir,
    scheduler: Arc<Scheduler>,
}

impl Engine {
    fn start() -> Self {
        let (copy, directory) = (Copy::of("tiny-bert"), tempfile::tempdir().unwrap());
        let catalog = Catalog::new(vec![copy.root.path().to_owned()]);
        let models =
            ModelStore::new(catalog, Arc::clone(runtime()), |backend| Box::new(Gated(backend)), Limits::NONE);
        let scheduler = Scheduler::start(models, BATCH_TOKENS, 0, directory.path()).unwrap();
        Self { _copy: copy, _directory: directory, scheduler }
    }

    fn ask(&self, caller: &Arc<Asking>, texts: impl Iterator<Item = String>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.scheduler.submit(Job {
            caller: Arc::clone(caller) as Arc<dyn Caller>,
            id: NEXT.fetch_add(1, Ordering::Relaxed) as u32,
            question: Question::Embed {
                purpose: Purpose::Document,
                overlong: Overlong::Truncate,
                max_tokens: None,
                isolated: false,
                beginning: false,
            },
            model: "model".to_owned(),
            expected_hash: None,
            texts: texts.map(String::into_boxed_str).collect(),
            arrived: Instant::now(),
            held: Box::new(()),
        });
    }
}

#[test]
fn while_a_bulk_call_runs_single_calls_of_eight_connections_wait_for_the_batch_under_way() {
    const BULK: u64 = 100;
    let engine = Engine::start();
    let (answers, inbox) = mpsc::channel();
    let caller =
        |id| Arc::new(Asking { id, gone: AtomicBool::new(false), answers: Mutex::new(answers.clone()) });
    let truncated = || engine.scheduler.counters().get(Counter::Truncated);

    // 100,000 texts at the engine at once, with blanks that take the tokenizer's time: most are still at the intake when
    // the first are computed.
    let bulk = caller(BULK);
    let blanks = " ".repeat(500);
    for part in 0..98 {
        let text = |number| format!("a red boat {part}{blanks}and a green one {number}");
        engine.ask(&bulk, (0..PART).map(text));
    }
    for _ in 0..3 {
        GATE.step();
    }

    for round in 0..4 {
        let waiting = engine.scheduler.queued();
        assert!(waiting > 80 * PART, "{waiting} texts of the bulk call wait in round {round}");
        let (under_way, cut) = (GATE.lock().batches.len(), truncated());
        // Short ones are tokenized by their connection's thread, long ones go through the intake.
        let long_ones = round % 2 == 0;
        for id in 1..=8 {
            let text = format!("boat {id} ").repeat(if long_ones { 200 } else { 1 });
            engine.ask(&caller(id), std::iter::once(text));
        }
        if long_ones {
            let begin = Instant::now();
            while truncated() < cut + 8 {
                assert!(begin.elapsed() < Duration::from_secs(60), "they wait for the bulk call's tokens");
                std::thread::sleep(Duration::from_millis(1));
            }
            // Counted a moment before they are in the queue.
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut answered = Vec::new();
        while answered.len() < 8 {
            // The batch under way ends; the next has begun.
            GATE.step();
            answered.extend(inbox.try_iter().filter(|(id, _)| *id != BULK));
        }
        let batches = GATE.lock().batches[under_way..].to_vec();
        assert_eq!(
            batches[0], 8,
            "the batch after the one under way is that of the single texts: {batches:?}"
        );
        let first = under_way + 1;
        assert!(
            answered.iter().all(|(_, batch)| *batch == first),
            "{answered:?} where batch {first} is theirs"
        );
    }

    bulk.gone.store(true, Ordering::Relaxed);
    GATE.open();
    let begin = Instant::now();
    while engine.scheduler.queued() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "what was left behind is dropped");
        std::thread::sleep(Duration::from_millis(1));
    }
}
