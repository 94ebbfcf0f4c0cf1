//! Rows that others change meanwhile: a vector is always that of the text it is written beside.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, Error};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::process::Pid;
use vector_embed_e2e::sql::{backend, execute, refused};
use vector_embed_e2e::stopper::{Canceller, Stopper};
use vector_embed_e2e::wait;

use super::{TOOLS, cluster_with_docs, count, wrong};

/// Waits until a session waits for a lock that another has.
fn wait_for_lock(observer: &mut Client, session: Pid) {
    let waiting = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    wait::until("the statement waits for the lock", || {
        observer.query_opt(waiting, &[&session]).expect("the view can be read").is_some()
    });
}

/// Has `statement` wait for a row that `change` has changed, and go on when that is committed.
fn after_a_change(cluster: &Cluster, change: &str, statement: &str) -> Result<u64, Error> {
    let (mut writer, mut session, mut observer) = (cluster.connect(), cluster.connect(), cluster.connect());
    execute(&mut writer, &format!("BEGIN; {change}"));
    let pid = backend(&mut session);
    thread::scope(|scope| {
        let _canceller = Canceller::of(&mut session);
        let waiting = scope.spawn(move || session.execute(statement, &[]));
        wait_for_lock(&mut observer, pid);
        execute(&mut writer, "COMMIT");
        waiting.join().expect("the session's thread ends")
    })
}

const CHANGE: &str = "UPDATE docs SET body = 'changed ' || id, embedding = NULL WHERE id IN (7, 200)";

/// Updates of all rows that have to find the changed text.
const UPDATES: [&str; 8] = [
    "UPDATE docs SET embedding = embed(body)",
    "UPDATE docs SET embedding = embed(body) WHERE id > 0 AND body <> ''",
    "UPDATE docs SET embedding = coalesce(NULL, embed(body))",
    "UPDATE docs SET embedding = CASE WHEN body LIKE 'changed%' THEN embed(body) ELSE embed(body) END",
    "UPDATE docs d SET embedding = embed(d.body) FROM cats c WHERE c.cat = d.cat",
    "UPDATE docs d SET embedding = embed(d.body) FROM docs e WHERE e.id = d.id",
    "UPDATE docs SET embedding = e FROM (SELECT id AS i, embed(body) AS e FROM docs FOR UPDATE) s WHERE i = id",
    "WITH s AS (SELECT id AS i, embed(body) AS e FROM docs ORDER BY id FOR UPDATE)
         UPDATE docs SET embedding = e FROM s WHERE i = id",
];

#[test]
fn an_update_that_waited_embeds_the_new_text() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    execute(&mut client, "CREATE TABLE cats AS SELECT cat FROM generate_series(0, 4) AS cat");
    for join in ["hashjoin", "mergejoin", "nestloop"] {
        // One kind of join only, for those that join.
        let others = ["hashjoin", "mergejoin", "nestloop"].into_iter().filter(|other| *other != join);
        for other in others {
            execute(&mut client, &format!("ALTER SYSTEM SET enable_{other} = off"));
        }
        execute(&mut client, "SELECT pg_reload_conf()");
        for update in UPDATES {
            let reset = "UPDATE docs SET body = 'document number ' || id, embedding = NULL";
            execute(&mut client, reset);
            let updated = after_a_change(&cluster, CHANGE, update).expect("an update");
            assert_eq!(updated, 300, "{update}");
            assert_eq!(wrong(&mut client), 0, "{update} by {join}");
            assert_eq!(count(&mut client, "SELECT count(*) FROM docs WHERE body LIKE 'changed%'"), 2);
        }
        execute(&mut client, "ALTER SYSTEM RESET ALL");
    }
}

#[test]
fn an_update_leaves_rows_alone_that_are_gone_or_no_longer_wanted() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let update = "UPDATE docs SET embedding = embed(body) WHERE cat = 2";
    let away = "UPDATE docs SET cat = 9, embedding = NULL WHERE id = 7";
    assert_eq!(after_a_change(&cluster, away, update).expect("an update"), 59);
    assert_eq!(count(&mut client, "SELECT count(*) FROM docs WHERE id = 7 AND embedding IS NULL"), 1);
    let gone = "DELETE FROM docs WHERE id = 12";
    assert_eq!(after_a_change(&cluster, gone, update).expect("an update"), 58);
    execute(&mut client, "UPDATE docs SET embedding = embed(body) WHERE cat <> 2");
    assert_eq!(wrong(&mut client), 0);
}

#[test]
fn a_row_that_moved_to_another_partition_is_an_error_and_one_that_did_not_is_followed() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let parts = "
        CREATE TABLE parts (id integer, k integer, body text, embedding vector(384)) PARTITION BY LIST (k);
        CREATE TABLE parts_0 (embedding vector(384), gone integer, k integer, id integer, body text);
        ALTER TABLE parts_0 DROP gone;
        ALTER TABLE parts ATTACH PARTITION parts_0 FOR VALUES IN (0);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
        INSERT INTO parts SELECT id, id % 2, body FROM docs";
    execute(&mut client, parts);
    let update = "UPDATE parts SET embedding = embed(body)";
    let change = "UPDATE parts SET body = 'changed ' || id WHERE id IN (8, 9, 100, 101)";
    assert_eq!(after_a_change(&cluster, change, update).expect("an update"), 300);
    let stale = "SELECT count(*) FROM parts WHERE same(embedding, twin(body)) IS NOT TRUE";
    assert_eq!(count(&mut client, stale), 0);
    let moves = "UPDATE parts SET k = 1 WHERE id = 8";
    let error = refused(after_a_change(&cluster, moves, update));
    assert_eq!(error.code().code(), "40001", "{error:?}");
    assert_eq!(count(&mut client, stale), 0);
}

#[test]
fn a_locked_row_is_embedded_as_it_is_once_it_is_locked() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    // The row's lock is taken by the query, so the text and the vector it gives are of one version.
    let copy = "CREATE TABLE copies AS
        SELECT id, body, embed(body) AS embedding FROM docs ORDER BY id FOR UPDATE";
    assert_eq!(after_a_change(&cluster, CHANGE, copy).expect("a table"), 300);
    let stale = "SELECT count(*) FROM copies WHERE NOT same(embedding, twin(body))";
    assert_eq!(count(&mut client, stale), 0);
    assert_eq!(count(&mut client, "SELECT count(*) FROM copies WHERE body LIKE 'changed%'"), 2);
    assert_eq!(
        count(&mut client, "SELECT count(*) FROM (SELECT embed(body) FROM docs FOR UPDATE SKIP LOCKED) s"),
        300
    );
    let mut writer = cluster.connect();
    execute(&mut writer, "BEGIN; UPDATE docs SET body = 'skipped' WHERE id IN (7, 200)");
    let rest = "SELECT count(*) FROM (SELECT embed(body) FROM docs FOR UPDATE SKIP LOCKED) s";
    assert_eq!(count(&mut client, rest), 298);
    let three = "SELECT array_agg(id ORDER BY id)::text FROM
        (SELECT id, embed(body) FROM docs WHERE id > 5 ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED) s";
    let row = client.query_one(three, &[]).expect("a row");
    assert_eq!(row.get::<_, String>(0), "{6,8,9}");
}

#[test]
fn in_repeatable_read_a_change_is_a_serialization_error() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let update = "UPDATE docs SET embedding = embed(body)";
    let (mut writer, mut session) = (cluster.connect(), cluster.connect());
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        execute(&mut session, &format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM docs LIMIT 1"));
        execute(&mut writer, CHANGE);
        let error = refused(session.execute(update, &[]));
        assert_eq!(error.code().code(), "40001", "{error:?}");
        execute(&mut session, "ROLLBACK");
        execute(&mut session, &format!("BEGIN ISOLATION LEVEL {level}; {update}; COMMIT"));
        assert_eq!(wrong(&mut client), 0);
    }
}

/// Where a lock is waited for, the function may have been altered meanwhile.
#[test]
fn a_function_altered_while_an_update_waits_does_not_end_it() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    for (alter, back) in [
        ("ALTER FUNCTION embed(text) SECURITY DEFINER", "ALTER FUNCTION embed(text) SECURITY INVOKER"),
        ("ALTER FUNCTION embed(text) SET work_mem = '1MB'", "ALTER FUNCTION embed(text) RESET work_mem"),
    ] {
        let change = format!("{CHANGE}; {alter}");
        let updated = after_a_change(&cluster, &change, UPDATES[0]);
        execute(&mut client, back);
        assert_eq!(updated.expect("an update"), 300);
        assert_eq!(wrong(&mut client), 0);
    }
}

/// Texts that rows of the stress get, few enough to be in the engine's cache.
const TEXTS: i64 = 200;
const STRESS: Duration = Duration::from_secs(15);

/// A client's statements in a loop, chosen by the number of the turn. `:n` stands for a number that differs.
struct Role {
    statements: &'static [&'static str],
    isolation: &'static str,
}

const EMBEDDER: Role = Role {
    isolation: "READ COMMITTED",
    statements: &[
        "UPDATE docs SET embedding = embed(body)",
        "UPDATE docs SET embedding = embed(body) WHERE embedding IS NULL",
        "UPDATE docs SET embedding = coalesce(embedding, embed(body)) WHERE cat = :n % 5",
        "UPDATE docs d SET embedding = embed(d.body) FROM cats c WHERE c.cat = d.cat AND c.cat <> :n % 5",
    ],
};
const QUEUE_WORKER: Role = Role {
    isolation: "READ COMMITTED",
    statements: &[
        "UPDATE docs SET embedding = e FROM
             (SELECT id AS i, embed(body) AS e FROM docs WHERE embedding IS NULL LIMIT 60
              FOR UPDATE SKIP LOCKED) s WHERE i = id",
        "WITH s AS (SELECT id AS i FROM docs WHERE embedding IS NULL LIMIT 40 FOR UPDATE SKIP LOCKED)
             UPDATE docs SET embedding = embed(body) FROM s WHERE i = id",
        "INSERT INTO seen SELECT body, embed(body) FROM docs WHERE id % 40 = :n % 40 FOR UPDATE",
        "UPDATE parts SET embedding = embed(body) WHERE embedding IS NULL",
    ],
};
const WRITER: Role = Role {
    isolation: "READ COMMITTED",
    statements: &[
        "UPDATE docs SET body = text, embedding = NULL FROM texts t WHERE t.id = (docs.id + :n) % 200 AND docs.id % 7 = :n % 7",
        "BEGIN; UPDATE docs SET body = text, embedding = NULL FROM texts t
             WHERE t.id = (docs.id * 3 + :n) % 200 AND docs.id % 11 = :n % 11; SELECT pg_sleep(0.005); COMMIT",
        "UPDATE docs SET body = text, embedding = embed(text) FROM texts t
             WHERE t.id = (docs.id + :n) % 200 AND docs.id % 13 = :n % 13",
        "UPDATE docs SET cat = (cat + 1) % 5 WHERE id % 17 = :n % 17",
        "BEGIN; DELETE FROM docs WHERE id % 23 = :n % 23;
             INSERT INTO docs SELECT i, i % 5, text FROM generate_series(1, 400) AS i, texts t
             WHERE t.id = :n % 200 AND i % 23 = :n % 23 ON CONFLICT DO NOTHING; COMMIT",
        "UPDATE parts SET k = (k + 1) % 3, body = text, embedding = NULL FROM texts t
             WHERE t.id = (parts.id + :n) % 200 AND parts.id % 11 = :n % 11",
    ],
};
const SNAPSHOT_EMBEDDER: Role = Role { isolation: "REPEATABLE READ", statements: EMBEDDER.statements };

/// What concurrent transactions may come to: a deadlock, a serialization failure, a row inserted twice.
const EXPECTED: [&str; 3] = ["40P01", "40001", "23505"];

#[test]
fn eight_clients_at_once_leave_no_vector_of_another_text() {
    let cluster = Cluster::with().setting("deadlock_timeout", "20ms").start();
    let mut client = cluster.connect();
    execute(&mut client, TOOLS);
    let objects = format!(
        "CREATE TABLE texts AS
             SELECT n AS id, 'the text with number ' || n AS text FROM generate_series(0, {TEXTS} - 1) AS n;
         CREATE TABLE cats AS SELECT cat FROM generate_series(0, 4) AS cat;
         CREATE TABLE docs (id integer PRIMARY KEY, cat integer, body text, embedding vector(384));
         INSERT INTO docs SELECT i, i % 5, text FROM generate_series(1, 400) AS i, texts t WHERE t.id = i % 200;
         CREATE TABLE parts (id integer, k integer, body text, embedding vector(384)) PARTITION BY LIST (k);
         CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
         CREATE TABLE parts_1 (embedding vector(384), id integer, body text, k integer);
         ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES IN (1);
         CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
         INSERT INTO parts SELECT id, id % 3, body FROM docs;
         CREATE TABLE seen (body text, embedding vector(384));
         SELECT embed(array_agg(text)) FROM texts"
    );
    execute(&mut client, &objects);
    let done = AtomicBool::new(false);
    let failures = EXPECTED.map(|_| AtomicUsize::new(0));
    let roles =
        [&EMBEDDER, &EMBEDDER, &QUEUE_WORKER, &QUEUE_WORKER, &WRITER, &WRITER, &WRITER, &SNAPSHOT_EMBEDDER];
    let committed: Vec<usize> = thread::scope(|scope| {
        let stopper = Stopper::of(&done);
        let sessions: Vec<_> = (0..roles.len())
            .map(|number| {
                let (cluster, done, failures, role) = (&cluster, &done, &failures, roles[number]);
                scope.spawn(move || {
                    let mut session = cluster.connect();
                    execute(
                        &mut session,
                        &format!("SET default_transaction_isolation = '{}'", role.isolation),
                    );
                    let mut committed = 0;
                    for turn in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                        let statement = role.statements[turn % role.statements.len()]
                            .replace(":n", &(31 * number + 7 * turn).to_string());
                        match session.batch_execute(&statement) {
                            Ok(()) => committed += 1,
                            Err(error) => {
                                let state = error.code().expect("the session lives").code().to_owned();
                                let known = EXPECTED.iter().position(|expected| *expected == state);
                                let known = known.unwrap_or_else(|| panic!("{statement}: {error:?}"));
                                failures[known].fetch_add(1, Ordering::Relaxed);
                                execute(&mut session, "ROLLBACK");
                            }
                        }
                    }
                    committed
                })
            })
            .collect();
        thread::sleep(STRESS);
        drop(stopper);
        sessions.into_iter().map(|session| session.join().expect("only expected errors")).collect()
    });

    assert!(committed.iter().all(|count| *count > 0), "{committed:?}");
    assert!(failures[1].load(Ordering::Relaxed) > 0, "somebody changed what a snapshot had seen");

    execute(&mut client, "ALTER TABLE texts ADD embedding vector(384)");
    execute(&mut client, "UPDATE texts SET embedding = twin(text)");
    for table in ["docs", "parts", "seen"] {
        let of_another_text = format!(
            "SELECT count(*) FROM {table} t LEFT JOIN texts ON text = body
             WHERE t.embedding IS NOT NULL AND same(t.embedding, texts.embedding) IS NOT TRUE"
        );
        assert_eq!(count(&mut client, &of_another_text), 0, "{table}");
        assert!(count(&mut client, &format!("SELECT count(*) FROM {table} WHERE embedding IS NOT NULL")) > 0);
    }
    execute(&mut client, "UPDATE docs SET embedding = embed(body)");
    assert_eq!(wrong(&mut client), 0);
}
