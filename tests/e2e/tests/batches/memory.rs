//! What a statement holds at a time is a batch or two, however many rows it has.

use postgres::Client;
use serde_json::Value;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::process::memory;
use vector_embed_e2e::sql::{backend, execute};

use super::{TOOLS, count};

/// A server whose model is so small that many texts take no time.
fn cluster_with_a_small_model() -> Cluster {
    let path = format!("$system:{}", fixtures::copy().display());
    Cluster::with()
        .setting("vector_embed.model_path", &path)
        .setting("vector_embed.default_model", "tiny-bert")
        .start()
}

#[test]
fn of_200_000_rows_does_not_stay_with_the_session() {
    let cluster = cluster_with_a_small_model();
    let mut client = cluster.connect();
    execute(&mut client, TOOLS);
    let docs = "
        CREATE TABLE docs (id integer, body text, embedding vector(32)) WITH (autovacuum_enabled = off);
        INSERT INTO docs SELECT i, 'the garden with number ' || i % 40 FROM generate_series(1, 200000) AS i;
        ANALYZE docs; SET max_parallel_workers_per_gather = 0";
    execute(&mut client, docs);
    let pid = backend(&mut client);
    for statement in [
        "UPDATE docs SET embedding = embed(body)",
        "SELECT sum(vector_dims(embed(body))) FROM docs",
        "COPY (SELECT id, embed(body) FROM docs) TO '/dev/null'",
    ] {
        let after: Vec<i64> = (0..4)
            .map(|_| {
                execute(&mut client, statement);
                memory(pid, "RssAnon")
            })
            .collect();
        let grown = after[3] - after[1];
        assert!(grown < 20 << 10, "{statement} grew by {grown} kB: {after:?}");
        assert!(after[3] < 150 << 10, "{statement}: {after:?} kB");
    }
    let stale = "SELECT count(*) FROM docs JOIN
        (SELECT DISTINCT ON (body) body AS b, twin(body) AS t FROM docs WHERE id <= 40) s ON b = body
        WHERE same(embedding, t) IS NOT TRUE";
    assert_eq!(count(&mut client, stale), 0);
}

/// What EXPLAIN (ANALYZE) says of the plan's node for batches.
fn node(client: &mut Client, statement: &str) -> Value {
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) {statement}");
    let plan: Value = {
        let messages = client.simple_query(&explain).expect("a plan");
        let text = messages.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        serde_json::from_str(text.expect("a row")).expect("JSON")
    };
    let mut found = &plan[0]["Plan"];
    while found["Custom Plan Provider"] != "Embed Batch" {
        found = &found["Plans"][0];
        assert!(!found.is_null(), "a node for batches: {plan}");
    }
    found.clone()
}

#[test]
fn of_wide_rows_and_long_texts_is_bounded_by_their_bytes() {
    let cluster = cluster_with_a_small_model();
    let mut client = cluster.connect();
    let docs = "CREATE TABLE docs AS SELECT i AS id, 'document ' || i % 10 AS body FROM generate_series(1, 5000) AS i;
        SET max_parallel_workers_per_gather = 0";
    execute(&mut client, docs);
    let wide = |bytes: usize| {
        format!(
            "SELECT count(embed(body)), max(length(wide))
             FROM (SELECT body, repeat('x', {bytes}) || id AS wide FROM docs OFFSET 0) s"
        )
    };
    let batches = |node: &Value| node["Batches"].as_i64().expect("a number");
    // 8,192 rows, or 8 MB.
    let narrow = node(&mut client, &wide(10));
    assert_eq!((batches(&narrow), narrow["Rows"].as_i64()), (1, Some(5000)), "{narrow}");
    let found = node(&mut client, &wide(10_000));
    assert!(batches(&found) >= 6 && found["Rows"] == 5000, "{found}");
    let found = node(&mut client, &wide(1_000_000).replace("OFFSET", "WHERE id <= 200 OFFSET"));
    assert!(batches(&found) > 20, "{found}");
    // 1,024 texts, or 128 kB of them.
    let different = "SELECT count(embed(id || ' is the number')) FROM docs";
    assert_eq!(batches(&node(&mut client, different)), 5);
    let long = "SELECT count(embed(id || repeat(' number', 1000))) FROM docs WHERE id <= 200";
    let found = node(&mut client, long);
    assert!(batches(&found) >= 10 && found["Distinct Texts"] == 200, "{found}");
    // NULLs are no texts, but rows.
    let nulls = "SELECT count(embed(CASE WHEN id < 0 THEN body END)) FROM
        (SELECT id, body FROM docs UNION ALL SELECT id, body FROM docs OFFSET 0) s";
    let found = node(&mut client, nulls);
    assert_eq!((batches(&found), found["Distinct Texts"].as_i64()), (2, Some(0)), "{found}");
}
