//! Directories that were damaged. Each document is there still; a vector that is gone is NULL and counted.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use vector_embed_sources::{Error, Filter, OnError, Operand, Operation, Scan, Source, Type};

use crate::support::{
    COLUMNS, Read, Store, VERSIONS, copy, directory, normalized, read, read_collection, same, scan,
};

/// A copy of a synced directory, and the folder of the index of collection `segments` in it.
struct Copied {
    store: Store,
    directory: TempDir,
    index: PathBuf,
}

impl Copied {
    fn of(version: &str) -> Self {
        let store = Store::of(version, "synced");
        let directory = copy(&store.path);
        // Its data is the largest.
        let size =
            |folder: &PathBuf| fs::metadata(folder.join("data_level0.bin")).map_or(0, |found| found.len());
        let entries = fs::read_dir(directory.path()).expect("a directory");
        let index = entries.map(|entry| entry.expect("an entry").path()).max_by_key(size).expect("an index");
        Self { store, directory, index }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.index.join(name)
    }

    fn truncate(&self, name: &str, share: f64) {
        let file = File::options().write(true).open(self.file(name)).expect("the file");
        let size = file.metadata().expect("its size").len();
        file.set_len((size as f64 * share) as u64).expect("it can be cut");
    }

    /// Reads the damaged collection and checks all that must hold whatever is damaged.
    fn read(&self) -> Read {
        let got = read_collection(self.path(), "segments");
        let expected = &self.store.collection("segments").rows;
        assert_eq!(got.rows.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        let mut of_other_length = 0;
        for (id, row) in &got.rows {
            assert_eq!(row.document, expected[id].document);
            assert_eq!(row.metadata, expected[id].metadata);
            if let Some(vector) = &row.vector {
                assert!(direction(vector, &expected[id].vector), "a wrong vector of {id}");
                of_other_length += u64::from(!same(vector, &expected[id].vector));
            }
        }
        assert_eq!(got.partial, of_other_length, "each length that is gone is counted");
        assert_eq!(got.lost as usize, expected.len() - got.vectors(), "each vector that is gone is counted");
        for (name, rows) in [("euclid", "another collection"), ("product", "another collection")] {
            assert_eq!(read_collection(self.path(), name).lost, 0, "{rows} is untouched");
        }
        got
    }

    /// That only what is in the queue still is left.
    fn has_the_tail(&self, why: &str) {
        let got = self.read();
        let (left, all) = (got.vectors(), got.rows.len());
        assert!(left > 0 && left < 40, "{left} of {all} vectors");
        let said = got.why.expect("a reason");
        assert!(said.contains(why), "{said}");
    }

    fn is_complete(&self) -> Read {
        let got = self.read();
        assert_eq!((got.vectors(), got.lost), (got.rows.len(), 0));
        got
    }
}

/// Versions that purge their queue: in a directory of 0.4 all vectors are in the queue, whatever becomes of the index.
const PURGING: [&str; 3] = ["0.5.23", "0.6.3", "1.5.9"];

fn direction(one: &[f32], other: &[f32]) -> bool {
    same(&normalized(one), &normalized(other))
}

#[test]
fn cut_data_leaves_the_vectors_before_the_cut() {
    for version in PURGING {
        let copied = Copied::of(version);
        copied.truncate("data_level0.bin", 0.4);
        let got = copied.read();
        assert!((1_000..2_000).contains(&got.vectors()), "{} vectors", got.vectors());
        assert!(got.why.expect("a reason").contains("data_level0.bin"));
    }
}

#[test]
fn emptied_data_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        copied.truncate("data_level0.bin", 0.0);
        copied.has_the_tail("data_level0.bin\" of the index is cut off: it holds 0 of");
    }
}

#[test]
fn missing_data_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        fs::remove_file(copied.file("data_level0.bin")).expect("it is there");
        copied.has_the_tail("data_level0.bin\" of the index cannot be read");
    }
}

#[test]
fn a_header_of_zeros_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        fs::write(copied.file("header.bin"), [0; 100]).expect("it can be written");
        copied.has_the_tail("header.bin\" of the index is damaged");
    }
}

#[test]
fn a_cut_header_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        copied.truncate("header.bin", 0.5);
        copied.has_the_tail("cut off at 50 of 100 bytes");
    }
}

#[test]
fn a_cut_pickle_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        copied.truncate("index_metadata.pickle", 0.6);
        copied.has_the_tail("index_metadata.pickle\" of the index is damaged: the pickle is cut off");
    }
}

#[test]
fn a_missing_pickle_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        fs::remove_file(copied.file("index_metadata.pickle")).expect("it is there");
        copied.has_the_tail("index_metadata.pickle\" of the index cannot be read");
    }
}

#[test]
fn a_missing_folder_leaves_the_tail_of_the_queue() {
    for version in PURGING {
        let copied = Copied::of(version);
        fs::remove_dir_all(&copied.index).expect("it is there");
        copied.has_the_tail("is missing");
    }
}

#[test]
fn cut_links_cost_nothing() {
    for version in VERSIONS {
        let copied = Copied::of(version);
        copied.truncate("link_lists.bin", 0.3);
        assert_eq!(copied.is_complete().partial, 0);
    }
}

#[test]
fn lengths_that_are_gone_cost_lengths_alone_and_are_counted() {
    for version in PURGING {
        let mut counts = Vec::new();
        for share in [0.5, 0.0] {
            let copied = Copied::of(version);
            copied.truncate("length.bin", share);
            counts.push(copied.is_complete().partial);
        }
        let copied = Copied::of(version);
        fs::remove_file(copied.file("length.bin")).expect("it is there");
        let got = copied.is_complete();
        assert!(got.why.expect("a reason").contains("length.bin"));
        counts.push(got.partial);
        fs::write(copied.file("length.bin"), [0xff; 4 << 16]).expect("it can be written");
        counts.push(copied.is_complete().partial);
        assert!(0 < counts[0] && counts[0] < counts[1], "{counts:?}");
        assert!(counts[1..].iter().all(|count| *count == counts[1]), "{counts:?}");

        let mut source = directory(copied.path());
        source.on_damage = OnError::Error;
        let error = read(&source, &scan("segments", &COLUMNS)).unwrap_err();
        assert!(matches!(error, Error::NoLength { .. }), "{error}");
    }
    // A directory of 0.4 has all vectors in its queue.
    let copied = Copied::of("0.4.24");
    copied.truncate("length.bin", 0.0);
    assert_eq!(copied.is_complete().partial, 0);
}

#[test]
fn an_index_that_is_there_and_cannot_be_opened_is_an_error_and_no_damage() {
    for name in ["header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"] {
        let copied = Copied::of("1.5.9");
        // Links are not followed: a directory is its owner's, and the file another's.
        let elsewhere = copied.path().join("elsewhere");
        fs::rename(copied.file(name), &elsewhere).expect("it is there");
        std::os::unix::fs::symlink(&elsewhere, copied.file(name)).expect("a link");
        let error = read(&directory(copied.path()), &scan("segments", &COLUMNS)).unwrap_err();
        assert!(matches!(&error, Error::Open { path, .. } if path.ends_with(name)), "{error}");
        let source = directory(copied.path());
        let mut rows = source.open(&scan("segments", &COLUMNS[..4])).expect("what needs no vector is read");
        assert_eq!(crate::support::ids(rows.as_mut()).len(), copied.store.collection("segments").rows.len());
    }
}

#[test]
fn no_damage_to_an_index_of_0_4_costs_a_vector() {
    let copied = Copied::of("0.4.24");
    fs::remove_dir_all(&copied.index).expect("it is there");
    copied.is_complete();
}

#[test]
fn a_vector_that_is_gone_is_an_error_where_that_is_asked_for() {
    let copied = Copied::of("1.5.9");
    fs::remove_dir_all(&copied.index).expect("it is there");
    let mut source = directory(copied.path());
    source.on_damage = OnError::Error;
    let error = read(&source, &scan("segments", &COLUMNS)).unwrap_err();
    assert!(matches!(error, Error::NoVector { .. }), "{error}");
}

#[test]
fn columns_other_than_the_vector_are_read_whatever_is_damaged() {
    let copied = Copied::of("1.5.9");
    fs::remove_dir_all(&copied.index).expect("it is there");
    let strict = Scan { on_error: OnError::Error, ..scan("segments", &COLUMNS[..4]) };
    let source = directory(copied.path());
    let mut rows = source.open(&strict).expect("rows");
    assert_eq!(crate::support::ids(rows.as_mut()).len(), copied.store.collection("segments").rows.len());
}

#[test]
fn a_cut_database_is_an_error_or_counted() {
    for version in VERSIONS {
        let copied = Copied::of(version);
        let database = copied.path().join("chroma.sqlite3");
        let file = File::options().write(true).open(&database).expect("the database");
        let size = file.metadata().expect("its size").len();
        file.set_len(size / 2).expect("it can be cut");
        match read(&directory(copied.path()), &scan("segments", &COLUMNS)) {
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(got) => assert!(got.lost > 0 || got.incomplete, "a loss that nobody is told"),
        }
    }
}

#[test]
fn overwritten_pages_of_the_database_never_pass_unnoticed() {
    let copied = Copied::of("1.5.9");
    let expected = copied.store.collection("segments").rows.len();
    let database = copied.path().join("chroma.sqlite3");
    let pages = fs::metadata(&database).expect("its size").len() / 4096;
    for number in (10..pages).step_by(usize::try_from(pages / 30).expect("small")) {
        let damaged = copy(&copied.store.path);
        let file = damaged.path().join("chroma.sqlite3");
        let mut file = File::options().write(true).open(&file).expect("the database");
        file.seek(SeekFrom::Start(number * 4096)).expect("it is that long");
        file.write_all(&[0xa5; 4096]).expect("it can be written");
        match read(&directory(damaged.path()), &scan("segments", &COLUMNS)) {
            Err(Error::Damaged { .. } | Error::NoTable { .. }) => {}
            Err(other) => panic!("page {number}: {other}"),
            Ok(got) => {
                let whole = got.rows.len() == expected
                    && got.rows.iter().all(|(id, row)| {
                        let expected = &copied.store.collection("segments").rows[id];
                        row.document == expected.document && row.metadata == expected.metadata
                    });
                assert!(whole || got.lost > 0 || got.incomplete, "page {number}: a loss that nobody is told");
            }
        }
    }
}

#[test]
fn ids_that_cannot_be_looked_up_are_counted() {
    let copied = Copied::of("1.5.9");
    let ids: Vec<String> = copied.store.collection("segments").rows.keys().cloned().collect();
    let database = copied.path().join("chroma.sqlite3");
    let pages: Vec<i64> = {
        let connection = Connection::open(&database).expect("a database");
        let mut statement = connection
            .prepare("SELECT pageno FROM dbstat WHERE name = 'sqlite_autoindex_embeddings_1' AND pagetype = 'leaf'")
            .expect("dbstat");
        let pages = statement.query_map((), |row| row.get(0)).expect("pages");
        pages.collect::<Result<_, _>>().expect("pages")
    };
    let mut file = File::options().write(true).open(&database).expect("the database");
    file.seek(SeekFrom::Start((pages[pages.len() / 2] as u64 - 1) * 4096)).expect("it is that long");
    file.write_all(&[0xa5; 4096]).expect("it can be written");

    let source = directory(copied.path());
    let mut wanted = scan("segments", &COLUMNS[..1]);
    wanted.filters.push(Filter { column: "id".to_owned(), of: Type::Text, operation: Operation::In });
    assert!(source.plan(&wanted, &wanted.filters).is_ok(), "what cannot be counted can be planned");
    wanted.operands.push(Operand::Several(ids.iter().cloned().map(Operand::Text).collect()));
    let mut rows = source.open(&wanted).expect("rows");
    let found = crate::support::ids(rows.as_mut()).len();
    let lost = rows.losses().rows as usize;
    assert!(found > 0 && lost > 0, "{found} found, {lost} lost");
    assert_eq!(found + lost, ids.len());
    wanted.on_error = OnError::Error;
    assert!(matches!(source.open(&wanted).err(), Some(Error::Damaged { .. })));
}

#[test]
fn no_change_of_a_byte_in_an_index_breaks_the_reader() {
    let store = Store::of("1.5.9", "synced");
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("small")
    };
    let copied = Copied { directory: copy(&store.path), index: PathBuf::new(), store };
    let index = Copied::of("1.5.9").index.file_name().expect("a name").to_owned();
    let names = ["header.bin", "index_metadata.pickle", "data_level0.bin", "length.bin"];
    for round in 0..60 {
        let file = copied.path().join(&index).join(names[round % names.len()]);
        let whole = fs::read(&file).expect("the file");
        let mut bytes = whole.clone();
        for _ in 0..=random(8) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(bytes.len() - random(3).saturating_mul(random(bytes.len())) / 2);
        fs::write(&file, &bytes).expect("it can be written");
        let got = read_collection(copied.path(), "segments");
        assert_eq!(got.rows.len(), copied.store.collection("segments").rows.len());
        assert_eq!(got.lost as usize, got.rows.len() - got.vectors());
        fs::write(&file, &whole).expect("it can be written");
    }
}
