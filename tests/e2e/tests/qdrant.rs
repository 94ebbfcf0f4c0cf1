//! Qdrant as foreign tables: who may, what is waited for, what is told to whom.
//!
//! What is read is compared with the real client's own reading in `crates/sources/tests/qdrant`. The server is a
//! substitute, since a real one cannot be had on the machines that run this.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::DbError;
use serde_json::{Value, json};
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::qdrant::{Server, store};
use vector_embed_e2e::sql::{backend, count, execute, refused, with_timeout};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

const KEY: &str = "a-key-that-nobody-may-see";

/// A session of a superuser in a database of its own with the server's collections in schema `q`.
fn imported(cluster: &Cluster, name: &str, server: &Server, options: &str) -> Client {
    let mut client = cluster.database(name);
    execute(
        &mut client,
        &format!(
            "CREATE SERVER qdrant FOREIGN DATA WRAPPER vector_embed_qdrant \
                 OPTIONS (url 'http://127.0.0.1:{}'{options});
             CREATE USER MAPPING FOR PUBLIC SERVER qdrant OPTIONS (api_key '{KEY}');
             CREATE SCHEMA q;
             IMPORT FOREIGN SCHEMA collections FROM SERVER qdrant INTO q",
            server.port
        ),
    );
    client
}

fn assert_state(error: &DbError, state: &str) {
    assert_eq!(error.code().code(), state, "{error:?}");
}

#[test]
fn collections_are_moved_by_one_statement() {
    let cluster = Shared::get();
    let server = Server::start(KEY);
    let mut client = imported(&cluster, "qdrant_moved", &server, "");
    execute(
        &mut client,
        "CREATE TABLE notes (id text PRIMARY KEY, title text, embedding vector(8));
         INSERT INTO notes SELECT id, payload->>'title', embedding FROM q.notes",
    );
    assert_eq!(count(&mut client, "SELECT count(*) FROM notes"), 1000);
    assert_eq!(count(&mut client, "SELECT points FROM q.collections WHERE name = 'notes'"), 1000);
    // The same from a local store, and joined by ids.
    let path = store();
    execute(
        &mut client,
        &format!(
            "CREATE SERVER local FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS (path '{}');
             CREATE SCHEMA l;
             IMPORT FOREIGN SCHEMA collections LIMIT TO (notes) FROM SERVER local INTO l",
            path.display()
        ),
    );
    let same = "SELECT count(*) FROM notes n JOIN l.notes l USING (id) WHERE n.embedding = l.embedding";
    assert_eq!(count(&mut client, same), 1000);
    assert_eq!(count(&mut client, "SELECT count(*) FROM q.notes WHERE payload @> '{\"added\": true}'"), 1);
    // A prepared statement and a nested loop ask by id.
    let found = client.query("SELECT id FROM q.notes WHERE id = $1", &[&"18446744073709551615"]).unwrap();
    assert_eq!(found.len(), 1);
    execute(&mut client, "SET enable_hashjoin = off; SET enable_mergejoin = off");
    let joined =
        "SELECT count(q.id) FROM (VALUES ('1'), ('2'), ('nothing')) v (id) JOIN q.notes q ON q.id = v.id";
    assert_eq!(count(&mut client, joined), 2);
    assert_eq!(client.query("SELECT id FROM q.notes LIMIT 3", &[]).unwrap().len(), 3);
    let pid = backend(&mut client);
    let entries =
        |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("the backend lives").count();
    assert_eq!(entries("task"), 1, "a backend has one thread");
    let before = entries("fd");
    for _ in 0..10 {
        client.query("SELECT id FROM q.notes LIMIT 3", &[]).expect("the query runs");
    }
    assert_eq!(entries("fd"), before, "connections are closed");
}

#[test]
fn a_read_ends_when_it_is_told_to() {
    let cluster = Shared::get();
    let mut server = Server::start(KEY);
    let mut client = imported(&cluster, "qdrant_cancel", &server, "");
    let mut observer = cluster.connect_to("qdrant_cancel");
    let pid = backend(&mut client);
    // While it plans, begins, reads the first page or a later one; waits for an answer or its rest, or pauses.
    let overloaded = json!({"kind": "status", "status": 503, "headers": {"retry-after": "30"}});
    for fault in [json!({"kind": "silent"}), json!({"kind": "half"}), json!({"kind": "trickle"}), overloaded]
    {
        for before in 0..5 {
            let mut faults: Vec<Value> = (0..before).map(|_| json!({"kind": "none"})).collect();
            faults.push(fault.clone());
            server.faults(&faults);
            let requests = server.requests() + before + 1;
            thread::scope(|scope| {
                let _canceller = Canceller::of(&mut client);
                let reading = scope.spawn(|| client.query("SELECT * FROM q.notes", &[]).map(drop));
                wait::until("the request that is not answered is there", || server.requests() >= requests);
                execute(&mut observer, &format!("SELECT pg_cancel_backend({pid})"));
                let begin = Instant::now();
                assert_state(&refused(reading.join().expect("the thread ends")), "57014");
                assert!(begin.elapsed() < Duration::from_secs(15), "no timeout of the server ended it");
            });
        }
    }
    server.faults(&[json!({"kind": "none"}), json!({"kind": "none"}), json!({"kind": "silent"})]);
    let timed_out = with_timeout(&mut client, 300, |client| client.query("SELECT * FROM q.notes", &[]));
    assert_state(&refused(timed_out), "57014");
    // Nothing is left over: the session goes on.
    assert_eq!(count(&mut client, "SELECT count(*) FROM q.notes"), 1000);
}

#[test]
fn failures_are_tried_again_or_told() {
    let cluster = Shared::get();
    let mut server = Server::start(KEY);
    let mut client = imported(&cluster, "qdrant_failures", &server, ", timeout '1', retries '1'");
    let none = || json!({"kind": "none"});
    server.faults(&[
        json!({"kind": "drop"}),
        none(),
        json!({"kind": "status", "status": 500}),
        none(),
        json!({"kind": "cut"}),
    ]);
    assert_eq!(count(&mut client, "SELECT count(*) FROM q.notes"), 1000);

    let mut fails = |fault: Value, state: &str| {
        server.faults(&[none(), none(), fault.clone(), fault]);
        let error = refused(client.query("SELECT * FROM q.notes", &[]));
        assert_state(&error, state);
        format!("{}: {}", error.message(), error.detail().unwrap_or_default())
    };
    let late = fails(json!({"kind": "silent"}), "HV00N");
    assert!(late.ends_with("It did not answer within 1000 ms."), "{late}");
    let failing = fails(
        json!({"kind": "status", "status": 500, "body": "{\"status\": {\"error\": \"disk\"}}"}),
        "HV00M",
    );
    assert!(failing.ends_with("It answered with status 500: disk."), "{failing}");
    let moved = json!({"kind": "status", "status": 307, "headers": {"location": "http://127.0.0.1:1/"}});
    assert!(fails(moved, "HV00M").ends_with("Redirects are not followed."));
    fails(
        json!({"kind": "raw", "body": "{\"result\": {\"points\": [{\"id\": 1, \"vector\": [1]}]}}"}),
        "HV024",
    );
    fails(json!({"kind": "raw", "body": "{\"result\": 1}"}), "HV00M");

    // Values that do not fit are NULL and counted where that is asked for.
    execute(&mut client, "ALTER FOREIGN TABLE q.notes OPTIONS (ADD on_error 'null')");
    let body =
        "{\"result\": {\"points\": [{\"id\": 1, \"vector\": [1, null]}, {\"payload\": {}}, {\"id\": 2}]}}";
    server.faults(&[none(), none(), json!({"kind": "raw", "body": body})]);
    let found = client.query("SELECT id, embedding IS NULL FROM q.notes", &[]).unwrap();
    assert_eq!(found.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["1", "2"]);
    let log = cluster.log();
    assert!(log.contains("1 value was read as NULL"), "{log}");
}

#[test]
fn only_a_superuser_names_a_server_and_only_mappings_hold_keys() {
    let cluster = Shared::get();
    let server = Server::start(KEY);
    let mut client = imported(&cluster, "qdrant_privileges", &server, "");
    let url = format!("http://127.0.0.1:{}", server.port);
    execute(
        &mut client,
        "CREATE ROLE qdrant_owner LOGIN; CREATE ROLE qdrant_reader LOGIN;
         GRANT USAGE ON FOREIGN DATA WRAPPER vector_embed_qdrant TO qdrant_owner;
         GRANT CREATE ON SCHEMA public TO qdrant_owner;
         ALTER SERVER qdrant OWNER TO qdrant_owner;
         GRANT pg_read_server_files TO qdrant_reader;
         GRANT USAGE ON SCHEMA q TO qdrant_reader",
    );
    let mut owner = cluster.connect_as("qdrant_owner", "qdrant_privileges");
    let mut denied = |statement: &str, state: &str| {
        assert_state(&refused(owner.batch_execute(statement)), state);
    };
    let create = "CREATE SERVER other FOREIGN DATA WRAPPER vector_embed_qdrant OPTIONS";
    denied(&format!("{create} (url '{url}')"), "42501");
    denied(&format!("{create} (path '/etc')"), "42501");
    denied("ALTER SERVER qdrant OPTIONS (SET url 'http://127.0.0.1:1')", "42501");
    denied("ALTER SERVER qdrant OPTIONS (ADD timeout '5')", "42501");
    denied("ALTER SERVER qdrant OPTIONS (DROP url, ADD path '/etc')", "42501");

    let mut invalid =
        |statement: &str, state: &str| assert_state(&refused(client.batch_execute(statement)), state);
    invalid(&format!("{create} (url '{url}', api_key 'x')"), "HV00D");
    invalid("ALTER FOREIGN TABLE q.notes OPTIONS (ADD api_key 'x')", "HV00D");
    invalid(&format!("{create} (url '{url}', path '/srv')"), "HV00D");
    invalid(&format!("{create} (path '/srv', timeout '5')"), "HV00D");
    invalid(&format!("{create} (url 'http://me:a-password@host')"), "HV024");
    invalid(&format!("{create} (url '{url}', timeout 'soon')"), "HV024");
    invalid(&format!("{create} (url '{url}', fetch_size '0')"), "HV024");
    invalid(&format!("{create} (path 'srv')"), "HV024");
    let error = refused(client.batch_execute(&format!("{create} (url 'http://me:a-password@host')")));
    assert!(!format!("{error:?}").contains("a-password"), "{error:?}");

    // Readers need what readers of any table need, and read with the key of whoever is looked at: a view's owner.
    let mut reader = cluster.connect_as("qdrant_reader", "qdrant_privileges");
    assert_state(&refused(reader.query("SELECT * FROM q.notes", &[])), "42501");
    execute(
        &mut client,
        "DROP USER MAPPING FOR PUBLIC SERVER qdrant;
         GRANT SELECT ON q.notes TO qdrant_reader;
         CREATE VIEW q.titles AS SELECT id, payload->>'title' AS title FROM q.notes;
         GRANT SELECT ON q.titles TO qdrant_reader",
    );
    execute(
        &mut client,
        &format!("CREATE USER MAPPING FOR CURRENT_USER SERVER qdrant OPTIONS (api_key '{KEY}')"),
    );
    let error = refused(reader.query("SELECT * FROM q.notes", &[]));
    assert_state(&error, "HV00M");
    assert!(error.hint().is_some_and(|hint| hint.contains("user mapping")), "{error:?}");
    assert_eq!(count(&mut reader, "SELECT count(title) FROM q.titles"), 998);
    let mappings = "SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL";
    assert_eq!(count(&mut reader, mappings), 0);
}

#[test]
fn a_key_is_in_no_message_plan_or_log() {
    let cluster =
        Cluster::with().setting("log_min_messages", "debug5").setting("log_statement", "none").start();
    let mut server = Server::start(KEY);
    // Told once, by a statement that succeeds.
    let mut client = imported(&cluster, "qdrant_key", &server, ", timeout '1', retries '0'");
    let mut told = String::new();
    for row in client.query("EXPLAIN (VERBOSE, ANALYZE) SELECT * FROM q.notes WHERE id = '1'", &[]).unwrap() {
        told += row.get::<_, &str>(0);
    }
    assert!(told.contains("Qdrant Query: points by id of collection notes"), "{told}");
    for fault in ["silent", "drop", "cut", "half"] {
        server.faults(&[json!({"kind": "none"}), json!({"kind": "none"}), json!({"kind": fault})]);
        told += &format!("{:?}", refused(client.query("SELECT * FROM q.notes", &[])));
    }
    // The server repeats what it was sent.
    drop(server);
    let server = Server::start("another-key");
    execute(
        &mut client,
        &format!("ALTER SERVER qdrant OPTIONS (SET url 'http://127.0.0.1:{}')", server.port),
    );
    let error = refused(client.query("SELECT * FROM q.notes", &[]));
    assert!(error.detail().is_some_and(|detail| detail.contains("not ***")), "{error:?}");
    told += &format!("{error:?}");
    // Nobody is asked who would get it in plain text.
    execute(&mut client, "ALTER SERVER qdrant OPTIONS (SET url 'http://192.0.2.1:6333')");
    let error = refused(client.query("SELECT * FROM q.notes", &[]));
    assert_state(&error, "HV00N");
    assert!(error.message().contains("in plain text"), "{error:?}");
    told += &format!("{error:?}");
    for row in client.query("SELECT srvoptions::text FROM pg_foreign_server", &[]).unwrap() {
        told += row.get::<_, &str>(0);
    }
    assert!(!told.contains(KEY), "{told}");
    let log = cluster.log();
    assert!(
        log.contains("could not get an answer") && !log.contains(KEY),
        "the log has the key, or no failure"
    );
}
