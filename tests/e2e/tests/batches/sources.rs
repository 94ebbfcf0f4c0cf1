//! Where rows come from, and what they name: other servers, partitions, several models, text that is not UTF-8.

use postgres::config::Host;
use postgres::{Client, NoTls};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{assert_error, embed_by, execute, refused};
use vector_embed_e2e::vectors::{EQUAL, assert_close};
use vector_embed_e2e::{fixtures, wait};

use super::{ROWS, TOOLS, cluster_with_docs, count, in_batches, requests, wrong};

#[test]
fn of_several_models_each_row_s_own_computes_it() {
    let path = format!("$system:{}", fixtures::copy().display());
    let cluster = Cluster::with().setting("vector_embed.model_path", &path).start();
    let (mut client, mut observer) = (cluster.connect(), cluster.connect());
    let models = [golden::MODEL, "tiny-bert", "tiny-bert-cls"];
    let docs = "CREATE TABLE docs (id integer, body text, model text);
        INSERT INTO docs SELECT i, 'the garden ' || i % 20,
            (ARRAY['all-MiniLM-L6-v2', 'tiny-bert', 'tiny-bert-cls', NULL])[1 + i % 4]
            FROM generate_series(1, 2000) AS i";
    execute(&mut client, docs);
    let select = "SELECT id, body, embed(body, model)::real[] FROM docs ORDER BY id";
    for _ in 0..2 {
        let (rows, made) = requests(&mut observer, || client.query(select, &[]).expect("rows"));
        assert!(made <= 12 * 3, "{made} requests: one for each model of a batch");
        assert_eq!(rows.len(), 2000);
        for (number, row) in rows.iter().enumerate() {
            let (id, body, vector): (i32, &str, Option<Vec<f32>>) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(id as usize, number + 1);
            match models.get(id as usize % 4) {
                None => assert_eq!(vector, None),
                // The texts come again and again.
                Some(model) if number < 80 || number % 50 == 0 => {
                    let expected = embed_by(&mut observer, body, model).expect("a vector");
                    assert_close(body, &vector.expect("a vector"), &expected, EQUAL);
                }
                Some(model) => {
                    let dimensions = if *model == golden::MODEL { 384 } else { 32 };
                    assert_eq!(vector.map(|vector| vector.len()), Some(dimensions));
                }
            }
        }
    }
    execute(&mut client, "UPDATE docs SET model = 'no-such-model' WHERE id = 1500");
    let error = refused(client.query(select, &[]));
    assert_error(&error, "42704");
    assert!(error.message().contains("no-such-model"), "{error:?}");
    execute(&mut client, "UPDATE docs SET model = '../secret' WHERE id = 1500");
    assert_eq!(refused(client.query(select, &[])).code().code(), "22023");
    execute(&mut client, "DELETE FROM docs WHERE id = 1500");
    assert_eq!(client.query(select, &[]).expect("rows").len(), 1999);
}

#[test]
fn foreign_tables_lose_no_row() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    if count(&mut client, "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") == 0 {
        eprintln!("postgres_fdw is not installed");
        return;
    }
    let config = cluster.config();
    let [Host::Unix(directory)] = config.get_hosts() else { panic!("a Unix socket") };
    let foreign = format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER own FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{}', port '5432', dbname 'postgres', async_capable 'true');
         CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{0}', port '5432', dbname 'postgres', async_capable 'true');
         CREATE USER MAPPING FOR postgres SERVER own OPTIONS (user 'postgres');
         CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'postgres');
         CREATE TABLE odd AS SELECT id, 1 AS k, body, embedding FROM docs WHERE id % 3 = 1;
         CREATE TABLE even AS SELECT id, 2 AS k, body, embedding FROM docs WHERE id % 3 = 2;
         CREATE FOREIGN TABLE single (id integer, cat integer, body text, embedding vector(384))
             SERVER own OPTIONS (table_name 'docs');
         CREATE TABLE parts (id integer, k integer, body text, embedding vector(384)) PARTITION BY LIST (k);
         CREATE FOREIGN TABLE parts_1 PARTITION OF parts FOR VALUES IN (1) SERVER own OPTIONS (table_name 'odd');
         CREATE FOREIGN TABLE parts_2 PARTITION OF parts FOR VALUES IN (2) SERVER other OPTIONS (table_name 'even');
         CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);
         INSERT INTO parts SELECT id, 3, body FROM docs WHERE id % 3 = 0",
        directory.display()
    );
    execute(&mut client, &foreign);
    // The other side sees what is committed.
    execute(&mut client, "ANALYZE parts");
    let selected = in_batches("a foreign table", &mut observer, || {
        client.query("SELECT id, embed(body) FROM single ORDER BY id", &[]).expect("rows")
    });
    assert_eq!(selected.len() as i64, ROWS);
    in_batches("a foreign table", &mut observer, || {
        execute(&mut client, "UPDATE single SET embedding = embed(body)");
    });
    assert_eq!(wrong(&mut client), 0);

    for setting in ["SET enable_async_append = on", "SET enable_async_append = off"] {
        execute(&mut client, setting);
        for query in [
            "SELECT id, body, embed(body) AS e FROM parts",
            "SELECT id, body, embed(body) AS e FROM parts ORDER BY id",
            "SELECT id, body, e FROM (SELECT id, body, embed(body) AS e FROM parts OFFSET 0) s WHERE id > 0",
            "SELECT id, body, embed(body) AS e FROM parts WHERE body LIKE '%number%'",
            "SELECT p.id, p.body, embed(p.body) AS e FROM parts p JOIN docs USING (id)",
            "SELECT id, body, embed(body) AS e FROM parts_1 UNION ALL SELECT id, body, embed(body) FROM parts_2
                 UNION ALL SELECT id, body, embed(body) FROM parts_3",
        ] {
            let right = format!(
                "SELECT count(DISTINCT q.id) FROM ({query} OFFSET 0) q JOIN docs USING (id)
                 WHERE same(q.e, docs.embedding) AND q.body = docs.body"
            );
            assert_eq!(count(&mut client, &right), ROWS, "{query}, {setting}");
            assert_eq!(count(&mut client, &format!("SELECT count(*) FROM ({query}) q")), ROWS, "{query}");
        }
        let sums = "SELECT count(embed(body)), count(*) FROM parts";
        let row = client.query_one(sums, &[]).expect("a row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (ROWS, ROWS));
        execute(&mut client, "UPDATE parts SET embedding = NULL; UPDATE parts SET embedding = embed(body)");
        let stale = "SELECT count(*) FROM parts p JOIN docs USING (id) WHERE same(p.embedding, docs.embedding) IS NOT TRUE";
        assert_eq!(count(&mut client, stale), 0, "{setting}");
    }
}

#[test]
fn a_hot_standby_s_queries_are_batched() {
    let primary = cluster_with_docs();
    let standby = primary.standby();
    let (mut session, mut observer) = (standby.connect(), standby.connect());
    wait::until("the standby has the rows", || count(&mut observer, "SELECT count(*) FROM docs") == ROWS);
    for statement in ["SELECT embed(body) FROM docs", "SELECT count(embed(body)) FROM docs"] {
        in_batches(statement, &mut observer, || execute(&mut session, statement));
    }
    let right = "SELECT count(*) FROM (SELECT embed(body) AS a, twin(body) AS b FROM docs OFFSET 0) s WHERE same(a, b)";
    assert_eq!(count(&mut session, right), ROWS);
}

#[test]
fn a_text_that_is_not_utf_8_is_an_error_that_costs_the_statement_alone() {
    let cluster = Cluster::new();
    execute(
        &mut cluster.connect(),
        "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0",
    );
    let connect = || -> Client { cluster.config().dbname("ascii").connect(NoTls).expect("a session") };
    let mut client = connect();
    execute(&mut client, "CREATE EXTENSION vector_embed CASCADE");
    execute(&mut client, TOOLS);
    execute(
        &mut client,
        r"CREATE TABLE docs (id integer, body text, embedding vector(384));
          INSERT INTO docs SELECT i, CASE i WHEN 5 THEN E'caf\xe9' WHEN 6 THEN E'caf\xc3\xa9' ELSE 'document ' || i END
              FROM generate_series(1, 40) AS i",
    );
    for statement in [
        "UPDATE docs SET embedding = embed(body)",
        "SELECT embed(body) FROM docs",
        "SELECT count(embed(body)) FROM docs",
    ] {
        let error = refused(client.batch_execute(statement));
        assert_eq!(error.code().code(), "22021", "{error:?}");
        assert!(
            error.detail().is_some_and(|detail| detail.contains("must be UTF-8")),
            "{statement}: {error:?}"
        );
        assert!(error.detail().is_some_and(|detail| detail.contains("row 5 of the input")), "{error:?}");
    }
    execute(&mut client, "UPDATE docs SET embedding = embed(body) WHERE id <> 5");
    let stale = "SELECT count(*) FROM docs WHERE id <> 5 AND same(embedding, twin(body)) IS NOT TRUE";
    assert_eq!(count(&mut client, stale), 0);
}

#[test]
fn a_text_that_is_too_long_is_an_error_that_names_its_row() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    // A word without end: of many words the first would do.
    for statement in [
        "SELECT embed(repeat('long', 16777220 * (id = 7)::integer)) FROM docs WHERE id < 9 ORDER BY id",
        "SELECT count(embed(repeat('long', 16777220 * (id = 7)::integer))) FROM docs WHERE id < 9",
    ] {
        let error = refused(client.batch_execute(statement));
        assert_eq!(error.code().code(), "53400", "{error:?}");
        let detail = error.detail().expect("a detail");
        assert!(detail.contains("row 7 of the input") && detail.contains("67104768"), "{detail}");
    }
}

/// Partitions of a table that is read in order, so that all are read at once.
const PARTITIONS: i64 = 40;
/// Rows of each: more than one batch.
const ROWS_OF_EACH: i64 = 2200;

#[test]
fn many_partitions_that_are_read_at_once_do_not_use_up_connections() {
    let path = format!("$system:{}", fixtures::copy().display());
    let cluster = Cluster::with().setting("vector_embed.model_path", &path).start();
    let mut client = cluster.connect();
    execute(&mut client, TOOLS);
    // A trigger looks at the connections while rows are written, which is while other batches are at the engine.
    let objects = format!(
        "CREATE TABLE parts (k integer, id integer, body text) PARTITION BY LIST (k);
         DO $$ BEGIN
             FOR k IN 1..{PARTITIONS} LOOP
                 EXECUTE format('CREATE TABLE parts_%s PARTITION OF parts FOR VALUES IN (%1$s)', k);
             END LOOP;
         END $$;
         INSERT INTO parts SELECT k, id, 'text ' || id
             FROM generate_series(1, {PARTITIONS}) AS k, generate_series(1, {ROWS_OF_EACH}) AS id;
         CREATE INDEX ON parts (id);
         ANALYZE parts;
         CREATE TABLE sink (k integer, id integer, embedding vector(32));
         CREATE TABLE seen (connections integer);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN
                 IF NEW.id % 50 = 0 AND NEW.k = 1 THEN
                     INSERT INTO seen SELECT connections FROM vector_embed.stat_engine;
                 END IF;
                 RETURN NEW;
             END';
         CREATE TRIGGER look BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION look();
         SET enable_sort = off;
         SET vector_embed.default_model = 'tiny-bert'"
    );
    execute(&mut client, &objects);
    let insert = "INSERT INTO sink SELECT k, id, embed(body) FROM parts ORDER BY id";
    let plan = client.query(&format!("EXPLAIN {insert}"), &[]).expect("a plan");
    let nodes = plan.iter().filter(|line| line.get::<_, &str>(0).contains("Embed Batch")).count();
    assert_eq!(nodes as i64, PARTITIONS, "{plan:?}");
    execute(&mut client, insert);
    let most = count(&mut client, "SELECT max(connections)::bigint FROM seen");
    // Eight nodes may be ahead; the others share what the session keeps. One is the trigger's.
    assert!((2..=8 + 3).contains(&most), "{most} connections");
    let right = "SELECT count(*) FROM sink JOIN (
            SELECT id, embed(body) AS e FROM parts WHERE k = 1) s USING (id) WHERE same(embedding, e)";
    assert_eq!(count(&mut client, right), PARTITIONS * ROWS_OF_EACH);
}
