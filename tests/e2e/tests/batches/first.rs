//! The first statement of a session is batched, whatever it is and however it comes, with the library preloaded or
//! loaded by this very statement.

use postgres::{Client, NoTls, SimpleQueryMessage};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::sql::execute;

use super::{ROWS, in_batches, prepare, requests, row_by_row, wrong};

/// Objects that first statements use.
const OBJECTS: &str = "
CREATE TABLE copies (id integer, embedding vector(384));
CREATE VIEW embedded AS SELECT id, embed(body) AS embedding FROM docs;
CREATE FUNCTION performed() RETURNS void LANGUAGE plpgsql AS
    'BEGIN PERFORM embed(body) FROM docs; END';
CREATE FUNCTION updated() RETURNS void LANGUAGE plpgsql AS
    'BEGIN UPDATE docs SET embedding = embed(body); END';
CREATE FUNCTION looped() RETURNS bigint LANGUAGE plpgsql AS
    'DECLARE r record; n bigint := 0;
     BEGIN FOR r IN SELECT embed(body) AS e FROM docs LOOP n := n + vector_dims(r.e); END LOOP; RETURN n; END';
CREATE FUNCTION looped_dynamically() RETURNS bigint LANGUAGE plpgsql AS
    'DECLARE r record; n bigint := 0;
     BEGIN
         FOR r IN EXECUTE ''SELECT embed(body) AS e FROM docs'' LOOP n := n + vector_dims(r.e); END LOOP;
         RETURN n;
     END';
CREATE FUNCTION returned() RETURNS SETOF vector LANGUAGE plpgsql AS
    'BEGIN RETURN QUERY SELECT embed(body) FROM docs; END';
CREATE FUNCTION inlined() RETURNS SETOF vector LANGUAGE sql STABLE AS
    'SELECT embed(body) FROM docs';
CREATE FUNCTION called() RETURNS void LANGUAGE sql VOLATILE AS
    'UPDATE docs SET embedding = embed(body)';
CREATE FUNCTION called_new_style() RETURNS bigint LANGUAGE sql VOLATILE
    BEGIN ATOMIC SELECT count(embed(body)) FROM docs; END;
CREATE PROCEDURE procedure() LANGUAGE plpgsql AS
    'BEGIN UPDATE docs SET embedding = embed(body); COMMIT; END';
";

/// Statements as simple queries. Several in one text are all executed before the next is sent.
const STATEMENTS: [&str; 31] = [
    "SELECT embed(body) FROM docs",
    "SELECT embed(body) FROM docs ORDER BY id",
    "SELECT embed_query(body) FROM docs",
    "SELECT embed(body, 'all-MiniLM-L6-v2') FROM docs",
    "SELECT count(embed(body)) FROM docs",
    "SELECT cat, avg(embed(body)) FROM docs GROUP BY cat",
    "SELECT id FROM docs ORDER BY embed(body) <=> embed('a document') LIMIT 3",
    "SELECT max(vector_dims(embedding)) FROM embedded",
    "SELECT embedding FROM embedded",
    "WITH e AS MATERIALIZED (SELECT embed(body) AS e FROM docs) SELECT count(*) FROM e",
    "SELECT (SELECT count(embed(body)) FROM docs)",
    "UPDATE docs SET embedding = embed(body)",
    "BEGIN; UPDATE docs SET embedding = embed(body); COMMIT",
    "INSERT INTO copies SELECT id, embed(body) FROM docs",
    "CREATE TABLE made AS SELECT id, embed(body) FROM docs",
    "CREATE MATERIALIZED VIEW kept AS SELECT id, embed(body) FROM docs",
    "SELECT id, embed(body) AS embedding INTO selected FROM docs",
    "COPY (SELECT embed(body) FROM docs) TO '/dev/null'",
    "SELECT performed()",
    "SELECT updated()",
    "SELECT looped()",
    "SELECT looped_dynamically()",
    "SELECT returned()",
    "SELECT inlined()",
    "SELECT * FROM inlined()",
    "SELECT called()",
    "SELECT called_new_style()",
    "CALL procedure()",
    "DO 'BEGIN UPDATE docs SET embedding = embed(body); END'",
    "EXPLAIN (ANALYZE) UPDATE docs SET embedding = embed(body)",
    "PREPARE updating AS UPDATE docs SET embedding = embed(body); EXECUTE updating",
];

/// Has a test done in a server that preloads the library, and in one that does not.
fn loaded_either_way(test: impl Fn(&Cluster, &mut Client)) {
    for preloaded in ["", "vector_embed"] {
        let cluster = Cluster::with().setting("shared_preload_libraries", preloaded).start();
        prepare(&cluster);
        let mut observer = cluster.connect();
        execute(&mut observer, OBJECTS);
        test(&cluster, &mut observer);
    }
}

#[test]
fn of_any_kind_is_batched() {
    loaded_either_way(|cluster, observer| {
        for statement in STATEMENTS {
            let mut session = cluster.connect();
            in_batches(statement, observer, || execute(&mut session, statement));
        }
        assert_eq!(wrong(observer), 0);
    });
}

#[test]
fn in_parallel_workers_is_batched() {
    loaded_either_way(|cluster, observer| {
        execute(observer, "ALTER TABLE docs SET (parallel_workers = 2)");
        let options = "-c parallel_setup_cost=0 -c parallel_tuple_cost=0 -c min_parallel_table_scan_size=0
            -c parallel_leader_participation=off"
            .replace('\n', " ");
        for statement in ["SELECT id, embed(body) FROM docs", "SELECT count(embed(body)) FROM docs"] {
            let connect = || cluster.config().options(&options).connect(NoTls).expect("a session");
            // A worker's first request is its first row, or the whole of its share.
            let mut session = connect();
            let (plan, made) = requests(observer, || {
                session.query(&format!("EXPLAIN (ANALYZE) {statement}"), &[]).expect("a plan")
            });
            let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
            assert!(plan.iter().any(|line| line.contains("Workers Launched: 2")), "{plan:#?}");
            assert!((1..=20).contains(&made), "{statement} made {made} requests");
            let mut session = connect();
            let (rows, made) = requests(observer, || session.query(statement, &[]).expect("rows"));
            assert!((1..=20).contains(&made), "{statement} made {made} requests");
            assert!(rows.len() as i64 == ROWS || rows[0].get::<_, i64>(0) == ROWS);
        }
    });
}

#[test]
fn by_the_extended_protocol_is_batched() {
    loaded_either_way(|cluster, observer| {
        let mut session = cluster.connect();
        let select = "SELECT id, same(embed(body), twin(body)) FROM docs WHERE id > $1";
        let rows = session.query(select, &[&0]).expect("rows");
        assert_eq!(rows.len() as i64, ROWS);
        assert!(rows.iter().all(|row| row.get(1)), "{rows:?}");

        let mut session = cluster.connect();
        let statement = session.prepare("SELECT embed(body) FROM docs WHERE id > $1").expect("a statement");
        in_batches("a prepared statement", observer, || session.query(&statement, &[&0]).expect("rows"));
        let mut session = cluster.connect();
        let update = "UPDATE docs SET embedding = embed(body) WHERE id > $1";
        in_batches("an update", observer, || session.execute(update, &[&0]).expect("an update"));
    });
}

#[test]
fn executed_again_and_again_is_batched_each_time() {
    loaded_either_way(|cluster, observer| {
        for (mode, times) in [("auto", 8), ("force_generic_plan", 3), ("force_custom_plan", 3)] {
            let options = format!("-c plan_cache_mode={mode}");
            let connect = || cluster.config().options(&options).connect(NoTls).expect("a session");
            for (statement, parameter) in [
                ("SELECT embed(body) FROM docs WHERE id > $1", 0),
                ("UPDATE docs SET embedding = embed(body) WHERE id > $1", 0),
                ("INSERT INTO copies SELECT id, embed(body) FROM docs WHERE id > $1", 0),
                ("SELECT count(embed(body)) FROM docs WHERE id > $1", 0),
            ] {
                let mut session = connect();
                let prepared = session.prepare(statement).expect("a statement");
                for time in 1..=times {
                    let what = format!("{statement} with {mode}, execution {time}");
                    in_batches(&what, observer, || session.execute(&prepared, &[&parameter]).expect(&what));
                }
            }
        }
        // Functions keep the plans of their statements, too.
        for function in ["performed", "updated", "looped", "returned", "called", "called_new_style"] {
            let mut session = cluster.connect();
            for time in 1..=7 {
                let what = format!("{function} call {time}");
                in_batches(&what, observer, || {
                    execute(&mut session, &format!("SELECT {function}()"));
                });
            }
        }
        assert_eq!(wrong(observer), 0);
    });
}

#[test]
fn that_only_explains_computes_nothing_and_shows_the_node() {
    loaded_either_way(|cluster, observer| {
        let mut session = cluster.connect();
        let explain = "EXPLAIN (VERBOSE) UPDATE docs SET embedding = embed(body)";
        let (plan, made) = requests(observer, || session.query(explain, &[]).expect("a plan"));
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert_eq!(made, 0);
        assert!(plan.iter().any(|line| line.contains("Embed Batch")), "{plan:#?}");
        let update = "UPDATE docs SET embedding = embed(body)";
        in_batches("what follows", observer, || execute(&mut session, update));
    });
}

#[test]
fn that_copies_to_the_client_is_batched() {
    loaded_either_way(|cluster, observer| {
        let mut session = cluster.connect();
        let copied = in_batches("COPY TO STDOUT", observer, || {
            let mut reader = session.copy_out("COPY (SELECT embed(body) FROM docs) TO STDOUT").expect("COPY");
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).expect("rows");
            text
        });
        assert_eq!(copied.lines().count() as i64, ROWS);
    });
}

/// The first columns of all rows that statements in one text give.
fn first_columns(session: &mut Client, statements: &str) -> Vec<String> {
    let messages = session.simple_query(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.map(str::to_owned).collect()
}

#[test]
fn that_is_a_cursor_s_goes_back_and_says_where_it_is() {
    loaded_either_way(|cluster, observer| {
        let declared = |kind: &str| format!("DECLARE c {kind} FOR SELECT id, embed(body) FROM docs");
        for kind in ["SCROLL CURSOR", "CURSOR"] {
            let mut session = cluster.connect();
            execute(&mut session, &format!("BEGIN; {} ORDER BY id", declared(kind)));
            assert_eq!(first_columns(&mut session, "FETCH 3 FROM c"), ["1", "2", "3"]);
            assert_eq!(first_columns(&mut session, "FETCH BACKWARD 1 FROM c"), ["2"]);
            assert_eq!(first_columns(&mut session, "FETCH FIRST FROM c"), ["1"]);
            assert_eq!(first_columns(&mut session, "FETCH LAST FROM c"), [ROWS.to_string()]);
            execute(&mut session, "ROLLBACK");
        }
        for (kind, end) in [("CURSOR", ""), ("NO SCROLL CURSOR", ""), ("CURSOR", "FOR UPDATE")] {
            let mut session = cluster.connect();
            execute(&mut session, &format!("BEGIN; {} {end}", declared(kind)));
            let fetched = first_columns(&mut session, "FETCH 5 FROM c");
            let update = "UPDATE docs SET embedding = embed(body) WHERE CURRENT OF c RETURNING id";
            assert_eq!(first_columns(&mut session, update), [fetched[4].clone()], "{kind} {end}");
            execute(&mut session, "ROLLBACK");
        }
        let mut session = cluster.connect();
        let all = format!("BEGIN; {}; FETCH ALL FROM c; COMMIT", declared("CURSOR"));
        row_by_row("a cursor", observer, || execute(&mut session, &all));
    });
}

#[test]
fn in_a_function_with_cursors_of_its_own_says_where_it_is() {
    loaded_either_way(|cluster, observer| {
        let body = "
            DECLARE
                bound CURSOR FOR SELECT id, embed(body) AS e FROM docs FOR UPDATE;
                unbound refcursor;
                r record;
            BEGIN
                FOR r IN bound LOOP
                    UPDATE docs SET embedding = r.e, cat = 100 + r.id WHERE CURRENT OF bound;
                END LOOP;
                OPEN unbound FOR SELECT id, embed(body) AS e FROM docs;
                LOOP
                    FETCH unbound INTO r;
                    EXIT WHEN NOT FOUND;
                    UPDATE docs SET cat = cat - r.id WHERE CURRENT OF unbound;
                END LOOP;
            END";
        execute(observer, &format!("CREATE FUNCTION walked() RETURNS void LANGUAGE plpgsql AS $${body}$$"));
        let mut session = cluster.connect();
        for _ in 0..3 {
            execute(&mut session, "UPDATE docs SET embedding = NULL");
            execute(&mut session, "SELECT walked()");
            let not_there = "SELECT count(*) FROM docs WHERE cat IS DISTINCT FROM 100";
            assert_eq!(super::count(observer, not_there), 0, "each row was updated where the cursor stood");
            assert_eq!(wrong(observer), 0);
        }
    });
}
