//! Servers that fail, and stores that are damaged.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use vector_embed_sources::http::Options;
use vector_embed_sources::{Error, OnError, Source, Type};

use crate::support::{NOTES, Read, Server, copy_of_store, directory, host, read, scan, source_of, told};

const ID: [(&str, Type); 1] = [("id", Type::Text)];

/// A page that says just this.
fn page(points: &str) -> String {
    format!(
        "{{\"result\": {{\"points\": [{points}], \"next_page_offset\": null}}, \"status\": \"ok\", \"time\": 0}}"
    )
}

fn raw(body: &str) -> serde_json::Value {
    json!({"kind": "raw", "body": body})
}

#[test]
fn what_passes_is_tried_again() {
    let mut server = Server::start();
    let faults = [
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 429, "headers": {"retry-after": "0"}}),
        json!({"kind": "drop"}),
        json!({"kind": "none"}),
        json!({"kind": "cut"}),
        json!({"kind": "status", "status": 503}),
    ];
    server.faults(&faults);
    assert_eq!(read(&server.source(), &scan("notes", &ID)).unwrap().rows.len(), 1000);
    assert_eq!(server.seen().len(), 1 + 4 + 5, "what was asked, and again");
}

#[test]
fn what_does_not_pass_is_told_after_so_many_tries() {
    let mut server = Server::start();
    let overloaded =
        json!({"kind": "status", "status": 503, "body": "{\"status\": {\"error\": \"overloaded\"}}"});
    server.faults(&vec![overloaded; 9]);
    let source = source_of(Options { retries: 2, ..server.options() }, host());
    let error = read(&source, &scan("notes", &ID)).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 503, .. }), "{error:?}");
    assert!(told(&error).ends_with("It answered with status 503: overloaded."), "{}", told(&error));
    assert_eq!(server.seen().len(), 3);

    // What will not change is not tried again.
    for (fault, expected) in [
        (json!({"kind": "status", "status": 400, "body": "no"}), "It answered with status 400: no."),
        (
            json!({"kind": "status", "status": 302, "headers": {"location": "/elsewhere"}}),
            "Redirects are not followed.",
        ),
        (json!({"kind": "header"}), "exceeds 65536 bytes"),
        (
            json!({"kind": "raw", "body": "{}", "headers": {"content-encoding": "gzip", "content-length": "2"}}),
            "not asked for",
        ),
        (json!({"kind": "raw", "body": "{\"result\": "}), "ends too early"),
        (raw("<html>"), "is not valid"),
        (raw("{\"result\": [1]}"), "is not what was asked for"),
    ] {
        server.faults(std::slice::from_ref(&fault));
        let error = read(&source, &scan("notes", &ID)).unwrap_err();
        assert!(told(&error).contains(expected), "{fault}: {}", told(&error));
        assert_eq!(server.seen().len(), 1, "{fault}");
    }
}

#[test]
fn nobody_there_is_told() {
    let mut server = Server::start();
    let options = Options { retries: 1, ..server.options() };
    server.seen();
    drop(server);
    let error = read(&source_of(options, host()), &scan("notes", &ID)).unwrap_err();
    assert!(told(&error).contains("Connection refused"), "{}", told(&error));
}

#[test]
fn an_answer_has_its_time() {
    let mut server = Server::start();
    let source = source_of(Options { timeout: Duration::from_millis(300), ..server.options() }, host());
    for kind in ["silent", "half", "trickle"] {
        server.faults(&[json!({"kind": kind})]);
        let error = read(&source, &scan("notes", &ID)).unwrap_err();
        assert!(told(&error).ends_with("It did not answer within 300 ms."), "{kind}: {}", told(&error));
    }
}

#[test]
fn an_answer_that_is_too_long_is_asked_for_in_parts() {
    let mut server = Server::start();
    server.faults(&[json!({"kind": "none"}), json!({"kind": "huge", "megabytes": 300})]);
    assert_eq!(read(&server.source(), &scan("notes", &ID)).unwrap().rows.len(), 1000);
    let limits: Vec<_> =
        server.seen().iter().filter_map(|request| request["body"]["limit"].as_u64()).collect();
    assert_eq!(limits[..3], [256, 64, 64]);

    let mut source = server.source();
    source.fetch_size = 1;
    server.faults(&[json!({"kind": "none"}), json!({"kind": "huge", "megabytes": 300})]);
    let error = read(&source, &scan("notes", &ID)).unwrap_err();
    assert!(matches!(error, Error::LongAnswer { .. }), "{error:?}");
}

#[test]
fn paging_ends() {
    let mut server = Server::start();
    server.repeat();
    let error = read(&server.source(), &scan("notes", &ID)).unwrap_err();
    assert!(told(&error).contains("Its paging does not end"), "{}", told(&error));
    drop(server);

    let mut server = Server::start();
    let empty = "{\"result\": {\"points\": [], \"next_page_offset\": 5}}";
    server.faults(&[json!({"kind": "none"}), raw(empty)]);
    let error = read(&server.source(), &scan("notes", &ID)).unwrap_err();
    assert!(told(&error).contains("Its paging does not end"), "{}", told(&error));
}

#[test]
fn what_does_not_fit_is_an_error_or_null_and_counted() {
    let mut server = Server::start();
    let good = "{\"id\": 1, \"payload\": {\"a\": 1}, \"vector\": [1,2,3,4,5,6,7,8]}";
    for (bad, expected) in [
        ("{\"id\": 2, \"vector\": [1,2,3]}", "cannot be read as vector(8)"),
        ("{\"id\": 2, \"vector\": [1,2,3,4,5,6,7,null]}", "cannot be read as vector(8)"),
        ("{\"id\": 2, \"vector\": [1,2,3,4,5,6,7,1e39]}", "cannot be read as vector(8)"),
        ("{\"id\": 2, \"vector\": \"none\"}", "cannot be read as vector(8)"),
        ("{\"id\": -2}", "makes no sense"),
        ("{\"payload\": {}}", "makes no sense"),
        ("[]", "makes no sense"),
    ] {
        let body = page(&format!("{bad}, {good}"));
        server.faults(&[json!({"kind": "none"}), raw(&body)]);
        let error = read(&server.source(), &scan("notes", &NOTES)).unwrap_err();
        assert!(told(&error).contains(expected), "{bad}: {}", told(&error));

        server.faults(&[json!({"kind": "none"}), raw(&body)]);
        let mut tolerant = scan("notes", &NOTES);
        tolerant.on_error = OnError::Null;
        let all = read(&server.source(), &tolerant).unwrap();
        assert_eq!(all.lost_rows + all.lost_values, 1, "{bad}");
        assert_eq!(all.rows.len() as u64, 2 - all.lost_rows, "{bad}");
        if all.lost_values == 1 {
            assert_eq!(all.rows[0][2], Read::Null);
        }
        assert_eq!(
            *all.rows.last().unwrap(),
            [
                Read::Text("1".to_owned()),
                Read::Json(json!({"a": 1})),
                Read::Vector(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            ]
        );
    }
    // A vector or payload that is not there is none.
    server.faults(&[json!({"kind": "none"}), raw(&page("{\"id\": 3, \"payload\": null}"))]);
    let all = read(&server.source(), &scan("notes", &NOTES)).unwrap();
    assert_eq!(all.rows, [[Read::Text("3".to_owned()), Read::Json(json!({})), Read::Null]]);
}

#[test]
fn ids_that_were_not_asked_for_are_refused() {
    use vector_embed_sources::{Comparison, Filter, Operand, Operation};
    let mut server = Server::start();
    let mut scan = scan("notes", &ID);
    let operation = Operation::Compare(Comparison::Equal);
    scan.filters = vec![Filter { column: "id".to_owned(), of: Type::Text, operation }];
    scan.operands = vec![Operand::Text("1".to_owned())];
    server.faults(&[json!({"kind": "none"}), raw("{\"result\": [{\"id\": 2}]}")]);
    let error = read(&server.source(), &scan).unwrap_err();
    assert!(told(&error).contains("It gave id 2, which was not asked for."), "{}", told(&error));
}

thread_local! {
    /// How often to go on before the interruption.
    static GO_ON: Cell<u32> = const { Cell::new(0) };
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

fn interrupted() -> bool {
    ASKED.set(ASKED.get() + 1);
    ASKED.get() > GO_ON.get()
}

#[test]
fn a_scan_can_be_interrupted_wherever_it_is() {
    let mut server = Server::start();
    let mut host = host();
    host.interrupted = interrupted;
    let source = source_of(server.options(), host);
    let mut completed = None;
    for go_on in 0..10_000 {
        GO_ON.set(go_on);
        ASKED.set(0);
        // With a pause and a wait in it, each of them more than one look long.
        server.faults(&[
            json!({"kind": "status", "status": 500}),
            json!({"kind": "none"}),
            json!({"kind": "late", "seconds": 0.05}),
        ]);
        let mut small = scan("notes", &ID);
        small.limit = Some(3);
        match read(&source, &small) {
            Ok(all) => {
                assert_eq!(all.rows.len(), 3);
                completed = Some(go_on);
                break;
            }
            Err(error) => assert!(matches!(error, Error::Interrupted), "after {go_on}: {error:?}"),
        }
    }
    assert!(completed.is_some_and(|looks| looks > 15), "{completed:?}");
}

#[test]
fn a_silent_server_does_not_keep_an_interruption_waiting() {
    let mut server = Server::start();
    let mut host = host();
    host.interrupted = interrupted;
    let source = source_of(server.options(), host);
    for kind in ["silent", "half", "trickle"] {
        server.faults(&[json!({"kind": kind})]);
        GO_ON.set(20);
        ASKED.set(0);
        let begin = Instant::now();
        let error = read(&source, &scan("notes", &ID)).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{kind}: {error:?}");
        assert!(begin.elapsed() < source_timeout(), "it was not the timeout that ended it");
    }
}

fn source_timeout() -> Duration {
    Duration::from_secs(30)
}

#[test]
fn a_damaged_local_store_is_told_and_read_as_far_as_it_goes() {
    let store = copy_of_store();
    let path = store.path().join("store");
    let points = path.join("collection/notes/storage.sqlite");
    let change = |sql: &str| Connection::open(&points).unwrap().execute_batch(sql).unwrap();
    let mut tolerant = scan("notes", &NOTES);
    tolerant.on_error = OnError::Null;

    // Neither a pickle nor the end of one.
    change(
        "UPDATE points SET point = x'80049500' WHERE rowid = 3; UPDATE points SET point = 'text' WHERE rowid = 4",
    );
    let error = read(&directory(&path), &scan("notes", &NOTES)).unwrap_err();
    assert!(matches!(&error, Error::Damaged { detail, .. } if detail.contains("rowid 4")), "{error:?}");
    let all = read(&directory(&path), &tolerant).unwrap();
    assert_eq!((all.rows.len(), all.lost_rows), (998, 2));

    // A row of a point that was written again later, as old versions of qdrant-client left them.
    change("INSERT INTO points SELECT id || 'old', point FROM points WHERE rowid = 6");
    assert_eq!(read(&directory(&path), &tolerant).unwrap().rows.len(), 998);

    fs::write(&points, b"no database").unwrap();
    assert!(matches!(read(&directory(&path), &tolerant), Err(Error::Open { .. })));
    fs::remove_file(&points).unwrap();
    assert!(matches!(read(&directory(&path), &tolerant), Err(Error::Open { .. })));

    // A name that leads elsewhere.
    for (meta, part) in [
        (
            "{\"collections\": {\"../notes\": {\"vectors\": {\"size\": 8, \"distance\": \"Dot\"}}}}",
            "none of a directory",
        ),
        ("{\"collections\": {\"x\": {\"vectors\": {\"size\": 8}}}}", "collection \"x\""),
        ("{\"collections\":", "meta.json"),
    ] {
        fs::write(path.join("meta.json"), meta).unwrap();
        let error = read(&directory(&path), &scan("../notes", &ID)).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged { detail, .. } if detail.contains(part)),
            "{meta}: {error:?}"
        );
    }
    fs::remove_file(path.join("meta.json")).unwrap();
    assert!(matches!(read(&directory(&path), &scan("notes", &ID)), Err(Error::Open { .. })));
}

/// The leaves of a table or index of a database, in order: number of the page, and rows on it.
fn leaves(database: &Path, name: &str) -> Vec<(u64, usize)> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT pageno, ncell FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path")
        .unwrap();
    let leaves =
        statement.query_map([name], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as usize)));
    leaves.unwrap().collect::<Result<_, _>>().unwrap()
}

fn spoil(database: &Path, page: u64) {
    let bytes =
        Connection::open(database).unwrap().query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0));
    let bytes = bytes.unwrap() as u64;
    let file = OpenOptions::new().write(true).open(database).unwrap();
    file.write_all_at(&vec![0xee; bytes as usize], (page - 1) * bytes).unwrap();
}

#[test]
fn a_damaged_page_of_a_local_store_costs_no_point_that_was_read_before_it() {
    let store = copy_of_store();
    let path = store.path().join("store");
    let points = path.join("collection/notes/storage.sqlite");
    let pages = leaves(&points, "points");
    let middle = pages.len() / 2;
    // The last points come first.
    let readable: usize = pages[middle + 1..].iter().map(|(_, rows)| rows).sum();
    assert!(readable > 100 && readable % 256 > 1, "the damage is amid a batch of points: {readable}");
    spoil(&points, pages[middle].0);

    let mut scan = scan("notes", &NOTES);
    let error = read(&directory(&path), &scan).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    scan.on_error = OnError::Null;
    let all = read(&directory(&path), &scan).unwrap();
    assert_eq!((all.rows.len(), all.incomplete), (readable, true));

    // The points are counted by their index.
    for (page, _) in leaves(&points, "sqlite_autoindex_points_1") {
        spoil(&points, page);
    }
    assert_eq!(directory(&path).plan(&scan, &[]).unwrap().estimate.rows, 1000.0);
    assert_eq!(read(&directory(&path), &scan).unwrap().rows.len(), readable);
}

/// The pickle of a point: an object with an id and a payload, which are pickled already.
fn pickled(id: &[u8], payload: &[u8]) -> Vec<u8> {
    [&b"c\n\n)\x81}(X\x02\0\0\0id"[..], id, b"X\x07\0\0\0payload", payload, b"ub."].concat()
}

/// A store whose collection `notes` has these points and no others.
fn store_of(points: impl Iterator<Item = Vec<u8>>) -> tempfile::TempDir {
    let store = copy_of_store();
    let mut database = Connection::open(store.path().join("store/collection/notes/storage.sqlite")).unwrap();
    let transaction = database.transaction().unwrap();
    transaction.execute("DELETE FROM points", ()).unwrap();
    for (number, point) in points.enumerate() {
        transaction
            .execute("INSERT INTO points (id, point) VALUES (?1, ?2)", (number.to_string(), point))
            .unwrap();
    }
    transaction.commit().unwrap();
    store
}

#[test]
fn a_point_that_would_take_all_memory_is_damaged() {
    // Two megabytes of empty tuples, which would be a hundred.
    let bomb = [&b"("[..], &b")".repeat(2 << 20), b"t"].concat();
    let store = store_of([pickled(b"K\x01", b"}"), pickled(b"K\x02", &bomb)].into_iter());
    let source = directory(&store.path().join("store"));
    let mut scan = scan("notes", &ID);
    let error = read(&source, &scan).unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { detail, .. } if detail.contains("too many values")),
        "{error:?}"
    );
    scan.on_error = OnError::Null;
    let all = read(&source, &scan).unwrap();
    assert_eq!((all.rows.len(), all.lost_rows), (1, 1));
}

#[test]
fn large_points_are_read_a_few_at_a_time() {
    // A megabyte of JSON each: a text that is referred to again and again.
    let text = [&b"X\0\x40\0\0"[..], &b"x".repeat(1 << 14), b"\x94"].concat();
    let payload = [&b"}X\x01\0\0\0a]("[..], &text, &b"h\0".repeat(63), b"es"].concat();
    let store = store_of((0..100_u8).map(|number| pickled(&[b'K', number], &payload)));
    let mut source = directory(&store.path().join("store"));
    source.host.interrupted = interrupted;
    GO_ON.set(u32::MAX);
    let mut rows = source.open(&scan("notes", &NOTES)).unwrap();
    ASKED.set(0);
    assert!(rows.next().unwrap());
    // It is asked for each that is read.
    assert!((10..40).contains(&ASKED.get()), "{} points are held", ASKED.get());
    let mut count = 1;
    while rows.next().unwrap() {
        count += 1;
    }
    assert_eq!(count, 100);
    // Where nobody wants them, they are not made.
    let mut rows = source.open(&scan("notes", &ID)).unwrap();
    ASKED.set(0);
    assert!(rows.next().unwrap());
    assert!(ASKED.get() >= 100, "only {} points are held", ASKED.get());
}

#[test]
fn a_large_local_store_is_read_through_once() {
    // As an old client leaves it: many rows of one point, of which the last one counts.
    let store = store_of([pickled(b"K\x01", b"}")].into_iter());
    let database = Connection::open(store.path().join("store/collection/notes/storage.sqlite")).unwrap();
    database
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) \
             INSERT INTO points (id, point) SELECT 'n' || i, (SELECT point FROM points) FROM n",
        )
        .unwrap();
    drop(database);
    let mut source = directory(&store.path().join("store"));
    source.host.interrupted = interrupted;
    GO_ON.set(u32::MAX);
    ASKED.set(0);
    assert_eq!(read(&source, &scan("notes", &ID)).unwrap().rows.len(), 1);
    // It is asked for each row, and for each thousand steps of SQLite's machine.
    assert!((200_000..300_000).contains(&ASKED.get()), "{} looks", ASKED.get());
}
