//! Planning computes nothing, and a call without variables is computed once.

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::sql::{embed, execute, stat_engine};

/// Texts that the engine embeds for a statement. Nobody else uses the server.
fn texts_embedded(client: &mut Client, statement: &str) -> i64 {
    let texts = |client: &mut Client| stat_engine(client).expect("an engine").texts;
    let before = texts(client);
    execute(client, statement);
    texts(client) - before
}

const CALLS: [(&str, i64); 6] = [
    ("SELECT embed('one text')", 1),
    ("SELECT embed(ARRAY['one text', 'another'])", 2),
    ("SELECT FROM notes ORDER BY embedding <=> embed('one text') LIMIT 3", 1),
    ("SELECT FROM notes WHERE embedding <=> embed('one text') < 0.5", 1),
    ("SELECT vector FROM unnest(embed(ARRAY['one text', 'another'])) AS v (vector)", 2),
    ("SELECT unnest(embed(ARRAY['one text', 'another']))", 2),
];

fn cluster_with_notes() -> (Cluster, Client) {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    embed(&mut client, "the engine runs").expect("a vector");
    let notes =
        "CREATE TABLE notes AS SELECT n, embed('note ' || n) AS embedding FROM generate_series(1, 20) n";
    execute(&mut client, &format!("{notes}; ANALYZE notes"));
    (cluster, client)
}

#[test]
fn explain_computes_nothing() {
    let (_cluster, mut client) = cluster_with_notes();
    for (call, _) in CALLS {
        assert_eq!(texts_embedded(&mut client, &format!("EXPLAIN {call}")), 0, "{call}");
    }
}

#[test]
fn a_call_without_variables_is_computed_once() {
    let (_cluster, mut client) = cluster_with_notes();
    for (call, texts) in CALLS {
        assert_eq!(texts_embedded(&mut client, call), texts, "{call}");
    }
}
