//! How many documents have their chunks, for `attachment_status`.

use crate::attachment::chunks::link::Link;
use crate::attachment::chunks::options::Options;
use crate::pg::table::{Table, quote_identifier};
use crate::pg::table_triggers::trigger_function;
use crate::refresh::chunks::FUNCTION;

/// What is counted of the documents of one chunk table.
pub(in super::super) struct Counts {
    /// The chunks' vector column, with its table.
    pub(in super::super) embedding: String,
    /// Aggregates over the documents `d`: those with chunks, and those that lack them. None where that cannot be known.
    pub(in super::super) aggregates: Option<[String; 2]>,
}

/// Of each chunk table that a table of documents has.
pub(in super::super) fn counts(documents: &Table) -> Vec<Counts> {
    let function = trigger_function(FUNCTION);
    let mut attached: Vec<Vec<String>> = documents
        .triggers()
        .into_iter()
        .filter(|trigger| trigger.function == function)
        .map(|t| t.arguments)
        .collect();
    attached.sort();
    attached.dedup();
    attached.iter().filter_map(|arguments| of_attached(documents, arguments)).collect()
}

fn of_attached(documents: &Table, arguments: &[String]) -> Option<Counts> {
    let [column, _, schema, table, options] = arguments else { return None };
    let options: Options = serde_json::from_str(options).ok()?;
    let embedding = &options.columns.embedding;
    let embedding = [schema, table, embedding].map(|name| quote_identifier(name)).join(".");
    let aggregates = || {
        let chunks = Table::open_briefly(Table::find(schema, table)?).ok()?;
        let link = Link::new(documents, &chunks, column, &options).ok()?;
        if !chunks.may_be_read() {
            return None;
        }
        let has_chunks = link.has_chunks("d").ok()?;
        let has_text = link.has_text("d");
        Some([
            format!("pg_catalog.count(*) FILTER (WHERE {has_chunks})"),
            format!("pg_catalog.count(*) FILTER (WHERE {has_text} AND NOT {has_chunks})"),
        ])
    };
    Some(Counts { embedding, aggregates: aggregates() })
}
