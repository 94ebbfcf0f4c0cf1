//! Requests on their way through the scheduler: what is computed, what comes from the cache, and who gets what.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::store::{change_pooling, store};
use crate::support::{Copy, cosine, embed, model};
use tempfile::TempDir;
use vector_embed_engine::schedule::{Caller, Counter, Held, Job, Question, Scheduler};
use vector_embed_protocol::{FRAME_HEADER_BYTES, FailureCode, FailureReply, Overlong, Purpose, Reply};

const FAILED: &str = "the request failed";

/// A scheduler over a copy of tiny-bert.
struct Engine {
    copy: Copy,
    scheduler: Arc<Scheduler>,
    _directory: TempDir,
}

/// How a request is made; the texts are the question.
#[derive(Clone)]
struct Ask {
    purpose: Purpose,
    overlong: Overlong,
    isolated: bool,
    beginning: bool,
    expected_hash: Option<String>,
}

const PLAIN: Ask = Ask {
    purpose: Purpose::Document,
    overlong: Overlong::Truncate,
    isolated: false,
    beginning: false,
    expected_hash: None,
};

/// What came back.
#[derive(Debug)]
struct Answer {
    /// Positions of the frames *Started* and *Finished*.
    started: Vec<u32>,
    finished: Vec<u32>,
    result: Result<Vectors, FailureReply>,
}

#[derive(Debug, PartialEq)]
struct Vectors {
    vectors: Vec<Vec<f32>>,
    truncated: u32,
}

/// A caller who waits in the test's own thread.
struct Waiting {
    id: u64,
    frames: Mutex<mpsc::Sender<Vec<u8>>>,
}

impl Caller for Waiting {
    fn id(&self) -> u64 {
        self.id
    }

    fn gone(&self) -> bool {
        false
    }

    fn send(&self, frame: Vec<u8>, _held: Option<Held>) {
        self.send_now(frame);
    }

    fn send_now(&self, frame: Vec<u8>) {
        self.frames.lock().unwrap().send(frame).unwrap();
    }
}

impl Engine {
    fn start(cache_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, cache_bytes)
    }

    fn start_in(directory: TempDir, cache_bytes: usize) -> Self {
        let copy = Copy::of("tiny-bert");
        fs::write(
            copy.path("config_sentence_transformers.json"),
            r#"{"prompts": {"query": "find the "}, "default_prompt_name": null}"#,
        )
        .unwrap();
        let models = store(copy.root.path());
        let scheduler = Scheduler::start(models, 512, cache_bytes, directory.path()).unwrap();
        Self { copy, scheduler, _directory: directory }
    }

    fn ask(&self, ask: Ask, texts: &[&str]) -> Answer {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (frames, inbox) = mpsc::channel();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let Ask { purpose, overlong, isolated, beginning, expected_hash } = ask;
        self.scheduler.submit(Job {
            caller: Arc::new(Waiting { id, frames: Mutex::new(frames) }),
            id: 7,
            question: Question::Embed { purpose, overlong, max_tokens: None, isolated, beginning },
            model: "model".to_owned(),
            expected_hash,
            texts: texts.iter().map(|text| Box::from(*text)).collect(),
            arrived: Instant::now(),
            held: Box::new(()),
        });
        let (mut started, mut finished) = (Vec::new(), Vec::new());
        loop {
            let frame = inbox.recv_timeout(Duration::from_secs(60)).expect("an answer");
            let kind = frame[FRAME_HEADER_BYTES - 1];
            let result = match Reply::decode(kind, &frame[FRAME_HEADER_BYTES..]).unwrap() {
                Reply::Started { id: 7, position } => {
                    started.push(position);
                    continue;
                }
                Reply::Finished { id: 7, position } => {
                    finished.push(position);
                    continue;
                }
                Reply::Vectors(reply) => {
                    let numbers = |bytes: &[u8]| {
                        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
                    };
                    let vectors = reply.iter().map(numbers).collect();
                    Ok(Vectors { vectors, truncated: reply.effort.truncated })
                }
                Reply::Failure(failure) => Err(failure),
                other => panic!("another answer than to a request: {other:?}"),
            };
            return Answer { started, finished, result };
        }
    }

    fn embed(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        self.ask(PLAIN, texts).result.expect(FAILED).vectors
    }

    fn count(&self, counter: Counter) -> u64 {
        self.scheduler.counters().get(counter)
    }

    /// Texts computed and texts found since the start.
    fn computed_and_found(&self) -> (u64, u64) {
        (self.count(Counter::Texts), self.count(Counter::CacheHits))
    }

    /// What the model makes of a text, without scheduler and cache.
    fn reference(&self, text: &str) -> Vec<f32> {
        embed(&model(self.copy.root.path().to_owned(), "model"), text)
    }
}

fn assert_same(ours: &[f32], reference: &[f32]) {
    assert!(cosine(ours, reference) >= 0.999_999);
}

#[test]
fn a_text_that_comes_again_is_not_computed_again() {
    let engine = Engine::start(1 << 20);
    // The first goes by the intake thread, which loads the model, the second is taken at once.
    let first = engine.embed(&["a red boat"]);
    assert_eq!(engine.computed_and_found(), (1, 0));
    assert_same(&first[0], &engine.reference("a red boat"));
    assert_eq!(engine.embed(&["a red boat"]), first);
    assert_eq!(engine.embed(&["a red boat", "a red boat"]), [&*first[0], &*first[0]]);
    assert_eq!(engine.computed_and_found(), (1, 3));
    assert_eq!((engine.count(Counter::Requests), engine.count(Counter::Batches)), (3, 1));
    assert!(engine.scheduler.cache_bytes() > 4 * 32);
}

#[test]
fn what_is_missing_of_a_request_is_computed_and_put_in_its_place() {
    let engine = Engine::start(1 << 20);
    let texts = ["one", "two and a half", "three", "four of them", "five"];
    engine.embed(&[texts[3], texts[1]]);
    let vectors = engine.embed(&texts);
    assert_eq!(engine.computed_and_found(), (5, 2));
    for (vector, text) in vectors.iter().zip(texts) {
        assert_same(vector, &engine.reference(text));
    }
    assert_eq!(engine.embed(&texts), vectors);
    assert_eq!(engine.computed_and_found(), (5, 7));
}

#[test]
fn without_a_cache_each_text_is_computed() {
    let engine = Engine::start(0);
    engine.embed(&["a red boat"]);
    engine.embed(&["a red boat"]);
    assert_eq!(engine.computed_and_found(), (2, 0));
    assert_eq!(engine.scheduler.cache_bytes(), 0);
}

#[test]
fn the_cache_keeps_its_bound() {
    let limit = 4096;
    let engine = Engine::start(limit);
    let texts: Vec<String> = (0..100).map(|number| format!("text number {number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    engine.embed(&texts);
    let bytes = engine.scheduler.cache_bytes();
    assert!(bytes > limit / 2 && bytes <= limit, "{bytes}");
    engine.embed(&texts);
    let (computed, found) = engine.computed_and_found();
    assert!(computed + found == 200 && found < 20, "{computed} computed, {found} found");
}

#[test]
fn a_query_does_not_get_the_vector_of_a_document() {
    let engine = Engine::start(1 << 20);
    let query = Ask { purpose: Purpose::Query, ..PLAIN };
    let document = engine.embed(&["boat"]);
    let as_query = engine.ask(query.clone(), &["boat"]).result.expect(FAILED).vectors;
    assert_eq!(engine.computed_and_found(), (2, 0));
    assert_same(&as_query[0], &engine.reference("find the boat"));
    assert_ne!(as_query, document);
    assert_eq!(engine.ask(query, &["boat"]).result.expect(FAILED).vectors, as_query);
    assert_eq!(engine.embed(&["boat"]), document);
    assert_eq!(engine.computed_and_found(), (2, 2));
}

#[test]
fn a_replaced_model_does_not_get_the_vectors_of_its_predecessor() {
    let engine = Engine::start(1 << 20);
    let before = engine.embed(&["a red boat"]);
    change_pooling(&engine.copy);
    // The files are looked at again when the model has been served for a second.
    let begin = Instant::now();
    let after = loop {
        assert!(begin.elapsed() < Duration::from_secs(60), "the change is not noticed");
        let vectors = engine.embed(&["a red boat"]);
        if vectors != before {
            break vectors;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_same(&after[0], &engine.reference("a red boat"));
    assert_eq!(engine.embed(&["a red boat"]), after);
    assert_eq!(engine.count(Counter::Texts), 2);
}

#[test]
fn a_cut_text_is_told_each_time_and_refused_where_that_is_asked_for() {
    let engine = Engine::start(1 << 20);
    let long = "boat ".repeat(100);
    let texts = ["short", &*long];
    for _ in 0..2 {
        assert_eq!(engine.ask(PLAIN, &texts).result.expect(FAILED).truncated, 1);
    }
    assert_eq!(engine.computed_and_found(), (2, 2));
    assert_eq!(engine.count(Counter::Truncated), 2);

    let refusing = Ask { overlong: Overlong::Refuse, ..PLAIN };
    for isolated in [false, true] {
        let failure = engine.ask(Ask { isolated, ..refusing.clone() }, &texts).result.expect_err("refused");
        assert_eq!((failure.code, failure.position), (FailureCode::TooLong, Some(1)));
    }
    assert_eq!(engine.ask(PLAIN, &[&long]).result.expect(FAILED).truncated, 1);
    assert_eq!(engine.count(Counter::Texts), 2);
}

#[test]
fn an_isolated_text_that_is_found_is_not_announced() {
    let engine = Engine::start(1 << 20);
    let isolated = Ask { isolated: true, ..PLAIN };
    let known = engine.embed(&["a red boat"]);
    let answer = engine.ask(isolated.clone(), &["a green boat", "a red boat", "a blue boat"]);
    assert_eq!((&*answer.started, &*answer.finished), (&[0, 2][..], &[0, 2][..]));
    let vectors = answer.result.expect(FAILED).vectors;
    assert_eq!(vectors[1], known[0]);
    assert_same(&vectors[2], &engine.reference("a blue boat"));

    // What was computed in isolation is kept as well.
    assert_eq!(engine.embed(&["a blue boat"])[0], vectors[2]);
    let again = engine.ask(isolated, &["a blue boat"]);
    assert!(again.started.is_empty() && again.finished.is_empty());
    assert_eq!(engine.computed_and_found(), (3, 3));
}

#[test]
fn a_text_that_crashed_the_engine_is_refused_whoever_asks() {
    let directory = tempfile::tempdir().unwrap();
    // SHA-256 of "dynamite", which an engine left behind when it died of it.
    let hash = "fb8d793c57c891eed7298afb9f4097f24ed56c722088cc720921d0cd5f5a1c5e";
    fs::write(directory.path().join("isolated_text"), hash).unwrap();
    let engine = Engine::start_in(directory, 1 << 20);
    engine.embed(&["harmless"]);
    for isolated in [false, true] {
        let answer = engine.ask(Ask { isolated, ..PLAIN }, &["harmless", "dynamite"]);
        let failure = answer.result.expect_err("refused");
        assert_eq!((failure.code, failure.position), (FailureCode::RefusedText, Some(1)));
        assert_eq!(answer.started, answer.finished);
    }
}

#[test]
fn the_expected_hash_counts_for_found_vectors_too() {
    let engine = Engine::start(1 << 20);
    let hash = engine.scheduler.models().describe("model").unwrap().hash;
    let right = Ask { expected_hash: Some(hash.clone()), ..PLAIN };
    let wrong = Ask { expected_hash: Some("0".repeat(64)), ..PLAIN };
    let vectors = engine.embed(&["a red boat"]);
    for isolated in [false, true] {
        let answer = engine.ask(Ask { isolated, ..right.clone() }, &["a red boat"]);
        assert_eq!(answer.result.expect(FAILED).vectors, vectors);
        let failure =
            engine.ask(Ask { isolated, ..wrong.clone() }, &["a red boat"]).result.expect_err("drift");
        assert_eq!((failure.code, failure.position), (FailureCode::Drifted, None));
        assert!(failure.detail.contains(&hash[..12]), "{failure:?}");
    }
    assert_eq!(engine.computed_and_found(), (1, 2));
    assert_eq!(engine.count(Counter::Errors), 2);
}
