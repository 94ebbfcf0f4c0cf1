//! SQLite files as foreign tables: beside their writers, where the server may not write, and when things end early.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use postgres::Client;
use rusqlite::Connection;
use vector_embed_e2e::account::new_directory;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::process::{self, Pid, Signal};
use vector_embed_e2e::sql::{
    assert_error, assert_terminated, backend, count, execute, refused, with_timeout,
};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

/// A directory that belongs to whoever runs the tests; the server's user may read it, and write to it only where both
/// are the same.
fn directory() -> PathBuf {
    let parent = new_directory("sqlite");
    let directory = parent.join("files");
    fs::create_dir(&directory).expect("a directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("others may read it");
    directory
}

/// A writer of a database with a write-ahead log, and rows in that.
fn living_writer(path: &Path) -> Connection {
    let writer = Connection::open(path).expect("a database");
    writer
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); \
             INSERT INTO t VALUES (1, 'one'), (2, 'two')",
        )
        .expect("good SQL");
    writer
}

/// Declares the tables of a file in schema `name`, by a server of that name.
fn import(client: &mut Client, name: &str, path: &Path) {
    let path = path.display();
    execute(
        client,
        &format!(
            "CREATE SERVER {name} FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (path '{path}');
             CREATE SCHEMA {name}; IMPORT FOREIGN SCHEMA main FROM SERVER {name} INTO {name}"
        ),
    );
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names
}

/// Copies of files that a server has.
fn copies(cluster: &Cluster) -> Vec<PathBuf> {
    let mut names = names(&cluster.data().join("base/pgsql_tmp"));
    names.retain(|name| name.to_string_lossy().contains(".vector_embed."));
    names
}

#[test]
fn a_living_writer_is_read_beside() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let directory = directory();
    let path = directory.join("live.db");
    let writer = living_writer(&path);
    import(&mut client, "live", &path);
    let before = names(&directory);

    execute(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT id FROM live.t; FETCH 1 FROM c");
    writer.execute_batch("INSERT INTO t VALUES (3, 'three')").expect("the writer is not blocked");
    assert_eq!(client.query("FETCH ALL FROM c", &[]).expect("rows").len(), 1, "the snapshot stays");
    assert_eq!(count(&mut client, "SELECT count(*) FROM live.t"), 3, "the next statement has its own");
    assert!(copies(&cluster).is_empty(), "nothing is copied");
    execute(&mut client, "COMMIT");
    assert_eq!(names(&directory), before, "no file is made or removed");
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("no lock is left behind");
}

/// A database and its log as a crash of their writer leaves them.
fn crashed(directory: &Path) -> PathBuf {
    let path = directory.join("live.db");
    let _writer = living_writer(&path);
    let left = directory.join("left.db");
    for ending in ["", "-wal"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        fs::copy(beside(&path), beside(&left)).expect("copied");
    }
    left
}

#[test]
fn copies_go_with_their_transaction() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let directory = directory();
    let path = crashed(&directory);
    import(&mut client, "old", &path);
    assert!(copies(&cluster).is_empty());
    let before = names(&directory);

    execute(&mut client, "BEGIN");
    assert_eq!(count(&mut client, "SELECT count(*) FROM old.t"), 2);
    assert_eq!(count(&mut client, "SELECT count(*) FROM old.t a JOIN old.t b USING (id)"), 2);
    assert_eq!(copies(&cluster).len(), 1, "one copy serves the transaction");
    execute(&mut client, "COMMIT");
    assert!(copies(&cluster).is_empty());

    let failing = "SELECT 1 / (id - 2) FROM old.t";
    assert_eq!(refused(client.query(failing, &[])).code().code(), "22012");
    // The client is told of the error before the transaction has ended.
    wait::until("an error removes it", || copies(&cluster).is_empty());

    execute(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM old.t; FETCH 1 FROM c");
    assert_eq!(copies(&cluster).len(), 1);
    let mut other = cluster.connect();
    let pid = backend(&mut client);
    other.query_one("SELECT pg_terminate_backend($1)", &[&pid]).expect("terminated");
    wait::until("the session's copy has gone", || copies(&cluster).is_empty());
    assert_eq!(names(&directory), before, "no file is made or removed");
}

#[test]
fn copies_do_not_outlive_a_crash() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let path = crashed(&directory());
    import(&mut client, "old", &path);
    execute(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM old.t; FETCH 1 FROM c");
    assert_eq!(copies(&cluster).len(), 1);
    process::send(backend(&mut client), Signal::KILL);
    wait::until("the server has restarted", || {
        let config = cluster.config();
        config.connect(postgres::NoTls).is_ok_and(|mut client| client.simple_query("SELECT 1").is_ok())
            && copies(&cluster).is_empty()
    });
}

#[test]
fn copies_keep_to_temp_file_limit() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let path = crashed(&directory());
    import(&mut client, "old", &path);
    execute(&mut client, "SET temp_file_limit = '1kB'");
    assert_error(&refused(client.query("SELECT * FROM old.t", &[])), "53400");
}

/// Files without a name that a process has open.
fn nameless_files(pid: Pid) -> usize {
    let links = names(Path::new(&format!("/proc/{pid}/fd"))).into_iter().flat_map(fs::read_link);
    links
        .filter(|link| link.starts_with("/var/tmp") && link.to_string_lossy().ends_with(" (deleted)"))
        .count()
}

#[test]
fn what_views_sort_keeps_to_temp_file_limit() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let path = directory().join("sorted.db");
    let sorted = "CREATE VIEW sorted AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000) \
                  SELECT i, hex(randomblob(500)) AS x FROM n ORDER BY x";
    Connection::open(&path).and_then(|connection| connection.execute_batch(sorted)).expect("good SQL");
    import(&mut client, "old", &path);
    let pid = backend(&mut client);
    for (limit, files) in [("-1", 1), ("1GB", 0)] {
        execute(&mut client, &format!("SET temp_file_limit = '{limit}'"));
        execute(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM old.sorted; FETCH 1 FROM c");
        assert_eq!(nameless_files(pid), files, "with limit {limit}");
        execute(&mut client, "COMMIT");
    }
}

#[test]
fn a_copy_under_way_goes_with_its_session() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    let path = crashed(&directory());
    import(&mut client, "old", &path);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("a file");
    file.set_len(1 << 36).expect("a hole takes no space"); // a copy does, and never ends
    let pid = backend(&mut client);
    let mut other = cluster.connect();
    thread::scope(|scope| {
        let _canceller = Canceller::of(&mut client);
        let query = scope.spawn(move || client.execute("SELECT * FROM old.t", &[]));
        wait::until("it is copied", || !copies(&cluster).is_empty());
        other.query_one("SELECT pg_terminate_backend($1)", &[&pid]).expect("terminated");
        assert_terminated(query.join().expect("the session's thread ends"));
    });
    wait::until("the copy has gone", || copies(&cluster).is_empty());
}

/// Ends a query that never ends by itself, and returns what its session was told.
fn ended(cluster: &Cluster, mut client: Client, query: &str, function: &str) -> Result<u64, postgres::Error> {
    let pid: Pid = backend(&mut client);
    let mut observer = cluster.connect_to("endless");
    thread::scope(|scope| {
        let _canceller = Canceller::of(&mut client);
        let call = scope.spawn(move || client.execute(query, &[]));
        wait::until("the query runs", || {
            let active = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
            observer.query_one(active, &[&pid]).expect("the view").get::<_, i64>(0) == 1
        });
        // Between two messages of a statement a cancel is ignored, so one may not be enough.
        wait::until("the query has ended", || {
            let signal = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE pid = $1");
            observer.query_opt(&signal, &[&pid]).expect("the function can be called");
            thread::sleep(Duration::from_millis(100));
            call.is_finished()
        });
        call.join().expect("the session's thread ends")
    })
}

#[test]
fn a_long_step_can_be_cancelled() {
    let cluster = Shared::get();
    let mut client = cluster.database("endless");
    let path = directory().join("endless.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "CREATE VIEW counted AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) c FROM n; \
             CREATE VIEW rows AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        )
        .expect("good SQL");
    drop(connection);
    import(&mut client, "endless", &path);
    for query in ["SELECT * FROM endless.counted", "SELECT count(*) FROM endless.rows"] {
        let session = cluster.connect_to("endless");
        let cancelled = ended(&cluster, session, query, "pg_cancel_backend");
        assert_eq!(refused(cancelled).code().code(), "57014", "{query}");
        assert_terminated(ended(&cluster, cluster.connect_to("endless"), query, "pg_terminate_backend"));
    }
    let timed_out =
        with_timeout(&mut client, 100, |client| client.query("SELECT * FROM endless.counted", &[]));
    let timed_out = refused(timed_out);
    assert!(timed_out.message().contains("statement timeout"), "{timed_out:?}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM (SELECT 1 FROM endless.rows LIMIT 3) r"), 3);
}

#[test]
fn half_a_gigabyte_does_not_stay_with_the_session() {
    let cluster = Shared::get();
    let mut client = cluster.database("sqlite_memory");
    let path = directory().join("large.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA synchronous = off; PRAGMA journal_mode = off; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, y BLOB); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250000) \
             INSERT INTO t SELECT i, hex(zeroblob(500)), zeroblob(1000) FROM n",
        )
        .expect("good SQL");
    drop(connection);
    assert!(fs::metadata(&path).expect("a file").len() > 500_000_000);
    import(&mut client, "large", &path);
    let pid = backend(&mut client);
    execute(&mut client, "COPY (SELECT * FROM large.t LIMIT 1000) TO '/dev/null'");
    let before = process::memory(pid, "RssAnon");
    execute(&mut client, "COPY (SELECT * FROM large.t) TO '/dev/null'");
    let after = process::memory(pid, "RssAnon");
    assert!(after - before < 20 << 10, "from {before} to {after} kB");
    let plan = client.query("EXPLAIN SELECT * FROM large.t", &[]).expect("a plan");
    let planned: String = plan[0].get(0);
    let rows: f64 = planned
        .split_once("rows=")
        .and_then(|(_, rest)| rest.split_once(' '))
        .and_then(|(rows, _)| rows.parse().ok())
        .expect("an estimate");
    assert!((125_000.0..=500_000.0).contains(&rows), "{planned}");
    fs::remove_file(&path).expect("removed");
}

#[test]
fn a_damaged_page_costs_its_rows_and_no_others() {
    let cluster = Shared::get();
    let mut client = cluster.database("sqlite_damage");
    let path = directory().join("damaged.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
             INSERT INTO t SELECT i, 'row ' || i FROM n",
        )
        .expect("good SQL");
    drop(connection);
    import(&mut client, "damaged", &path);
    let mut bytes = fs::read(&path).expect("a file");
    let page = 4096;
    bytes[4 * page..5 * page].fill(0xee); // a leaf
    fs::write(&path, bytes).expect("written");

    let error = refused(client.query("SELECT * FROM damaged.t", &[]));
    assert_error(&error, "HV00M");
    assert!(
        error.detail().is_some_and(|detail| detail.contains("In table \"t\", after rowid ")),
        "{error:?}"
    );
    // Who reads a view learns no rowid.
    execute(
        &mut client,
        "CREATE ROLE sqlite_damage_reader; CREATE VIEW public.some AS SELECT x FROM damaged.t WHERE x LIKE '%1';
         GRANT SELECT ON public.some TO sqlite_damage_reader; SET ROLE sqlite_damage_reader",
    );
    let error = refused(client.query("SELECT x FROM public.some", &[]));
    assert_error(&error, "HV00M");
    assert!(!format!("{error:?}").contains("after rowid"), "{error:?}");
    execute(&mut client, "RESET ROLE");
    execute(&mut client, "ALTER SERVER damaged OPTIONS (ADD on_error 'null')");
    let left = count(&mut client, "SELECT count(*) FROM damaged.t");
    assert!((1500..2000).contains(&left), "{left} rows are left");
    assert_eq!(count(&mut client, "SELECT count(*) FROM damaged.t WHERE x = 'row ' || id"), left);
    let found =
        "SELECT count(*) FROM vector_embed.sqlite_check('damaged') WHERE problem LIKE '%cannot be read%'";
    assert_eq!(count(&mut client, found), 1);
}

#[test]
fn text_follows_the_database_s_encoding() {
    let cluster = Shared::get();
    let mut admin = cluster.connect();
    execute(&mut admin, "CREATE DATABASE sqlite_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let mut client = cluster.connect_to("sqlite_latin1");
    execute(
        &mut client,
        "SET client_encoding = 'UTF8'; SET client_min_messages = error; CREATE EXTENSION vector_embed CASCADE",
    );
    let path = directory().join("words.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES (1, 'straße'), (2, 'улица')")
        .expect("good SQL");
    drop(connection);
    import(&mut client, "words", &path);
    let text: String =
        client.query_one("SELECT x FROM words.t WHERE x = 'straße'", &[]).expect("a row").get(0);
    assert_eq!(text, "straße");
    assert_eq!(count(&mut client, "SELECT octet_length(x)::bigint FROM words.t WHERE id = 1"), 6);
    let error = refused(client.query("SELECT x FROM words.t", &[]));
    assert_error(&error, "HV024");
    assert!(error.detail().is_some_and(|detail| detail.contains("rowid 2")), "{error:?}");
    execute(&mut client, "ALTER SERVER words OPTIONS (ADD on_error 'null')");
    assert_eq!(count(&mut client, "SELECT count(*) FROM words.t WHERE x IS NULL"), 1);
}

#[test]
fn explain_does_not_open_the_file() {
    let cluster = Shared::get();
    let mut client = cluster.database("sqlite_explain");
    let path = directory().join("gone.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch("CREATE TABLE t(\"ключ\" TEXT PRIMARY KEY, x INTEGER) WITHOUT ROWID; INSERT INTO t VALUES ('a', 1)")
        .expect("good SQL");
    drop(connection);
    import(&mut client, "gone", &path);
    execute(
        &mut client,
        "SET plan_cache_mode = force_generic_plan; PREPARE q (bigint) AS SELECT x FROM gone.t WHERE x = $1; EXECUTE q(1)",
    );
    // As auto_explain does it when a statement has ended well.
    fs::remove_file(&path).expect("removed");
    let plan = client.query("EXPLAIN (COSTS OFF) EXECUTE q(1)", &[]).expect("a plan");
    let plan: String = plan.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    assert!(plan.contains("SQLite Query: SELECT \"ключ\", \"x\" FROM \"t\" WHERE \"x\" = ?"), "{plan}");
    assert_eq!(refused(client.query("EXECUTE q(1)", &[])).code().code(), "HV00N");
}

#[test]
fn a_value_beyond_a_limit_of_its_type_is_one_that_does_not_fit() {
    let cluster = Shared::get();
    let mut client = cluster.database("sqlite_limits");
    let path = directory().join("deep.db");
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x JSON); \
             INSERT INTO t VALUES (1, '[1]'), (2, printf('%.*c', 500000, '[') || printf('%.*c', 500000, ']'))",
        )
        .expect("good SQL");
    drop(connection);
    import(&mut client, "deep", &path);
    execute(&mut client, "ALTER FOREIGN TABLE deep.t ALTER COLUMN x TYPE jsonb");
    let error = refused(client.query("SELECT x FROM deep.t", &[]));
    assert_error(&error, "HV024");
    assert!(error.detail().is_some_and(|detail| detail.contains("rowid 2")), "{error:?}");
    execute(&mut client, "ALTER SERVER deep OPTIONS (ADD on_error 'null')");
    assert_eq!(count(&mut client, "SELECT count(x) FROM deep.t"), 1);
    assert_eq!(count(&mut client, "SELECT count(*) FROM deep.t WHERE x IS NULL"), 1);
}

#[test]
fn a_dump_has_servers_and_foreign_tables() {
    let cluster = Shared::get();
    let mut client = cluster.database("sqlite_dump");
    let path = directory().join("words.db");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)").expect("good SQL");
    drop(connection);
    import(&mut client, "words", &path);
    let dump = vector_embed_e2e::account::output(
        cluster.client_program("pg_dump").args(["--dbname", "sqlite_dump"]),
    );
    let server = format!(
        "CREATE SERVER words FOREIGN DATA WRAPPER vector_embed_sqlite OPTIONS (\n    path '{}'\n)",
        path.display()
    );
    assert!(dump.contains(&server), "{dump}");
    assert!(
        dump.contains("CREATE FOREIGN TABLE words.t (\n    id bigint NOT NULL,\n    x text\n)"),
        "{dump}"
    );
    assert!(!dump.contains("CREATE FOREIGN DATA WRAPPER"), "that is the extension's");
}
