//! Models that make room for others, and models that nobody uses.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{copy, golden, runtime};
use tempfile::TempDir;
use vector_embed_engine::model::Catalog;
use vector_embed_engine::schedule::{Limits, ModelStore, Served};
use vector_embed_protocol::{FailureCode, ModelCounters};

/// Copies of one model, named a, b, c, and a store of them.
struct Models {
    _root: TempDir,
    store: ModelStore,
}

/// Bytes of tiny-bert's files that the engine reads.
fn size() -> u64 {
    let models = Models::with(Limits::NONE);
    models.store.get("a").unwrap();
    models.store.bytes()
}

impl Models {
    fn with(limits: Limits) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = golden().join("models/tiny-bert");
        for name in ["a", "b", "c"] {
            copy(&source, &root.path().join(name));
        }
        let store = store(root.path(), limits);
        Self { _root: root, store }
    }

    fn get(&self, name: &str) -> Arc<Served> {
        self.store.get(name).unwrap()
    }

    fn loaded(&self) -> Vec<&str> {
        ["a", "b", "c"].into_iter().filter(|name| self.counters(name).bytes > 0).collect()
    }

    fn counters(&self, name: &str) -> ModelCounters {
        let stats = self.store.stats();
        stats.into_iter().find(|stats| stats.name == name).map_or_else(Default::default, |it| it.counters)
    }
}

fn store(root: &Path, limits: Limits) -> ModelStore {
    let catalog = Catalog::new(vec![root.to_owned()]);
    ModelStore::new(catalog, Arc::clone(runtime()), std::convert::identity, limits)
}

#[test]
fn the_model_that_was_used_longest_ago_makes_room() {
    let size = size();
    assert!(size > 1000, "{size}");
    let models = Models::with(Limits { bytes: 2 * size, ..Limits::NONE });
    for name in ["a", "b", "a", "c"] {
        models.get(name);
    }
    assert_eq!(models.loaded(), ["a", "c"]);
    assert_eq!(models.store.bytes(), 2 * size);
    models.get("b");
    assert_eq!(models.loaded(), ["b", "c"]);
    let counts = ["a", "b", "c"].map(|name| models.counters(name)).map(|it| (it.loads, it.unloads));
    assert_eq!(counts, [(1, 1), (2, 1), (1, 0)]);
}

#[test]
fn a_model_in_use_does_not_go_and_who_needs_its_room_waits() {
    let size = size();
    let models = Models::with(Limits { bytes: 2 * size, ..Limits::NONE });
    let in_use = models.get("a");
    models.get("b");
    models.get("c");
    assert_eq!(models.loaded(), ["a", "c"], "not the one that was used longest ago");
    let other = models.get("c");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| models.get("b"));
        // Who comes meanwhile is sent behind the one who waits, or it would wait for ever.
        let begin = Instant::now();
        while models.store.get_loaded("a").is_some() {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody waits");
        }
        assert!(!waiting.is_finished());
        drop(other);
        assert_eq!(waiting.join().unwrap().name, "b");
    });
    assert_eq!(models.loaded(), ["a", "b"]);
    assert!(Arc::ptr_eq(&in_use, &models.store.get_loaded("a").unwrap()));
}

#[test]
fn a_model_larger_than_the_limit_is_refused_and_drives_nothing_out() {
    let size = size();
    let models = Models::with(Limits { bytes: size - 1, ..Limits::NONE });
    let failure = models.store.get("a").err().expect("too large").to_failure(1, None);
    assert_eq!(failure.code, FailureCode::OutOfMemory);
    assert_eq!(failure.message, "model \"a\" does not fit into the memory for models");
    assert!(failure.detail.contains("vector_embed.max_memory"), "{failure:?}");
    assert!(failure.hint.contains("vector_embed.max_memory"), "{failure:?}");
    assert_eq!((models.store.bytes(), models.counters("a").loads), (0, 0));
}

#[test]
fn a_replaced_model_counts_as_long_as_somebody_holds_on_to_it() {
    let models = Models::with(Limits::NONE);
    let old = models.get("a");
    let pooling = models._root.path().join("a/1_Pooling/config.json");
    std::fs::write(&pooling, r#"{"word_embedding_dimension": 32, "pooling_mode": "cls"}"#).unwrap();
    let begin = Instant::now();
    while models.get("a").revision.id() == old.revision.id() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the change is not noticed");
        thread::sleep(Duration::from_millis(20));
    }
    let both = models.store.bytes();
    drop(old);
    assert!(models.store.bytes() < both);
    let counters = models.counters("a");
    assert_eq!((counters.loads, counters.unloads), (2, 1));
}

#[test]
fn models_that_nobody_uses_go_after_the_time_that_is_set_and_come_again() {
    const IDLE: Duration = Duration::from_millis(500);
    let models = Models::with(Limits { idle: IDLE, ..Limits::NONE });
    let in_use = models.get("a");
    let begin = Instant::now();
    let first = models.get("b").revision.id();
    while models.loaded() != ["a"] {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?} are loaded", models.loaded());
        models.store.unload_idle();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(begin.elapsed() >= IDLE, "not before");
    // Its time begins when the last text is done.
    drop(in_use);
    models.store.unload_idle();
    assert_eq!(models.loaded(), ["a"]);
    thread::sleep(IDLE);
    models.store.unload_idle();
    assert!(models.loaded().is_empty());
    assert_eq!(models.store.bytes(), 0);
    let revision = models.get("b").revision.id();
    let counters = models.counters("b");
    assert_eq!((counters.loads, counters.unloads), (2, 1));
    assert!(counters.loaded_at > 0 && counters.used_at >= counters.loaded_at && counters.load_micros > 0);
    assert_eq!(revision, first, "what the cache has of it is found again");
}

#[test]
fn without_a_timeout_models_stay() {
    let models = Models::with(Limits::NONE);
    models.get("a");
    thread::sleep(Duration::from_millis(60));
    models.store.unload_idle();
    assert_eq!(models.loaded(), ["a"]);
}
