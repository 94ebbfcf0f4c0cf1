//! What is counted of each model. It stays when the model is unloaded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vector_embed_protocol::{ModelCounters, ModelStats};

use super::counters::{Counter, Counters};
use crate::model::Revision;

/// The models that were asked for. There are no more than the names of models that were installed.
#[derive(Default)]
pub(super) struct Records(Mutex<BTreeMap<String, Arc<Record>>>);

/// One model.
#[derive(Default)]
pub(super) struct Record {
    pub(super) counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The files that are in memory, or were the last time.
    revision: Option<Arc<Revision>>,
    loaded_at: u64,
    used_at: u64,
    bytes: u64,
    loads: u64,
    unloads: u64,
    load_micros: u64,
}

impl Records {
    /// The record of the model of this name, which is installed.
    pub(super) fn get(&self, name: &str) -> Arc<Record> {
        Arc::clone(self.lock().entry(name.to_owned()).or_default())
    }

    /// The record of the model of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Record>> {
        self.lock().get(name).cloned()
    }

    pub(super) fn stats(&self) -> Vec<ModelStats> {
        let of = |(name, record): (&String, &Arc<Record>)| record.stats(name.clone());
        self.lock().iter().map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Record>>> {
        self.0.lock().expect("no thread panics while it holds the records")
    }
}

impl Record {
    /// The model is in memory.
    pub(super) fn loaded(&self, revision: Arc<Revision>, bytes: u64, took: Duration) {
        let mut state = self.lock();
        // One that was replaced by its successor has gone without a word.
        state.unloads += u64::from(state.loaded_at != 0);
        state.revision = Some(revision);
        state.loaded_at = now();
        state.used_at = state.loaded_at;
        state.bytes = bytes;
        state.loads += 1;
        state.load_micros += took.as_micros() as u64;
    }

    pub(super) fn unloaded(&self) {
        let mut state = self.lock();
        state.unloads += 1;
        (state.loaded_at, state.bytes) = (0, 0);
    }

    pub(super) fn used(&self) {
        self.lock().used_at = now();
    }

    fn stats(&self, name: String) -> ModelStats {
        let state = self.lock();
        let hash = state.revision.as_ref().and_then(|revision| revision.known_hash());
        let count = |counter| self.counters.get(counter);
        let counters = ModelCounters {
            loaded_at: state.loaded_at,
            used_at: state.used_at,
            bytes: state.bytes,
            loads: state.loads,
            unloads: state.unloads,
            load_micros: state.load_micros,
            requests: count(Counter::Requests),
            texts: count(Counter::Texts),
            cache_hits: count(Counter::CacheHits),
            batches: count(Counter::Batches),
            tokens: count(Counter::Tokens),
            padded_tokens: count(Counter::PaddedTokens),
            compute_micros: count(Counter::ComputeMicros),
            truncated: count(Counter::Truncated),
            cancelled: count(Counter::Cancelled),
            errors: count(Counter::Errors),
        };
        ModelStats { name, hash: hash.map_or_else(String::new, |hash| hash.digits.clone()), counters }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds a record")
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
