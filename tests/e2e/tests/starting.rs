//! How supervisor and engine come up: by themselves, once, and again after whatever happened before.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use vector_embed_e2e::account::give_to_server;
use vector_embed_e2e::cluster::{Cluster, Stop};
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{assert_error, embed, execute, refused, stat_engine};
use vector_embed_e2e::wait::Together;

/// How many engines the server's log tells of.
fn engines_started(cluster: &Cluster) -> usize {
    cluster.log().matches("vector_embed: started engine process").count()
}

#[test]
fn the_first_call_starts_supervisor_and_engine() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    assert!(cluster.supervisors().is_empty() && cluster.engines().is_empty(), "nothing runs unasked");
    assert_eq!(stat_engine(&mut client), None, "looking does not start it");
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    cluster.supervisor();
    assert_eq!(stat_engine(&mut client).expect("a row").pid, cluster.engine());
}

#[test]
fn eight_first_callers_at_once_get_one_supervisor_and_one_engine() {
    let cluster = Cluster::new();
    let together = Together::of(8);
    thread::scope(|scope| {
        for golden in &golden::sentences()[..8] {
            let (cluster, together) = (&cluster, &together);
            scope.spawn(move || {
                let mut client = cluster.connect();
                together.wait();
                golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
            });
        }
    });
    cluster.supervisor();
    cluster.engine();
    assert_eq!(engines_started(&cluster), 1);
}

#[test]
fn a_preloaded_library_starts_the_engine_with_the_server() {
    let cluster = Cluster::with().setting("shared_preload_libraries", "vector_embed").start();
    let engine = cluster.engine();
    let supervisor = cluster.supervisor();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    assert_eq!((cluster.supervisor(), cluster.engine()), (supervisor, engine));
    assert_eq!(stat_engine(&mut client).expect("a row").pid, engine);
    assert_eq!(engines_started(&cluster), 1);
}

#[test]
fn without_a_worker_slot_the_error_names_the_setting() {
    let cluster = Cluster::with().setting("max_worker_processes", "0").start();
    let mut client = cluster.connect();
    let hint = assert_error(&refused(embed(&mut client, "no slot")), "53400");
    assert!(hint.contains("max_worker_processes"), "{hint}");
    execute(&mut client, "SELECT 1");
}

#[test]
fn files_of_an_earlier_run_do_not_hinder_the_next() {
    let mut cluster = Cluster::new();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
    cluster.stop(Stop::Fast);

    // All that could have been left, newer than the next start even.
    let directory = cluster.runtime_directory();
    let socket = directory.join("engine.sock");
    let _ = fs::remove_file(&socket);
    drop(UnixListener::bind(&socket).expect("the socket can be made"));
    for (name, contents) in [
        ("supervisor.lock", "1"),
        ("starting.lock", "1"),
        ("start_failure", "Could not execute the engine."),
        ("start_failure.new", ""),
        ("isolated_text", "not a hash"),
        ("refused_texts", "nonsense\nabc 99999999999\n\u{fffd}\n"),
    ] {
        fs::write(directory.join(name), contents).expect("the directory can be written to");
        give_to_server(&directory.join(name));
    }
    give_to_server(&socket);

    cluster.start();
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
    cluster.supervisor();
    cluster.engine();
}

#[test]
fn a_runtime_directory_that_was_removed_comes_back() {
    let mut cluster = Cluster::new();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
    cluster.stop(Stop::Fast);
    fs::remove_dir_all(cluster.runtime_directory()).expect("the directory can be removed");
    cluster.start();
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
}
