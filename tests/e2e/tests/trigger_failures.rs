//! A statement whose vectors cannot be made fails whole, and the session goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::{Client, Error};
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::installation::{Installation, move_away, replace};
use vector_embed_e2e::markers::POISON;
use vector_embed_e2e::notes::{COLUMNS, TIMINGS, assert_fresh, contents, copy};
use vector_embed_e2e::process;
use vector_embed_e2e::sql::{
    assert_error, assert_terminated, backend, embed_by, execute, refused, stat_engine, with_timeout,
};
use vector_embed_e2e::stopper::{Canceller, Stopper};
use vector_embed_e2e::wait;

use crate::faulty;

/// Statements one of whose texts is `{bad}`, for a table that has rows 1 and 2.
const WRITES: [&str; 9] = [
    "INSERT INTO {table} (id, body) VALUES (10, '{bad}')",
    "INSERT INTO {table} (id, body) VALUES (10, 'good'), (11, '{bad}'), (12, 'good, too')",
    "INSERT INTO {table} (id, body) SELECT i, CASE i WHEN 40 THEN '{bad}' ELSE 'good ' || i END
         FROM generate_series(10, 50) AS i",
    "INSERT INTO {table} (id, body) VALUES (1, '{bad}'), (10, 'good')
         ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "UPDATE {table} SET body = '{bad}' WHERE id = 2",
    "UPDATE {table} SET body = CASE id WHEN 1 THEN 'good' ELSE '{bad}' END",
    "MERGE INTO {table} AS t USING (VALUES (1, 'good'), (10, '{bad}')) AS v (id, body) ON t.id = v.id
         WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body)",
    "MERGE INTO {table} AS t USING (VALUES (1, '{bad}'), (10, 'good')) AS v (id, body) ON t.id = v.id
         WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body)",
    "WITH gone AS (DELETE FROM {table} WHERE id = 1 RETURNING body), more AS (UPDATE {table} SET seen = 1 WHERE id = 2)
         INSERT INTO {table} (id, body) SELECT 10, '{bad}' FROM gone",
];

/// Fails unless every way to write fails with this SQLSTATE, leaves the table as it was, and leaves the session
/// able to go on, in the same transaction from a savepoint on.
fn assert_fail_whole(client: &mut Client, table: &str, state: &str, bad: &str) {
    let session = backend(client);
    let before = contents(client, table);
    for write in WRITES {
        let statement = write.replace("{table}", table).replace("{bad}", bad);
        assert_error(&refused(client.batch_execute(&statement)), state);
        assert_eq!(contents(client, table), before, "{statement}");

        execute(client, &format!("BEGIN; UPDATE {table} SET seen = 7; SAVEPOINT here"));
        assert_error(&refused(client.batch_execute(&statement)), state);
        execute(client, "ROLLBACK TO here");
        let seen = format!("SELECT count(*) FROM {table} WHERE seen = 7");
        assert_eq!(client.query_one(&seen, &[]).expect("a row").get::<_, i64>(0), 2, "{statement}");
        execute(client, "ROLLBACK");
    }
    assert_error(&refused(copy(client, table, &[(10, "good"), (11, bad), (12, "good, too")])), state);
    assert_eq!(contents(client, table), before);
    assert_eq!(backend(client), session);
}

/// A table for each timing, with two rows.
fn create_tables(client: &mut Client, model: &str) {
    for timing in TIMINGS {
        let table = table(timing);
        execute(
            client,
            &format!(
                "CREATE TABLE {table} ({COLUMNS});
                 SELECT vector_embed.attach('{table}', 'embedding', '{{body}}', '{model}', '{timing}');
                 INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"
            ),
        );
    }
}

fn table(timing: &str) -> String {
    format!("notes_by_{timing}")
}

#[test]
fn a_text_that_crashes_the_engine_fails_its_statement_whole() {
    let cluster = faulty::cluster();
    let mut client = cluster.connect();
    create_tables(&mut client, "all-MiniLM-L6-v2");
    for timing in TIMINGS {
        let table = table(timing);
        assert_fail_whole(&mut client, &table, "58000", &format!("made of {}", POISON.word));
        execute(&mut client, &format!("INSERT INTO {table} (id, body) VALUES (10, 'harmless')"));
        assert_fresh(&mut client, &table, 3);
    }
}

#[test]
fn a_model_that_is_missing_or_damaged_fails_statements_whole_until_it_is_repaired() {
    const MODEL: &str = "tiny-bert";
    let installation = Installation::copy();
    let model = installation.add_model(&fixtures::source(MODEL));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    create_tables(&mut client, MODEL);
    for (state, file) in [("42704", ""), ("F0000", "tokenizer.json"), ("F0000", "model.safetensors")] {
        let away = move_away(&model.join(file));
        if !file.is_empty() {
            replace(&model.join(file), b"{", 0o644);
        }
        wait::until("the engine notices", || embed_by(&mut client, "cat", MODEL).is_err());
        for timing in TIMINGS {
            assert_fail_whole(&mut client, &table(timing), state, "any text");
        }
        away.put_back();
        for timing in TIMINGS {
            execute(&mut client, &format!("UPDATE {} SET body = body || ' {file}'", table(timing)));
        }
    }
    let alike = "SELECT count(*) FROM notes_by_row AS a JOIN notes_by_statement AS b USING (id)
                 WHERE a.embedding::text = b.embedding::text AND a.embedding = embed(a.body, $1)";
    assert_eq!(client.query_one(alike, &[&MODEL]).expect("a row").get::<_, i64>(0), 2);
}

/// Texts that take the engine longer than anybody waits for them, as rows from identifier 1000 on.
fn endless() -> Vec<(i32, String)> {
    (1000..).zip(bulk::long_texts(3000)).collect()
}

/// Statements that take as long; COPY among them.
fn write_endlessly(
    client: &mut Client,
    table: &str,
    copying: bool,
    rows: &[(i32, String)],
) -> Result<(), Error> {
    if copying {
        let rows: Vec<(i32, &str)> = rows.iter().map(|(id, body)| (*id, body.as_str())).collect();
        return copy(client, table, &rows).map(|_| ());
    }
    let texts: Vec<&str> = rows.iter().map(|(_, body)| body.as_str()).collect();
    let insert = format!(
        "INSERT INTO {table} (id, body)
         SELECT 1000 + number, body FROM unnest($1::text[]) WITH ORDINALITY AS rows (body, number)"
    );
    client.execute(&insert, &[&texts]).map(|_| ())
}

/// Fails unless a statement that was ended left nothing, and the session makes true vectors at once.
fn assert_goes_on(client: &mut Client, table: &str, round: i32) {
    let rows = 2 + 2 * i64::from(round);
    execute(client, &format!("INSERT INTO {table} (id, body) VALUES (100 + {round}, 'after {round}')"));
    copy(client, table, &[(500 + round, "copied afterwards")]).expect("a copy");
    execute(client, &format!("UPDATE {table} SET body = body || '!'"));
    assert_fresh(client, table, rows);
}

#[test]
fn a_write_that_is_cancelled_in_its_middle_leaves_nothing_behind() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    create_tables(&mut client, "all-MiniLM-L6-v2");
    let rows = endless();
    let mut observer = cluster.connect();
    for timing in TIMINGS {
        let table = table(timing);
        for (round, copying) in (3..).zip([false, true, false]) {
            let before = stat_engine(&mut observer).expect("an engine").texts;
            let pid = backend(&mut client);
            let outcome = thread::scope(|scope| {
                let _canceller = Canceller::of(&mut client);
                let write = scope.spawn(|| write_endlessly(&mut client, &table, copying, &rows));
                wait::until("vectors are computed", || {
                    stat_engine(&mut observer).expect("an engine").texts > before + 20
                });
                // The postmaster, which other clients ask, signals twice, and the second may hit the next statement.
                observer.query_one("SELECT pg_cancel_backend($1)", &[&pid]).expect("a cancel");
                write.join().expect("the session's thread ends")
            });
            assert_eq!(refused(outcome).code().code(), "57014", "{table}, COPY: {copying}");
            assert_goes_on(&mut client, &table, round - 2);
            wait::until("nothing waits any more", || {
                stat_engine(&mut observer).expect("an engine").queued_texts == 0
            });
        }
    }
}

#[test]
fn statement_timeout_ends_a_write_at_any_moment_and_leaves_nothing_behind() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    create_tables(&mut client, "all-MiniLM-L6-v2");
    let rows = endless();
    for timing in TIMINGS {
        let table = table(timing);
        let timeouts = [(5, false), (50, false), (400, false), (50, true), (400, true)];
        for (round, (timeout, copying)) in (1..).zip(timeouts) {
            let outcome =
                with_timeout(&mut client, timeout, |client| write_endlessly(client, &table, copying, &rows));
            assert_eq!(refused(outcome).code().code(), "57014", "{table}, {timeout} ms, COPY: {copying}");
            assert_goes_on(&mut client, &table, round);
        }
    }
}

#[test]
fn writers_do_not_notice_that_settings_replace_the_engine() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    create_tables(&mut client, "all-MiniLM-L6-v2");
    let done = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let stopper = Stopper::of(&done);
        let writers: Vec<_> = TIMINGS
            .iter()
            .map(|timing| {
                let (cluster, done) = (&cluster, &done);
                scope.spawn(move || {
                    let mut client = cluster.connect();
                    let table = table(timing);
                    for round in 0.. {
                        let first = 10 + 20 * round;
                        execute(
                            &mut client,
                            &format!(
                                "INSERT INTO {table} (id, body) SELECT i, 'note ' || i || repeat(' and more', 20)
                                     FROM generate_series({first}, {first} + 19) AS i;
                                 UPDATE {table} SET body = 'changed ' || id WHERE id % 20 = 5 AND id > {first}"
                            ),
                        );
                        if done.load(Ordering::Relaxed) {
                            return 20 * (round + 1);
                        }
                    }
                    unreachable!("a loop without end")
                })
            })
            .collect();
        for batch_tokens in [256, 1024, 300, 2048] {
            let texts = |client: &mut Client| stat_engine(client).map_or(0, |engine| engine.texts);
            wait::until("the engine computes", || texts(&mut client) > 20);
            let engine = cluster.engine();
            execute(&mut client, &format!("ALTER SYSTEM SET vector_embed.batch_tokens = {batch_tokens}"));
            execute(&mut client, "SELECT pg_reload_conf()");
            wait::until("the engine ends", || !process::is_alive(engine));
        }
        drop(stopper);
        writers.into_iter().map(|writer| writer.join().expect("no write failed")).collect::<Vec<i64>>()
    });
    for (timing, written) in TIMINGS.iter().zip(written) {
        assert_fresh(&mut client, &table(timing), 2 + written);
    }
}

#[test]
fn a_session_that_is_terminated_in_the_middle_of_a_write_leaves_nothing_behind() {
    let cluster = Cluster::with().uncached().start();
    let mut observer = cluster.connect();
    create_tables(&mut observer, "all-MiniLM-L6-v2");
    let rows = endless();
    for timing in TIMINGS {
        let table = table(timing);
        let before = contents(&mut observer, &table);
        for copying in [false, true] {
            let mut client = cluster.connect();
            let pid = backend(&mut client);
            let texts = stat_engine(&mut observer).expect("an engine").texts;
            let outcome = thread::scope(|scope| {
                let _canceller = Canceller::of(&mut client);
                let write = scope.spawn(|| write_endlessly(&mut client, &table, copying, &rows));
                wait::until("vectors are computed", || {
                    stat_engine(&mut observer).expect("an engine").texts > texts + 20
                });
                observer
                    .query_one("SELECT pg_terminate_backend($1)", &[&pid])
                    .expect("the function can be called");
                write.join().expect("the session's thread ends")
            });
            assert_terminated(outcome);
            wait::until("its work is dropped", || {
                stat_engine(&mut observer).expect("an engine").queued_texts == 0
            });
            assert_eq!(contents(&mut observer, &table), before);
        }
    }
    let engine = stat_engine(&mut observer).expect("an engine");
    assert_eq!(engine.restarts, 0, "the engine that computed for them still serves");
    assert_fresh(&mut observer, "notes_by_row", 2);
}
