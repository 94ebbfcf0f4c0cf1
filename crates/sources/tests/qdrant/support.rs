//! The store, the server, and reading them.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use vector_embed_sources::http::{Address, Options};
use vector_embed_sources::qdrant::{Place, Qdrant};
use vector_embed_sources::sqlite::Copies;
use vector_embed_sources::{Error, Host, Interest, OnError, Scan, Source, Type, Value, Zone};

#[path = "../../../../tests/qdrant/server.rs"]
mod process;
use process::Process;

pub(crate) const NOTES: [(&str, Type); 3] =
    [("id", Type::Text), ("payload", Type::Jsonb), ("embedding", Type::Vector(Some(8)))];

/// As cargo says when it runs the tests: another clone may have built them.
fn repository() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("../..")
}

/// Runs `scripts/qdrant`, which says by name what it cannot have on this machine.
fn script(what: &str) -> PathBuf {
    let output = Command::new(repository().join("scripts/qdrant"))
        .arg(what)
        .output()
        .expect("scripts/qdrant can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// Runs a program of `tests/qdrant` with the real qdrant-client.
pub(crate) fn python(program: &str) -> Command {
    let mut command = Command::new(script("python"));
    command.arg(repository().join("tests/qdrant").join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The folder of the store.
pub(crate) fn made() -> PathBuf {
    script("store")
}

/// What the real client says of a collection, by the ids of its points.
pub(crate) fn expected(collection: &str) -> BTreeMap<String, Expected> {
    let json = std::fs::read(made().join("expected.json")).expect("what qdrant-client says is there");
    let mut all: BTreeMap<String, BTreeMap<String, Expected>> = serde_json::from_slice(&json).expect("JSON");
    all.remove(collection).expect("there is such a collection")
}

#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    pub(crate) payload: Json,
    pub(crate) vector: Json,
}

/// A copy of the store: its users lock it.
pub(crate) fn copy_of_store() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    let status = Command::new("cp").arg("-r").arg(made().join("store")).arg(copy.path()).status();
    assert!(status.expect("cp runs").success());
    copy
}

/// The substitute for a server.
pub(crate) struct Server {
    process: Process,
    pub(crate) port: u16,
    _store: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_key(None)
    }

    pub(crate) fn with_key(key: Option<&str>) -> Self {
        let store = copy_of_store();
        let process = Process::start(python("server.py").arg(store.path().join("store")).args(key));
        Self { port: process.port, process, _store: store }
    }

    /// The next requests go wrong.
    pub(crate) fn faults(&mut self, faults: &[Json]) {
        self.process.tell(&json!({ "faults": faults }));
    }

    pub(crate) fn repeat(&mut self) {
        self.process.tell(&json!({ "repeat": true }));
    }

    /// The requests since the last time.
    pub(crate) fn seen(&mut self) -> Vec<Json> {
        let mut told = self.process.tell(&json!({ "take": true }));
        serde_json::from_value(told["seen"].take()).expect("a list")
    }

    pub(crate) fn options(&self) -> Options {
        let address = Address::parse(&format!("http://127.0.0.1:{}", self.process.port)).expect("an address");
        Options { timeout: Duration::from_secs(30), ..Options::new(address) }
    }

    pub(crate) fn source(&self) -> Qdrant {
        source_of(self.options(), host())
    }
}

pub(crate) fn source_of(options: Options, host: Host) -> Qdrant {
    Qdrant { place: Place::Server(Box::new(options)), fetch_size: 256, host }
}

pub(crate) fn directory(path: &Path) -> Qdrant {
    Qdrant { place: Place::Directory(path.to_owned()), fetch_size: 256, host: host() }
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
        wait,
        temporary: std::env::temp_dir().join("vector_embed"),
        temporary_bytes: None,
        copies: Copies::default(),
        zone: Rc::new(Utc),
    }
}

/// Waits as a backend does, but for at most 20 ms, so that tests can be interrupted.
fn wait(socket: Option<(BorrowedFd<'_>, Interest)>, time: Duration) {
    let time = time.min(Duration::from_millis(20));
    let Some((socket, interest)) = socket else { return std::thread::sleep(time) };
    let flags = match interest {
        Interest::Readable => PollFlags::IN,
        Interest::Writable => PollFlags::OUT,
    };
    let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    poll(&mut [PollFd::from_borrowed_fd(socket, flags)], Some(&time)).expect("poll works");
}

pub(crate) fn scan(table: &str, columns: &[(&str, Type)]) -> Scan {
    Scan {
        table: table.to_owned(),
        columns: columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect(),
        filters: Vec::new(),
        operands: Vec::new(),
        limit: None,
        on_error: OnError::Error,
    }
}

/// A value that outlives its row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Read {
    Null,
    Integer(i64),
    Text(String),
    Json(Json),
    Vector(Vec<f32>),
}

fn keep(value: Value<'_>) -> Read {
    match value {
        Value::Null => Read::Null,
        Value::Integer(number) => Read::Integer(number),
        Value::Text(text) | Value::Numeric(text) => Read::Text(text.to_owned()),
        Value::Json(json) => Read::Json(serde_json::from_str(json).expect("JSON")),
        Value::Vector(numbers) => Read::Vector(numbers.to_vec()),
        other => panic!("{other:?}"),
    }
}

/// All rows, how many rows and values were lost, and whether more may be.
#[derive(Debug)]
pub(crate) struct All {
    pub(crate) rows: Vec<Vec<Read>>,
    pub(crate) lost_rows: u64,
    pub(crate) lost_values: u64,
    pub(crate) incomplete: bool,
}

pub(crate) fn read(source: &Qdrant, scan: &Scan) -> Result<All, Error> {
    let mut rows = source.open(scan)?;
    let mut read = Vec::new();
    while rows.next()? {
        let row: Result<Vec<_>, Error> = (0..scan.columns.len()).map(|at| rows.value(at).map(keep)).collect();
        read.push(row?);
    }
    let losses = rows.losses();
    let (lost_rows, lost_values, incomplete) = (losses.rows, losses.values, losses.incomplete);
    Ok(All { rows: read, lost_rows, lost_values, incomplete })
}

/// What was read of points, by their ids.
pub(crate) fn by_id(all: All) -> BTreeMap<String, Vec<Read>> {
    let count = all.rows.len();
    let named = all.rows.into_iter().map(|mut row| match row.remove(0) {
        Read::Text(id) => (id, row),
        other => panic!("{other:?}"),
    });
    let named: BTreeMap<_, _> = named.collect();
    assert_eq!(named.len(), count, "no point comes twice");
    named
}

/// The detail of an error that has one, and its message.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::Server { detail, .. } | Error::Answer { detail, .. } | Error::Refused { detail, .. } => {
            format!("{error}: {detail}")
        }
        other => other.to_string(),
    }
}
