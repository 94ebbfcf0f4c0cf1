//! Directories that chromadb wrote, what it says of them, and reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value as Json;
use tempfile::TempDir;
use vector_embed_sources::chroma::Directory;
use vector_embed_sources::sqlite::{Copies, InvalidText};
use vector_embed_sources::{Error, Filter, Host, OnError, Operand, Rows, Scan, Source, Type, Value, Zone};

pub(crate) const VERSIONS: [&str; 4] = ["0.4.24", "0.5.23", "0.6.3", "1.5.9"];

/// As cargo says when it runs the tests: another clone may have built them.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("../..")
}

/// Runs `scripts/chroma`, which says by name what it cannot have on this machine.
pub(crate) fn script(what: &str, version: &str) -> PathBuf {
    let output = Command::new(repository().join("scripts/chroma"))
        .args([what, version])
        .output()
        .expect("scripts/chroma can be run");
    assert!(output.status.success(), "chromadb {version}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// The directory `name` that chromadb `version` wrote.
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) expected: Expected,
}

impl Store {
    pub(crate) fn of(version: &str, name: &str) -> Self {
        let stores = script("stores", version);
        let json = fs::read(stores.join(format!("{name}.json"))).expect("what chromadb says is there");
        Self { path: stores.join(name), expected: serde_json::from_slice(&json).expect("JSON") }
    }

    pub(crate) fn collection(&self, name: &str) -> &Collection {
        self.expected.collections.iter().find(|found| found.name == name).expect("there is such a collection")
    }
}

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) collections: Vec<Collection>,
}

/// A collection as its chromadb tells it.
#[derive(Deserialize)]
pub(crate) struct Collection {
    pub(crate) tenant: String,
    pub(crate) database: String,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) space: String,
    pub(crate) metadata: Option<Json>,
    pub(crate) rows: BTreeMap<String, ExpectedRow>,
    /// Ids that chromadb finds itself when it is asked for all.
    pub(crate) findable: BTreeSet<String>,
    pub(crate) rankings: Vec<Ranking>,
}

#[derive(Deserialize)]
pub(crate) struct ExpectedRow {
    pub(crate) document: Option<String>,
    pub(crate) metadata: Option<Json>,
    pub(crate) uri: Option<String>,
    /// As it was added.
    pub(crate) vector: Vec<f32>,
}

#[derive(Deserialize)]
pub(crate) struct Ranking {
    pub(crate) query: Vec<f32>,
    pub(crate) nearest: Vec<String>,
}

/// A row as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) document: Option<String>,
    pub(crate) metadata: Option<Json>,
    pub(crate) uri: Option<String>,
    pub(crate) vector: Option<Vec<f32>>,
}

/// All of a table, and what was lost.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) rows: BTreeMap<String, Row>,
    pub(crate) lost: u64,
    /// Vectors that have lost their length.
    pub(crate) partial: u64,
    pub(crate) why: Option<String>,
    pub(crate) incomplete: bool,
}

impl Read {
    pub(crate) fn vectors(&self) -> usize {
        self.rows.values().filter(|row| row.vector.is_some()).count()
    }
}

struct Utc;

impl Zone for Utc {
    fn to_utc(&self, local: i64) -> i64 {
        local
    }
}

pub(crate) fn host() -> Host {
    Host {
        interrupted: || false,
        wait: |_, _| std::thread::sleep(std::time::Duration::from_millis(1)),
        temporary: std::env::temp_dir().join("vector_embed"),
        temporary_bytes: None,
        copies: Copies::default(),
        zone: Rc::new(Utc),
    }
}

pub(crate) fn directory(path: &Path) -> Directory {
    directory_of(path, "default_tenant", "default_database")
}

pub(crate) fn directory_of(path: &Path, tenant: &str, database: &str) -> Directory {
    Directory {
        path: path.to_owned(),
        tenant: tenant.to_owned(),
        database: database.to_owned(),
        invalid_text: InvalidText::Strip,
        on_damage: OnError::Null,
        host: host(),
    }
}

pub(crate) fn scan(table: &str, columns: &[(&str, Type)]) -> Scan {
    Scan {
        table: table.to_owned(),
        columns: columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
        filters: Vec::<Filter>::new(),
        operands: Vec::<Operand>::new(),
        limit: None,
        on_error: OnError::Null,
    }
}

pub(crate) const COLUMNS: [(&str, Type); 5] = [
    ("id", Type::Text),
    ("document", Type::Text),
    ("metadata", Type::Jsonb),
    ("uri", Type::Text),
    ("embedding", Type::Vector(None)),
];

fn text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.to_owned()),
        other => panic!("not a text: {other:?}"),
    }
}

/// Reads a whole table.
pub(crate) fn read(source: &dyn Source, scan: &Scan) -> Result<Read, Error> {
    let mut rows = source.open(scan)?;
    let mut all = Read::default();
    while rows.next()? {
        let id = text(rows.value(0)?).expect("each row has an id");
        let document = text(rows.value(1)?);
        let metadata = match rows.value(2)? {
            Value::Null => None,
            Value::Json(text) => Some(serde_json::from_str(text).expect("JSON")),
            other => panic!("not JSON: {other:?}"),
        };
        let uri = text(rows.value(3)?);
        let vector = match rows.value(4)? {
            Value::Null => None,
            Value::Vector(vector) => Some(vector.to_vec()),
            other => panic!("not a vector: {other:?}"),
        };
        let known = all.rows.insert(id.clone(), Row { document, metadata, uri, vector });
        assert!(known.is_none(), "id {id} twice");
    }
    let losses = rows.losses();
    all.lost = losses.values + losses.rows;
    all.partial = losses.partial;
    all.incomplete = losses.incomplete;
    all.why = losses.first.as_ref().map(|error| explain(error));
    Ok(all)
}

pub(crate) fn read_collection(path: &Path, name: &str) -> Read {
    read(&directory(path), &scan(name, &COLUMNS)).expect("the collection can be read")
}

/// The ids of a scan's rows, in their order.
pub(crate) fn ids(rows: &mut dyn Rows) -> Vec<String> {
    ids_or_null(rows).into_iter().map(|id| id.expect("an id")).collect()
}

/// The same, where some may not fit.
pub(crate) fn ids_or_null(rows: &mut dyn Rows) -> Vec<Option<String>> {
    let mut ids = Vec::new();
    while rows.next().expect("a row or the end") {
        ids.push(text(rows.value(0).expect("an id or NULL")));
    }
    ids
}

pub(crate) fn explain(error: &Error) -> String {
    match error {
        Error::NoVector { damage: Some(damage), .. } => format!("{error}: {damage}"),
        Error::NoLength { damage, .. } => format!("{error}: {damage}"),
        Error::Open { detail, .. } => format!("{error}: {detail}"),
        other => other.to_string(),
    }
}

/// A copy of a directory that a test may damage.
pub(crate) fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a temporary directory");
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a new directory");
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

/// Whether two vectors are the same but for the last bits of their numbers.
pub(crate) fn same(one: &[f32], other: &[f32]) -> bool {
    let largest = other.iter().fold(0_f32, |largest, number| largest.max(number.abs()));
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| (a - b).abs() <= largest * 1e-6)
}

/// The vector of length 1 in the same direction.
pub(crate) fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter().map(|number| number / length).collect()
}

/// Distance as the collection compares.
pub(crate) fn distance(space: &str, one: &[f32], other: &[f32]) -> f64 {
    let product =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    match space {
        "cosine" => -product(one, other) / (product(one, one) * product(other, other)).sqrt(),
        "ip" => -product(one, other),
        _ => one.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum(),
    }
}
