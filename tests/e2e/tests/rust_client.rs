//! Triggers as tokio-postgres uses them: prepared statements with binary parameters, statements that do not wait for
//! each other's answers, binary COPY. The other clients are in tests/clients.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgvector::Vector;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::golden;

const INSERT: &str = "INSERT INTO articles (body) VALUES ($1) RETURNING embedding";
/// A statement that somebody has to end.
const ENDLESS: &str = "INSERT INTO articles (body)
    SELECT number || repeat(' boats in a quiet harbour', 40) FROM generate_series(1, 10000) AS number";

/// Runs a test on the shared cluster. That was made by the synchronous client, which nobody may use within.
fn run(test: impl AsyncFnOnce(&Cluster)) {
    let cluster = Shared::get();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test(&cluster));
}

/// A session that is in the schema of this name and finds what it contains.
async fn connect(cluster: &Cluster, schema: &str) -> Client {
    let mut config = Config::new();
    config.user("postgres").dbname("postgres").options(format!("-c search_path={schema},public"));
    for host in cluster.config().get_hosts() {
        if let Host::Unix(directory) = host {
            config.host_path(directory);
        }
    }
    let (client, connection) = config.connect(NoTls).await.expect("the server takes connections");
    tokio::spawn(connection);
    client
}

/// A session in a schema of its own, with a table for each way to embed and one whose model does not exist.
async fn session(cluster: &Cluster, schema: &str) -> Client {
    let client = connect(cluster, schema).await;
    let columns = "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, slug text UNIQUE, title text, body text, embedding vector(384)";
    let statements = format!(
        "CREATE SCHEMA {schema};
         CREATE TABLE articles ({columns});
         SELECT vector_embed.attach('articles', 'embedding', ARRAY['title', 'body']);
         CREATE TABLE imports ({columns});
         SELECT vector_embed.attach('imports', 'embedding', ARRAY['body'], timing => 'statement');
         CREATE TABLE misconfigured ({columns});
         CREATE TRIGGER embed BEFORE INSERT ON misconfigured FOR EACH ROW
             EXECUTE FUNCTION vector_embed.embed_row('embedding', 'no-such-model', 'body')"
    );
    client.batch_execute(&statements).await.expect("tables and triggers");
    client
}

/// A vector that no text has.
fn supplied() -> Vector {
    Vector::from((0..384).map(|place| if place == 7 { 1.0 } else { 0.0 }).collect::<Vec<f32>>())
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

async fn vector(client: &Client, statement: &str, parameters: Parameters<'_>) -> Vector {
    client.query_one(statement, parameters).await.expect("one row").get(0)
}

/// Fails unless so many rows are in the table, each with the vector of its text.
async fn assert_all_fresh(client: &Client, table: &str, count: i64) {
    let fresh = "embedding IS NULL AND body IS NULL OR 1 - (embedding <=> embed(body)) >= 0.999999";
    let query = format!("SELECT count(*), count(*) FILTER (WHERE {fresh}) FROM {table}");
    let row = client.query_one(&query, &[]).await.expect("a row");
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (count, count),
        "rows, and fresh ones among them"
    );
}

/// Fails unless the session still embeds.
async fn assert_works(client: &Client) {
    let golden = golden::sentences()[0];
    golden.assert_is(vector(client, INSERT, &[&golden.text]).await.as_slice());
}

fn state(error: &tokio_postgres::Error) -> &SqlState {
    error.code().unwrap_or_else(|| panic!("not an error of the server: {error:?}"))
}

#[test]
fn a_prepared_insert_returns_the_vector_each_time() {
    run(async |cluster| {
        let client = session(cluster, "prepared").await;
        let insert = client.prepare(INSERT).await.expect("a prepared statement");
        // PostgreSQL may change to a generic plan after five.
        for golden in &golden::sentences()[..12] {
            let row = client.query_one(&insert, &[&golden.text]).await.expect("a row");
            golden.assert_is(row.get::<_, Vector>(0).as_slice());
        }
    });
}

#[test]
fn an_update_of_the_text_returns_the_new_vector() {
    run(async |cluster| {
        let client = session(cluster, "updated").await;
        let [old, new] = [golden::sentences()[0], golden::sentences()[1]];
        old.assert_is(vector(&client, INSERT, &[&old.text]).await.as_slice());
        let update = "UPDATE articles SET body = $1 RETURNING embedding";
        new.assert_is(vector(&client, update, &[&new.text]).await.as_slice());
    });
}

#[test]
fn all_columns_written_back_with_the_old_vector_give_the_new_one() {
    run(async |cluster| {
        let client = session(cluster, "written_back").await;
        let [old, new] = [golden::sentences()[0], golden::sentences()[1]];
        let in_hand = vector(&client, INSERT, &[&old.text]).await;
        let update =
            "UPDATE articles SET slug = $1, title = $2, body = $3, embedding = $4 RETURNING embedding";
        let parameters: Parameters = &[&"slug", &None::<String>, &new.text, &in_hand];
        new.assert_is(vector(&client, update, parameters).await.as_slice());
    });
}

#[test]
fn a_supplied_vector_is_kept_until_it_is_set_to_null() {
    run(async |cluster| {
        let client = session(cluster, "supplied").await;
        let golden = golden::sentences()[0];
        let insert = "INSERT INTO articles (body, embedding) VALUES ('text', $1) RETURNING embedding";
        assert_eq!(vector(&client, insert, &[&supplied()]).await, supplied());
        let other = Vector::from(supplied().as_slice().iter().rev().copied().collect::<Vec<f32>>());
        let update = "UPDATE articles SET body = $1, embedding = $2 RETURNING embedding";
        assert_eq!(vector(&client, update, &[&golden.text, &other]).await, other);
        golden.assert_is(vector(&client, update, &[&golden.text, &None::<Vector>]).await.as_slice());
    });
}

#[test]
fn statements_in_a_pipeline_return_their_own_vectors() {
    run(async |cluster| {
        let client = session(cluster, "pipeline").await;
        let insert = client.prepare(INSERT).await.expect("a prepared statement");
        let sentences = &golden::sentences()[..40];
        let sent = sentences.iter().map(|golden| {
            let (client, insert) = (&client, &insert);
            async move { client.query_one(insert, &[&golden.text]).await }
        });
        for (golden, row) in sentences.iter().zip(join_all(sent).await) {
            golden.assert_is(row.expect("a row").get::<_, Vector>(0).as_slice());
        }
    });
}

#[test]
fn an_error_in_a_pipeline_is_its_statement_s_alone() {
    run(async |cluster| {
        let client = session(cluster, "pipeline_error").await;
        let tables = ["articles", "misconfigured", "articles"];
        let sent = tables.map(|table| {
            let client = &client;
            async move { client.execute(&format!("INSERT INTO {table} (body) VALUES ('text')"), &[]).await }
        });
        let [first, second, third] = <[_; 3]>::try_from(join_all(sent).await).expect("three outcomes");
        assert_eq!((first.expect("a row"), third.expect("a row")), (1, 1));
        assert_eq!(state(&second.expect_err("the model does not exist")), &SqlState::UNDEFINED_OBJECT);
        assert_all_fresh(&client, "articles", 2).await;
    });
}

/// Copies rows of text and vector in binary.
async fn copy(
    client: &Client,
    table: &str,
    rows: &[(Option<&str>, Option<Vector>)],
) -> Result<u64, tokio_postgres::Error> {
    let types = client.prepare("SELECT embedding FROM articles").await.expect("a prepared statement");
    let vector = types.columns()[0].type_().clone();
    let into = format!("COPY {table} (body, embedding) FROM STDIN (FORMAT binary)");
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&into).await?, &[Type::TEXT, vector]));
    for (body, embedding) in rows {
        writer.as_mut().write(&[body, embedding]).await?;
    }
    writer.finish().await
}

#[test]
fn binary_copy_embeds_and_keeps_supplied_vectors() {
    run(async |cluster| {
        let client = session(cluster, "copied").await;
        let golden = golden::sentences()[0];
        let rows = [(Some(golden.text.as_str()), None), (None, None), (Some("text"), Some(supplied()))];
        for table in ["articles", "imports"] {
            assert_eq!(copy(&client, table, &rows).await.expect("rows are taken"), 3);
            let query = format!("SELECT embedding FROM {table} ORDER BY id");
            let found = client.query(&query, &[]).await.expect("rows");
            let found: Vec<Option<Vector>> = found.iter().map(|row| row.get(0)).collect();
            golden.assert_is(found[0].as_ref().expect("a vector").as_slice());
            assert_eq!(&found[1..], [None, Some(supplied())]);
        }
    });
}

#[test]
fn an_error_in_copy_leaves_nothing_behind() {
    run(async |cluster| {
        let client = session(cluster, "copy_error").await;
        client.batch_execute("SET vector_embed.overlong_text = error").await.expect("a setting");
        let overlong = "again and ".repeat(500);
        let rows = [(Some("short"), None), (Some(overlong.as_str()), None)];
        let error = copy(&client, "articles", &rows).await.expect_err("a text is too long");
        assert_eq!(state(&error), &SqlState::STRING_DATA_RIGHT_TRUNCATION);
        assert_works(&client).await;
        assert_all_fresh(&client, "articles", 1).await;
    });
}

#[test]
fn an_upsert_returns_the_vector_of_the_text_it_leaves() {
    run(async |cluster| {
        let client = session(cluster, "upsert").await;
        for changes in ["body = EXCLUDED.body", "body = EXCLUDED.body, embedding = EXCLUDED.embedding"] {
            for golden in &golden::sentences()[..3] {
                let upsert = format!(
                    "INSERT INTO articles (slug, body) VALUES ('slug', $1)
                 ON CONFLICT (slug) DO UPDATE SET {changes} RETURNING embedding"
                );
                golden.assert_is(vector(&client, &upsert, &[&golden.text]).await.as_slice());
            }
        }
        assert_all_fresh(&client, "articles", 1).await;
    });
}

#[test]
fn a_statement_trigger_embeds_after_returning() {
    run(async |cluster| {
        let client = session(cluster, "statement").await;
        let bodies: Vec<&str> = golden::sentences()[..20].iter().map(|golden| golden.text.as_str()).collect();
        let insert = "INSERT INTO imports (body) SELECT unnest($1::text[]) RETURNING embedding";
        let rows = client.query(insert, &[&bodies]).await.expect("rows");
        assert!(rows.iter().all(|row| row.get::<_, Option<Vector>>(0).is_none()));
        assert_all_fresh(&client, "imports", 20).await;
        let update = "UPDATE imports SET body = 'once ' || body WHERE id % 2 = 0";
        assert_eq!(client.execute(update, &[]).await.expect("an update"), 10);
        assert_all_fresh(&client, "imports", 20).await;
    });
}

#[test]
fn a_savepoint_undoes_an_error_and_the_transaction_goes_on() {
    run(async |cluster| {
        let mut client = session(cluster, "savepoint").await;
        let mut transaction = client.transaction().await.expect("a transaction");
        transaction.execute(INSERT, &[&"before"]).await.expect("a row");
        let savepoint = transaction.transaction().await.expect("a savepoint");
        let error = savepoint.execute("INSERT INTO misconfigured (body) VALUES ('text')", &[]).await;
        assert_eq!(state(&error.expect_err("the model does not exist")), &SqlState::UNDEFINED_OBJECT);
        savepoint.rollback().await.expect("a rollback");
        transaction.execute(INSERT, &[&"after"]).await.expect("a row");
        transaction.commit().await.expect("a commit");
        assert_all_fresh(&client, "articles", 2).await;
    });
}

#[test]
fn a_timeout_ends_the_statement_and_the_session_goes_on() {
    run(async |cluster| {
        let mut client = session(cluster, "timeout").await;
        let transaction = client.transaction().await.expect("a transaction");
        transaction.batch_execute("SET LOCAL statement_timeout = '300ms'").await.expect("a setting");
        let error = transaction.batch_execute(ENDLESS).await.expect_err("there is no time");
        assert_eq!(state(&error), &SqlState::QUERY_CANCELED);
        transaction.rollback().await.expect("a rollback");
        assert_works(&client).await;
        assert_all_fresh(&client, "articles", 1).await;
    });
}

#[test]
fn a_cancel_ends_the_statement_and_the_session_goes_on() {
    run(async |cluster| {
        let client = session(cluster, "cancelled").await;
        let observer = connect(cluster, "cancelled").await;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a row").get(0);
        let token = client.cancel_token();
        let cancel = async {
            let embeds = "SELECT wait_event_type = 'Extension' IS TRUE FROM pg_stat_activity WHERE pid = $1";
            let begin = Instant::now();
            while !observer.query_one(embeds, &[&pid]).await.expect("a row").get::<_, bool>(0) {
                assert!(begin.elapsed() < Duration::from_secs(60), "the statement never embeds");
                tokio::task::yield_now().await;
            }
            token.cancel_query(NoTls).await.expect("a cancel");
        };
        let (outcome, ()) = tokio::join!(client.batch_execute(ENDLESS), cancel);
        assert_eq!(state(&outcome.expect_err("it was cancelled")), &SqlState::QUERY_CANCELED);
        assert_works(&client).await;
    });
}
