//! What the engine has done since it started.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Names a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Requests to embed, received.
    Requests,
    /// Texts that the model computed.
    Texts,
    /// Texts whose vectors were in the cache.
    CacheHits,
    /// Batches computed.
    Batches,
    /// Tokens computed.
    Tokens,
    /// Positions computed, padding included.
    PaddedTokens,
    /// Microseconds of computing.
    ComputeMicros,
    /// Texts cut to a model's limit.
    Truncated,
    /// Texts dropped because their caller went away.
    Cancelled,
    /// Requests that failed.
    Errors,
}

/// The counters; any thread may add to them.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; 10]);

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: usize) {
        self.0[counter as usize].fetch_add(amount as u64, Relaxed);
    }

    /// A counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Relaxed)
    }
}
