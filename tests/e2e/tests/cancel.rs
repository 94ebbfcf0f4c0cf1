//! Calls end at once when they are told to, and the engine turns to others.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::{Cluster, Stop};
use vector_embed_e2e::golden;
use vector_embed_e2e::installation::{Installation, replace};
use vector_embed_e2e::markers::{SLOW, SLOW_MILLISECONDS};
use vector_embed_e2e::notes::{assert_fresh, assert_fresh_of};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{
    assert_error, assert_terminated, backend, embed, embed_and_forget, execute, refused, stat_engine,
    with_timeout,
};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

use crate::faulty;

/// What is promised for a cancel in mid-call.
const BOUND: Duration = Duration::from_millis(100);
/// Repetitions of which the median counts, since others use this machine too.
const REPETITIONS: usize = 7;

fn assert_median_within_bound(mut times: Vec<Duration>) {
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < BOUND, "half of the calls took longer than {median:?} to end, all: {times:?}");
}

/// A call that takes more than ten seconds if it is not ended.
fn long_call(client: &mut Client, texts: &[String]) -> Outcome {
    embed_and_forget(client, texts)
}

type Outcome = Result<(), postgres::Error>;

fn assert_cancelled(outcome: Outcome) {
    assert_eq!(refused(outcome).code().code(), "57014");
}

/// Starts a long call, ends it in its middle by a function of the server, and measures until it is over.
fn time_to_end(cluster: &Cluster, texts: &[String], function: &str, check: fn(Outcome)) -> Duration {
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    let pid = backend(&mut client);
    thread::scope(|scope| {
        let _canceller = Canceller::of(&mut client);
        let call = scope.spawn(move || {
            let result = long_call(&mut client, texts);
            (result, Instant::now())
        });
        // Texts are computed already and others wait: this is the middle of the call.
        let texts_before = stat_engine(&mut observer).map_or(0, |engine| engine.texts);
        wait::until("the call is under way", || {
            stat_engine(&mut observer)
                .is_some_and(|engine| engine.texts > texts_before && engine.queued_texts > 100)
        });
        let begin = Instant::now();
        observer.query_one(&format!("SELECT {function}($1)"), &[&pid]).expect("the function can be called");
        let (result, end) = call.join().expect("the session's thread ends");
        check(result);
        end - begin
    })
}

#[test]
fn a_cancelled_call_ends_within_100_milliseconds() {
    let cluster = Cluster::with().uncached().alone().start();
    let texts = bulk::long_texts(3000);
    let times =
        (0..REPETITIONS).map(|_| time_to_end(&cluster, &texts, "pg_cancel_backend", assert_cancelled));
    assert_median_within_bound(times.collect());
}

#[test]
fn a_terminated_session_ends_within_100_milliseconds() {
    let cluster = Cluster::with().uncached().alone().start();
    let texts = bulk::long_texts(3000);
    let times =
        (0..REPETITIONS).map(|_| time_to_end(&cluster, &texts, "pg_terminate_backend", assert_terminated));
    assert_median_within_bound(times.collect());
}

/// How much longer than `statement_timeout` allows a call takes that it ends.
fn time_over(client: &mut Client, timeout: u64, call: impl FnOnce(&mut Client) -> Outcome) -> Duration {
    let mut taken = Duration::ZERO;
    assert_cancelled(with_timeout(client, timeout, |client| {
        let begin = Instant::now();
        let outcome = call(client);
        taken = begin.elapsed();
        outcome
    }));
    taken.saturating_sub(Duration::from_millis(timeout))
}

#[test]
fn statement_timeout_ends_a_call_within_100_milliseconds_at_any_moment_of_it() {
    // While the texts are read, sent, tokenized and computed.
    const TIMEOUTS: [u64; 9] = [2, 5, 10, 20, 50, 100, 200, 500, 1000];
    let cluster = Cluster::with().uncached().alone().start();
    let texts = bulk::long_texts(3000);
    let mut client = cluster.connect();
    embed(&mut client, "the model is loaded").expect("a vector");
    // The texts reach the server before the call begins.
    execute(&mut client, "CREATE TEMP TABLE long_texts (texts text[])");
    client.execute("INSERT INTO long_texts VALUES ($1)", &[&texts]).expect("a row");
    let times = TIMEOUTS.map(|timeout| {
        time_over(&mut client, timeout, |client| {
            client.batch_execute("SELECT cardinality(embed(texts)) FROM long_texts")
        })
    });
    assert_median_within_bound(times.to_vec());
}

#[test]
fn a_call_for_a_single_text_does_not_wait_for_its_batch() {
    let cluster = Cluster::with().installation(&faulty::installation()).uncached().alone().start();
    let mut client = cluster.connect();
    embed(&mut client, "the model is loaded").expect("a vector");
    let call = format!("SELECT embed('the {} moves slowly')", SLOW.word);
    let times = (0..REPETITIONS).map(|_| {
        let time = time_over(&mut client, SLOW_MILLISECONDS / 10, |client| client.batch_execute(&call));
        embed(&mut client, "the engine has dealt with it").expect("a vector");
        time
    });
    assert_median_within_bound(times.collect());
}

/// While the statements that triggers and procedures run themselves are planned and started, too.
#[test]
fn a_timeout_at_any_moment_of_a_trigger_or_a_backfill_costs_nobody_else_anything() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE documents (id integer PRIMARY KEY, body text);
         SELECT vector_embed.attach_chunks('documents', 'body', 'chunks', '{document_id}');
         CREATE TABLE later (id integer PRIMARY KEY, body text, embedding vector(384));
         SELECT vector_embed.attach('later', 'embedding', '{body}', timing => 'queue');
         CREATE TABLE old (id integer PRIMARY KEY, body text, embedding vector(384));
         INSERT INTO old SELECT i, 'text ' || i, NULL FROM generate_series(1, 300) i;
         SELECT vector_embed.attach('old', 'embedding', '{body}')",
    );
    let before = backend(&mut client);
    let (mut stored, mut timed_out) = ([0; 3], [0; 3]);
    let mut number = 0;
    // The last one is for what all others are too short for on a busy machine.
    for timeout in (1..=15).chain([10_000]) {
        // From its beginning on, so that none is ever set or taken back under the one before.
        let options = format!("-c statement_timeout={timeout}");
        let mut hasty = cluster.config().options(&options).connect(NoTls).expect("a session");
        for _ in 0..10 {
            number += 1;
            let statements = [
                format!("INSERT INTO documents VALUES ({number}, 'text {number}')"),
                format!("INSERT INTO later VALUES ({number}, 'text {number}')"),
                "CALL vector_embed.backfill('old', batch => 7)".to_owned(),
            ];
            for (kind, statement) in statements.iter().enumerate() {
                match hasty.batch_execute(statement) {
                    Ok(()) => stored[kind] += 1,
                    Err(error) => {
                        let state = error.code().map(|code| code.code());
                        assert_eq!(state, Some("57014"), "{statement}: {error:?}");
                        timed_out[kind] += 1;
                    }
                }
            }
        }
    }
    // A crash of one session would have ended the others.
    assert_eq!(backend(&mut client), before);
    assert!(stored.iter().all(|count| *count > 0), "{stored:?} stored, {timed_out:?} timed out");
    // What only queues may be faster than the shortest timeout.
    assert!(timed_out[0] > 0 && timed_out[2] > 0, "{stored:?} stored, {timed_out:?} timed out");

    execute(&mut client, "CALL vector_embed.backfill('old')");
    assert_fresh(&mut client, "old", 300);
    execute(&mut client, "CALL vector_embed.drain('later', '2 min')");
    assert_fresh(&mut client, "later", stored[1]);
    let documents: i64 = client
        .query_one(
            "SELECT count(*) FROM documents AS d WHERE EXISTS (SELECT FROM chunks WHERE document_id = d.id)",
            &[],
        )
        .expect("a count")
        .get(0);
    assert_eq!(documents, stored[0]);
    assert_fresh_of(&mut client, "chunks", "content", stored[0]);
}

#[test]
fn the_engine_drops_the_work_of_a_cancelled_call() {
    let cluster = Cluster::new();
    let texts = bulk::long_texts(3000);
    embed(&mut cluster.connect(), "the model is loaded").expect("a vector");
    time_to_end(&cluster, &texts, "pg_cancel_backend", assert_cancelled);

    let golden = golden::sentences()[0];
    let mut client = cluster.connect();
    golden.assert_is(&embed(&mut client, &golden.text).expect("another session's call works at once"));
    wait::until("nothing waits any more", || stat_engine(&mut client).expect("an engine").queued_texts == 0);
    let engine = stat_engine(&mut client).expect("an engine");
    // Not all of them had been sent.
    assert!(engine.cancelled > 10 * engine.texts, "most of the texts were dropped: {engine:?}");
    assert_eq!(engine.restarts, 0, "the engine that computed them still serves: {engine:?}");
}

#[test]
fn a_session_embeds_again_after_its_call_was_cancelled() {
    let cluster = Cluster::new();
    let texts = bulk::long_texts(1000);
    let mut client = cluster.connect();
    for golden in &golden::sentences()[..3] {
        assert_cancelled(with_timeout(&mut client, 300, |client| long_call(client, &texts)));
        golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    }
}

/// An installation with an engine that runs and never listens.
fn with_an_engine_that_does_not_come_up() -> Installation {
    let installation = Installation::copy();
    replace(&installation.engine(), b"#!/bin/sh\nexec sleep 600\n", 0o755);
    installation
}

#[test]
fn waiting_for_an_engine_that_does_not_come_up_ends_by_itself() {
    let cluster = Cluster::with().installation(&with_an_engine_that_does_not_come_up()).start();
    let mut client = cluster.connect();
    assert_error(&refused(embed(&mut client, "in vain")), "58000");
    execute(&mut client, "SELECT 1");
}

#[test]
fn waiting_for_an_engine_that_does_not_come_up_can_be_cancelled() {
    let installation = with_an_engine_that_does_not_come_up();
    let mut cluster = Cluster::with().installation(&installation).alone().start();
    let mut observer = cluster.connect();
    let times = (0..REPETITIONS).map(|_| {
        let mut client = cluster.connect();
        let pid = backend(&mut client);
        let cluster = &cluster;
        let observer = &mut observer;
        thread::scope(|scope| {
            let _canceller = Canceller::of(&mut client);
            let call = scope.spawn(move || (refused(embed(&mut client, "in vain")), Instant::now()));
            wait::until("the call waits", || {
                let waiting = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Extension'";
                observer.query_opt(waiting, &[&pid]).expect("the view can be read").is_some()
                    && !cluster.supervisors().is_empty()
            });
            let begin = Instant::now();
            observer.query_one("SELECT pg_cancel_backend($1)", &[&pid]).expect("a cancel");
            let (error, end) = call.join().expect("the session's thread ends");
            assert_eq!(error.code().code(), "57014");
            end - begin
        })
    });
    assert_median_within_bound(times.collect());

    // Nor does it hinder the server's end.
    drop(observer);
    cluster.stop(Stop::Fast);
    wait::until("nothing stays", || cluster.processes().is_empty());
}

#[test]
fn an_engine_that_hangs_hinders_neither_a_cancel_nor_the_server_s_end() {
    let mut cluster = Cluster::new();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    let engine = cluster.engine();
    process::send(engine, Signal::STOP);
    for _ in 0..3 {
        let outcome = with_timeout(&mut client, 200, |client| embed(client, &golden.text));
        assert_eq!(refused(outcome).code().code(), "57014");
    }
    process::send(engine, Signal::CONT);
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector when it goes on"));

    process::send(engine, Signal::STOP);
    drop(client);
    cluster.stop(Stop::Fast);
    wait::until("nothing stays", || cluster.processes().is_empty());
}
