//! Whole directories.

use rusqlite::Connection;
use vector_embed_sources::sqlite::InvalidText;
use vector_embed_sources::{
    Accepted, Comparison, Error, Filter, OnError, Operand, Operation, Problem, Scan, Source, Type, Value,
};

use crate::support::{
    COLUMNS, Collection, Ranking, Read, Store, VERSIONS, copy, directory, directory_of, distance, explain,
    ids, ids_or_null, read, same, scan,
};

fn without_nul(text: Option<String>) -> Option<String> {
    text.map(|text| text.replace('\0', ""))
}

fn check(store: &Store) {
    let source = |tenant: &str, database: &str| -> Box<dyn Source> {
        Box::new(directory_of(&store.path, tenant, database))
    };
    check_source(store, source, <[f32]>::to_vec);
}

/// That each collection is as chromadb tells it. `in_cosine`: what is compared of a vector in a collection by cosine.
pub(crate) fn check_source(
    store: &Store,
    source: impl Fn(&str, &str) -> Box<dyn Source>,
    in_cosine: fn(&[f32]) -> Vec<f32>,
) {
    for collection in &store.expected.collections {
        let source = source(&collection.tenant, &collection.database);
        let table = if collection.name == "collections" {
            &format!("collections_{}", &collection.id[..8])
        } else {
            &collection.name
        };
        let got = read(source.as_ref(), &scan(table, &COLUMNS))
            .unwrap_or_else(|error| panic!("{}", explain(&error)));
        assert_eq!(got.rows.keys().collect::<Vec<_>>(), collection.rows.keys().collect::<Vec<_>>());
        for (id, expected) in &collection.rows {
            let row = &got.rows[id];
            assert_eq!(row.document, without_nul(expected.document.clone()), "document of {id}");
            let metadata = expected.metadata.as_ref().map(|json| json.to_string().replace("\\u0000", ""));
            assert_eq!(row.metadata.as_ref().map(|json| json.to_string()), metadata, "metadata of {id}");
            assert_eq!(row.uri, expected.uri);
            let vector = row.vector.as_ref().unwrap_or_else(|| panic!("no vector of {id}: {:?}", got.why));
            let (read, added) = match &*collection.space {
                "cosine" => (&in_cosine(vector), &in_cosine(&expected.vector)),
                _ => (vector, &expected.vector),
            };
            assert!(same(read, added), "{} {id}: {read:?}, not {added:?}", collection.name);
        }
        assert_eq!((got.lost, got.partial), (0, 0), "{:?}", got.why);
        check_rankings(collection, &got);
    }
}

/// The nearest ten by an exact scan of what was read are Chroma's, among the rows that Chroma finds.
fn check_rankings(collection: &Collection, got: &Read) {
    let lost = got.rows.len() - collection.findable.len();
    assert!(lost < 10, "chromadb itself does not find {lost} rows of {}", collection.name);
    for Ranking { query, nearest } in &collection.rankings {
        let mut all: Vec<(f64, &String)> = got
            .rows
            .iter()
            .filter(|(id, _)| collection.findable.contains(*id))
            .filter_map(|(id, row)| Some((distance(&collection.space, row.vector.as_ref()?, query), id)))
            .collect();
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        let first: Vec<&String> = all.iter().take(nearest.len()).map(|(_, id)| *id).collect();
        assert_eq!(first, nearest.iter().collect::<Vec<_>>(), "collection {}", collection.name);
    }
}

#[test]
fn unsynced_directories_of_0_4_24_are_read_whole() {
    check(&Store::of("0.4.24", "small"));
}

#[test]
fn unsynced_directories_of_0_5_23_are_read_whole() {
    check(&Store::of("0.5.23", "small"));
}

#[test]
fn unsynced_directories_of_0_6_3_are_read_whole() {
    check(&Store::of("0.6.3", "small"));
}

#[test]
fn unsynced_directories_of_1_5_9_are_read_whole() {
    check(&Store::of("1.5.9", "small"));
}

#[test]
fn synced_directories_of_0_4_24_are_read_whole() {
    check(&Store::of("0.4.24", "synced"));
}

#[test]
fn synced_directories_of_0_5_23_are_read_whole() {
    check(&Store::of("0.5.23", "synced"));
}

#[test]
fn synced_directories_of_0_6_3_are_read_whole() {
    check(&Store::of("0.6.3", "synced"));
}

#[test]
fn synced_directories_of_1_5_9_are_read_whole() {
    check(&Store::of("1.5.9", "synced"));
}

#[test]
fn a_directory_of_0_4_24_that_1_5_9_wrote_on_is_read_whole() {
    check(&Store::of("upgraded", "synced"));
}

#[test]
fn each_collection_becomes_a_table_and_the_list_of_them_another() {
    for version in VERSIONS {
        let store = Store::of(version, "small");
        let tables = directory(&store.path).tables(&|_| true).expect("tables");
        let colliding = format!("collections_{}", &store.collection("collections").id[..8]);
        let mut expected = ["changes", &colliding, "empty", "nul", "types", "collections"];
        let mut names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        for table in &tables {
            if table.name == "collections" {
                continue;
            }
            let columns: Vec<(&str, Type)> =
                table.columns.iter().map(|column| (&*column.name, column.of)).collect();
            let dimensions = if table.name == "empty" { None } else { Some(24) };
            let vector = ("embedding", Type::Vector(dimensions));
            assert_eq!(columns, [COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3], vector]);
        }
        let other =
            directory_of(&store.path, "second", "default_database").tables(&|_| true).expect("tables");
        assert_eq!(other.iter().map(|table| &*table.name).collect::<Vec<_>>(), ["types", "collections"]);
    }
}

#[test]
fn a_database_that_is_not_there_is_an_error() {
    let store = Store::of("1.5.9", "small");
    let error = directory_of(&store.path, "default_tenant", "absent").tables(&|_| true).unwrap_err();
    assert!(matches!(error, Error::NoSchema { .. }), "{error}");
    let error = directory(&store.path).open(&scan("absent", &COLUMNS)).err().expect("an error");
    assert!(matches!(error, Error::NoTable { .. }), "{error}");
}

#[test]
fn the_list_tells_dimension_distance_metadata_and_rows() {
    for version in VERSIONS {
        for name in ["small", "synced"] {
            let store = Store::of(version, name);
            let columns = [
                ("name", Type::Text),
                ("dimension", Type::Integer),
                ("distance", Type::Text),
                ("metadata", Type::Jsonb),
                ("rows", Type::Bigint),
                ("id", Type::Uuid),
            ];
            let source = directory(&store.path);
            let mut rows = source.open(&scan("collections", &columns)).expect("the list");
            let mut seen = 0;
            while rows.next().expect("a row") {
                let Value::Text(name) = rows.value(0).expect("a name") else { panic!("no text") };
                let name = name.to_owned();
                let expected = store.collection(&name);
                let dimension = if name == "empty" { Value::Null } else { Value::Integer(24) };
                assert_eq!(rows.value(1).expect("a dimension"), dimension);
                assert_eq!(
                    rows.value(2).expect("a distance"),
                    Value::Text(&expected.space),
                    "{version} {name}"
                );
                let metadata = match rows.value(3).expect("metadata") {
                    Value::Json(text) => Some(serde_json::from_str(text).expect("JSON")),
                    _ => None,
                };
                assert_eq!(metadata, expected.metadata);
                assert_eq!(rows.value(4).expect("a count"), Value::Integer(expected.rows.len() as i64));
                assert!(matches!(rows.value(5).expect("an id"), Value::Uuid(_)));
                seen += 1;
            }
            let here = |found: &&Collection| {
                found.tenant == "default_tenant" && found.database == "default_database"
            };
            assert_eq!(seen, store.expected.collections.iter().filter(here).count());
        }
    }
}

fn by_id(operation: Operation, operand: Operand) -> Scan {
    let mut scan = scan("segments", &[("id", Type::Text)]);
    scan.filters.push(Filter { column: "id".to_owned(), of: Type::Text, operation });
    scan.operands.push(operand);
    scan
}

#[test]
fn ids_and_limits_are_left_to_the_store() {
    let store = Store::of("1.5.9", "synced");
    let source = directory(&store.path);
    let text = |id: &str| Operand::Text(id.to_owned());
    let equal = by_id(Operation::Compare(Comparison::Equal), text("segments-00042"));
    let mut rows = source.open(&equal).expect("rows");
    assert_eq!(ids(rows.as_mut()), ["segments-00042"]);
    rows.rescan(&[text("segments-00043")]).expect("another operand");
    assert_eq!(ids(rows.as_mut()), ["segments-00043"]);
    rows.rescan(&[Operand::Null]).expect("another operand");
    assert!(ids(rows.as_mut()).is_empty());
    let several =
        Operand::Several(vec![text("segments-00007"), text("absent"), Operand::Null, text("segments-00003")]);
    let mut rows = source.open(&by_id(Operation::In, several)).expect("rows");
    assert_eq!(ids(rows.as_mut()), ["segments-00003", "segments-00007"]);
    let limited = Scan { limit: Some(3), ..scan("segments", &[("id", Type::Text)]) };
    assert_eq!(ids(source.open(&limited).expect("rows").as_mut()).len(), 3);
}

#[test]
fn an_id_that_is_not_told_as_it_is_stored_is_found() {
    let store = copy(&Store::of("1.5.9", "small").path);
    Connection::open(store.path().join("chroma.sqlite3"))
        .and_then(|database| {
            let rename =
                "UPDATE embeddings SET embedding_id = 'pl' || char(0) || 'ain' WHERE embedding_id = 'plain'";
            database.execute(rename, ())
        })
        .expect("an id with NUL");
    let mut source = directory(store.path());
    let mut with = |invalid_text, id: &str| {
        source.invalid_text = invalid_text;
        let mut wanted = scan("nul", &[("id", Type::Text)]);
        let operation = Operation::Compare(Comparison::Equal);
        let filter = Filter { column: "id".to_owned(), of: Type::Text, operation };
        let plan = source.plan(&wanted, std::slice::from_ref(&filter)).expect("a plan");
        // As PostgreSQL does it: what the store does not apply is compared after reading.
        if plan.accepted != [Accepted::No] {
            wanted.filters.push(filter);
            wanted.operands.push(Operand::Text(id.to_owned()));
        }
        let found = ids_or_null(source.open(&wanted).expect("rows").as_mut());
        (plan.accepted[0], found.iter().filter(|found| found.as_deref() == Some(id)).count())
    };
    assert_eq!(with(InvalidText::Strip, "plain"), (Accepted::No, 1));
    assert_eq!(with(InvalidText::Hex, "\\x706c0061696e"), (Accepted::No, 1));
    assert_eq!(with(InvalidText::Error, "nul"), (Accepted::Fully, 1));
}

#[test]
fn text_with_nul_bytes_is_told_stripped_or_made_hexadecimal_but_never_changed_silently() {
    let store = Store::of("1.5.9", "small");
    let mut source = directory(&store.path);
    source.invalid_text = InvalidText::Error;
    let strict = Scan { on_error: OnError::Error, ..scan("nul", &COLUMNS) };
    let error = read(&source, &strict).unwrap_err();
    let Error::Value(bad) = &error else { panic!("{error}") };
    assert_eq!((&*bad.row, &*bad.column, &bad.problem), ("id \"nul\"", "document", &Problem::Nul));
    assert_eq!(bad.value, "'before\\0after'");
    let got = read(&source, &scan("nul", &COLUMNS)).expect("rows");
    assert_eq!((got.lost, got.rows["nul"].document.as_deref()), (2, None));
    assert_eq!(got.rows["plain"].document.as_deref(), Some("no such byte"));
    source.invalid_text = InvalidText::Hex;
    let got = read(&source, &strict).expect("rows");
    assert_eq!(got.rows["nul"].document.as_deref(), Some("\\x6265666f7265006166746572"));
    assert_eq!(
        got.rows["nul"].metadata,
        Some(serde_json::json!({"text": "\\x626500666f7265", "plain": "x"}))
    );
}
