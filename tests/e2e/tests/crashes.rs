//! An engine that dies costs nobody a session, and nobody but the cause a call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::markers::SLOW;
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{backend, embed, embed_all, embed_and_forget, refused, stat_engine};
use vector_embed_e2e::stopper::{Canceller, Stopper};
use vector_embed_e2e::vectors::{EQUAL, assert_close};
use vector_embed_e2e::wait;

use crate::faulty;

fn assert_embeds(client: &mut Client, golden: &Golden) {
    golden.assert_is(&embed(client, &golden.text).expect("a vector"));
}

#[test]
fn after_an_engine_killed_while_idle_the_next_call_works() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    for golden in &golden::sentences()[..3] {
        assert_embeds(&mut client, golden);
        process::send(cluster.engine(), Signal::KILL);
    }
    let golden = golden::sentences()[3];
    assert_embeds(&mut client, golden);
    assert_eq!(stat_engine(&mut client).expect("a row").restarts, 3);
}

#[test]
fn a_single_text_under_way_survives_a_killed_engine() {
    let cluster = faulty::cluster();
    let (mut client, mut observer) = (cluster.connect(), cluster.connect());
    let text = format!("The {} moves slowly.", SLOW.word);
    let expected = embed(&mut client, &text).expect("a vector");
    for _ in 0..3 {
        let engine = cluster.engine();
        let before = stat_engine(&mut observer).expect("an engine").requests;
        let vector = thread::scope(|scope| {
            let call = scope.spawn(|| embed(&mut client, &text));
            wait::until("the engine has the text", || {
                stat_engine(&mut observer).expect("an engine").requests > before
            });
            assert!(!call.is_finished(), "the call is under way");
            process::send(engine, Signal::KILL);
            call.join().expect("the session's thread ends").expect("a vector")
        });
        assert_close(&text, &vector, &expected, EQUAL);
        assert_ne!(cluster.engine(), engine);
    }
}

#[test]
fn a_call_under_way_survives_a_killed_engine() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    let sentences: Vec<&Golden> = golden::sentences().iter().copied().cycle().take(1500).collect();
    assert_embeds(&mut client, sentences[0]);
    let engine = cluster.engine();
    let vectors = thread::scope(|scope| {
        let call = scope.spawn(|| embed_all(&mut client, &golden::texts(sentences.iter().copied())));
        let mut observer = cluster.connect();
        wait::until("the engine computes", || {
            stat_engine(&mut observer).is_some_and(|engine| engine.texts > 100)
        });
        assert!(!call.is_finished(), "the call is under way");
        process::send(engine, Signal::KILL);
        call.join().expect("the session's thread ends").expect("vectors")
    });
    assert_ne!(cluster.engine(), engine);
    for (golden, vector) in sentences.iter().zip(&vectors) {
        golden.assert_is(vector);
    }
}

#[test]
fn an_engine_killed_ten_times_under_load_ends_no_session_and_falsifies_no_vector() {
    let cluster = Cluster::with().uncached().start();
    let sentences = golden::sentences();
    let (spare, used) = sentences.split_last().expect("there are sentences");
    let done = AtomicBool::new(false);
    let right = AtomicUsize::new(0);
    thread::scope(|scope| {
        let stopper = Stopper::of(&done);
        let sessions: Vec<_> = (0..8)
            .map(|number| {
                let (cluster, done, right) = (&cluster, &done, &right);
                scope.spawn(move || {
                    let mut client = cluster.connect();
                    let before = backend(&mut client);
                    for golden in used.iter().cycle().skip(7 * number) {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        match embed(&mut client, &golden.text) {
                            Ok(vector) => {
                                golden.assert_is(&vector);
                                right.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => {
                                let state = error.code().expect("the session lives").code();
                                assert_eq!(state, "58000", "{error:?}");
                            }
                        }
                    }
                    assert_eq!(backend(&mut client), before, "it is still the same session");
                    assert_embeds(&mut client, spare);
                })
            })
            .collect();
        for _ in 0..10 {
            let (engine, so_far) = (cluster.engine(), right.load(Ordering::Relaxed));
            wait::until("calls succeed between two crashes", || right.load(Ordering::Relaxed) > so_far + 8);
            // Not always at the same point of the work.
            thread::sleep(Duration::from_millis(so_far as u64 % 50));
            process::send(engine, Signal::KILL);
            wait::until("the engine is gone", || !process::is_alive(engine));
        }
        drop(stopper);
        for session in sessions {
            session.join().expect("no session died");
        }
    });
}

#[test]
fn a_call_that_is_computed_apart_does_not_wait_for_another_s_bulk_call() {
    let cluster = Cluster::with().uncached().start();
    let own = &golden::sentences()[..60];
    let bulk = bulk::texts(20_000, 40);
    let mut session = cluster.connect();
    assert_embeds(&mut session, own[0]);
    let mut busy = cluster.connect();
    let first = cluster.engine();
    thread::scope(|scope| {
        let mut observer = cluster.connect();
        let call = scope.spawn(move || embed_all(&mut session, &golden::texts(own.iter().copied())));
        wait::until("the engine computes", || {
            stat_engine(&mut observer).is_some_and(|engine| engine.texts > 10)
        });
        process::send(first, Signal::KILL);
        // This one comes too late to be computed apart, and keeps the next engine busy for minutes.
        let canceller = Canceller::of(&mut busy);
        let bulk_call = scope.spawn(move || embed_and_forget(&mut busy, &bulk));
        wait::until("the call is answered", || call.is_finished());
        assert!(!bulk_call.is_finished(), "the bulk call goes on meanwhile");
        let vectors = call.join().expect("the session's thread ends").expect("vectors");
        for (golden, vector) in own.iter().zip(&vectors) {
            golden.assert_is(vector);
        }
        canceller.cancel();
        assert_eq!(refused(bulk_call.join().expect("the session's thread ends")).code().code(), "57014");
    });
}
