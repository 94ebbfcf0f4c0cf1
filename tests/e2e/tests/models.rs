//! Models of every supported kind, and where they are found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden::Golden;
use vector_embed_e2e::sql::{embed, embed_all, embed_by, execute, refused, stat_engine};
use vector_embed_e2e::stopper::Stopper;
use vector_embed_e2e::vectors::max_difference;
use vector_embed_e2e::wire::{Greeting, Wire};
use vector_embed_e2e::{fixtures, golden, process, wait};
use vector_embed_protocol::{
    BUILD_ID, EmbedRequest, FailureCode, Overlong, Purpose, Reply, Request, Texts, append_embed,
};

/// What rounding in another order of additions may change.
const TOLERANCE: f32 = 1e-4;

#[test]
fn models_of_every_kind_compute_their_golden_vectors() {
    let path = format!("$system:{}", fixtures::copy().display());
    let cluster = Cluster::with().setting("vector_embed.model_path", &path).start();
    let mut client = cluster.connect();
    for fixture in fixtures::all() {
        for (text, expected) in &fixture.golden {
            let vector = embed_by(&mut client, text, &fixture.name).expect("a vector");
            let difference = max_difference(&vector, expected);
            assert!(difference <= TOLERANCE, "{} is off by {difference} for {text:?}", fixture.name);
        }
    }
}

#[test]
fn the_view_models_describes_every_model_on_the_path() {
    let path = format!("$system:{}", fixtures::copy().display());
    let cluster = Cluster::with().setting("vector_embed.model_path", &path).start();
    let mut client = cluster.connect();
    let rows = client
        .query(
            "SELECT name, dimensions, max_tokens, pooling, normalized, format, bytes, hash, problem
             FROM vector_embed.models ORDER BY name COLLATE \"C\"",
            &[],
        )
        .expect("the view can be read");
    let described: Vec<_> = rows
        .iter()
        .map(|row| {
            let hash: String = row.get("hash");
            assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash:?}");
            assert!(row.get::<_, i64>("bytes") > 0);
            assert_eq!(row.get::<_, Option<String>>("problem"), None);
            (
                row.get::<_, String>("name"),
                row.get::<_, Option<i32>>("dimensions"),
                row.get::<_, i32>("max_tokens"),
                row.get::<_, String>("pooling"),
                row.get::<_, bool>("normalized"),
                row.get::<_, String>("format"),
            )
        })
        .collect();
    let model = |name: &str, dimensions, max_tokens, pooling: &str, normalized, format: &str| {
        let (pooling, format) = (pooling.to_owned(), format.to_owned());
        (name.to_owned(), Some(dimensions), max_tokens, pooling, normalized, format)
    };
    assert_eq!(
        described,
        [
            model(golden::MODEL, 384, 256, "mean", true, "safetensors"),
            model("tiny-bert", 32, 48, "mean", true, "safetensors"),
            model("tiny-bert-cls", 32, 40, "cls", false, "safetensors"),
            model("tiny-distilbert", 16, 50, "mean", false, "safetensors"),
            model("tiny-mpnet", 16, 150, "mean", false, "safetensors"),
            model("tiny-onnx", 32, 48, "mean", true, "onnx"),
            model("tiny-onnx-notype", 32, 48, "mean", true, "onnx"),
            model("tiny-onnx-pooled", 32, 48, "mean", true, "onnx"),
            model("tiny-roberta", 16, 60, "mean", false, "safetensors"),
            model("tiny-roberta-f16", 16, 62, "mean", false, "safetensors (float16)"),
            model("tiny-xlm-roberta", 16, 62, "mean", false, "safetensors (bfloat16)"),
        ]
    );
}

#[test]
fn a_new_model_path_takes_effect_on_reload_and_no_session_notices() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    let sentences = golden::sentences();
    let reference = sentences[0];
    reference.assert_is(&embed(&mut client, &reference.text).expect("a vector"));
    assert_eq!(refused(embed_by(&mut client, "cat", "tiny-bert")).code().code(), "42704");
    let first = stat_engine(&mut client).expect("an engine").pid;

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopper = Stopper::of(&done);
        let looping = scope.spawn(|| {
            let mut client = cluster.connect();
            for golden in sentences.iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                golden
                    .assert_is(&embed(&mut client, &golden.text).expect("a vector, also during the change"));
            }
        });
        let path = format!("$system:{}", fixtures::copy().display());
        execute(&mut client, &format!("ALTER SYSTEM SET vector_embed.model_path = '{path}'"));
        execute(&mut client, "SELECT pg_reload_conf()");
        wait::until("there is another engine", || {
            stat_engine(&mut client).is_some_and(|engine| engine.pid != first)
        });
        assert!(!process::is_alive(first), "one engine follows the other");
        for fixture in fixtures::all() {
            let (text, expected) = &fixture.golden[2];
            let vector = embed_by(&mut client, text, &fixture.name).expect("the model is there now");
            assert!(max_difference(&vector, expected) <= TOLERANCE);
        }
        drop(stopper);
        looping.join().expect("the session in the loop saw no error");
    });
}

#[test]
fn a_long_call_goes_on_through_changes_of_settings() {
    let cluster = Cluster::with().setting("vector_embed.threads", "1").uncached().start();
    let mut client = cluster.connect();
    // More than the engine finishes before it makes room for its successor.
    let long: Vec<&Golden> = golden::all().iter().filter(|golden| golden.tokens > 120).collect();
    let texts: Vec<&Golden> = long.iter().copied().cycle().take(400).collect();
    let vectors = thread::scope(|scope| {
        let call = scope.spawn(|| embed_all(&mut client, &golden::texts(texts.iter().copied())));
        let mut observer = cluster.connect();
        for batch_tokens in [256, 1024] {
            wait::until("the engine computes", || {
                stat_engine(&mut observer).is_some_and(|row| row.texts > 10 && row.queued_texts > 10)
            });
            assert!(!call.is_finished(), "the call is under way");
            let engine = cluster.engine();
            execute(&mut observer, &format!("ALTER SYSTEM SET vector_embed.batch_tokens = {batch_tokens}"));
            execute(&mut observer, "SELECT pg_reload_conf()");
            wait::until("the engine ends", || !process::is_alive(engine));
        }
        call.join().expect("the session's thread ends").expect("vectors")
    });
    for (golden, vector) in texts.iter().zip(&vectors) {
        golden.assert_is(vector);
    }
}

/// Hands the engine's answer to `check`.
fn answer<T>(wire: &mut Wire, check: impl FnOnce(Reply<'_>) -> T) -> T {
    let (kind, payload) = wire.frame().expect("an answer");
    check(Reply::decode(kind, &payload).expect("an answer that can be read"))
}

fn failure(reply: Reply<'_>) -> FailureCode {
    match reply {
        Reply::Failure(failure) => failure.code,
        other => panic!("another answer than a failure: {other:?}"),
    }
}

#[test]
fn a_client_that_names_a_hash_gets_vectors_of_that_model_only() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    let shown: String = client
        .query_one("SELECT hash FROM vector_embed.models WHERE name = $1", &[&golden::MODEL])
        .expect("the model is installed")
        .get(0);

    let mut wire = Wire::connect(&cluster);
    assert!(matches!(wire.greet(BUILD_ID), Greeting::Welcome(_)));
    wire.ask(&Request::Models { id: 1, name: Some(golden::MODEL) });
    answer(&mut wire, |reply| match reply {
        Reply::Models { models, .. } => {
            let [model] = &*models else { panic!("one model was asked about: {models:?}") };
            assert_eq!((&*model.name, &model.hash, model.loaded), (golden::MODEL, &shown, true));
        }
        other => panic!("another answer: {other:?}"),
    });
    wire.ask(&Request::Models { id: 2, name: Some("no-such-model") });
    assert_eq!(answer(&mut wire, failure), FailureCode::UnknownModel);

    let wrong = "0".repeat(64);
    let mut ask = |hash, isolated| {
        let request = EmbedRequest {
            id: 3,
            isolated,
            beginning: false,
            purpose: Purpose::Document,
            overlong: Overlong::Truncate,
            max_tokens: None,
            model: golden::MODEL,
            expected_hash: Some(hash),
            texts: Texts::default(),
        };
        let mut frame = Vec::new();
        append_embed(&mut frame, &request, &[&*golden.text]);
        wire.send(&frame);
        answer(&mut wire, |reply| match reply {
            Reply::Vectors(vectors) => {
                golden.assert_is(
                    vectors
                        .data
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|b| f32::from_le_bytes(*b))
                        .collect::<Vec<_>>()
                        .as_slice(),
                );
                None
            }
            other => Some(failure(other)),
        })
    };
    for isolated in [false, true] {
        assert_eq!(ask(&shown, isolated), None);
        assert_eq!(ask(&wrong, isolated), Some(FailureCode::Drifted));
    }
}
