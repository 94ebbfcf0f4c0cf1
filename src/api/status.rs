//! The functions behind the views `vector_embed.models` and `vector_embed.stat_engine`.

use pgrx::prelude::*;

use crate::client;
use crate::error::OrRaise;
use crate::pg::text::escaped;

type Models = TableIterator<
    'static,
    (
        name!(name, String),
        name!(dimensions, Option<i32>),
        name!(max_tokens, Option<i32>),
        name!(pooling, Option<String>),
        name!(normalized, Option<bool>),
        name!(document_prompt, Option<String>),
        name!(query_prompt, Option<String>),
        name!(format, Option<String>),
        name!(bytes, Option<i64>),
        name!(hash, Option<String>),
        name!(loaded, bool),
        name!(problem, Option<String>),
    ),
>;

#[pg_extern(sql = false)]
fn models() -> Models {
    let models = client::models().or_raise();
    TableIterator::new(models.into_iter().map(|model| {
        let usable = model.problem.is_empty();
        (
            model.name,
            (model.dimensions > 0).then_some(model.dimensions as i32),
            usable.then_some(model.max_tokens as i32),
            usable.then_some(model.pooling),
            usable.then_some(model.normalized),
            Some(escaped(&model.document_prompt)).filter(|prompt| !prompt.is_empty()),
            Some(escaped(&model.query_prompt)).filter(|prompt| !prompt.is_empty()),
            usable.then_some(model.format),
            usable.then_some(model.bytes as i64),
            usable.then_some(model.hash),
            model.loaded,
            (!usable).then_some(escaped(&model.problem)),
        )
    }))
}

type EngineRow = TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(started_at_micros, i64),
        name!(restarts, i64),
        name!(resident_bytes, i64),
        name!(cache_bytes, i64),
        name!(threads, i32),
        name!(connections, i32),
        name!(queued_texts, i64),
        name!(requests, i64),
        name!(texts, i64),
        name!(cache_hits, i64),
        name!(batches, i64),
        name!(tokens, i64),
        name!(padded_tokens, i64),
        name!(compute_micros, i64),
        name!(truncated, i64),
        name!(cancelled, i64),
        name!(errors, i64),
    ),
>;

#[pg_extern(sql = false)]
fn stat_engine() -> EngineRow {
    let stats = client::stats().or_raise();
    TableIterator::new(stats.into_iter().map(|stats| {
        (
            stats.pid as i32,
            stats.started_at as i64,
            stats.restarts as i64,
            stats.resident_bytes as i64,
            stats.cache_bytes as i64,
            stats.threads as i32,
            stats.connections as i32,
            stats.queued_texts as i64,
            stats.requests as i64,
            stats.texts as i64,
            stats.cache_hits as i64,
            stats.batches as i64,
            stats.tokens as i64,
            stats.padded_tokens as i64,
            stats.compute_micros as i64,
            stats.truncated as i64,
            stats.cancelled as i64,
            stats.errors as i64,
        )
    }))
}
