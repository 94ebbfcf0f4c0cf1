//! Plain SQL computes its calls for many rows at once, and leaves nothing else different from row by row.

mod changes;
mod crashes;
mod first;
mod kept;
mod memory;
mod nested;
mod sources;
mod stopped;

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::sql::{count, execute, stat_engine};

/// Functions for tests. `twin` is `embed` under a name that no plan looks for, computed row by row.
const TOOLS: &str = "
CREATE FUNCTION twin(text) RETURNS vector AS '$libdir/vector_embed', 'embed_wrapper'
    LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
CREATE FUNCTION same(vector, vector) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN 1 - ($1 <=> $2) >= 0.999999;
";

/// Rows of the table `docs`, unless a test says otherwise.
const ROWS: i64 = 300;

/// A table with so many short texts, all different. Each worker of a parallel plan would have its own batches.
fn create_docs(client: &mut Client, rows: i64) {
    execute(client, TOOLS);
    let docs = format!(
        "CREATE TABLE docs (id integer PRIMARY KEY, cat integer, body text, embedding vector(384))
             WITH (parallel_workers = 0);
         INSERT INTO docs SELECT i, i % 5, 'document number ' || i FROM generate_series(1, {rows}) AS i;
         ANALYZE docs"
    );
    execute(client, &docs);
}

/// A server that nobody else uses, with [`ROWS`] documents that the engine has seen already.
fn cluster_with_docs() -> Cluster {
    let cluster = Cluster::new();
    prepare(&cluster);
    cluster
}

fn prepare(cluster: &Cluster) {
    let mut client = cluster.connect();
    create_docs(&mut client, ROWS);
    execute(&mut client, "SELECT embed(array_agg(body)) FROM docs");
}

/// Requests that reach the engine for what `work` does. Nobody else may embed meanwhile.
fn requests<T>(observer: &mut Client, work: impl FnOnce() -> T) -> (T, i64) {
    let mut count = || stat_engine(observer).map_or(0, |engine| engine.requests);
    let before = count();
    let result = work();
    (result, count() - before)
}

/// Whether so many requests for [`ROWS`] rows are batches. A reader that may stop early gets 1, 2, 4, … rows at first.
fn are_batches(requests: i64) -> bool {
    (1..=10).contains(&requests)
}

/// Fails unless `work` on [`ROWS`] rows is done in batches.
fn in_batches<T>(what: &str, observer: &mut Client, work: impl FnOnce() -> T) -> T {
    let (result, requests) = requests(observer, work);
    assert!(are_batches(requests), "{what} made {requests} requests for {ROWS} rows");
    result
}

/// Fails unless `work` on [`ROWS`] rows is done row by row.
fn row_by_row<T>(what: &str, observer: &mut Client, work: impl FnOnce() -> T) -> T {
    let (result, requests) = requests(observer, work);
    assert_eq!(requests, ROWS, "{what} is left alone");
    result
}

/// Rows of `docs` whose vector is missing or not that of their text, as one array call gives it.
fn wrong(client: &mut Client) -> i64 {
    let query = "WITH called AS MATERIALIZED
            (SELECT array_agg(id) AS ids, embed(array_agg(body)) AS vectors FROM docs),
        expected AS MATERIALIZED (SELECT unnest(ids) AS id, unnest(vectors) AS vector FROM called)
        SELECT count(*) FROM docs LEFT JOIN expected USING (id) WHERE same(embedding, vector) IS NOT TRUE";
    count(client, query)
}
