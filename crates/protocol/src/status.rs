//! What the engine tells of its models and of itself.

use crate::wire::{Malformed, Reader, cut, put_string, put_u32, put_u64};
use crate::{MAX_MESSAGE_BYTES, MAX_MODEL_NAME_BYTES, MAX_SHORT_STRING};

/// What is known of an installed model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelInfo {
    /// Name by which SQL refers to it.
    pub name: String,
    /// Length of its vectors, 0 where `problem` is set.
    pub dimensions: u32,
    /// Tokens that it takes, special tokens and prompt included.
    pub max_tokens: u32,
    /// How token vectors become one: `mean`, `cls`, ….
    pub pooling: String,
    /// Whether vectors have unit length.
    pub normalized: bool,
    /// Prompt put before stored texts, or empty.
    pub document_prompt: String,
    /// Prompt put before queries, or empty.
    pub query_prompt: String,
    /// `safetensors` or `onnx`.
    pub format: String,
    /// The numbers that it computes with, `fp32` or `int8`; empty where its graph decides.
    pub precision: String,
    /// Bytes of the files that the engine reads.
    pub bytes: u64,
    /// SHA-256 over the sorted (path, SHA-256) pairs of those files, in hexadecimal.
    pub hash: String,
    /// Whether the engine holds it in memory.
    pub loaded: bool,
    /// Why it cannot be used, or empty.
    pub problem: String,
}

impl ModelInfo {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_string(out, cut(&self.name, MAX_MODEL_NAME_BYTES));
        put_u32(out, self.dimensions);
        put_u32(out, self.max_tokens);
        put_string(out, cut(&self.pooling, MAX_SHORT_STRING));
        out.push(self.normalized.into());
        put_string(out, cut(&self.document_prompt, MAX_MESSAGE_BYTES));
        put_string(out, cut(&self.query_prompt, MAX_MESSAGE_BYTES));
        put_string(out, cut(&self.format, MAX_SHORT_STRING));
        put_string(out, cut(&self.precision, MAX_SHORT_STRING));
        put_u64(out, self.bytes);
        put_string(out, cut(&self.hash, MAX_SHORT_STRING));
        out.push(self.loaded.into());
        put_string(out, cut(&self.problem, MAX_MESSAGE_BYTES));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: r.string(MAX_MODEL_NAME_BYTES, "model name")?.to_owned(),
            dimensions: r.u32("number of dimensions")?,
            max_tokens: r.u32("token limit")?,
            pooling: r.string(MAX_SHORT_STRING, "pooling")?.to_owned(),
            normalized: r.bool("normalization flag")?,
            document_prompt: r.string(MAX_MESSAGE_BYTES, "prompt")?.to_owned(),
            query_prompt: r.string(MAX_MESSAGE_BYTES, "prompt")?.to_owned(),
            format: r.string(MAX_SHORT_STRING, "format")?.to_owned(),
            precision: r.string(MAX_SHORT_STRING, "precision")?.to_owned(),
            bytes: r.u64("size")?,
            hash: r.string(MAX_SHORT_STRING, "hash")?.to_owned(),
            loaded: r.bool("loaded flag")?,
            problem: r.string(MAX_MESSAGE_BYTES, "problem")?.to_owned(),
        })
    }
}

/// A struct of `u64`s that travel in the order of their declaration.
macro_rules! counters {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: u64,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$doc])* pub $field: u64,)* }

        impl $name {
            pub(crate) fn put(&self, out: &mut Vec<u8>) {
                $(put_u64(out, self.$field);)*
            }

            pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self { $($field: r.u64(stringify!($field))?,)* })
            }
        }
    };
}

counters! {
    /// Counters of the engine since it started, and its state now.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct EngineStats {
        /// Process id.
        pub pid: u64,
        /// Start, in microseconds since 1970.
        pub started_at: u64,
        /// How often the supervisor has started an engine after its first.
        pub restarts: u64,
        /// Resident memory in bytes.
        pub resident_bytes: u64,
        /// Bytes that the cache of vectors takes.
        pub cache_bytes: u64,
        /// Bytes that the models in memory take.
        pub model_bytes: u64,
        /// Threads that compute.
        pub threads: u64,
        /// Padded tokens that a batch may have.
        pub batch_tokens: u64,
        /// Connections open.
        pub connections: u64,
        /// Texts that wait.
        pub queued_texts: u64,
        /// Requests to embed, received.
        pub requests: u64,
        /// Texts that the model computed.
        pub texts: u64,
        /// Texts whose vectors were in the cache.
        pub cache_hits: u64,
        /// Batches computed.
        pub batches: u64,
        /// Tokens computed.
        pub tokens: u64,
        /// Positions computed, padding included.
        pub padded_tokens: u64,
        /// Time that the models computed, in microseconds.
        pub compute_micros: u64,
        /// Median of the time that computed texts waited for their batch, in microseconds.
        pub wait_p50: u64,
        /// The time below which 95 of 100 are.
        pub wait_p95: u64,
        /// The time below which 99 of 100 are.
        pub wait_p99: u64,
        /// Median of the time that the batches of computed texts took, in microseconds.
        pub run_p50: u64,
        /// The time below which 95 of 100 are.
        pub run_p95: u64,
        /// The time below which 99 of 100 are.
        pub run_p99: u64,
        /// Texts cut to a model's limit.
        pub truncated: u64,
        /// Texts dropped because their caller went away.
        pub cancelled: u64,
        /// Requests that failed.
        pub errors: u64,
    }
}

/// What the engine knows of a model that it has loaded, or tried to, since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelStats {
    /// Name by which SQL refers to it.
    pub name: String,
    /// The hash of the files that are in memory, or were the last time; empty if nobody has asked for it.
    pub hash: String,
    /// The numbers.
    pub counters: ModelCounters,
}

impl ModelStats {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_string(out, cut(&self.name, MAX_MODEL_NAME_BYTES));
        put_string(out, cut(&self.hash, MAX_SHORT_STRING));
        self.counters.put(out);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: r.string(MAX_MODEL_NAME_BYTES, "model name")?.to_owned(),
            hash: r.string(MAX_SHORT_STRING, "hash")?.to_owned(),
            counters: ModelCounters::read(r)?,
        })
    }
}

counters! {
    /// Counters of a model since the engine started, and its state now.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ModelCounters {
        /// When it was loaded, in microseconds since 1970; 0 if it is not in memory.
        pub loaded_at: u64,
        /// When it was used last, in microseconds since 1970; 0 if never.
        pub used_at: u64,
        /// Bytes that it takes in memory; 0 if it is not there.
        pub bytes: u64,
        /// How often it was loaded.
        pub loads: u64,
        /// How often it was unloaded.
        pub unloads: u64,
        /// Time that loading took, in microseconds.
        pub load_micros: u64,
        /// Requests to embed, received.
        pub requests: u64,
        /// Texts that it computed.
        pub texts: u64,
        /// Texts whose vectors were in the cache.
        pub cache_hits: u64,
        /// Batches computed.
        pub batches: u64,
        /// Tokens computed.
        pub tokens: u64,
        /// Positions computed, padding included.
        pub padded_tokens: u64,
        /// Time that it computed, in microseconds.
        pub compute_micros: u64,
        /// Texts cut to its limit.
        pub truncated: u64,
        /// Texts dropped because their caller went away.
        pub cancelled: u64,
        /// Requests that failed.
        pub errors: u64,
    }
}
