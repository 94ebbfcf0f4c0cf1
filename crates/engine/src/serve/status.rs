//! Answers about the engine itself.

use std::sync::atomic::Ordering::Relaxed;

use vector_embed_protocol::EngineStats;

use super::Engine;
use crate::schedule::Counter;

impl Engine {
    pub(super) fn stats(&self) -> EngineStats {
        let counters = self.scheduler.counters();
        let parts = [0.5, 0.95, 0.99];
        let [wait_p50, wait_p95, wait_p99] = self.scheduler.waits().quantiles(parts);
        let [run_p50, run_p95, run_p99] = self.scheduler.runs().quantiles(parts);
        EngineStats {
            pid: std::process::id().into(),
            started_at: self.started_at,
            restarts: self.restarts,
            resident_bytes: resident_bytes(),
            cache_bytes: self.scheduler.cache_bytes() as u64,
            model_bytes: self.scheduler.models().bytes(),
            threads: self.scheduler.models().threads() as u64,
            batch_tokens: self.scheduler.batch_tokens() as u64,
            connections: self.connections.load(Relaxed),
            queued_texts: self.scheduler.queued() as u64,
            requests: counters.get(Counter::Requests),
            texts: counters.get(Counter::Texts),
            cache_hits: counters.get(Counter::CacheHits),
            batches: counters.get(Counter::Batches),
            tokens: counters.get(Counter::Tokens),
            padded_tokens: counters.get(Counter::PaddedTokens),
            compute_micros: counters.get(Counter::ComputeMicros),
            wait_p50,
            wait_p95,
            wait_p99,
            run_p50,
            run_p95,
            run_p99,
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
