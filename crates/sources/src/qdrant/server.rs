//! A Qdrant server: its REST interface.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::collection::{Collection, Params};
use super::point::{Part, Point, PointId, Vectors};
use super::rows::{Points, Wanted};
use crate::error::Error;
use crate::host::Host;
use crate::http::{self, Client, segment};

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

/// A server.
pub(super) struct Server {
    client: Client,
}

impl Server {
    pub(super) fn new(options: http::Options, host: &Host) -> Result<Self, Error> {
        Ok(Self { client: Client::new(options, host)? })
    }

    /// Names of the collections.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let answer: Answer<Collections> = self.client.get("/collections")?;
        let mut names: Vec<String> = answer.result.collections.into_iter().map(|named| named.name).collect();
        names.sort();
        Ok(names)
    }

    /// A collection, if it exists.
    pub(super) fn collection(&self, name: &str) -> Result<Option<Collection>, Error> {
        let answer: Result<Answer<Info>, Error> = self.client.get(&format!("/collections/{}", segment(name)));
        let info = match answer {
            Err(Error::Refused { status: 404, .. }) => return Ok(None),
            other => other?.result,
        };
        let mut collection = Collection::new(name, info.config.params).map_err(|_| {
            self.client.wrong(format!("The vectors of collection \"{name}\" are told in an unknown way."))
        })?;
        (collection.points, collection.status) = (info.points_count, info.status);
        Ok(Some(collection))
    }

    fn point(&self, raw: &RawValue) -> Result<Point, Error> {
        let wrong = |_| self.client.wrong("A point in it is not one.".to_owned());
        let record: Record<'_> = serde_json::from_str(raw.get()).map_err(wrong)?;
        let vectors = match record.vector {
            Some(raw) => Vectors::of(raw).map_err(wrong)?,
            None => Vectors::Single(Part::Absent),
        };
        Ok(Point { id: record.id, payload: record.payload.map_or(Part::Absent, Part::of), vectors })
    }
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
    fn request(&self) -> Json {
        let vectors = match self.wanted.vectors.as_slice() {
            [] => json!(false),
            // One without name can only be asked for with all others.
            names if names.iter().any(String::is_empty) => json!(true),
            names => json!(names),
        };
        json!({ "with_payload": self.wanted.payload, "with_vector": vectors })
    }

    /// Asks for points, for fewer if so many are too much for one answer.
    fn post<T: DeserializeOwned>(&mut self, path: &str, request: impl Fn(&Self) -> Json) -> Result<T, Error> {
        let path = format!("/collections/{}/{path}", segment(&self.collection));
        loop {
            match self.server.client.post(&path, &request(self)) {
                Err(Error::LongAnswer { .. }) if self.fetch_size > 1 => {
                    self.fetch_size = self.fetch_size.div_ceil(4)
                }
                other => return other.map(|answer: Answer<T>| answer.result),
            }
        }
    }

    fn scroll(
        &mut self,
        from: Option<PointId>,
        into: &mut VecDeque<Result<Point, Error>>,
    ) -> Result<bool, Error> {
        let page: Page = self.post("points/scroll", |points| {
            let mut request = points.request();
            request["limit"] = json!(points.fetch_size);
            if let Some(from) = &from {
                request["offset"] = json!(from);
            }
            request
        })?;
        let is_empty = page.points.is_empty();
        into.extend(page.points.iter().map(|raw| self.server.point(raw)));
        let Some(next) = page.next_page_offset else { return Ok(false) };
        // The next page has to begin elsewhere, and this one to have had something.
        if is_empty || from.as_ref() == Some(&next) || !self.begun.insert(next.clone()) {
            return Err(self
                .server
                .client
                .wrong(format!("Its paging does not end: it came to id {next} again.")));
        }
        self.next = Next::From(next);
        Ok(true)
    }

    fn by_ids(
        &mut self,
        mut ids: VecDeque<PointId>,
        into: &mut VecDeque<Result<Point, Error>>,
    ) -> Result<bool, Error> {
        if ids.is_empty() {
            return Ok(false);
        }
        let all = ids.len();
        let found: Vec<Box<RawValue>> = self.post("points", |points| {
            let mut request = points.request();
            request["ids"] = json!(ids.iter().take(points.fetch_size as usize).collect::<Vec<_>>());
            request
        })?;
        let asked: HashSet<PointId> = ids.drain(..all.min(self.fetch_size as usize)).collect();
        let mut given = HashSet::new();
        for raw in &found {
            let point = self.server.point(raw);
            // The condition is applied by the server alone.
            if let Ok(point) = &point
                && !(asked.contains(&point.id) && given.insert(point.id.clone()))
            {
                return Err(self
                    .server
                    .client
                    .wrong(format!("It gave id {}, which was not asked for.", point.id)));
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
