//! The functions behind the views `vector_embed.models`, `vector_embed.stat_engine` and `vector_embed.stat_models`.

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
        name!(precision, Option<String>),
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
            Some(model.precision).filter(|precision| !precision.is_empty()),
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
        name!(model_bytes, i64),
        name!(threads, i32),
        name!(batch_tokens, i32),
        name!(connections, i32),
        name!(queued_texts, i64),
        name!(requests, i64),
        name!(texts, i64),
        name!(cache_hits, i64),
        name!(batches, i64),
        name!(tokens, i64),
        name!(padded_tokens, i64),
        name!(compute_micros, i64),
        name!(wait_micros, Option<Vec<i64>>),
        name!(run_micros, Option<Vec<i64>>),
        name!(truncated, i64),
        name!(cancelled, i64),
        name!(errors, i64),
    ),
>;

#[pg_extern(sql = false)]
fn stat_engine() -> EngineRow {
    let stats = client::stats().or_raise();
    TableIterator::new(stats.into_iter().map(|stats| {
        // Nothing is told of nothing.
        let quantiles = |micros: [u64; 3]| (stats.texts > 0).then(|| micros.map(|it| it as i64).to_vec());
        (
            stats.pid as i32,
            stats.started_at as i64,
            stats.restarts as i64,
            stats.resident_bytes as i64,
            stats.cache_bytes as i64,
            stats.model_bytes as i64,
            stats.threads as i32,
            stats.batch_tokens as i32,
            stats.connections as i32,
            stats.queued_texts as i64,
            stats.requests as i64,
            stats.texts as i64,
            stats.cache_hits as i64,
            stats.batches as i64,
            stats.tokens as i64,
            stats.padded_tokens as i64,
            stats.compute_micros as i64,
            quantiles([stats.wait_p50, stats.wait_p95, stats.wait_p99]),
            quantiles([stats.run_p50, stats.run_p95, stats.run_p99]),
            stats.truncated as i64,
            stats.cancelled as i64,
            stats.errors as i64,
        )
    }))
}

type ModelRows = TableIterator<
    'static,
    (
        name!(name, String),
        name!(hash, Option<String>),
        name!(loaded_at_micros, Option<i64>),
        name!(used_at_micros, Option<i64>),
        name!(memory_bytes, i64),
        name!(loads, i64),
        name!(unloads, i64),
        name!(load_micros, i64),
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
fn stat_models() -> ModelRows {
    let models = client::model_stats().or_raise();
    let time = |micros: u64| (micros > 0).then_some(micros as i64);
    TableIterator::new(models.into_iter().map(move |model| {
        let counters = model.counters;
        (
            model.name,
            Some(model.hash).filter(|hash| !hash.is_empty()),
            time(counters.loaded_at),
            time(counters.used_at),
            counters.bytes as i64,
            counters.loads as i64,
            counters.unloads as i64,
            counters.load_micros as i64,
            counters.requests as i64,
            counters.texts as i64,
            counters.cache_hits as i64,
            counters.batches as i64,
            counters.tokens as i64,
            counters.padded_tokens as i64,
            counters.compute_micros as i64,
            counters.truncated as i64,
            counters.cancelled as i64,
            counters.errors as i64,
        )
    }))
}
