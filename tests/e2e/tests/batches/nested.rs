//! Batches within batches, and beside calls of other kinds.

use vector_embed_e2e::sql::{execute, stat_engine};

use super::{ROWS, cluster_with_docs, count, in_batches, requests, wrong};

#[test]
fn triggers_of_the_updated_table_embed_meanwhile() {
    for trigger in [
        "SELECT vector_embed.attach('docs', 'by_trigger', ARRAY['title'])",
        "SELECT vector_embed.attach('docs', 'by_trigger', ARRAY['title'], timing => 'statement')",
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.by_trigger := embed(NEW.title); RETURN NEW; END';
         CREATE TRIGGER own BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION own()",
    ] {
        let cluster = cluster_with_docs();
        let mut client = cluster.connect();
        execute(&mut client, "ALTER TABLE docs ADD title text, ADD by_trigger vector(384)");
        execute(&mut client, trigger);
        // More texts than a batch has, few different titles.
        let more =
            "INSERT INTO docs (id, body) SELECT i, 'many ' || i % 1100 FROM generate_series(301, 2600) AS i";
        execute(&mut client, more);
        for title in ["'title ' || id % 40", "nullif(title, 'title 7') || '!'"] {
            execute(&mut client, &format!("UPDATE docs SET title = {title}, embedding = embed(body)"));
            let stale = "WITH titles AS MATERIALIZED
                     (SELECT t AS title, twin(t) AS vector FROM (SELECT DISTINCT title FROM docs OFFSET 0) s (t))
                 SELECT count(*) FROM docs LEFT JOIN titles USING (title)
                 WHERE same(by_trigger, vector) IS DISTINCT FROM (CASE WHEN title IS NOT NULL THEN true END)";
            assert_eq!(count(&mut client, stale), 0, "{trigger}, {title}");
            assert_eq!(wrong(&mut client), 0, "{trigger}, {title}");
        }
        let copied = "INSERT INTO docs (id, title, body, embedding)
            SELECT id + 10000, 'copy ' || id % 7, body, embed(body) FROM docs";
        execute(&mut client, copied);
        assert_eq!(wrong(&mut client), 0, "{trigger}");
    }
}

#[test]
fn functions_of_the_same_query_embed_meanwhile() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    execute(
        &mut client,
        "CREATE FUNCTION own(text) RETURNS vector LANGUAGE plpgsql STABLE AS 'BEGIN RETURN embed($1); END';
         CREATE FUNCTION counts(integer) RETURNS bigint LANGUAGE plpgsql STABLE AS
             'BEGIN RETURN (SELECT count(embed(body)) FROM docs WHERE id <= $1); END'",
    );
    let beside = "SELECT count(*) FROM (SELECT embed(body) AS a, own(body) AS b FROM docs OFFSET 0) s WHERE same(a, b)";
    let (same, made) = requests(&mut observer, || count(&mut client, beside));
    assert_eq!(same, ROWS);
    assert!((ROWS + 1..ROWS + 12).contains(&made), "{made}: the function's calls are its own");
    for query in [
        "SELECT count(*) FROM (SELECT embed(own(body)::text) AS a, twin(own(body)::text) AS b FROM docs WHERE id < 9 OFFSET 0) s
             WHERE NOT same(a, b)",
        "SELECT count(*) FROM (SELECT own(embed(body)::text) AS a, twin(embed(body)::text) AS b FROM docs WHERE id < 9 OFFSET 0) s
             WHERE NOT same(a, b)",
        "SELECT count(*) FROM (SELECT embed(counts(id) || body) AS a, twin(id || body) AS b, id FROM docs OFFSET 0) s
             WHERE NOT same(a, b)",
        "SELECT count(*) FROM (SELECT embed(embed(body)::text) AS a, twin(twin(body)::text) AS b FROM docs WHERE id < 9 OFFSET 0) s
             WHERE NOT same(a, b)",
    ] {
        assert_eq!(count(&mut client, query), 0, "{query}");
    }
}

#[test]
fn several_nodes_in_one_plan_do_not_mix_up_their_rows() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    let own = "(SELECT id, cat, embed(body) AS e, body FROM docs OFFSET 0)";
    let other = "(SELECT id, cat, embed(body || '!') AS e, body || '!' AS body FROM docs OFFSET 0)";
    execute(&mut client, "SELECT embed(array_agg(body || '!')) FROM docs");
    for join in ["hashjoin", "mergejoin", "nestloop"] {
        for kind in ["hashjoin", "mergejoin", "nestloop"] {
            let on = if kind == join { "on" } else { "off" };
            execute(&mut client, &format!("SET enable_{kind} = {on}"));
        }
        let joined = format!(
            "SELECT count(*) FROM (SELECT a.id, a.e AS a, b.e AS b FROM {own} a JOIN {other} b USING (id) OFFSET 0) s
             JOIN docs USING (id) WHERE same(a, twin(body)) AND same(b, twin(body || '!'))"
        );
        assert_eq!(count(&mut client, &joined), ROWS, "{join}");
        let (lateral, _) = requests(&mut observer, || {
            count(
                &mut client,
                "SELECT count(*) FROM (SELECT embed(d.body) AS a, l.e AS b, d.body AS c, l.body AS d FROM docs d,
                     LATERAL (SELECT embed(o.body) AS e, o.body FROM docs o WHERE o.cat = d.cat ORDER BY o.id LIMIT 2) l
                     WHERE d.id <= 40 OFFSET 0) s WHERE same(a, twin(c)) AND same(b, twin(d))",
            )
        });
        assert_eq!(lateral, 80, "{join}");
    }
    execute(&mut client, "RESET ALL");
    let all = format!(
        "SELECT count(*) FROM (SELECT e, body FROM {own} a UNION ALL SELECT e, body FROM {other} b OFFSET 0) s
         WHERE same(e, twin(body))"
    );
    assert_eq!(count(&mut client, &all), 2 * ROWS);
}

#[test]
fn a_batch_survives_subtransactions_that_fail_beside_it() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    let more = "INSERT INTO docs (id, body) SELECT i, 'many ' || i FROM generate_series(301, 2500) AS i;
        SELECT embed(array_agg(body)) FROM docs;
        CREATE TABLE picky (id integer CHECK (id < 5), embedding vector(384))";
    execute(&mut client, more);
    let body = "
        DECLARE r record; failed integer := 0;
        BEGIN
            FOR r IN SELECT id, embed(body) AS e FROM docs LOOP
                UPDATE docs SET embedding = r.e WHERE id = r.id;
                IF r.id % 100 = 0 THEN
                    BEGIN
                        INSERT INTO picky SELECT id, embed(body) FROM docs;
                    EXCEPTION WHEN check_violation THEN failed := failed + 1;
                    END;
                END IF;
            END LOOP;
            IF failed <> 25 THEN RAISE 'failed: %', failed; END IF;
        END";
    for _ in 0..2 {
        execute(&mut client, "UPDATE docs SET embedding = NULL");
        execute(&mut client, &format!("DO $${body}$$"));
        assert_eq!(wrong(&mut observer), 0);
    }
    // A portal of the outer transaction goes on after an inner one has been rolled back.
    let query =
        client.prepare("SELECT id, embed(body)::real[] = twin(body)::real[] FROM docs").expect("a statement");
    let mut transaction = client.transaction().expect("a transaction");
    let portal = transaction.bind(&query, &[]).expect("a portal");
    let mut found = transaction.query_portal(&portal, 1100).expect("rows");
    for _ in 0..3 {
        let mut inner = transaction.transaction().expect("a savepoint");
        let inside = inner.bind(&query, &[]).expect("a portal");
        assert_eq!(inner.query_portal(&inside, 1100).expect("rows").len(), 1100);
        assert!(inner.batch_execute("INSERT INTO picky SELECT id, embed(body) FROM docs").is_err());
        drop(inside);
        inner.rollback().expect("a rollback");
        found.extend(transaction.query_portal(&portal, 400).expect("rows"));
    }
    found.extend(transaction.query_portal(&portal, 0).expect("rows"));
    drop(portal);
    transaction.commit().expect("a commit");
    let mut ids: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    assert!(ids == (1..=2500).collect::<Vec<i32>>(), "each row once: {} rows", ids.len());
    assert!(found.iter().all(|row| row.get(1)), "each with its vector");
    drop(client);
    vector_embed_e2e::wait::until("no connection is left", || {
        stat_engine(&mut observer).expect("an engine").connections == 1
    });
}

#[test]
fn a_loop_may_commit_and_roll_back_while_it_reads() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    let mut observer = cluster.connect();
    for end in ["COMMIT", "IF r.id % 2 = 0 THEN COMMIT; END IF"] {
        let body = format!(
            "DECLARE r record;
             BEGIN
                 FOR r IN SELECT id, embed(body) AS e FROM docs LOOP
                     UPDATE docs SET embedding = r.e WHERE id = r.id;
                     {end};
                 END LOOP;
             END"
        );
        execute(&mut client, "UPDATE docs SET embedding = NULL");
        in_batches(end, &mut observer, || execute(&mut client, &format!("DO $${body}$$")));
        assert_eq!(wrong(&mut observer), 0, "{end}");
    }
}

/// Where the reader of a portal is, a node that reads ahead is not.
#[test]
fn a_driver_s_portal_is_where_its_reader_is() {
    let cluster = cluster_with_docs();
    let mut client = cluster.connect();
    for (query, read) in [
        ("SELECT id, embed(body) FROM docs FOR UPDATE", 2),
        ("SELECT id, embed(body) FROM docs FOR UPDATE", 5),
        ("SELECT id, embed(body) FROM docs", 2),
    ] {
        execute(&mut client, "UPDATE docs SET cat = 0");
        let query = client.prepare(query).expect("a statement");
        let mut transaction = client.transaction().expect("a transaction");
        let portal = transaction.bind(&query, &[]).expect("a portal");
        let rows = transaction.query_portal(&portal, read).expect("rows");
        let here: i32 = rows.last().expect("rows").get(0);
        let name: String = transaction
            .query_one("SELECT name FROM pg_cursors WHERE statement LIKE 'SELECT id, embed(body)%'", &[])
            .expect("the portal is listed")
            .get(0);
        let update = format!("UPDATE docs SET cat = 1 WHERE CURRENT OF \"{name}\" RETURNING id");
        // To refuse is right, too; to update another row is not.
        match transaction.query(&update, &[]) {
            Ok(rows) => {
                let updated: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                assert_eq!(updated, [here]);
            }
            Err(error) => assert_eq!(error.code().map(|state| state.code()), Some("24000"), "{error:?}"),
        }
    }
}
