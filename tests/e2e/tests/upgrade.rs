//! A new engine takes over from the old one while sessions of both libraries go on.
//!
//! A library of another build cannot be had here, so the tests say what one would say, over the socket.

use std::path::Path;
use std::thread;

use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::installation::Installation;
use vector_embed_e2e::process;
use vector_embed_e2e::sql::{embed, embed_all, stat_engine};
use vector_embed_e2e::wait;
use vector_embed_e2e::wire::{Greeting, Wire};
use vector_embed_protocol::FailureCode;

const OTHER_BUILD: &str = "0.0.0-another";

/// The build of the engine that runs.
fn build_of_engine(cluster: &Cluster) -> String {
    match Wire::connect(cluster).greet(OTHER_BUILD) {
        Greeting::Welcome(build) => build,
        Greeting::Refused(failure) => panic!("an engine that was not replaced refuses: {failure:?}"),
    }
}

fn assert_retires(cluster: &Cluster) {
    match Wire::connect(cluster).greet(OTHER_BUILD) {
        Greeting::Refused(failure) => assert_eq!(failure.code, FailureCode::Retiring, "{failure:?}"),
        Greeting::Welcome(_) => panic!("an engine that was replaced stays"),
    }
}

fn install_another(installation: &Installation) {
    installation.install_engine(Path::new(env!("CARGO_BIN_EXE_faulty_engine")));
}

#[test]
fn a_client_of_another_build_is_served_while_the_engine_is_the_installed_one() {
    let cluster = Cluster::new();
    embed(&mut cluster.connect(), "the engine runs").expect("a vector");
    let engine = cluster.engine();
    build_of_engine(&cluster);
    assert_eq!(cluster.engine(), engine);
}

#[test]
fn a_replaced_engine_makes_room_when_the_new_library_comes() {
    let installation = Installation::copy();
    let cluster = Cluster::with().installation(&installation).start();
    let mut session = cluster.connect();
    let [first, second] = [golden::sentences()[0], golden::sentences()[1]];
    first.assert_is(&embed(&mut session, &first.text).expect("a vector"));
    let old = cluster.engine();
    let build = build_of_engine(&cluster);

    install_another(&installation);
    assert_eq!(
        Wire::connect(&cluster).greet(&build),
        Greeting::Welcome(build.clone()),
        "old ones are at home"
    );
    second.assert_is(&embed(&mut session, &second.text).expect("the old session's engine"));
    assert_eq!(cluster.engine(), old, "nobody has asked for a new one yet");

    assert_retires(&cluster);
    wait::until("the old engine ends", || !process::is_alive(old));
    first.assert_is(&embed(&mut session, &first.text).expect("the same session goes on"));
    assert_ne!(cluster.engine(), old);
    let restarts = stat_engine(&mut session).expect("a row").restarts;
    assert_eq!(restarts, 1, "the successor came at once and stays");
}

#[test]
fn calls_under_way_are_finished_when_the_engine_makes_room() {
    let installation = Installation::copy();
    let cluster = Cluster::with().installation(&installation).uncached().start();
    let mut session = cluster.connect();
    let sentences: Vec<&Golden> = golden::sentences().iter().copied().cycle().take(1500).collect();
    embed(&mut session, "the engine runs").expect("a vector");
    let old = cluster.engine();
    install_another(&installation);
    let vectors = thread::scope(|scope| {
        let call = scope.spawn(|| embed_all(&mut session, &golden::texts(sentences.iter().copied())));
        let mut observer = cluster.connect();
        wait::until("the engine computes", || {
            stat_engine(&mut observer).is_some_and(|engine| engine.texts > 50)
        });
        assert!(!call.is_finished(), "the call is under way");
        assert_retires(&cluster);
        call.join().expect("the session's thread ends").expect("vectors")
    });
    for (golden, vector) in sentences.iter().zip(&vectors) {
        golden.assert_is(vector);
    }
    wait::until("the old engine ends", || !process::is_alive(old));
}
