//! Triggers that keep vectors, among an application's own triggers and transactions.

use std::thread;

use postgres::Client;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::notes::{self, TIMINGS, assert_fresh, assert_fresh_of};
use vector_embed_e2e::sql::{assert_error, backend, count, execute, refused};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

/// Runs a test for either timing, in a database that has a table of notes named after it.
fn with_each_timing(database: &str, test: impl Fn(&mut Client, &str)) {
    let cluster = Shared::get();
    let mut client = cluster.database(database);
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        notes::create(&mut client, &table, timing);
        test(&mut client, &table);
    }
}

/// Makes a trigger function of these statements, and triggers that call it.
fn user_trigger(client: &mut Client, table: &str, name: &str, event: &str, body: &str) {
    execute(
        client,
        &format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;
             CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
        ),
    );
}

#[test]
fn a_trigger_that_changes_the_text_before_it_is_stored_has_its_vector_made_of_what_is_stored() {
    with_each_timing("changed_before", |client, table| {
        let body = "new.body := upper(btrim(new.body)); RETURN new;";
        user_trigger(client, table, "change", "BEFORE INSERT OR UPDATE", body);
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, '  over'), (2, 'under')"));
        execute(client, &format!("UPDATE {table} SET body = 'through' WHERE id = 2"));
        assert_fresh(client, table, 2);
        let query = format!("SELECT count(*) FROM {table} WHERE body IN ('OVER', 'THROUGH')");
        assert_eq!(count(client, &query), 2);
    });
}

#[test]
fn a_trigger_that_changes_the_text_each_time_it_is_stored_is_told_or_followed() {
    with_each_timing("changed_each_time", |client, table| {
        let body = "new.body := new.body || '!'; RETURN new;";
        user_trigger(client, table, "change", "BEFORE UPDATE", body);
        execute(client, &format!("INSERT INTO {table} (id) VALUES (1), (2)"));
        let mut rows = 2;
        for write in
            ["INSERT INTO {table} (id, body) VALUES (3, 'over')", "UPDATE {table} SET body = 'under'"]
        {
            let before = notes::contents(client, table);
            match client.execute(&write.replace("{table}", table), &[]) {
                Ok(_) => rows += i64::from(write.starts_with("INSERT")),
                // Writing vectors back changes the text, and there is no end to it.
                Err(error) => {
                    assert_eq!(table, "notes_by_statement", "{error:?}");
                    assert_error(error.as_db_error().expect("the session lives"), "27000");
                    assert_eq!(notes::contents(client, table), before);
                }
            }
            assert_fresh(client, table, rows);
        }
    });
}

#[test]
fn a_trigger_that_updates_the_row_in_the_same_statement_leaves_the_vector_of_the_last_text() {
    with_each_timing("changed_after", |client, table| {
        let update = format!("UPDATE {table} SET body = new.body || ' amended' WHERE id = new.id");
        let body = format!("IF new.body NOT LIKE '%amended' THEN {update}; END IF; RETURN NULL;");
        user_trigger(client, table, "amend", "AFTER INSERT OR UPDATE", &body);
        execute(
            client,
            &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')"),
        );
        execute(client, &format!("UPDATE {table} SET body = 'four' WHERE id = 2"));
        execute(
            client,
            &format!(
                "INSERT INTO {table} (id, body) VALUES (3, 'five'), (4, 'six')
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body"
            ),
        );
        assert_fresh(client, table, 4);
        assert_eq!(count(client, &format!("SELECT count(*) FROM {table} WHERE body LIKE '%amended'")), 4);
    });
}

#[test]
fn a_trigger_that_changes_other_columns_of_the_row_or_its_key_costs_it_no_vector() {
    with_each_timing("changed_beside", |client, table| {
        let update = format!("UPDATE {table} SET seen = 1, id = id + 100 WHERE id = new.id AND seen IS NULL");
        user_trigger(client, table, "mark", "AFTER INSERT", &format!("{update}; RETURN NULL;"));
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two'), (3, NULL)"));
        assert_fresh(client, table, 3);
        assert_eq!(count(client, &format!("SELECT count(*) FROM {table} WHERE id > 100 AND seen = 1")), 3);
    });
}

#[test]
fn a_trigger_that_moves_texts_between_rows_leaves_each_with_the_vector_of_its_own() {
    with_each_timing("moved", |client, table| {
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'first'), (2, 'second')"));
        let swap = format!("UPDATE {table} AS t SET body = o.body FROM {table} AS o WHERE t.id = 3 - o.id");
        let body = format!("IF pg_trigger_depth() = 1 THEN {swap} AND t.id < 3; END IF; RETURN NULL;");
        user_trigger(client, table, "swap", "AFTER INSERT", &body);
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (3, 'third')"));
        assert_fresh(client, table, 3);
        let swapped =
            format!("SELECT count(*) FROM {table} WHERE (id, body) IN ((1, 'second'), (2, 'first'))");
        assert_eq!(count(client, &swapped), 2);
    });
}

#[test]
fn a_trigger_that_keeps_rows_from_being_stored_or_written_back_does_no_harm() {
    with_each_timing("suppressed", |client, table| {
        let body = "IF new.body = 'unwanted' THEN RETURN NULL; END IF; RETURN new;";
        user_trigger(client, table, "refuse", "BEFORE INSERT OR UPDATE", body);
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'unwanted'), (2, 'wanted')"));
        execute(client, &format!("UPDATE {table} SET body = 'unwanted'"));
        assert_fresh(client, table, 1);
    });
}

#[test]
fn a_trigger_that_takes_another_row_s_vector_away_has_it_made_anew() {
    with_each_timing("taken_away", |client, table| {
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"));
        // Fires for the application's statement, and when vectors are written back.
        let update = format!("UPDATE {table} SET embedding = NULL WHERE id = new.seen");
        let body = format!("IF new.embedding IS NOT NULL THEN {update}; END IF; RETURN NULL;");
        user_trigger(client, table, "take", "AFTER INSERT OR UPDATE", &body);
        execute(
            client,
            &format!("INSERT INTO {table} (id, body, seen) VALUES (3, 'three', 1), (4, 'four', 2)"),
        );
        assert_fresh(client, table, 4);
        execute(client, &format!("UPDATE {table} SET body = body || ', changed' WHERE seen IS NOT NULL"));
        assert_fresh(client, table, 4);
    });
}

#[test]
fn a_trigger_that_updates_other_rows_while_vectors_are_written_back_leaves_all_fresh() {
    with_each_timing("cascades", |client, table| {
        execute(
            client,
            &format!(
                "INSERT INTO {table} (id, body) VALUES (1, 'root');
                 INSERT INTO {table} (id, body, seen) SELECT i, 'below', i / 2 FROM generate_series(2, 31) AS i"
            ),
        );
        let update = format!("UPDATE {table} SET body = new.body || ' ' || id WHERE seen = new.id");
        let body = format!("{update}; RETURN NULL;");
        user_trigger(client, table, "cascade", "AFTER UPDATE", &body);
        execute(client, &format!("UPDATE {table} SET body = 'changed root' WHERE id = 1"));
        assert_fresh(client, table, 31);
        let followed = format!("SELECT count(*) FROM {table} WHERE body LIKE 'changed root%'");
        assert_eq!(count(client, &followed), 31);
    });
}

#[test]
fn a_write_back_that_failed_has_no_effect_on_later_statements() {
    with_each_timing("failed_before", |client, table| {
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"));
        let refuse = "IF new.body = 'bad' THEN RAISE EXCEPTION SQLSTATE 'XX999'; END IF; RETURN new;";
        user_trigger(client, table, "refuse", "BEFORE UPDATE", refuse);
        execute(client, &format!("CREATE TABLE {table}_moves (id integer)"));
        let supply = format!("UPDATE {table} SET body = 'moved', embedding = '[1,2,3]' WHERE id = new.id");
        user_trigger(
            client,
            &format!("{table}_moves"),
            "supply",
            "AFTER INSERT",
            &format!("{supply}; RETURN NULL;"),
        );
        let bad = format!("INSERT INTO {table} (id, body) VALUES (3, 'bad')");
        let caught = format!("DO $$BEGIN {bad}; EXCEPTION WHEN OTHERS THEN END$$");
        for (id, failing) in [(1, bad), (2, caught)] {
            // By row, nothing is written back.
            let _ = client.batch_execute(&failing);
            execute(client, &format!("INSERT INTO {table}_moves VALUES ({id})"));
            let kept = format!("SELECT count(*) FROM {table} WHERE id = {id} AND embedding = '[1,2,3]'");
            assert_eq!(count(client, &kept), 1, "a supplied vector is kept");
        }
    });
}

#[test]
fn an_update_that_has_waited_for_another_one_embeds_what_it_stores() {
    let cluster = Shared::get();
    let mut client = cluster.database("waiting");
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        notes::create(&mut client, &table, timing);
        execute(&mut client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'one'), (2, 'two')"));
        let mut first = client.transaction().expect("a transaction");
        first.batch_execute(&format!("UPDATE {table} SET body = body || ' first'")).expect("an update");
        let (mut second, mut observer) = (cluster.connect_to("waiting"), cluster.connect_to("waiting"));
        let pid = backend(&mut second);
        thread::scope(|scope| {
            let _canceller = Canceller::of(&mut second);
            let update = format!("UPDATE {table} SET body = body || ' second' WHERE body IS NOT NULL");
            let update = scope.spawn(move || second.batch_execute(&update));
            wait::until("the second one waits for the first", || {
                let waits = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
                observer.query_opt(waits, &[&pid]).expect("the view can be read").is_some()
            });
            first.commit().expect("a commit");
            update.join().expect("the session's thread ends").expect("an update");
        });
        assert_fresh(&mut client, &table, 2);
        let both = format!("SELECT count(*) FROM {table} WHERE body LIKE '% first second'");
        assert_eq!(count(&mut client, &both), 2);
    }
}

#[test]
fn in_every_isolation_level_rows_get_their_vectors() {
    with_each_timing("isolation", |client, table| {
        for (id, level) in (1..).zip(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]) {
            execute(
                client,
                &format!(
                    "BEGIN ISOLATION LEVEL {level};
                     INSERT INTO {table} (id, body) VALUES ({id}, '{level}'), ({id}0, 'another');
                     UPDATE {table} SET body = body || ' {id}';
                     DELETE FROM {table} WHERE id = {id}0;
                     INSERT INTO {table} (id, body) VALUES ({id}, 'x') ON CONFLICT (id) DO UPDATE SET body = 'y {level}';
                     COMMIT"
                ),
            );
            assert_fresh(client, table, id);
        }
    });
}

#[test]
fn a_statement_of_more_rows_than_are_sent_at_once_gives_each_its_own_vector() {
    let cluster = Shared::get();
    let mut client = cluster.database("batches");
    notes::create(&mut client, "notes", "statement");
    execute(
        &mut client,
        "INSERT INTO notes (id, body) SELECT i, 'n ' || i FROM generate_series(1, 4200) AS i",
    );
    assert_fresh(&mut client, "notes", 4200);
    execute(&mut client, "UPDATE notes SET id = 10000 - id, body = 'n ' || 4201 - id");
    assert_fresh(&mut client, "notes", 4200);
}

#[test]
fn an_upsert_leaves_inserted_and_updated_rows_with_their_vectors() {
    with_each_timing("upserts", |client, table| {
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'old'), (2, 'old'), (3, 'old')"));
        let values = "VALUES (2, 'new two'), (3, NULL), (4, 'new four'), (5, NULL)";
        for action in [
            "DO UPDATE SET body = excluded.body",
            "DO UPDATE SET body = excluded.body, embedding = excluded.embedding",
            "DO UPDATE SET body = excluded.body || ' last', embedding = NULL",
            "DO UPDATE SET seen = 1",
            "DO UPDATE SET body = 'never' WHERE excluded.id > 100",
            "DO NOTHING",
        ] {
            execute(client, &format!("INSERT INTO {table} (id, body) {values} ON CONFLICT (id) {action}"));
            assert_fresh(client, table, 5);
        }
    });
}

#[test]
fn what_is_rolled_back_leaves_nothing_and_what_comes_after_gets_its_vectors() {
    with_each_timing("rolled_back", |client, table| {
        execute(client, &format!("INSERT INTO {table} (id, body) VALUES (1, 'before')"));
        let before = notes::contents(client, table);
        execute(client, &format!("BEGIN; INSERT INTO {table} (id, body) VALUES (2, 'two'); ROLLBACK"));
        assert_eq!(notes::contents(client, table), before);
        execute(
            client,
            &format!(
                "BEGIN;
                 INSERT INTO {table} (id, body) VALUES (3, 'three');
                 SAVEPOINT one;
                 UPDATE {table} SET body = 'undone';
                 SAVEPOINT two;
                 INSERT INTO {table} (id, body) VALUES (4, 'undone');
                 ROLLBACK TO one;
                 UPDATE {table} SET body = body || ', kept' WHERE id = 3;
                 RELEASE one;
                 INSERT INTO {table} (id, body) VALUES (5, 'five');
                 COMMIT"
            ),
        );
        assert_fresh(client, table, 3);
        let kept = format!("SELECT count(*) FROM {table} WHERE body IN ('before', 'three, kept', 'five')");
        assert_eq!(count(client, &kept), 3);
    });
}

#[test]
fn a_transaction_that_is_prepared_keeps_its_vectors() {
    // The shared cluster prepares none.
    let cluster = Cluster::with().setting("max_prepared_transactions", "4").start();
    let mut client = cluster.connect();
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        notes::create(&mut client, &table, timing);
        for (id, end) in [(1, "COMMIT"), (2, "ROLLBACK")] {
            execute(
                &mut client,
                &format!(
                    "BEGIN;
                     INSERT INTO {table} (id, body) VALUES ({id}, 'prepared'), ({id} + 10, 'prepared, too');
                     UPDATE {table} SET body = 'changed' WHERE id = {id};
                     PREPARE TRANSACTION '{id}'"
                ),
            );
            execute(&mut cluster.connect(), &format!("{end} PREPARED '{id}'"));
        }
        assert_fresh(&mut client, &table, 2);
    }
}

#[test]
fn deferred_constraints_see_the_rows_at_the_end_and_undo_them_with_their_vectors() {
    with_each_timing("deferred", |client, table| {
        execute(
            client,
            &format!(
                "CREATE TABLE {table}_topics (id integer PRIMARY KEY);
                 ALTER TABLE {table} ADD FOREIGN KEY (seen) REFERENCES {table}_topics
                     DEFERRABLE INITIALLY DEFERRED;
                 ALTER TABLE {table} ADD UNIQUE (body) DEFERRABLE INITIALLY DEFERRED"
            ),
        );
        execute(
            client,
            &format!(
                "BEGIN;
                 INSERT INTO {table} (id, body, seen) VALUES (1, 'one', 7), (2, 'two', 7);
                 UPDATE {table} SET body = CASE id WHEN 1 THEN 'two' ELSE 'one' END;
                 INSERT INTO {table}_topics VALUES (7);
                 COMMIT"
            ),
        );
        assert_fresh(client, table, 2);
        for (insert, state) in [
            ("(3, 'three', 8)", "23503"),
            ("(3, 'one', 7)", "23505"),
            ("(3, 'four', 7), (4, 'one', 7)", "23505"),
        ] {
            let insert = format!("BEGIN; INSERT INTO {table} (id, body, seen) VALUES {insert}; COMMIT");
            assert_eq!(refused(client.batch_execute(&insert)).code().code(), state);
            execute(client, "ROLLBACK");
            assert_fresh(client, table, 2);
        }
    });
}

#[test]
fn two_attached_columns_of_a_table_are_kept_and_counted_apart() {
    let cluster = Shared::get();
    let mut client = cluster.database("two_columns");
    execute(
        &mut client,
        // The names of their triggers are mixed up in the order of names.
        "CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, e vector, e_insert vector);
         SELECT vector_embed.attach('notes', 'e', '{title}', timing => 'statement');
         SELECT vector_embed.attach('notes', 'e_insert', '{body}', timing => 'statement');
         INSERT INTO notes VALUES (1, 'title', 'body'), (2, NULL, 'another body');
         UPDATE notes SET body = 'changed' WHERE id = 1",
    );
    for (column, text) in [("e", "title"), ("e_insert", "body")] {
        let table = format!("(SELECT {text} AS body, {column} AS embedding FROM notes) AS notes");
        assert_fresh(&mut client, &table, 2);
    }
    let status = client.query("SELECT s::text FROM vector_embed.attachment_status('notes') AS s", &[]);
    let mut status: Vec<String> = status.expect("rows").iter().map(|row| row.get(0)).collect();
    status.sort();
    assert_eq!(status, ["(e,2,1,0,0)", "(e_insert,2,2,0,0)"]);
}

#[test]
fn a_failure_that_plpgsql_catches_undoes_its_block_alone() {
    with_each_timing("caught", |client, table| {
        execute(
            client,
            &format!(
                "SET vector_embed.overlong_text = error;
                 DO $$
                 BEGIN
                     INSERT INTO {table} (id, body) VALUES (1, 'before');
                     FOR i IN 1..3 LOOP
                         BEGIN
                             INSERT INTO {table} (id, body) VALUES (10 + i, 'undone'), (20 + i, repeat('long ', 999));
                             RAISE 'a text that is too long was taken';
                         EXCEPTION WHEN string_data_right_truncation THEN
                             INSERT INTO {table} (id, body) VALUES (30 + i, 'caught');
                         END;
                         BEGIN
                             UPDATE {table} SET body = 'undone';
                             RAISE EXCEPTION SQLSTATE 'XX999';
                         EXCEPTION WHEN SQLSTATE 'XX999' THEN
                             UPDATE {table} SET body = body || ', amended' WHERE id = 30 + i;
                         END;
                     END LOOP;
                     INSERT INTO {table} (id, body) VALUES (2, 'after');
                 END $$;
                 RESET vector_embed.overlong_text"
            ),
        );
        assert_fresh(client, table, 5);
        let query =
            format!("SELECT count(*) FROM {table} WHERE body IN ('before', 'caught, amended', 'after')");
        assert_eq!(count(client, &query), 5);
    });
}

#[test]
fn a_row_that_moves_to_another_partition_takes_its_vector_along_or_gets_that_of_its_new_text() {
    let cluster = Shared::get();
    let mut client = cluster.database("partitions");
    execute(
        &mut client,
        "CREATE TABLE logs (id integer, body text, embedding vector) PARTITION BY RANGE (id);
         CREATE TABLE logs_low PARTITION OF logs FOR VALUES FROM (0) TO (100);
         CREATE TABLE logs_high PARTITION OF logs FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id);
         CREATE TABLE logs_highest (embedding vector, id integer, body text);
         ALTER TABLE logs_high ATTACH PARTITION logs_highest FOR VALUES FROM (500) TO (1000);
         CREATE TABLE logs_higher PARTITION OF logs_high FOR VALUES FROM (100) TO (500);
         SELECT vector_embed.attach('logs', 'embedding', '{body}');
         INSERT INTO logs VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, NULL), (5, 'five');
         UPDATE logs SET id = id + 100 WHERE id = 1;
         UPDATE logs SET id = id + 500, body = body || ' moved' WHERE id BETWEEN 2 AND 4;
         UPDATE logs SET id = 50, body = 'one moved back' WHERE id = 101;
         UPDATE logs SET id = 105, embedding = NULL WHERE id = 5",
    );
    assert_fresh(&mut client, "logs", 5);
    assert_fresh(&mut client, "logs_highest", 3);
    let supplied = "UPDATE logs SET id = 900, body = 'four', embedding = '[1,2,3]' WHERE id = 50";
    execute(&mut client, supplied);
    let kept = "SELECT count(*) FROM logs_highest WHERE id = 900 AND embedding = '[1,2,3]'";
    assert_eq!(count(&mut client, kept), 1, "a vector that changes with the text is kept");

    // What becomes a partition later is kept, too, and what ceases to be one is not.
    execute(
        &mut client,
        "DELETE FROM logs WHERE id = 900;
         CREATE TABLE logs_new (id integer, body text, embedding vector);
         ALTER TABLE logs ATTACH PARTITION logs_new FOR VALUES FROM (1000) TO (2000);
         INSERT INTO logs VALUES (1001, 'in the new partition');
         INSERT INTO logs_new VALUES (1002, 'there, too');
         UPDATE logs SET id = 3 WHERE id = 1002",
    );
    assert_fresh(&mut client, "logs", 6);
    let attached: i64 = count(&mut client, "SELECT count(*) FROM vector_embed.attachments WHERE NOT drifted");
    assert_eq!(attached, 1);
    execute(&mut client, "SELECT vector_embed.detach('logs', 'embedding')");
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_vector_embed%'";
    assert_eq!(count(&mut client, left), 0, "triggers of partitions go with their table's");
}

#[test]
fn children_of_a_table_have_their_rows_written_back_through_the_parent_s_statements() {
    let cluster = Shared::get();
    let mut client = cluster.database("inheritance");
    notes::create(&mut client, "notes", "statement");
    execute(
        &mut client,
        "CREATE TABLE letters (sender text, PRIMARY KEY (id)) INHERITS (notes);
         CREATE TABLE secrets (rank integer, PRIMARY KEY (id)) INHERITS (notes);
         ALTER TABLE secrets DROP rank, ADD level text;
         INSERT INTO notes (id, body) VALUES (1, 'mine'), (2, 'alike')",
    );
    notes::attach(&mut client, "letters", "row");
    // Keys need not differ between parent and children, nor texts.
    execute(
        &mut client,
        "INSERT INTO letters (id, body, sender) VALUES (1, 'yours', 'somebody'), (2, 'alike', 'nobody');
         INSERT INTO secrets (id, body, level) VALUES (1, 'theirs', 'top'), (2, 'alike', 'low');
         UPDATE notes SET embedding = NULL WHERE embedding IS NULL",
    );
    assert_fresh(&mut client, "notes", 6);
    execute(&mut client, "UPDATE notes SET body = body || ', changed'");
    assert_fresh(&mut client, "notes", 6);
    execute(
        &mut client,
        "UPDATE ONLY notes SET body = 'alone' WHERE id = 1; UPDATE letters SET body = 'by itself'",
    );
    assert_fresh(&mut client, "notes", 6);
    execute(&mut client, "UPDATE notes SET body = NULL WHERE id = 2");
    assert_fresh(&mut client, "notes", 6);
}

#[test]
fn rows_of_many_kinds_of_keys_are_written_back() {
    let cluster = Shared::get();
    let mut client = cluster.database("kinds_of_keys");
    execute(
        &mut client,
        r#"CREATE EXTENSION citext;
         CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE DOMAIN code AS char(6);
         CREATE TYPE mood AS ENUM ('calm', 'wild');
         CREATE TYPE place AS (room integer, shelf text);
         CREATE TABLE by_many (a citext, b code, c mood, d uuid, e numeric, f timestamptz, g bytea, h text COLLATE anycase,
             i int8range, j place, k name, "Body ""1""" text, embedding vector,
             PRIMARY KEY (a, b, c, d, e, f, g, h, i, j, k));
         SELECT vector_embed.attach('by_many', 'embedding', ARRAY['Body "1"'], timing => 'statement');
         INSERT INTO by_many
             SELECT 'Key', 'x', 'wild', gen_random_uuid(), 1.50, now(), '\x00ff', 'Straße', '[1,5)', (1, 'top')::place, 'n', 'row ' || i
             FROM generate_series(1, 20) AS i;
         UPDATE by_many SET a = 'KEY', e = 1.5, h = 'STRASSE', b = 'x ', "Body ""1""" = "Body ""1""" || '!'"#,
    );
    assert_fresh_of(&mut client, "by_many", r#""Body ""1""""#, 20);
}
