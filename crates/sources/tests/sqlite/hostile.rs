//! Files that mean harm.

use std::cell::Cell;

use rusqlite::config::DbConfig;
use vector_embed_sources::{Error, Source, Type};

use crate::support::{Fixture, read, scan};

thread_local! {
    static PATIENCE: Cell<u32> = const { Cell::new(0) };
}

/// Loses patience after some looks.
fn impatient() -> bool {
    PATIENCE.set(PATIENCE.get().saturating_sub(1));
    PATIENCE.get() == 0
}

#[test]
fn a_view_that_never_ends_is_interrupted() {
    let fixture = Fixture::new(
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) c FROM n",
    );
    let mut source = fixture.source();
    source.host.interrupted = impatient;
    PATIENCE.set(1000);
    let result = read(&source, &scan("v", &[("c", Type::Bigint)]));
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
}

#[test]
fn rows_can_be_interrupted_between_them() {
    let fixture = Fixture::new("CREATE TABLE t(id INTEGER); INSERT INTO t VALUES (1), (2), (3)");
    let mut source = fixture.source();
    source.host.interrupted = impatient;
    PATIENCE.set(1000);
    let mut rows = Source::open(&source, &scan("t", &[("id", Type::Bigint)])).expect("opened");
    assert!(rows.next().expect("a row"));
    PATIENCE.set(1);
    assert!(matches!(rows.next(), Err(Error::Interrupted)));
}

fn unreadable(sql: &str) -> String {
    let fixture = Fixture::new(sql);
    match read(&fixture.source(), &scan("v", &[("x", Type::Text)])) {
        Err(Error::Read { detail, .. } | Error::Open { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn views_do_what_reading_needs_and_nothing_else() {
    let detail = unreadable("CREATE VIEW v AS SELECT load_extension('/tmp/x.so') AS x");
    assert!(detail.contains("not authorized") || detail.contains(" use of "), "{detail}");
    let detail = unreadable("CREATE VIEW v AS SELECT fts3_tokenizer('simple') AS x");
    assert!(detail.contains("not authorized") || detail.contains(" use of "), "{detail}");
    let detail = unreadable("CREATE VIEW v AS SELECT name AS x FROM pragma_database_list");
    assert!(detail.contains("not authorized") || detail.contains(" use of "), "{detail}");
    let detail = unreadable("CREATE VIEW v AS SELECT name AS x FROM missing");
    assert!(detail.contains("no such table"), "{detail}");
}

#[test]
fn views_cannot_take_all_memory() {
    let detail = unreadable("CREATE VIEW v AS SELECT hex(zeroblob(1000000000)) AS x");
    assert!(detail.contains("too big"), "{detail}");
}

#[test]
fn patterns_of_views_are_short() {
    let pattern =
        |length: usize| format!("CREATE VIEW v AS SELECT 'a' LIKE '{}' AS x", "%a".repeat(length / 2));
    let detail = unreadable(&pattern(1002));
    assert!(detail.contains("too complex"), "{detail}");
    let fixture = Fixture::new(&pattern(1000));
    assert_eq!(read(&fixture.source(), &scan("v", &[("x", Type::Text)])).expect("rows"), [["0"]]);
}

#[test]
fn virtual_tables_and_what_is_theirs_are_left_out() {
    let fixture = Fixture::new(
        "CREATE TABLE t(x TEXT); CREATE TABLE words_old(x TEXT); CREATE VIRTUAL TABLE words USING fts5(x); \
         CREATE VIRTUAL TABLE s USING dbstat",
    );
    let names: Vec<String> =
        fixture.source().tables(&|_| true).expect("tables").into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["t", "words_old"]);
    let result = read(&fixture.source(), &scan("words", &[("x", Type::Text)]));
    assert!(matches!(result, Err(Error::NoTable { .. })), "{result:?}");
}

#[test]
fn a_table_named_after_a_virtual_one_is_the_user_s_unless_the_module_makes_it() {
    let fixture = Fixture::new(
        "CREATE TABLE notes_content(id INTEGER PRIMARY KEY, t TEXT); \
         CREATE VIRTUAL TABLE video USING fts5(t); CREATE TABLE video_segments(id INTEGER); \
         CREATE TABLE video_chunks(id INTEGER); CREATE VIRTUAL TABLE notes USING fts5(t, content = 'notes_content'); \
         CREATE VIRTUAL TABLE \"old words\" USING fts4(t); CREATE TABLE \"old words_data\"(id INTEGER); \
         CREATE VIRTUAL TABLE places USING rtree(id, x0, x1); CREATE TABLE places_info(id INTEGER)",
    );
    let names: Vec<String> =
        fixture.source().tables(&|_| true).expect("tables").into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["notes_content", "old words_data", "places_info", "video_chunks", "video_segments"]);
}

#[test]
fn a_schema_that_was_tampered_with_is_an_error() {
    let fixture = Fixture::new("CREATE TABLE t(x TEXT); CREATE TABLE u(x TEXT)");
    let connection = fixture.connect();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).expect("set");
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 900 WHERE name = 't'",
        )
        .expect("written");
    drop(connection);
    let result = read(&fixture.source(), &scan("t", &[("x", Type::Text)]));
    assert!(
        matches!(result, Err(Error::Damaged { .. } | Error::Open { .. } | Error::Read { .. })),
        "{result:?}"
    );
}

#[test]
fn a_name_that_is_no_column_is_not_taken_for_text() {
    let fixture = Fixture::new("CREATE TABLE t(x TEXT); INSERT INTO t VALUES ('x')");
    let result = read(&fixture.source(), &scan("t", &[("y", Type::Text)]));
    assert!(matches!(result, Err(Error::NoColumn { .. })), "{result:?}");
}

/// Makes `caf?` in the file a name that is not UTF-8.
fn spoil_names(fixture: &Fixture) {
    let mut bytes = std::fs::read(fixture.path()).expect("a file");
    let places: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, four)| four == b"caf?").map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 3] = 0xe9);
    std::fs::write(fixture.path(), bytes).expect("written");
}

#[test]
fn a_column_whose_name_is_not_utf_8_is_never_read_as_its_name() {
    let fixture = Fixture::new(
        "CREATE TABLE t(id INTEGER, \"caf?\" TEXT); INSERT INTO t VALUES (1, 'x'); CREATE TABLE u(id INTEGER)",
    );
    spoil_names(&fixture);
    match fixture.source().tables(&|_| true) {
        Err(Error::Unimportable { table, reason }) => {
            assert_eq!(
                (&*table, &*reason),
                ("t", "the name of its column \"caf\u{fffd}\" is not valid UTF-8")
            );
        }
        other => panic!("{other:?}"),
    }
    // Without it the table can be read.
    let columns = [("id", Type::Bigint), ("caf\u{fffd}", Type::Text)];
    assert_eq!(read(&fixture.source(), &scan("t", &columns[..1])).expect("rows"), [["1"]]);
    let result = read(&fixture.source(), &scan("t", &columns));
    assert!(matches!(result, Err(Error::NoColumn { .. })), "{result:?}");
    let found: Vec<_> =
        fixture.source().check().expect("a check").collect::<Result<_, _>>().expect("findings");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].table == "t" && found[0].problem.contains("not valid UTF-8"), "{found:?}");
}

#[test]
fn a_table_whose_name_is_not_utf_8_is_refused_and_not_left_out() {
    let fixture = Fixture::new("CREATE TABLE \"caf?\"(id INTEGER)");
    spoil_names(&fixture);
    match fixture.source().tables(&|_| true) {
        Err(Error::Unimportable { table, reason }) => {
            assert_eq!((&*table, &*reason), ("caf\u{fffd}", "its name is not valid UTF-8"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tables_that_are_too_wide_are_refused_by_name() {
    let columns: Vec<String> = (0..1601).map(|number| format!("c{number}")).collect();
    let fixture = Fixture::new(&format!("CREATE TABLE wide({})", columns.join(", ")));
    match fixture.source().tables(&|_| true) {
        Err(Error::Unimportable { table, reason }) => {
            assert_eq!(table, "wide");
            assert!(reason.contains("1601 columns"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
