//! Dumps restore into what was dumped: the same vectors, triggers that work, and nobody asks the model.

use std::fs;

use postgres::Client;
use vector_embed_e2e::account::new_directory;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::notes::{assert_fresh_of, contents};
use vector_embed_e2e::sql::{embed, execute, stat_engine};
use vector_embed_e2e::vectors::{EQUAL, assert_close};

/// A database with all that a dump may have to do with. `{schema}` is that of the extension.
const SOURCE: &str = r#"
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE EXTENSION vector SCHEMA {schema};
CREATE EXTENSION vector_embed SCHEMA {schema};
SET search_path = public, {schema};
CREATE TABLE notes (id integer PRIMARY KEY, title text, body text, embedding vector(384));
INSERT INTO notes VALUES (1, 'Before', 'This was there before it was attached, and has no vector.');
SELECT vector_embed.attach('notes', 'embedding', '{title,body}');
INSERT INTO notes SELECT i, 'Note ' || i, 'Written on day ' || i FROM generate_series(2, 40) AS i;
INSERT INTO notes VALUES (41, 'Supplied', NULL, array_fill(0.1, ARRAY[384])::vector), (42, NULL, NULL, NULL);
CREATE INDEX ON notes USING hnsw (embedding vector_cosine_ops);

CREATE TABLE imports (id integer PRIMARY KEY, title text, body text, embedding halfvec(384));
SELECT vector_embed.attach('imports', 'embedding', '{title,body}', timing => 'statement');
INSERT INTO imports SELECT i, NULL, 'Imported on day ' || i FROM generate_series(2, 40) AS i;
INSERT INTO imports VALUES (41, 'Supplied', NULL, array_fill(0.1, ARRAY[384])::vector), (42, NULL, NULL, NULL);

CREATE SCHEMA "Far away";
CREATE TABLE "Far away"."Logs" (id integer, title text, body text, embedding vector) PARTITION BY RANGE (id);
CREATE TABLE "Far away".low PARTITION OF "Far away"."Logs" FOR VALUES FROM (0) TO (30);
CREATE TABLE "Far away".high (embedding vector, id integer, title text, body text);
ALTER TABLE "Far away"."Logs" ATTACH PARTITION "Far away".high FOR VALUES FROM (30) TO (5000);
SELECT vector_embed.attach('"Far away"."Logs"', 'embedding', '{title,body}');
INSERT INTO "Far away"."Logs" SELECT i, 'Log', 'Logged on day ' || i FROM generate_series(2, 40) AS i;

CREATE TABLE documents (id integer PRIMARY KEY, body text);
SELECT vector_embed.attach_chunks('documents', 'body', 'document_chunks', max_tokens => 16);
INSERT INTO documents SELECT i, 'Document ' || i || ' has one sentence. And it has another, so that there are two chunks of it.'
FROM generate_series(1, 20) AS i;
"#;

const TABLES: [&str; 3] = ["public.notes", "public.imports", "\"Far away\".\"Logs\""];

const CHUNKS: &str = "public.document_chunks";

/// Makes the database that is dumped.
fn source(cluster: &Cluster, name: &str, schema: &str) -> State {
    let mut client = cluster.empty_database(name);
    execute(&mut client, &SOURCE.replace("{schema}", schema));
    State::of(&mut client)
}

/// What is to be the same afterwards.
#[derive(Debug, PartialEq)]
struct State {
    rows: Vec<Vec<String>>,
    attached: Vec<String>,
}

impl State {
    /// The session must find the extension.
    fn of(client: &mut Client) -> Self {
        let columns = "relation, embedding, columns, model, timing, enabled, triggers, recorded_hash, drifted, chunk_table";
        let attached = format!("(SELECT {columns} FROM vector_embed.attachments)");
        Self {
            rows: TABLES.iter().chain(&[CHUNKS]).map(|table| contents(client, table)).collect(),
            attached: contents(client, &attached),
        }
    }
}

/// Fails unless rows that are written now get their vectors.
fn assert_triggers_work(client: &mut Client) {
    for table in TABLES {
        execute(
            client,
            &format!(
                "INSERT INTO {table} (id, title, body) VALUES (1001, 'New', 'A row.'), (1002, NULL, 'Another.');
                 UPDATE {table} SET title = 'Changed' WHERE id IN (10, 1002)"
            ),
        );
        let written = format!(
            "(SELECT id, title, body, embedding::vector FROM {table} WHERE id IN (10, 1001, 1002)) AS t"
        );
        assert_fresh_of(client, &written, r"concat_ws(E'\n\n', title, body)", 3);
    }
    execute(
        client,
        "INSERT INTO public.documents VALUES (1001, 'A new document.');
         UPDATE public.documents SET body = 'It has changed. ' || body WHERE id = 2",
    );
    let written =
        "(SELECT id, content, embedding FROM public.document_chunks WHERE document_id IN (2, 1001)) AS t";
    assert_fresh_of(client, written, "content", 3);
}

/// Runs client programs one after the other, and fails if the model was asked meanwhile.
fn run_without_model(cluster: &Cluster, commands: &[String]) {
    let mut observer = cluster.connect();
    let asked = |observer: &mut Client| stat_engine(observer).map(|engine| (engine.pid, engine.requests));
    let before = asked(&mut observer);
    assert!(before.is_some(), "the engine runs, so that it could be asked");
    for command in commands {
        cluster.run(command);
    }
    assert_eq!(asked(&mut observer), before, "{commands:?} asked the model");
}

#[test]
fn in_every_format_and_order_a_restore_gives_the_same_vectors_and_working_triggers() {
    const WAYS: [(&str, &[&str]); 12] = [
        ("plain", &["pg_dump {source} -f {file}", "psql {script} {file}"]),
        ("inserts", &["pg_dump {source} --inserts -f {file}", "psql {script} {file}"]),
        (
            "column_inserts",
            &["pg_dump {source} --column-inserts --rows-per-insert=7 -f {file}", "psql {script} {file}"],
        ),
        (
            "by_partition_root",
            &["pg_dump {source} --load-via-partition-root -f {file}", "psql {script} {file}"],
        ),
        ("in_one_transaction", &["pg_dump {source} -f {file}", "psql -1 {script} {file}"]),
        ("custom", &["pg_dump {source} -Fc -f {file}", "pg_restore {target} {file}"]),
        ("custom_by_two", &["pg_dump {source} -Fc -f {file}", "pg_restore -j 2 {target} {file}"]),
        ("tar", &["pg_dump {source} -Ft -f {file}", "pg_restore {target} {file}"]),
        ("directory", &["pg_dump {source} -Fd -f {file}", "pg_restore {target} {file}"]),
        ("directory_by_two", &["pg_dump {source} -Fd -j 2 -f {file}", "pg_restore -j 2 {target} {file}"]),
        (
            "sections",
            &[
                "pg_dump {source} -Fc -f {file}",
                "pg_restore --section=pre-data {target} {file}",
                "pg_restore --section=data -j 2 {target} {file}",
                "pg_restore --section=post-data -j 2 {target} {file}",
            ],
        ),
        (
            "dumped_sections",
            &[
                "pg_dump {source} --section=pre-data -f {file}1",
                "pg_dump {source} --section=data -f {file}2",
                "pg_dump {source} --section=post-data -f {file}3",
                "psql {script} {file}1",
                "psql {script} {file}2",
                "psql {script} {file}3",
            ],
        ),
    ];
    let cluster = Cluster::new();
    let state = source(&cluster, "source", "extensions");
    let directory = new_directory("dumps");
    for (way, commands) in WAYS {
        let mut restored = cluster.empty_database(way);
        let file = directory.join(way);
        let commands: Vec<String> = commands
            .iter()
            .map(|command| {
                command
                    .replace("{source}", "-d source")
                    .replace("{script}", &format!("-X -q -v ON_ERROR_STOP=1 -d {way} -f"))
                    .replace("{target}", &format!("-e -d {way}"))
                    .replace("{file}", &file.display().to_string())
            })
            .collect();
        run_without_model(&cluster, &commands);
        execute(&mut restored, "SET search_path = public, extensions");
        assert_eq!(State::of(&mut restored), state, "{way}");
        assert_triggers_work(&mut restored);
    }
}

#[test]
fn data_alone_restore_into_tables_whose_triggers_are_disabled_meanwhile() {
    let cluster = Cluster::new();
    let state = source(&cluster, "source", "extensions");
    let mut restored = cluster.empty_database("restored");
    let directory = new_directory("dumps").display().to_string();
    run_without_model(
        &cluster,
        &[
            format!("pg_dump -d source --schema-only -Fc -f {directory}/schema"),
            format!("pg_dump -d source --data-only -Fc -f {directory}/data"),
            format!("pg_restore -e -d restored {directory}/schema"),
            format!("pg_restore -e -d restored --data-only --disable-triggers -j 2 {directory}/data"),
        ],
    );
    execute(&mut restored, "SET search_path = public, extensions");
    assert_eq!(State::of(&mut restored), state);
    assert_triggers_work(&mut restored);
}

#[test]
fn data_alone_restored_with_triggers_keep_their_vectors_and_get_those_that_were_missing() {
    let cluster = Cluster::new();
    source(&cluster, "source", "extensions");
    let mut dumped = cluster.connect_to("source");
    execute(&mut dumped, "SET search_path = public, extensions; DELETE FROM notes WHERE id = 1");
    // Chunks in the data would meet those that the trigger makes; they need --disable-triggers.
    execute(&mut dumped, "SELECT vector_embed.detach_chunks('documents', 'document_chunks')");
    let state = State::of(&mut dumped);
    let mut restored = cluster.empty_database("restored");
    let directory = new_directory("dumps").display().to_string();
    cluster.run(&format!("pg_dump -d source --schema-only -f {directory}/schema"));
    cluster.run(&format!("pg_dump -d source --data-only -f {directory}/data"));
    cluster.run(&format!("psql -X -q -v ON_ERROR_STOP=1 -d restored -f {directory}/schema"));
    let psql = format!("psql -X -q -v ON_ERROR_STOP=1 -d restored -f {directory}/data");
    run_without_model(&cluster, &[psql]);
    execute(&mut restored, "SET search_path = public, extensions");
    assert_eq!(State::of(&mut restored), state, "no row with text was without a vector");

    execute(&mut dumped, "ALTER TABLE imports DISABLE TRIGGER USER; UPDATE imports SET embedding = NULL");
    cluster.run(&format!("pg_dump -d source --data-only -t imports -f {directory}/imports"));
    execute(&mut restored, "TRUNCATE imports");
    cluster.run(&format!("psql -X -q -v ON_ERROR_STOP=1 -d restored -f {directory}/imports"));
    let text = r"CASE WHEN num_nonnulls(title, body) > 0 THEN concat_ws(E'\n\n', title, body) END";
    let imports = "(SELECT title, body, embedding::vector FROM imports) AS imports";
    assert_fresh_of(&mut restored, imports, text, 41);
}

#[test]
fn a_database_that_has_the_extension_elsewhere_and_another_search_path_takes_the_dump() {
    let cluster = Cluster::new();
    let state = source(&cluster, "source", "public");
    let mut restored = cluster.empty_database("restored");
    execute(
        &mut restored,
        "CREATE SCHEMA elsewhere;
         CREATE EXTENSION vector;
         CREATE EXTENSION vector_embed SCHEMA elsewhere;
         ALTER DATABASE restored SET search_path = ''",
    );
    let file = new_directory("dumps").join("dump").display().to_string();
    let commands =
        [format!("pg_dump -d source -Fc -f {file}"), format!("pg_restore -e -j 2 -d restored {file}")];
    run_without_model(&cluster, &commands);
    execute(&mut restored, "SET search_path = public, elsewhere");
    assert_eq!(State::of(&mut restored), state);
    assert_triggers_work(&mut restored);
}

#[test]
fn a_dump_of_a_whole_cluster_restores_into_another_one_that_needs_no_engine() {
    let cluster = Cluster::new();
    let state = source(&cluster, "source", "extensions");
    let file = new_directory("dumps").join("dump");
    cluster.run(&format!("pg_dumpall -f {}", file.display()));
    let script = fs::read_to_string(&file).expect("a dump");
    // The one thing that is there already.
    fs::write(&file, script.replace("CREATE ROLE postgres;\n", "")).expect("the disk has room");

    let other = cluster.companion();
    other.run(&format!("psql -X -q -v ON_ERROR_STOP=1 -f {}", file.display()));
    assert!(other.engines().is_empty(), "nobody asked for an engine");
    let mut restored = other.connect_to("source");
    execute(&mut restored, "SET search_path = public, extensions");
    assert_eq!(State::of(&mut restored), state);
    assert_triggers_work(&mut restored);
}

#[test]
fn a_cluster_upgraded_by_pg_upgrade_keeps_vectors_and_triggers() {
    // From each version to itself: there is only one at hand.
    let mut cluster = Cluster::new();
    let state = source(&cluster, "source", "extensions");
    let upgraded = cluster.upgrade();
    let mut client = upgraded.connect_to("source");
    assert!(upgraded.engines().is_empty(), "nobody asked for an engine");
    execute(&mut client, "SET search_path = public, extensions");
    assert_eq!(State::of(&mut client), state);
    assert_triggers_work(&mut client);
}

#[test]
fn a_dump_without_comments_has_triggers_that_work_and_know_no_hash() {
    let cluster = Cluster::new();
    let state = source(&cluster, "source", "extensions");
    let mut restored = cluster.empty_database("restored");
    let file = new_directory("dumps").join("dump").display().to_string();
    let commands = [
        format!("pg_dump -d source -Fc --no-comments -f {file}"),
        format!("pg_restore -e -d restored {file}"),
    ];
    run_without_model(&cluster, &commands);
    execute(&mut restored, "SET search_path = public, extensions");
    assert_eq!(State::of(&mut restored).rows, state.rows);
    let known = "SELECT count(*), count(recorded_hash) FROM vector_embed.attachments";
    let known = restored.query_one(known, &[]).expect("a row");
    assert_eq!((known.get::<_, i64>(0), known.get::<_, i64>(1)), (4, 0));
    assert_triggers_work(&mut restored);
}

/// Everything else of a schema that calls the model.
const CALLS: &str = "
CREATE TABLE notes (
    id integer PRIMARY KEY,
    body text NOT NULL,
    generated vector(384) GENERATED ALWAYS AS (vector_embed.embed_immutable(body, 'all-MiniLM-L6-v2')) STORED,
    stored vector(384) DEFAULT embed('nothing was said')
);
CREATE INDEX notes_by_meaning ON notes USING hnsw (generated vector_cosine_ops);
CREATE INDEX notes_by_expression ON notes
    USING hnsw ((vector_embed.embed_immutable(body, 'all-MiniLM-L6-v2')::vector(384)) vector_cosine_ops);
CREATE VIEW near AS SELECT id FROM notes ORDER BY generated <=> embed('a boat on the water') LIMIT 1;
INSERT INTO notes (id, body) VALUES (1, 'The ferry leaves at nine.'), (2, 'The oven is still warm.');
";

#[test]
fn generated_columns_indexes_defaults_and_views_restore() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, CALLS);
    let mut other = cluster.empty_database("restored");
    let file = new_directory("dumps").join("dump").display().to_string();
    cluster.run(&format!("pg_dump -d postgres -f {file}"));
    cluster.run(&format!("psql -X -q -v ON_ERROR_STOP=1 -d restored -f {file}"));

    let near: i32 = other.query_one("SELECT id FROM near", &[]).expect("a row").get(0);
    assert_eq!(near, 1);
    let vectors = "SELECT generated::real[], stored::real[] FROM notes ORDER BY id";
    let before = client.query(vectors, &[]).expect("rows");
    let after = other.query(vectors, &[]).expect("rows");
    assert_eq!((before.len(), after.len()), (2, 2));
    for (before, after) in before.iter().zip(&after) {
        for column in 0..2 {
            let (before, after): (Vec<f32>, Vec<f32>) = (before.get(column), after.get(column));
            assert_close("a restored row", &after, &before, EQUAL);
        }
    }
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut other, &golden.text).expect("a vector"));
    execute(&mut other, "INSERT INTO notes (id, body) VALUES (3, 'A third note.')");
}
