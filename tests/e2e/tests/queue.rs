//! Timing "queue": vectors are made by background workers after commit, and nothing keeps a row from getting its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use vector_embed_e2e::account::new_directory;
use vector_embed_e2e::cluster::{Cluster, Stop};
use vector_embed_e2e::notes::{self, assert_fresh, drain};
use vector_embed_e2e::process;
use vector_embed_e2e::sql::{assert_error, embed, execute, queue_workers, refused, set_queue_workers};
use vector_embed_e2e::stopper::Stopper;
use vector_embed_e2e::wait;

/// The queue of a table `notes` of the tests.
const QUEUE: &str = "notes_embedding_queue";

fn queued(client: &mut Client) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {QUEUE}"), &[]).expect("the queue can be read").get(0)
}

/// Waits until no rows are queued, without asking anybody for anything.
fn wait_until_empty(client: &mut Client) {
    wait::until("the queue is empty", || queued(client) == 0);
}

/// Waits until a worker has made some vectors.
fn wait_until_it_works(client: &mut Client) {
    wait::until("the worker works", || {
        let has_begun = "SELECT EXISTS (SELECT FROM notes WHERE embedding IS NOT NULL)";
        client.query_one(has_begun, &[]).expect("a row").get(0)
    });
}

/// Writes to `notes`, whose queue is empty, and has one of the rows locked before any worker can come to it. The lock is
/// held until the returned session ends its transaction.
fn write_and_lock(cluster: &Cluster, client: &mut Client, write: &str, id: i32) -> Client {
    set_queue_workers(client, 0);
    wait::until("no worker runs", || cluster.queue_workers().is_empty());
    let written = client.execute(write, &[]).expect("rows are written");
    let mut holding = cluster.connect();
    execute(&mut holding, &format!("BEGIN; SELECT FROM notes WHERE id = {id} FOR UPDATE"));
    assert_eq!(queued(client), written as i64, "all wait while the row is locked");
    set_queue_workers(client, 2);
    holding
}

#[test]
fn a_worker_makes_vectors_after_commit_is_seen_and_ends_when_it_is_idle() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    let mut writing = cluster.connect();
    let mut transaction = writing.transaction().expect("a transaction");
    transaction.batch_execute("INSERT INTO notes VALUES (1, 'not yet')").expect("a row");
    execute(&mut client, "INSERT INTO notes VALUES (2, 'now')");
    wait::until("the committed row has its vector", || {
        client.query_one("SELECT count(embedding) = 1 FROM notes", &[]).expect("a row").get(0)
    });
    let named = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'vector_embed queue worker'
                 AND application_name = 'vector_embed queue worker' AND datname = current_database()";
    assert_eq!(client.query_one(named, &[]).expect("a row").get::<_, i64>(0), 1);
    transaction.commit().expect("it commits");
    wait_until_empty(&mut client);
    assert_fresh(&mut client, "notes", 2);
    wait::until("the worker ends", || cluster.queue_workers().is_empty());
}

#[test]
fn writers_of_the_same_rows_leave_each_with_the_vector_of_its_text() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    thread::scope(|scope| {
        for writer in 0..4 {
            let mut client = cluster.connect();
            scope.spawn(move || {
                for turn in 0..40 {
                    let id = (writer * 7 + turn * 3) % 25;
                    // Deadlocks cannot be: each statement touches one row.
                    execute(
                        &mut client,
                        &match turn % 8 {
                            7 => format!("DELETE FROM notes WHERE id = {id}"),
                            5 => format!("UPDATE notes SET body = NULL WHERE id = {id}"),
                            _ => format!(
                                "INSERT INTO notes VALUES ({id}, 'text {turn} of {writer}')
                                 ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                            ),
                        },
                    );
                }
            });
        }
    });
    drain(&mut client);
    let rows: i64 = client.query_one("SELECT count(*) FROM notes", &[]).expect("a row").get(0);
    assert_fresh(&mut client, "notes", rows);
    assert_eq!(queued(&mut client), 0);
}

#[test]
fn a_locked_row_holds_up_nobody_and_gets_its_vector_later() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    drain(&mut client);
    let mut holding = write_and_lock(&cluster, &mut client, "UPDATE notes SET body = 'changed ' || id", 7);
    wait::until("all others have their vectors", || queued(&mut client) == 1);
    let left: i32 =
        client.query_one(&format!("SELECT key1 FROM {QUEUE}"), &[]).expect("one waits still").get(0);
    assert_eq!(left, 7);
    execute(&mut holding, "COMMIT");
    drain(&mut client);
    assert_fresh(&mut client, "notes", 20);
}

#[test]
fn without_workers_rows_wait_and_drain_says_why() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    set_queue_workers(&mut client, 0);
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes VALUES (1, 'waits')");
    let error = refused(client.batch_execute("CALL vector_embed.drain('notes')"));
    assert_error(&error, "55000");
    assert_eq!(queued(&mut client), 1);
    set_queue_workers(&mut client, 2);
    wait_until_empty(&mut client);
    assert_fresh(&mut client, "notes", 1);
}

#[test]
fn drain_times_out_and_is_cancelled() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes VALUES (1, 'a row')");
    drain(&mut client);
    let mut holding = write_and_lock(&cluster, &mut client, "UPDATE notes SET body = 'another text'", 1);
    let error = refused(client.batch_execute("CALL vector_embed.drain('notes', '300 ms')"));
    assert_error(&error, "57014");
    execute(&mut client, "SET statement_timeout = '300ms'");
    let error = refused(client.batch_execute("CALL vector_embed.drain('notes')"));
    assert_eq!(error.code().code(), "57014");
    execute(&mut client, "RESET statement_timeout");
    execute(&mut holding, "COMMIT");
    drain(&mut client);
    assert_fresh(&mut client, "notes", 1);
}

/// Sets what holds when the server has been started again, and not before.
fn allow_workers_after_a_restart(client: &mut Client, count: i32) {
    execute(client, &format!("ALTER SYSTEM SET vector_embed.queue_workers = {count}"));
}

#[test]
fn after_a_restart_pending_rows_get_their_vectors_when_the_extension_is_used() {
    let mut cluster = Cluster::new();
    let mut client = cluster.connect();
    set_queue_workers(&mut client, 0);
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    allow_workers_after_a_restart(&mut client, 2);
    assert_eq!(queued(&mut client), 20);
    cluster.stop(Stop::Immediate);
    cluster.start();
    // Whatever was noted for the supervisor is gone.
    let _ = std::fs::remove_dir_all(cluster.runtime_directory());
    let mut other = cluster.connect_to("template1");
    execute(&mut other, "CREATE EXTENSION IF NOT EXISTS vector_embed CASCADE");
    embed(&mut other, "a session in another database").expect("a vector");
    drop(other);
    let mut client = cluster.connect();
    wait_until_empty(&mut client);
    assert_fresh(&mut client, "notes", 20);
}

#[test]
fn with_preload_pending_rows_get_their_vectors_when_the_server_starts() {
    let mut cluster = Cluster::with().setting("shared_preload_libraries", "vector_embed").start();
    let mut client = cluster.connect();
    set_queue_workers(&mut client, 0);
    for database in ["one", "two", "three"] {
        let mut client = cluster.database(database);
        notes::create(&mut client, "notes", "queue");
        execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    }
    allow_workers_after_a_restart(&mut client, 1);
    for database in ["one", "two", "three"] {
        assert_eq!(queued(&mut cluster.connect_to(database)), 20);
    }
    cluster.stop(Stop::Fast);
    cluster.start();
    for database in ["one", "two", "three"] {
        let mut client = cluster.connect_to(database);
        wait_until_empty(&mut client);
        assert_fresh(&mut client, "notes", 20);
    }
    let mut client = cluster.connect();
    wait::until("the worker ends", || cluster.queue_workers().is_empty());
    execute(&mut client, "DROP DATABASE two");
}

#[test]
fn databases_take_turns() {
    let cluster = Cluster::with().uncached().setting("vector_embed.queue_workers", "1").start();
    let [mut busy, mut other] = ["busy", "other"].map(|database| cluster.database(database));
    for client in [&mut busy, &mut other] {
        notes::create(client, "notes", "queue");
    }
    execute(
        &mut busy,
        "INSERT INTO notes SELECT i, 'some text of number ' || i FROM generate_series(1, 8000) AS i",
    );
    wait_until_it_works(&mut busy);
    execute(&mut other, "INSERT INTO notes VALUES (1, 'a single row')");
    wait_until_empty(&mut other);
    assert!(queued(&mut busy) > 0, "the other database has had its turn in between");
    drop(other);
    drain_for_long(&mut busy);
    assert_fresh(&mut busy, "notes", 8000);
}

/// For queues that take long, also on a busy machine.
fn drain_for_long(client: &mut Client) {
    execute(client, "CALL vector_embed.drain('notes', '20 min')");
}

#[test]
fn a_deep_queue_is_not_read_from_end_to_end_for_each_batch() {
    // Without statistics of the queue, as while it is being filled.
    let cluster = Cluster::with().setting("autovacuum", "off").start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    // Few texts, which the engine soon remembers.
    execute(
        &mut client,
        "INSERT INTO notes SELECT i, 'text ' || i % 10 FROM generate_series(1, 100000) AS i",
    );
    drain_for_long(&mut client);
    let counts = "SELECT n_tup_del, seq_tup_read FROM pg_stat_all_tables WHERE relname = $1";
    // A session tells what it has done now and then, and when it ends.
    let read: i64 = wait::found("the worker has told of all that it has deleted", || {
        let row = client.query_one(counts, &[&QUEUE]).expect("a row");
        (row.get::<_, i64>(0) >= 100_000 && cluster.queue_workers().is_empty()).then(|| row.get(1))
    });
    assert!(read < 100_000, "{read} items were read without an index");
}

#[test]
fn databases_with_workers_are_dropped_and_copied() {
    let cluster = Cluster::with().uncached().start();
    let mut admin = cluster.connect();
    let mut gone = Vec::new();
    for (database, statement) in [
        ("copied", "CREATE DATABASE copy TEMPLATE copied"),
        ("dropped", "DROP DATABASE dropped"),
        ("forced", "DROP DATABASE forced WITH (FORCE)"),
    ] {
        let mut client = cluster.database(database);
        notes::create(&mut client, "notes", "queue");
        execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 5000) AS i");
        wait_until_it_works(&mut client);
        let number = "SELECT oid FROM pg_database WHERE datname = current_database()";
        let number: u32 = client.query_one(number, &[]).expect("a row").get(0);
        drop(client);
        wait::until("the session has ended", || {
            let sessions = "SELECT count(*) FROM pg_stat_activity
                            WHERE datname = $1 AND backend_type = 'client backend'";
            admin.query_one(sessions, &[&database]).expect("a row").get::<_, i64>(0) == 0
        });
        execute(&mut admin, statement);
        if statement.starts_with("DROP") {
            gone.push((database, number));
        }
    }
    let dropped = Instant::now();
    let mut copy = cluster.connect_to("copy");
    drain_for_long(&mut copy);
    assert_fresh(&mut copy, "notes", 5000);
    // A database that nobody forgets would be asked for again 1, 2, 4, 8, … seconds after the last time.
    thread::sleep(Duration::from_secs(20).saturating_sub(dropped.elapsed()));
    let log = cluster.log();
    let asked_for = |(name, number): &(&str, u32)| {
        let is_missed = |line: &&str| {
            [format!("database {number} does not exist"), format!("database \"{name}\" does not exist")]
                .iter()
                .any(|message| line.contains(message.as_str()))
        };
        log.lines().filter(is_missed).count()
    };
    let asked_for: Vec<usize> = gone.iter().map(asked_for).collect();
    assert!(asked_for[0] >= 1, "what the log tells of a database that is gone is known");
    assert!(asked_for.iter().all(|times| *times <= 2), "{gone:?} are not forgotten: {asked_for:?} times");
}

#[test]
fn what_a_prepared_transaction_has_queued_is_found() {
    let cluster = Cluster::with().setting("max_prepared_transactions", "5").start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "BEGIN; INSERT INTO notes VALUES (1, 'prepared'); PREPARE TRANSACTION 'one'");
    drain(&mut client);
    execute(&mut client, "COMMIT PREPARED 'one'");
    assert_eq!(queued(&mut client), 1);
    drain(&mut client);
    assert_fresh(&mut client, "notes", 1);
}

#[test]
fn a_standby_leaves_the_queue_alone_until_it_is_promoted() {
    let primary = Cluster::new();
    let mut client = primary.connect();
    set_queue_workers(&mut client, 0);
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    let standby = primary.standby();
    let mut on_standby = standby.connect();
    // Workers are turned on there, and a supervisor runs.
    set_queue_workers(&mut on_standby, 2);
    embed(&mut on_standby, "on a standby").expect("a vector");
    let error = refused(on_standby.batch_execute("CALL vector_embed.drain('notes')"));
    assert_eq!(error.code().code(), "25006", "nothing can be written");
    assert!(standby.queue_workers().is_empty(), "no worker runs on a standby");
    assert_eq!(queued(&mut on_standby), 20);
    let promoted: bool = on_standby.query_one("SELECT pg_promote()", &[]).expect("a row").get(0);
    assert!(promoted);
    wait_until_empty(&mut on_standby);
    assert_fresh(&mut on_standby, "notes", 20);
}

#[test]
fn a_subscriber_leaves_items_to_their_publisher() {
    let publishing = Cluster::with().setting("wal_level", "logical").start();
    let subscribing = publishing.companion();
    let mut publisher = publishing.connect();
    let mut subscriber = subscribing.connect();
    for client in [&mut publisher, &mut subscriber] {
        notes::create(client, "notes", "queue");
    }
    set_queue_workers(&mut publisher, 0);
    execute(&mut publisher, &format!("CREATE PUBLICATION notes FOR TABLE notes, {QUEUE}"));
    let connection =
        format!("host={} port=5432 user=postgres dbname=postgres", publishing.socket_directory().display());
    execute(
        &mut subscriber,
        &format!("CREATE SUBSCRIPTION notes CONNECTION '{connection}' PUBLICATION notes"),
    );
    execute(&mut publisher, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    wait::until("the items have arrived", || queued(&mut subscriber) == 20);
    // Somebody queues a row there, in another table; when that is done the worker has seen both.
    notes::create(&mut subscriber, "own", "queue");
    execute(&mut subscriber, "INSERT INTO own VALUES (1, 'of the subscriber')");
    execute(&mut subscriber, "CALL vector_embed.drain('own', '2 min')");
    assert_eq!(queued(&mut subscriber), 20);
    set_queue_workers(&mut publisher, 2);
    wait_until_empty(&mut publisher);
    wait_until_empty(&mut subscriber);
    wait::until("the vectors have arrived", || {
        subscriber.query_one("SELECT count(embedding) = 20 FROM notes", &[]).expect("a row").get(0)
    });
    assert_fresh(&mut subscriber, "notes", 20);
}

#[test]
fn a_dump_carries_rows_that_wait() {
    let cluster = Cluster::new();
    let mut admin = cluster.connect();
    set_queue_workers(&mut admin, 0);
    let mut source = cluster.database("source");
    notes::create(&mut source, "notes", "queue");
    execute(&mut source, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 20) AS i");
    let directory = new_directory("queue_dump");
    let file = directory.join("dump").display().to_string();
    cluster.run(&format!("pg_dump -d source -Fc -f {file}"));
    let mut restored = cluster.empty_database("restored");
    cluster.run(&format!("pg_restore -e -d restored {file}"));
    assert_eq!(queued(&mut restored), 20);
    set_queue_workers(&mut admin, 2);
    wait::until("the other session knows it", || queue_workers(&mut restored) == 2);
    drain(&mut restored);
    assert_fresh(&mut restored, "notes", 20);
    // New rows are queued there, and the queue goes with its table, which no dump says.
    execute(&mut restored, "INSERT INTO notes VALUES (21, 'a new row')");
    drain(&mut restored);
    assert_fresh(&mut restored, "notes", 21);
    execute(&mut restored, "DROP TABLE notes");
    let left: i64 = restored
        .query_one(&format!("SELECT count(*) FROM pg_class WHERE relname = '{QUEUE}'"), &[])
        .expect("a row")
        .get(0);
    assert_eq!(left, 0, "the queue is gone");
}

#[test]
fn a_model_that_changed_stops_the_queue_until_it_is_there_again() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    let comments = "SELECT tgname::text, obj_description(oid, 'pg_trigger') FROM pg_trigger
                    WHERE tgrelid = 'notes'::regclass AND obj_description(oid, 'pg_trigger') IS NOT NULL";
    let comments = client.query(comments, &[]).expect("triggers");
    let hash = "0".repeat(64);
    execute(
        &mut client,
        &format!(
            "DO $$DECLARE t record; BEGIN
                 FOR t IN SELECT tgname, obj_description(oid, 'pg_trigger') AS old FROM pg_trigger
                          WHERE tgrelid = 'notes'::regclass LOOP
                     EXECUTE format('COMMENT ON TRIGGER %I ON notes IS %L', t.tgname,
                                    regexp_replace(t.old, '[0-9a-f]{{64}}', '{hash}'));
                 END LOOP; END$$"
        ),
    );
    execute(&mut client, "INSERT INTO notes VALUES (1, 'of another model')");
    let error = refused(client.batch_execute("CALL vector_embed.drain('notes')"));
    assert_error(&error, "55000");
    wait::until("a worker has tried", || {
        cluster.log().contains(&format!("could not serve the queue \"{QUEUE}\""))
    });
    assert_eq!(queued(&mut client), 1);
    let failures: i64 =
        client.query_one("SELECT count(*) FROM vector_embed.failures", &[]).expect("a row").get(0);
    assert_eq!(failures, 0, "it is not the row's fault");
    for comment in &comments {
        let (trigger, comment): (String, String) = (comment.get(0), comment.get(1));
        execute(
            &mut client,
            &format!("COMMENT ON TRIGGER {trigger} ON notes IS $comment${comment}$comment$"),
        );
    }
    drain(&mut client);
    assert_fresh(&mut client, "notes", 1);
}

#[test]
fn writers_are_not_kept_waiting_by_an_engine_that_is_away() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopper = Stopper::of(&stopped);
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                for engine in cluster.engines() {
                    process::send(engine, process::Signal::KILL);
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        for id in 0..50 {
            execute(&mut client, &format!("INSERT INTO notes VALUES ({id}, 'text {id}')"));
        }
    });
    wait_until_empty(&mut client);
    assert_fresh(&mut client, "notes", 50);
}
