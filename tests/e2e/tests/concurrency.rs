//! Many sessions and one engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::sql::{embed, embed_all, embed_and_forget, refused, stat_engine};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait::{self, Together};

#[test]
fn sixty_four_sessions_at_once_get_their_own_vectors_from_one_engine() {
    const SESSIONS: usize = 64;
    let cluster = Cluster::with().uncached().start();
    let sentences = golden::sentences();
    let together = Together::of(SESSIONS);
    thread::scope(|scope| {
        for number in 0..SESSIONS {
            let (cluster, sentences, together) = (&cluster, &sentences, &together);
            scope.spawn(move || {
                let mut client = cluster.connect();
                let own: Vec<&Golden> =
                    (0..8).map(|step| sentences[(number + 9 * step) % sentences.len()]).collect();
                together.wait();
                for golden in &own {
                    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
                }
                let vectors = embed_all(&mut client, &golden::texts(own.iter().copied())).expect("vectors");
                for (golden, vector) in own.iter().zip(&vectors) {
                    golden.assert_is(vector);
                }
            });
        }
    });
    let engine = stat_engine(&mut cluster.connect()).expect("a row");
    assert_eq!((engine.pid, engine.restarts), (cluster.engine(), 0));
    assert_eq!(engine.texts, (SESSIONS * 16) as i64, "each text was computed once");
}

#[test]
fn a_single_text_does_not_wait_for_another_session_s_bulk_call() {
    let cluster = Shared::get();
    let texts = bulk::long_texts(3000);
    let mut busy = cluster.connect();
    thread::scope(|scope| {
        let canceller = Canceller::of(&mut busy);
        let call = scope.spawn(move || embed_and_forget(&mut busy, &texts));
        let mut client = cluster.connect();
        wait::until("the bulk call is under way", || {
            stat_engine(&mut client).is_some_and(|engine| engine.queued_texts > 1000)
        });
        for golden in &golden::sentences()[..5] {
            golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
        }
        let engine = stat_engine(&mut client).expect("an engine");
        assert!(engine.queued_texts > 500, "the bulk call is far from its end: {engine:?}");
        assert!(!call.is_finished());
        canceller.cancel();
        assert_eq!(refused(call.join().expect("the session's thread ends")).code().code(), "57014");
    });
}

#[test]
fn a_single_text_does_not_wait_for_the_tokens_of_a_huge_one() {
    let cluster = Shared::get();
    embed(&mut cluster.connect(), "the model is loaded").expect("a vector");
    for call in [
        "SELECT vector_embed.token_count(repeat('a word and another ', 3000000))",
        "SELECT embed(repeat('word', 15000000))",
    ] {
        let mut busy = cluster.connect();
        let mut client = cluster.connect();
        let (ended, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let canceller = Canceller::of(&mut busy);
            let calls = scope.spawn(|| {
                while !enough.load(Relaxed) {
                    busy.batch_execute(call)?;
                    ended.fetch_add(1, Relaxed);
                }
                Ok::<_, postgres::Error>(())
            });
            let singles = &golden::sentences()[..40];
            let vectors: Vec<_> = singles.iter().map(|golden| embed(&mut client, &golden.text)).collect();
            // Each single text would otherwise wait for the end of a call. A call alone may be over soon.
            let ended = ended.load(Relaxed);
            let are_going_on = !calls.is_finished();
            enough.store(true, Relaxed);
            canceller.cancel();
            let outcome = calls.join().expect("the session's thread ends");
            assert!(are_going_on, "the calls ended by themselves: {outcome:?}");
            assert!(ended * 2 < singles.len(), "{ended} calls ended during {} single texts", singles.len());
            for (golden, vector) in singles.iter().zip(vectors) {
                golden.assert_is(&vector.expect("a vector"));
            }
        });
    }
}
