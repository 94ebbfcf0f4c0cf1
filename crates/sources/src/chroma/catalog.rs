//! What a directory holds: tenants, databases and collections.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value as Json};

use super::metadata;
use crate::error::Error;

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

/// Whether there is such a table.
pub(crate) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)", [name], |row| row.get(0))
}

fn has_column(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    let select = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    connection.query_row(select, (table, column), |row| row.get(0))
}

/// Whether a database exists in a tenant.
pub(crate) fn has_database(connection: &Connection, tenant: &str, database: &str) -> Result<bool, Error> {
    let select = "SELECT EXISTS (SELECT 1 FROM databases WHERE tenant_id = ?1 AND name = ?2)";
    connection
        .query_row(select, (tenant, database), |row| row.get(0))
        .map_err(|error| super::read_error("databases", &error))
}

/// The collections of a database, in order of their names.
pub(crate) fn collections(
    connection: &Connection,
    tenant: &str,
    database: &str,
) -> Result<Vec<Collection>, Error> {
    read(connection, tenant, database).map_err(|error| super::read_error("collections", &error))
}

fn read(connection: &Connection, tenant: &str, database: &str) -> rusqlite::Result<Vec<Collection>> {
    let optional = |column| {
        Ok::<_, rusqlite::Error>(if has_column(connection, "collections", column)? { column } else { "NULL" })
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
    let mut statement = connection.prepare(&select)?;
    let mut rows = statement.query((tenant, database))?;
    let mut collections = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let metadata = collection_metadata(connection, &id)?;
        let space = metadata.as_ref().and_then(|metadata| metadata.get("hnsw:space")).and_then(Json::as_str);
        let json = |column| match row.get_ref(column)? {
            ValueRef::Text(bytes) => {
                Ok::<_, rusqlite::Error>(serde_json::from_slice(bytes).unwrap_or(Json::Null))
            }
            _ => Ok(Json::Null),
        };
        let distance = match space {
            Some(space) => space.to_owned(),
            None => distance(&json(4)?, &json(3)?).to_owned(),
        };
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

/// The distance by the schema of Chroma 1.5 or the configuration of 1.0 and later. Before, a configuration said `l2`
/// whatever the collection's metadata said; it has other keys.
fn distance<'a>(schema: &'a Json, configuration: &'a Json) -> &'a str {
    let places = [
        (schema, "/keys/#embedding/float_list/vector_index/config/space"),
        (schema, "/defaults/float_list/vector_index/config/space"),
        (configuration, "/hnsw/space"),
        (configuration, "/vector_index/hnsw/space"),
    ];
    places.iter().find_map(|(json, place)| json.pointer(place)?.as_str()).unwrap_or("l2")
}

fn collection_metadata(connection: &Connection, id: &str) -> rusqlite::Result<Option<Json>> {
    // Chroma 0.4 has no booleans there.
    let boolean =
        if has_column(connection, "collection_metadata", "bool_value")? { "bool_value" } else { "NULL" };
    let select = format!(
        "SELECT key, str_value, int_value, float_value, {boolean} FROM collection_metadata WHERE collection_id = ?1"
    );
    let mut statement = connection.prepare(&select)?;
    let mut rows = statement.query([id])?;
    let mut map = Map::new();
    while let Some(row) = rows.next()? {
        let key = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).replace('\0', "");
        let value = metadata::value(row, 1)?.unwrap_or(Json::Null);
        map.insert(key, metadata::without_nul(value));
    }
    Ok(if map.is_empty() { None } else { Some(Json::Object(map)) })
}

/// How many rows a collection has.
pub(crate) fn count(connection: &Connection, collection: &Collection) -> Result<u64, Error> {
    let Some(segment) = &collection.metadata_segment else { return Ok(0) };
    let count: Option<i64> = connection
        .query_row("SELECT count(*) FROM embeddings WHERE segment_id = ?1", [segment], |row| row.get(0))
        .optional()
        .map_err(|error| super::read_error("embeddings", &error))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}
