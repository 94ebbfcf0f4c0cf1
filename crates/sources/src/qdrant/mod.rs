//! Qdrant: servers, and the local store of qdrant-client.
//!
//! A collection is a table: `id text, payload jsonb`, a column for each vector. A table `collections` tells what there
//! is. Points are given as Qdrant gives them; a server has normalized the vectors of collections with cosine distance
//! when they were written, the local store has not.

mod collection;
mod local;
mod pickle;
mod point;
mod rows;
mod server;

use std::path::PathBuf;
use std::rc::Rc;

use collection::{Collection, Field, catalog_name};
use local::Local;
use rows::{CATALOG, CollectionRows, PointRows, Points, Wanted, fields};
use server::{Server, ServerPoints};

use crate::error::Error;
use crate::host::Host;
use crate::http;
use crate::scan::{Accepted, Comparison, Estimate, Filter, Operation, Plan, Rows, Scan, Source};
use crate::table::{Column, Table};
use crate::value::Type;

/// A store of Qdrant's.
#[derive(Clone)]
pub struct Qdrant {
    /// What it is.
    pub place: Place,
    /// Points to ask a server for at once. It is asked for fewer if their answer would be too large.
    pub fetch_size: u32,
    /// Where it is read.
    pub host: Host,
}

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A server.
    Server(Box<http::Options>),
    /// A directory of qdrant-client.
    Directory(PathBuf),
}

const PAGE: f64 = 8192.0;

impl Qdrant {
    fn place(&self) -> String {
        match &self.place {
            Place::Server(options) => format!("Qdrant server {}", options.address),
            Place::Directory(path) => format!("local store of Qdrant \"{}\"", path.display()),
        }
    }

    fn open_place(&self) -> Result<Opened, Error> {
        Ok(match &self.place {
            Place::Server(options) => Opened::Server(Rc::new(Server::new((**options).clone(), &self.host)?)),
            Place::Directory(path) => Opened::Directory(Local::new(path, &self.host)),
        })
    }

    fn no_table(&self, table: &str) -> Error {
        Error::NoTable { table: table.to_owned(), place: self.place() }
    }

    /// What a scan's table is.
    fn relation(&self, opened: &Opened, name: &str) -> Result<Relation, Error> {
        if let Some(collection) = opened.collection(name)? {
            return Ok(Relation::Collection(collection));
        }
        let names = opened.names()?;
        let is_catalog = catalog_name(names.iter().map(String::as_str)) == name;
        if is_catalog { Ok(Relation::Catalog(names)) } else { Err(self.no_table(name)) }
    }
}

/// A store that is open.
enum Opened {
    Server(Rc<Server>),
    Directory(Local),
}

impl Opened {
    fn names(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::Server(server) => server.names(),
            Self::Directory(local) => Ok(local.collections()?.into_iter().map(|found| found.name).collect()),
        }
    }

    fn collection(&self, name: &str) -> Result<Option<Collection>, Error> {
        match self {
            Self::Server(server) => server.collection(name),
            Self::Directory(local) => Ok(local.collections()?.into_iter().find(|found| found.name == name)),
        }
    }

    /// The number of a collection's points, if the store tells.
    fn points(&self, collection: &Collection) -> Result<Option<u64>, Error> {
        match self {
            Self::Server(_) => Ok(collection.points),
            Self::Directory(local) => local.count(&collection.name).map(Some),
        }
    }
}

enum Relation {
    Collection(Collection),
    /// The table of collections, with their names.
    Catalog(Vec<String>),
}

fn catalog(name: String) -> Table {
    let column = |(name, of, not_null): (&str, Type, bool)| Column { name: name.to_owned(), of, not_null };
    Table { name, columns: CATALOG.into_iter().map(column).collect(), options: Vec::new() }
}

impl Source for Qdrant {
    fn tables(&self, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Table>, Error> {
        let opened = self.open_place()?;
        let names = opened.names()?;
        let catalog_name = catalog_name(names.iter().map(String::as_str));
        let mut tables = Vec::new();
        for name in names.iter().filter(|name| wants(name)) {
            // It may have been dropped since.
            if let Some(collection) = opened.collection(name)? {
                tables.push(collection.table());
            }
        }
        if wants(&catalog_name) {
            tables.push(catalog(catalog_name));
        }
        Ok(tables)
    }

    fn plan(&self, scan: &Scan, filters: &[Filter]) -> Result<Plan, Error> {
        let opened = self.open_place()?;
        let relation = self.relation(&opened, &scan.table)?;
        let (rows, bytes) = match &relation {
            Relation::Collection(collection) => {
                let points = match opened.points(collection) {
                    // What can be read is read nevertheless.
                    Err(Error::Damaged { .. }) => None,
                    points => points?,
                };
                (points.unwrap_or(1000) as f64, collection.bytes())
            }
            Relation::Catalog(names) => (names.len() as f64, PAGE),
        };
        let accepts = |filter: &Filter| {
            let by_id = matches!(relation, Relation::Collection(_)) && filter.column == "id";
            let operation = matches!(filter.operation, Operation::In | Operation::Compare(Comparison::Equal));
            if by_id && operation && matches!(filter.of, Type::Text | Type::Bigint) {
                Accepted::Fully
            } else {
                Accepted::No
            }
        };
        let estimate = Estimate { rows, pages: (rows * bytes / PAGE).ceil() };
        let accepted = filters.iter().map(accepts).collect();
        let place = self.place();
        let describe = Box::new(move |scan: &Scan| match &relation {
            Relation::Collection(collection) => describe(collection, scan, &place),
            Relation::Catalog(_) => Ok("collections".to_owned()),
        });
        Ok(Plan { accepted, estimate, describe })
    }

    fn open(&self, scan: &Scan) -> Result<Box<dyn Rows>, Error> {
        let opened = self.open_place()?;
        let collection = match self.relation(&opened, &scan.table)? {
            Relation::Collection(collection) => collection,
            Relation::Catalog(names) => {
                let mut collections = Vec::new();
                for name in &names {
                    let Some(mut collection) = opened.collection(name)? else { continue };
                    collection.points = opened.points(&collection)?;
                    collections.push(collection);
                }
                return Ok(Box::new(CollectionRows::open(collections, scan, &self.place())?));
            }
        };
        let wanted = self.wanted(&collection, scan)?;
        let points: Box<dyn Points> = match opened {
            Opened::Server(server) => Box::new(ServerPoints::new(server, &collection.name, wanted)),
            Opened::Directory(local) => Box::new(local.points(&collection.name, wanted)?),
        };
        let rows = PointRows::open(points, &collection, scan, &self.place(), self.host.interrupted)?;
        Ok(Box::new(rows))
    }
}

/// What a scan asks for, in words.
fn describe(collection: &Collection, scan: &Scan, place: &str) -> Result<String, Error> {
    let fields = fields(collection, scan, place)?;
    let vectors: Vec<&str> = vectors(&fields).collect();
    let what = if scan.filters.is_empty() { "scroll" } else { "points by id" };
    let mut query = format!("{what} of collection {}", collection.name);
    if fields.contains(&Field::Payload) {
        query += ", payload";
    }
    if !vectors.is_empty() {
        let names = vectors.into_iter().map(|name| if name.is_empty() { "(unnamed)" } else { name });
        query += &format!(", vectors {}", names.collect::<Vec<_>>().join(", "));
    }
    if let Some(limit) = scan.limit {
        query += &format!(", limit {limit}");
    }
    Ok(query)
}

/// Names of the vectors among fields.
fn vectors(fields: &[Field]) -> impl Iterator<Item = &str> {
    fields.iter().filter_map(|field| match field {
        Field::Vector(name) | Field::Told(name) => Some(name.as_str()),
        Field::Id | Field::Payload => None,
    })
}

impl Qdrant {
    /// What a scan needs of each point.
    fn wanted(&self, collection: &Collection, scan: &Scan) -> Result<Wanted, Error> {
        let fields = fields(collection, scan, &self.place())?;
        let limit = scan.limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX).max(1));
        Ok(Wanted {
            payload: fields.contains(&Field::Payload),
            vectors: vectors(&fields).map(str::to_owned).collect(),
            fetch_size: self.fetch_size.clamp(1, limit),
        })
    }
}
