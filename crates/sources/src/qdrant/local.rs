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
use super::pickle::{Fault, PickledPoint};
use super::point::{Part, Point, PointId, Vectors};
use super::rows::{Points, Wanted};
use crate::error::{Error, Problem};
use crate::host::Host;
use crate::pickle::PickleFault;
use crate::sqlite::{self, Database};

const WHAT: &str = "local store of Qdrant";
const MAX_META_BYTES: u64 = 16 << 20;
/// Points read at once, unless they are so large in JSON.
const BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 16 << 20;

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
    pub(super) fn points(self, collection: &str, wanted: Wanted) -> Result<LocalPoints, Error> {
        let database = self.open(collection)?;
        Ok(LocalPoints {
            local: self,
            collection: collection.to_owned(),
            database,
            wanted,
            from: Some(i64::MAX),
            seen: HashSet::new(),
            ids: None,
        })
    }
}

/// Points of a collection, from the last one written to the first.
pub(super) struct LocalPoints {
    local: Local,
    collection: String,
    database: Database,
    wanted: Wanted,
    /// Rowid from which on down rows are to be read; none after the least that there can be.
    from: Option<i64>,
    /// Old versions of qdrant-client have left rows behind of points that they wrote again: the last one counts.
    seen: HashSet<PointId>,
    /// The points that are asked for; `None`: all.
    ids: Option<HashSet<PointId>>,
}

impl Points for LocalPoints {
    fn fetch(&mut self, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error> {
        let interrupted = self.local.host.interrupted;
        let failed = |error: &rusqlite::Error| self.local.failed(&self.collection, error);
        let query = "SELECT rowid, point FROM points WHERE rowid <= ?1 ORDER BY rowid DESC";
        let mut statement =
            self.database.connection().prepare_cached(query).map_err(|error| failed(&error))?;
        let Some(from) = self.from else { return Ok(false) };
        let mut rows = statement.query([from]).map_err(|error| failed(&error))?;
        let mut bytes = 0;
        for _ in 0..BATCH {
            if interrupted() {
                return Err(Error::Interrupted);
            }
            let Some(row) = rows.next().map_err(|error| failed(&error))? else { return Ok(false) };
            let rowid: i64 = row.get(0).map_err(|error| failed(&error))?;
            self.from = rowid.checked_sub(1);
            let pickle = row.get_ref(1).map_err(|error| failed(&error))?;
            let (seen, ids) = (&mut self.seen, &self.ids);
            let is_wanted =
                |id: &PointId| seen.insert(id.clone()) && ids.as_ref().is_none_or(|ids| ids.contains(id));
            match point(pickle, &self.wanted, is_wanted, interrupted) {
                Ok(Some(point)) => {
                    bytes += point.bytes();
                    into.push_back(Ok(point));
                }
                Ok(None) => {}
                Err(Fault::Pickle(PickleFault::Interrupted)) => return Err(Error::Interrupted),
                Err(reason) => into.push_back(Err(Error::Damaged {
                    what: WHAT,
                    path: self.local.path.display().to_string(),
                    detail: format!(
                        "In collection \"{}\", point of rowid {rowid}: {reason}.",
                        self.collection
                    ),
                })),
            }
            if bytes > MAX_BATCH_BYTES {
                break;
            }
        }
        Ok(true)
    }

    fn restart(&mut self, ids: Option<Vec<PointId>>) -> Result<(), Error> {
        self.from = Some(i64::MAX);
        self.seen.clear();
        self.ids = ids.map(|ids| ids.into_iter().collect());
        Ok(())
    }
}

/// Reads a pickled point, if its id is wanted, and what is wanted of it.
fn point(
    pickle: ValueRef<'_>,
    wanted: &Wanted,
    is_wanted: impl FnOnce(&PointId) -> bool,
    interrupted: fn() -> bool,
) -> Result<Option<Point>, Fault> {
    let ValueRef::Blob(pickle) = pickle else { return Err(Fault::NoBlob) };
    let told = PickledPoint::read(pickle, interrupted)?;
    let id = serde_json::from_str(&told.member("id")?).map_err(|_| Fault::NoPoint)?;
    if !is_wanted(&id) {
        return Ok(None);
    }
    let part = |name: &str, is_wanted: bool| match is_wanted.then(|| told.member(name)).transpose() {
        Ok(json) => match json.map(RawValue::from_string).transpose() {
            Ok(raw) => Ok(Ok(raw)),
            Err(_) => Ok(Err(Problem::Syntax)),
        },
        Err(fault @ Fault::Pickle(_)) => Err(fault),
        Err(Fault::NotFinite) => Ok(Err(Problem::NotFinite)),
        Err(Fault::TooLarge) => Ok(Err(Problem::Range)),
        Err(_) => Ok(Err(Problem::Kind("an object of another program"))),
    };
    let payload = match part("payload", wanted.payload)? {
        Ok(raw) => raw.map_or(Part::Absent, |raw| Part::of(&raw)),
        Err(problem) => Part::Bad(problem),
    };
    let vectors = match part("vector", !wanted.vectors.is_empty())? {
        Ok(Some(raw)) => Vectors::of(&raw).map_err(|_| Fault::NoPoint)?,
        Ok(None) => Vectors::Single(Part::Absent),
        Err(problem) => Vectors::Bad(Part::Bad(problem)),
    };
    Ok(Some(Point { id, payload, vectors }))
}
