//! What the engine has done since it started.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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

/// Buckets for each doubling: a time is told to within a sixteenth.
const PARTS: u64 = 8;
/// Doublings; the last bucket is for a month and all that is longer.
const DOUBLINGS: usize = 39;
const BUCKETS: usize = DOUBLINGS * PARTS as usize;

/// How often something took how long, by the logarithm of its time. Any thread may record; nothing is allocated.
#[derive(Debug)]
pub struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Histogram {
    /// Records that `count` texts took `time`.
    pub(super) fn record(&self, time: Duration, count: usize) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(count as u64, Relaxed);
    }

    /// The times, in microseconds, below which these parts of what was recorded are; 0 if nothing was.
    pub fn quantiles<const N: usize>(&self, parts: [f64; N]) -> [u64; N] {
        let counts: [u64; BUCKETS] = std::array::from_fn(|bucket| self.0[bucket].load(Relaxed));
        let total: u64 = counts.iter().sum();
        parts.map(|part| {
            let rank = ((total as f64 * part).ceil() as u64).max(1);
            let mut below = 0;
            let found = counts.iter().position(|count| {
                below += count;
                below >= rank
            });
            found.map_or(0, middle)
        })
    }
}

/// Times below [`PARTS`] have a bucket each, then each doubling has as many.
fn bucket(micros: u64) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let shift = micros.ilog2() - PARTS.ilog2();
    let bucket = u64::from(shift + 1) * PARTS + (micros >> shift) % PARTS;
    (bucket as usize).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    ((PARTS + bucket % PARTS) << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_to_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles([0.5, 0.99]), [0, 0], "of nothing");
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros), 3);
        }
        for (part, found) in
            [0.01, 0.5, 0.95, 0.99, 1.0].into_iter().zip(histogram.quantiles([0.01, 0.5, 0.95, 0.99, 1.0]))
        {
            let exact = part * 10_000.0;
            assert!((found as f64 / exact - 1.0).abs() <= 1.0 / 16.0, "{found} for {exact}");
        }
    }

    #[test]
    fn every_time_has_a_bucket_whose_middle_lies_in_it() {
        for micros in (0..4096).chain((3..42).map(|doubling| (1_u64 << doubling) - 1)) {
            assert_eq!(bucket(middle(bucket(micros))), bucket(micros), "{micros}");
            assert!(bucket(micros) <= bucket(micros + 1));
        }
        Histogram::default().record(Duration::MAX, 1);
    }
}
