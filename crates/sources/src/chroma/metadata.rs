//! Metadata as JSON: of a row, and of a collection.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::{Map, Number, Value as Json};

use super::store::Store;
use crate::error::Problem;
use crate::text::{InvalidText, fitting};

/// Why metadata cannot be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A value of it, written here, does not fit.
    Value(String, Problem),
    /// The database cannot be read.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// The value in four columns from number `first`: text, integer, float, boolean.
pub(crate) fn value(row: &Row<'_>, first: usize, invalid_text: InvalidText) -> Result<Json, Fault> {
    if let ValueRef::Integer(boolean) = row.get_ref(first + 3)? {
        return Ok(Json::Bool(boolean != 0));
    }
    if let ValueRef::Integer(integer) = row.get_ref(first + 1)? {
        return Ok(Json::Number(integer.into()));
    }
    let float = match row.get_ref(first + 2)? {
        ValueRef::Real(float) => Some(float),
        ValueRef::Integer(integer) => Some(integer as f64),
        _ => None,
    };
    if let Some(float) = float {
        return Number::from_f64(float)
            .map(Json::Number)
            .ok_or_else(|| Fault::Value(float.to_string(), Problem::NotFinite));
    }
    match row.get_ref(first)? {
        ValueRef::Text(bytes) => Ok(Json::String(text(bytes, invalid_text)?)),
        _ => Ok(Json::Null),
    }
}

/// The key in column 0.
pub(crate) fn key(row: &Row<'_>, invalid_text: InvalidText) -> Result<String, Fault> {
    match row.get_ref(0)? {
        ValueRef::Text(bytes) => text(bytes, invalid_text),
        _ => Ok(String::new()),
    }
}

fn text(bytes: &[u8], invalid_text: InvalidText) -> Result<String, Fault> {
    let fit = fitting(bytes, invalid_text, &mut String::new()).map(str::to_owned);
    fit.map_err(|problem| Fault::Value(excerpt(bytes), problem))
}

/// Metadata that a server gave, as PostgreSQL can have it.
pub(crate) fn fit(json: Json, invalid_text: InvalidText) -> Result<Json, Fault> {
    let whole = |string: String| text(string.as_bytes(), invalid_text);
    Ok(match json {
        Json::String(string) => Json::String(whole(string)?),
        Json::Array(list) => {
            let list = list.into_iter().map(|value| fit(value, invalid_text));
            Json::Array(list.collect::<Result<_, _>>()?)
        }
        Json::Object(map) => {
            let pairs = map.into_iter().map(|(key, value)| Ok((whole(key)?, fit(value, invalid_text)?)));
            Json::Object(pairs.collect::<Result<_, Fault>>()?)
        }
        other => other,
    })
}

/// The beginning of a text that does not fit, as one would write it.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let (begin, dots) = if bytes.len() > 60 { (&bytes[..60], "...") } else { (bytes, "") };
    format!("'{}{dots}'", String::from_utf8_lossy(begin).replace('\0', "\\0"))
}

/// Reads the metadata of rows.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Since Chroma 1.5, there are lists.
    has_lists: bool,
    invalid_text: InvalidText,
}

impl Reader {
    pub(crate) fn new(store: &Store, invalid_text: InvalidText) -> rusqlite::Result<Self> {
        Ok(Self { has_lists: store.has_table("embedding_metadata_array")?, invalid_text })
    }

    /// The metadata of the row with this number in table `embeddings`, if it has any.
    pub(crate) fn read(&self, store: &Store, row: i64) -> Result<Option<Json>, Fault> {
        let mut map = Map::new();
        self.read_from(store, "embedding_metadata", row, |key, value| {
            map.insert(key, value);
        })?;
        if self.has_lists {
            self.read_from(store, "embedding_metadata_array", row, |key, value| {
                if let Json::Array(list) = map.entry(key).or_insert_with(|| Json::Array(Vec::new())) {
                    list.push(value);
                }
            })?;
        }
        Ok(if map.is_empty() { None } else { Some(Json::Object(map)) })
    }

    fn read_from(
        &self,
        store: &Store,
        table: &str,
        row: i64,
        mut take: impl FnMut(String, Json),
    ) -> Result<(), Fault> {
        let select = format!(
            "SELECT key, string_value, int_value, float_value, bool_value FROM {table} WHERE id = ?1 ORDER BY rowid"
        );
        let mut statement = store.connection().prepare_cached(&select)?;
        let mut rows = statement.query([row])?;
        while let Some(row) = rows.next()? {
            let key = key(row, self.invalid_text)?;
            // Chroma's own, such as the document, is no metadata.
            if !key.starts_with("chroma:") {
                take(key, value(row, 1, self.invalid_text)?);
            }
        }
        Ok(())
    }
}
