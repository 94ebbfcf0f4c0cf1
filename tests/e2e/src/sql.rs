//! The extension's functions as SQL calls.

use postgres::error::DbError;
use postgres::{Client, Error, GenericClient, Row};

use crate::process::Pid;
use crate::wait;

/// The vector of a text.
pub fn embed(client: &mut impl GenericClient, text: &str) -> Result<Vec<f32>, Error> {
    let row = client.query_one("SELECT embed($1::text)::real[]", &[&text])?;
    Ok(row.get(0))
}

/// The vector of a text by a named model.
pub fn embed_by(client: &mut impl GenericClient, text: &str, model: &str) -> Result<Vec<f32>, Error> {
    let row = client.query_one("SELECT embed($1::text, $2::text)::real[]", &[&text, &model])?;
    Ok(row.get(0))
}

/// The vectors of texts, by one call.
pub fn embed_all(client: &mut impl GenericClient, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
    let rows = client.query(
        "WITH called AS MATERIALIZED (SELECT embed($1::text[]) AS vectors)
         SELECT vector::real[] FROM called, unnest(vectors) WITH ORDINALITY AS v (vector, place) ORDER BY place",
        &[&texts],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Embeds texts by one call and throws the vectors away.
pub fn embed_and_forget(client: &mut impl GenericClient, texts: &[String]) -> Result<(), Error> {
    client.query_one("SELECT cardinality(embed($1::text[]))", &[&texts])?;
    Ok(())
}

/// Tokens of a text.
pub fn token_count(client: &mut impl GenericClient, text: &str) -> Result<i32, Error> {
    let row = client.query_one("SELECT vector_embed.token_count($1::text)", &[&text])?;
    Ok(row.get(0))
}

/// Executes statements that must succeed.
pub fn execute(client: &mut Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements) {
        panic!("{statements} failed: {error:?}");
    }
}

/// The number that a query gives.
pub fn count(client: &mut Client, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap_or_else(|error| panic!("{query} failed: {error:?}")).get(0)
}

/// Does some work under `statement_timeout`, in a transaction that is then rolled back. The abort takes the setting back,
/// so that it cannot end the next statement, too.
pub fn with_timeout<T>(
    client: &mut Client,
    milliseconds: u64,
    work: impl FnOnce(&mut Client) -> Result<T, Error>,
) -> Result<T, Error> {
    execute(client, &format!("BEGIN; SET LOCAL statement_timeout = {milliseconds}"));
    let outcome = work(client);
    execute(client, "ROLLBACK");
    outcome
}

/// What PostgreSQL says of a call that it must refuse.
pub fn refused<T>(result: Result<T, Error>) -> DbError {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("the session ended: {error:?}")).clone(),
    }
}

/// Fails unless a call was ended by the end of its session. The library at times sees the connection close before it
/// has handed out the message that was sent before.
pub fn assert_terminated<T>(result: Result<T, Error>) {
    let error = result.err().expect("the call did not succeed");
    let state = error.code().map(|state| state.code());
    assert!(state == Some("57P01") || error.is_closed(), "{error:?}");
}

/// Fails unless an error has this SQLSTATE and a hint. Returns the hint.
pub fn assert_error(error: &DbError, state: &str) -> String {
    assert_eq!(error.code().code(), state, "SQLSTATE of {error:?}");
    let hint = error.hint().unwrap_or_default();
    assert!(!hint.is_empty(), "an error without a hint: {error:?}");
    hint.to_owned()
}

/// The session's process id.
pub fn backend(client: &mut impl GenericClient) -> Pid {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).expect("the session lives");
    row.get(0)
}

/// What the view `vector_embed.stat_engine` shows, as far as tests look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineRow {
    /// Process id.
    pub pid: Pid,
    /// Starts after the first.
    pub restarts: i64,
    /// Open connections, that of the session which asks included.
    pub connections: i32,
    /// Texts that wait.
    pub queued_texts: i64,
    /// Requests received.
    pub requests: i64,
    /// Texts dropped because their caller went away.
    pub cancelled: i64,
    /// Resident memory.
    pub resident_bytes: i64,
    /// Batches computed.
    pub batches: i64,
    /// Texts computed.
    pub texts: i64,
    /// Texts found in the cache.
    pub cache_hits: i64,
    /// Memory of the cache.
    pub cache_bytes: i64,
}

/// The row of the usual engine, or `None` if it does not run.
pub fn stat_engine(client: &mut impl GenericClient) -> Option<EngineRow> {
    let columns = "pid, restarts, connections, queued_texts, requests, cancelled, resident_bytes, batches, texts, \
                   cache_hits, cache_bytes";
    let row = client
        .query_opt(
            &format!("SELECT {columns} FROM vector_embed.stat_engine WHERE runtime = 'onnxruntime'"),
            &[],
        )
        .expect("the view can be read")?;
    Some(engine_row(&row))
}

fn engine_row(row: &Row) -> EngineRow {
    EngineRow {
        pid: row.get("pid"),
        restarts: row.get("restarts"),
        connections: row.get("connections"),
        queued_texts: row.get("queued_texts"),
        requests: row.get("requests"),
        cancelled: row.get("cancelled"),
        resident_bytes: row.get("resident_bytes"),
        batches: row.get("batches"),
        texts: row.get("texts"),
        cache_hits: row.get("cache_hits"),
        cache_bytes: row.get("cache_bytes"),
    }
}

/// What the view `vector_embed.stat_models` shows of a model, as far as tests look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRow {
    /// Whether it is in memory.
    pub loaded: bool,
    /// Its memory.
    pub memory_bytes: i64,
    /// How often it was loaded.
    pub loads: i64,
    /// How often it was unloaded.
    pub unloads: i64,
    /// Texts that it computed.
    pub texts: i64,
    /// Requests that failed.
    pub errors: i64,
}

/// The row of the view, or `None` if nobody has asked for the model.
pub fn stat_model(client: &mut impl GenericClient, name: &str) -> Option<ModelRow> {
    let columns = "loaded, memory_bytes, loads, unloads, texts, errors";
    let row = client
        .query_opt(&format!("SELECT {columns} FROM vector_embed.stat_models WHERE name = $1"), &[&name])
        .expect("the view can be read")?;
    Some(ModelRow {
        loaded: row.get("loaded"),
        memory_bytes: row.get("memory_bytes"),
        loads: row.get("loads"),
        unloads: row.get("unloads"),
        texts: row.get("texts"),
        errors: row.get("errors"),
    })
}

/// Allows so many queue workers, and waits until this session knows it.
pub fn set_queue_workers(client: &mut Client, count: i32) {
    // A session knows the settings once it has the library.
    execute(client, "LOAD 'vector_embed'");
    execute(client, &format!("ALTER SYSTEM SET vector_embed.queue_workers = {count}"));
    execute(client, "SELECT pg_reload_conf()");
    wait::until("the setting is in force", || queue_workers(client) == count);
}

/// How many queue workers are allowed, as a session knows it.
pub fn queue_workers(client: &mut Client) -> i32 {
    let row = client.query_one("SELECT current_setting('vector_embed.queue_workers')::integer", &[]);
    row.expect("a setting").get(0)
}
