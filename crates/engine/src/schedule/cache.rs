//! Vectors of texts that were computed before.
//!
//! The same questions are asked again and again, and rows are written again with the text they had. What was used
//! last is kept, within a limit in bytes. A text is known by its hash: the cache holds no text.

use std::sync::{Arc, Mutex, MutexGuard};

use hashlink::LruCache;
use sha2::{Digest, Sha256};
use vector_embed_protocol::Purpose;

/// A longer text is not looked for: to hash it would take longer than a step of the intake should, while of a long
/// text only the beginning is tokenized.
const LONGEST_TEXT: usize = 256 << 10;

/// What an entry takes beside its numbers: key and value, two links, its share of the hash table (up to 21 bytes),
/// the two counts in front of the numbers, and what the allocator puts around two blocks.
const OVERHEAD: usize = size_of::<Key>() + size_of::<Cached>() + 16 + 24 + 16 + 2 * 16;

/// The vectors that were used last.
pub(super) struct VectorCache {
    /// Bytes that the entries may take; 0 turns the cache off.
    limit: usize,
    state: Mutex<State>,
}

struct State {
    entries: LruCache<Key, Cached>,
    bytes: usize,
}

/// A text as one model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The model's files, see [`crate::model::Revision::id`]: the same again when it was unloaded and comes back.
    revision: u64,
    purpose: Purpose,
    text: [u8; 32],
}

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cached {
    pub(super) vector: Arc<[f32]>,
    /// Whether the text was cut to the model's limit.
    pub(super) truncated: bool,
}

impl VectorCache {
    /// A cache of so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::new(State { entries: LruCache::new_unbounded(), bytes: 0 }) }
    }

    /// What to look a text's vector up by; `None` for one that is not kept.
    pub(super) fn key(&self, revision: u64, purpose: Purpose, text: &str) -> Option<Key> {
        let kept = self.limit > 0 && text.len() <= LONGEST_TEXT;
        kept.then(|| Key { revision, purpose, text: Sha256::digest(text.as_bytes()).into() })
    }

    /// The vector of a text, which is then the last to go.
    pub(super) fn get(&self, key: &Key) -> Option<Cached> {
        self.lock().entries.get(key).cloned()
    }

    /// Keeps the vector of a text. Those that were not used for longest make room for it.
    pub(super) fn insert(&self, key: Key, vector: &[f32], truncated: bool) {
        let bytes = size(vector);
        if bytes > self.limit {
            return;
        }
        let cached = Cached { vector: vector.into(), truncated };
        let mut state = self.lock();
        state.bytes += bytes;
        if let Some(former) = state.entries.insert(key, cached) {
            state.bytes -= size(&former.vector);
        }
        while state.bytes > self.limit
            && let Some((_, gone)) = state.entries.remove_lru()
        {
            state.bytes -= size(&gone.vector);
        }
    }

    /// Bytes that the entries take.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the cache")
    }
}

fn size(vector: &[f32]) -> usize {
    size_of_val(vector) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: usize = 4 * 8 + OVERHEAD;

    fn key(cache: &VectorCache, text: &str) -> Key {
        cache.key(1, Purpose::Document, text).expect("the text is kept")
    }

    fn put(cache: &VectorCache, text: &str, number: f32) {
        cache.insert(key(cache, text), &[number; 8], false);
    }

    /// The first number of the text's vector.
    fn first(cache: &VectorCache, text: &str) -> Option<f32> {
        cache.get(&key(cache, text)).map(|cached| cached.vector[0])
    }

    #[test]
    fn the_vector_used_longest_ago_makes_room() {
        let cache = VectorCache::new(3 * ENTRY);
        for (number, text) in ["a", "b", "c"].into_iter().enumerate() {
            put(&cache, text, number as f32);
        }
        assert_eq!((first(&cache, "a"), cache.bytes()), (Some(0.0), 3 * ENTRY));
        put(&cache, "d", 3.0);
        let left = ["a", "b", "c", "d"].map(|text| first(&cache, text));
        assert_eq!(left, [Some(0.0), None, Some(2.0), Some(3.0)]);
        assert_eq!(cache.bytes(), 3 * ENTRY);
    }

    #[test]
    fn a_text_that_comes_twice_is_counted_once() {
        let cache = VectorCache::new(3 * ENTRY);
        put(&cache, "a", 1.0);
        put(&cache, "a", 2.0);
        assert_eq!((first(&cache, "a"), cache.bytes()), (Some(2.0), ENTRY));
    }

    #[test]
    fn larger_vectors_make_several_smaller_ones_go_and_the_largest_are_not_kept() {
        let cache = VectorCache::new(4 * ENTRY);
        for text in ["a", "b", "c", "d"] {
            put(&cache, text, 1.0);
        }
        let numbers = vec![1.0; 8 + ENTRY / 4];
        cache.insert(key(&cache, "large"), &numbers, false);
        let left = ["a", "b", "c", "d", "large"].map(|text| first(&cache, text).is_some());
        assert_eq!(left, [false, false, true, true, true]);
        assert_eq!(cache.bytes(), 4 * ENTRY);
        cache.insert(key(&cache, "too large"), &vec![1.0; ENTRY], false);
        assert_eq!(first(&cache, "too large"), None);
        assert_eq!(cache.bytes(), 4 * ENTRY, "nothing went for it");
    }

    #[test]
    fn purposes_and_revisions_of_a_model_have_vectors_of_their_own() {
        let cache = VectorCache::new(1 << 20);
        let keys = [(1, Purpose::Document), (1, Purpose::Query), (2, Purpose::Document), (2, Purpose::Query)]
            .map(|(revision, purpose)| cache.key(revision, purpose, "text").expect("a key"));
        for (number, key) in keys.iter().enumerate() {
            cache.insert(key.clone(), &[number as f32], number == 1);
        }
        for (number, key) in keys.iter().enumerate() {
            let expected = Cached { vector: [number as f32].into(), truncated: number == 1 };
            assert_eq!(cache.get(key), Some(expected));
        }
    }

    #[test]
    fn without_room_and_for_huge_texts_there_is_no_key() {
        assert_eq!(VectorCache::new(0).key(1, Purpose::Document, "text"), None);
        let cache = VectorCache::new(1 << 20);
        assert!(cache.key(1, Purpose::Document, &"x".repeat(LONGEST_TEXT)).is_some());
        assert_eq!(cache.key(1, Purpose::Document, &"x".repeat(LONGEST_TEXT + 1)), None);
    }
}
