//! Files with pages that cannot be read.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use vector_embed_sources::{Error, OnError, Source, Type};

use crate::support::{Fixture, read, rest, scan};

const ROWS: i64 = 5000;

/// A table of many pages, some leaves of which are overwritten: which of them, in order, `spoilt` tells.
fn damaged(spoilt: impl Fn(usize) -> bool) -> (Fixture, usize) {
    let fixture = Fixture::new(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO t SELECT i, 'row ' || i FROM n"
    ));
    let connection = fixture.connect();
    let mut statement = connection
        .prepare("SELECT pageno, ncell FROM dbstat WHERE name = 't' AND pagetype = 'leaf' ORDER BY path")
        .expect("dbstat");
    let pages: Vec<(i64, usize)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))
        .expect("pages")
        .collect::<Result<_, _>>()
        .expect("pages");
    drop(statement);
    drop(connection);
    let file = OpenOptions::new().write(true).open(fixture.path()).expect("a file");
    let mut lost = 0;
    for (_, (page, cells)) in pages.into_iter().enumerate().filter(|(at, _)| spoilt(*at)) {
        file.write_all_at(&[0xee; 4096], (page as u64 - 1) * 4096).expect("written");
        lost += cells;
    }
    (fixture, lost)
}

const COLUMNS: &[(&str, Type)] = &[("id", Type::Bigint), ("x", Type::Text)];

#[test]
fn a_damaged_page_is_an_error_that_tells_where() {
    let (fixture, _) = damaged(|at| at == 3);
    match read(&fixture.source(), &scan("t", COLUMNS)) {
        Err(Error::Damaged { detail, .. }) => {
            assert!(detail.starts_with("In table \"t\", after rowid "), "{detail}");
        }
        other => panic!("{:?}", other.map(|rows| rows.len())),
    }
}

fn what_is_left(spoilt: impl Fn(usize) -> bool) {
    let (fixture, lost) = damaged(spoilt);
    assert!(lost > 0);
    let mut scan = scan("t", COLUMNS);
    scan.on_error = OnError::Null;
    let mut rows = Source::open(&fixture.source(), &scan).expect("opened");
    let left = rest(&mut *rows, 2).expect("no error");
    assert_eq!(left.len(), ROWS as usize - lost, "all rows of other pages are read");
    for row in &left {
        assert_eq!(row[1], format!("row {}", row[0]));
    }
    let losses = rows.losses();
    assert!(losses.incomplete);
    assert!(matches!(losses.first.as_deref(), Some(Error::Damaged { .. })));
}

#[test]
fn rows_of_other_pages_are_read_where_the_first_is_damaged() {
    what_is_left(|at| at == 0);
}

#[test]
fn rows_of_other_pages_are_read_where_one_in_the_middle_is_damaged() {
    what_is_left(|at| at == 5);
}

#[test]
fn rows_of_other_pages_are_read_where_the_last_is_damaged() {
    what_is_left(|at| at == 19);
}

#[test]
fn rows_of_other_pages_are_read_where_neighbours_are_damaged() {
    what_is_left(|at| (4..8).contains(&at));
}

#[test]
fn the_count_of_rows_between_is_told() {
    let (fixture, lost) = damaged(|at| at == 5);
    let mut scan = scan("t", COLUMNS);
    scan.on_error = OnError::Null;
    let mut rows = Source::open(&fixture.source(), &scan).expect("opened");
    rest(&mut *rows, 2).expect("no error");
    assert_eq!(rows.losses().rows, lost as u64);
}

#[test]
fn what_ended_at_damage_can_be_read_again() {
    let (fixture, lost) = damaged(|at| at >= 10);
    let mut scan = scan("t", COLUMNS);
    scan.on_error = OnError::Null;
    let mut rows = Source::open(&fixture.source(), &scan).expect("opened");
    for _ in 0..2 {
        assert_eq!(rest(&mut *rows, 2).expect("no error").len(), ROWS as usize - lost);
        rows.rescan(&[]).expect("begun anew");
    }
}

#[test]
fn a_check_goes_on_after_damage() {
    let (fixture, _) = damaged(|at| at == 5);
    let connection = fixture.connect();
    connection
        .execute_batch("CREATE TABLE u(id INTEGER, n INTEGER); INSERT INTO u VALUES (1, 'none')")
        .expect("written");
    drop(connection);
    let findings: Vec<_> =
        fixture.source().check().expect("begun").collect::<Result<_, _>>().expect("no error");
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].problem.contains("cannot be read"), "{findings:?}");
    assert_eq!(findings[1].table, "u");
    assert_eq!(findings[1].value.as_deref(), Some("'none'"));
}

#[test]
fn a_file_that_was_cut_off_is_damaged() {
    let (fixture, _) = damaged(|_| false);
    let file = OpenOptions::new().write(true).open(fixture.path()).expect("a file");
    file.set_len(20 * 4096).expect("cut");
    let result = read(&fixture.source(), &scan("t", COLUMNS));
    assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
}
