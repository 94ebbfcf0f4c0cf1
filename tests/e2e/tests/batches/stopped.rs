//! Statements that end before their last row: cancelled, failed, or with a reader that wants no more.

use std::thread;

use postgres::{Client, Error, NoTls};
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::process::{self, Pid, Signal};
use vector_embed_e2e::sql::{assert_terminated, backend, embed, execute, refused, stat_engine};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

use super::{TOOLS, count, create_docs};

/// Texts that make one batch for a reader of all rows.
const BATCH: i64 = 1024;
/// Long texts after the first batch, few enough for the socket to take them at once.
const LONG: usize = 100;

/// A server with
/// - `long_docs`, 3,000 long texts that take minutes,
/// - `late_docs`, one batch of texts that the engine has seen, then long ones,
/// - `slow_docs`, whose rows take a while to be read,
/// - `sink`, which takes a while to be written to.
fn cluster_with_work() -> Cluster {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, TOOLS);
    let objects = format!(
        "CREATE TABLE long_docs (id integer, body text, embedding vector(384));
         CREATE TABLE late_docs (id integer, body text);
         INSERT INTO late_docs SELECT i, 'document number ' || i FROM generate_series(1, {BATCH}) AS i;
         SELECT embed(array_agg(body)) FROM late_docs;
         CREATE FUNCTION dawdle() RETURNS boolean LANGUAGE plpgsql STABLE COST 1 AS
             'BEGIN PERFORM pg_sleep(0.02); RETURN true; END';
         CREATE VIEW slow_docs AS SELECT id, body FROM late_docs WHERE id > 0 AND (id < 0 OR dawdle());
         CREATE TABLE sink (id integer, embedding vector(384));
         CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION sleep()"
    );
    execute(&mut client, &objects);
    let fill = |client: &mut Client, table: &str, texts: &[String]| {
        let insert = format!(
            "INSERT INTO {table} (id, body)
             SELECT 10000 + n, t FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)"
        );
        client.execute(&insert, &[&texts]).expect("rows");
    };
    let texts = bulk::long_texts(3000 + LONG);
    fill(&mut client, "long_docs", &texts[..3000]);
    fill(&mut client, "late_docs", &texts[3000..]);
    cluster
}

/// Where a statement is when it is stopped.
struct Moment {
    statement: &'static str,
    wait_event_type: &'static str,
    /// Texts at the engine that wait.
    queued: i64,
}

const MOMENTS: [Moment; 5] = [
    // The first batch is computed.
    Moment {
        statement: "UPDATE long_docs SET embedding = embed(body)",
        wait_event_type: "Extension",
        queued: 40,
    },
    Moment {
        statement: "SELECT count(embed(body)) FROM long_docs",
        wait_event_type: "Extension",
        queued: 40,
    },
    // Rows are read for the first batch.
    Moment { statement: "SELECT count(embed(body)) FROM slow_docs", wait_event_type: "Timeout", queued: 0 },
    Moment {
        statement: "INSERT INTO sink SELECT id, embed(body) FROM slow_docs",
        wait_event_type: "Timeout",
        queued: 0,
    },
    // The reader works on the first batch, and the second is at the engine.
    Moment {
        statement: "INSERT INTO sink SELECT id, embed(body) FROM late_docs",
        wait_event_type: "Timeout",
        queued: 20,
    },
];

impl Moment {
    fn wait_for(&self, observer: &mut Client, session: Pid) {
        let waiting = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = $2";
        wait::until(&format!("{} is where it is to be stopped", self.statement), || {
            let waits = observer.query_opt(waiting, &[&session, &self.wait_event_type]).expect("the view");
            waits.is_some() && stat_engine(observer).is_some_and(|engine| engine.queued_texts >= self.queued)
        });
    }
}

/// Has a statement stopped at each moment by `stop`, which is called with an observer and the session's process id. What
/// it returns is kept until the statement has ended.
fn stopped_at_each_moment<T>(
    cluster: &Cluster,
    setting: &str,
    stop: impl Fn(&mut Client, Pid) -> T,
    check: fn(Result<(), Error>) -> Session,
) {
    let golden = golden::sentences()[0];
    let mut observer = cluster.connect();
    for moment in &MOMENTS {
        let mut session = cluster.connect();
        execute(&mut session, setting);
        let pid = backend(&mut session);
        let before = stat_engine(&mut observer).expect("an engine");
        let (left, mut session) = thread::scope(|scope| {
            let _canceller = Canceller::of(&mut session);
            let call = scope.spawn(move || (session.batch_execute(moment.statement), session));
            moment.wait_for(&mut observer, pid);
            let kept = stop(&mut observer, pid);
            let (outcome, session) = call.join().expect("the session's thread ends");
            drop(kept);
            (check(outcome), session)
        });
        wait::until("the engine drops the work", || {
            let engine = stat_engine(&mut observer).expect("an engine");
            engine.queued_texts == 0 && engine.cancelled - before.cancelled >= moment.queued / 2
        });
        assert_eq!(count(&mut observer, "SELECT count(*) FROM sink"), 0);
        assert_eq!(count(&mut observer, "SELECT count(embedding) FROM long_docs"), 0);
        if left == Session::Lives {
            execute(&mut session, "RESET statement_timeout");
            golden.assert_is(&embed(&mut session, &golden.text).expect("the session goes on"));
            assert_eq!(
                count(&mut session, "SELECT count(embed(body)) FROM late_docs WHERE id < 10000"),
                BATCH
            );
        }
        drop(session);
        // The observer's, and at most those of the session, which has just ended.
        wait::until("no connection is left over", || {
            stat_engine(&mut observer).expect("an engine").connections == 1
        });
    }
    assert_eq!(stat_engine(&mut observer).expect("an engine").restarts, 0);
}

/// What is left of a session whose statement was stopped.
#[derive(Debug, PartialEq, Eq)]
enum Session {
    Lives,
    Ended,
}

fn cancelled(outcome: Result<(), Error>) -> Session {
    assert_eq!(refused(outcome).code().code(), "57014");
    Session::Lives
}

fn terminated(outcome: Result<(), Error>) -> Session {
    assert_terminated(outcome);
    Session::Ended
}

fn call(function: &'static str) -> impl Fn(&mut Client, Pid) {
    move |observer, session| {
        observer.query_one(&format!("SELECT {function}($1)"), &[&session]).expect("a signal is sent");
    }
}

#[test]
fn a_cancel_ends_a_batch_wherever_it_is() {
    stopped_at_each_moment(&cluster_with_work(), "", call("pg_cancel_backend"), cancelled);
}

#[test]
fn the_end_of_a_session_ends_a_batch_wherever_it_is() {
    stopped_at_each_moment(&cluster_with_work(), "", call("pg_terminate_backend"), terminated);
}

#[test]
fn statement_timeout_ends_a_batch_wherever_it_is() {
    let cluster = cluster_with_work();
    // Long enough for a busy machine to get there. Without the engine the statement stays there.
    let timeout = "SET statement_timeout = '8s'";
    stopped_at_each_moment(&cluster, timeout, |_, _| Paused::new(cluster.engine()), cancelled);
}

/// A process that does nothing, as long as this lives.
struct Paused(Pid);

impl Paused {
    fn new(process: Pid) -> Self {
        process::send(process, Signal::STOP);
        Self(process)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        process::send(self.0, Signal::CONT);
    }
}

/// Rows of `docs` here: enough for a portal that has given so many rows to have a batch at the engine.
const ROWS: i64 = 2400;
const GIVEN: i32 = 1100;
const TIMES: usize = 100;
/// For each of a dozen statements.
const TIMES_EACH: usize = 25;

/// What ends early. Each of these may fail, as its error says.
const EARLY: [(&str, Option<&str>); 12] = [
    ("SELECT count(embed(body || repeat(' too long', 400 * (id = 2000)::integer))) FROM docs", Some("22001")),
    (
        "SELECT vector_dims(embed(body || repeat(' too long', 400 * (id = 2000)::integer))) FROM docs",
        Some("22001"),
    ),
    ("SELECT 1 / (vector_dims(embed(body)) * (id - 1100)) FROM docs", Some("22012")),
    ("INSERT INTO picky SELECT id, embed(body) FROM docs", Some("23514")),
    ("SELECT vector_dims(e) FROM (SELECT embed(body) AS e FROM docs OFFSET 0) s LIMIT 1100", None),
    ("SELECT vector_dims(e) FROM (SELECT embed(body) AS e FROM docs OFFSET 0) s LIMIT 3", None),
    (
        "SELECT EXISTS (SELECT FROM (SELECT id, embed(body) AS e FROM docs OFFSET 0) s WHERE vector_dims(e) + id > 1484)",
        None,
    ),
    ("SELECT vector_dims(lazily()) LIMIT 1100", None),
    ("SELECT left_early()", None),
    ("SELECT caught()", None),
    ("BEGIN; DECLARE c CURSOR FOR SELECT embed(body) FROM docs; FETCH 9 FROM c; CLOSE c; COMMIT", None),
    ("BEGIN; DECLARE c CURSOR FOR SELECT embed(body) FROM docs; FETCH 9 FROM c; ROLLBACK", None),
];

const EARLY_OBJECTS: &str = "
CREATE TABLE picky (id integer CHECK (id < 9), embedding vector(384));
CREATE FUNCTION lazily() RETURNS SETOF vector LANGUAGE sql VOLATILE AS 'SELECT embed(body) FROM docs';
CREATE FUNCTION left_early() RETURNS void LANGUAGE plpgsql AS
    'DECLARE r record; n integer := 0;
     BEGIN
         FOR r IN SELECT embed(body) AS e FROM docs LOOP n := n + 1; EXIT WHEN n = 1100; END LOOP;
     END';
CREATE FUNCTION caught() RETURNS void LANGUAGE plpgsql AS
    'BEGIN
         INSERT INTO picky SELECT id, embed(body) FROM docs;
     EXCEPTION WHEN check_violation THEN NULL;
     END';
";

/// A session's kept connections, and the observer's.
const KEPT: i32 = 2 + 1;

fn cluster_with_early_ends() -> Cluster {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    create_docs(&mut client, ROWS);
    execute(&mut client, EARLY_OBJECTS);
    execute(&mut client, "SELECT embed(array_agg(body)) FROM docs");
    cluster
}

fn assert_no_connection_is_left(observer: &mut Client, after: &str) {
    wait::until(&format!("no connection is left after {after}"), || {
        stat_engine(observer).expect("an engine").connections <= KEPT
    });
}

#[test]
fn no_connection_is_left_by_statements_that_end_early() {
    let cluster = cluster_with_early_ends();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    execute(&mut session, "SET vector_embed.overlong_text = error");
    for (statement, expected) in EARLY {
        for _ in 0..TIMES_EACH {
            let outcome = session.simple_query(statement);
            match expected {
                None => assert!(outcome.is_ok(), "{statement}: {outcome:?}"),
                Some(state) => assert_eq!(refused(outcome).code().code(), state, "{statement}"),
            }
        }
        assert_no_connection_is_left(&mut observer, statement);
    }
    assert_eq!(count(&mut session, "SELECT count(embed(body)) FROM docs"), ROWS);
}

#[test]
fn no_connection_is_left_by_portals_that_are_closed_early() {
    let cluster = cluster_with_early_ends();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    let query = session.prepare("SELECT id, vector_dims(embed(body)) FROM docs").expect("a statement");
    for time in 0..TIMES {
        let mut transaction = session.transaction().expect("a transaction");
        let portals: Vec<_> = (0..3).map(|_| transaction.bind(&query, &[]).expect("a portal")).collect();
        for (number, portal) in portals.iter().enumerate() {
            let rows = transaction.query_portal(portal, GIVEN * number as i32 / 2 + 1).expect("rows");
            assert_eq!(rows.len() as i32, GIVEN * number as i32 / 2 + 1);
        }
        // One goes on to its end, beside the others.
        let rest = transaction.query_portal(&portals[2], 0).expect("rows");
        assert_eq!(rest.len() as i64, ROWS - i64::from(GIVEN) - 1);
        assert!((i64::from(GIVEN) + 2..).zip(&rest).all(|(id, row)| i64::from(row.get::<_, i32>(0)) == id));
        drop(portals);
        match time % 3 {
            0 => transaction.rollback().expect("a rollback"),
            1 => transaction.commit().expect("a commit"),
            _ => drop(transaction),
        }
    }
    assert_no_connection_is_left(&mut observer, "portals");
}

#[test]
fn a_transaction_that_has_failed_holds_no_connection() {
    let cluster = cluster_with_early_ends();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    for _ in 0..3 {
        for (statement, state) in [(EARLY[3].0, "23514"), (EARLY[2].0, "22012")] {
            execute(&mut session, "BEGIN");
            assert_eq!(refused(session.batch_execute(statement)).code().code(), state);
            // Before the block is ended: that may take a while.
            wait::until("the batch at the engine is given up", || {
                stat_engine(&mut observer).expect("an engine").connections <= KEPT
            });
            execute(&mut session, "ROLLBACK");
        }
    }
}

#[test]
fn no_connection_is_left_by_statements_that_are_timed_out() {
    // All texts are computed each time, so there is always work to withdraw.
    let cluster = Cluster::with().uncached().start();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    create_docs(&mut session, ROWS);
    embed(&mut session, "the model is loaded").expect("a vector");
    let session_options = "-c statement_timeout=20ms";
    let mut hasty = cluster.config().options(session_options).connect(NoTls).expect("a session");
    for _ in 0..TIMES {
        cancelled(hasty.batch_execute("UPDATE docs SET embedding = embed(body)"));
    }
    // This session has a kept connection, too.
    wait::until("no connection is left", || {
        stat_engine(&mut observer).expect("an engine").connections <= KEPT + 2
    });
    let engine = stat_engine(&mut observer).expect("an engine");
    assert!(engine.cancelled > 0, "{engine:?}");
    drop(hasty);
    execute(&mut session, "UPDATE docs SET embedding = embed(body) WHERE id % 100 = 0");
    let stale = "SELECT count(*) FROM docs WHERE id % 100 = 0 AND same(embedding, twin(body)) IS NOT TRUE";
    assert_eq!(count(&mut session, stale), 0);
}
