//! A dump of a database that embeds restores into another one.

use std::io::Write;
use std::process::Stdio;

use postgres::NoTls;
use vector_embed_e2e::account::output;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{embed, execute};
use vector_embed_e2e::vectors::{EQUAL, assert_close};

const SCHEMA: &str = "
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
fn a_dump_restores_into_a_new_database() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, SCHEMA);
    execute(&mut client, "CREATE DATABASE restored TEMPLATE template0");
    let dump = output(cluster.client_program("pg_dump").args(["-d", "postgres"]));

    let mut psql = cluster.client_program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut restoring = psql.spawn().expect("psql can be executed");
    let mut input = restoring.stdin.take().expect("a pipe");
    input.write_all(dump.as_bytes()).expect("psql reads the dump");
    drop(input);
    let restored = restoring.wait_with_output().expect("psql is our child");
    let complaints = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "{complaints}");

    let mut other = cluster.config().dbname("restored").connect(NoTls).expect("a session");
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
