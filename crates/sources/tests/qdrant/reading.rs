//! What is read is what the real client reads.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use vector_embed_sources::qdrant::Qdrant;
use vector_embed_sources::{Accepted, Comparison, Error, Filter, Operand, Operation, Source, Type};

use crate::support::{NOTES, Read, Server, by_id, copy_of_store, directory, expected, python, read, scan};

const MIXED: &str = "Mixed case & more";

fn numbers(json: &Json) -> Vec<f32> {
    json.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

/// Python's JSON tells large integers that serde_json makes floats of, as it does of what is read.
fn assert_notes(source: &Qdrant) {
    let rows = by_id(read(source, &scan("notes", &NOTES)).unwrap());
    let expected = expected("notes");
    assert_eq!(rows.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(rows.contains_key("18446744073709551615") && rows.contains_key("9223372036854775813"));
    for (id, row) in &rows {
        assert_eq!(row[0], Read::Json(expected[id].payload.clone()), "{id}");
        assert_eq!(row[1], Read::Vector(numbers(&expected[id].vector)), "{id}");
    }
}

fn assert_mixed(source: &Qdrant) {
    let columns = [
        ("id", Type::Text),
        ("text", Type::Vector(Some(3))),
        ("id_vector", Type::Vector(Some(2))),
        ("tokens", Type::Jsonb),
        ("bm25", Type::Jsonb),
    ];
    let rows = by_id(read(source, &scan(MIXED, &columns)).unwrap());
    let expected = expected(MIXED);
    assert_eq!(rows.len(), expected.len());
    for (id, row) in &rows {
        let vectors = &expected[id].vector;
        let dense = |name: &str| vectors.get(name).map_or(Read::Null, |vector| Read::Vector(numbers(vector)));
        let told = |name: &str| vectors.get(name).map_or(Read::Null, |vector| Read::Json(vector.clone()));
        assert_eq!(*row, [dense("text"), dense("id"), told("tokens"), told("bm25")], "{id}");
    }
}

fn assert_catalog(source: &Qdrant) {
    let columns = [
        ("name", Type::Text),
        ("points", Type::Bigint),
        ("dimensions", Type::Bigint),
        ("distance", Type::Text),
    ];
    let rows = by_id(read(source, &scan("collections", &columns)).unwrap());
    let text = |text: &str| Read::Text(text.to_owned());
    let expected = BTreeMap::from([
        (MIXED.to_owned(), vec![Read::Integer(40), Read::Null, Read::Null]),
        ("empty".to_owned(), vec![Read::Integer(0), Read::Integer(4), text("Manhattan")]),
        ("notes".to_owned(), vec![Read::Integer(1000), Read::Integer(8), text("Cosine")]),
    ]);
    assert_eq!(rows, expected);
}

fn assert_tables(source: &Qdrant) {
    let tables = source.tables(&|_| true).unwrap();
    let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, [MIXED, "empty", "notes", "collections"]);
    let columns: Vec<_> = tables[0].columns.iter().map(|column| (column.name.as_str(), column.of)).collect();
    let expected = [
        ("id", Type::Text),
        ("payload", Type::Jsonb),
        ("id_vector", Type::Vector(Some(2))),
        ("text", Type::Vector(Some(3))),
        ("tokens", Type::Jsonb),
        ("bm25", Type::Jsonb),
    ];
    assert_eq!(columns, expected);
    let one = source.tables(&|name| name == "empty").unwrap();
    assert_eq!(one.len(), 1);
    assert!(read(source, &scan("empty", &[("id", Type::Text)])).unwrap().rows.is_empty());
}

/// Reads points by their ids.
fn assert_ids(source: &Qdrant) {
    let mut by_ids = scan("notes", &[("id", Type::Text)]);
    by_ids.filters = vec![Filter { column: "id".to_owned(), of: Type::Text, operation: Operation::In }];
    let plan = source.plan(&by_ids, &by_ids.filters).unwrap();
    assert_eq!((plan.accepted, plan.estimate.rows), (vec![Accepted::Fully], 1000.0));
    let text = |text: &str| Operand::Text(text.to_owned());
    let uuid = "00000000-0000-0000-0000-000000000003";
    let asked = ["1", "01", "1", uuid, "18446744073709551615", "7", "no id", " 2"];
    by_ids.operands = vec![Operand::Several(asked.map(text).to_vec())];
    let found = by_id(read(source, &by_ids).unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), [uuid, "1", "18446744073709551615"]);

    by_ids.filters[0].operation = Operation::Compare(Comparison::Equal);
    for (operand, count) in [(text("2"), 1), (text("7"), 0), (Operand::Null, 0), (text("x"), 0)] {
        by_ids.operands = vec![operand.clone()];
        assert_eq!(read(source, &by_ids).unwrap().rows.len(), count, "{operand:?}");
    }
    // Other operands, and all of it, with the same rows.
    let mut rows = source.open(&by_ids).unwrap();
    for (operand, count) in [("1", 1), ("nothing", 0), ("2", 1)] {
        rows.rescan(&[text(operand)]).unwrap();
        let mut found = 0;
        while rows.next().unwrap() {
            found += 1;
        }
        assert_eq!(found, count, "{operand}");
    }
}

#[test]
fn a_local_store_is_read_as_the_real_client_reads_it() {
    let store = copy_of_store();
    let source = directory(&store.path().join("store"));
    assert_notes(&source);
    assert_mixed(&source);
    assert_catalog(&source);
    assert_tables(&source);
    assert_ids(&source);
}

#[test]
fn a_server_is_read_as_the_real_client_reads_it() {
    let mut server = Server::start();
    let mut source = server.source();
    for fetch_size in [256, 7, 1000, 10_000] {
        source.fetch_size = fetch_size;
        assert_notes(&source);
    }
    source.fetch_size = 3;
    assert_mixed(&source);
    assert_catalog(&source);
    assert_tables(&source);
    assert_ids(&source);
    let seen = server.seen();
    assert!(
        seen.iter().all(|request| request["encoding"].is_null() && request["has_key"] == false),
        "{seen:?}"
    );
}

/// Without this, all other tests of servers would say nothing of Qdrant.
#[test]
fn the_real_client_takes_the_substitute_for_a_server() {
    let server = Server::start();
    let made = crate::support::made();
    let output =
        python("check_server.py").arg(server.port.to_string()).arg(made.join("expected.json")).output();
    let output = output.expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let mut server = Server::start();
    let source = server.source();
    let mut asked = |scan: &vector_embed_sources::Scan| {
        read(&source, scan).unwrap();
        let mut seen = server.seen();
        seen.retain(|request| request["method"] == "POST");
        seen.iter().map(|request| request["body"].clone()).collect::<Vec<_>>()
    };
    let mut few = scan(MIXED, &[("text", Type::Vector(Some(3)))]);
    few.limit = Some(5);
    assert_eq!(
        asked(&few),
        [serde_json::json!({"limit": 5, "with_payload": false, "with_vector": ["text"]})]
    );
    let counted = scan(MIXED, &[]);
    assert_eq!(
        asked(&counted),
        [serde_json::json!({"limit": 256, "with_payload": false, "with_vector": false})]
    );
    let unnamed = asked(&scan("notes", &NOTES));
    assert_eq!(unnamed.len(), 4);
    assert_eq!(unnamed[0], serde_json::json!({"limit": 256, "with_payload": true, "with_vector": true}));
}

#[test]
fn what_is_not_there_is_told() {
    let server = Server::start();
    let store = copy_of_store();
    for source in [server.source(), directory(&store.path().join("store"))] {
        for name in ["nothing", "..", "", "notes/points", "../notes"] {
            let error = read(&source, &scan(name, &[])).unwrap_err();
            assert!(matches!(error, Error::NoTable { .. }), "{name}: {error:?}");
        }
        let error = read(&source, &scan("notes", &[("text", Type::Jsonb)])).unwrap_err();
        assert!(matches!(error, Error::NoColumn { .. }), "{error:?}");
        for (column, of) in [("embedding", Type::Bytea), ("payload", Type::Bigint), ("id", Type::Jsonb)] {
            let error = read(&source, &scan("notes", &[(column, of)])).unwrap_err();
            assert!(matches!(error, Error::Type { .. }), "{column}: {error:?}");
        }
        // A vector of other dimensions than the column has.
        let error = read(&source, &scan("notes", &[("embedding", Type::Vector(Some(9)))])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "value in column \"embedding\" of table \"notes\" cannot be read as vector(9)"
        );
        // An id beyond bigint, or that is a UUID.
        assert!(matches!(read(&source, &scan("notes", &[("id", Type::Bigint)])), Err(Error::Value(_))));
    }
}
