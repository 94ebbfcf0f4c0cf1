//! A text that crashes the engine costs its own caller an error and nobody else anything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use postgres::error::DbError;
use serde_json::Value;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::installation::Installation;
use vector_embed_e2e::markers::{POISON, SLOW};
use vector_embed_e2e::sql::{assert_error, embed, embed_all, refused, stat_engine};
use vector_embed_e2e::stopper::Stopper;
use vector_embed_e2e::wait;

use crate::faulty;

fn poison(number: usize) -> String {
    format!("text number {number} is made of {}", POISON.word)
}

fn assert_blamed(error: &DbError) {
    assert_error(error, "58000");
    assert!(error.message().contains("crashed"), "{error:?}");
}

#[test]
fn the_markers_are_single_tokens_of_the_model() {
    let file = Installation::under_test().model(golden::MODEL).join("tokenizer.json");
    let text = std::fs::read_to_string(file).expect("the model is installed");
    let json: Value = serde_json::from_str(&text).expect("valid JSON");
    for marker in [POISON, SLOW] {
        assert_eq!(json["model"]["vocab"][marker.word].as_u64(), Some(marker.id.into()), "{marker:?}");
        let used = golden::all().iter().any(|golden| golden.text.contains(marker.word));
        assert!(!used, "reference texts must not set off faults");
    }
}

#[test]
fn its_caller_gets_an_error_and_can_go_on() {
    let cluster = faulty::cluster();
    let mut client = cluster.connect();
    assert_blamed(&refused(embed(&mut client, &poison(1))));
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
}

#[test]
fn the_same_text_is_refused_for_a_while_and_leaves_the_engine_alone() {
    let cluster = faulty::cluster();
    let mut client = cluster.connect();
    assert_blamed(&refused(embed(&mut client, &poison(1))));
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    let engine = cluster.engine();
    for _ in 0..3 {
        assert_blamed(&refused(embed(&mut cluster.connect(), &poison(1))));
        assert_blamed(&refused(embed(&mut client, &poison(1))));
    }
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    assert_eq!(cluster.engine(), engine, "nothing crashed again");
}

#[test]
fn in_an_array_it_is_named_by_its_place() {
    let cluster = faulty::cluster();
    let mut client = cluster.connect();
    let mut texts: Vec<Option<String>> = (0..6).map(|number| Some(format!("harmless {number}"))).collect();
    texts[1] = None;
    texts[4] = Some(poison(1));
    // The first time it crashes the engine, the second time it is refused: the place is the same.
    for _ in 0..2 {
        let error = refused(client.query_one("SELECT embed($1::text[])::text", &[&texts]));
        assert_blamed(&error);
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains("element number 5 of the array"), "{error:?}");
    }
}

/// Has eight sessions call `innocent` over and over while others, so many at once, send poisoned texts.
fn harms_nobody_else(
    poisoners: usize,
    texts_of_each: usize,
    innocent: impl Fn(&mut postgres::Client, usize) + Sync,
) {
    let cluster = faulty::cluster();
    let done = AtomicBool::new(false);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (cluster, done, calls, innocent) = (&cluster, &done, &calls, &innocent);
            scope.spawn(move || {
                let mut client = cluster.connect();
                for call in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                    innocent(&mut client, 100 * number + call);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let stopper = Stopper::of(&done);
        let poisoning: Vec<_> = (0..poisoners)
            .map(|poisoner| {
                let (cluster, calls) = (&cluster, &calls);
                scope.spawn(move || {
                    let mut client = cluster.connect();
                    for number in 0..texts_of_each {
                        let before = calls.load(Ordering::Relaxed);
                        wait::until("others embed", || calls.load(Ordering::Relaxed) > before + 16);
                        let text = poison(poisoner * texts_of_each + number);
                        assert_blamed(&refused(embed(&mut client, &text)));
                    }
                })
            })
            .collect();
        for poisoner in poisoning {
            poisoner.join().expect("each poisoned text is an error");
        }
        drop(stopper);
    });
    let restarts = stat_engine(&mut cluster.connect()).expect("a row").restarts as usize;
    let poisoned = poisoners * texts_of_each;
    assert!(restarts >= poisoned && restarts <= 2 * poisoned, "{restarts} crashes by {poisoned} texts");
}

#[test]
fn others_who_embed_single_texts_notice_nothing() {
    let sentences = golden::sentences();
    harms_nobody_else(1, 3, |client, call| {
        let golden = sentences[call % sentences.len()];
        golden.assert_is(&embed(client, &golden.text).expect("a vector"));
    });
}

#[test]
fn others_who_embed_arrays_notice_nothing() {
    let sentences = golden::sentences();
    harms_nobody_else(1, 3, |client, call| {
        let own: Vec<&Golden> = sentences.iter().copied().cycle().skip(call).take(5).collect();
        let vectors = embed_all(client, &golden::texts(own.iter().copied())).expect("vectors");
        for (golden, vector) in own.iter().zip(&vectors) {
            golden.assert_is(vector);
        }
    });
}

#[test]
fn others_notice_nothing_of_several_such_texts_at_once() {
    let sentences = golden::sentences();
    harms_nobody_else(3, 1, |client, call| {
        let golden = sentences[call % sentences.len()];
        golden.assert_is(&embed(client, &golden.text).expect("a vector"));
    });
}

#[test]
fn a_call_that_is_computed_apart_is_not_blamed_for_another_s_text() {
    let cluster = faulty::cluster();
    let mut session = cluster.connect();
    let own: Vec<&Golden> = golden::sentences().iter().copied().cycle().take(400).collect();
    let vectors = thread::scope(|scope| {
        let call = scope.spawn(|| embed_all(&mut session, &golden::texts(own.iter().copied())));
        let mut client = cluster.connect();
        for number in 0..3 {
            let engine = cluster.engine();
            wait::until("the engine computes", || {
                stat_engine(&mut client).is_some_and(|row| row.pid == engine && row.texts > 10)
            });
            assert!(!call.is_finished(), "the call is under way");
            // From the second time on, the other call's texts are computed one by one.
            assert_blamed(&refused(embed(&mut client, &poison(number))));
        }
        call.join().expect("the session's thread ends").expect("vectors")
    });
    for (golden, vector) in own.iter().zip(&vectors) {
        golden.assert_is(vector);
    }
}
