//! What may happen while a worker is at a batch, and whose turn it is.

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::notes::{self, assert_fresh, assert_fresh_of, drain};
use vector_embed_e2e::process::{self, Pid, Signal};
use vector_embed_e2e::sql::{count, embed, execute, set_queue_workers};
use vector_embed_e2e::wait;

const WORKERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'vector_embed queue worker'";

/// Writes, and stops the engine, so that a worker waits for the vectors of what was written; returns the engine.
fn hold_a_batch(cluster: &Cluster, client: &mut Client, write: &str) -> Pid {
    set_queue_workers(client, 0);
    wait::until("no worker runs", || cluster.queue_workers().is_empty());
    execute(client, write);
    embed(client, "an engine that runs").expect("a vector");
    let engine = cluster.engine();
    process::send(engine, Signal::STOP);
    set_queue_workers(client, 2);
    // A new worker waits for nothing else, since there is work.
    let waits = format!("{WORKERS} AND wait_event_type = 'Extension' AND xact_start IS NULL");
    wait::until("a worker waits for vectors", || count(client, &waits) > 0);
    engine
}

/// Keeps in a table `told` which items are deleted when, and of which rows.
fn tell_of_deleted_items(client: &mut Client) {
    execute(
        client,
        "CREATE TABLE told (batch timestamptz, id integer);
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO public.told VALUES (transaction_timestamp(), OLD.key1); RETURN OLD; END';
         CREATE TRIGGER tell BEFORE DELETE ON notes_embedding_queue FOR EACH ROW EXECUTE FUNCTION tell()",
    );
}

#[test]
fn a_batch_of_what_is_attached_no_more_is_not_written() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text, title text, embedding vector)",
    );
    notes::attach(&mut client, "notes", "queue");
    let write = "INSERT INTO notes SELECT i, 'text ' || i, 'title ' || i FROM generate_series(1, 20) AS i";
    let engine = hold_a_batch(&cluster, &mut client, write);
    let mut owner = cluster.connect();
    execute(&mut owner, "BEGIN; SELECT vector_embed.detach('notes', 'embedding')");
    process::send(engine, Signal::CONT);
    wait::until("the worker waits for the table", || {
        count(&mut client, &format!("{WORKERS} AND wait_event_type = 'Lock'")) > 0
    });
    // A queue of the same name, with items of the same numbers, for other texts.
    execute(
        &mut owner,
        "SELECT vector_embed.attach('notes', 'embedding', '{title}', timing => 'queue');
         UPDATE notes SET title = 'another ' || title;
         COMMIT",
    );
    drain(&mut client);
    assert_fresh_of(&mut client, "notes", "title", 20);
}

#[test]
fn a_row_that_keeps_changing_leaves_no_items_behind() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes VALUES (1, 'first')");
    drain(&mut client);
    let write =
        "UPDATE notes SET body = 'second'; UPDATE notes SET body = 'third'; UPDATE notes SET body = 'fourth'";
    let engine = hold_a_batch(&cluster, &mut client, write);
    tell_of_deleted_items(&mut client);
    execute(&mut client, "UPDATE notes SET body = 'fifth'");
    process::send(engine, Signal::CONT);
    drain(&mut client);
    assert_fresh(&mut client, "notes", 1);
    // Two of the three that were read; then the last of them with the one that came meanwhile.
    let told = "SELECT array_agg(items ORDER BY batch) FROM (SELECT batch, count(*) AS items FROM told GROUP BY batch) AS t";
    let told: Vec<i64> = client.query_one(told, &[]).expect("a row").get(0);
    assert_eq!(told, [2, 2]);
}

#[test]
fn rows_that_are_tried_again_leave_half_of_a_batch_to_others() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    set_queue_workers(&mut client, 0);
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 3000) AS i");
    // As if somebody had had them locked: their time has come.
    execute(&mut client, "UPDATE notes_embedding_queue SET next_try = now() WHERE key1 <= 2500");
    tell_of_deleted_items(&mut client);
    set_queue_workers(&mut client, 2);
    drain(&mut client);
    let first =
        "SELECT count(*) FILTER (WHERE id > 2500) FROM told WHERE batch = (SELECT min(batch) FROM told)";
    assert_eq!(count(&mut client, first), 50, "of the first hundred rows");
    let last = "SELECT max(batch) FILTER (WHERE id > 2500) < max(batch) FROM told";
    assert!(client.query_one(last, &[]).expect("a row").get::<_, bool>(0));
    assert_fresh(&mut client, "notes", 3000);
}

#[test]
fn a_row_that_fails_again_after_a_change_is_one_failure() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "ALTER TABLE notes ADD CONSTRAINT none CHECK (embedding IS NULL)");
    let failures = "SELECT count(*) FROM vector_embed.failures";
    let items = "SELECT count(*) FROM notes_embedding_queue WHERE next_try IS NULL";
    for text in ["first", "second"] {
        execute(
            &mut client,
            &format!(
                "INSERT INTO notes VALUES (1, '{text}') ON CONFLICT (id) DO UPDATE SET body = excluded.body"
            ),
        );
        wait::until("it was tried", || count(&mut client, items) == 0 && count(&mut client, failures) > 0);
        assert_eq!(count(&mut client, failures), 1);
    }
    execute(
        &mut client,
        "ALTER TABLE notes DROP CONSTRAINT none; SELECT vector_embed.retry_failures('notes')",
    );
    drain(&mut client);
    assert_fresh(&mut client, "notes", 1);
}
