//! Plans that are kept: what changes between two executions takes effect.

use postgres::{Client, NoTls, Statement};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::sql::{execute, refused};
use vector_embed_e2e::{fixtures, golden};

use super::{ROWS, cluster_with_docs, count, in_batches, prepare, row_by_row, wrong};

const SELECT: &str = "SELECT embed(body)::real[] FROM docs ORDER BY id";

fn vectors(session: &mut Client, statement: &Statement) -> Vec<Vec<f32>> {
    let rows = session.query(statement, &[]).expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Alterations of the function and how to undo them; with the first kind plans leave it alone.
const TO_ROW_BY_ROW: [(&str, &str); 3] = [
    ("ALTER FUNCTION embed(text) SECURITY DEFINER", "ALTER FUNCTION embed(text) SECURITY INVOKER"),
    ("ALTER FUNCTION embed(text) SET work_mem = '1MB'", "ALTER FUNCTION embed(text) RESET work_mem"),
    ("ALTER FUNCTION embed(text) VOLATILE", "ALTER FUNCTION embed(text) STABLE"),
];
const STILL_BATCHED: [(&str, &str); 2] = [
    ("ALTER FUNCTION embed(text) COST 7", "ALTER FUNCTION embed(text) COST 10000"),
    (
        "ALTER FUNCTION embed(text) SET SCHEMA pg_catalog",
        "ALTER FUNCTION pg_catalog.embed(text) SET SCHEMA public",
    ),
];

#[test]
fn a_prepared_statement_follows_what_becomes_of_the_function() {
    let cluster = cluster_with_docs();
    let mut observer = cluster.connect();
    let mut session = cluster.connect();
    let statement = session.prepare(SELECT).expect("a statement");
    let update = session.prepare("UPDATE docs SET embedding = embed(body)").expect("a statement");
    let expected = in_batches("at first", &mut observer, || vectors(&mut session, &statement));
    assert_eq!(expected.len() as i64, ROWS);
    for (alterations, batched) in [(&TO_ROW_BY_ROW[..], false), (&STILL_BATCHED[..], true)] {
        for (alter, undo) in alterations {
            // By another session, then by this one.
            for own in [false, true] {
                let mut other = cluster.connect();
                let by = |session: &mut Client, other: &mut Client, alteration: &str| {
                    execute(if own { session } else { other }, alteration);
                };
                execute(&mut session, "UPDATE docs SET embedding = NULL");
                by(&mut session, &mut other, alter);
                let mut both = || {
                    session.execute(&update, &[]).unwrap_or_else(|error| panic!("{alter}: {error:?}"));
                    vectors(&mut session, &statement)
                };
                let (found, requests) = super::requests(&mut observer, &mut both);
                by(&mut session, &mut other, undo);
                assert_eq!(requests <= 20, batched, "{requests} requests after {alter}");
                assert!(found == expected, "other vectors after {alter}");
                assert_eq!(wrong(&mut observer), 0, "{alter}");
                let again = in_batches(undo, &mut observer, || vectors(&mut session, &statement));
                assert!(again == expected, "other vectors after {undo}");
            }
        }
    }
}

#[test]
fn a_prepared_statement_outlives_the_function_s_leaving_of_the_extension() {
    let cluster = cluster_with_docs();
    let mut session = cluster.connect();
    // So that the plan which is kept is one with batches.
    execute(&mut session, "LOAD 'vector_embed'");
    let statement = session.prepare(SELECT).expect("a statement");
    let expected = vectors(&mut session, &statement);
    execute(&mut session, "ALTER EXTENSION vector_embed DROP FUNCTION embed(text)");
    assert!(vectors(&mut session, &statement) == expected);
    execute(&mut session, "ALTER EXTENSION vector_embed ADD FUNCTION embed(text)");
    assert!(vectors(&mut session, &statement) == expected);
}

#[test]
fn a_function_that_somebody_has_replaced_is_called_as_it_is() {
    let cluster = cluster_with_docs();
    let mut session = cluster.connect();
    let statement = session.prepare(SELECT).expect("a statement");
    assert_eq!(vectors(&mut session, &statement)[0].len(), 384);
    let arguments: String = session
        .query_one("SELECT pg_get_function_arguments('embed(text)'::regprocedure)", &[])
        .expect("a row")
        .get(0);
    let replace = format!(
        "CREATE OR REPLACE FUNCTION embed({arguments}) RETURNS vector LANGUAGE sql STABLE STRICT
             AS $$ SELECT ('[' || length($1) || ']')::vector $$"
    );
    execute(&mut session, &replace);
    for _ in 0..3 {
        assert!(vectors(&mut session, &statement).iter().all(|vector| vector.len() == 1));
    }
}

#[test]
fn a_prepared_statement_follows_the_extension_dropped_and_created_again() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE docs AS SELECT i AS id, 'document ' || i AS body FROM generate_series(1, 300) AS i",
    );
    let mut session = cluster.connect();
    let statement = session.prepare(SELECT).expect("a statement");
    let expected = vectors(&mut session, &statement);
    for own in [true, false] {
        for _ in 0..2 {
            let by = if own { &mut session } else { &mut client };
            execute(by, "DROP EXTENSION vector_embed");
            let error = refused(session.query(&statement, &[]));
            // The statement may hold on to the function's number, as any statement does.
            assert!(["42883", "XX000"].contains(&error.code().code()), "{error:?}");
            let by = if own { &mut session } else { &mut client };
            execute(by, "CREATE EXTENSION vector_embed");
            let mut observer = cluster.connect();
            let statement = session.prepare(SELECT).expect("a statement");
            let found = in_batches("once created", &mut observer, || vectors(&mut session, &statement));
            assert!(found == expected);
        }
    }
}

#[test]
fn the_setting_concerns_plans_that_are_made() {
    for preloaded in ["", "vector_embed"] {
        let cluster = Cluster::with().setting("shared_preload_libraries", preloaded).start();
        prepare(&cluster);
        let mut observer = cluster.connect();
        let mut session =
            cluster.config().options("-c vector_embed.batch_planning=off").connect(NoTls).expect("a session");
        let update = "UPDATE docs SET embedding = embed(body)";
        for _ in 0..2 {
            row_by_row("without batches", &mut observer, || execute(&mut session, update));
            execute(&mut session, "SET vector_embed.batch_planning = on");
            in_batches("with batches", &mut observer, || execute(&mut session, update));
            execute(&mut session, "SET vector_embed.batch_planning = off");
        }
        // Kept plans give the same vectors, whichever way they were made.
        execute(&mut session, "SET plan_cache_mode = force_custom_plan");
        let prepared =
            session.prepare("UPDATE docs SET embedding = embed(body) WHERE id > $1").expect("a statement");
        for _ in 0..2 {
            let update = |session: &mut Client| session.execute(&prepared, &[&0]).expect("an update");
            row_by_row("without batches", &mut observer, || update(&mut session));
            execute(&mut session, "SET vector_embed.batch_planning = on");
            in_batches("with batches", &mut observer, || update(&mut session));
            execute(&mut session, "SET vector_embed.batch_planning = off");
        }
        assert_eq!(wrong(&mut observer), 0);
    }
}

#[test]
fn a_statement_prepared_before_the_library_was_loaded_is_batched() {
    let cluster = cluster_with_docs();
    let mut observer = cluster.connect();
    for load in ["LOAD 'vector_embed'", "SELECT vector_embed.token_count('text')", "SELECT embed('text')"] {
        for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
            let options = format!("-c plan_cache_mode={mode}");
            let mut session = cluster.config().options(&options).connect(NoTls).expect("a session");
            let statement =
                session.prepare("SELECT embed(body) FROM docs WHERE id > $1").expect("a statement");
            execute(&mut session, "PREPARE updating AS UPDATE docs SET embedding = embed(body)");
            execute(&mut session, load);
            for _ in 0..2 {
                let what = format!("{load}, {mode}");
                in_batches(&what, &mut observer, || session.query(&statement, &[&0]).expect("rows"));
                in_batches(&what, &mut observer, || execute(&mut session, "EXECUTE updating"));
            }
        }
    }
    assert_eq!(wrong(&mut observer), 0);
}

#[test]
fn a_prepared_statement_takes_the_default_model_of_the_moment() {
    let path = format!("$system:{}", fixtures::copy().display());
    let cluster = Cluster::with().setting("vector_embed.model_path", &path).start();
    prepare(&cluster);
    let mut session = cluster.connect();
    let mut observer = cluster.connect();
    let query = "SELECT vector_dims(embed(body)), same(embed(body), twin(body)) FROM docs WHERE id > $1";
    let statement = session.prepare(query).expect("a statement");
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        execute(&mut session, &format!("SET plan_cache_mode = {mode}"));
        for (model, dimensions) in [("tiny-bert", 32), (golden::MODEL, 384), ("tiny-onnx", 32)] {
            execute(&mut session, &format!("SET vector_embed.default_model = '{model}'"));
            let rows = session.query(&statement, &[&0]).expect("rows");
            assert_eq!(rows.len() as i64, ROWS);
            assert!(rows.iter().all(|row| row.get::<_, i32>(0) == dimensions && row.get(1)), "{model}");
        }
        execute(&mut session, "SET vector_embed.default_model = 'no-such-model'");
        let error = refused(session.query(&statement, &[&0]));
        assert_eq!(error.code().code(), "42704");
        assert!(error.message().contains("no-such-model"), "{error:?}");
        execute(&mut session, "RESET vector_embed.default_model");
    }
    assert_eq!(count(&mut observer, "SELECT count(embed(body)) FROM docs"), ROWS);
}
