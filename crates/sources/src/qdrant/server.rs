//! A Qdrant server: its REST interface.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::collection::{Collection, Params};
use super::point::{Part, Point, PointId, Vectors};
use super::rows::Points;
use crate::error::Error;
use crate::http::{self, Client};

/// What every answer is in. Members that nobody knows are no error, here and below.
#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Collections {
    collections: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    points_count: Option<u64>,
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    params: Params,
}

#[derive(Deserialize)]
struct Page {
    points: Vec<Box<RawValue>>,
    #[serde(default)]
    next_page_offset: Option<PointId>,
}

#[derive(Deserialize)]
struct Record<'a> {
    id: PointId,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default, borrow)]
    vector: Option<&'a RawValue>,
}

/// What a server says that refuses: `{"status": {"error": "..."}}`.
#[derive(Deserialize)]
struct Refusal {
    status: RefusalStatus,
}

#[derive(Deserialize)]
struct RefusalStatus {
    error: String,
}

/// A server.
pub(super) struct Server {
    client: Client,
}

impl Server {
    pub(super) fn new(settings: http::Settings) -> Result<Self, Error> {
        Ok(Self { client: Client::new(settings)? })
    }

    /// Names of the collections.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let answer: Collections = self.read(&self.client.get(&["collections"], &[]).map_err(refused)?)?;
        let mut names: Vec<String> = answer.collections.into_iter().map(|collection| collection.name).collect();
        names.sort();
        Ok(names)
    }

    /// A collection, if it exists.
    pub(super) fn collection(&self, name: &str) -> Result<Option<Collection>, Error> {
        let body = match self.client.get(&["collections", name], &[]) {
            Err(http::Error::Status { status: 404, .. } | http::Error::Url(_)) => return Ok(None),
            other => other.map_err(refused)?,
        };
        let info: Info = self.read(&body)?;
        let mut collection = Collection::new(name, info.config.params).map_err(|error| self.invalid(&error))?;
        (collection.points, collection.status) = (info.points_count, info.status);
        Ok(Some(collection))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        let answer: Answer<T> = serde_json::from_slice(body).map_err(|error| self.invalid(&error))?;
        Ok(answer.result)
    }

    /// Where JSON is wrong. The parser's message is not passed on, because it may quote what was sent.
    fn invalid(&self, error: &serde_json::Error) -> Error {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "ends too early",
            serde_json::error::Category::Data => "is not what was asked for",
            _ => "is not valid",
        };
        self.wrong(format!("Its JSON {what} at line {} column {}.", error.line(), error.column()))
    }

    fn wrong(&self, detail: String) -> Error {
        Error::Response { server: self.client.server().to_string(), detail }
    }

    fn point(&self, raw: &RawValue) -> Result<Point, Error> {
        let record: Record<'_> = serde_json::from_str(raw.get()).map_err(|error| self.invalid(&error))?;
        let vectors = match record.vector {
            Some(raw) => Vectors::of(raw).map_err(|error| self.invalid(&error))?,
            None => Vectors::Single(Part::Absent),
        };
        Ok(Point { id: record.id, payload: record.payload.map_or(Part::Absent, Part::of), vectors })
    }
}

/// Takes the message out of a refusal.
fn refused(error: http::Error) -> http::Error {
    match error {
        http::Error::Status { server, status, body } => {
            let body = match serde_json::from_str::<Refusal>(&body) {
                Ok(refusal) => refusal.status.error,
                Err(_) => body,
            };
            http::Error::Status { server, status, body }
        }
        other => other,
    }
}

/// What is wanted of a collection's points.
pub(super) struct Wanted {
    pub(super) payload: bool,
    /// Names of vectors; the only one may have none.
    pub(super) vectors: Vec<String>,
    /// Points to ask for at once.
    pub(super) fetch_size: u32,
}

/// Points of a collection, page by page.
pub(super) struct ServerPoints {
    server: Rc<Server>,
    collection: String,
    wanted: Wanted,
    fetch_size: u32,
    next: Next,
    /// Where pages began. A server that repeats one would never end.
    begun: HashSet<PointId>,
}

enum Next {
    First,
    From(PointId),
    Ids(VecDeque<PointId>),
}

impl ServerPoints {
    pub(super) fn new(server: Rc<Server>, collection: &str, wanted: Wanted) -> Self {
        Self {
            server,
            collection: collection.to_owned(),
            fetch_size: wanted.fetch_size,
            wanted,
            next: Next::First,
            begun: HashSet::new(),
        }
    }

    /// The members of a request that tell what of a point is wanted.
    fn request(&self) -> serde_json::Value {
        let vectors = match self.wanted.vectors.as_slice() {
            [] => json!(false),
            // One without name can only be asked for with all others.
            names if names.iter().any(String::is_empty) => json!(true),
            names => json!(names),
        };
        json!({ "with_payload": self.wanted.payload, "with_vector": vectors })
    }

    /// Asks for points, for fewer if so many are too much for one answer.
    fn post(&mut self, path: &[&str], request: impl Fn(&Self) -> serde_json::Value) -> Result<Vec<u8>, Error> {
        loop {
            let body = request(self).to_string();
            let path: Vec<&str> = ["collections", &self.collection].into_iter().chain(path.iter().copied()).collect();
            match self.server.client.post(&path, body.as_bytes()) {
                Err(http::Error::TooLarge { .. }) if self.fetch_size > 1 => self.fetch_size = self.fetch_size.div_ceil(4),
                other => return Ok(other.map_err(refused)?),
            }
        }
    }

    fn scroll(&mut self, from: Option<PointId>, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error> {
        let body = self.post(&["points", "scroll"], |points| {
            let mut request = points.request();
            request["limit"] = json!(points.fetch_size);
            if let Some(from) = &from {
                request["offset"] = json!(from);
            }
            request
        })?;
        let page: Page = self.server.read(&body)?;
        let is_empty = page.points.is_empty();
        into.extend(page.points.iter().map(|raw| self.server.point(raw)));
        let Some(next) = page.next_page_offset else { return Ok(false) };
        // The next page has to begin elsewhere, and this one to have had something.
        if is_empty || from.as_ref() == Some(&next) || !self.begun.insert(next.clone()) {
            return Err(self.server.wrong(format!("Its paging does not end: it came to id {next} again.")));
        }
        self.next = Next::From(next);
        Ok(true)
    }

    fn by_ids(&mut self, mut ids: VecDeque<PointId>, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error> {
        if ids.is_empty() {
            return Ok(false);
        }
        let all = ids.len();
        let body = self.post(&["points"], |points| {
            let mut request = points.request();
            request["ids"] = json!(ids.iter().take(points.fetch_size as usize).collect::<Vec<_>>());
            request
        })?;
        let asked: HashSet<PointId> = ids.drain(..all.min(self.fetch_size as usize)).collect();
        let found: Vec<Box<RawValue>> = self.server.read(&body)?;
        let mut given = HashSet::new();
        for raw in &found {
            let point = self.server.point(raw);
            // The condition is applied by the server alone.
            if let Ok(point) = &point
                && !(asked.contains(&point.id) && given.insert(point.id.clone()))
            {
                return Err(self.server.wrong(format!("It gave id {}, which was not asked for.", point.id)));
            }
            into.push_back(point);
        }
        let more = !ids.is_empty();
        self.next = Next::Ids(ids);
        Ok(more)
    }
}

impl Points for ServerPoints {
    fn fetch(&mut self, into: &mut VecDeque<Result<Point, Error>>) -> Result<bool, Error> {
        match std::mem::replace(&mut self.next, Next::First) {
            Next::First => self.scroll(None, into),
            Next::From(id) => self.scroll(Some(id), into),
            Next::Ids(ids) => self.by_ids(ids, into),
        }
    }

    fn restart(&mut self, ids: Option<Vec<PointId>>) -> Result<(), Error> {
        self.begun.clear();
        self.fetch_size = self.wanted.fetch_size;
        self.next = ids.map_or(Next::First, |ids| Next::Ids(ids.into()));
        Ok(())
    }
}
