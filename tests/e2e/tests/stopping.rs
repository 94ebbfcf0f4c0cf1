//! However the server ends, nothing of it stays, and it starts again.

use std::thread;

use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::{Cluster, Stop};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{backend, embed, embed_and_forget, execute, stat_engine};
use vector_embed_e2e::{golden, wait};

/// A server with an engine.
fn embedding_cluster() -> Cluster {
    let cluster = Cluster::new();
    embeds(&cluster);
    cluster
}

fn embeds(cluster: &Cluster) {
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
}

fn wait_for_sessions(cluster: &Cluster) {
    wait::until("the server takes sessions again", || {
        let client = cluster.config().connect(postgres::NoTls);
        client.is_ok_and(|mut client| client.batch_execute("SELECT 1").is_ok())
    });
}

/// Ends the server by `end` while a session computes; then nothing may stay and the next start must work.
fn leaves_nothing_behind(end: impl FnOnce(&mut Cluster)) {
    let mut cluster = embedding_cluster();
    let mut busy = cluster.connect();
    let mut client = cluster.connect();
    let working = thread::spawn(move || embed_and_forget(&mut busy, &bulk::long_texts(1000)));
    wait::until("the engine has work", || {
        stat_engine(&mut client).is_some_and(|engine| engine.queued_texts > 0)
    });
    drop(client);
    end(&mut cluster);
    wait::until("no process of the server stays", || cluster.processes().is_empty());
    working.join().expect("the session's thread ends").expect_err("a call without a server fails");
    cluster.start();
    embeds(&cluster);
    cluster.supervisor();
    cluster.engine();
}

#[test]
fn a_smart_stop_leaves_nothing_behind() {
    let mut cluster = embedding_cluster();
    cluster.stop(Stop::Smart);
    wait::until("no process of the server stays", || cluster.processes().is_empty());
    cluster.start();
    embeds(&cluster);
}

#[test]
fn a_fast_stop_leaves_nothing_behind() {
    leaves_nothing_behind(|cluster| cluster.stop(Stop::Fast));
}

#[test]
fn an_immediate_stop_leaves_nothing_behind() {
    leaves_nothing_behind(|cluster| cluster.stop(Stop::Immediate));
}

#[test]
fn a_killed_postmaster_leaves_nothing_behind() {
    leaves_nothing_behind(Cluster::kill);
}

#[test]
fn a_killed_supervisor_takes_its_engine_along_and_both_come_back() {
    let cluster = embedding_cluster();
    let (supervisor, engine) = (cluster.supervisor(), cluster.engine());
    process::send(supervisor, Signal::KILL);
    wait::until("the engine dies with its supervisor", || !process::is_alive(engine));
    // PostgreSQL ends all sessions when a background worker is killed; it does not end itself.
    wait_for_sessions(&cluster);
    embeds(&cluster);
    assert_ne!(cluster.supervisor(), supervisor);
    assert_ne!(cluster.engine(), engine);
}

#[test]
fn a_terminated_supervisor_is_started_again_by_the_next_call() {
    let cluster = embedding_cluster();
    let (supervisor, engine) = (cluster.supervisor(), cluster.engine());
    let mut client = cluster.connect();
    process::send(supervisor, Signal::TERM);
    wait::until("both end", || !process::is_alive(supervisor) && !process::is_alive(engine));
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector, in the same session"));
    assert_ne!(cluster.supervisor(), supervisor);
}

#[test]
fn after_a_crash_of_another_backend_sessions_embed_again() {
    let cluster = embedding_cluster();
    let (supervisor, engine) = (cluster.supervisor(), cluster.engine());
    let mut victim = cluster.connect();
    process::send(backend(&mut victim), Signal::KILL);
    wait::until("both end with the sessions", || {
        !process::is_alive(supervisor) && !process::is_alive(engine)
    });
    wait_for_sessions(&cluster);
    embeds(&cluster);
    cluster.supervisor();
    cluster.engine();
}

#[test]
fn a_database_that_embedded_can_be_dropped_at_once() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, "CREATE DATABASE short_lived");
    let mut other = cluster
        .config()
        .dbname("short_lived")
        .connect(postgres::NoTls)
        .expect("the database takes connections");
    execute(&mut other, "CREATE EXTENSION vector_embed CASCADE");
    embed(&mut other, "here today").expect("a vector");
    other.close().expect("the session ends in order");
    execute(&mut client, "DROP DATABASE short_lived");
    embed(&mut client, "gone tomorrow").expect("a vector");
}
