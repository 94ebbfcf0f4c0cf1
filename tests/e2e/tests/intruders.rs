//! Whoever breaks the protocol loses the connection; nobody else notices.

use std::thread;
use std::time::Duration;

use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{embed, stat_engine};
use vector_embed_e2e::wire::{Greeting, Wire};
use vector_embed_protocol::{BUILD_ID, FailureCode, MAX_FRAME_BYTES, PROTOCOL_VERSION, Reply, Request};

/// Has `intrude` talk to the engine while a session embeds; that session and engine must not change.
fn harms_nobody(intrude: impl Fn(&Cluster)) {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    let sentences = golden::sentences();
    let mut embeds = |round: usize| {
        let golden = sentences[round];
        golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    };
    embeds(0);
    let engine = cluster.engine();
    for round in 1..4 {
        intrude(&cluster);
        embeds(round);
    }
    assert_eq!(cluster.engine(), engine, "it is still the same engine");
    assert_eq!(stat_engine(&mut client).expect("a row").restarts, 0);
}

/// A connection that has been greeted.
fn greeted(cluster: &Cluster) -> Wire {
    let mut wire = Wire::connect(cluster);
    assert!(matches!(wire.greet(BUILD_ID), Greeting::Welcome(_)));
    wire
}

/// Fails unless the engine tells that it could not read the last frame, and closes the connection.
fn assert_refused(mut wire: Wire) {
    let (kind, payload) = wire.frame().expect("a failure");
    match Reply::decode(kind, &payload) {
        Ok(Reply::Failure(failure)) => assert_eq!(failure.code, FailureCode::BadRequest, "{failure:?}"),
        other => panic!("another answer than a failure: {other:?}"),
    }
    assert!(wire.is_closed());
}

#[test]
fn garbage() {
    harms_nobody(|cluster| {
        let mut wire = Wire::connect(cluster);
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_refused(wire);
        let mut wire = greeted(cluster);
        wire.send(&[0xff; 4096]);
        assert_refused(wire);
    });
}

#[test]
fn a_frame_over_the_limit() {
    harms_nobody(|cluster| {
        for length in [MAX_FRAME_BYTES as u32 + 1, u32::MAX] {
            let mut wire = greeted(cluster);
            wire.send(&length.to_le_bytes());
            wire.send(&[2]);
            assert_refused(wire);
        }
    });
}

#[test]
fn a_message_of_no_known_kind() {
    harms_nobody(|cluster| {
        let mut wire = greeted(cluster);
        wire.send(&[0, 0, 0, 0, 99]);
        assert_refused(wire);
    });
}

#[test]
fn a_payload_that_ends_too_early() {
    harms_nobody(|cluster| {
        let mut wire = greeted(cluster);
        // A request to embed that says it has a model name of 200 bytes, and ends.
        wire.send(&[11, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0]);
        assert_refused(wire);
    });
}

#[test]
fn half_a_frame_and_a_silent_client() {
    harms_nobody(|cluster| {
        let mut leaver = greeted(cluster);
        leaver.send(&[100, 0]);
        drop(leaver);
        let mut half = greeted(cluster);
        half.send(&[100, 0, 0, 0, 2, 1, 2, 3]);
        let silent = Wire::connect(cluster);
        // These two stay while others are served.
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(2));
            drop((half, silent));
        });
    });
}

#[test]
fn a_request_before_the_greeting() {
    harms_nobody(|cluster| {
        let mut wire = Wire::connect(cluster);
        wire.ask(&Request::Stats { id: 1 });
        assert!(wire.is_closed(), "a stranger gets no answer");
    });
}

#[test]
fn another_version_of_the_protocol() {
    harms_nobody(|cluster| match Wire::connect(cluster).greet_as(PROTOCOL_VERSION + 1, BUILD_ID) {
        Greeting::Refused(failure) => {
            assert_eq!(failure.code, FailureCode::VersionMismatch);
            assert!(!failure.hint.is_empty(), "{failure:?}");
        }
        Greeting::Welcome(_) => panic!("two versions do not understand each other"),
    });
}

#[test]
fn a_client_that_asks_and_leaves() {
    harms_nobody(|cluster| {
        for _ in 0..20 {
            let mut wire = greeted(cluster);
            wire.ask(&Request::Models { id: 1, name: None });
            wire.ask(&Request::Stats { id: 2 });
        }
    });
}
