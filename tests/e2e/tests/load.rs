//! Many who ask at once: who waits for what, and what the engine takes in.

use std::thread;
use std::time::Duration;

use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{backend, embed, embed_and_forget, refused, stat_engine};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait::{self, Together};
use vector_embed_e2e::wire::{Greeting, Wire};
use vector_embed_protocol::{BUILD_ID, EmbedRequest, Overlong, Purpose, Reply, Texts, append_embed};

#[test]
fn eight_sessions_beside_a_call_of_100_000_texts_wait_for_a_batch_each_time() {
    const SESSIONS: usize = 8;
    const CALLS: usize = 5;
    let cluster = Cluster::with().uncached().start();
    let texts = bulk::texts(100_000, 60);
    let mut busy = cluster.connect();
    let together = Together::of(SESSIONS + 1);
    thread::scope(|scope| {
        let canceller = Canceller::of(&mut busy);
        let call = scope.spawn(move || embed_and_forget(&mut busy, &texts));
        let mut observer = cluster.connect();
        wait::until("the bulk call is under way", || {
            stat_engine(&mut observer).is_some_and(|engine| engine.batches > 3 && engine.queued_texts > 500)
        });
        let singles: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let (cluster, together) = (&cluster, &together);
                scope.spawn(move || {
                    let mut client = cluster.connect();
                    let golden = golden::sentences()[number];
                    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
                    together.wait();
                    for _ in 0..CALLS {
                        golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
                    }
                })
            })
            .collect();
        together.wait();
        let before = stat_engine(&mut observer).expect("an engine");
        singles.into_iter().for_each(|single| single.join().expect("a session's vectors"));
        let after = stat_engine(&mut observer).expect("an engine");
        assert!(!call.is_finished());
        canceller.cancel();
        assert_eq!(refused(call.join().expect("the session's thread ends")).code().code(), "57014");

        // If all calls came one after the other, each would have a batch of the bulk call before its own. The rest is what
        // the bulk call does while a busy machine lets nobody else run.
        let (most, batches) = (2 * SESSIONS * CALLS + 40, after.batches - before.batches);
        assert!(batches <= most as i64, "{batches} batches for {} calls", SESSIONS * CALLS);
    });
}

/// Texts of a large request.
const TEXTS: usize = 8;

/// A request of 40 MB. Of each of its texts only the beginning is tokenized, so that it is no work.
fn large_request() -> Vec<u8> {
    let texts: Vec<String> =
        (0..TEXTS).map(|number| format!("{number} {}", "words ".repeat(840_000))).collect();
    let request = EmbedRequest {
        id: 1,
        isolated: false,
        beginning: false,
        purpose: Purpose::Document,
        overlong: Overlong::Truncate,
        max_tokens: None,
        model: "all-MiniLM-L6-v2",
        expected_hash: None,
        texts: Texts::default(),
    };
    let mut frame = Vec::new();
    append_embed(&mut frame, &request, &texts);
    frame
}

#[test]
fn requests_over_the_budget_wait_with_their_callers() {
    const CALLERS: usize = 12;
    /// Requests of 40 MB in 256 MiB.
    const FIT: i64 = 6;
    let cluster = Cluster::with().uncached().start();
    let mut observer = cluster.connect();
    embed(&mut observer, "the model is loaded").expect("a vector");
    let before = stat_engine(&mut observer).expect("an engine");
    let frame = large_request();
    assert!(frame.len() > 40_000_000);
    thread::scope(|scope| {
        let call = || {
            let mut wire = Wire::connect(&cluster);
            assert!(matches!(wire.greet(BUILD_ID), Greeting::Welcome(_)));
            wire.be_patient();
            wire.send(&frame);
            let (kind, payload) = wire.frame().expect("an answer");
            let reply = Reply::decode(kind, &payload).expect("an answer that can be read");
            assert!(matches!(reply, Reply::Vectors(vectors) if vectors.iter().len() == TEXTS));
        };
        let calls: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let (mut most_waiting, mut most_memory) = (0, 0);
        while !calls.iter().all(|call| call.is_finished()) {
            let engine = stat_engine(&mut observer).expect("who asks little is served");
            // The engine reads its texts after its requests, so this is never more than wait.
            let done = (engine.texts - before.texts) / TEXTS as i64;
            most_waiting = most_waiting.max(engine.requests - before.requests - done);
            most_memory = most_memory.max(engine.resident_bytes - before.resident_bytes);
            thread::sleep(Duration::from_millis(1));
        }
        calls.into_iter().for_each(|call| call.join().expect("an answer"));
        assert!((1..=FIT).contains(&most_waiting), "{most_waiting} requests were taken in at a time");
        // What fits, a frame that is being read for each of two who may, and some for the work itself.
        assert!(most_memory < 450_000_000, "{most_memory} bytes");
    });
}

#[test]
fn a_session_that_waits_for_the_engine_says_so() {
    let cluster = Cluster::with().uncached().start();
    let texts = bulk::long_texts(3000);
    let mut busy = cluster.connect();
    let pid = backend(&mut busy);
    let mut observer = cluster.connect();
    let version: i32 = observer
        .query_one("SELECT current_setting('server_version_num')::integer", &[])
        .expect("a number")
        .get(0);
    // Earlier versions have one event for all extensions.
    let name = if version >= 170_000 { "VectorEmbedEngine" } else { "Extension" };
    thread::scope(|scope| {
        let canceller = Canceller::of(&mut busy);
        let call = scope.spawn(move || embed_and_forget(&mut busy, &texts));
        wait::until("the session waits", || {
            let activity = "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = $1";
            let row = observer.query_one(activity, &[&pid]).expect("the session");
            let (kind, event): (Option<String>, Option<String>) = (row.get(0), row.get(1));
            kind.as_deref() == Some("Extension") && event.as_deref() == Some(name)
        });
        canceller.cancel();
        assert_eq!(refused(call.join().expect("the session's thread ends")).code().code(), "57014");
    });
}
