//! Replicas have the vectors of their primary and triggers of their own.

use postgres::Client;
use vector_embed_e2e::cluster::{Cluster, Stop};
use vector_embed_e2e::notes::{self, TIMINGS, assert_fresh, contents};
use vector_embed_e2e::sql::{execute, refused, stat_engine};
use vector_embed_e2e::wait;

/// A session with tables of notes, one for each timing.
fn with_tables(cluster: &Cluster) -> Client {
    let mut client = cluster.connect();
    for timing in TIMINGS {
        notes::create(&mut client, &table(timing), timing);
    }
    client
}

fn table(timing: &str) -> String {
    format!("notes_by_{timing}")
}

/// Writes to the tables of the primary in all ways there are.
fn write(client: &mut Client) {
    for timing in TIMINGS {
        let table = table(timing);
        execute(
            client,
            &format!(
                "INSERT INTO {table} (id, body) SELECT i, 'note ' || i FROM generate_series(1, 20) AS i
                     ON CONFLICT (id) DO UPDATE SET body = excluded.body || ' again';
                 UPDATE {table} SET body = 'changed ' || id WHERE id BETWEEN 5 AND 9;
                 UPDATE {table} SET seen = 1 WHERE id < 7;
                 UPDATE {table} SET body = NULL WHERE id = 11;
                 DELETE FROM {table} WHERE id = 12"
            ),
        );
    }
}

/// Waits until the replica has what the primary has.
fn assert_follows(primary: &mut Client, replica: &mut Client) {
    for timing in TIMINGS {
        let expected = contents(primary, &table(timing));
        wait::until("the replica has the same rows, bytewise", || {
            contents(replica, &table(timing)) == expected
        });
    }
}

/// Publishes the tables of one cluster and subscribes to them in another.
fn subscribe(publisher: &mut Client, cluster: &Cluster, subscriber: &mut Client, columns: &str) {
    let tables = TIMINGS.map(|timing| format!("{} {columns}", table(timing))).join(", ");
    execute(publisher, &format!("CREATE PUBLICATION notes FOR TABLE {tables}"));
    let connection =
        format!("host={} port=5432 user=postgres dbname=postgres", cluster.socket_directory().display());
    execute(subscriber, &format!("CREATE SUBSCRIPTION notes CONNECTION '{connection}' PUBLICATION notes"));
}

#[test]
fn a_logical_subscriber_gets_the_publisher_s_vectors_without_an_engine_and_its_triggers_work() {
    let publishing = Cluster::with().setting("wal_level", "logical").start();
    let mut subscribing = publishing.companion();
    let mut publisher = with_tables(&publishing);
    write(&mut publisher);
    drop(with_tables(&subscribing));
    // Ends the engine that was asked about the model.
    subscribing.stop(Stop::Fast);
    subscribing.start();
    let mut subscriber = subscribing.connect();

    subscribe(&mut publisher, &publishing, &mut subscriber, "");
    assert_follows(&mut publisher, &mut subscriber);
    write(&mut publisher);
    assert_follows(&mut publisher, &mut subscriber);
    assert!(subscribing.engines().is_empty(), "nobody asked for an engine");

    for timing in TIMINGS {
        let table = table(timing);
        assert_fresh(&mut publisher, &table, 19);
        execute(
            &mut subscriber,
            &format!(
                "INSERT INTO {table} (id, body) VALUES (101, 'of the subscriber');
                 UPDATE {table} SET body = 'changed there' WHERE id = 1"
            ),
        );
        assert_fresh(&mut subscriber, &table, 20);
    }
    execute(&mut subscriber, "DROP SUBSCRIPTION notes");
}

#[test]
fn a_subscriber_whose_publisher_sends_no_vectors_makes_them_with_triggers_that_fire_always() {
    let publishing = Cluster::with().setting("wal_level", "logical").start();
    let subscribing = publishing.companion();
    let mut publisher = publishing.connect();
    let mut subscriber = subscribing.connect();
    for timing in TIMINGS {
        let table = table(timing);
        execute(&mut publisher, &format!("CREATE TABLE {table} ({})", notes::COLUMNS));
        // Replicated rows belong to no statement, so that only triggers for rows can fire.
        notes::create(&mut subscriber, &table, "row");
        execute(
            &mut subscriber,
            &format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER zz_vector_embed_embedding"),
        );
    }
    write(&mut publisher);
    subscribe(&mut publisher, &publishing, &mut subscriber, "(id, body, seen)");
    let bodies = |timing: &str| format!("(SELECT id, body, seen FROM {})", table(timing));
    for _ in 0..2 {
        for timing in TIMINGS {
            let expected = contents(&mut publisher, &bodies(timing));
            wait::until("the subscriber has the same rows", || {
                contents(&mut subscriber, &bodies(timing)) == expected
            });
            assert_fresh(&mut subscriber, &table(timing), 19);
        }
        write(&mut publisher);
    }
    execute(&mut subscriber, "DROP SUBSCRIPTION notes");
}

#[test]
fn a_physical_standby_has_the_same_vectors_and_embeds_rows_once_it_is_promoted() {
    let primary = Cluster::new();
    let mut client = with_tables(&primary);
    write(&mut client);
    let standby = primary.standby();
    let mut replica = standby.connect();
    assert_follows(&mut client, &mut replica);
    write(&mut client);
    assert_follows(&mut client, &mut replica);

    for timing in TIMINGS {
        let table = table(timing);
        let write = format!("INSERT INTO {table} (id, body) VALUES (100, 'too early')");
        assert_eq!(refused(replica.batch_execute(&write)).code().code(), "25006");
    }
    let columns = "relation::text, timing, triggers, recorded_hash, drifted";
    let attachments = format!("(SELECT {columns} FROM vector_embed.attachments)");
    assert_eq!(contents(&mut replica, &attachments), contents(&mut client, &attachments));
    assert_eq!(stat_engine(&mut replica).map_or(0, |engine| engine.requests), 0, "replay asks nobody");

    let promoted: bool = replica.query_one("SELECT pg_promote()", &[]).expect("a row").get(0);
    assert!(promoted);
    for timing in TIMINGS {
        let table = table(timing);
        execute(
            &mut replica,
            &format!(
                "INSERT INTO {table} (id, body) VALUES (100, 'of a primary');
                 UPDATE {table} SET body = 'changed there' WHERE id = 1"
            ),
        );
        assert_fresh(&mut replica, &table, 20);
    }
}
