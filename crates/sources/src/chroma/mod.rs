//! Chroma directories, written by chromadb 0.4 to 1.5, and running Chroma servers.
//!
//! A directory is a SQLite database with documents, metadata and a queue of writes, and a folder for the index of each
//! collection. It is read as what it is: no code of Chroma's is needed, and none of Chroma's rules about which version
//! opens which directory holds. Documents come from the database alone; damage to an index costs vectors.

mod catalog;
mod damage;
#[doc(hidden)]
pub mod fuzz;
mod hnsw;
mod labels;
mod metadata;
mod rows;
mod server;
mod store;
mod vectors;

use std::path::PathBuf;

pub use damage::IndexDamage;
pub use server::Server;

use crate::error::{Error, Problem};
use crate::host::Host;
use crate::losses::Losses;
use crate::scan::{
    Accepted, Comparison, Estimate, Filter, OnError, Operand, Operation, Plan, Rows, Scan, Source,
};
use crate::table::{Column, Table};
use crate::text::InvalidText;
use crate::value::{MAX_DIMENSIONS, Type, Value, uuid};
use catalog::Collection;
use rows::{CollectionRows, Wanted};
use store::Store;

/// Rows of a collection that cannot be counted.
const UNKNOWN_ROWS: u64 = 1000;

/// The table that lists the collections.
const CATALOG: &str = "collections";

/// A column of a collection's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Document,
    Metadata,
    Uri,
    Embedding(Option<u16>),
}

impl Field {
    fn of(name: &str, wanted: Type) -> Option<Self> {
        Some(match (name, wanted) {
            ("id", Type::Text) => Self::Id,
            ("document", Type::Text) => Self::Document,
            ("metadata", Type::Json | Type::Jsonb) => Self::Metadata,
            ("uri", Type::Text) => Self::Uri,
            ("embedding", Type::Vector(dimensions)) => Self::Embedding(dimensions),
            _ => return None,
        })
    }
}

/// Columns of a collection's table.
const COLUMNS: [&str; 5] = ["id", "document", "metadata", "uri", "embedding"];

/// A database of a Chroma directory.
#[derive(Clone)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// The tenant whose database it is.
    pub tenant: String,
    /// The database's name.
    pub database: String,
    /// What becomes of text that PostgreSQL cannot have.
    pub invalid_text: InvalidText,
    /// What becomes of vectors that are gone because the directory is damaged.
    pub on_damage: OnError,
    /// Where it is read.
    pub host: Host,
}

impl Directory {
    fn store(&self) -> Result<Store, Error> {
        Store::open(&self.path, &self.host)
    }

    fn place(&self) -> String {
        format!("database \"{}\" of tenant \"{}\"", self.database, self.tenant)
    }

    fn collections(&self, store: &Store) -> Result<Vec<Collection>, Error> {
        catalog::collections(store, &self.tenant, &self.database)
    }

    fn collection(&self, store: &Store, table: &str) -> Result<Collection, Error> {
        let mut all = self.collections(store)?;
        let found = position(all.iter().map(|collection| (&*collection.name, &*collection.id)), table);
        let missing = || Error::NoTable { table: table.to_owned(), place: self.place() };
        found.map(|position| all.swap_remove(position)).ok_or_else(missing)
    }
}

/// Which of these collections, told by name and id, a table shows.
fn position<'a>(mut all: impl Iterator<Item = (&'a str, &'a str)>, table: &str) -> Option<usize> {
    all.position(|(name, id)| table_name(name, id) == table || name == table)
}

/// The name of a collection's table: the collection's, unless that is the catalog's. Then the beginning of its id makes
/// it another.
fn table_name(name: &str, id: &str) -> String {
    if name == CATALOG { format!("{name}_{}", &id[..id.floor_char_boundary(8)]) } else { name.to_owned() }
}

fn collection_table(name: &str, id: &str, dimension: Option<u64>, database: &str) -> Table {
    let dimensions = dimension
        .and_then(|dimension| u16::try_from(dimension).ok())
        .filter(|count| usize::from(*count) <= MAX_DIMENSIONS);
    let types = [Type::Text, Type::Text, Type::Jsonb, Type::Text, Type::Vector(dimensions)];
    let columns = COLUMNS.iter().zip(types);
    Table {
        name: table_name(name, id),
        columns: columns.map(|(name, of)| column(name, of, *name == "id")).collect(),
        options: vec![("database", database.to_owned())],
    }
}

fn catalog_table(database: &str) -> Table {
    Table {
        name: CATALOG.to_owned(),
        columns: CATALOG_COLUMNS.map(|(name, of)| column(name, of, false)).to_vec(),
        options: vec![("database", database.to_owned())],
    }
}

fn column(name: &str, of: Type, not_null: bool) -> Column {
    Column { name: name.to_owned(), of, not_null }
}

const CATALOG_COLUMNS: [(&str, Type); 6] = [
    ("name", Type::Text),
    ("id", Type::Uuid),
    ("dimension", Type::Integer),
    ("distance", Type::Text),
    ("metadata", Type::Jsonb),
    ("rows", Type::Bigint),
];

/// A column by its name, as the type that it is wanted as.
fn field(table: &str, place: &str, name: &str, wanted: Type) -> Result<Field, Error> {
    Field::of(name, wanted).ok_or_else(|| {
        let (table, column) = (table.to_owned(), name.to_owned());
        if COLUMNS.contains(&name) {
            let hint = Some("Import the schema anew to have the column's type.".to_owned());
            Error::Type { column, table, wanted: wanted.to_string(), hint }
        } else {
            Error::NoColumn { column, table, place: place.to_owned() }
        }
    })
}

/// Why pgvector would not have a vector.
fn vector_problem(vector: &[f32], declared: Option<u16>) -> Option<Problem> {
    let found = vector.len();
    if found == 0 {
        Some(Problem::Empty)
    } else if let Some(expected) = declared.filter(|expected| usize::from(*expected) != found) {
        Some(Problem::Dimensions { expected, found })
    } else if found > MAX_DIMENSIONS {
        Some(Problem::Range)
    } else if vector.iter().all(|number| number.is_finite()) {
        None
    } else {
        Some(Problem::NotFinite)
    }
}

/// Ids that are stripped or made hexadecimal are other ids in the store, so that it cannot look for them.
fn accepted(scan: &Scan, filter: &Filter, invalid_text: InvalidText) -> Accepted {
    let is_id = scan.table != CATALOG
        && filter.column == "id"
        && filter.of == Type::Text
        && invalid_text == InvalidText::Error;
    match filter.operation {
        Operation::Compare(Comparison::Equal) | Operation::In if is_id => Accepted::Fully,
        _ => Accepted::No,
    }
}

/// How much a collection's scan gives, if each row has some text.
fn estimate(scan: &Scan, rows: u64, dimension: Option<u64>) -> Estimate {
    let vectors = scan.columns.iter().any(|(name, _)| name == "embedding");
    let vector_bytes = if vectors { dimension.unwrap_or(0) as f64 * 4.0 } else { 0.0 };
    Estimate { rows: rows as f64, pages: (rows as f64 * (512.0 + vector_bytes) / 8192.0).ceil() }
}

fn planned(accepted: Vec<Accepted>, estimate: Estimate) -> Plan {
    Plan { accepted, estimate, describe: Box::new(|scan| Ok(query(scan))) }
}

/// What a scan reads, in words.
fn query(scan: &Scan) -> String {
    let names: Vec<&str> = scan.columns.iter().map(|(name, _)| &**name).collect();
    let what = if scan.table == CATALOG {
        return format!("list of collections: {}", names.join(", "));
    } else if names.is_empty() {
        "rows"
    } else {
        &names.join(", ")
    };
    let mut query = format!("{what} of collection \"{}\"", scan.table);
    for (position, filter) in scan.filters.iter().enumerate() {
        let word = if position == 0 { "where" } else { "and" };
        let operator = if filter.operation == Operation::In { "in" } else { "=" };
        query += &format!(" {word} {} {operator} ${}", filter.column, position + 1);
    }
    if let Some(limit) = scan.limit {
        query += &format!(" limit {limit}");
    }
    query + if names.contains(&"embedding") { ", vectors read" } else { ", vectors not read" }
}

impl Source for Directory {
    fn tables(&self, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Table>, Error> {
        let store = self.store()?;
        if !catalog::has_database(&store, &self.tenant, &self.database)? {
            return Err(Error::NoSchema {
                schema: self.database.clone(),
                place: format!("tenant \"{}\"", self.tenant),
            });
        }
        let mut tables: Vec<Table> = self
            .collections(&store)?
            .iter()
            .map(|found| collection_table(&found.name, &found.id, found.dimension, &self.database))
            .collect();
        tables.push(catalog_table(&self.database));
        tables.retain(|table| wants(&table.name));
        Ok(tables)
    }

    fn plan(&self, scan: &Scan, filters: &[Filter]) -> Result<Plan, Error> {
        let store = self.store()?;
        let accepted = filters.iter().map(|filter| accepted(scan, filter, self.invalid_text)).collect();
        if scan.table == CATALOG {
            let rows = self.collections(&store)?.len() as f64;
            return Ok(planned(accepted, Estimate { rows, pages: 1.0 }));
        }
        let collection = self.collection(&store, &scan.table)?;
        let rows = match catalog::count(&store, &collection) {
            // What can be read is read nevertheless.
            Err(Error::Damaged { .. }) => UNKNOWN_ROWS,
            rows => rows?,
        };
        Ok(planned(accepted, estimate(scan, rows, collection.dimension)))
    }

    fn open(&self, scan: &Scan) -> Result<Box<dyn Rows>, Error> {
        let store = self.store()?;
        if scan.table == CATALOG {
            let mut listed = Vec::new();
            for collection in self.collections(&store)? {
                let rows = catalog::count(&store, &collection)?;
                listed.push(Listed {
                    name: collection.name,
                    id: collection.id,
                    dimension: collection.dimension,
                    distance: collection.distance,
                    metadata: collection.metadata.map(|metadata| metadata.to_string()),
                    rows,
                });
            }
            return Ok(Box::new(CatalogRows::new(listed, scan, &self.place())?));
        }
        let collection = self.collection(&store, &scan.table)?;
        let fields = scan.columns.iter().map(|(name, of)| field(&scan.table, &self.place(), name, *of));
        let wanted = Wanted {
            fields: fields.collect::<Result<_, _>>()?,
            limit: scan.limit,
            on_error: scan.on_error,
            on_damage: self.on_damage,
            invalid_text: self.invalid_text,
        };
        Ok(Box::new(CollectionRows::open(store, collection, wanted, &scan.operands)?))
    }
}

/// A row of the catalog.
#[derive(Debug)]
struct Listed {
    name: String,
    id: String,
    dimension: Option<u64>,
    distance: String,
    metadata: Option<String>,
    rows: u64,
}

struct CatalogRows {
    listed: Vec<Listed>,
    columns: Vec<(String, Type)>,
    next: usize,
    losses: Losses,
}

impl CatalogRows {
    fn new(listed: Vec<Listed>, scan: &Scan, place: &str) -> Result<Self, Error> {
        for (column, wanted) in &scan.columns {
            let (table, column) = (scan.table.clone(), column.clone());
            let wanted = match CATALOG_COLUMNS.iter().find(|(name, _)| *name == column) {
                None => return Err(Error::NoColumn { column, table, place: place.to_owned() }),
                Some((_, of)) if of == wanted => continue,
                Some(_) => wanted.to_string(),
            };
            return Err(Error::Type { column, table, wanted, hint: None });
        }
        Ok(Self { listed, columns: scan.columns.clone(), next: 0, losses: Losses::default() })
    }
}

impl Rows for CatalogRows {
    fn next(&mut self) -> Result<bool, Error> {
        self.next += 1;
        Ok(self.next <= self.listed.len())
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        let row = &self.listed[self.next - 1];
        let integer = |number: u64| i64::try_from(number).map_or(Value::Null, Value::Integer);
        Ok(match self.columns.get(column).map(|(name, _)| &**name) {
            Some("name") => Value::Text(&row.name),
            Some("id") => uuid(&row.id).map_or(Value::Null, Value::Uuid),
            Some("dimension") => {
                row.dimension.filter(|count| *count <= i32::MAX as u64).map_or(Value::Null, integer)
            }
            Some("distance") => Value::Text(&row.distance),
            Some("metadata") => row.metadata.as_deref().map_or(Value::Null, Value::Json),
            Some("rows") => integer(row.rows),
            _ => Value::Null,
        })
    }

    fn row_name(&self) -> String {
        let row = self.next.checked_sub(1).and_then(|position| self.listed.get(position));
        format!("name \"{}\"", row.map_or("", |row| &row.name))
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, _: &[Operand]) -> Result<(), Error> {
        self.next = 0;
        Ok(())
    }
}
