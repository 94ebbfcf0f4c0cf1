//! What values become.

use vector_embed_sources::sqlite::InvalidText;
use vector_embed_sources::{Error, OnError, Problem, Source, Type};

use crate::support::{Fixture, read, rest, scan};

/// What a value, written in SQLite's SQL, becomes in a column of a declared type.
fn becomes(declared: &str, value: &str, of: Type) -> Result<String, Problem> {
    let fixture = Fixture::new(&format!("CREATE TABLE t(x {declared}); INSERT INTO t VALUES ({value})"));
    match read(&fixture.source(), &scan("t", &[("x", of)])) {
        Ok(rows) => Ok(rows[0][0].clone()),
        Err(Error::Value(bad)) => {
            assert_eq!((bad.table.as_str(), bad.row.as_str(), bad.column.as_str()), ("t", "rowid 1", "x"));
            Err(bad.problem)
        }
        Err(other) => panic!("{other}"),
    }
}

fn ok(text: &str) -> Result<String, Problem> {
    Ok(text.to_owned())
}

#[test]
fn integers() {
    let integer = |value| becomes("INTEGER", value, Type::Bigint);
    assert_eq!(integer("9223372036854775807"), ok("9223372036854775807"));
    assert_eq!(integer("'12'"), ok("12"));
    assert_eq!(integer("12.0"), ok("12"));
    assert_eq!(integer("NULL"), ok("NULL"));
    assert_eq!(integer("12.5"), Err(Problem::Inexact));
    assert_eq!(integer("9223372036854775808"), Err(Problem::Range));
    assert_eq!(integer("9e999"), Err(Problem::Range));
    assert_eq!(integer("'n/a'"), Err(Problem::Kind("text")));
    assert_eq!(integer("''"), Err(Problem::Empty));
    assert_eq!(integer("x'31'"), Err(Problem::Kind("a blob")));
    assert_eq!(becomes("INTEGER", "32768", Type::Smallint), Err(Problem::Range));
    assert_eq!(becomes("INTEGER", "-2147483648", Type::Integer), ok("-2147483648"));
    assert_eq!(becomes("TEXT", "'12'", Type::Bigint), ok("12"));
    assert_eq!(becomes("TEXT", "'12x'", Type::Bigint), Err(Problem::Syntax));
    assert_eq!(becomes("TEXT", "'9223372036854775808'", Type::Bigint), Err(Problem::Range));
}

#[test]
fn numbers_with_fractions() {
    let double = |value| becomes("REAL", value, Type::Double);
    assert_eq!(double("1"), ok("1.0"));
    assert_eq!(double("9e999"), ok("inf"));
    assert_eq!(double("'unknown'"), Err(Problem::Kind("text")));
    assert_eq!(becomes("INTEGER", "9007199254740993", Type::Double), Err(Problem::Inexact));
    assert_eq!(becomes("INTEGER", "-9223372036854775808", Type::Double), ok("-9.223372036854776e18"));
    assert_eq!(becomes("TEXT", "'1.5e3'", Type::Double), ok("1500.0"));
    assert_eq!(becomes("TEXT", "'1e999'", Type::Double), Err(Problem::Range));
    assert_eq!(becomes("TEXT", "'inf'", Type::Double), Err(Problem::Syntax));
    assert_eq!(becomes("REAL", "1e300", Type::Real), Err(Problem::Range));
    assert_eq!(becomes("REAL", "1e-300", Type::Real), Err(Problem::Range));
    assert_eq!(becomes("REAL", "0.1", Type::Real), ok("0.10000000149011612"));

    let numeric = |value| becomes("DECIMAL(10,2)", value, Type::Numeric);
    assert_eq!(numeric("12.50"), ok("12.5"));
    assert_eq!(numeric("0.1"), ok("0.1"));
    assert_eq!(numeric("9223372036854775807"), ok("9223372036854775807"));
    assert_eq!(numeric("1e300"), ok("1e300"));
    assert_eq!(numeric("-9e999"), ok("-Infinity"));
    assert_eq!(numeric("'12,50'"), Err(Problem::Syntax));
    assert_eq!(
        becomes("TEXT", "'12345678901234567890.1234567890'", Type::Numeric),
        ok("12345678901234567890.1234567890")
    );
}

#[test]
fn truth() {
    let boolean = |value| becomes("BOOLEAN", value, Type::Boolean);
    for value in ["1", "'true'", "'T'", "'yes'", "'on'", "'1'"] {
        assert_eq!(boolean(value), ok("true"), "{value}");
    }
    for value in ["0", "'False'", "'f'", "'no'", "'off'"] {
        assert_eq!(boolean(value), ok("false"), "{value}");
    }
    assert_eq!(boolean("2"), Err(Problem::Range));
    assert_eq!(boolean("'maybe'"), Err(Problem::Syntax));
    assert_eq!(boolean("0.5"), Err(Problem::Kind("a real number")));
}

#[test]
fn text_and_bytes() {
    assert_eq!(becomes("TEXT", "12", Type::Text), ok("12"));
    assert_eq!(becomes("", "12", Type::Text), ok("12"));
    assert_eq!(becomes("", "0.1", Type::Text), ok("0.1"));
    assert_eq!(becomes("TEXT", "x'6162'", Type::Text), Err(Problem::Kind("a blob")));
    assert_eq!(becomes("TEXT", "'a' || char(0) || 'b'", Type::Text), Err(Problem::Nul));
    assert_eq!(becomes("TEXT", "CAST(x'61ff' AS TEXT)", Type::Text), Err(Problem::Encoding));
    assert_eq!(becomes("BLOB", "x'00ff'", Type::Bytea), ok("[0, 255]"));
    assert_eq!(becomes("BLOB", "'text'", Type::Bytea), Err(Problem::Kind("text")));
    assert_eq!(becomes("JSON", "'{\"a\": [1]}'", Type::Jsonb), ok("{\"a\": [1]}"));
}

#[test]
fn text_that_postgresql_cannot_have_follows_the_option() {
    let fixture = Fixture::new(
        "CREATE TABLE t(x TEXT); INSERT INTO t VALUES ('a' || char(0) || 'b'), (CAST(x'61ff62' AS TEXT)), ('fine')",
    );
    let mut source = fixture.source();
    let scan = scan("t", &[("x", Type::Text)]);
    source.invalid_text = InvalidText::Strip;
    assert_eq!(read(&source, &scan).expect("rows"), [["ab"], ["ab"], ["fine"]]);
    source.invalid_text = InvalidText::Hex;
    assert_eq!(read(&source, &scan).expect("rows"), [["\\x610062"], ["\\x61ff62"], ["fine"]]);
}

#[test]
fn times() {
    let at = |value| becomes("DATETIME", value, Type::Timestamptz);
    assert_eq!(at("'2000-01-01 01:00:00'"), ok("0"), "in the zone of the server's option");
    assert_eq!(at("'2000-01-01T00:00:00Z'"), ok("0"));
    assert_eq!(at("946684800"), ok("0"));
    assert_eq!(at("946684800.25"), ok("250000"));
    assert_eq!(at("946684800000"), ok("0"));
    assert_eq!(at("2451544.5"), ok("0"));
    assert_eq!(at("''"), Err(Problem::Empty));
    assert_eq!(at("'yesterday'"), Err(Problem::Syntax));
    assert_eq!(at("9223372036854775807"), Err(Problem::Range));
    assert_eq!(becomes("DATE", "'2000-01-03'", Type::Date), ok("2"));
    assert_eq!(becomes("DATE", "'2000-01-03 10:00'", Type::Date), Err(Problem::Inexact));
}

#[test]
fn uuids_and_vectors() {
    let hex = "00112233445566778899aabbccddeeff";
    assert_eq!(becomes("TEXT", "'00112233-4455-6677-8899-AABBCCDDEEFF'", Type::Uuid), ok(hex));
    assert_eq!(becomes("BLOB", &format!("x'{hex}'"), Type::Uuid), ok(hex));
    assert_eq!(becomes("TEXT", "'00112233-4455-6677-8899-AABBCCDDEEF'", Type::Uuid), Err(Problem::Syntax));
    let vector = |value| becomes("BLOB", value, Type::Vector(Some(2)));
    assert_eq!(vector("x'0000803f00000040'"), ok("[1.0, 2.0]"));
    assert_eq!(vector("'[1, 2.5]'"), ok("[1.0, 2.5]"));
    assert_eq!(vector("x'0000803f'"), Err(Problem::Dimensions { expected: 2, found: 1 }));
    assert_eq!(vector("x'0000803f0000c07f'"), Err(Problem::NotFinite));
    assert_eq!(vector("x'00'"), Err(Problem::Syntax));
}

#[test]
fn what_does_not_fit_is_null_and_counted_where_that_is_asked_for() {
    let fixture = Fixture::new(
        "CREATE TABLE t(n INTEGER, r REAL); INSERT INTO t VALUES (1, 'x'), ('n/a', 2), ('', NULL)",
    );
    let mut scan = scan("t", &[("n", Type::Bigint), ("r", Type::Double)]);
    scan.on_error = OnError::Null;
    let mut rows = Source::open(&fixture.source(), &scan).expect("opened");
    let all = rest(&mut *rows, 2).expect("no error");
    assert_eq!(all, [["1", "NULL"], ["NULL", "2.0"], ["NULL", "NULL"]]);
    assert_eq!(rows.losses().values, 3);
    match rows.losses().first.as_deref() {
        Some(Error::Value(bad)) => assert_eq!((bad.value.as_str(), bad.column.as_str()), ("'x'", "r")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_are_named_by_what_they_have() {
    let fixture = Fixture::new(
        "CREATE TABLE k(a TEXT, b INTEGER, n INTEGER, PRIMARY KEY (b, a)) WITHOUT ROWID; INSERT INTO k VALUES ('x', 1, 'bad'); \
         CREATE TABLE s(rowid TEXT, n INTEGER); INSERT INTO s VALUES ('shadow', 'bad'); \
         CREATE VIEW v AS SELECT n FROM k",
    );
    let name = |table: &str| match read(&fixture.source(), &scan(table, &[("n", Type::Bigint)])) {
        Err(Error::Value(bad)) => bad.row,
        other => panic!("{other:?}"),
    };
    assert_eq!(name("k"), "key (1, 'x')");
    assert_eq!(name("s"), "rowid 1");
    assert_eq!(name("v"), "row 1");
}

#[test]
fn declared_types_become_those_of_postgresql() {
    let fixture = Fixture::new(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b BIGINT UNSIGNED NOT NULL, c VARCHAR(10), d BOOLEAN, e DOUBLE PRECISION, \
         f DATETIME, g DATE, h TIMESTAMP(6), i BLOB, j JSON, k DECIMAL(10, 2), l, m uuid, n numeric, \
         o INTEGER GENERATED ALWAYS AS (b + 1))",
    );
    let tables = fixture.source().tables(&|_| true).expect("tables");
    let types: Vec<String> = tables[0].columns.iter().map(|column| column.of.to_string()).collect();
    assert_eq!(
        types,
        [
            "bigint",
            "bigint",
            "text",
            "boolean",
            "double precision",
            "timestamp with time zone",
            "timestamp with time zone",
            "timestamp with time zone",
            "bytea",
            "text",
            "numeric",
            "text",
            "text",
            "numeric",
            "bigint"
        ]
    );
    let not_null: Vec<bool> = tables[0].columns.iter().map(|column| column.not_null).collect();
    assert_eq!(not_null[..3], [true, true, false]);
}

#[test]
fn text_in_utf_16_is_read() {
    let fixture = Fixture::new(
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(x TEXT); INSERT INTO t VALUES ('привет, 世界')",
    );
    assert_eq!(read(&fixture.source(), &scan("t", &[("x", Type::Text)])).expect("rows"), [["привет, 世界"]]);
}
