//! Backfills that are interrupted, that run beside each other, and beside writers: what is stored is true, and nothing is
//! left out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::Client;
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::installation::Installation;
use vector_embed_e2e::notes::{self, assert_fresh};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{assert_error, backend, execute, refused};
use vector_embed_e2e::stopper::Stopper;
use vector_embed_e2e::wait;

const BACKFILL: &str = "CALL vector_embed.backfill('notes', batch => 50)";

/// A table that is attached, with so many rows that have no vectors yet.
fn without_vectors(client: &mut Client, rows: usize, words: usize) {
    execute(client, &format!("CREATE TABLE notes ({})", notes::COLUMNS));
    let texts = bulk::texts(rows, words);
    let fill = "INSERT INTO notes (id, body) SELECT i, t FROM unnest($1::text[]) WITH ORDINALITY AS x (t, i)";
    client.execute(fill, &[&texts]).expect("rows can be inserted");
    notes::attach(client, "notes", "row");
}

fn embedded(client: &mut Client) -> i64 {
    client.query_one("SELECT count(embedding) FROM notes", &[]).expect("a count").get(0)
}

/// Waits until a backfill has come some way.
fn wait_for_progress(client: &mut Client, least: i64) {
    wait::until("some vectors are stored", || embedded(client) >= least);
}

/// Does `work` while that many writers write, each one step after the other: `write` tells what writer and step execute.
fn beside_writers(
    cluster: &Cluster,
    writers: usize,
    write: impl Fn(usize, usize) -> String + Sync,
    work: impl FnOnce(),
) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopper = Stopper::of(&is_over);
        for writer in 0..writers {
            let (write, is_over) = (&write, &is_over);
            scope.spawn(move || {
                let mut client = cluster.connect();
                for step in (1..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    execute(&mut client, &write(writer, step));
                }
            });
        }
        work();
    });
}

/// Two backfills at once, both of which succeed.
fn twice_at_once(cluster: &Cluster, call: &str) {
    thread::scope(|scope| {
        let calls = [(); 2].map(|()| {
            let mut worker = cluster.connect();
            scope.spawn(move || worker.batch_execute(call))
        });
        for call in calls {
            call.join().expect("the thread ends").expect("the backfill succeeds");
        }
    });
}

#[test]
fn a_killed_server_loses_no_row_of_a_backfill() {
    let mut cluster = Cluster::with().setting("fsync", "off").alone().start();
    let mut client = cluster.connect();
    without_vectors(&mut client, 600, 40);
    for kill in 1..=3 {
        let mut worker = cluster.connect();
        let goal = embedded(&mut client) + 50;
        let call = thread::spawn(move || worker.batch_execute(BACKFILL));
        wait_for_progress(&mut client, goal);
        let before = embedded(&mut client);
        cluster.kill();
        assert!(call.join().expect("the thread ends").is_err(), "kill {kill} came too late");
        cluster.start();
        client = cluster.connect();
        assert!(embedded(&mut client) >= before, "what was committed is there");
        let interrupted = "SELECT count(*) FROM vector_embed.stat_backfill WHERE NOT running AND pid IS NULL";
        let row = client.query_one(interrupted, &[]).expect("the view");
        assert_eq!(row.get::<_, i64>(0), 1, "one backfill was interrupted");
    }
    let keys = "SELECT after_key[1]::integer FROM vector_embed.backfill_state";
    let after: i32 = client.query_one(keys, &[]).expect("a key").get(0);
    assert!(after >= 50, "the backfill goes on where it ended, not before {after}");
    execute(&mut client, BACKFILL);
    assert_fresh(&mut client, "notes", 600);
    let state = client.query("SELECT FROM vector_embed.backfill_state", &[]).expect("the table");
    assert!(state.is_empty(), "nothing is left of a backfill that has ended");
}

#[test]
fn rows_behind_the_key_of_an_interrupted_backfill_are_found() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    without_vectors(&mut client, 400, 40);
    let mut worker = cluster.connect();
    let pid = backend(&mut worker);
    let call = thread::spawn(move || worker.batch_execute(BACKFILL));
    wait_for_progress(&mut client, 100);
    process::send(pid, Signal::INT);
    assert_eq!(refused(call.join().expect("the thread ends")).code().code(), "57014");
    execute(
        &mut client,
        "SET session_replication_role = replica;
         UPDATE notes SET embedding = NULL WHERE id BETWEEN 10 AND 20;
         INSERT INTO notes (id, body) VALUES (-5, 'This one is behind the key.');
         RESET session_replication_role",
    );
    execute(&mut client, BACKFILL);
    assert_fresh(&mut client, "notes", 401);
}

#[test]
fn two_backfills_and_writers_leave_every_vector_true() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    without_vectors(&mut client, 1000, 12);
    let write = |writer, step| {
        let id = (step * 37 + writer * 211) % 1000 + 1;
        let end = if step % 5 == 0 { "ROLLBACK" } else { "COMMIT" };
        // From high to low, so that a backfill that waited for rows would get into a deadlock.
        format!(
            "BEGIN;
             UPDATE notes SET body = 'step {step} of {writer}' WHERE id = {id};
             UPDATE notes SET seen = {step} WHERE id = {id} / 2 + 1;
             DELETE FROM notes WHERE id = {id} / 3;
             INSERT INTO notes (id, body) VALUES ({id} / 3, 'new {step} of {writer}') ON CONFLICT DO NOTHING;
             {end}"
        )
    };
    beside_writers(&cluster, 4, write, || twice_at_once(&cluster, BACKFILL));
    execute(&mut client, BACKFILL);
    let rows = client.query_one("SELECT count(*) FROM notes", &[]).expect("a count").get(0);
    assert_fresh(&mut client, "notes", rows);
}

#[test]
fn a_row_that_somebody_has_locked_holds_up_nothing_but_itself() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    without_vectors(&mut client, 200, 5);
    let mut holder = cluster.connect();
    execute(&mut holder, "BEGIN; UPDATE notes SET seen = 1 WHERE id = 120");
    let mut worker = cluster.connect();
    let call =
        thread::spawn(move || worker.batch_execute("CALL vector_embed.backfill('notes', batch => 200)"));
    wait_for_progress(&mut client, 199);
    execute(&mut holder, "COMMIT");
    call.join().expect("the thread ends").expect("the backfill succeeds");
    assert_fresh(&mut client, "notes", 200);
}

#[test]
fn while_texts_are_embedded_no_lock_or_snapshot_is_held() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    without_vectors(&mut client, 400, 200);
    let mut worker = cluster.connect();
    let pid = backend(&mut worker);
    let call =
        thread::spawn(move || worker.batch_execute("CALL vector_embed.backfill('notes', batch => 400)"));
    wait::until("the texts are at the engine", || {
        let queued = "SELECT queued_texts > 0 FROM vector_embed.stat_engine";
        client.query_opt(queued, &[]).expect("the view").is_some_and(|row| row.get(0))
    });
    let held = "SELECT (SELECT count(*) FROM pg_locks WHERE pid = $1 AND relation = 'notes'::regclass),
                       (SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $1),
                       (SELECT count(*) FROM vector_embed.stat_backfill WHERE running AND pid = $1)";
    let row = client.query_one(held, &[&pid]).expect("the views");
    assert_eq!(embedded(&mut client), 0, "the first batch is under way");
    assert_eq!(row.get::<_, i64>(0), 0, "locks of the table");
    assert!(row.get::<_, bool>(1), "a snapshot is held");
    assert_eq!(row.get::<_, i64>(2), 1, "the view tells of it");
    execute(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    assert_eq!(refused(call.join().expect("the thread ends")).code().code(), "57014");
    assert_eq!(embedded(&mut client), 0);
}

#[test]
fn a_hostile_owner_gains_nothing_by_a_superusers_backfill() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE ROLE mallory; CREATE SCHEMA hers AUTHORIZATION mallory; SET ROLE mallory;
         CREATE TABLE hers.notes (id integer PRIMARY KEY, body text, embedding vector);
         INSERT INTO hers.notes VALUES (1, 'one'), (2, 'two');
         SELECT vector_embed.attach('hers.notes', 'embedding', '{body}');
         CREATE TABLE hers.log (trigger name, by name, state text);
         CREATE FUNCTION hers.rise() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE state text;
         BEGIN
             BEGIN ALTER ROLE mallory SUPERUSER; EXCEPTION WHEN OTHERS THEN state = sqlstate; END;
             INSERT INTO hers.log VALUES (tg_name, current_user, state);
             RETURN NULL;
         END $$;
         CREATE TRIGGER rise AFTER UPDATE ON hers.notes FOR EACH ROW EXECUTE FUNCTION hers.rise();
         RESET ROLE",
    );
    execute(&mut client, "CALL vector_embed.backfill('hers.notes')");
    let tried = |trigger: &str| vec![format!("({trigger},mallory,42501)"); 2];
    assert_eq!(notes::contents(&mut client, "hers.log"), tried("rise"));
    execute(
        &mut client,
        "SET ROLE mallory;
         DROP TRIGGER rise ON hers.notes;
         CREATE CONSTRAINT TRIGGER rise_later AFTER UPDATE ON hers.notes DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION hers.rise();
         RESET ROLE",
    );
    execute(
        &mut client,
        "ALTER TABLE hers.notes DISABLE TRIGGER USER; UPDATE hers.notes SET embedding = NULL;
         ALTER TABLE hers.notes ENABLE TRIGGER USER; TRUNCATE hers.log",
    );
    execute(&mut client, "CALL vector_embed.backfill('hers.notes')");
    assert_eq!(notes::contents(&mut client, "hers.log"), tried("rise_later"));
    let role = "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'";
    assert!(!client.query_one(role, &[]).expect("the role").get::<_, bool>(0));
}

#[test]
fn vectors_of_a_model_that_changed_are_made_anew_and_its_hash_recorded() {
    const MODEL: &str = "tiny-bert";
    let installation = Installation::copy();
    installation.add_model(&fixtures::source(MODEL));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE notes ({}); SELECT vector_embed.attach('notes', 'embedding', '{{body}}', '{MODEL}');
             INSERT INTO notes (id, body) SELECT i, 'text ' || i FROM generate_series(1, 100) AS i;
             INSERT INTO notes (id) VALUES (101)",
            notes::COLUMNS
        ),
    );
    let drifted = "SELECT drifted FROM vector_embed.attachments";
    let _away = installation.exchange_model(MODEL, &fixtures::source("tiny-bert-cls"));
    wait::until("the view tells another hash", || client.query_one(drifted, &[]).expect("a row").get(0));
    wait::until("the engine serves the other model", || {
        client.batch_execute("UPDATE notes SET body = body || '.' WHERE id = 1").is_err()
    });
    assert_error(&refused(client.batch_execute("INSERT INTO notes VALUES (200, 'new')")), "55000");
    execute(&mut client, "CALL vector_embed.backfill('notes', stale => true, batch => 10)");
    assert!(!client.query_one(drifted, &[]).expect("a row").get::<_, bool>(0));
    execute(&mut client, "INSERT INTO notes VALUES (200, 'new')");
    let wrong = "SELECT count(*) FROM notes WHERE embed(body, 'tiny-bert') <-> embedding > 0.001
                 OR (body IS NULL) <> (embedding IS NULL)";
    assert_eq!(client.query_one(wrong, &[]).expect("a count").get::<_, i64>(0), 0);
}

/// A table that is attached, whose vectors are all of a model that is not there any more.
fn with_old_vectors(client: &mut Client, rows: usize) {
    without_vectors(client, rows, 5);
    let comment = r#"vector_embed {"timing":"row","hash":"HASH"}"#.replace("HASH", &"0".repeat(64));
    execute(
        client,
        &format!(
            "ALTER TABLE notes DISABLE TRIGGER USER;
             UPDATE notes SET embedding = {OLD_VECTOR};
             ALTER TABLE notes ENABLE TRIGGER USER;
             COMMENT ON TRIGGER zz_vector_embed_embedding ON notes IS '{comment}'"
        ),
    );
}

const OLD_VECTOR: &str = "array_fill(1, ARRAY[384])::vector";

/// What a session waits for.
fn is_waiting_for(client: &mut Client, pid: i32, event: &str) -> bool {
    let waits = "SELECT wait_event = $2 FROM pg_stat_activity WHERE pid = $1";
    let row = client.query_one(waits, &[&pid, &event]).expect("the view");
    row.get::<_, Option<bool>>(0).unwrap_or_default()
}

fn is_drifted(client: &mut Client) -> bool {
    let drifted = "SELECT drifted FROM vector_embed.attachments WHERE relation = 'notes'::regclass";
    client.query_one(drifted, &[]).expect("the view").get(0)
}

#[test]
fn a_row_that_another_changes_meanwhile_is_made_anew_whatever_the_isolation() {
    for isolation in ["repeatable read", "serializable"] {
        let cluster = Cluster::new();
        let mut client = cluster.connect();
        with_old_vectors(&mut client, 10);
        let mut holder = cluster.connect();
        execute(&mut holder, "BEGIN; SELECT FROM notes WHERE id = 3 FOR UPDATE");
        let mut worker = cluster.connect();
        execute(&mut worker, &format!("SET default_transaction_isolation = '{isolation}'"));
        let pid = backend(&mut worker);
        let call =
            thread::spawn(move || worker.batch_execute("CALL vector_embed.backfill('notes', stale => true)"));
        wait::until("the row is waited for", || is_waiting_for(&mut client, pid, "transactionid"));
        execute(&mut holder, "UPDATE notes SET seen = 1 WHERE id = 3; COMMIT");
        call.join().expect("the thread ends").expect("the backfill succeeds");
        assert_fresh(&mut client, "notes", 10);
        assert!(!is_drifted(&mut client), "all are made anew in {isolation}");
    }
}

#[test]
fn what_was_stored_before_and_is_committed_late_is_made_anew() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    with_old_vectors(&mut client, 10);
    let mut older = cluster.connect();
    execute(
        &mut older,
        &format!(
            "BEGIN; SET LOCAL session_replication_role = replica;
             INSERT INTO notes (id, body, embedding) VALUES (-5, 'by the old model', {OLD_VECTOR})"
        ),
    );
    let mut worker = cluster.connect();
    let pid = backend(&mut worker);
    let call =
        thread::spawn(move || worker.batch_execute("CALL vector_embed.backfill('notes', stale => true)"));
    wait::until("the older transaction is waited for", || is_waiting_for(&mut client, pid, "virtualxid"));
    execute(&mut older, "COMMIT");
    call.join().expect("the thread ends").expect("the backfill succeeds");
    assert_fresh(&mut client, "notes", 11);
    assert!(!is_drifted(&mut client));
}

#[test]
fn another_model_takes_the_place_of_the_first_while_others_write() {
    const MODEL: &str = "tiny-bert";
    let installation = Installation::copy();
    installation.add_model(&fixtures::source(MODEL));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384) NOT NULL);
         SELECT vector_embed.attach('notes', 'embedding', '{body}');
         INSERT INTO notes (id, body) SELECT i, 'text ' || i FROM generate_series(1, 300) AS i;
         CREATE INDEX nearest ON notes USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)",
    );
    let write = |_, step| {
        format!(
            "UPDATE notes SET body = 'step {step}' WHERE id = {step} % 300 + 1;
             INSERT INTO notes (id, body) VALUES (1000 + {step}, 'new {step}')"
        )
    };
    beside_writers(&cluster, 1, write, || {
        execute(&mut client, "CALL vector_embed.reembed_start('notes', 'embedding', 'tiny-bert', 20)");
        let indexes = client.query("SELECT vector_embed.reembed_indexes('notes', 'embedding')", &[]);
        for row in indexes.expect("statements that make indexes") {
            execute(&mut client, row.get(0));
        }
        execute(&mut client, "SELECT vector_embed.reembed_finish('notes', 'embedding')");
    });
    execute(&mut client, "INSERT INTO notes (id, body) VALUES (-1, 'the last')");
    let wrong = "SELECT count(*) FROM notes WHERE embed(body, 'tiny-bert') <-> embedding > 0.001";
    assert_eq!(client.query_one(wrong, &[]).expect("a count").get::<_, i64>(0), 0);
    let index = "SELECT pg_get_indexdef('nearest'::regclass) ~ 'embedding\\)::halfvec\\((\\d+)\\)',
                        (SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'nearest'::regclass),
                        (SELECT attnotnull FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname = 'embedding')";
    let row = client.query_one(index, &[]).expect("the index");
    assert!(row.get::<_, bool>(0) && !row.get::<_, bool>(1) && row.get::<_, bool>(2));
}

#[test]
fn chunks_are_true_after_backfills_beside_writers_and_a_kill() {
    const CALL: &str = "CALL vector_embed.backfill('documents', batch => 10)";
    let mut cluster = Cluster::with().alone().start();
    let mut client = cluster.connect();
    execute(&mut client, "CREATE TABLE documents (id integer PRIMARY KEY, body text)");
    let texts = bulk::texts(150, 60);
    let fill = "INSERT INTO documents SELECT i, t FROM unnest($1::text[]) WITH ORDINALITY AS x (t, i)";
    client.execute(fill, &[&texts]).expect("rows can be inserted");
    execute(
        &mut client,
        "SELECT vector_embed.attach_chunks('documents', 'body', 'passages', max_tokens => 24)",
    );
    let chunks = "SELECT count(DISTINCT document_id) FROM passages";
    let mut worker = cluster.connect();
    let call = thread::spawn(move || worker.batch_execute(CALL));
    wait::until("some documents have chunks", || {
        client.query_one(chunks, &[]).expect("a count").get::<_, i64>(0) >= 30
    });
    cluster.kill();
    assert!(call.join().expect("the thread ends").is_err(), "the kill came too late");
    cluster.start();
    client = cluster.connect();
    let write = |_, step| {
        let id = step * 37 % 150 + 1;
        format!(
            "UPDATE documents SET body = 'Step {step}. ' || body WHERE id = {id};
             DELETE FROM documents WHERE id = {id} / 2;
             INSERT INTO documents VALUES (1000 + {step}, 'Written in step {step}.')"
        )
    };
    beside_writers(&cluster, 1, write, || twice_at_once(&cluster, CALL));
    execute(&mut client, CALL);
    let wrong = "SELECT (SELECT missing FROM vector_embed.attachment_status('documents')),
                        (SELECT count(*) FROM passages WHERE 1 - (embedding <=> embed(content)) < 0.999999),
                        (SELECT count(*) FROM documents AS d WHERE
                             (SELECT array_agg((c.chunk_index, c.content) ORDER BY c.chunk_index) FROM passages AS c
                              WHERE c.document_id = d.id) IS DISTINCT FROM
                             (SELECT array_agg((c.chunk_index, c.content) ORDER BY c.chunk_index)
                              FROM vector_embed.chunk(d.body, max_tokens => 24) AS c))";
    let row = client.query_one(wrong, &[]).expect("counts");
    assert_eq!(row.get::<_, i64>(0), 0, "documents without chunks");
    assert_eq!(row.get::<_, i64>(1), 0, "chunks with another vector");
    assert_eq!(row.get::<_, i64>(2), 0, "documents with other chunks");
}

#[test]
fn a_dump_amid_a_change_of_the_model_goes_on_where_it_is_restored() {
    let cluster = Cluster::new();
    let mut client = cluster.database("source");
    execute(
        &mut client,
        "CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384));
         SELECT vector_embed.attach('notes', 'embedding', '{body}');
         INSERT INTO notes (id, body) SELECT i, 'text ' || i FROM generate_series(1, 20) AS i;
         CREATE TABLE told (id integer PRIMARY KEY, body text, made_by text, embedding vector(384));
         SELECT vector_embed.attach('told', 'embedding', '{body}', timing => 'statement', provenance => 'made_by');
         INSERT INTO told (id, body) VALUES (1, 'one')",
    );
    execute(&mut client, "CALL vector_embed.reembed_start('notes', 'embedding', 'all-MiniLM-L6-v2')");
    execute(
        &mut client,
        "ALTER TABLE notes DISABLE TRIGGER USER; UPDATE notes SET embedding_next = NULL WHERE id < 10",
    );
    execute(&mut client, "ALTER TABLE notes ENABLE TRIGGER USER");
    // psql's own commands are none of the server's.
    let dump = cluster.run("pg_dump --inserts source");
    let statements: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    execute(&mut cluster.empty_database("target"), &statements.join("\n"));
    let mut restored = cluster.connect_to("target");
    execute(&mut restored, "CALL vector_embed.reembed_start('notes', 'embedding', 'all-MiniLM-L6-v2')");
    execute(&mut restored, "SELECT vector_embed.reembed_finish('notes', 'embedding', drop_old => true)");
    assert_fresh(&mut restored, "notes", 20);
    execute(&mut restored, "INSERT INTO told (id, body) VALUES (2, 'two')");
    let told = "SELECT count(*) FROM told, vector_embed.models WHERE made_by = hash";
    assert_eq!(restored.query_one(told, &[]).expect("a count").get::<_, i64>(0), 2);
}
