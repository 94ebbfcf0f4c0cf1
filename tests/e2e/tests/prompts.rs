//! A model with prompts: `embed_query` puts the one for queries before a text, all else the one for documents.

use std::process::Command;

use postgres::Client;
use vector_embed_e2e::account::output;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::installation::Installation;
use vector_embed_e2e::sql::{embed_by, execute};
use vector_embed_e2e::vectors::{EQUAL, assert_close, max_difference};

const PLAIN: &str = "tiny-bert";
const QUERY_PROMPT: &str = "find: ";
const DOCUMENT_PROMPT: &str = "text: ";

/// A server with [`PLAIN`], which has no prompts, and with the same model by the name `asking` and with prompts.
fn cluster() -> Cluster {
    let installation = Installation::copy();
    let plain = installation.add_model(&fixtures::source(PLAIN));
    let mut command = Command::new(installation.engine());
    command.args(["model", "add", "--name", "asking"]);
    command.args(["--query-prompt", QUERY_PROMPT, "--document-prompt", DOCUMENT_PROMPT]);
    output(command.arg(plain));
    Cluster::with().installation(&installation).start()
}

fn texts() -> Vec<String> {
    (1..=40).map(|number| format!("four boats crossed the bay with {number} apples")).collect()
}

/// What a model without prompts makes of texts that begin with one.
fn expected(client: &mut Client, prompt: &str, texts: &[String]) -> Vec<Vec<f32>> {
    let vector = |text: &String| embed_by(client, &format!("{prompt}{text}"), PLAIN).expect("a vector");
    texts.iter().map(vector).collect()
}

/// Fails unless a query whose parameter is the texts gives these vectors, in this order.
fn assert_gives(client: &mut Client, query: &str, texts: &[String], expected: &[Vec<f32>]) {
    let rows = client.query(query, &[&texts]).unwrap_or_else(|error| panic!("{query}: {error:?}"));
    assert_eq!(rows.len(), texts.len(), "{query}");
    for ((row, text), vector) in rows.iter().zip(texts).zip(expected) {
        assert_close(&format!("{text} by {query}"), &row.get::<_, Vec<f32>>(0), vector, EQUAL);
    }
}

#[test]
fn a_query_gets_the_prompt_for_queries_and_a_document_the_one_for_documents() {
    let cluster = cluster();
    let mut client = cluster.connect();
    let texts = texts();
    let [plain, queries, documents] =
        ["", QUERY_PROMPT, DOCUMENT_PROMPT].map(|prompt| expected(&mut client, prompt, &texts));
    for (a, b) in [(&plain, &queries), (&plain, &documents), (&queries, &documents)] {
        assert!(a.iter().zip(b).all(|(a, b)| max_difference(a, b) > 0.01), "a prompt makes another vector");
    }

    for (function, expected) in [("embed_query", &queries), ("embed", &documents)] {
        let alone = format!("SELECT {function}(($1::text[])[1], 'asking')::real[]");
        for number in 0..3 {
            assert_gives(&mut client, &alone, &texts[number..=number], &expected[number..]);
        }
    }

    let array = "WITH called AS MATERIALIZED (SELECT embed($1::text[], 'asking') AS vectors)
         SELECT vector::real[] FROM called, unnest(vectors) WITH ORDINALITY AS v (vector, place) ORDER BY place";
    assert_gives(&mut client, array, &texts, &documents);

    execute(&mut client, "CREATE TABLE docs (id integer, body text, embedding vector(32))");
    let insert = "INSERT INTO docs SELECT n, t FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)";
    client.execute(insert, &[&texts]).expect("rows");
    execute(&mut client, "ANALYZE docs");
    for (function, expected) in [("embed_query", &queries), ("embed", &documents)] {
        let select = format!(
            "SELECT e::real[] FROM (SELECT id, {function}(body, 'asking') AS e FROM docs OFFSET 0) AS s
             WHERE $1::text[] IS NOT NULL ORDER BY id"
        );
        let update = format!("UPDATE docs SET embedding = {function}(body, 'asking')");
        for statement in [&select.replace("$1", "'{}'"), &update] {
            let plan = client.query(&format!("EXPLAIN {statement}"), &[]).expect("a plan");
            let is_batch = |row: &postgres::Row| row.get::<_, &str>(0).contains("Embed Batch");
            assert!(plan.iter().any(is_batch), "{statement} computes batches");
        }
        assert_gives(&mut client, &select, &texts, expected);
        execute(&mut client, &update);
        let stored = "SELECT embedding::real[] FROM docs WHERE body = ANY ($1::text[]) ORDER BY id";
        assert_gives(&mut client, stored, &texts, expected);
    }
}

/// Fails unless all rows have the vector of their text behind the prompt for documents.
fn assert_are_documents(client: &mut Client, table: &str, text: &str, rows: i64) {
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE 1 - (embedding <=> embed('{DOCUMENT_PROMPT}' || {text}, '{PLAIN}')) >= {EQUAL})
         FROM {table}"
    );
    let row = client.query_one(&query, &[]).expect("counts");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (rows, rows), "{table}");
}

#[test]
fn triggers_and_procedures_use_the_prompt_for_documents() {
    let cluster = cluster();
    let mut client = cluster.connect();
    for timing in ["row", "statement", "queue"] {
        let table = format!("notes_by_{timing}");
        execute(
            &mut client,
            &format!(
                "CREATE TABLE {table} (id integer PRIMARY KEY, body text, embedding vector(32));
                 INSERT INTO {table} VALUES (1, 'an old boat'), (2, 'an older one');
                 SELECT vector_embed.attach('{table}', 'embedding', '{{body}}', 'asking', '{timing}');
                 INSERT INTO {table} (id, body) SELECT i, 'boat ' || i FROM generate_series(3, 20) AS i;
                 UPDATE {table} SET body = 'chair ' || id WHERE id > 15"
            ),
        );
        execute(&mut client, &format!("CALL vector_embed.backfill('{table}')"));
        if timing == "queue" {
            execute(&mut client, &format!("CALL vector_embed.drain('{table}', '2 min')"));
        }
        assert_are_documents(&mut client, &table, "body", 20);
    }
    execute(
        &mut client,
        "CREATE TABLE documents (id integer PRIMARY KEY, body text);
         SELECT vector_embed.attach_chunks('documents', 'body', 'chunks', model => 'asking');
         INSERT INTO documents SELECT i, 'boat ' || i FROM generate_series(1, 5) AS i",
    );
    assert_are_documents(&mut client, "chunks", "content", 5);
}
