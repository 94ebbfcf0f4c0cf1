//! Tables whose vectors triggers keep.

use std::io::Write;

use postgres::{Client, Error, GenericClient};

use crate::sql::execute;

/// The values of `timing`, the argument of `vector_embed.attach`.
pub const TIMINGS: [&str; 2] = ["row", "statement"];

/// The columns of a table of notes. Vectors may have any length, so that each model will do.
pub const COLUMNS: &str = "id integer PRIMARY KEY, body text, seen integer, embedding vector";

/// Makes a table of notes and attaches it.
pub fn create(client: &mut Client, table: &str, timing: &str) {
    execute(client, &format!("CREATE TABLE {table} ({COLUMNS})"));
    attach(client, table, timing);
}

/// Attaches a table of notes.
pub fn attach(client: &mut Client, table: &str, timing: &str) {
    let call = "SELECT vector_embed.attach($1::text::regclass, 'embedding', '{body}', timing => $2)";
    client.query_one(call, &[&table, &timing]).expect("the table can be attached");
}

/// Waits until the queue of `notes` is empty.
pub fn drain(client: &mut Client) {
    execute(client, "CALL vector_embed.drain('notes', '2 min')");
}

/// Copies rows of identifier and text into a table of notes.
pub fn copy(client: &mut Client, table: &str, rows: &[(i32, &str)]) -> Result<u64, Error> {
    let mut writer = client.copy_in(&format!("COPY {table} (id, body) FROM STDIN"))?;
    for (id, body) in rows {
        // The server may have ended the copy with an error, which `finish` returns.
        if writeln!(writer, "{id}\t{body}").is_err() {
            break;
        }
    }
    writer.finish()
}

/// Fails unless the table has so many rows, each with the vector of its text, or with none if it has no text.
pub fn assert_fresh(client: &mut impl GenericClient, table: &str, rows: i64) {
    assert_fresh_of(client, table, "body", rows);
}

/// The same for a table whose text is that of an SQL expression. The session must find `embed` and pgvector's
/// operators.
pub fn assert_fresh_of(client: &mut impl GenericClient, table: &str, text: &str, rows: i64) {
    let query = format!(
        "WITH notes AS (SELECT {text} AS text, embedding, row_number() OVER () AS number FROM {table}),
              slices AS MATERIALIZED (
                  SELECT array_agg(text) AS texts, array_agg(embedding) AS stored
                  FROM notes WHERE text IS NOT NULL GROUP BY number / 500),
              computed AS MATERIALIZED (SELECT texts, stored, embed(texts) AS vectors FROM slices),
              pairs AS (
                  SELECT p.* FROM computed, unnest(texts, stored, vectors) AS p (text, stored, vector))
         SELECT (SELECT count(*) FROM notes),
                (SELECT count(*) FROM notes WHERE text IS NULL AND embedding IS NOT NULL),
                (SELECT count(*) FROM pairs WHERE stored IS NULL),
                (SELECT array_agg(text) FROM pairs WHERE 1 - (stored <=> vector) < 0.999999)"
    );
    let row = client.query_one(&query, &[]).expect("vectors can be compared");
    let wrong: Vec<String> = row.get::<_, Option<Vec<String>>>(3).unwrap_or_default();
    assert!(wrong.is_empty(), "in {table} {} rows have the vector of another text: {wrong:?}", wrong.len());
    assert_eq!(row.get::<_, i64>(2), 0, "rows of {table} with text and without a vector");
    assert_eq!(row.get::<_, i64>(1), 0, "rows of {table} without text and with a vector");
    assert_eq!(row.get::<_, i64>(0), rows, "rows of {table}");
}

/// Everything that is in a table, row by row, written out.
pub fn contents(client: &mut impl GenericClient, table: &str) -> Vec<String> {
    let query = format!("SELECT t::text FROM {table} AS t ORDER BY 1");
    let rows = client.query(&query, &[]).expect("the table can be read");
    rows.iter().map(|row| row.get(0)).collect()
}
