//! How files are opened, and that they are left alone.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use vector_embed_sources::{Error, Source, Type};

use crate::support::{Fixture, first, read, scan};

const ID: &[(&str, Type)] = &[("id", Type::Bigint)];

fn refused(fixture: &Fixture) -> String {
    match fixture.source().tables(&|_| true) {
        Err(Error::Open { detail, .. }) => detail,
        Err(other) => panic!("another error: {other}"),
        Ok(tables) => panic!("it was opened: {tables:?}"),
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let fixture = Fixture::new("CREATE TABLE t(id INTEGER)");
    let path = fixture.path();
    fs::remove_file(&path).expect("removed");
    assert_eq!(refused(&fixture), "The file does not exist.");

    fs::create_dir(&path).expect("a directory");
    assert_eq!(refused(&fixture), "It is a directory.");
    fs::remove_dir(&path).expect("removed");

    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    assert_eq!(refused(&fixture), "It is a pipe or socket.");
    fs::remove_file(&path).expect("removed");

    fs::write(&path, "").expect("written");
    assert_eq!(refused(&fixture), "The file is empty.");

    let log = path.with_file_name("store.db-wal");
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    fs::write(&path, "something").expect("written");
    assert_eq!(refused(&fixture), "Its log or journal is not a regular file.");
    fs::remove_file(&log).expect("removed");

    fs::write(&path, "not a database, but long enough to have a header of one hundred bytes. ".repeat(100))
        .expect("written");
    assert_eq!(refused(&fixture), "The file is not a database of SQLite.");
}

#[test]
fn rows_in_the_log_of_a_living_writer_are_read_in_place() {
    let fixture = Fixture::new("PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER)");
    let writer = fixture.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1), (2)").expect("written");
    let before = fixture.files();

    let source = fixture.source();
    let mut rows = Source::open(&source, &scan("t", ID)).expect("opened");
    assert!(rows.next().expect("a row"));
    writer.execute_batch("INSERT INTO t VALUES (3)").expect("a reader does not block the writer");
    assert_eq!(crate::support::rest(&mut *rows, 1).expect("rows"), [["2"]], "the snapshot does not change");
    assert_eq!(first(&source, &scan("t", ID)), ["1", "2", "3"]);
    assert_eq!(fixture.files(), before, "no file was made");
    assert!(fixture.copies().is_empty(), "nothing was copied");
}

/// Files as a crash leaves them: those of `fixture` as they are now, in another directory.
fn after_crash(fixture: &Fixture, endings: &[&str]) -> Fixture {
    let crashed = Fixture::new("");
    let beside = |path: PathBuf, ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    for ending in endings {
        fs::copy(beside(fixture.path(), ending), beside(crashed.path(), ending)).expect("copied");
    }
    crashed
}

#[test]
fn a_log_without_its_writer_is_read_from_a_copy() {
    let fixture = Fixture::new("PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER)");
    let writer = fixture.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1), (2)").expect("written");
    let crashed = after_crash(&fixture, &["", "-wal"]);
    let before = crashed.files();

    {
        let source = crashed.source();
        assert_eq!(first(&source, &scan("t", ID)), ["1", "2"]);
        assert_eq!(crashed.copies().len(), 1);
        assert_eq!(first(&source, &scan("t", ID)), ["1", "2"]);
        assert_eq!(crashed.copies().len(), 1, "the copy is used again");
        // What comes later is not in the copy.
        fs::OpenOptions::new()
            .append(true)
            .open(crashed.path())
            .expect("a file")
            .write_all(&[0; 4096])
            .expect("written");
        assert_eq!(first(&source, &scan("t", ID)), ["1", "2"]);
        assert_eq!(crashed.copies().len(), 1, "a changed file is copied anew, and its old copy goes");
    }
    assert!(crashed.copies().is_empty(), "copies are removed");
    assert_eq!(crashed.files(), before, "no file was made or removed");
}

#[test]
fn a_transaction_that_a_crash_cut_off_is_not_read() {
    let fixture = Fixture::new("CREATE TABLE t(id INTEGER, filler BLOB); INSERT INTO t VALUES (1, NULL)");
    let writer = fixture.connect();
    writer
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN; UPDATE t SET id = 2; \
             WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
             INSERT INTO t SELECT i, zeroblob(3000) FROM n",
        )
        .expect("pages are spilled to the file");
    let crashed = after_crash(&fixture, &["", "-journal"]);
    let bytes = fs::read(crashed.path()).expect("a file");

    assert_eq!(first(&crashed.source(), &scan("t", ID)), ["1"]);
    assert_eq!(fs::read(crashed.path()).expect("a file"), bytes, "the file was not repaired");
    assert!(crashed.copies().is_empty());
}

thread_local! {
    static VICTIM: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Changes the file that is being copied.
fn disturb() -> bool {
    VICTIM.with_borrow(|path| {
        if let Some(path) = path {
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("a file");
            file.write_all(b"more").expect("written");
        }
    });
    false
}

#[test]
fn a_file_that_keeps_changing_is_an_error() {
    let fixture = Fixture::new("PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER)");
    let writer = fixture.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1)").expect("written");
    let crashed = after_crash(&fixture, &["", "-wal"]);
    let mut source = crashed.source();
    source.host.interrupted = disturb;
    VICTIM.set(Some(crashed.path()));
    let result = read(&source, &scan("t", ID));
    VICTIM.set(None);
    assert!(matches!(result, Err(Error::Changing { .. })), "{result:?}");
    assert!(crashed.copies().is_empty());
}

#[test]
fn copies_have_a_limit() {
    let fixture = Fixture::new("PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER)");
    let writer = fixture.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1)").expect("written");
    let crashed = after_crash(&fixture, &["", "-wal"]);
    let mut source = crashed.source();
    source.host.temporary_bytes = Some(1000);
    let result = read(&source, &scan("t", ID));
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");

    // It is one for all copies that are in use.
    let bytes: u64 = crashed.files().iter().map(|file| fs::metadata(file).expect("a file").len()).sum();
    source.host.temporary_bytes = Some(bytes + 1000);
    let other = after_crash(&fixture, &["", "-wal"]);
    let mut second = source.clone();
    second.path = other.path();
    assert_eq!(first(&source, &scan("t", ID)), ["1"]);
    let result = read(&second, &scan("t", ID));
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    // A copy of a file that has changed since is not, but for those who read it.
    let change = || {
        let mut file = fs::OpenOptions::new().append(true).open(crashed.path()).expect("a file");
        file.write_all(&[0; 100]).expect("written");
    };
    change();
    let mut rows = Source::open(&source, &scan("t", ID)).expect("its old copy makes room");
    change();
    let result = read(&source, &scan("t", ID));
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    assert_eq!(crate::support::rest(&mut *rows, 1).expect("rows"), [["1"]]);
    drop(rows);
    assert_eq!(first(&source, &scan("t", ID)), ["1"]);
}

#[test]
fn locks_last_while_another_reader_of_the_file_ends() {
    let fixture = Fixture::new("CREATE TABLE t(id INTEGER); INSERT INTO t VALUES (1), (2)");
    let source = fixture.source();
    let mut rows = Source::open(&source, &scan("t", ID)).expect("opened");
    assert!(rows.next().expect("a row"));
    assert_eq!(first(&source, &scan("t", ID)), ["1", "2"], "another reader");
    // From another process, since SQLite itself knows of readers in this one.
    let program = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=0)\nc.execute('INSERT INTO t VALUES (3)')\nc.commit()";
    let write = || {
        let path = fixture.path();
        std::process::Command::new("python3").arg("-c").arg(program).arg(path).output().expect("python3 runs")
    };
    let blocked = write();
    assert!(!blocked.status.success());
    assert!(String::from_utf8_lossy(&blocked.stderr).contains("locked"));
    drop(rows);
    assert!(write().status.success(), "the lock has gone with its reader");
}

#[test]
fn names_are_found_whatever_is_in_them() {
    let fixture = Fixture::new(
        r#"CREATE TABLE "select" ("order" INTEGER, "a ""b" TEXT, "" TEXT); INSERT INTO "select" VALUES (1, 'x', 'y')"#,
    );
    let moved = fixture.path().with_file_name("with space?&%#'.db");
    fs::rename(fixture.path(), &moved).expect("renamed");
    let mut source = fixture.source();
    source.path = moved;
    let scan = scan("SELECT", &[("a \"b", Type::Text), ("", Type::Text), ("ORDER", Type::Bigint)]);
    assert_eq!(read(&source, &scan).expect("rows"), [["x", "y", "1"]]);
}
