//! Metadata as JSON: of a row, and of a collection.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde_json::{Map, Number, Value as Json};

use crate::error::Problem;

/// What could not be given as it is in a value that PostgreSQL can hold.
pub(crate) type Changed = Option<Problem>;

/// The value in four columns from number `first`: text, integer, float, boolean. Nothing for a float that JSON
/// cannot tell.
pub(crate) fn value(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Json>> {
    if let ValueRef::Integer(boolean) = row.get_ref(first + 3)? {
        return Ok(Some(Json::Bool(boolean != 0)));
    }
    if let ValueRef::Integer(integer) = row.get_ref(first + 1)? {
        return Ok(Some(Json::Number(integer.into())));
    }
    match row.get_ref(first + 2)? {
        ValueRef::Real(float) => return Ok(Number::from_f64(float).map(Json::Number)),
        // SQLite keeps 3.0 as 3 in some places.
        ValueRef::Integer(integer) => return Ok(Number::from_f64(integer as f64).map(Json::Number)),
        _ => {}
    }
    Ok(match row.get_ref(first)? {
        ValueRef::Text(bytes) => Some(Json::String(String::from_utf8_lossy(bytes).into_owned())),
        _ => Some(Json::Null),
    })
}

/// The same without NUL characters, which neither `text` nor `jsonb` can hold.
pub(crate) fn without_nul(value: Json) -> Json {
    match value {
        Json::String(text) if text.contains('\0') => Json::String(text.replace('\0', "")),
        other => other,
    }
}

/// Reads the metadata of rows.
#[derive(Debug)]
pub(crate) struct Reader {
    single: &'static str,
    /// Lists, which Chroma has since 1.5.
    several: Option<&'static str>,
}

impl Reader {
    pub(crate) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let has_lists = super::catalog::has_table(connection, "embedding_metadata_array")?;
        Ok(Self {
            single: "SELECT key, string_value, int_value, float_value, bool_value FROM embedding_metadata \
                     WHERE id = ?1 ORDER BY key",
            several: has_lists.then_some(
                "SELECT key, string_value, int_value, float_value, bool_value FROM embedding_metadata_array \
                 WHERE id = ?1 ORDER BY rowid",
            ),
        })
    }

    /// The metadata of the row with this number in table `embeddings`, if it has any.
    pub(crate) fn read(
        &self,
        connection: &Connection,
        row: i64,
    ) -> rusqlite::Result<(Option<Json>, Changed)> {
        let mut map = Map::new();
        let mut changed = None;
        for (query, is_list) in [(Some(self.single), false), (self.several, true)] {
            let Some(query) = query else { continue };
            let mut statement = connection.prepare_cached(query)?;
            let mut rows = statement.query([row])?;
            while let Some(row) = rows.next()? {
                let Ok(bytes) = row.get_ref(0)?.as_bytes() else { continue };
                let key = String::from_utf8_lossy(bytes);
                // Chroma's own, such as the document.
                if key.starts_with("chroma:") {
                    continue;
                }
                let value = value(row, 1)?;
                let nul =
                    key.contains('\0') || matches!(&value, Some(Json::String(text)) if text.contains('\0'));
                if nul {
                    changed = changed.or(Some(Problem::Nul));
                }
                if value.is_none() {
                    changed = changed.or(Some(Problem::NotFinite));
                }
                let value = without_nul(value.unwrap_or(Json::Null));
                let key = key.replace('\0', "");
                if is_list {
                    if let Json::Array(list) = map.entry(key).or_insert_with(|| Json::Array(Vec::new())) {
                        list.push(value);
                    }
                } else {
                    map.insert(key, value);
                }
            }
        }
        Ok((if map.is_empty() { None } else { Some(Json::Object(map)) }, changed))
    }
}
