//! What a collection says of itself, and which columns it gets.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::table::{Column, Table};
use crate::value::{MAX_DIMENSIONS, Type};

/// A collection's name, vectors and size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Collection {
    pub(super) name: String,
    /// By their names; that of the only one may be empty.
    pub(super) vectors: BTreeMap<String, VectorParams>,
    /// As it tells them.
    pub(super) told_vectors: Json,
    pub(super) sparse: BTreeMap<String, Json>,
    pub(super) points: Option<u64>,
    pub(super) status: Option<String>,
}

/// One of a collection's vectors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct VectorParams {
    pub(super) size: u64,
    pub(super) distance: String,
    #[serde(default)]
    multivector_config: Option<Json>,
}

/// The part of a collection's configuration that tells its vectors.
#[derive(Debug, Deserialize)]
pub(super) struct Params {
    #[serde(default)]
    vectors: Json,
    #[serde(default)]
    sparse_vectors: Option<BTreeMap<String, Json>>,
}

/// What a column of a collection's table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Payload,
    /// A vector by its name, as numbers.
    Vector(String),
    /// A sparse vector, or a list of vectors, as it is told.
    Told(String),
}

impl Collection {
    pub(super) fn new(name: &str, params: Params) -> Result<Self, serde_json::Error> {
        let told = params.vectors;
        // A single vector is told by its size; otherwise there is an object for each name.
        let vectors = match &told {
            Json::Null => BTreeMap::new(),
            single if single.get("size").is_some_and(Json::is_number) => {
                BTreeMap::from([(String::new(), VectorParams::deserialize(single)?)])
            }
            named => BTreeMap::deserialize(named)?,
        };
        let sparse = params.sparse_vectors.unwrap_or_default();
        Ok(Self { name: name.to_owned(), vectors, told_vectors: told, sparse, points: None, status: None })
    }

    /// Columns with what they are. Names are distinct.
    pub(super) fn columns(&self) -> Vec<(Column, Field)> {
        let column = |name: String, of, not_null| Column { name, of, not_null };
        let mut columns = vec![
            (column("id".to_owned(), Type::Text, true), Field::Id),
            (column("payload".to_owned(), Type::Jsonb, true), Field::Payload),
        ];
        let dense = self.vectors.iter().map(|(name, params)| match params.dimensions() {
            Some(dimensions) => (Type::Vector(Some(dimensions)), Field::Vector(name.clone())),
            None => (Type::Jsonb, Field::Told(name.clone())),
        });
        let sparse = self.sparse.keys().map(|name| (Type::Jsonb, Field::Told(name.clone())));
        for (of, field) in dense.chain(sparse) {
            let (Field::Vector(vector) | Field::Told(vector)) = &field else { continue };
            let mut name = if vector.is_empty() { "embedding".to_owned() } else { vector.clone() };
            while columns.iter().any(|(column, _)| column.name == name) {
                name.push_str("_vector");
            }
            columns.push((column(name, of, false), field));
        }
        columns
    }

    pub(super) fn table(&self) -> Table {
        Table {
            name: self.name.clone(),
            columns: self.columns().into_iter().map(|(column, _)| column).collect(),
            options: Vec::new(),
        }
    }

    /// The distance that all its dense vectors have.
    pub(super) fn distance(&self) -> Option<&str> {
        let first = self.vectors.values().next()?;
        self.vectors.values().all(|params| params.distance == first.distance).then_some(&first.distance)
    }

    /// The dimensions that all its dense vectors have.
    pub(super) fn dimensions(&self) -> Option<u64> {
        let first = self.vectors.values().next()?;
        self.vectors.values().all(|params| params.size == first.size).then_some(first.size)
    }

    /// Bytes of a point's vectors in JSON, about.
    pub(super) fn bytes(&self) -> f64 {
        const BYTES_OF_NUMBER: f64 = 12.0;
        const BYTES_OF_PAYLOAD: f64 = 500.0;
        BYTES_OF_PAYLOAD
            + BYTES_OF_NUMBER * self.vectors.values().map(|params| params.size as f64).sum::<f64>()
    }
}

impl VectorParams {
    /// The dimensions of the column, if it is one of vectors.
    fn dimensions(&self) -> Option<u16> {
        if self.multivector_config.as_ref().is_some_and(|config| !config.is_null()) {
            return None;
        }
        u16::try_from(self.size).ok().filter(|size| (1..=MAX_DIMENSIONS).contains(&usize::from(*size)))
    }
}

/// The table of collections has this name, or, where a collection is called so, one that none has.
pub(super) fn catalog_name<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut name = "collections".to_owned();
    while names.clone().any(|taken| taken == name) {
        name.insert_str(0, "qdrant_");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(params: &str) -> Collection {
        Collection::new("c", serde_json::from_str(params).unwrap()).unwrap()
    }

    fn columns(params: &str) -> Vec<(String, Type)> {
        collection(params).columns().into_iter().map(|(column, _)| (column.name, column.of)).collect()
    }

    #[test]
    fn every_vector_gets_a_column_of_its_own() {
        assert_eq!(
            columns(r#"{"vectors": {"size": 384, "distance": "Cosine", "new": 1}, "sparse_vectors": null}"#)
                [2..],
            [("embedding".to_owned(), Type::Vector(Some(384)))]
        );
        let named = columns(
            r#"{"vectors": {"id": {"size": 3, "distance": "Dot"},
                            "size": {"size": 2, "distance": "Dot"},
                            "wide": {"size": 20000, "distance": "Dot"},
                            "late": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}},
                "sparse_vectors": {"payload": {}, "size": {}}}"#,
        );
        let expected = [
            ("id_vector", Type::Vector(Some(3))),
            ("late", Type::Jsonb),
            ("size", Type::Vector(Some(2))),
            ("wide", Type::Jsonb),
            ("payload_vector", Type::Jsonb),
            ("size_vector", Type::Jsonb),
        ];
        assert_eq!(named[2..], expected.map(|(name, of)| (name.to_owned(), of)));
        assert_eq!(columns("{}").len(), 2);
    }

    #[test]
    fn the_catalog_gives_way_to_a_collection() {
        assert_eq!(catalog_name(["a"].into_iter()), "collections");
        assert_eq!(
            catalog_name(["collections", "qdrant_collections"].into_iter()),
            "qdrant_qdrant_collections"
        );
    }
}
