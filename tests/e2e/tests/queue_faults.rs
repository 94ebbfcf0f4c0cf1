//! Faults of one queue, or one owner, hold up nobody else; and databases that nobody has told of are found.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::notes::{self, assert_fresh};
use vector_embed_e2e::sql::{count, execute, refused, set_queue_workers};
use vector_embed_e2e::wait;

/// Waits for what is looked for once a minute, or cut short after one.
fn wait_minutes(what: &str, mut look: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !look() {
        assert!(begin.elapsed() < Duration::from_secs(300), "not within minutes: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_queue_that_keeps_its_items_holds_up_no_other_of_the_table() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector, second vector)",
    );
    notes::attach(&mut client, "notes", "queue");
    execute(&mut client, "SELECT vector_embed.attach('notes', 'second', '{body}', timing => 'queue')");
    execute(
        &mut client,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER keep BEFORE DELETE ON notes_embedding_queue FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 5) AS i");
    wait::until("the other queue is empty", || {
        count(&mut client, "SELECT count(*) FROM notes_second_queue") == 0
    });
    assert_eq!(count(&mut client, "SELECT count(second) FROM notes"), 5);
    assert_eq!(count(&mut client, "SELECT count(*) FROM notes_embedding_queue"), 5);
    wait::until("the server's log tells", || {
        cluster.log().contains("could not settle items of queue \"notes_embedding_queue\"")
    });
    execute(&mut client, "DROP TRIGGER keep ON notes_embedding_queue");
    execute(&mut client, "CALL vector_embed.drain('notes', '3 min')");
    assert_fresh(&mut client, "notes", 5);
}

#[test]
fn rows_that_wait_for_a_lock_of_a_trigger_s_have_not_failed() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(
        &mut client,
        "CREATE TABLE gate (x integer); INSERT INTO gate VALUES (1);
         CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM FROM public.gate FOR UPDATE; RETURN NEW; END';
         CREATE TRIGGER pass BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION pass()",
    );
    let mut holding = cluster.connect();
    let mut transaction = holding.transaction().expect("a transaction");
    transaction.batch_execute("SELECT FROM gate FOR UPDATE").expect("a lock");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 50) AS i");
    wait::until("all rows wait for another try", || {
        count(&mut client, "SELECT count(*) FROM notes_embedding_queue WHERE next_try IS NOT NULL") == 50
    });
    assert_eq!(count(&mut client, "SELECT count(*) FROM vector_embed.failures"), 0);
    transaction.commit().expect("it commits");
    execute(&mut client, "CALL vector_embed.drain('notes', '3 min')");
    assert_fresh(&mut client, "notes", 50);
}

/// Has updates of `notes` hang, whatever limits there are for statements.
fn hang(client: &mut Client) {
    execute(
        client,
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN SET LOCAL statement_timeout = 0; PERFORM pg_catalog.pg_sleep(100000); RETURN NEW; END';
         CREATE TRIGGER hang BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION hang()",
    );
}

const HANGING: &str = "pg_stat_activity WHERE wait_event = 'PgSleep'";

fn wait_until_it_hangs(client: &mut Client) {
    wait::until("the trigger runs", || count(client, &format!("SELECT count(*) FROM {HANGING}")) == 1);
}

fn cancel(client: &mut Client) {
    execute(client, &format!("SELECT pg_cancel_backend(pid) FROM {HANGING}"));
}

/// Has the only worker hang in a trigger of one table, and asserts that the rows of another get their vectors after `end`.
/// Returns the server's log.
fn others_have_their_turn(end: impl FnOnce(&mut Client)) -> String {
    let cluster = Cluster::with().setting("vector_embed.queue_workers", "1").start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    hang(&mut client);
    execute(&mut client, "INSERT INTO notes VALUES (1, 'hangs')");
    wait_until_it_hangs(&mut client);
    notes::create(&mut client, "others", "queue");
    execute(&mut client, "INSERT INTO others VALUES (1, 'of somebody else')");
    end(&mut client);
    wait_minutes("others have their turn", || {
        count(&mut client, "SELECT count(*) FROM others_embedding_queue") == 0
    });
    assert_fresh(&mut client, "others", 1);
    assert_eq!(count(&mut client, "SELECT count(*) FROM notes_embedding_queue"), 1);
    cluster.log()
}

const CANCELLED: &str = "canceling statement due to user request";
const CUT_SHORT: &str = "canceling statement due to statement timeout";

#[test]
fn a_worker_that_is_cancelled_in_a_trigger_serves_others() {
    let log = others_have_their_turn(cancel);
    assert!(log.contains(CANCELLED) && !log.contains(CUT_SHORT), "it was not cut short first");
}

#[test]
fn a_trigger_that_never_returns_is_cut_short() {
    let log = others_have_their_turn(|_| ());
    assert!(log.contains(CUT_SHORT) && !log.contains(CANCELLED));
}

#[test]
fn a_backfill_that_is_cancelled_in_a_trigger_leaves_the_session_as_it_was() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, &format!("CREATE TABLE notes ({})", notes::COLUMNS));
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 5) AS i");
    notes::attach(&mut client, "notes", "row");
    hang(&mut client);
    let mut filling = cluster.connect();
    // If this test fails before it is cancelled, it ends with its server.
    let fill = thread::spawn(move || {
        let error = refused(filling.batch_execute("CALL vector_embed.backfill('notes')"));
        (filling, error)
    });
    wait_until_it_hangs(&mut client);
    cancel(&mut client);
    let (mut filling, error) = fill.join().expect("it ends");
    assert_eq!(error.code().code(), "57014");
    execute(&mut filling, "DROP TRIGGER hang ON notes");
    execute(&mut filling, "CALL vector_embed.backfill('notes')");
    assert_fresh(&mut filling, "notes", 5);
}

/// A table whose rows get no vectors, and a row in it whose first failure has been seen.
fn with_a_failure(client: &mut Client) {
    notes::create(client, "notes", "queue");
    execute(client, "ALTER TABLE notes ADD CONSTRAINT no_vectors CHECK (embedding IS NULL)");
    let begin: SystemTime = client.query_one("SELECT clock_timestamp()", &[]).expect("a time").get(0);
    execute(client, "INSERT INTO notes VALUES (1, 'a text')");
    let (sqlstate, attempts, next_try, seen): (String, i32, SystemTime, SystemTime) =
        wait::found("it has failed", || {
            let failure = "SELECT sqlstate, attempts, next_try, clock_timestamp() FROM vector_embed.failures";
            let row = client.query_opt(failure, &[]).expect("the view")?;
            Some((row.get(0), row.get(1), row.get(2), row.get(3)))
        });
    assert_eq!((sqlstate.as_str(), attempts), ("23514", 1));
    let pause = Duration::from_secs(10);
    assert!(begin + pause <= next_try && next_try <= seen + pause, "ten seconds after it has failed");
}

/// Waits for the vector of that row, without asking anybody for anything.
fn wait_until_it_is_done(client: &mut Client) {
    wait::until("the row has its vector", || count(client, "SELECT count(embedding) FROM notes") == 1);
    assert_fresh(client, "notes", 1);
    assert_eq!(count(client, "SELECT count(*) FROM notes_embedding_queue"), 0);
}

#[test]
fn a_row_that_failed_is_tried_again_by_itself() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    with_a_failure(&mut client);
    execute(&mut client, "ALTER TABLE notes DROP CONSTRAINT no_vectors");
    wait_until_it_is_done(&mut client);
    assert_eq!(count(&mut client, "SELECT count(*) FROM vector_embed.failures"), 0);
}

#[test]
fn a_row_that_failed_ten_times_waits_until_somebody_asks_for_it() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    with_a_failure(&mut client);
    execute(&mut client, "UPDATE notes_embedding_queue SET attempts = 9");
    wait::until("it has failed for the tenth time", || {
        count(&mut client, "SELECT max(attempts)::bigint FROM vector_embed.failures") == 10
    });
    let given_up = "SELECT count(*) FROM vector_embed.failures WHERE next_try IS NULL AND sqlstate = '23514'";
    assert_eq!(count(&mut client, given_up), 1);
    execute(&mut client, "ALTER TABLE notes DROP CONSTRAINT no_vectors");
    assert_eq!(count(&mut client, "SELECT vector_embed.retry_failures('notes')"), 1);
    wait_until_it_is_done(&mut client);
}

#[test]
fn queues_are_served_again_after_workers_were_turned_off_and_on() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 3000) AS i");
    wait::until("a worker works", || count(&mut client, "SELECT count(embedding) FROM notes") > 0);
    set_queue_workers(&mut client, 0);
    wait::until("it has ended", || cluster.queue_workers().is_empty());
    let left = count(&mut client, "SELECT count(*) FROM notes_embedding_queue");
    assert!(left > 0, "it was interrupted");
    set_queue_workers(&mut client, 2);
    wait::until("rows are done again", || {
        count(&mut client, "SELECT count(*) FROM notes_embedding_queue") < left
    });
}

#[test]
fn a_copied_database_s_rows_are_found() {
    let cluster = Cluster::new();
    let mut admin = cluster.connect();
    // The supervisor has listed the databases before there is another one.
    notes::create(&mut admin, "notes", "queue");
    execute(&mut admin, "INSERT INTO notes VALUES (1, 'first of all')");
    execute(&mut admin, "CALL vector_embed.drain('notes', '1 min')");
    let mut client = cluster.database("origin");
    notes::create(&mut client, "notes", "queue");
    execute(&mut client, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 10) AS i");
    execute(&mut client, "CALL vector_embed.drain('notes', '1 min')");
    wait::until("workers have ended", || cluster.queue_workers().is_empty());
    set_queue_workers(&mut admin, 0);
    execute(&mut client, "UPDATE notes SET body = 'changed ' || id");
    drop(client);
    wait::until("the session has ended", || {
        count(&mut admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'origin'") == 0
    });
    execute(&mut admin, "CREATE DATABASE copy TEMPLATE origin");
    set_queue_workers(&mut admin, 2);
    let mut copy = cluster.connect_to("copy");
    assert_eq!(count(&mut copy, "SELECT count(*) FROM notes_embedding_queue"), 10);
    wait_minutes("the copy is served", || {
        count(&mut copy, "SELECT count(*) FROM notes_embedding_queue") == 0
    });
    assert_fresh(&mut copy, "notes", 10);
}
