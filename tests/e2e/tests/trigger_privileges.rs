//! Triggers give nobody more than they are allowed, and run nothing that others have put in their way.

use postgres::Client;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::notes::{self, TIMINGS, assert_fresh, attach, contents, copy};
use vector_embed_e2e::sql::{assert_error, execute, refused};

/// A database of its own on the shared cluster, with an owner of tables in schema `app` and somebody else. Roles are
/// named after the database.
struct Scene {
    cluster: Shared,
    name: &'static str,
}

impl Scene {
    fn new(name: &'static str) -> Self {
        let scene = Self { cluster: Shared::get(), name };
        let mut admin = scene.cluster.database(name);
        execute(
            &mut admin,
            &format!(
                "CREATE ROLE {name}_owner LOGIN;
                 CREATE ROLE {name}_user LOGIN;
                 CREATE SCHEMA app AUTHORIZATION {name}_owner;
                 CREATE SCHEMA own AUTHORIZATION {name}_user;
                 GRANT USAGE ON SCHEMA app TO {name}_user"
            ),
        );
        scene
    }

    fn admin(&self) -> Client {
        self.cluster.connect_to(self.name)
    }

    fn owner(&self) -> Client {
        self.cluster.connect_as(&format!("{}_owner", self.name), self.name)
    }

    /// The somebody else, whom the owner has given some privileges on some tables.
    fn user(&self) -> Client {
        self.cluster.connect_as(&format!("{}_user", self.name), self.name)
    }

    /// Makes a table of the owner's for each timing, and grants privileges to the user.
    fn tables(&self, privileges: &str) -> (Client, Client) {
        let mut owner = self.owner();
        for timing in TIMINGS {
            let table = table(timing);
            notes::create(&mut owner, &table, timing);
            if !privileges.is_empty() {
                execute(&mut owner, &format!("GRANT {privileges} ON {table} TO {}_user", self.name));
            }
        }
        (owner, self.user())
    }
}

fn table(timing: &str) -> String {
    format!("app.notes_by_{timing}")
}

#[test]
fn who_may_only_insert_has_rows_embedded_and_gains_nothing() {
    let scene = Scene::new("inserting");
    let (mut owner, mut user) = scene.tables("INSERT");
    for timing in TIMINGS {
        let table = table(timing);
        execute(&mut user, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"));
        copy(&mut user, &table, &[(3, "three"), (4, "four")]).expect("a copy");
        for denied in [
            format!("SELECT FROM {table}"),
            format!("UPDATE {table} SET body = 'x'"),
            format!("INSERT INTO {table} (id, body) VALUES (5, 'x') RETURNING embedding"),
            format!(
                "INSERT INTO {table} (id, body) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET body = 'x'"
            ),
            format!("DELETE FROM {table}"),
        ] {
            assert_eq!(refused(user.batch_execute(&denied)).code().code(), "42501", "{denied}");
        }
        assert_fresh(&mut owner, &table, 4);
    }
    let identity = "SELECT current_user = session_user AND current_setting('is_superuser') = 'off'";
    assert!(user.query_one(identity, &[]).expect("a row").get::<_, bool>(0));
}

#[test]
fn who_may_only_update_the_text_has_the_vector_follow_it() {
    let scene = Scene::new("updating");
    let (mut owner, mut user) = scene.tables("SELECT (id), UPDATE (body)");
    for timing in TIMINGS {
        let table = table(timing);
        execute(
            &mut owner,
            &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')"),
        );
        execute(&mut user, &format!("UPDATE {table} SET body = 'changed' WHERE id < 3"));
        for denied in
            ["embedding = NULL", "seen = 1", "body = 'x', embedding = '[1,2,3]'", "body = embedding::text"]
        {
            let update = format!("UPDATE {table} SET {denied}");
            assert_eq!(refused(user.batch_execute(&update)).code().code(), "42501", "{denied}");
        }
        assert_fresh(&mut owner, &table, 3);
    }
}

#[test]
fn columns_may_be_granted_one_by_one_to_insert() {
    let scene = Scene::new("columns");
    let (mut owner, mut user) = scene.tables("INSERT (id, body)");
    for timing in TIMINGS {
        let table = table(timing);
        execute(&mut user, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"));
        let supplied = format!("INSERT INTO {table} (id, body, embedding) VALUES (3, 'x', '[1,2,3]')");
        assert_eq!(refused(user.batch_execute(&supplied)).code().code(), "42501");
        assert_fresh(&mut owner, &table, 2);
    }
}

#[test]
fn row_level_security_holds_for_users_and_hinders_no_vector() {
    let scene = Scene::new("row_security");
    let (mut owner, mut user) = scene.tables("SELECT, INSERT, UPDATE");
    for timing in TIMINGS {
        let table = table(timing);
        execute(
            &mut owner,
            &format!(
                "INSERT INTO {table} (id, body) VALUES (1, 'hidden');
                 ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
                 CREATE POLICY visible ON {table} FOR SELECT USING (id BETWEEN 10 AND 19);
                 CREATE POLICY writable ON {table} FOR INSERT WITH CHECK (id >= 10);
                 CREATE POLICY changeable ON {table} FOR UPDATE USING (id >= 10) WITH CHECK (body <> 'forbidden')"
            ),
        );
        execute(&mut user, &format!("INSERT INTO {table} (id, body) VALUES (10, 'seen'), (20, 'unseen')"));
        execute(&mut user, &format!("UPDATE {table} SET body = 'changed' WHERE id > 0"));
        for denied in [
            format!("INSERT INTO {table} (id, body) VALUES (11, 'allowed'), (2, 'x')"),
            format!("UPDATE {table} SET body = 'forbidden'"),
        ] {
            assert_eq!(refused(user.batch_execute(&denied)).code().code(), "42501", "{denied}");
        }
        assert_fresh(&mut owner, &table, 3);
        let bodies = format!("(SELECT id, body FROM {table})");
        assert_eq!(contents(&mut owner, &bodies), ["(1,hidden)", "(10,changed)", "(20,unseen)"]);

        // The owner, too, and with a setting that makes it an error where policies hold.
        execute(&mut owner, &format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY"));
        execute(
            &mut owner,
            &format!("INSERT INTO {table} (id, body) VALUES (12, 'mine'), (22, 'mine, too')"),
        );
        execute(&mut owner, &format!("UPDATE {table} SET body = body || '!'"));
        execute(
            &mut owner,
            &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; SET row_security = off"),
        );
        execute(&mut owner, &format!("INSERT INTO {table} (id, body) VALUES (23, 'more')"));
        assert_fresh(&mut owner, &table, 6);
        execute(&mut owner, "RESET row_security");
    }
}

/// Objects of the user's by the names of those that SQL of ours might mean. None of the functions returns.
const HOSTILE: &str = "
    CREATE FUNCTION called() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'called as %', current_user; END$$;
    CREATE TYPE vector AS (x integer);
    CREATE TYPE text AS (x integer);
    CREATE TYPE record AS (x integer);
    CREATE TYPE regclass AS ENUM ('x');
    CREATE TABLE vector_embed_rows (k0 integer, was text, s0 text, computed vector, id integer);
    CREATE TEMPORARY TABLE vector_embed_rows (k0 integer, was text, s0 text, computed vector, id integer);
    CREATE TABLE notes_by_row (id integer, body text);
    CREATE TABLE notes_by_statement (id integer, body text);
    CREATE VIEW pg_trigger AS SELECT called() AS tgname;
    CREATE FUNCTION record_image_eq(pg_catalog.record, pg_catalog.record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN called(); END';
    CREATE FUNCTION record_eq(pg_catalog.record, pg_catalog.record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN called(); END';
    CREATE FUNCTION count(pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    CREATE FUNCTION embed(pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    CREATE FUNCTION embed_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM called(); END';
    CREATE FUNCTION embed_statement() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM called(); END';
    CREATE FUNCTION two(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    CREATE FUNCTION two(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    CREATE FUNCTION two(public.vector, public.vector) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    CREATE FUNCTION two(anyelement, anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT called()';
    DO $$
    DECLARE name pg_catalog.text; type pg_catalog.text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['=', '<>', '*=', '>'] LOOP
            FOREACH type IN ARRAY ARRAY['integer', 'pg_catalog.text', 'public.vector', 'anyelement'] LOOP
                EXECUTE pg_catalog.format('CREATE OPERATOR own.%s (FUNCTION = two, LEFTARG = %s, RIGHTARG = %2$s)', name, type);
            END LOOP;
        END LOOP;
        CREATE OPERATOR own.*= (FUNCTION = record_image_eq, LEFTARG = pg_catalog.record, RIGHTARG = pg_catalog.record);
        CREATE OPERATOR own.= (FUNCTION = record_eq, LEFTARG = pg_catalog.record, RIGHTARG = pg_catalog.record);
    END $$;
    GRANT USAGE ON SCHEMA own TO PUBLIC";

#[test]
fn nothing_is_called_that_somebody_has_put_into_the_search_path() {
    let scene = Scene::new("hostile");
    let (mut owner, mut user) = scene.tables("SELECT, INSERT, UPDATE");
    execute(&mut user, &format!("SET search_path = own; SET check_function_bodies = off; {HOSTILE}"));
    // The trap works.
    execute(&mut user, "SET search_path = own, pg_catalog");
    for call in [
        "SELECT 1 = 1",
        "SELECT ROW(1) *= ROW(1)",
        "SELECT FROM pg_trigger",
        "SELECT embed('x'::pg_catalog.text)",
    ] {
        assert_eq!(refused(user.batch_execute(call)).code().code(), "P0001", "{call}");
    }
    let paths = ["own, pg_catalog, public, app", "own", "own, pg_catalog, pg_temp", ""];
    for (number, path) in (1..).zip(paths) {
        let set =
            if path.is_empty() { "SET search_path = ''".into() } else { format!("SET search_path = {path}") };
        execute(&mut user, &set);
        for timing in TIMINGS {
            let table = table(timing);
            for statement in [
                format!("INSERT INTO {table} (id, body) VALUES ({number}, 'one'), ({number}0, 'two')"),
                format!("UPDATE {table} SET body = 'changed'"),
                format!("UPDATE {table} SET body = NULL"),
                format!("UPDATE {table} SET body = 'changed back', embedding = NULL"),
            ] {
                execute(&mut user, &statement);
            }
            assert_fresh(&mut owner, &table, 2 * number);
        }
    }
    // Nor when the superuser or the owner comes by that path.
    for mut client in [scene.admin(), scene.owner()] {
        execute(&mut client, "SET search_path = own, pg_catalog, public, app");
        for timing in TIMINGS {
            let table = table(timing);
            for call in [
                format!("SELECT vector_embed.detach('{table}', 'embedding')"),
                format!(
                    "SELECT vector_embed.attach('{table}', 'embedding', '{{body}}', timing => '{timing}')"
                ),
                format!("SELECT * FROM vector_embed.attachment_status('{table}')"),
                "SELECT * FROM vector_embed.attachments".to_owned(),
                format!("INSERT INTO {table} (id, body) VALUES (100, 'one')"),
                format!("DELETE FROM {table} WHERE id OPERATOR(pg_catalog.=) 100"),
            ] {
                execute(&mut client, &call);
            }
        }
    }
}

/// A function of the user's in the place of one that the owner's trigger function calls without its schema.
#[test]
fn who_may_only_insert_has_nothing_of_theirs_run_as_the_owner() {
    let scene = Scene::new("imposture");
    for moment in ["AFTER", "BEFORE"] {
        let (mut owner, mut user) = scene.tables("INSERT");
        execute(
            &mut owner,
            "CREATE OR REPLACE FUNCTION app.measure(text) RETURNS integer LANGUAGE sql AS 'SELECT length($1)';
             CREATE OR REPLACE FUNCTION app.audit() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN PERFORM measure(new.body); RETURN new; END$$",
        );
        execute(
            &mut user,
            "SET search_path = own, app;
             CREATE TABLE IF NOT EXISTS met (name name);
             GRANT ALL ON met TO PUBLIC;
             GRANT USAGE ON SCHEMA own TO PUBLIC;
             CREATE OR REPLACE FUNCTION measure(text) RETURNS integer LANGUAGE sql
                 AS 'INSERT INTO own.met SELECT current_user RETURNING 1'",
        );
        for timing in TIMINGS {
            let table = table(timing);
            execute(
                &mut owner,
                &format!(
                    "CREATE TRIGGER audit {moment} UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION app.audit()"
                ),
            );
            // That it cannot find its function where no path leads there is the owner's own business.
            let _ = user.batch_execute(&format!("INSERT INTO {table} (id, body) VALUES (1, 'one')"));
        }
        let met = contents(&mut user, "own.met");
        let owner_s = format!("({}_owner)", scene.name);
        assert!(
            !met.contains(&owner_s),
            "a function of the user's ran as the owner, {moment} the write-back"
        );
        // The trap works: whom a path of his own leads there runs it.
        execute(&mut owner, "SET search_path = own, app");
        for timing in TIMINGS {
            let table = table(timing);
            execute(&mut user, "TRUNCATE own.met");
            execute(&mut owner, &format!("INSERT INTO {table} (id, body) VALUES (2, 'two')"));
            execute(&mut owner, &format!("UPDATE {table} SET seen = 1 WHERE id = 2"));
            assert!(contents(&mut user, "own.met").contains(&owner_s), "the trigger runs {moment} an update");
        }
        execute(&mut user, "TRUNCATE own.met");
        execute(&mut owner, "DROP TABLE app.notes_by_row, app.notes_by_statement");
    }
}

#[test]
fn trigger_functions_of_a_table_run_as_who_writes_or_as_their_definer() {
    let scene = Scene::new("identities");
    let (mut owner, mut user) = scene.tables("INSERT");
    let mut admin = scene.admin();
    execute(
        &mut admin,
        "CREATE ROLE identities_auditor;
         CREATE TABLE seen (trigger name, who name);
         GRANT INSERT ON seen TO PUBLIC;
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO public.seen VALUES (tg_name, current_user); RETURN new; END$$;
         CREATE FUNCTION tell_as_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             $$BEGIN INSERT INTO public.seen VALUES (tg_name, current_user); RETURN new; END$$;
         ALTER FUNCTION tell_as_definer OWNER TO identities_auditor",
    );
    for (name, event) in
        [("before", "BEFORE UPDATE"), ("after", "AFTER UPDATE"), ("deferred", "AFTER UPDATE")]
    {
        let (create, more) = if name == "deferred" {
            ("CREATE CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED")
        } else {
            ("CREATE TRIGGER", "")
        };
        for (suffix, function) in [("", "tell"), ("_definer", "tell_as_definer")] {
            execute(
                &mut owner,
                &format!(
                    "{create} {name}{suffix} {event} ON app.notes_by_statement {more}
                     FOR EACH ROW EXECUTE FUNCTION public.{function}()"
                ),
            );
        }
    }
    execute(
        &mut owner,
        "CREATE TRIGGER statement AFTER UPDATE ON app.notes_by_statement EXECUTE FUNCTION public.tell()",
    );
    execute(&mut user, "INSERT INTO app.notes_by_statement (id, body) VALUES (1, 'one')");
    assert_eq!(
        contents(&mut admin, "seen"),
        [
            "(after,identities_user)",
            "(after_definer,identities_auditor)",
            "(before,identities_user)",
            "(before_definer,identities_auditor)",
            "(deferred,identities_user)",
            "(deferred_definer,identities_auditor)",
            "(statement,identities_user)",
        ]
    );
    assert_fresh(&mut owner, "app.notes_by_statement", 1);
}

#[test]
fn a_table_of_somebody_else_s_is_neither_attached_nor_detached_nor_waited_for() {
    let scene = Scene::new("strangers");
    let (mut owner, mut user) = scene.tables("ALL");
    execute(&mut user, "SET statement_timeout = '20s'");
    let mut locking = owner.transaction().expect("a transaction");
    for timing in TIMINGS {
        locking
            .batch_execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table(timing)))
            .expect("a lock");
    }
    for timing in TIMINGS {
        let table = table(timing);
        for call in [
            format!("attach('{table}', 'embedding', '{{body}}', timing => '{timing}')"),
            format!("attach('{table}', 'no such column', '{{body}}', 'no-such-model', 'row')"),
            format!("detach('{table}', 'embedding')"),
            format!("detach('{table}', 'no such column')"),
        ] {
            // At once: whoever waited for the lock would be told of the timeout.
            let error = refused(user.batch_execute(&format!("SELECT vector_embed.{call}")));
            assert_eq!(error.code().code(), "42501", "{call}: {error:?}");
        }
    }
    locking.rollback().expect("the session lives");

    for catalog in ["pg_catalog.pg_class", "pg_catalog.pg_authid"] {
        let call = format!("SELECT vector_embed.attach('{catalog}', 'relname', '{{relname}}')");
        assert_eq!(refused(user.batch_execute(&call)).code().code(), "42501");
    }
    let mut admin = scene.admin();
    assert_eq!(
        contents(&mut admin, "(SELECT relation, timing, enabled FROM vector_embed.attachments)").len(),
        2
    );
}

#[test]
fn an_owner_attaches_and_sees_tables_of_theirs_alone_without_other_privileges() {
    let scene = Scene::new("owners");
    let (mut owner, mut user) = scene.tables("SELECT");
    notes::create(&mut user, "own.notes", "row");
    let seen = "(SELECT relation FROM vector_embed.attachments)";
    assert_eq!(contents(&mut owner, seen), ["(app.notes_by_row)", "(app.notes_by_statement)"]);
    assert_eq!(contents(&mut user, seen), ["(own.notes)"]);
    assert_eq!(contents(&mut scene.admin(), seen).len(), 3);
    execute(&mut scene.admin(), "CREATE ROLE owners_stranger LOGIN");
    let mut stranger = scene.cluster.connect_as("owners_stranger", "owners");
    assert!(contents(&mut stranger, seen).is_empty());

    // Members of the owner's role may do what it may.
    execute(&mut scene.admin(), "GRANT owners_owner TO owners_stranger");
    assert_eq!(contents(&mut stranger, seen).len(), 2);
    execute(&mut stranger, "SELECT vector_embed.detach('app.notes_by_row', 'embedding')");
    attach(&mut stranger, "app.notes_by_row", "statement");
    execute(&mut stranger, "INSERT INTO app.notes_by_row (id, body) VALUES (1, 'one')");
    assert_fresh(&mut owner, "app.notes_by_row", 1);
    let status = refused(stranger.batch_execute("SELECT * FROM vector_embed.attachment_status('own.notes')"));
    assert_eq!(status.code().code(), "42501");
}

#[test]
fn an_error_tells_the_key_of_a_row_to_those_who_may_read_it_only() {
    let scene = Scene::new("telling");
    let (mut owner, mut user) = scene.tables("INSERT, SELECT (body), UPDATE (body)");
    execute(&mut owner, "INSERT INTO app.notes_by_statement (id, body) VALUES (7001, 'short')");
    let told = |client: &mut Client, statement: &str| {
        execute(client, "SET vector_embed.overlong_text = error");
        let error = refused(client.batch_execute(statement));
        assert_error(&error, "22001");
        format!("{error:?}")
    };
    let insert =
        "INSERT INTO app.notes_by_statement (id, body) VALUES (7002, 'short'), (7003, repeat('long ', 999))";
    let update = "UPDATE app.notes_by_statement SET body = repeat('long ', 999)";
    assert!(told(&mut owner, insert).contains("(id)=(7003)"));
    assert!(told(&mut owner, update).contains("(id)=(7001)"));
    for statement in [insert, update] {
        let told = told(&mut user, statement);
        assert!(!told.contains("700"), "{told}");
        assert!(!told.contains("long long"), "{told}");
    }
    // Who may read the table, but not each row of it, is not told either.
    execute(
        &mut owner,
        "GRANT SELECT ON app.notes_by_statement TO telling_user;
         CREATE POLICY everything ON app.notes_by_statement USING (true)",
    );
    assert!(told(&mut user, update).contains("(id)=(7001)"));
    execute(&mut owner, "ALTER TABLE app.notes_by_statement ENABLE ROW LEVEL SECURITY");
    assert!(!told(&mut user, update).contains("700"));
}

#[test]
fn a_trigger_function_that_nobody_may_call_still_serves_the_table() {
    let cluster = Cluster::new();
    let mut admin = cluster.connect();
    execute(
        &mut admin,
        "CREATE ROLE writer LOGIN;
         REVOKE ALL ON SCHEMA vector_embed FROM PUBLIC;
         REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vector_embed, public FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION vector_in(cstring, oid, integer), vector(vector, integer, boolean) TO PUBLIC",
    );
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        notes::create(&mut admin, &table, timing);
        execute(&mut admin, &format!("GRANT INSERT ON {table} TO writer"));
        let mut writer = cluster.connect_as("writer", "postgres");
        execute(&mut writer, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one')"));
        assert_fresh(&mut admin, &table, 1);
    }
}
