//! Vectors of different models are never mixed: a column keeps to the files of the model that it was attached with.

use postgres::Client;
use postgres::error::DbError;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::installation::{Away, Installation, move_away};
use vector_embed_e2e::notes::{COLUMNS, TIMINGS, contents, copy};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{assert_error, embed_by, execute, refused};
use vector_embed_e2e::wait;

/// The model that is attached, and one of the same dimensions that takes its name.
const MODEL: &str = "tiny-bert";
const OTHER: &str = "tiny-bert-cls";

/// A server with the model, and a table for each timing.
fn attached() -> (Installation, Cluster, Client) {
    let installation = Installation::copy();
    installation.add_model(&fixtures::source(MODEL));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    for timing in TIMINGS {
        execute(&mut client, &format!("CREATE TABLE notes_by_{timing} ({COLUMNS})"));
        attach(&mut client, timing).expect("the table can be attached");
        let rows =
            format!("INSERT INTO notes_by_{timing} (id, body) VALUES (1, 'cat'), (2, 'dog'), (3, NULL)");
        execute(&mut client, &rows);
    }
    (installation, cluster, client)
}

fn attach(client: &mut Client, timing: &str) -> Result<(), postgres::Error> {
    let table = format!("notes_by_{timing}");
    let call =
        format!("SELECT vector_embed.attach('{table}', 'embedding', '{{body}}', '{MODEL}', '{timing}')");
    client.batch_execute(&call)
}

/// Replaces the model and waits until the engine has noticed.
fn drift(installation: &Installation, client: &mut Client) -> Away {
    let before = hash(client);
    let away = installation.exchange_model(MODEL, &fixtures::source(OTHER));
    wait::until("the view tells another hash", || hash(client) != before);
    // What was loaded serves for a second more. That is the old model still, whose vectors fit.
    wait::until("the engine serves the other model", || {
        let vector = "SELECT embed('cat', $1)::text <> embedding::text FROM notes_by_row WHERE id = 1";
        client.query_one(vector, &[&MODEL]).expect("a vector").get(0)
    });
    away
}

fn hash(client: &mut Client) -> Option<String> {
    client
        .query_one("SELECT hash FROM vector_embed.models WHERE name = $1", &[&MODEL])
        .expect("the model")
        .get(0)
}

fn drifted(client: &mut Client) -> Vec<Option<bool>> {
    let rows = client.query("SELECT drifted FROM vector_embed.attachments", &[]).expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

fn assert_drifted(error: &DbError) {
    let hint = assert_error(error, "55000");
    assert!(["stale => true", "Detach"].iter().any(|way| hint.contains(way)), "{error:?}");
    let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
    assert!(told.contains(MODEL), "{error:?}");
}

/// Statements that need a vector, or several of which at least one row does.
const REFUSED: [&str; 8] = [
    "INSERT INTO {table} (id, body) VALUES (10, 'new')",
    // This text the engine has computed with the model that was attached.
    "INSERT INTO {table} (id, body) VALUES (10, 'cat')",
    "INSERT INTO {table} (id, body, embedding) VALUES (10, NULL, NULL), (11, 'supplied', '[1,2]'), (12, 'new', NULL)",
    "UPDATE {table} SET body = 'new' WHERE id = 1",
    "UPDATE {table} SET embedding = NULL, seen = 1",
    "INSERT INTO {table} (id, body) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "MERGE INTO {table} AS t USING (VALUES (1), (20)) AS v (id) ON t.id = v.id
         WHEN MATCHED THEN UPDATE SET body = 'new' WHEN NOT MATCHED THEN INSERT VALUES (20, NULL, 1, NULL)",
    "WITH gone AS (DELETE FROM {table} WHERE id = 2) INSERT INTO {table} (id, body) VALUES (11, 'new')",
];

/// Statements that need none.
const DONE: [&str; 5] = [
    "UPDATE {table} SET seen = coalesce(seen, 0) + 1",
    "UPDATE {table} SET body = body, embedding = embedding",
    "UPDATE {table} SET body = 'with a vector', embedding = '[1,2,3]' WHERE id = 2",
    "INSERT INTO {table} (id, body, embedding) VALUES (30, 'with a vector', '[1,2,3]'), (31, NULL, NULL)",
    "DELETE FROM {table} WHERE id = 30",
];

#[test]
fn a_model_whose_files_were_replaced_fails_statements_that_need_a_vector_and_no_others() {
    let (installation, _cluster, mut client) = attached();
    assert_eq!(drifted(&mut client), [Some(false); 2]);
    let away = drift(&installation, &mut client);
    assert_eq!(drifted(&mut client), [Some(true); 2]);
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        let before = contents(&mut client, &table);
        for statement in REFUSED {
            assert_drifted(&refused(client.batch_execute(&statement.replace("{table}", &table))));
            assert_eq!(contents(&mut client, &table), before, "{statement}");
        }
        assert_drifted(&refused(copy(&mut client, &table, &[(10, "new"), (11, "newer")])));
        assert_eq!(contents(&mut client, &table), before);
        assert_drifted(&refused(attach(&mut client, timing)));
        for statement in DONE {
            execute(&mut client, &statement.replace("{table}", &table));
        }
    }

    away.put_back();
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        wait::until("the model is back", || {
            client.batch_execute(&format!("UPDATE {table} SET body = 'dog' WHERE id = 1")).is_ok()
        });
        attach(&mut client, timing).expect("nothing to do");
    }
    assert_eq!(drifted(&mut client), [Some(false); 2]);
    let vectors = "SELECT count(*) FROM notes_by_row AS one JOIN notes_by_statement AS two USING (id)
                   WHERE one.embedding::text = two.embedding::text AND one.embedding = embed('dog', $1) AND id = 1";
    let alike: i64 = client.query_one(vectors, &[&MODEL]).expect("a row").get(0);
    assert_eq!(alike, 1);
}

#[test]
fn an_engine_that_is_started_anew_does_not_take_the_other_model_for_the_old_one() {
    let (installation, cluster, mut client) = attached();
    let engine = cluster.engine();
    let _away = installation.exchange_model(MODEL, &fixtures::source(OTHER));
    process::send(engine, Signal::KILL);
    wait::until("the engine is gone", || !process::is_alive(engine));
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        let before = contents(&mut client, &table);
        let insert = REFUSED[1].replace("{table}", &table);
        assert_drifted(&refused(client.batch_execute(&insert)));
        assert_eq!(contents(&mut client, &table), before);
    }
}

#[test]
fn a_model_that_is_gone_fails_statements_that_need_it_and_comes_back() {
    let (installation, _cluster, mut client) = attached();
    let away = move_away(&installation.model(MODEL));
    wait::until("the engine notices", || embed_by(&mut client, "cat", MODEL).is_err());
    assert_eq!(drifted(&mut client), [None; 2], "nobody knows");
    for timing in TIMINGS {
        let table = format!("notes_by_{timing}");
        let before = contents(&mut client, &table);
        for statement in REFUSED {
            assert_error(&refused(client.batch_execute(&statement.replace("{table}", &table))), "42704");
            assert_eq!(contents(&mut client, &table), before, "{statement}");
        }
        for statement in DONE {
            execute(&mut client, &statement.replace("{table}", &table));
        }
    }
    away.put_back();
    for timing in TIMINGS {
        execute(&mut client, &format!("INSERT INTO notes_by_{timing} (id, body) VALUES (40, 'back again')"));
    }
    assert_eq!(drifted(&mut client), [Some(false); 2]);
}

#[test]
fn a_partition_knows_the_hash_that_its_table_was_attached_with() {
    let (installation, _cluster, mut client) = attached();
    execute(
        &mut client,
        &format!(
            "CREATE TABLE logs (id integer, body text, embedding vector) PARTITION BY RANGE (id);
             CREATE TABLE logs_low PARTITION OF logs FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
             CREATE TABLE logs_lowest PARTITION OF logs_low FOR VALUES FROM (0) TO (5);
             SELECT vector_embed.attach('logs', 'embedding', '{{body}}', '{MODEL}');
             CREATE TABLE logs_lower PARTITION OF logs_low FOR VALUES FROM (5) TO (10);
             CREATE TABLE logs_high (embedding vector, body text, id integer);
             ALTER TABLE logs ATTACH PARTITION logs_high FOR VALUES FROM (10) TO (20);
             INSERT INTO logs VALUES (1, 'cat'), (6, 'dog'), (11, 'bird')"
        ),
    );
    let away = drift(&installation, &mut client);
    let before = contents(&mut client, "logs");
    assert_eq!(drifted(&mut client), [Some(true); 3], "partitions are part of their table");
    for (table, id) in [
        ("logs", 2),
        ("logs", 7),
        ("logs", 12),
        ("logs_low", 8),
        ("logs_lowest", 3),
        ("logs_lower", 9),
        ("logs_high", 13),
    ] {
        let insert = format!("INSERT INTO {table} (id, body) VALUES ({id}, 'new')");
        assert_drifted(&refused(client.batch_execute(&insert)));
        let update = format!("UPDATE {table} SET body = body || ' again'");
        assert_drifted(&refused(client.batch_execute(&update)));
    }
    assert_eq!(contents(&mut client, "logs"), before);
    execute(&mut client, "UPDATE logs SET id = id + 10 WHERE id = 1");
    away.put_back();
    wait::until("the model is back", || client.batch_execute("UPDATE logs SET body = 'fish'").is_ok());
    let all = "SELECT count(*) FROM logs WHERE embedding = embed('fish', $1)";
    assert_eq!(client.query_one(all, &[&MODEL]).expect("a row").get::<_, i64>(0), 3);
}
