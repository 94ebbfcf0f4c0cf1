//! How many rows there seem to be.

use vector_embed_sources::{Source, Type};

use crate::support::{Fixture, scan};

/// Fails unless the estimate is within a factor of two of what is there.
fn is_close(sql: &str, rows: f64) {
    let fixture = Fixture::new(sql);
    let plan = fixture.source().plan(&scan("t", &[("id", Type::Bigint)]), &[]).expect("a plan");
    let estimated = plan.estimate.rows;
    assert!(estimated >= rows / 2.0 && estimated <= rows * 2.0, "{estimated} instead of {rows}: {sql}");
}

fn numbers(count: u32, what: &str) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) INSERT INTO t SELECT {what} FROM n"
    )
}

#[test]
fn estimates_are_close() {
    let plain = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); ";
    is_close(&(plain.to_owned() + &numbers(10, "i, 'x'")), 10.0);
    is_close(&(plain.to_owned() + &numbers(5000, "i, 'x'")), 5000.0);
    is_close(&(plain.to_owned() + &numbers(300_000, "i, 'some text of no great length'")), 300_000.0);
    // Sparse rowids.
    is_close(&(plain.to_owned() + &numbers(100_000, "i * 1000000, 'x'")), 100_000.0);
    // Rows that grow.
    is_close(&(plain.to_owned() + &numbers(20_000, "i, zeroblob(i / 20)")), 20_000.0);
    // Rows of many pages.
    is_close(&(plain.to_owned() + &numbers(300, "i, zeroblob(50000)")), 300.0);
    let keyed = "CREATE TABLE t(id INTEGER, x TEXT PRIMARY KEY) WITHOUT ROWID; ";
    is_close(&(keyed.to_owned() + &numbers(200_000, "i, 'key ' || i")), 200_000.0);
}

#[test]
fn an_empty_table_has_no_rows() {
    let fixture = Fixture::new("CREATE TABLE t(id INTEGER)");
    let plan = fixture.source().plan(&scan("t", &[("id", Type::Bigint)]), &[]).expect("a plan");
    assert_eq!(plan.estimate.rows, 0.0);
}
