//! What a table's owner has attached to it, or to its queue, runs as this owner, whoever writes and whoever serves.

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::notes::{self, assert_fresh};
use vector_embed_e2e::sql::{assert_error, execute, refused};

/// Tries all it can when it runs, and notes as whom. What is not allowed is an error, which is caught.
const HOSTILE: &str = "
    CREATE TABLE log (place text, by text, got text);
    CREATE FUNCTION attempt(what text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE what;
        RETURN what;
    EXCEPTION WHEN OTHERS THEN RETURN NULL;
    END$$;
    CREATE FUNCTION hostile() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.log SELECT TG_ARGV[0], current_user, got FROM unnest(ARRAY[
            public.attempt('ALTER ROLE hostile SUPERUSER'),
            public.attempt('SET ROLE postgres'),
            public.attempt('SET SESSION AUTHORIZATION postgres'),
            public.attempt('RESET SESSION AUTHORIZATION'),
            public.attempt('CREATE ROLE made_by_hostile SUPERUSER'),
            public.attempt('COPY public.log TO PROGRAM ''true'''),
            public.attempt('CREATE TEMPORARY TABLE pg_class (x integer)')]) AS got;
        PERFORM public.attempt('SET search_path = public, pg_catalog');
        PERFORM public.attempt('SET session_replication_role = replica');
        RETURN NEW;
    END$$;";

fn hostile_triggers(client: &mut Client, table: &str) {
    execute(
        client,
        &format!(
            "CREATE TRIGGER b BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION hostile('before {table}');
             CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION hostile('after {table}');
             CREATE CONSTRAINT TRIGGER d AFTER INSERT OR UPDATE OR DELETE ON {table} DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION hostile('deferred {table}')"
        ),
    );
}

/// What ran where, and as whom.
fn log(client: &mut Client) -> Vec<(String, String, Option<String>)> {
    let rows = client.query("SELECT DISTINCT place, by, got FROM public.log ORDER BY 1, 2, 3", &[]);
    rows.expect("the log can be read").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn assert_gained_nothing(client: &mut Client) {
    let gained = client
        .query_one(
            "SELECT count(*) FROM pg_roles WHERE rolname ~ 'hostile' AND (rolsuper OR rolname <> 'hostile')",
            &[],
        )
        .expect("a row");
    assert_eq!(gained.get::<_, i64>(0), 0, "roles: {:?}", log(client));
}

fn scene(cluster: &Cluster) -> (Client, Client) {
    let mut admin = cluster.connect();
    execute(&mut admin, "CREATE ROLE hostile LOGIN; GRANT CREATE ON SCHEMA public TO hostile");
    let mut owner = cluster.connect_as("hostile", "postgres");
    execute(&mut owner, HOSTILE);
    execute(&mut owner, "CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(384))");
    execute(&mut owner, "SELECT vector_embed.attach('notes', 'embedding', '{body}', timing => 'queue')");
    (admin, owner)
}

#[test]
fn a_worker_runs_the_owner_s_triggers_as_the_owner_deferred_ones_included() {
    let cluster = Cluster::new();
    let (mut admin, mut owner) = scene(&cluster);
    execute(&mut owner, "INSERT INTO notes SELECT i, 'text ' || i FROM generate_series(1, 5) AS i");
    execute(&mut owner, "CALL vector_embed.drain('notes', '1 min')");
    hostile_triggers(&mut owner, "notes");
    hostile_triggers(&mut owner, "notes_embedding_queue");
    execute(
        &mut owner,
        "TRUNCATE log; INSERT INTO notes_embedding_queue (key1) SELECT id FROM notes; UPDATE notes SET embedding = NULL WHERE false",
    );
    // Only what the worker does is looked at.
    execute(&mut admin, "TRUNCATE public.log; NOTIFY nothing");
    execute(&mut admin, "CALL vector_embed.drain('notes', '1 min')");
    let log = log(&mut admin);
    let by: Vec<&str> = log.iter().map(|(_, by, _)| by.as_str()).collect();
    assert!(by.iter().all(|by| *by == "hostile"), "{log:?}");
    assert!(log.iter().all(|(_, _, got)| got.is_none()), "nothing has succeeded: {log:?}");
    for place in [
        "before notes",
        "after notes",
        "deferred notes",
        "after notes_embedding_queue",
        "deferred notes_embedding_queue",
    ] {
        assert!(log.iter().any(|(of, ..)| of == place), "{place} ran: {log:?}");
    }
    assert_gained_nothing(&mut admin);
    let left: i64 = admin.query_one("SELECT count(*) FROM notes_embedding_queue", &[]).expect("a row").get(0);
    assert_eq!(left, 0);
    assert_fresh(&mut admin, "notes", 5);
}

#[test]
fn an_owner_who_defers_his_triggers_again_holds_up_his_own_rows_only() {
    let cluster = Cluster::new();
    let (mut admin, mut owner) = scene(&cluster);
    execute(
        &mut owner,
        "CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END$$;
         CREATE TRIGGER b BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION defer()",
    );
    execute(
        &mut owner,
        "CREATE CONSTRAINT TRIGGER d AFTER UPDATE ON notes DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION hostile('deferred')",
    );
    execute(&mut owner, "INSERT INTO notes VALUES (1, 'of the owner')");
    notes::create(&mut admin, "others", "queue");
    execute(&mut admin, "INSERT INTO others VALUES (1, 'of somebody else')");
    execute(&mut admin, "CALL vector_embed.drain('others', '1 min')");
    assert_fresh(&mut admin, "others", 1);
    execute(&mut admin, "CALL vector_embed.drain('notes', '1 min')");
    let state: String =
        admin.query_one("SELECT sqlstate FROM vector_embed.failures", &[]).expect("a failure").get(0);
    assert_eq!(state, "42501", "a deferred trigger is an error in a restricted operation");
    assert!(log(&mut admin).is_empty());
    assert_gained_nothing(&mut admin);
}

#[test]
fn a_superuser_who_writes_or_looks_runs_nothing_of_the_queue_s_owner() {
    let cluster = Cluster::new();
    let (mut admin, mut owner) = scene(&cluster);
    execute(
        &mut owner,
        "ALTER TABLE notes_embedding_queue ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    );
    execute(
        &mut owner,
        "CREATE FUNCTION seen() RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.log VALUES ('policy', current_user, public.attempt('ALTER ROLE hostile SUPERUSER')); RETURN true; END$$;
         CREATE POLICY p ON notes_embedding_queue USING (seen()) WITH CHECK (seen());
         CREATE TRIGGER b BEFORE INSERT ON notes_embedding_queue FOR EACH ROW EXECUTE FUNCTION hostile('before');
         CREATE TRIGGER a AFTER INSERT ON notes_embedding_queue FOR EACH ROW EXECUTE FUNCTION hostile('after');
         ALTER TABLE notes_embedding_queue ALTER message SET DEFAULT attempt('ALTER ROLE hostile SUPERUSER'),
             ADD CHECK (message IS NULL OR message <> 'x' OR seen())",
    );
    execute(
        &mut admin,
        "SET search_path = public, pg_catalog; INSERT INTO notes VALUES (1, 'By a superuser.')",
    );
    let path: String = admin.query_one("SHOW search_path", &[]).expect("a row").get(0);
    assert_eq!(path, "public, pg_catalog", "what the trigger has set is gone");
    admin.query("SELECT * FROM vector_embed.queue", &[]).expect("the view can be read");
    admin.query("SELECT * FROM vector_embed.failures", &[]).expect("the view can be read");
    execute(&mut admin, "CALL vector_embed.drain('notes', '1 min')");
    let log = log(&mut admin);
    assert!(
        log.iter().any(|(place, ..)| place == "before") && log.iter().any(|(place, ..)| place == "after"),
        "{log:?}"
    );
    assert!(log.iter().all(|(_, by, got)| by == "hostile" && got.is_none()), "{log:?}");
    assert_gained_nothing(&mut admin);
    assert_fresh(&mut admin, "notes", 1);
}

#[test]
fn a_trigger_of_somebody_else_does_not_write_to_the_queue() {
    let cluster = Cluster::new();
    let (mut admin, mut owner) = scene(&cluster);
    execute(&mut admin, "CREATE ROLE guest LOGIN");
    execute(&mut owner, "ALTER TABLE notes ADD title text; GRANT TRIGGER, INSERT, SELECT ON notes TO guest");
    let mut guest = cluster.connect_as("guest", "postgres");
    // Arguments that the owner has not recorded are not believed, although the comment is still there.
    execute(
        &mut guest,
        "CREATE OR REPLACE TRIGGER zz_vector_embed_embedding_insert AFTER INSERT ON notes REFERENCING NEW TABLE AS new_rows
         FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.embed_later('embedding', 'all-MiniLM-L6-v2', 'title')",
    );
    let error = refused(guest.batch_execute("INSERT INTO notes (id, title) VALUES (1, 'x')"));
    assert_error(&error, "55000");
    let queued: i64 =
        admin.query_one("SELECT count(*) FROM notes_embedding_queue", &[]).expect("a row").get(0);
    assert_eq!(queued, 0);
}
