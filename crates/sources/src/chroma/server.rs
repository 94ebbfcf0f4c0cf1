//! A Chroma server that runs, by version 2 of its interface (Chroma 0.6 and later).

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::catalog::distance_of;
use super::metadata::{self, Fault, excerpt};
use super::rows::wanted_ids;
use super::{
    CATALOG, CatalogRows, Field, Listed, accepted, catalog_table, collection_table, estimate, field, planned,
    position, vector_problem,
};
use crate::error::{BadValue, Error, Problem};
use crate::host::Host;
use crate::http::{self, Client, segment};
use crate::losses::Losses;
use crate::scan::{Estimate, Filter, OnError, Operand, Plan, Rows, Scan, Source};
use crate::table::Table;
use crate::text::{InvalidText, fitting};
use crate::value::{Type, Value};

/// Rows and collections that are asked for at once. Some servers give no more.
const PAGE: u64 = 250;

/// A database of a Chroma server.
#[derive(Clone)]
pub struct Server {
    /// Where it is, and what authenticates.
    pub options: http::Options,
    /// The tenant whose database it is.
    pub tenant: String,
    /// The database's name.
    pub database: String,
    /// What becomes of text that PostgreSQL cannot have.
    pub invalid_text: InvalidText,
    /// What becomes of vectors that the server does not have.
    pub on_damage: OnError,
    /// Where it is read.
    pub host: Host,
}

/// A collection, as far as it matters.
#[derive(Debug, Deserialize)]
struct Collection {
    id: String,
    name: String,
    dimension: Option<u64>,
    metadata: Option<Json>,
    #[serde(default)]
    configuration_json: Json,
    #[serde(default)]
    schema: Json,
}

impl Collection {
    fn distance(&self) -> String {
        distance_of(self.metadata.as_ref(), &self.schema, &self.configuration_json)
    }
}

impl Server {
    fn client(&self) -> Result<Client, Error> {
        Client::new(self.options.clone(), &self.host)
    }

    fn base(&self) -> String {
        format!("/api/v2/tenants/{}/databases/{}", segment(&self.tenant), segment(&self.database))
    }

    fn place(&self) -> String {
        format!("database \"{}\" of tenant \"{}\"", self.database, self.tenant)
    }

    fn collections(&self, client: &Client) -> Result<Vec<Collection>, Error> {
        let base = self.base();
        let mut all: Vec<Collection> = Vec::new();
        loop {
            let path = format!("{base}/collections?limit={PAGE}&offset={}", all.len());
            let page: Vec<Collection> = client.get(&path).map_err(|error| match error {
                Error::Refused { status: 404, .. } => Error::NoSchema {
                    schema: self.database.clone(),
                    place: format!("tenant \"{}\"", self.tenant),
                },
                other => other,
            })?;
            // A server that repeats itself would never end.
            if page.is_empty() || all.iter().any(|known| known.id == page[0].id) {
                break;
            }
            all.extend(page);
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    fn collection(&self, client: &Client, table: &str) -> Result<Collection, Error> {
        let mut all = self.collections(client)?;
        let found = position(all.iter().map(|collection| (&*collection.name, &*collection.id)), table);
        let missing = || Error::NoTable { table: table.to_owned(), place: self.place() };
        found.map(|position| all.swap_remove(position)).ok_or_else(missing)
    }

    fn count(&self, client: &Client, collection: &Collection) -> Result<u64, Error> {
        client.get(&format!("{}/collections/{}/count", self.base(), segment(&collection.id)))
    }
}

impl Source for Server {
    fn tables(&self, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Table>, Error> {
        let client = self.client()?;
        // An empty list does not tell whether there is such a database.
        let known: Result<Json, Error> = client.get(&self.base());
        if let Err(Error::Refused { status: 404, .. }) = known {
            let place = format!("tenant \"{}\"", self.tenant);
            return Err(Error::NoSchema { schema: self.database.clone(), place });
        }
        known?;
        let collections = self.collections(&client)?;
        let tables = collections
            .iter()
            .map(|found| collection_table(&found.name, &found.id, found.dimension, &self.database));
        let mut tables: Vec<Table> = tables.collect();
        tables.push(catalog_table(&self.database));
        tables.retain(|table| wants(&table.name));
        Ok(tables)
    }

    fn plan(&self, scan: &Scan, filters: &[Filter]) -> Result<Plan, Error> {
        let client = self.client()?;
        let accepted = filters.iter().map(|filter| accepted(scan, filter, self.invalid_text)).collect();
        if scan.table == CATALOG {
            let rows = self.collections(&client)?.len() as f64;
            return Ok(planned(accepted, Estimate { rows, pages: 1.0 }));
        }
        let collection = self.collection(&client, &scan.table)?;
        let rows = self.count(&client, &collection)?;
        Ok(planned(accepted, estimate(scan, rows, collection.dimension)))
    }

    fn open(&self, scan: &Scan) -> Result<Box<dyn Rows>, Error> {
        let client = self.client()?;
        if scan.table == CATALOG {
            let mut listed = Vec::new();
            for collection in self.collections(&client)? {
                let rows = self.count(&client, &collection)?;
                let distance = collection.distance();
                // What PostgreSQL cannot have of a collection's own metadata is left out.
                let metadata = collection.metadata.filter(|metadata| metadata.is_object());
                let metadata = metadata.and_then(|json| metadata::fit(json, InvalidText::Strip).ok());
                listed.push(Listed {
                    name: collection.name,
                    id: collection.id,
                    dimension: collection.dimension,
                    distance,
                    metadata: metadata.map(|json| json.to_string()),
                    rows,
                });
            }
            return Ok(Box::new(CatalogRows::new(listed, scan, &self.place())?));
        }
        let collection = self.collection(&client, &scan.table)?;
        let fields = scan.columns.iter().map(|(name, of)| field(&scan.table, &self.place(), name, *of));
        let fields: Vec<Field> = fields.collect::<Result<_, _>>()?;
        let path = format!("{}/collections/{}/get", self.base(), segment(&collection.id));
        let mut rows = ServerRows {
            client,
            path,
            server: self.clone(),
            collection: collection.name,
            fields,
            limit: scan.limit,
            on_error: scan.on_error,
            ids: None,
            asked: 0,
            given: 0,
            ahead: VecDeque::new(),
            current: Row::default(),
            text: String::new(),
            losses: Losses::default(),
        };
        rows.rescan(&scan.operands)?;
        Ok(Box::new(rows))
    }
}

/// A page of rows, a list for each column.
#[derive(Debug, Deserialize)]
struct Page {
    ids: Vec<String>,
    documents: Option<Vec<Option<String>>>,
    metadatas: Option<Vec<Option<Json>>>,
    uris: Option<Vec<Option<String>>>,
    /// A number that is not one is null in JSON.
    embeddings: Option<Vec<Option<Vec<Option<f32>>>>>,
}

#[derive(Debug, Default)]
struct Row {
    id: String,
    document: Option<String>,
    metadata: Option<Json>,
    uri: Option<String>,
    vector: Option<Vec<f32>>,
}

impl Page {
    fn rows(self) -> VecDeque<Row> {
        let (mut documents, mut metadatas) = (column(self.documents), column(self.metadatas));
        let (mut uris, mut vectors) = (column(self.uris), column(self.embeddings));
        let row = |id| Row {
            id,
            document: documents.next().flatten(),
            metadata: metadatas.next().flatten(),
            uri: uris.next().flatten(),
            vector: vectors.next().flatten().map(numbers),
        };
        self.ids.into_iter().map(row).collect()
    }
}

fn numbers(told: Vec<Option<f32>>) -> Vec<f32> {
    told.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect()
}

fn column<T>(values: Option<Vec<Option<T>>>) -> std::vec::IntoIter<Option<T>> {
    values.unwrap_or_default().into_iter()
}

struct ServerRows {
    client: Client,
    path: String,
    server: Server,
    collection: String,
    fields: Vec<Field>,
    limit: Option<u64>,
    on_error: OnError,
    /// The ids that are asked for; `None`: all.
    ids: Option<Vec<String>>,
    /// Rows, or ids, that were asked for.
    asked: u64,
    given: u64,
    ahead: VecDeque<Row>,
    current: Row,
    text: String,
    losses: Losses,
}

impl ServerRows {
    /// Asks for the next rows; false if there are none.
    fn look_ahead(&mut self) -> Result<bool, Error> {
        let mut wanted = json!({ "include": self.included() });
        match &self.ids {
            Some(ids) => {
                let rest = ids.iter().skip(self.asked as usize).take(PAGE as usize);
                let rest: Vec<&String> = rest.collect();
                if rest.is_empty() {
                    return Ok(false);
                }
                self.asked += rest.len() as u64;
                wanted["ids"] = json!(rest);
            }
            None => {
                let left = self.limit.map_or(PAGE, |limit| limit.saturating_sub(self.given).clamp(1, PAGE));
                wanted["limit"] = json!(left);
                wanted["offset"] = json!(self.asked);
            }
        }
        let page: Page = self.client.post(&self.path, &wanted)?;
        let rows = page.ids.len() as u64;
        self.ahead = page.rows();
        if self.ids.is_none() {
            self.asked += rows;
            return Ok(rows > 0);
        }
        Ok(true)
    }

    /// The parts of rows that are asked for.
    fn included(&self) -> Vec<&'static str> {
        let part = |field: &Field| match field {
            Field::Id => None,
            Field::Document => Some("documents"),
            Field::Metadata => Some("metadatas"),
            Field::Uri => Some("uris"),
            Field::Embedding(_) => Some("embeddings"),
        };
        self.fields.iter().filter_map(part).collect()
    }

    fn bad_value(&self, column: &str, wanted: Type, value: String, problem: Problem) -> Error {
        let (table, row) = (self.collection.clone(), self.row_name());
        let (column, wanted) = (column.to_owned(), wanted.to_string());
        Error::Value(Box::new(BadValue { table, row, column, wanted, value, problem }))
    }

    fn text_value(&mut self, name: &str, text: Option<String>) -> Result<Value<'_>, Error> {
        let Some(text) = text else { return Ok(Value::Null) };
        let mut scratch = String::new();
        match fitting(text.as_bytes(), self.server.invalid_text, &mut scratch) {
            Ok(text) => {
                self.text.clear();
                self.text.push_str(text);
                Ok(Value::Text(&self.text))
            }
            Err(problem) => {
                let error = self.bad_value(name, Type::Text, excerpt(text.as_bytes()), problem);
                self.losses.null(error, self.on_error)
            }
        }
    }

    fn metadata_value(&mut self) -> Result<Value<'_>, Error> {
        let Some(json) = self.current.metadata.clone() else { return Ok(Value::Null) };
        match metadata::fit(json, self.server.invalid_text) {
            Ok(json) => {
                self.text = json.to_string();
                Ok(Value::Json(&self.text))
            }
            Err(Fault::Value(value, problem)) => {
                let error = self.bad_value("metadata", Type::Jsonb, value, problem);
                self.losses.null(error, self.on_error)
            }
            Err(Fault::Database(_)) => Ok(Value::Null),
        }
    }

    fn vector_value(&mut self, declared: Option<u16>) -> Result<Value<'_>, Error> {
        let Some(vector) = &self.current.vector else {
            let (collection, id) = (self.collection.clone(), self.current.id.clone());
            return self.losses.null(Error::NoVector { collection, id, damage: None }, self.server.on_damage);
        };
        if let Some(problem) = vector_problem(vector, declared) {
            let error = self.bad_value("embedding", Type::Vector(declared), "a vector".to_owned(), problem);
            return self.losses.null(error, self.on_error);
        }
        Ok(Value::Vector(self.current.vector.as_deref().unwrap_or_default()))
    }
}

impl Rows for ServerRows {
    fn next(&mut self) -> Result<bool, Error> {
        if self.limit.is_some_and(|limit| self.given >= limit) {
            return Ok(false);
        }
        while self.ahead.is_empty() {
            if !self.look_ahead()? {
                return Ok(false);
            }
        }
        self.current = self.ahead.pop_front().unwrap_or_default();
        self.given += 1;
        Ok(true)
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        match self.fields.get(column) {
            Some(Field::Id) => self.text_value("id", Some(self.current.id.clone())),
            Some(Field::Document) => self.text_value("document", self.current.document.clone()),
            Some(Field::Uri) => self.text_value("uri", self.current.uri.clone()),
            Some(Field::Metadata) => self.metadata_value(),
            Some(Field::Embedding(dimensions)) => self.vector_value(*dimensions),
            None => Ok(Value::Null),
        }
    }

    fn row_name(&self) -> String {
        format!("id \"{}\"", self.current.id.replace('\0', "\\0"))
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, operands: &[Operand]) -> Result<(), Error> {
        self.ahead.clear();
        self.asked = 0;
        self.given = 0;
        self.ids = wanted_ids(operands).map(|ids| ids.into_iter().collect());
        Ok(())
    }
}
