//! The local store of qdrant-client: a directory with `meta.json`, and for each collection a SQLite file with pickled
//! points.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::collection::{Collection, Params};
use super::pickle::{self, Fault};
use super::point::{Part, Point, PointId, Vectors};
use super::rows::Points;
use crate::error::{Error, Problem};
use crate::host::Host;
use crate::sqlite::{self, Database};

const WHAT: &str = "local store of Qdrant";
const MAX_META_BYTES: u64 = 16 << 20;
/// Longest pickle that is read.
const MAX_POINT_BYTES: usize = 64 << 20;
/// Points read at once.
const BATCH: usize = 256;

#[derive(Deserialize)]
struct Meta {
    collections: BTreeMap<String, Params>,
}

/// A directory.
pub(super) struct Local {
    path: PathBuf,
    host: Host,
}

impl Local {
    pub(super) fn new(path: &Path, host: &Host) -> Self {
        Self { path: path.to_owned(), host: host.clone() }
    }

    fn meta(&self) -> Result<Meta, Error> {
        let path = self.path.join("meta.json");
        let refuse = |detail: String| Error::Open {
            what: WHAT,
            path: self.path.display().to_string(),
            detail,
            hint: Some(
                "It is a directory with a file \"meta.json\", as QdrantClient(path=...) makes it.".to_owned(),
            ),
        };
        let failed = |error: std::io::Error| refuse(format!("\"meta.json\": {error}."));
        // Opening a pipe would wait for its writer.
        let is_file = std::fs::metadata(&path).map_err(failed)?.is_file();
        if !is_file {
            return Err(refuse("\"meta.json\" is not a regular file.".to_owned()));
        }
        let mut text = String::new();
        let file = File::open(&path).map_err(failed)?;
        file.take(MAX_META_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_META_BYTES {
            return Err(refuse(format!("\"meta.json\" exceeds {MAX_META_BYTES} bytes.")));
        }
        serde_json::from_str(&text).map_err(|error| self.damaged(format!("In \"meta.json\": {error}.")))
    }

    fn damaged(&self, detail: String) -> Error {
        Error::Damaged { what: WHAT, path: self.path.display().to_string(), detail }
    }

    /// The collections, without the numbers of their points.
    pub(super) fn collections(&self) -> Result<Vec<Collection>, Error> {
        let collections = self.meta()?.collections.into_iter();
        let collection = |(name, params): (String, Params)| {
            let refuse = |error| self.damaged(format!("In \"meta.json\", collection \"{name}\": {error}."));
            Collection::new(&name, params).map_err(refuse)
        };
        collections.map(collection).collect()
    }

    /// Counts a collection's points.
    pub(super) fn count(&self, name: &str) -> Result<u64, Error> {
        let database = self.open(name)?;
        let count =
            database.connection().query_row("SELECT count(*) FROM points", [], |row| row.get::<_, i64>(0));
        count.map(|count| count.max(0) as u64).map_err(|error| self.failed(name, &error))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join("collection").join(name).join("storage.sqlite")
    }

    fn open(&self, name: &str) -> Result<Database, Error> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(
                self.damaged("A collection's name in \"meta.json\" is none of a directory.".to_owned())
            );
        }
        sqlite::open(&self.file(name), &self.host)
    }

    fn failed(&self, name: &str, error: &rusqlite::Error) -> Error {
        sqlite::failed(&self.file(name), error)
    }

    /// A collection's points.
    pub(super) fn points(self, collection: &str) -> Result<LocalPoints, Error> {
        let database = self.open(collection)?;
        Ok(LocalPoints {
            local: self,
            collection: collection.to_owned(),
            database,
            before: None,
            seen: HashSet::new(),
            wanted: None,
        })
    }
}

/// Points of a collection, from the last one written to the first.
pub(super) struct LocalPoints {
    local: Local,
    collection: String,
    database: Database,
    /// Rowid of the last row that was read.
    before: Option<i64>,
    /// Old versions of qdrant-client have left rows behind of points that they wrote again: the last one counts.
    seen: HashSet<PointId>,
    wanted: Option<HashSet<PointId>>,
}

impl Points for LocalPoints {
    fn fetch(&mut self, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error> {
        let failed = |error: &rusqlite::Error| self.local.failed(&self.collection, error);
        let query =
            "SELECT rowid, point FROM points WHERE rowid < ?1 OR ?1 IS NULL ORDER BY rowid DESC LIMIT ?2";
        let mut statement =
            self.database.connection().prepare_cached(query).map_err(|error| failed(&error))?;
        let mut rows = statement.query((self.before, BATCH as i64)).map_err(|error| failed(&error))?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(|error| failed(&error))? {
            count += 1;
            let rowid = row.get(0).map_err(|error| failed(&error))?;
            self.before = Some(rowid);
            let point = match row.get_ref(1).map_err(|error| failed(&error))? {
                ValueRef::Blob(bytes) => point(bytes),
                _ => Err("it is not a blob".to_owned()),
            };
            match point {
                Ok(point) => {
                    let is_wanted = self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&point.id));
                    if self.seen.insert(point.id.clone()) && is_wanted {
                        into.push_back(Ok(point));
                    }
                }
                Err(reason) => into.push_back(Err(Error::Damaged {
                    what: WHAT,
                    path: self.local.path.display().to_string(),
                    detail: format!(
                        "In collection \"{}\", point of rowid {rowid}: {reason}.",
                        self.collection
                    ),
                })),
            }
        }
        Ok(count == BATCH)
    }

    fn restart(&mut self, ids: Option<Vec<PointId>>) -> Result<(), Error> {
        self.before = None;
        self.seen.clear();
        self.wanted = ids.map(|ids| ids.into_iter().collect());
        Ok(())
    }
}

/// Reads a pickled point.
fn point(bytes: &[u8]) -> Result<Point, String> {
    if bytes.len() > MAX_POINT_BYTES {
        return Err(format!("it exceeds {MAX_POINT_BYTES} bytes"));
    }
    let told = pickle::read(bytes).and_then(|pickle| pickle.point()).map_err(|fault| fault.to_string())?;
    let id = serde_json::from_str(&told.id).map_err(|_| Fault::NoPoint.to_string())?;
    let part = |told: Result<String, Fault>| match told.map(RawValue::from_string) {
        Ok(Ok(raw)) => Ok(raw),
        Ok(Err(_)) => Err(Problem::Syntax),
        Err(Fault::NotFinite) => Err(Problem::NotFinite),
        Err(Fault::TooLarge) => Err(Problem::Range),
        Err(_) => Err(Problem::Kind("an object of another program")),
    };
    let payload = part(told.payload).map_or_else(Part::Bad, |raw| Part::of(&raw));
    let vectors = match part(told.vector) {
        Ok(raw) => Vectors::of(&raw).map_err(|_| Fault::NoPoint.to_string())?,
        Err(problem) => Vectors::Bad(Part::Bad(problem)),
    };
    Ok(Point { id, payload, vectors })
}
