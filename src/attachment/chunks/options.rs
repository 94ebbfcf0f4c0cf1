//! What a trigger that keeps a chunk table is told: its arguments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vector_embed_protocol::ChunkRule;

use super::passages;
use crate::error::Error;

/// The arguments of the triggers: the column of the text, the model, schema and name of the chunk table, and this as
/// JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Columns of the chunk table with the document's primary key.
    pub(crate) key: Vec<String>,
    pub(crate) columns: Names,
    /// Further columns of the chunk table, and the document's columns that they are copies of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) fill: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) overlap_tokens: Option<i32>,
    pub(crate) format: String,
}

/// The names of the chunk table's columns. Those that need not exist are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    pub(crate) chunk_index: String,
    pub(crate) content: String,
    pub(crate) embedding: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_char: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) char_count: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_count: Option<String>,
}

impl Options {
    pub(crate) fn rule(&self) -> Result<ChunkRule, Error> {
        passages::rule(self.max_tokens, self.overlap_tokens, Some(&self.format))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("options are plain JSON")
    }

    /// Every column of the chunk table that is filled.
    pub(crate) fn filled(&self) -> Vec<&String> {
        let Names { chunk_index, content, embedding, .. } = &self.columns;
        self.key
            .iter()
            .chain([chunk_index, content, embedding])
            .chain(self.columns.numbers().into_iter().filter_map(|(_, column)| column))
            .chain(self.fill.keys())
            .collect()
    }
}

impl Names {
    /// The columns that need not exist, each with the name of its value.
    pub(crate) fn numbers(&self) -> [(&'static str, Option<&String>); 3] {
        [
            ("start_char", self.start_char.as_ref()),
            ("char_count", self.char_count.as_ref()),
            ("token_count", self.token_count.as_ref()),
        ]
    }
}
