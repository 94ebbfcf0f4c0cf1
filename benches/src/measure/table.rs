//! Tables of texts that get their vectors.

use postgres::Client;

use super::{Bench, pause, require_equal};
use crate::error::Result;
use crate::server::Raw;
use crate::stats::timed;

/// Texts of the table that searches use, and how many it takes for an index to pay.
const CORPUS: usize = 10_000;
const LEAST: usize = 1000;

/// Makes a table of texts without vectors, in the state that one has when all is quiet.
pub(super) fn fill(client: &mut Client, table: &str, texts: &[String]) -> Result<()> {
    client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {table};
         CREATE TABLE {table} (id bigint PRIMARY KEY, body text, embedding vector(384))"
    ))?;
    insert(client, table, texts)?;
    settle(client, table)
}

/// Inserts rows with these texts, numbered from 1, in one statement.
pub(super) fn insert(client: &mut Client, table: &str, texts: &[String]) -> Result<()> {
    let insert = format!(
        "INSERT INTO {table} SELECT id, body, NULL FROM unnest($1::text[]) WITH ORDINALITY AS t (body, id)"
    );
    client.execute(&insert, &[&texts])?;
    Ok(())
}

/// Writes everything out, so that nobody does so while time is taken.
pub(super) fn settle(client: &mut Client, table: &str) -> Result<()> {
    client.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
    Ok(client.batch_execute("CHECKPOINT")?)
}

/// Milliseconds, after a pause, of the UPDATE of all rows of a table that [`fill`] made.
pub(super) fn update(client: &mut Client, table: &str) -> Result<f64> {
    update_with(client, table, "embed(body)")
}

/// The same with another expression for the vector.
pub(super) fn update_with(client: &mut Client, table: &str, vector: &str) -> Result<f64> {
    let update = client.prepare(&format!("UPDATE {table} SET embedding = {vector}"))?;
    pause();
    let (time, updated) = timed(|| client.execute(&update, &[]));
    updated?;
    Ok(time)
}

/// Fails unless some of the table's vectors, numbered from 1 like `texts`, are those of ONNX Runtime.
pub(super) fn require_true(bench: &Bench, client: &mut Client, table: &str, texts: &[String]) -> Result<()> {
    let stored = client.prepare(&format!("SELECT embedding FROM {table} WHERE id = $1"))?;
    for (place, text) in texts.iter().enumerate().step_by(texts.len().div_ceil(20)) {
        let row = client.query_one(&stored, &[&(place as i64 + 1)])?;
        require_equal(&row.try_get::<_, Raw>(0)?.vector(), &bench.bare.embed(text)?)?;
    }
    Ok(())
}

/// Fails unless the table has as many vectors as it should.
pub(super) fn require_vectors(client: &mut Client, table: &str, rows: usize) -> Result<()> {
    let vectors: i64 = client.query_one(&format!("SELECT count(embedding) FROM {table}"), &[])?.try_get(0)?;
    if vectors as usize != rows {
        return Err(format!("{vectors} of {rows} rows have vectors").into());
    }
    Ok(())
}

/// The table `corpus` of short texts and their vectors, with an HNSW index; made by whoever needs it first.
pub(super) fn corpus<'b>(bench: &'b Bench, client: &mut Client) -> Result<&'b [String]> {
    let texts = &bench.synopses[..bench.count(CORPUS).max(LEAST).min(bench.synopses.len())];
    let there: bool = client.query_one("SELECT to_regclass('corpus') IS NOT NULL", &[])?.try_get(0)?;
    if !there {
        fill(client, "making", texts)?;
        update(client, "making")?;
        client.batch_execute(
            "SET maintenance_work_mem = '512MB';
             CREATE INDEX ON making USING hnsw (embedding vector_cosine_ops);
             ALTER TABLE making RENAME TO corpus",
        )?;
        settle(client, "corpus")?;
    }
    Ok(texts)
}
