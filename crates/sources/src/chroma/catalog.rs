//! What a directory holds: tenants, databases and collections.

use rusqlite::OptionalExtension;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value as Json};

use super::metadata;
use super::store::Store;
use crate::error::Error;
use crate::text::InvalidText;

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Collection {
    pub(crate) id: String,
    pub(crate) name: String,
    /// How many numbers a vector has; unknown until the first is added.
    pub(crate) dimension: Option<u64>,
    /// `cosine`, `l2` or `ip`.
    pub(crate) distance: String,
    pub(crate) metadata: Option<Json>,
    /// The folder of its index.
    pub(crate) vector_segment: Option<String>,
    /// What its rows are found by.
    pub(crate) metadata_segment: Option<String>,
}

impl Collection {
    pub(crate) fn is_cosine(&self) -> bool {
        self.distance == "cosine"
    }
}

/// Whether a database exists in a tenant.
pub(crate) fn has_database(store: &Store, tenant: &str, database: &str) -> Result<bool, Error> {
    let select = "SELECT EXISTS (SELECT 1 FROM databases WHERE tenant_id = ?1 AND name = ?2)";
    store
        .connection()
        .query_row(select, (tenant, database), |row| row.get(0))
        .map_err(|error| store.failed(&error))
}

/// The collections of a database, in order of their names.
pub(crate) fn collections(store: &Store, tenant: &str, database: &str) -> Result<Vec<Collection>, Error> {
    read(store, tenant, database).map_err(|error| store.failed(&error))
}

fn read(store: &Store, tenant: &str, database: &str) -> rusqlite::Result<Vec<Collection>> {
    let optional = |column| {
        Ok::<_, rusqlite::Error>(if store.has_column("collections", column)? { column } else { "NULL" })
    };
    let select = format!(
        "SELECT c.id, c.name, c.dimension, {}, {}, \
           (SELECT s.id FROM segments s WHERE s.collection = c.id AND s.scope = 'VECTOR'), \
           (SELECT s.id FROM segments s WHERE s.collection = c.id AND s.scope = 'METADATA') \
         FROM collections c JOIN databases d ON d.id = c.database_id \
         WHERE d.tenant_id = ?1 AND d.name = ?2 ORDER BY c.name",
        optional("config_json_str")?,
        optional("schema_str")?,
    );
    let mut statement = store.connection().prepare(&select)?;
    let mut rows = statement.query((tenant, database))?;
    let mut collections = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let metadata = collection_metadata(store, &id)?;
        let json = |column| match row.get_ref(column)? {
            ValueRef::Text(bytes) => {
                Ok::<_, rusqlite::Error>(serde_json::from_slice(bytes).unwrap_or(Json::Null))
            }
            _ => Ok(Json::Null),
        };
        let distance = distance_of(metadata.as_ref(), &json(4)?, &json(3)?);
        let dimension: Option<i64> = row.get(2)?;
        collections.push(Collection {
            name: row.get(1)?,
            dimension: dimension
                .and_then(|dimension| u64::try_from(dimension).ok())
                .filter(|count| *count > 0),
            distance,
            metadata,
            // A folder's name is a UUID; anything else leads nowhere.
            vector_segment: row.get::<_, Option<String>>(5)?.filter(|name| is_uuid(name)),
            metadata_segment: row.get(6)?,
            id,
        });
    }
    Ok(collections)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The distance by a collection's metadata, the schema of Chroma 1.5, or the configuration of 1.0 and later. Before, a
/// configuration said `l2` whatever the metadata said; it has other keys.
pub(crate) fn distance_of(metadata: Option<&Json>, schema: &Json, configuration: &Json) -> String {
    let none = Json::Null;
    let places = [
        (metadata.unwrap_or(&none), "/hnsw:space"),
        (schema, "/keys/#embedding/float_list/vector_index/config/space"),
        (schema, "/defaults/float_list/vector_index/config/space"),
        (configuration, "/hnsw/space"),
        (configuration, "/vector_index/hnsw/space"),
    ];
    places.iter().find_map(|(json, place)| json.pointer(place)?.as_str()).unwrap_or("l2").to_owned()
}

fn collection_metadata(store: &Store, id: &str) -> rusqlite::Result<Option<Json>> {
    // Chroma 0.4 has no booleans there.
    let boolean = if store.has_column("collection_metadata", "bool_value")? { "bool_value" } else { "NULL" };
    let select = format!(
        "SELECT key, str_value, int_value, float_value, {boolean} FROM collection_metadata WHERE collection_id = ?1"
    );
    let mut statement = store.connection().prepare(&select)?;
    let mut rows = statement.query([id])?;
    let mut map = Map::new();
    while let Some(row) = rows.next()? {
        // What PostgreSQL cannot have of a collection's own metadata is left out: nobody's data is there.
        let pair =
            || Ok((metadata::key(row, InvalidText::Strip)?, metadata::value(row, 1, InvalidText::Strip)?));
        match pair() {
            Ok((key, value)) => drop(map.insert(key, value)),
            Err(metadata::Fault::Value(..)) => {}
            Err(metadata::Fault::Database(error)) => return Err(error),
        }
    }
    Ok(if map.is_empty() { None } else { Some(Json::Object(map)) })
}

/// How many rows a collection has.
pub(crate) fn count(store: &Store, collection: &Collection) -> Result<u64, Error> {
    let Some(segment) = &collection.metadata_segment else { return Ok(0) };
    let count: Option<i64> = store
        .connection()
        .query_row("SELECT count(*) FROM embeddings WHERE segment_id = ?1", [segment], |row| row.get(0))
        .optional()
        .map_err(|error| store.failed(&error))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}
