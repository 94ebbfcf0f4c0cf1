//! Answers about the engine itself.

use std::sync::atomic::Ordering::Relaxed;

use vector_embed_protocol::EngineStats;

use super::Engine;
use crate::schedule::Counter;

impl Engine {
    pub(super) fn stats(&self) -> EngineStats {
        let counters = self.scheduler.counters();
        EngineStats {
            pid: std::process::id().into(),
            started_at: self.started_at,
            restarts: self.restarts,
            resident_bytes: resident_bytes(),
            cache_bytes: self.scheduler.cache_bytes() as u64,
            threads: self.scheduler.models().threads() as u64,
            connections: self.connections.load(Relaxed),
            queued_texts: self.scheduler.queued() as u64,
            requests: counters.get(Counter::Requests),
            texts: counters.get(Counter::Texts),
            cache_hits: counters.get(Counter::CacheHits),
            batches: counters.get(Counter::Batches),
            tokens: counters.get(Counter::Tokens),
            padded_tokens: counters.get(Counter::PaddedTokens),
            compute_micros: counters.get(Counter::ComputeMicros),
            truncated: counters.get(Counter::Truncated),
            cancelled: counters.get(Counter::Cancelled),
            errors: counters.get(Counter::Errors),
        }
    }
}

/// Resident memory, 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
